"""Batches by threads: Pillow and NumPy work without Python's lock, so that decoding uses every core."""

import collections
import contextlib
import dataclasses
import os
import queue
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent import futures
from typing import Any, TypeVar

import numpy as np

from jft.data.feeds.images import Batch, Images, Rows

_AHEAD = 3  # batches that are read while the caller has another; 2 or more
_RESIZED = 8  # arrays that a thread resizes at a time

Item = TypeVar("Item")
Done = TypeVar("Done")
Group = TypeVar("Group", bound=Sequence)


def batches(images: Images, rows: Rows, steps: range) -> Iterator[Batch]:
    """The batches of `steps`, in order.

    Args:
      images: the images, and how to read them.
      rows: function from a step to rows of the source, int64 [b], and mask, bool [b]; pure.
      steps: numbers of the batches.

    Yields:
      `{'image': uint8 [b, h, w, 3], 'label', 'index', 'mask'}`, see `loader.train_batches`.

    Raises:
      ValueError: an image is unreadable; names it. Batches before it are yielded.
    """
    array = images.arrays()

    def read(part: _Part) -> None:
        if array is None:
            part.out[0] = images.decode(int(part.rows[0]))
        else:
            images.read(array, part.rows, part.out)

    size = 1 if array is None else _RESIZED if images.resizes else None
    with contextlib.closing(read_ahead(read, (_Plan(images, *rows(step), size) for step in steps))) as done:
        for plan, _ in done:
            yield images.batch(plan.out, plan.rows, plan.mask)


@dataclasses.dataclass(frozen=True)
class _Part:
    """Some images of a batch, and where to write them: uint8 [k, h, w, 3]."""

    rows: np.ndarray
    out: np.ndarray


class _Plan(Sequence[_Part]):
    """A batch to be read, in parts of `size` images; None: the whole."""

    def __init__(self, images: Images, rows: np.ndarray, mask: np.ndarray, size: int | None) -> None:
        self.rows, self.mask = rows, mask
        self.out = np.empty((len(rows), *images.shape), np.uint8)
        starts = range(0, len(rows), size or len(rows))
        ends = [*starts[1:], len(rows)]
        self._parts = [_Part(rows[i:end], self.out[i:end]) for i, end in zip(starts, ends, strict=True)]

    def __getitem__(self, number: Any) -> Any:
        return self._parts[number]

    def __len__(self) -> int:
        return len(self._parts)


def read_ahead(
    read: Callable[[Item], Done], groups: Iterable[Group]
) -> Generator[tuple[Group, list[Done]], None, None]:
    """Yields each group with `[read(item) for item in group]`, in order, while threads read the groups after it.

    An error is raised when its group's turn has come, the first of the group's. The threads end with the iterator, also
    if it is dropped or Ctrl-C comes; then they finish the items that they have begun and no others.

    Args:
      read: called in a thread.
      groups: sequences of items, pure; a thread takes a few of them ahead of the caller.
    """
    finalizing = sys.is_finalizing  # is gone with its module where an iterator is dropped by the end of the program
    pool = futures.ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="jft-read")
    ready: queue.SimpleQueue[tuple[Group, list[Done]] | BaseException | None] = queue.SimpleQueue()
    room = threading.Semaphore(_AHEAD)
    # The caller only takes what is ready: handing out items one by one, it would wait for Python's lock at each.
    planner = threading.Thread(target=_plan, args=(read, iter(groups), pool, room, ready), name="jft-read", daemon=True)
    planner.start()
    try:
        while (found := ready.get()) is not None:
            room.release()
            if isinstance(found, BaseException):
                raise found
            yield found
    finally:
        if not finalizing():
            pool.shutdown(wait=False, cancel_futures=True)
            room.release()  # the planner finds the pool closed
            planner.join()
            pool.shutdown()


def made_ahead(make: Callable[[Item], Done], items: Iterable[Item]) -> Iterator[Done]:
    """Yields `make(item)` of each item, in order, which threads make ahead; see `read_ahead`."""
    with contextlib.closing(read_ahead(make, ([item] for item in items))) as done:
        for _, (made,) in done:
            yield made


def _plan(
    read: Callable[[Item], Done],
    groups: Iterator[Sequence[Item]],
    pool: futures.ThreadPoolExecutor,
    room: threading.Semaphore,
    ready: queue.SimpleQueue,
) -> None:
    """Hands the groups' items to the pool while there is room, and tells what is ready; None or an error ends it."""
    begun: collections.deque[tuple[Sequence[Item], list[futures.Future[Done]]]] = collections.deque()
    try:
        while True:
            room.acquire()
            if (group := next(groups, None)) is not None:
                begun.append((group, [pool.submit(read, item) for item in group]))
            # One more group is begun before the first is waited for, so that no thread is idle at a group's end.
            while begun and (group is None or len(begun) > 1):
                first, reading = begun.popleft()
                ready.put((first, [future.result() for future in reading]))
            if group is None:
                ready.put(None)
                return
    except BaseException as error:  # the caller's to raise; where it has closed the pool nobody looks
        ready.put(error)
