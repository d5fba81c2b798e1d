"""From an encoded picture to pixels on the host: one function for training, evaluation and prediction."""

import io
import pathlib

import numpy as np
from PIL import Image, UnidentifiedImageError

from jft.data import preprocess
from jft.data.preprocess import Preprocess, stored_size

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_MAX_PIXELS = 2**26  # of the resized picture before its crop: a 1 x 100,000 line would become 256 x 25,600,000

# How to show a picture upright, by the value of its EXIF tag Orientation.
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(picture: pathlib.Path | str | bytes, spec: Preprocess, *, fit: str, name: str = "") -> np.ndarray:
    """Reads a picture in any mode and format that PIL knows, upright, and makes it a square.

    'crop' makes the shorter side `spec.resize` and cuts the central square out, placed so that `center_crop` on the
    device then cuts exactly what torchvision's Resize(resize), CenterCrop(size) would. 'whole' squashes to `spec.size`.

    Args:
      picture: path of the file, or its bytes.
      spec: of the weights.
      fit: 'crop' or 'whole'.
      name: what to call the picture in an error; empty: its path.

    Returns:
      uint8 [side, side, 3], RGB, 0 .. 255, where `side = stored_size(spec, fit)`.

    Raises:
      ValueError: it cannot be read as a picture; names it and says why.
    """
    side = stored_size(spec, fit)
    try:
        image = _open(picture)
        if fit == "whole":
            return _resize(image, side, side, spec)
        return _resize_and_crop(image, side, spec)
    except Exception as e:  # PIL's plugins let every kind of error through on broken files
        name = name or (f"a picture of {len(picture)} bytes" if isinstance(picture, bytes) else str(picture))
        reason = "no format that PIL knows" if isinstance(e, UnidentifiedImageError) else f"{type(e).__name__}: {e}"
        raise ValueError(f"cannot read {name} as a picture ({reason}).") from e


def _open(picture: pathlib.Path | str | bytes) -> Image.Image:
    """The picture, loaded whole, upright, RGB; alpha is dropped, as by torchvision's loader."""
    with Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture) as image:
        image.load()
        if image.mode.startswith("I"):  # 16 bit greys, which convert() would clip at 255
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        upright = _UPRIGHT.get(_orientation(image))
        if upright is not None:
            image = image.transpose(upright)
        return image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # broken notes about a picture do not make the picture unreadable
        return 1


def _resize_and_crop(image: Image.Image, side: int, spec: Preprocess) -> np.ndarray:
    height, width = preprocess.scaled_size(image.height, image.width, side)
    if height * width > _MAX_PIXELS:
        raise ValueError(f"{image.height}x{image.width} pixels are too elongated to be cropped to a square")
    top, left = preprocess.stored_offset(height, spec), preprocess.stored_offset(width, spec)
    return _resize(image, height, width, spec)[top : top + side, left : left + side]


def _resize(image: Image.Image, height: int, width: int, spec: Preprocess) -> np.ndarray:
    if spec.antialias:  # PIL always does
        return np.asarray(image.resize((width, height), _FILTERS[spec.interpolation]))
    columns = preprocess.resize_weights(image.width, width, spec)
    pixels = np.clip(columns @ np.asarray(image, np.float32), 0, 255)
    rows = preprocess.resize_weights(image.height, height, spec)
    pixels = rows @ pixels.reshape(image.height, width * 3)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8).reshape(height, width, 3)
