"""Turns Ctrl-C and SIGTERM into a request to stop after the current step, instead of an exception inside it."""

import contextlib
import itertools
import os
import signal
import threading
import types
from typing import Any

from jax.experimental import multihost_utils

from jft.utils import distributed
from jft.utils.stopped import Stopped

_asked = itertools.count(1)


class Interrupt:
    """Context that records SIGINT and SIGTERM; in a single process, a second signal raises KeyboardInterrupt.

    With several processes, a signal to any of them stops all at the same step: JAX's preemption service listens for
    SIGTERM (Ctrl-C is forwarded as SIGTERM) and agrees with the other processes on a future call of `check`. It does
    this once in the life of a process, so the calls are counted across contexts.

    Attributes:
      received: the signal, or None.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._previous: dict[int, Any] = {}
        self._several = distributed.several()

    def check(self) -> bool:
        """Whether to stop now; with several processes, all must call it at the same steps."""
        asking = self._several and self.received is None
        if asking and multihost_utils.reached_preemption_sync_point(next(_asked)):
            self.received = signal.SIGTERM
        return self.received is not None

    def stopped(self) -> Stopped:
        """What to raise where a signal ended the work."""
        assert self.received is not None
        return Stopped(self.received)

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is not threading.main_thread():
            return self  # Python delivers signals only to the main thread
        handlers = {signal.SIGINT: self._forward} if self._several else dict.fromkeys(_SIGNALS, self._note)
        for number, handler in handlers.items():
            self._previous[number] = signal.signal(number, handler)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: types.FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)
        told = f"\n{self.received.name}: finishing this step and saving; press again to quit now.\n"
        with contextlib.suppress(OSError):  # Ctrl-C may have ended the reader of stderr, too
            os.write(2, told.encode())  # not print: the signal may have interrupted one

    def _forward(self, number: int, frame: types.FrameType | None) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


_SIGNALS = (signal.SIGINT, signal.SIGTERM)
