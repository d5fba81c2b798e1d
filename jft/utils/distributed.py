"""Communication between the processes of a run, and work that only process 0 does.

With one process, all of this is what it would be without it.
"""

import json
import os
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from jft.utils.text import terminal_lines

_SHORT = 508  # bytes of a message that is sent in one go


def is_first() -> bool:
    """Whether this is process 0, which writes the files of a run."""
    return jax.process_index() == 0


def several() -> bool:
    """Whether the run has more than one process."""
    return jax.process_count() > 1


def say(text: str) -> None:
    """Prints a line on process 0 only."""
    if is_first():
        print(terminal_lines(text), flush=True)


def gather(value: Any) -> list[Any]:
    """Gathers a value from every process, in order of their numbers. Every process must call it.

    Args:
      value: JSON-able.
    """
    if not several():
        return [value]
    told = json.dumps(value).encode()
    rows, longest = _exchanged(told, _SHORT)
    if longest > _SHORT:
        rows, _ = _exchanged(told, 1 << longest.bit_length())  # of few sizes, as JAX compiles for each
    return [json.loads(row) for row in rows]


def _exchanged(told: bytes, size: int) -> tuple[list[bytes], int]:
    """The message of each process, cut to a number of bytes, and the length of the longest one."""
    message = np.zeros(4 + size, np.uint8)
    message[:4] = np.frombuffer(len(told).to_bytes(4), np.uint8)
    message[4 : 4 + len(told)] = np.frombuffer(told[:size], np.uint8)
    everyone = [row.tobytes() for row in multihost_utils.process_allgather(message)]
    lengths = [int.from_bytes(row[:4]) for row in everyone]
    return [row[4 : 4 + length] for row, length in zip(everyone, lengths, strict=True)], max(lengths)


def from_first(value: Any) -> Any:
    """The value of process 0, on every process; it must be JSON-serializable."""
    return gather(value if is_first() else None)[0]


def to_host(array: Any) -> np.ndarray:
    """The whole array on this host. If it is sharded over several hosts, every process must call it."""
    if isinstance(array, jax.Array) and not (array.is_fully_addressable or array.is_fully_replicated):
        return multihost_utils.process_allgather(array, tiled=True)
    return np.asarray(array)


def arrays_from_first(arrays: Any) -> Any:
    """A pytree of arrays from process 0, on every process."""
    return multihost_utils.broadcast_one_to_all(arrays) if several() else arrays


def agree(values: Mapping[str, Any], *, remedy: str) -> None:
    """Raises a ValueError unless all processes have the same values; names those that differ, and where.

    Args:
      values: what -> JSON-able value.
      remedy: what to do about it.
    """
    everyone = gather(dict(values))
    wrong = [name for name in values if any(theirs[name] != everyone[0][name] for theirs in everyone)]
    if wrong:
        raise ValueError(f"{'; '.join(differing(name, [t[name] for t in everyone]) for name in wrong)}: {remedy}")


def differing(name: str, values: list[Any]) -> str:
    """'name is A on process 0, 2 and B on process 1', for one value of each process."""
    kinds: dict[str, list[int]] = {}
    for process, value in enumerate(values):
        kinds.setdefault(value if isinstance(value, str) else json.dumps(value), []).append(process)
    return f"{name} is " + " and ".join(
        f"{_shortened(value)} on process {', '.join(map(str, where))}" for value, where in kinds.items()
    )


def _shortened(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:60]}...{text[-17:]}"


def wait_for_all(name: str) -> None:
    """Waits until every process has called it."""
    if several():
        multihost_utils.sync_global_devices(name)


def check_shared(folder: Path, *, remedy: str) -> None:
    """Raises a ValueError unless all processes see what the first one writes into a folder, which it makes.

    Args:
      folder: of the file system that all hosts should share.
      remedy: what to do if they do not.
    """
    if not several():
        return
    name = from_first(f".seen-{uuid.uuid4().hex[:8]}")
    problem = None
    if is_first():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        except OSError as error:
            problem = f"process 0 cannot write {folder} ({error}): {remedy}"
    if problem := from_first(problem):
        raise ValueError(problem)
    # A network file system may show it late.
    seen = gather(patiently(lambda: os.path.exists(folder / name), seconds=20))
    if is_first():
        (folder / name).unlink()
    if blind := [process for process, sees in enumerate(seen) if not sees]:
        raise ValueError(f"process {blind} does not see what process 0 writes into {folder}: {remedy}")


def patiently(check: Callable[[], bool], *, seconds: float) -> bool:
    """Whether a condition becomes true within a number of seconds."""
    end = time.monotonic() + seconds
    while not (found := check()) and time.monotonic() < end:
        time.sleep(0.1)
    return found
