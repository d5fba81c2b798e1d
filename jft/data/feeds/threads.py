"""Batches by threads: Pillow and NumPy work without Python's lock, so that decoding uses every core."""

import collections
import contextlib
import dataclasses
import itertools
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent import futures
from typing import TypeVar

import numpy as np

from jft.data.feeds.images import Batch, Images, Rows

_AHEAD = 3  # batches that are read while the caller has another
_RESIZED = 8  # arrays that a thread resizes at a time

Item = TypeVar("Item")
Done = TypeVar("Done")


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
    plans, ahead = itertools.tee(_Plan(images, *rows(step)) for step in steps)
    with contextlib.closing(read_ahead(read, (plan.parts(size) for plan in ahead))) as done:
        for plan, _ in zip(plans, done, strict=True):
            yield images.batch(plan.out, plan.rows, plan.mask)


@dataclasses.dataclass(frozen=True)
class _Part:
    """Some images of a batch, and where to write them: uint8 [k, h, w, 3]."""

    rows: np.ndarray
    out: np.ndarray


class _Plan:
    """A batch to be read."""

    def __init__(self, images: Images, rows: np.ndarray, mask: np.ndarray) -> None:
        self.rows, self.mask = rows, mask
        self.out = np.empty((len(rows), *images.shape), np.uint8)

    def parts(self, size: int | None) -> list[_Part]:
        """In parts of `size` images; None: the whole."""
        size = size or len(self.rows)
        starts = range(0, len(self.rows), size)
        return [_Part(self.rows[start : start + size], self.out[start : start + size]) for start in starts]


def read_ahead(read: Callable[[Item], Done], groups: Iterable[Sequence[Item]]) -> Generator[list[Done], None, None]:
    """Yields `[read(item), ...]` of each group, in order, while threads read the groups after it.

    An error is raised when its group's turn has come, the first of the group's. The threads end with the iterator, also
    if it is dropped or Ctrl-C comes; then they finish the items that they have begun and no others.

    Args:
      read: called in a thread.
      groups: what to read; a few groups are taken ahead of the caller.
    """
    pool = futures.ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="jft-read")
    ahead: collections.deque[list[futures.Future[Done]]] = collections.deque()
    try:
        for group in groups:
            ahead.append([pool.submit(read, item) for item in group])
            if len(ahead) > _AHEAD:
                yield [future.result() for future in ahead.popleft()]
        while ahead:
            yield [future.result() for future in ahead.popleft()]
    finally:
        pool.shutdown(cancel_futures=True)
