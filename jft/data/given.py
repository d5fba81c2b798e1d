"""Images that a caller passes in: one or several paths, bytes, PIL images, or arrays in color or grayscale."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

Given = np.ndarray | str | Path | bytes | Image.Image  # one image, or an array of several of the same size

_WANTED = "uint8 [height, width, 3] or [n, height, width, 3], RGB, 0..255, or grayscale without the last axis"


def several(images: Given | Sequence[Given]) -> np.ndarray | Sequence[Given]:
    """Turns one image or several into a batch.

    Args:
      images: one image or a sequence of images, each a path, the bytes of an encoded image, a PIL image, or a uint8
        array: color [h, w, 3], or grayscale [h, w] or [h, w, 1]. Or one array of several images: color [n, h, w, 3],
        or grayscale [n, h, w] or [n, h, w, 1]. An array of three axes is one image if its last axis has length 1 or 3,
        else several grayscale images.

    Returns:
      uint8 [n, h, w, 3] for an array; otherwise a sequence, in which arrays are uint8 [h, w, 3].

    Raises:
      ValueError: an array of another type, range or shape; says how to convert it.
    """
    if isinstance(images, np.ndarray):
        color = _in_color(images)
        return color if color.ndim == 4 else color[None]
    if isinstance(images, str | Path | bytes | Image.Image):
        return [images]
    return [_one(image) if isinstance(image, np.ndarray) else image for image in images]


def _one(image: np.ndarray) -> np.ndarray:
    color = _in_color(image)
    if color.ndim != 3:
        raise ValueError(f"an image of the list is {image.dtype} {list(image.shape)}: pass uint8 [height, width, 3].")
    return color


def _in_color(images: np.ndarray) -> np.ndarray:
    """uint8 [..., h, w, 3] from a color or grayscale array."""
    what = f"images are {images.dtype} {list(images.shape)}"
    if images.dtype != np.uint8:
        raise ValueError(f"{what}; pass {_WANTED}{_remedy(images)}.")
    if images.ndim == 2 or (images.ndim == 3 and images.shape[-1] not in (1, 3, 4)):
        images = images[..., None]
    if images.ndim not in (3, 4) or images.shape[-1] not in (1, 3):
        alpha = ": drop the alpha channel, images[..., :3]" if images.ndim in (3, 4) and images.shape[-1] == 4 else ""
        raise ValueError(f"{what}; pass {_WANTED}{alpha}.")
    return images if images.shape[-1] == 3 else np.repeat(images, 3, axis=-1)


def _remedy(images: np.ndarray) -> str:
    """How to convert an array of another type to uint8, judging by its values."""
    if images.dtype.kind not in "fiu" or not images.size or not np.isfinite(images).all():
        return ""
    low, high = images.min(), images.max()
    if low >= 0 and high <= 1:
        return f": the values lie in {low:.3g}..{high:.3g}, so use (255 * images).round().astype('uint8')"
    if low >= 0 and high <= 255:
        return f": the values lie in {low:.3g}..{high:.3g}, so use images.round().astype('uint8')"
    return f": the values lie in {low:.3g}..{high:.3g}, so undo their normalization first"
