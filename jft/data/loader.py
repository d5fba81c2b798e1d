"""Batches of uint8 images from a source by tf.data, in an order that is a pure function of seed and step.

There is no iterator state to save. Training reads an endless stream of positions 0, 1, 2, ... in which each epoch is
shuffled by (seed, epoch); step s reads `batch_size` positions from s * batch_size on. So every example is read once an
epoch, a batch may span two epochs, all batches have the same size, and a run can resume at any step.
"""

import dataclasses
import os
import weakref
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import numpy as np

from jft.data import transforms
from jft.data.lazy_tf import import_tensorflow
from jft.data.source import Source
from jft.data.splits import make_stream
from jft.data.transforms import Preprocess, stored_size
from jft.utils import tree
from jft.utils.progress_bar import ProgressBar

Batch = dict[str, np.ndarray]
Rows = Callable[[int], tuple[np.ndarray, np.ndarray]]  # step -> int64 [b] rows of the source, bool [b] mask

# Decoded images, kept for as long as their source lives: {source: {(spec, fit): decoded source}}.
_decoded: weakref.WeakKeyDictionary[Source, dict[Any, Source]] = weakref.WeakKeyDictionary()


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

    Yields:
      {'image': uint8 [b, h, w, 3] RGB, 'label': int32 [b] or uint8 [b, classes], 'index': int64 [b] from
      `source.indices`, 'mask': bool [b], all True}, where b = batch_size / n. The arrays are read-only.

    Raises:
      ValueError: the source is empty, or n does not divide the batch; while iterating, an image is unreadable.
    """
    rows = train_rows(source, batch_size=batch_size, seed=seed, shard=shard, balanced=balanced)
    return _batches(source, spec, rows, range(start_step, start_step + num_steps), fit, resize_on, cache_bytes)


def eval_batches(
    source: Source,
    spec: Preprocess,
    *,
    batch_size: int,
    fit: str,
    resize_on: str,
    cache_bytes: int,
    shard: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """Evaluation batches: every example once, in order. The last batch is padded with repeats, whose mask is False.

    Arguments, batches and errors are those of `train_batches`. All shards yield the same number of batches.
    """
    rows = eval_rows(source, batch_size=batch_size, shard=shard)
    return _batches(source, spec, rows, range(-(-len(source) // batch_size)), fit, resize_on, cache_bytes)


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


def _part(source: Source, batch_size: int, shard: tuple[int, int]) -> np.ndarray:
    """The positions within a batch that this shard reads, int64 [batch_size / n]."""
    index, count = shard
    if not len(source):
        raise ValueError(f"{source.name!r} has no examples to read.")
    if batch_size < 1 or batch_size % count or not 0 <= index < count:
        raise ValueError(f"cannot yield part {index} of {count} of a batch of {batch_size}: {count} must divide it.")
    return np.arange(batch_size, dtype=np.int64).reshape(count, -1)[index]


def _batches(
    source: Source, spec: Preprocess, rows: Rows, steps: range, fit: str, resize_on: str, cache_bytes: int
) -> Iterator[Batch]:
    transforms.check_fit(fit)
    tree.choose({"device": 1, "host": 1}, resize_on, what="resize_on")
    pixels = _cached(source, spec, fit, cache_bytes)
    tf = import_tensorflow()
    steps = tf.data.Dataset.range(steps.start, steps.stop)
    errors: dict[int, ValueError] = {}
    if pixels.decoded:
        dataset = _array_dataset(pixels.in_memory, rows, steps, spec, fit if resize_on == "host" else None)
    else:
        dataset = _file_dataset(pixels, rows, steps, spec, fit, errors)
    options = tf.data.Options()
    options.deterministic = True
    return _labeled(dataset.prefetch(tf.data.AUTOTUNE).with_options(options), source, errors)


def _labeled(dataset: Any, source: Source, errors: dict[int, ValueError]) -> Iterator[Batch]:
    for batch in dataset.as_numpy_iterator():
        rows = batch["row"]
        for row in rows if errors else ():
            if int(row) in errors:
                raise errors[int(row)]
        yield {
            "image": batch["image"],
            "label": source.labels[rows],
            "index": source.indices[rows],
            "mask": batch["mask"],
        }


def _array_dataset(images: np.ndarray, rows: Rows, steps: Any, spec: Preprocess, fit: str | None) -> Any:
    """Batches of arrays, resized as `decode` does unless `fit` is None."""
    tf = import_tensorflow()
    height, width = images.shape[1:3]

    def read(step: np.ndarray) -> tuple[np.ndarray, ...]:
        chosen, mask = rows(int(step))
        return images[chosen], chosen, mask

    def to_batch(step: Any) -> dict[str, Any]:
        image, row, mask = tf.numpy_function(read, [step], (tf.uint8, tf.int64, tf.bool), stateful=False)
        image = tf.ensure_shape(image, (None, height, width, 3))
        return {"image": _resize(image, spec, fit) if fit else image, "row": row, "mask": mask}

    return steps.map(to_batch, num_parallel_calls=tf.data.AUTOTUNE)


def _file_dataset(
    source: Source, rows: Rows, steps: Any, spec: Preprocess, fit: str, errors: dict[int, ValueError]
) -> Any:
    """Batches of images decoded one by one, in parallel; errors of unreadable images are added to `errors` by row."""
    tf = import_tensorflow()
    side = stored_size(spec, fit)

    def read(row: np.ndarray) -> np.ndarray:
        try:
            return _decode_row(source, spec, fit, int(row))
        except ValueError as e:  # TensorFlow would wrap it into a traceback of its own
            errors[int(row)] = e
            return np.zeros((side, side, 3), np.uint8)

    def to_example(row: Any, mask: Any) -> dict[str, Any]:
        image = tf.numpy_function(read, [row], tf.uint8, stateful=False)
        return {"image": tf.ensure_shape(image, (side, side, 3)), "row": row, "mask": mask}

    steps = steps.map(
        lambda step: tf.numpy_function(lambda s: rows(int(s)), [step], (tf.int64, tf.bool), stateful=False)
    )
    size = len(rows(0)[0])
    steps = steps.map(lambda row, mask: (tf.ensure_shape(row, (size,)), tf.ensure_shape(mask, (size,))))
    return steps.unbatch().map(to_example, num_parallel_calls=tf.data.AUTOTUNE).batch(size, drop_remainder=True)


def _resize(images: Any, spec: Preprocess, fit: str) -> Any:
    """Resizes uint8 [b, h, w, 3] as `decode` does: uint8 [b, side, side, 3]."""
    tf = import_tensorflow()
    height, width, side = *images.shape[1:3], stored_size(spec, fit)
    if (height, width) == (side, side):
        return images
    tall, wide = (side, side) if fit == "whole" else transforms.scaled_size(height, width, side)
    # The device's weights as two matrix products: 2 to 5 times as fast as tf.image.resize.
    rows = transforms.resize_weights(height, tall, spec)
    columns = _interleaved(transforms.resize_weights(width, wide, spec))
    pixels = tf.clip_by_value(tf.cast(tf.reshape(images, (-1, width * 3)), tf.float32) @ columns, 0, 255)
    pixels = rows @ tf.reshape(pixels, (-1, height, wide * 3))
    pixels = tf.cast(tf.clip_by_value(tf.round(pixels), 0, 255), tf.uint8)
    pixels = tf.reshape(pixels, (-1, tall, wide, 3))
    if fit == "whole":
        return pixels
    top, left = transforms.stored_offset(tall, spec), transforms.stored_offset(wide, spec)
    return pixels[:, top : top + side, left : left + side]


def _interleaved(weights: np.ndarray) -> np.ndarray:
    """The matrix [source * 3, target * 3] that resizes rows of RGB pixels, from the weights [target, source]."""
    return np.kron(weights, np.eye(3, dtype=np.float32)).T.copy()


def _decode_row(source: Source, spec: Preprocess, fit: str, row: int) -> np.ndarray:
    try:
        return source.square(row, spec, fit)
    except ValueError as e:
        raise ValueError(f"{e} Repair it, or set skip_unreadable=True to leave such images out.") from e


def _cached(source: Source, spec: Preprocess, fit: str, cache_bytes: int) -> Source:
    """The source with its images decoded, if they fit into `cache_bytes`; otherwise the source itself."""
    side = stored_size(spec, fit)
    if source.decoded:
        return source
    known = _decoded.get(source, {})
    if (spec, fit) not in known:
        held = sum(other.in_memory.nbytes for others in _decoded.values() for other in others.values())
        if held + len(source) * side * side * 3 > cache_bytes:
            return source
        _decoded[source] = known = known | {(spec, fit): _decode_all(source, spec, fit)}
    return known[spec, fit]


def _decode_all(source: Source, spec: Preprocess, fit: str) -> Source:
    side = stored_size(spec, fit)
    images = np.empty((len(source), side, side, 3), np.uint8)

    def read(row: int) -> None:
        images[row] = _decode_row(source, spec, fit, row)

    with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        work = pool.map(read, range(len(source)))
        try:
            for _ in ProgressBar(
                work, f"decoding {source.name}", len(source), unit=" images", leave=False, disable=None
            ):
                pass
        except BaseException:  # stop at the first unreadable image or Ctrl-C without decoding the rest
            pool.shutdown(cancel_futures=True)
            raise
    return dataclasses.replace(source, images=images, regions=None)
