"""Resizes arrays on the host, by sparse matrices: the same pixels whatever the batch, the thread and the feed."""

import functools
from typing import Any

import numpy as np

from jft.data import transforms
from jft.data.transforms import Preprocess, stored_size


def resize(images: np.ndarray, spec: Preprocess, fit: str, out: np.ndarray | None = None) -> np.ndarray:
    """Fits arrays to squares as `decode.decode` does for files with these pixels, to within a gray level.

    Args:
      images: uint8 [n, h, w, 3], RGB.
      spec: preprocessing of the weights.
      fit: 'crop' or 'whole', see `transforms.to_model_input`.
      out: uint8 [n, side, side, 3] to write to; None: a new array.

    Returns:
      uint8 [n, side, side, 3], where `side = stored_size(spec, fit)`; `images` themselves if they have this size and no
      `out` is given.
    """
    side = stored_size(spec, fit)
    height, width = images.shape[1:3]
    if (height, width) == (side, side):
        if out is None:
            return images
        out[...] = images
        return out
    rows, columns = _matrices(height, width, spec, fit)
    out = np.empty((len(images), side, side, 3), np.uint8) if out is None else out
    for image, square in zip(images, out, strict=True):  # one at a time stays in the processor's cache
        square[...] = _resized(image, rows, columns, overshoots=spec.interpolation == "bicubic")
    return out


def _resized(image: np.ndarray, rows: Any, columns: Any, *, overshoots: bool) -> np.ndarray:
    """One image by its matrices: float32 [side, side, 3] of whole gray levels."""
    height, width, _ = image.shape
    side = rows.shape[0]
    turned = np.ascontiguousarray(image.transpose(1, 0, 2), np.float32).reshape(width, height * 3)
    pixels = columns @ turned
    if overshoots:  # bilinear pixels are averages; PIL also clips after each axis, in this order
        np.clip(pixels, 0, 255, out=pixels)
    pixels = np.ascontiguousarray(pixels.reshape(side, height, 3).transpose(1, 0, 2)).reshape(height, side * 3)
    pixels = rows @ pixels
    np.rint(pixels, out=pixels)
    if overshoots:
        np.clip(pixels, 0, 255, out=pixels)
    return pixels.reshape(side, side, 3)


@functools.lru_cache(maxsize=16)
def _matrices(height: int, width: int, spec: Preprocess, fit: str) -> tuple[Any, Any]:
    """Sparse matrices [side, height] and [side, width] of `transforms.resize_weights`, cut to the square.

    A resized pixel is a sum over few pixels. Products with these matrices are 2 to 5 times as fast as dense ones, and
    each sum has one order, where that of a BLAS depends on its threads and the size of the batch.
    """
    from scipy import sparse

    side = stored_size(spec, fit)
    tall, wide = (side, side) if fit == "whole" else transforms.scaled_size(height, width, side)
    matrices = []
    for source, target in ((height, tall), (width, wide)):
        first = 0 if fit == "whole" else transforms.stored_offset(target, spec)
        weights = transforms.resize_weights(source, target, spec)[first : first + side]
        matrices.append(sparse.csr_array(weights))
    return matrices[0], matrices[1]
