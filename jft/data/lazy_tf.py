"""Imports TensorFlow and TensorFlow Datasets on first use, and keeps TensorFlow off the accelerators."""

import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from jft.utils import tree


def is_installed() -> bool:
    """Whether TensorFlow can be imported, told without importing it."""
    try:
        return importlib.util.find_spec("tensorflow") is not None
    except (ImportError, ValueError):  # it is there and has been hidden
        return False


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


def import_datasets(name: str, others: Sequence[str] = (), remedy: str = "") -> Any:
    """The module `tensorflow_datasets`.

    Args:
      name: the dataset to be read.
      others: names of the datasets that need no TensorFlow, one of which may have been meant.
      remedy: how to get the dataset without TensorFlow, last sentence of the error; empty: as files or arrays.

    Raises:
      ValueError: it or TensorFlow is not installed; says what to install.
    """
    try:
        import_tensorflow()
        import tensorflow_datasets as tfds
    except ImportError as error:
        guess = "" if name in others else tree.did_you_mean(name, others)
        usual = "Or give the images as a folder of class folders, a CSV file or arrays, which need neither."
        raise ValueError(
            f"dataset {name!r}{guess or ' is one of TensorFlow Datasets.'} TensorFlow Datasets cannot be imported here "
            f"({error}): pip install tensorflow tensorflow-datasets, on a Python that TensorFlow has a wheel for. "
            f"{remedy or usual}"
        ) from error
    return tfds


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
