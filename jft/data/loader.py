"""The order in which a run reads its images, a pure function of seed and step, and the batches in this order.

There is no iterator state to save. Training reads an endless stream of positions 0, 1, 2, ... in which each epoch is
shuffled by (seed, epoch); step s reads `batch_size` positions from s * batch_size on. So every example is read once an
epoch, a batch may span two epochs, all batches have the same size, and a run can resume at any step.
"""

from collections.abc import Iterator

import numpy as np

from jft.data.feeds.choose import host_batches
from jft.data.feeds.images import Batch, Images, Reading, Rows
from jft.data.source import Source
from jft.data.splits import make_stream
from jft.data.transforms import Preprocess


def train_batches(
    source: Source,
    spec: Preprocess,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    num_steps: int,
    fit: str,
    resize_on: str,
    cache_bytes: int,
    shard: tuple[int, int] = (0, 1),
    balanced: bool = False,
    input: str = "auto",
) -> Iterator[Batch]:
    """Training batches of the steps start_step, start_step + 1, ...

    The batch of a step does not depend on `start_step`.

    Args:
      source: the training examples.
      spec: preprocessing of the weights.
      batch_size: examples in a step, over all hosts.
      seed: seed of the order.
      start_step: the first step.
      num_steps: number of batches to yield.
      fit: 'crop' or 'whole', see `transforms.to_model_input`.
      resize_on: 'device' yields arrays at their own size, 'host' resizes them here; files are always resized here.
      cache_bytes: memory for decoded images of all sources together. If the images of `source` fit, they are decoded
        once and kept for as long as the source lives.
      shard: (i, n) yields the i-th of n equal contiguous parts of each batch, for host i of n.
      balanced: draw all classes equally often, see `splits.balanced_order`.
      input: what reads the images: 'tf.data', 'threads' or 'auto', see `feeds.choose`.

    Yields:
      {'image': uint8 [b, h, w, 3] RGB, 'label': int32 [b] or uint8 [b, classes], 'index': int64 [b] from
      `source.indices`, 'mask': bool [b], all True}, where b = batch_size / n.

    Raises:
      ValueError: the source is empty, or n does not divide the batch; while iterating, an image is unreadable.
    """
    rows = train_rows(source, batch_size=batch_size, seed=seed, shard=shard, balanced=balanced)
    images = Images(source, Reading(spec, fit, resize_on, cache_bytes, input))
    return host_batches(images, rows, range(start_step, start_step + num_steps))


def eval_batches(
    source: Source,
    spec: Preprocess,
    *,
    batch_size: int,
    fit: str,
    resize_on: str,
    cache_bytes: int,
    shard: tuple[int, int] = (0, 1),
    input: str = "auto",
) -> Iterator[Batch]:
    """Evaluation batches: every example once, in order. The last batch is padded with repeats, whose mask is False.

    Arguments, batches and errors are those of `train_batches`. All shards yield the same number of batches.
    """
    rows = eval_rows(source, batch_size=batch_size, shard=shard)
    images = Images(source, Reading(spec, fit, resize_on, cache_bytes, input))
    return host_batches(images, rows, eval_steps(source, batch_size))


def train_rows(
    source: Source, *, batch_size: int, seed: int, shard: tuple[int, int] = (0, 1), balanced: bool = False
) -> Rows:
    """A function from a training step to its rows, int64 [b], and mask, bool [b]; arguments as in `train_batches`."""
    part = _part(source, batch_size, shard)
    stream = make_stream(source.labels, seed, balanced=balanced)
    return lambda step: (stream(step * batch_size + part), np.ones(len(part), bool))


def eval_rows(source: Source, *, batch_size: int, shard: tuple[int, int] = (0, 1)) -> Rows:
    """A function from a batch number of `eval_batches` to its rows, int64 [b], and mask, bool [b]."""
    part = _part(source, batch_size, shard)

    def rows(step: int) -> tuple[np.ndarray, np.ndarray]:
        positions = step * batch_size + part
        return positions % len(source), positions < len(source)

    return rows


def eval_steps(source: Source, batch_size: int) -> range:
    """The numbers of the batches in which each example is evaluated once."""
    return range(-(-len(source) // batch_size))


def _part(source: Source, batch_size: int, shard: tuple[int, int]) -> np.ndarray:
    """The positions within a batch that this shard reads, int64 [batch_size / n]."""
    index, count = shard
    if not len(source):
        raise ValueError(f"{source.name!r} has no examples to read.")
    if batch_size < 1 or batch_size % count or not 0 <= index < count:
        raise ValueError(f"cannot yield part {index} of {count} of a batch of {batch_size}: {count} must divide it.")
    return np.arange(batch_size, dtype=np.int64).reshape(count, -1)[index]
