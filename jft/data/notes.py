"""Notes about data, such as files that were left out: each is logged once, or collected by `heard`."""

import contextlib
import functools
from collections.abc import Iterator

from absl import logging

from jft.utils.text import one_record

_listeners: list[dict[str, None]] = []


def report(message: str) -> None:
    """Logs a warning, once per process because a run loads its data several times. Inside `heard` it is collected."""
    if _listeners:
        _listeners[-1].setdefault(message)
    else:
        _warn(message)


@functools.cache
def _warn(message: str) -> None:
    logging.warning("%s", one_record(message))


def forget() -> None:
    """Has every message be said again, as in a new process."""
    _warn.cache_clear()


@contextlib.contextmanager
def heard() -> Iterator[dict[str, None]]:
    """Collects the notes reported inside the block instead of logging them.

    Yields:
      A dict whose keys are the notes in order, each once.
    """
    _listeners.append({})
    try:
        yield _listeners[-1]
    finally:
        _listeners.pop()
