"""Runs take turns to compute the features of one recipe, so that none computes what another is computing."""

import contextlib
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path

from jft.utils import distributed, waiting
from jft.utils.interrupt import Interrupt

_LOCK = ".turn"


@contextlib.contextmanager
def of(folder: Path, interrupt: Interrupt | None) -> Iterator[None]:
    """Waits until no other process computes features for a store, and keeps others waiting within it.

    Runs of several processes take no turns: they compute together, and may compute what another run does, too. So may
    runs on a file system without locks. The system releases the lock of a process that dies.

    Args:
      folder: of the store; it is made if needed.
      interrupt: after a signal, it waits no longer.
    """
    if distributed.several():
        yield
        return
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):  # whoever writes features there says what is wrong with the folder
            folder.mkdir(parents=True, exist_ok=True)
            lock = held.enter_context((folder / _LOCK).open("w"))
            with waiting.during("waiting for another run to compute the same features"):
                while not (_taken(lock.fileno()) or (interrupt and interrupt.check())):
                    time.sleep(0.2)
        yield


def _taken(descriptor: int) -> bool:
    """Whether the lock is this process' now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
