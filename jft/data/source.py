"""Labeled images with random access."""

import contextlib
import dataclasses
import functools
import hashlib
import pathlib
import zlib
from typing import Any

import numpy as np

from jft.data import decode, gray_levels, stratify
from jft.data.image_file import MAX_IMAGE_PIXELS
from jft.data.notes import report
from jft.data.transforms import Preprocess

_LOOKED_AT = 256  # images by which the range of their values is found


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Labeled images, any of which can be had by its row.

    Attributes:
      name: of the dataset, for people.
      class_names: what the labels 0, 1, ... mean.
      labels: int32 [n], 0 .. len(class_names)-1; or, where images have several, multi-hot uint8 [n, classes].
      images: uint8 [n, h, w, 3] RGB, or n paths of images, or n encoded images as bytes.
      indices: int64 [n], each example's row in the dataset's own split, before anything was taken out of it.
      groups: int64 [n], images of one group are never parted by a split of jft's, such as the frames of one GTSRB
        track; None: each is its own.
      regions: int32 [n, 4], x1, y1, x2, y2 in pixels, x2 and y2 exclusive: what is cut out of each image when it is
        decoded, of those that are arrays already nothing; None: all of it is used.
      max_image_pixels: the most that an image in a file may have; one that has more cannot be read.
    """

    name: str
    class_names: tuple[str, ...]
    labels: np.ndarray
    images: np.ndarray | tuple[pathlib.Path, ...] | tuple[bytes, ...]
    indices: np.ndarray
    groups: np.ndarray | None = None
    regions: np.ndarray | None = None
    max_image_pixels: int = MAX_IMAGE_PIXELS

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def decoded(self) -> bool:
        """Whether the images are arrays of pixels already."""
        return isinstance(self.images, np.ndarray)

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels, or none."""
        return self.labels.ndim == 2

    def take(self, rows: np.ndarray) -> "Source":
        """The examples at `rows`: int [k] positions, or bool [n]."""
        rows = np.arange(len(self))[rows]
        images = self.images[rows] if self.decoded else tuple(self.images[row] for row in rows)
        arrays = {name: getattr(self, name) for name in ("labels", "indices", "groups", "regions")}
        taken = {name: None if array is None else array[rows] for name, array in arrays.items()}
        return dataclasses.replace(self, images=images, **taken)

    def image_name(self, row: int) -> str:
        """What to call the image at `row` in an error: its path, or its place in the dataset."""
        image = self.images[row]
        return str(image) if isinstance(image, pathlib.Path) else f"image {self.indices[row]} of {self.name}"

    def names_crc(self) -> int:
        """CRC-32 of the files' names and folders' names, in order, wherever they lie; of images in memory 0."""
        crc = 0
        for image in self.images if not self.decoded else ():
            if isinstance(image, pathlib.Path):
                crc = zlib.crc32(f"{image.parent.name}/{image.name}\n".encode("utf-8", "surrogateescape"), crc)
        return crc

    def nbytes(self) -> int:
        """Bytes of all files, or of all images in memory; a file that is not there counts as empty."""
        if self.decoded:
            return self.images.nbytes
        total = 0
        for image in self.images:
            with contextlib.suppress(OSError):
                total += image.stat().st_size if isinstance(image, pathlib.Path) else len(image)
        return total

    def fingerprint(self) -> str:
        """Hexadecimal digest of images, regions, labels and order; files count by path, size and time."""
        digest = hashlib.sha256(repr((self.name, self.class_names, len(self))).encode())
        digest.update(np.ascontiguousarray(self.labels))
        if self.regions is not None:
            digest.update(np.ascontiguousarray(self.regions))
        if self.decoded:
            digest.update(repr(self.images.shape).encode())
            digest.update(np.ascontiguousarray(self.images))
            return digest.hexdigest()
        for image in self.images:
            if isinstance(image, pathlib.Path):
                try:
                    stat = image.stat()
                    about = stat.st_size, stat.st_mtime_ns
                except OSError:  # gone, or a link that leads nowhere: told when it is to be read
                    about = ()
                image = repr((str(image), *about)).encode()
            digest.update(len(image).to_bytes(8))
            digest.update(image)
        return digest.hexdigest()

    def pixels(self, row: int, spec: Preprocess) -> np.ndarray:
        """An image in full, upright, or its region: uint8 [h, w, 3]; ValueError if it cannot be read."""
        if self.decoded:
            return self.images[row]
        return decode.pixels(self.images[row], self.ranged(spec), **self._how(row))

    def square(self, row: int, spec: Preprocess, fit: str) -> np.ndarray:
        """What `decode.decode` makes of a file: uint8 [side, side, 3]; ValueError if it cannot be read."""
        return decode.decode(self.images[row], self.ranged(spec), fit=fit, **self._how(row))

    def ranged(self, spec: Preprocess) -> Preprocess:
        """A spec with the `max_value` of these images where it has none; ValueError where it cannot be told."""
        return spec if spec.max_value else dataclasses.replace(spec, max_value=self.white)

    @functools.cached_property
    def white(self) -> float:
        """Which value is white in images of more than 8 bits, see `gray_levels.find_white`; found in a sample of them.

        It is that of a spec whose `max_value` is 0. ValueError where it cannot be told.
        """
        if self.decoded or not len(self):
            return 0.0
        rows = np.unique(np.linspace(0, len(self) - 1, _LOOKED_AT).round().astype(int))
        deep = (decode.deep_values(self.images[row], self.max_image_pixels) for row in rows)
        try:
            white = gray_levels.find_white(values for values in deep if values is not None)
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from error
        if white:
            report(
                f"{self.name}: images of more than 8 bits are read as 0 .. {white:g}, by the values of {len(rows)} of "
                f"{len(self)}; max_value in the config says another range."
            )
        return white

    def _how(self, row: int) -> dict[str, Any]:
        region = None if self.regions is None else self.regions[row]
        return {"name": self.image_name(row), "region": region, "max_pixels": self.max_image_pixels}

    def label(self, row: int) -> str:
        """The name of an image's class; of several ' | ' between them; '' where it has none."""
        own = np.flatnonzero(self.labels[row]) if self.multi_label else [self.labels[row]]
        return " | ".join(self.class_names[c] for c in own)

    def counts(self) -> np.ndarray:
        """Images of each class: int [classes]."""
        return stratify.counts(self.labels, len(self.class_names))
