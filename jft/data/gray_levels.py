"""Images of more than 8 bits a pixel: which value is white, decided once for a data set.

A 16-bit file may hold 0 .. 65535, a camera's or scanner's 0 .. 4095, or 0 .. 255; a float one 0 .. 1 or 0 .. 255; and
the file does not say. Read by the wrong one, images are black, or nearly.
"""

from collections.abc import Iterable

import numpy as np
from PIL import Image

_WHITES = (1, 2**8 - 1, 2**10 - 1, 2**12 - 1, 2**14 - 1, 2**16 - 1)
_FULL = _WHITES[-1]
_LEAST = 1 / 8  # of a white that the brightest pixel of a data set reaches: else it is another's
_GUESSED = 2**12 - 1  # a lone 16-bit image whose values go no higher may be one of 12 bits


def is_deep(image: Image.Image) -> bool:
    """Whether an image holds gray levels of more than 8 bits, and does not say which value is white, as a PGM does."""
    return image.mode.startswith(("I", "F")) and not _says_white(image)


def find_white(images: Iterable[np.ndarray]) -> float:
    """Which value is white in images of one data set.

    Args:
      images: values of those for which `is_deep`, [h, w] each.

    Returns:
      1, 255, 1023, 4095, 16383 or 65535, the first that is not below any value; 0 where there are no such images, or
      nothing but 0 in them.

    Raises:
      ValueError: values that are negative, not finite, above 65535, or so far below each of these that it is none.
    """
    peak = max(map(_peak, images), default=0.0)
    if not peak:
        return 0.0
    white = next((white for white in _WHITES if peak <= white), None)
    if white is None or peak < _LEAST * white:
        raise ValueError(
            f"images of more than 8 bits hold values up to {peak:g}, which is none of the usual ranges (up to "
            f"{', '.join(map(str, _WHITES))}): say which value is white by max_value in the config."
        )
    return float(white)


def to_eight_bits(image: Image.Image, max_value: float) -> Image.Image:
    """Gray levels 0 .. max_value as 0 .. 255; images of 8 bits as they are.

    Args:
      image: loaded.
      max_value: which value is white, see `find_white`; 0: not known. Then 16 bits are taken to be used in full.

    Raises:
      ValueError: values outside 0 .. max_value; or it is not known, and cannot be told from this image.
    """
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image)
    peak = _peak([values])
    white = _FULL if _says_white(image) or not peak else max_value
    if not white:
        if image.mode == "F" or not _GUESSED < peak <= _FULL:
            raise ValueError(
                f"its {values.dtype} values reach {peak:g}, and nothing says which value is white: set max_value in "
                "the config of a run, or convert it to 8 bits"
            )
        white = _FULL
    if peak > white:
        raise ValueError(f"its values reach {peak:g}, above {white:g}, which is white in its data set (max_value)")
    if white == _FULL:
        return Image.fromarray((values.astype(np.int32) >> 8).astype(np.uint8))
    return Image.fromarray(np.rint(values * (255 / white)).astype(np.uint8))


def check_color_depth(raw_mode: str, image: Image.Image) -> None:
    """Refuses a color image of 16 bits a channel, of which Pillow keeps the upper 8, if they hold next to nothing.

    Args:
      raw_mode: how the pixels lie in the file, such as 'RGB;16B'.
      image: loaded.

    Raises:
      ValueError: no channel reaches 4096 of 65535.
    """
    if ";16" in raw_mode and not image.mode.startswith(("I", "F")):
        highest = max(high for _, high in image.convert("RGB").getextrema())
        if 0 < highest <= _GUESSED >> 8:
            raise ValueError(
                f"its colors of 16 bits a channel stay below {(highest + 1) << 8:,} of 65,535: convert it to 8 bits"
            )


def _says_white(image: Image.Image) -> bool:
    """Whether Pillow has scaled it to 0 .. 65535 already, by the white that a PGM's header gives."""
    return image.format == "PPM" and image.mode.startswith("I")


def _peak(values: np.ndarray) -> float:
    """The largest value; ValueError where some are negative or not finite."""
    low, high = float(np.min(values)), float(np.max(values))
    if not (np.isfinite(low) and np.isfinite(high)):  # NaN is neither's smaller one, and comes out of both
        raise ValueError("it holds values that are not finite")
    if low < 0:
        raise ValueError(f"its values reach down to {low:g}: shift them so that black is 0")
    return high
