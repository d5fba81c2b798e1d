"""Images in memory as a `Source` holds them: one array, or paths and encoded images where sizes differ."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jft.data import labels
from jft.data.given import Given, several
from jft.data.source import Source, make_source


def of_array(images: Any) -> np.ndarray:
    """uint8 [n, h, w, 3] of images in color or gray; ValueError says how to make it that."""
    images = np.asarray(images)
    if images.ndim == 3 and images.shape[-1] in (1, 3):
        raise ValueError(
            f"images are {images.dtype} {list(images.shape)}, which could be one in color or several in gray: give "
            "[n, height, width, 3], or several in gray as [n, height, width, 1]."
        )
    return np.asarray(several(images))


def of_pairs(examples: Iterable[tuple[Given, Any]]) -> tuple[np.ndarray | tuple[Any, ...], list[Any]]:
    """Images and labels of pairs: an array where all images are arrays of one size, else paths and bytes."""
    images, labels = [], []
    for number, example in enumerate(examples):
        try:
            image, label = example
        except (TypeError, ValueError):
            raise ValueError(f"example {number} is a {type(example).__name__}: give pairs (image, label).") from None
        images.append(several([image])[0] if isinstance(image, np.ndarray) else image)
        labels.append(label)
    if images and all(isinstance(image, np.ndarray) and image.shape == images[0].shape for image in images):
        return np.stack(images), labels
    return tuple(map(_kept, images)), labels


def alike(parts: Sequence[np.ndarray | tuple[Any, ...]]) -> list[Any]:
    """Parts of a data set, from `of_array` or `of_pairs`, as arrays where all images have one size, else as files."""
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    if len(arrays) == len(parts) and all(part.shape[1:] == arrays[0].shape[1:] for part in arrays):
        return list(parts)
    return [tuple(map(_kept, part)) for part in parts]


def source(images: Any, own: Any, class_names: Sequence[str] | None, name: str) -> Source:
    """A source of images from `of_array` or `of_pairs`; ValueError where labels do not fit."""
    numbers, names = labels.encode(own, class_names)
    if len(numbers) != len(images):
        raise ValueError(f"{name!r} has {len(images)} images and {len(numbers)} labels: give each image its own.")
    return make_source(name, names, images, numbers)


def _kept(image: Given) -> Path | bytes:
    """A file by its path, all else encoded without loss."""
    if isinstance(image, str | Path):
        return Path(image)
    if isinstance(image, bytes):
        return image
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    if not isinstance(image, Image.Image):
        raise ValueError(f"an image is a {type(image).__name__}: give a path, bytes, a PIL image or an array.")
    if image.mode in ("CMYK", "YCbCr", "HSV", "LAB"):  # which PNG has not
        image = image.convert("RGB")
    file = io.BytesIO()
    image.save(file, format="PNG", compress_level=1)
    return file.getvalue()
