"""TensorFlow, imported when it is needed and kept off the accelerators."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any


def import_tensorflow() -> Any:
    """The module `tensorflow`, which sees no GPU and no TPU: their memory belongs to JAX.

    The first call takes seconds. Its banner is kept quiet unless TF_CPP_MIN_LOG_LEVEL is 0.
    """
    with _without_banner():
        import tensorflow as tf

    for kind in ("GPU", "TPU"):
        if tf.config.get_visible_devices(kind):
            tf.config.set_visible_devices([], kind)
    return tf


@contextlib.contextmanager
def _without_banner() -> Iterator[None]:
    """Silences the process's stderr: TensorFlow greets there from C++ while it is imported, whatever one has set.

    What goes wrong in the import is an exception all the same.
    """
    # Only 0 is surely the user's own wish: JAX sets 1.
    if "tensorflow" in sys.modules or os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0":
        yield
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    sys.stderr.flush()
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)
