"""How an image looks, in a few numbers: a perceptual hash that finds near copies, its contrast and its color.

The hash is a pHash of 255 bits: the signs of the lowest 16 x 16 coefficients of the cosine transform of the image in
gray at 32 x 32 pixels, without the first, the mean (after Zauner, Implementation and Benchmarking of Perceptual Image
Hash Functions, 2010, who takes 8 x 8). It hardly changes when an image is resized, saved again as JPEG, or made
brighter, gray or of another aspect ratio; a crop of more than a few percent changes it. Mirroring turns the signs of
the odd horizontal frequencies, so the hash of the mirrored image is known as well: `mirrored`.
"""

import math

import numpy as np
from PIL import Image

from jft.data.transparency import without_alpha

SIDE = 32  # of the thumbnails
BITS = 255

_LOWEST = 16  # frequencies in each direction
_CORE = 8  # of them, those in the first word
_LEAST_SIDE = 16  # pixels; a smaller image has fewer frequencies than the hash has bits
_LEAST_CONTRAST = 2.0  # gray levels; below it the signs are noise
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601-2
_CHUNK = 256  # images at a time

LOOKS = np.dtype([("hash", np.uint64, 4), ("contrast", np.float32), ("chroma", np.float32)])


def thumbnail(image: Image.Image) -> np.ndarray:
    """A loaded image at 32 x 32 pixels: uint8 [32, 32, 3], RGB. Gray levels of more than 8 bits are stretched."""
    if image.mode.startswith(("I", "F")):
        image = Image.fromarray(_stretched(np.asarray(image, np.float32)))
    image = without_alpha(image, "white")
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0))


def of_thumbnails(thumbnails: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """How images look.

    Args:
      thumbnails: uint8 [n, 32, 32, 3], RGB, from `thumbnail`.
      sides: int [n], the shorter side of each image in pixels.

    Returns:
      `LOOKS` [n]. `hash`: 0 where there is none, for images below 16 pixels or of one gray level. `contrast`: standard
      deviation of the gray levels, 0 .. 128. `chroma`: mean distance of the largest from the smallest of red, green and
      blue, 0 .. 255.
    """
    found = np.zeros(len(thumbnails), LOOKS)
    for start in range(0, len(thumbnails), _CHUNK):
        part = slice(start, start + _CHUNK)
        red, green, blue = np.moveaxis(thumbnails[part], -1, 0)
        spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
        gray = red * _LUMA[0] + green * _LUMA[1] + blue * _LUMA[2]
        found["contrast"][part] = gray.std(axis=(1, 2))
        found["chroma"][part] = spread.mean(axis=(1, 2))
        found["hash"][part] = _packed(_COSINES @ gray @ _COSINES.T > 0)
    found["hash"][(found["contrast"] < _LEAST_CONTRAST) | (sides < _LEAST_SIDE)] = 0
    return found


def of_arrays(images: np.ndarray) -> np.ndarray:
    """`of_thumbnails` of arrays, uint8 [n, h, w, 3], RGB."""
    found, side = np.zeros(len(images), LOOKS), min(images.shape[1:3])
    for start in range(0, len(images), _CHUNK):
        part = images[start : start + _CHUNK]
        if part.shape[1:3] != (SIDE, SIDE):
            part = np.stack([thumbnail(Image.fromarray(image)) for image in part])
        found[start : start + _CHUNK] = of_thumbnails(part, np.full(len(part), side))
    return found


def mirrored(hashes: np.ndarray) -> np.ndarray:
    """The hashes, uint64 [n, 4], of the images mirrored left and right; 0 where there is none."""
    return np.where(hashes.any(axis=1, keepdims=True), hashes ^ _ODD, hashes)


def distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Bits in which hashes, uint64 [..., 4], differ: int [...], 0 .. 255. Unrelated images differ in about half."""
    return np.bitwise_count(one ^ other).sum(axis=-1, dtype=np.int64)


def _packed(signs: np.ndarray) -> np.ndarray:
    """bool [n, 16, 16] as uint64 [n, 4]; the lowest 8 x 8 frequencies come first, and the mean is left out."""
    flat = signs.reshape(len(signs), -1)[:, _ORDER]
    flat[:, 0] = False
    return np.ascontiguousarray(np.packbits(flat, axis=1)).view(">u8").astype(np.uint64)


def _stretched(values: np.ndarray) -> np.ndarray:
    """uint8 [h, w]: gray levels of any range as 0 .. 255."""
    low, high = float(values.min()), float(values.max())
    if not math.isfinite(high - low) or high <= low:
        return np.zeros(values.shape, np.uint8)
    return ((values - low) * (255 / (high - low))).astype(np.uint8)


def _cosines() -> np.ndarray:
    """The lowest rows of the cosine transform (DCT-II), float32 [16, 32]."""
    frequencies, places = np.arange(_LOWEST)[:, None], np.arange(SIDE) + 0.5
    return np.cos(np.pi / SIDE * frequencies * places).astype(np.float32)


_COSINES = _cosines()
_VERTICAL, _HORIZONTAL = (grid.reshape(-1) for grid in np.indices((_LOWEST, _LOWEST)))
_ORDER = np.argsort((_VERTICAL >= _CORE) | (_HORIZONTAL >= _CORE), kind="stable")
_ODD = _packed((_HORIZONTAL % 2 == 1).reshape(1, _LOWEST, _LOWEST))[0]
