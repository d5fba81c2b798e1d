"""What a feed does: it reads batches, and places them on the devices as the steps expect them."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import jax
import numpy as np

from jft.data import transforms
from jft.data.feeds.images import Batch, Images, Rows
from jft.utils.mesh import Parallel


class Feed(Protocol):
    """Batches of one source, of images or of their cached features."""

    def batches(self, rows: Rows, steps: range) -> Iterator[Batch]:
        """This process' part of the batches of `steps`, in order.

        Args:
          rows: function from a step to rows, int64 [b], and mask, bool [b]; `loader.train_rows` or `loader.eval_rows`.
          steps: numbers of the batches.

        Yields:
          `{'label': int32 [b] or uint8 [b, classes], 'index': int64 [b] from `source.indices`, 'mask': bool [b]}`, and
          what `place` makes the input of.

        Raises:
          ValueError: an image is unreadable; names it. Batches before it are yielded.
        """
        ...

    def place(self, batch: Batch) -> dict[str, jax.Array]:
        """The batch of all processes on the devices, as `Parallel.place_batch` shards it.

        Returns:
          `{'image': uint8 [b, h, w, 3] or 'feature': [b, variants, ...], 'label', 'mask'}`; the index stays here.
        """
        ...

    def check(self, batch: Batch) -> None:
        """Raises a ValueError unless the batch's gray levels are what the weights expect, see `check_range`."""
        ...


@dataclasses.dataclass(frozen=True)
class HostFeed:
    """A `Feed` whose batches hold `'image'`, uint8 [b, h, w, 3], and travel to the devices one by one.

    Attributes:
      images: the images, and how they are read.
      parallel: the devices.
      read: makes the batches, `tf_data.batches` or `threads.batches`.
    """

    images: Images
    parallel: Parallel
    read: Callable[[Images, Rows, range], Iterator[Batch]]

    def batches(self, rows: Rows, steps: range) -> Iterator[Batch]:
        """See `Feed.batches`."""
        return self.read(self.images, rows, steps)

    def place(self, batch: Batch) -> dict[str, jax.Array]:
        """See `Feed.place`."""
        return self.parallel.place_batch(on_device(batch))

    def check(self, batch: Batch) -> None:
        """See `Feed.check`."""
        transforms.check_range(batch["image"], self.images.reading.spec)


def on_device(batch: Mapping[str, np.ndarray]) -> Batch:
    """The entries of a batch that the steps read; the index stays on the host."""
    return {key: batch[key] for key in ("image", "feature", "taught", "label", "mask") if key in batch}
