"""What all rivals share: images, requests that a process answers, and its memory."""

import ctypes
import gc
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

SIZE, CLASSES = 224, 10
LONG = ("probe", "extract")  # whose single step is long enough for a turn

Steps = Callable[[int], None]


class Rival(Protocol):
    """One framework."""

    def about(self) -> dict[str, Any]:
        """Versions and device; imports what `build` needs."""
        ...

    def build(self, what: str, **options: Any) -> Steps:
        """A function that runs a number of steps and waits for the last."""
        ...

    def memory(self) -> dict[str, int]:
        """Bytes that the last thing built takes, by what counts them: 'program' or 'device'."""
        ...

    def drop(self) -> None:
        """Forgets the last thing built."""
        ...

    def flops(self) -> int | None:
        """FLOPs for an image of the last thing built, where this rival counts them."""
        ...


def images(batch: int, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [batch, size, size, 3] and int32 [batch], the same for every rival."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (batch, size, size, 3), np.uint8), rng.integers(0, CLASSES, batch).astype(np.int32)


def normalized(pixels: np.ndarray) -> np.ndarray:
    """float32 of the same shape, of about zero mean and unit variance."""
    return (pixels.astype(np.float32) - 118) / 58


def separable(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """float32 [rows, columns], rectified and correlated as pooled features are, and their classes int32 [rows]."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, rows).astype(np.int32)
    centers = rng.normal(size=(CLASSES, columns)).astype(np.float32)
    hidden = rng.normal(size=(rows, 64)).astype(np.float32) @ rng.normal(size=(64, columns)).astype(np.float32)
    noise = rng.normal(size=(rows, columns)).astype(np.float32)
    return np.maximum(0, 0.5 * centers[labels] + 0.2 * hidden + noise), labels


def answer_requests(make: Callable[[], Rival]) -> None:
    """Answers requests, a line of JSON each, until standard input ends; an error is an answer too."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    process = _Process()
    for line in sys.stdin:
        (kind, value), *_ = json.loads(line).items()
        try:
            answer = getattr(process, kind)(make, value)
        except Exception as error:  # the other rivals go on
            process.steps, answer = None, {"error": f"{type(error).__name__}: {str(error)[:300]}"}
        print(json.dumps(answer), file=answers)


class _Process:
    """A rival, what it built last, and the memory before that; the methods are the kinds of request."""

    rival: Rival | None = None
    steps: Steps | None = None
    before = 0
    networks = 0

    def about(self, make: Callable[[], Rival], _: None) -> dict[str, Any]:
        self.rival = self.rival or make()
        return self.rival.about()

    def build(self, make: Callable[[], Rival], options: dict[str, Any]) -> dict[str, Any]:
        self.about(make, None)
        self.drop(make, None)
        self.before = _status("VmRSS")
        self.networks += "model" in options
        start = time.perf_counter()
        self.steps = self.rival.build(**options)
        self.steps(1)  # compilers and autotuners work at the first steps
        step = time.perf_counter() - start
        if options["what"] not in LONG:
            step = self.run(make, 1)["seconds"]
            if step < 1:  # a third, for autotuners that come late
                step = self.run(make, 1)["seconds"]
        return {"seconds": time.perf_counter() - start, "step": step, "flops": self.rival.flops()}

    def run(self, _: Any, count: int) -> dict[str, Any]:
        start, before = time.perf_counter(), time.process_time()
        self.steps(count)
        return {"seconds": time.perf_counter() - start, "processor": time.process_time() - before}

    def memory(self, _: Any, __: None) -> dict[str, Any]:
        found = {key: value for key, value in self.rival.memory().items() if value}
        # What a later network takes may be memory that an earlier one left.
        if self.networks > 1:
            return found
        _give_back()  # what compiling took
        if _forget_peak():
            self.steps(1)
            found["rss"] = _status("VmHWM") - self.before
        return found

    def drop(self, _: Any, __: None) -> dict[str, Any]:
        self.steps = None
        self.rival.drop()
        gc.collect()
        _give_back()
        return {}


def _status(key: str) -> int:
    """Bytes of a line of /proc/self/status; 0 where there is none."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(key + ":")), 0)


def _forget_peak() -> bool:
    """Lets the peak of resident memory begin anew; False where the system has no such thing."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _give_back() -> None:
    """Returns free memory to the system, so that what was built before does not count as there already."""
    if sys.platform == "linux":
        getattr(ctypes.CDLL(None), "malloc_trim", lambda _: 0)(0)
