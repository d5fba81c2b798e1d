"""From an encoded picture to pixels on the host: one function for training, evaluation and prediction."""

import io
import os
import pathlib
from collections.abc import Sequence
from concurrent import futures

import numpy as np
import tqdm
from PIL import Image, UnidentifiedImageError

from jft.data import preprocess
from jft.data.preprocess import Preprocess, stored_size

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_MAX_ASPECT = 1024  # of a picture to be cropped: resized before that, a line of 100,000 would become 256 x 25,600,000

Region = Sequence[int] | np.ndarray  # x1, y1, x2, y2 in pixels; x2 and y2 are the first ones beyond it

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


def decode(
    picture: pathlib.Path | str | bytes, spec: Preprocess, *, fit: str, name: str = "", region: Region | None = None
) -> np.ndarray:
    """Reads a picture in any mode and format that PIL knows, upright, and makes it a square.

    'crop' makes the shorter side `spec.resize` and cuts the central square out, placed so that `center_crop` on the
    device then cuts exactly what torchvision's Resize(resize), CenterCrop(size) would. 'whole' squashes to `spec.size`.

    Args:
      picture: path of the file, or its bytes.
      spec: of the weights.
      fit: 'crop' or 'whole'.
      name: what to call the picture in an error; empty: its path.
      region: what to cut out of it first; None: all of it.

    Returns:
      uint8 [side, side, 3], RGB, 0 .. 255, where `side = stored_size(spec, fit)`.

    Raises:
      ValueError: it cannot be read as a picture, or the region is not within it; names it and says why.
    """
    try:
        return _square(_open(picture, region), spec, fit)
    except Exception as e:  # PIL's plugins let every kind of error through on broken files
        raise ValueError(f"cannot read {name or _name(picture)} as a picture ({_reason(e)}).") from e


def pixels(picture: pathlib.Path | str | bytes, *, name: str = "", region: Region | None = None) -> np.ndarray:
    """A picture in its own size, upright: uint8 [h, w, 3], RGB; arguments and errors as of `decode`."""
    try:
        return np.asarray(_open(picture, region))
    except Exception as e:  # as in decode
        raise ValueError(f"cannot read {name or _name(picture)} as a picture ({_reason(e)}).") from e


def from_array(picture: np.ndarray, spec: Preprocess, *, fit: str) -> np.ndarray:
    """What `decode` would make of a file with these pixels: uint8 [h, w, 3] -> uint8 [side, side, 3].

    Raises:
      ValueError: another type or shape, or too elongated to be cropped.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[-1] != 3 or 0 in picture.shape:
        raise ValueError(
            f"a picture is {picture.dtype} {list(picture.shape)}; jft wants uint8 [height, width, 3], RGB, 0..255."
        )
    return _square(Image.fromarray(picture), spec, fit)


def unreadable(pictures: Sequence[pathlib.Path | bytes], regions: Sequence[Region] | None = None) -> dict[int, str]:
    """Tries to read every picture, in threads.

    Args:
      pictures: paths or encoded bytes, n of them.
      regions: what is to be cut out of each, [n, 4]; None: nothing.

    Returns:
      {row: why} of those that `decode` would refuse with either fit, in order.
    """

    def reason(row: int) -> str:
        try:
            _check_aspect(_open(pictures[row], None if regions is None else regions[row]))
        except Exception as e:  # as in decode
            return _reason(e)
        return ""

    with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        work = pool.map(reason, range(len(pictures)))
        reasons = list(tqdm.tqdm(work, "trying to read", len(pictures), unit=" pictures", leave=False, disable=None))
    return {row: why for row, why in enumerate(reasons) if why}


def _name(picture: pathlib.Path | str | bytes) -> str:
    return f"a picture of {len(picture)} bytes" if isinstance(picture, bytes) else str(picture)


def _reason(error: Exception) -> str:
    return (
        "no format that PIL knows" if isinstance(error, UnidentifiedImageError) else f"{type(error).__name__}: {error}"
    )


def _open(picture: pathlib.Path | str | bytes, region: Region | None) -> Image.Image:
    """The picture or its region, loaded whole, upright, RGB; alpha is dropped, as by torchvision's loader."""
    with Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture) as image:
        image.load()
        upright = _UPRIGHT.get(_orientation(image))  # of the file: an image made of its pixels has none
        if image.mode.startswith("I"):  # 16 bit greys, which convert() would clip at 255
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        if image.mode == "P" and "transparency" in image.info:  # convert("RGB") would warn about every one of them
            image = image.convert("RGBA")
        if upright is not None:
            image = image.transpose(upright)
        return (image if region is None else _cut(image, region)).convert("RGB")


def _cut(image: Image.Image, region: Region) -> Image.Image:
    left, top, right, bottom = map(int, region)
    if not (0 <= left < right <= image.width and 0 <= top < bottom <= image.height):
        raise ValueError(
            f"its region x {left}..{right}, y {top}..{bottom} is not within its {image.width}x{image.height} pixels"
        )
    return image.crop((left, top, right, bottom))


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # broken notes about a picture do not make the picture unreadable
        return 1


def _square(image: Image.Image, spec: Preprocess, fit: str) -> np.ndarray:
    side = stored_size(spec, fit)
    return _resize(image, side, side, spec) if fit == "whole" else _resize_and_crop(image, side, spec)


def _resize_and_crop(image: Image.Image, side: int, spec: Preprocess) -> np.ndarray:
    _check_aspect(image)
    height, width = preprocess.scaled_size(image.height, image.width, side)
    top, left = preprocess.stored_offset(height, spec), preprocess.stored_offset(width, spec)
    return _resize(image, height, width, spec)[top : top + side, left : left + side]


def _check_aspect(image: Image.Image) -> None:
    if max(image.size) > _MAX_ASPECT * min(image.size):
        raise ValueError(f"{image.height}x{image.width} pixels are too elongated to be cropped to a square")


def _resize(image: Image.Image, height: int, width: int, spec: Preprocess) -> np.ndarray:
    if spec.antialias:  # PIL always does
        return np.asarray(image.resize((width, height), _FILTERS[spec.interpolation]))
    columns = preprocess.resize_weights(image.width, width, spec)
    pixels = np.clip(columns @ np.asarray(image, np.float32), 0, 255)
    rows = preprocess.resize_weights(image.height, height, spec)
    pixels = rows @ pixels.reshape(image.height, width * 3)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8).reshape(height, width, 3)
