"""Decodes images on the host, the same way for training, evaluation and prediction."""

import os
import pathlib
from collections.abc import Sequence
from concurrent import futures

import numpy as np
from PIL import Image

from jft.data import gray_levels, transforms
from jft.data.image_file import MAX_IMAGE_PIXELS, TooManyPixelsError, open_image
from jft.data.transforms import Preprocess, stored_size
from jft.data.transparency import without_alpha
from jft.utils.progress_bar import ProgressBar

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_MAX_ASPECT = 1024  # of an image to crop: it is resized first, and 100,000 x 1 pixels would become 25,600,000 x 256

Region = Sequence[int] | np.ndarray  # x1, y1, x2, y2 in pixels; x2 and y2 are exclusive

# The transposition that makes an image upright, by the value of its EXIF tag Orientation.
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
    """Reads an image, makes it upright and fits it to a square.

    'crop' resizes the shorter side to `spec.resize` and crops the central square, placed so that `center_crop` on the
    device then gives exactly the pixels of torchvision's Resize(resize), CenterCrop(size). 'whole' resizes the whole
    image to `spec.size`, ignoring its aspect ratio.

    Args:
      encoded: path of the file, or its bytes, in a format of `image_file.FORMATS` and any mode.
      spec: preprocessing of the weights.
      fit: 'crop' or 'whole'.
      name: name of the image in errors; empty: its path.
      region: region to crop first; None: the whole image.
      max_pixels: limit on width times height.

    Returns:
      uint8 [side, side, 3], RGB, 0 .. 255, where `side = stored_size(spec, fit)`.

    Raises:
      ValueError: the image is unreadable, or the region is not within it; the message has its name and the reason.
    """
    try:
        with open_image(encoded, max_pixels) as image:  # holds its share of memory until it is resized
            return _square(_rgb(image, spec, region), spec, fit)
    except Exception as e:  # PIL's plugins raise all kinds of errors on broken files
        raise cannot_read(name or _name(encoded), e) from e


def pixels(
    encoded: pathlib.Path | str | bytes,
    spec: Preprocess,
    *,
    name: str = "",
    region: Region | None = None,
    max_pixels: int = MAX_IMAGE_PIXELS,
) -> np.ndarray:
    """Reads an image at full size and makes it upright.

    Args:
      encoded: path of the file, or its bytes.
      spec: preprocessing of the weights; only `background` and `max_value` are used.
      name: name of the image in errors; empty: its path.
      region: region to crop; None: the whole image.
      max_pixels: limit on width times height.

    Returns:
      uint8 [h, w, 3], RGB, 0 .. 255.

    Raises:
      ValueError: the image is unreadable, or the region is not within it.
    """
    try:
        with open_image(encoded, max_pixels) as image:
            return np.asarray(_rgb(image, spec, region))
    except Exception as e:  # as in decode
        raise cannot_read(name or _name(encoded), e) from e


def from_array(image: np.ndarray, spec: Preprocess, *, fit: str) -> np.ndarray:
    """Fits an array to a square, as `decode` does for a file with these pixels.

    Args:
      image: uint8 [h, w, 3], RGB, 0 .. 255.
      spec: preprocessing of the weights.
      fit: 'crop' or 'whole'.

    Returns:
      uint8 [side, side, 3], where `side = stored_size(spec, fit)`.

    Raises:
      ValueError: another type or shape, or an image too elongated to crop.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
        raise ValueError(
            f"an image is {image.dtype} {list(image.shape)}; jft needs uint8 [height, width, 3], RGB, 0..255."
        )
    return _square(Image.fromarray(image), spec, fit)


def from_image(image: Image.Image, spec: Preprocess, *, fit: str) -> np.ndarray:
    """Fits an opened PIL image to a square, as `decode` does for its file: uint8 [side, side, 3]; same errors."""
    try:
        return _square(_rgb(image, spec, None), spec, fit)
    except Exception as e:  # as in decode
        raise cannot_read(f"a PIL image of mode {image.mode} and size {image.size}", e) from e


def unreadable(
    images: Sequence[pathlib.Path | bytes],
    regions: Sequence[Region] | np.ndarray | None = None,
    max_pixels: int = MAX_IMAGE_PIXELS,
) -> dict[int, str]:
    """Tries to read every image, in threads.

    Args:
      images: n paths, or n encoded images as bytes.
      regions: region of each image, [n, 4]; None: whole images.
      max_pixels: limit on width times height of an image.

    Returns:
      {row: reason} of the images that `decode` would refuse, in order. Images refused only for gray levels beyond
      those of the rest of the data set are not included.
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
        reasons = list(ProgressBar(work, "trying to read", len(images), unit=" images", leave=False, disable=None))
    return {row: why for row, why in enumerate(reasons) if why}


def deep_values(encoded: pathlib.Path | bytes, max_pixels: int) -> np.ndarray | None:
    """Raw values [h, w] of an image of more than 8 bits; None for other images and unreadable ones."""
    try:
        with open_image(encoded, max_pixels) as image:
            return np.asarray(image) if gray_levels.is_deep(image) else None
    except Exception:  # decoding reports unreadable images later
        return None


def cannot_read(name: str, error: Exception) -> ValueError:
    """The error to raise for an unreadable image."""
    return ValueError(f"cannot read {name} as an image ({_reason(error)}).")


def _name(image: pathlib.Path | str | bytes) -> str:
    return f"an image of {len(image)} bytes" if isinstance(image, bytes) else str(image)


def _reason(error: Exception) -> str:
    return str(error) if type(error) in (ValueError, TooManyPixelsError) else f"{type(error).__name__}: {error}"


def _rgb(image: Image.Image, spec: Preprocess, region: Region | None) -> Image.Image:
    """An opened image or its region, upright, as RGB, with the background behind transparent pixels."""
    image = gray_levels.to_eight_bits(_loaded(image), spec.max_value)
    return without_alpha(image if region is None else _cut(image, region), spec.background)


def _loaded(image: Image.Image) -> Image.Image:
    """An opened image, decoded and upright."""
    raw_modes = " ".join(str(tile[3]) for tile in getattr(image, "tile", ()))
    image.load()
    gray_levels.check_color_depth(raw_modes, image)
    upright = turn(image)  # read now: images derived from this one lose the EXIF tag
    return image if upright is None else image.transpose(upright)


def _cut(image: Image.Image, region: Region) -> Image.Image:
    left, top, right, bottom = map(int, region)
    if not (0 <= left < right <= image.width and 0 <= top < bottom <= image.height):
        raise ValueError(
            f"its region x {left}..{right}, y {top}..{bottom} is not within its {image.width}x{image.height} pixels"
        )
    return image.crop((left, top, right, bottom))


def turn(image: Image.Image) -> Image.Transpose | None:
    """What makes an opened image upright, by its EXIF tag Orientation; None: it is."""
    try:
        return _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # broken metadata does not make an image unreadable
        return None


def _square(image: Image.Image, spec: Preprocess, fit: str) -> np.ndarray:
    side = stored_size(spec, fit)
    return _resize(image, side, side, spec) if fit == "whole" else _resize_and_crop(image, side, spec)


def _resize_and_crop(image: Image.Image, side: int, spec: Preprocess) -> np.ndarray:
    _check_aspect(image)
    height, width = transforms.scaled_size(image.height, image.width, side)
    top, left = transforms.stored_offset(height, spec), transforms.stored_offset(width, spec)
    return _resize(image, height, width, spec, (left, top, left + side, top + side))


def _check_aspect(image: Image.Image) -> None:
    if max(image.size) > _MAX_ASPECT * min(image.size):
        raise ValueError(f"{image.height}x{image.width} pixels are too elongated to be cropped to a square")


def _resize(
    image: Image.Image, height: int, width: int, spec: Preprocess, box: tuple[int, int, int, int] | None = None
) -> np.ndarray:
    """Resizes to height and width, and cuts out a box (left, top, right, bottom) if there is one."""
    if spec.antialias:  # PIL always does
        resized = image.resize((width, height), _FILTERS[spec.interpolation])
        return np.asarray(resized if box is None else resized.crop(box))
    columns = transforms.resize_weights(image.width, width, spec)
    pixels = np.clip(columns @ np.asarray(image, np.float32), 0, 255)
    rows = transforms.resize_weights(image.height, height, spec)
    pixels = rows @ pixels.reshape(image.height, width * 3)
    pixels = np.clip(np.rint(pixels), 0, 255).astype(np.uint8).reshape(height, width, 3)
    left, top, right, bottom = box or (0, 0, width, height)
    return pixels[top:bottom, left:right]
