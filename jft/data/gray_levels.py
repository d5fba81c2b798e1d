"""Gray levels of more than 8 bits: finds the value of white, once for a data set, and scales to 8 bits.

A 16-bit file may use 0 .. 65535, 0 .. 4095 (cameras, scanners) or 0 .. 255; a float file 0 .. 1 or 0 .. 255. The file
does not say which. With the wrong range, images are black or nearly so.
"""

from collections.abc import Iterable
from typing import Any, cast

import numpy as np
from PIL import Image

_WHITES = (1, 2**8 - 1, 2**10 - 1, 2**12 - 1, 2**14 - 1, 2**16 - 1)
_FULL = _WHITES[-1]
_LEAST = 1 / 8  # the brightest pixel of a data set must reach this share of white; otherwise white is unknown
_GUESSED = 2**12 - 1  # a single 16-bit image with no higher values may hold 12 bits


def is_deep(image: Image.Image) -> bool:
    """Whether an image has gray levels of more than 8 bits and, unlike PGM, does not declare the value of white."""
    return image.mode.startswith(("I", "F")) and not _says_white(image)


def find_white(images: Iterable[np.ndarray]) -> float:
    """Finds the value of white in the images of a data set.

    Args:
      images: values [h, w] of each image for which `is_deep` is true.

    Returns:
      The smallest of 1, 255, 1023, 4095, 16383 and 65535 that no value exceeds; 0 if there are no such images, or all
      values are 0.

    Raises:
      ValueError: values are negative, not finite, above 65535, or below 1/8 of the value that would be white.
    """
    peak = max(map(_peak, images), default=0.0)
    if not peak:
        return 0.0
    white = next((white for white in _WHITES if peak <= white), None)
    if white is None or peak < _LEAST * white:
        raise ValueError(
            f"images of more than 8 bits hold values up to {peak:g}, which fits none of the usual ranges (up to "
            f"{', '.join(map(str, _WHITES))}): set max_value in the config to the value of white."
        )
    return float(white)


def to_eight_bits(image: Image.Image, max_value: float) -> Image.Image:
    """Scales gray levels 0 .. max_value to 0 .. 255; returns 8-bit images unchanged.

    Args:
      image: a loaded image.
      max_value: the value of white, see `find_white`; 0: unknown. Then a 16-bit image is assumed to use its full range.

    Raises:
      ValueError: values outside 0 .. max_value; or white is unknown and this image does not reveal it.
    """
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image)
    peak = _peak(values)
    white = _FULL if _says_white(image) or not peak else max_value
    if not white:
        if image.mode == "F" or not _GUESSED < peak <= _FULL:
            raise ValueError(
                f"its {values.dtype} values reach {peak:g}, and the value of white is unknown: set max_value in the "
                "config of a run, or convert it to 8 bits"
            )
        white = _FULL
    if peak > white:
        raise ValueError(f"its values reach {peak:g}, above {white:g}, which is white in its data set (max_value)")
    if white == _FULL:
        return Image.fromarray((values.astype(np.int32) >> 8).astype(np.uint8))
    return Image.fromarray(np.rint(values * (255 / white)).astype(np.uint8))


def check_color_depth(raw_mode: str, image: Image.Image) -> None:
    """Refuses a color image with 16 bits a channel that is nearly black in the upper 8 bits, all that Pillow keeps.

    Args:
      raw_mode: Pillow's name for the pixel layout in the file, such as 'RGB;16B'.
      image: the loaded image.

    Raises:
      ValueError: no channel reaches 4096 of 65535.
    """
    if ";16" in raw_mode and not image.mode.startswith(("I", "F")):
        highest = max(high for _, high in cast(Any, image.convert("RGB").getextrema()))
        if 0 < highest <= _GUESSED >> 8:
            raise ValueError(
                f"its colors of 16 bits a channel stay below {(highest + 1) << 8:,} of 65,535: convert it to 8 bits"
            )


def _says_white(image: Image.Image) -> bool:
    """Whether Pillow has already scaled the image to 0 .. 65535, by the value of white in a PGM's header."""
    return image.format == "PPM" and image.mode.startswith("I")


def _peak(values: np.ndarray) -> float:
    """The largest value; ValueError where some are negative or not finite."""
    low, high = float(np.min(values)), float(np.max(values))
    if not (np.isfinite(low) and np.isfinite(high)):  # min and max both return NaN if there is one
        raise ValueError("it holds values that are not finite")
    if low < 0:
        raise ValueError(f"its values reach down to {low:g}: shift them so that black is 0")
    return high
