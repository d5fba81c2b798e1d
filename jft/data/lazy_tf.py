"""Imports TensorFlow on first use and keeps it off the accelerators."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any


def import_tensorflow() -> Any:
    """The module `tensorflow`, with GPUs and TPUs hidden from it: their memory belongs to JAX.

    The first call takes seconds. TensorFlow's banner is suppressed unless TF_CPP_MIN_LOG_LEVEL is 0.
    """
    with _without_banner():
        import tensorflow as tf

    for kind in ("GPU", "TPU"):
        if tf.config.get_visible_devices(kind):
            tf.config.set_visible_devices([], kind)
    return tf


@contextlib.contextmanager
def _without_banner() -> Iterator[None]:
    """Silences the process's stderr: during import TensorFlow prints there from C++, whatever the log level.

    Errors of the import still raise exceptions.
    """
    # Only 0 is certainly set by the user: JAX sets 1.
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
