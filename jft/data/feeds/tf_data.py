"""Batches by tf.data, which schedules the reading and decides how far ahead of the steps it is."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from jft.data.feeds.images import Batch, Images, Rows
from jft.data.lazy_tf import import_tensorflow


def batches(images: Images, rows: Rows, steps: range) -> Iterator[Batch]:
    """The batches of `steps`, in order; arguments and errors as those of `threads.batches`."""
    array = images.arrays()
    tf = import_tensorflow()
    numbers = tf.data.Dataset.range(steps.start, steps.stop)
    errors: dict[int, ValueError] = {}
    if array is None:
        dataset = _file_dataset(images, rows, numbers, errors)
    else:
        dataset = _array_dataset(images, array, rows, numbers)
    options = tf.data.Options()
    options.deterministic = True
    for batch in dataset.prefetch(tf.data.AUTOTUNE).with_options(options).as_numpy_iterator():
        for row in batch["row"] if errors else ():
            if int(row) in errors:
                raise errors[int(row)]
        yield images.batch(batch["image"], batch["row"], batch["mask"])


def _array_dataset(images: Images, array: np.ndarray, rows: Rows, steps: Any) -> Any:
    """Batches of arrays, resized if the host does that."""
    tf = import_tensorflow()

    def read(step: np.ndarray) -> tuple[np.ndarray, ...]:
        chosen, mask = rows(int(step))
        out = np.empty((len(chosen), *images.shape), np.uint8)
        images.read(array, chosen, out)
        return out, chosen, mask

    def to_batch(step: Any) -> dict[str, Any]:
        image, row, mask = tf.numpy_function(read, [step], (tf.uint8, tf.int64, tf.bool), stateful=False)
        return {"image": tf.ensure_shape(image, (None, *images.shape)), "row": row, "mask": mask}

    return steps.map(to_batch, num_parallel_calls=tf.data.AUTOTUNE)


def _file_dataset(images: Images, rows: Rows, steps: Any, errors: dict[int, ValueError]) -> Any:
    """Batches of images decoded one by one, in parallel; errors of unreadable images are added to `errors` by row."""
    tf = import_tensorflow()

    def read(row: np.ndarray) -> np.ndarray:
        try:
            return images.decode(int(row))
        except ValueError as e:  # TensorFlow would wrap it into a traceback of its own
            errors[int(row)] = e
            return np.zeros(images.shape, np.uint8)

    def to_example(row: Any, mask: Any) -> dict[str, Any]:
        image = tf.numpy_function(read, [row], tf.uint8, stateful=False)
        return {"image": tf.ensure_shape(image, images.shape), "row": row, "mask": mask}

    steps = steps.map(
        lambda step: tf.numpy_function(lambda s: rows(int(s)), [step], (tf.int64, tf.bool), stateful=False)
    )
    size = len(rows(0)[0])
    steps = steps.map(lambda row, mask: (tf.ensure_shape(row, (size,)), tf.ensure_shape(mask, (size,))))
    return steps.unbatch().map(to_example, num_parallel_calls=tf.data.AUTOTUNE).batch(size, drop_remainder=True)
