"""From an encoded image to pixels on the host: one function for training, evaluation and prediction."""

import os
import pathlib
from collections.abc import Sequence
from concurrent import futures

import numpy as np
import tqdm
from PIL import Image

from jft.data import gray_levels, transforms
from jft.data.image_file import MAX_IMAGE_PIXELS, open_image
from jft.data.transforms import Preprocess, stored_size
from jft.data.transparency import without_alpha

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_MAX_ASPECT = 1024  # of an image to be cropped: resized before that, a line of 100,000 would become 256 x 25,600,000

Region = Sequence[int] | np.ndarray  # x1, y1, x2, y2 in pixels; x2 and y2 are the first ones beyond it

# How to show an image upright, by the value of its EXIF tag Orientation.
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
    encoded: pathlib.Path | str | bytes,
    spec: Preprocess,
    *,
    fit: str,
    name: str = "",
    region: Region | None = None,
    max_pixels: int = MAX_IMAGE_PIXELS,
) -> np.ndarray:
    """Reads an image of a format in `image_file.FORMATS`, in any mode, upright, and makes it a square.

    'crop' makes the shorter side `spec.resize` and cuts the central square out, placed so that `center_crop` on the
    device then cuts exactly what torchvision's Resize(resize), CenterCrop(size) would. 'whole' squashes to `spec.size`.

    Args:
      encoded: path of the file, or its bytes.
      spec: of the weights.
      fit: 'crop' or 'whole'.
      name: what to call the image in an error; empty: its path.
      region: what to cut out of it first; None: all of it.
      max_pixels: the most that it may have.

    Returns:
      uint8 [side, side, 3], RGB, 0 .. 255, where `side = stored_size(spec, fit)`.

    Raises:
      ValueError: it cannot be read as an image, or the region is not within it; names it and says why.
    """
    try:
        with open_image(encoded, max_pixels) as image:  # others wait for the memory until it is small
            return _square(_rgb(image, spec, region), spec, fit)
    except Exception as e:  # PIL's plugins let every kind of error through on broken files
        raise cannot_read(name or _name(encoded), e) from e


def pixels(
    encoded: pathlib.Path | str | bytes,
    spec: Preprocess,
    *,
    name: str = "",
    region: Region | None = None,
    max_pixels: int = MAX_IMAGE_PIXELS,
) -> np.ndarray:
    """An image in its own size, upright: uint8 [h, w, 3], RGB; arguments and errors as of `decode`."""
    try:
        with open_image(encoded, max_pixels) as image:
            return np.asarray(_rgb(image, spec, region))
    except Exception as e:  # as in decode
        raise cannot_read(name or _name(encoded), e) from e


def from_array(image: np.ndarray, spec: Preprocess, *, fit: str) -> np.ndarray:
    """What `decode` would make of a file with these pixels: uint8 [h, w, 3] -> uint8 [side, side, 3].

    Raises:
      ValueError: another type or shape, or too elongated to be cropped.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
        raise ValueError(
            f"an image is {image.dtype} {list(image.shape)}; jft wants uint8 [height, width, 3], RGB, 0..255."
        )
    return _square(Image.fromarray(image), spec, fit)


def from_image(image: Image.Image, spec: Preprocess, *, fit: str) -> np.ndarray:
    """What `decode` would make of the file of an image that PIL has opened: uint8 [side, side, 3]; errors as there."""
    try:
        return _square(_rgb(image, spec, None), spec, fit)
    except Exception as e:  # as in decode
        raise cannot_read(f"a PIL image of mode {image.mode} and size {image.size}", e) from e


def unreadable(
    images: Sequence[pathlib.Path | bytes],
    regions: Sequence[Region] | None = None,
    max_pixels: int = MAX_IMAGE_PIXELS,
) -> dict[int, str]:
    """Tries to read every image, in threads.

    Args:
      images: paths or encoded bytes, n of them.
      regions: what is to be cut out of each, [n, 4]; None: nothing.
      max_pixels: the most that one may have.

    Returns:
      {row: why} of those that `decode` would refuse with either fit, in order; but for those whose gray levels do not
      fit the rest of the data set.
    """

    def reason(row: int) -> str:
        try:
            with open_image(images[row], max_pixels) as image:
                upright = _loaded(image)
                _check_aspect(upright if regions is None else _cut(upright, regions[row]))
        except Exception as e:  # as in decode
            return _reason(e)
        return ""

    with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        work = pool.map(reason, range(len(images)))
        reasons = list(tqdm.tqdm(work, "trying to read", len(images), unit=" images", leave=False, disable=None))
    return {row: why for row, why in enumerate(reasons) if why}


def deep_values(encoded: pathlib.Path | bytes, max_pixels: int) -> np.ndarray | None:
    """Values [h, w] of an image of more than 8 bits, as they are; None of others, and of those that cannot be read."""
    try:
        with open_image(encoded, max_pixels) as image:
            return np.asarray(image) if gray_levels.is_deep(image) else None
    except Exception:  # what cannot be read is told when it is to be decoded
        return None


def cannot_read(name: str, error: Exception) -> ValueError:
    """The error to raise of an image that cannot be read."""
    return ValueError(f"cannot read {name} as an image ({_reason(error)}).")


def _name(image: pathlib.Path | str | bytes) -> str:
    return f"an image of {len(image)} bytes" if isinstance(image, bytes) else str(image)


def _reason(error: Exception) -> str:
    return str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"


def _rgb(image: Image.Image, spec: Preprocess, region: Region | None) -> Image.Image:
    """An opened image or its region, upright, RGB, with the background behind what is transparent."""
    image = gray_levels.to_eight_bits(_loaded(image), spec.max_value)
    return without_alpha(image if region is None else _cut(image, region), spec.background)


def _loaded(image: Image.Image) -> Image.Image:
    """An opened image, decoded and upright."""
    raw_modes = " ".join(str(tile[3]) for tile in getattr(image, "tile", ()))
    image.load()
    gray_levels.check_color_depth(raw_modes, image)
    upright = _UPRIGHT.get(_orientation(image))  # of the file: an image made of its pixels has none
    return image if upright is None else image.transpose(upright)


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
    except Exception:  # broken notes about an image do not make the image unreadable
        return 1


def _square(image: Image.Image, spec: Preprocess, fit: str) -> np.ndarray:
    side = stored_size(spec, fit)
    return _resize(image, side, side, spec) if fit == "whole" else _resize_and_crop(image, side, spec)


def _resize_and_crop(image: Image.Image, side: int, spec: Preprocess) -> np.ndarray:
    _check_aspect(image)
    height, width = transforms.scaled_size(image.height, image.width, side)
    top, left = transforms.stored_offset(height, spec), transforms.stored_offset(width, spec)
    return _resize(image, height, width, spec)[top : top + side, left : left + side]


def _check_aspect(image: Image.Image) -> None:
    if max(image.size) > _MAX_ASPECT * min(image.size):
        raise ValueError(f"{image.height}x{image.width} pixels are too elongated to be cropped to a square")


def _resize(image: Image.Image, height: int, width: int, spec: Preprocess) -> np.ndarray:
    if spec.antialias:  # PIL always does
        return np.asarray(image.resize((width, height), _FILTERS[spec.interpolation]))
    columns = transforms.resize_weights(image.width, width, spec)
    pixels = np.clip(columns @ np.asarray(image, np.float32), 0, 255)
    rows = transforms.resize_weights(image.height, height, spec)
    pixels = rows @ pixels.reshape(image.height, width * 3)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8).reshape(height, width, 3)
