"""A word on standard error where a command would be silent for long: what it is doing."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

# Seconds of silence after which it speaks. Nobody should wait longer than two, on a busy machine either.
PATIENCE = 1.3

_doing, _since = "", 0.0


def doing(what: str) -> None:
    """Says what begins now, such as 'compiling the training step': told if it takes long and prints nothing."""
    global _doing, _since
    _doing, _since = what, time.monotonic()


@contextlib.contextmanager
def during(what: str) -> Iterator[None]:
    """`doing` within it, also as a decorator; afterwards goes on what went on before, such as training."""
    global _doing, _since
    before = _doing, _since
    doing(what)
    try:
        yield
    finally:
        _doing, _since = before


@contextlib.contextmanager
def told_while_silent() -> Iterator[None]:
    """Within it, whoever waits is told what of `doing` goes on, once for each, on standard error."""
    ended = threading.Event()
    thread = threading.Thread(target=_watch, args=(ended,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=1)  # what it writes comes before what the command says at its end


def _watch(ended: threading.Event) -> None:
    told = set()
    while not ended.wait(0.1):
        begun = _doing, _since
        heard = max(getattr(stream, "written", 0.0) for stream in (sys.stdout, sys.stderr))
        if begun not in told and time.monotonic() - max(_since, heard) > PATIENCE:
            told.add(begun)
            with contextlib.suppress(OSError, ValueError):  # nobody reads
                say(f"{_doing} ...")


def say(text: str) -> None:
    """A line on standard error, above a progress bar if there is one."""
    if "tqdm" in sys.modules:
        from tqdm import tqdm

        tqdm.write(text, file=sys.stderr)
    else:
        print(text, file=sys.stderr)
    sys.stderr.flush()
