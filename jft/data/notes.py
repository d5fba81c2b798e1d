"""What is said of data beside their figures, such as what was left out: once each, on the log, or to who listens."""

import contextlib
import functools
from collections.abc import Iterator

from absl import logging

from jft.utils.text import one_record

_listeners: list[dict[str, None]] = []


def report(message: str) -> None:
    """Warns, once in a process: a run loads its data several times. Within `heard` the listener has it instead."""
    if _listeners:
        _listeners[-1].setdefault(message)
    else:
        _warn(message)


@functools.cache
def _warn(message: str) -> None:
    logging.warning("%s", one_record(message))


@contextlib.contextmanager
def heard() -> Iterator[dict[str, None]]:
    """What is reported within, in order and each once, as the keys of a dict, instead of on the log."""
    _listeners.append({})
    try:
        yield _listeners[-1]
    finally:
        _listeners.pop()
