"""`Source`: labeled images with random access."""

import contextlib
import dataclasses
import functools
import hashlib
import pathlib
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jft.data import decode, gray_levels, stratify
from jft.data.image_file import MAX_IMAGE_PIXELS
from jft.data.names import normal
from jft.data.notes import report
from jft.data.transforms import Preprocess
from jft.utils import tree

_SAMPLE = 256  # images sampled to find the range of their gray levels


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Labeled images with random access by row.

    Attributes:
      name: name of the dataset, used in messages.
      class_names: names of the labels 0, 1, ...
      labels: single-label int32 [n], 0 .. len(class_names)-1; or multi-label, multi-hot uint8 [n, classes].
      images: uint8 [n, h, w, 3] RGB, or n paths of image files, or n encoded images as bytes.
      indices: int64 [n], each example's row in the dataset's official split, before any subset was taken.
      groups: int64 [n], the images of a group always stay in the same split, for example the frames of one GTSRB
        track; None: every image is a group of its own.
      regions: int32 [n, 4], x1, y1, x2, y2 in pixels, x2 and y2 exclusive: the region to crop from each image file
        when it is decoded (arrays are never cropped); None: use the whole images.
      official: splits that come with these training images, 'validation' or 'test'; {}: they are taken from these.
      max_image_pixels: limit on width times height of an image file; a larger image counts as unreadable.
    """

    name: str
    class_names: tuple[str, ...]
    labels: np.ndarray
    images: np.ndarray | tuple[pathlib.Path, ...] | tuple[bytes, ...]
    indices: np.ndarray
    groups: np.ndarray | None = None
    regions: np.ndarray | None = None
    max_image_pixels: int = MAX_IMAGE_PIXELS
    official: Mapping[str, "Source"] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def decoded(self) -> bool:
        """Whether the images are already arrays of pixels."""
        return isinstance(self.images, np.ndarray)

    @property
    def in_memory(self) -> np.ndarray:
        """The images that are arrays of pixels: uint8 [n, h, w, 3]; see `decoded`."""
        assert isinstance(self.images, np.ndarray)
        return self.images

    @property
    def encoded(self) -> tuple[pathlib.Path, ...] | tuple[bytes, ...]:
        """The images that are files, or what such files hold; see `decoded`."""
        assert not isinstance(self.images, np.ndarray)
        return self.images

    @property
    def multi_label(self) -> bool:
        """Whether an image can have any number of labels, including none."""
        return self.labels.ndim == 2

    def take(self, rows: np.ndarray) -> "Source":
        """The subset of examples at `rows`: int [k] positions, or a bool mask [n]."""
        rows = np.arange(len(self))[rows]
        images = self.images[rows] if self.decoded else tuple(self.images[row] for row in rows)
        arrays = {name: getattr(self, name) for name in ("labels", "indices", "groups", "regions")}
        taken = {name: None if array is None else array[rows] for name, array in arrays.items()}
        return dataclasses.replace(self, images=images, official={}, **taken)

    def image_name(self, row: int) -> str:
        """The name of the image at `row` for messages: its path, or its index in the dataset."""
        image = self.images[row]
        return str(image) if isinstance(image, pathlib.Path) else f"image {self.indices[row]} of {self.name}"

    def names_crc(self) -> int:
        """CRC-32 of all file names, each with its parent folder's name, in order; 0 for images in memory.

        The location of the dataset does not count, so a moved folder keeps its checksum.
        """
        crc = 0
        for image in self.images if not self.decoded else ():
            if isinstance(image, pathlib.Path):
                crc = zlib.crc32(f"{image.parent.name}/{image.name}\n".encode("utf-8", "surrogateescape"), crc)
        return crc

    def nbytes(self) -> int:
        """Total size in bytes of the files, or of the images in memory; a missing file counts as 0."""
        if self.decoded:
            return self.in_memory.nbytes
        total = 0
        for image in self.images:
            with contextlib.suppress(OSError):
                total += image.stat().st_size if isinstance(image, pathlib.Path) else len(image)
        return total

    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 of images, regions, labels and order; files enter by path, size and modification time."""
        digest = hashlib.sha256(repr((self.name, self.class_names, len(self))).encode())
        digest.update(np.ascontiguousarray(self.labels))
        if self.regions is not None:
            digest.update(np.ascontiguousarray(self.regions))
        if self.decoded:
            digest.update(repr(self.in_memory.shape).encode())
            digest.update(np.ascontiguousarray(self.images))
            return digest.hexdigest()
        for image in self.images:
            if isinstance(image, pathlib.Path):
                try:
                    stat = image.stat()
                    about = stat.st_size, stat.st_mtime_ns
                except OSError:  # missing, or a broken link: reading the image will raise the error
                    about = ()
                image = repr((str(image), *about)).encode()
            digest.update(len(image).to_bytes(8))
            digest.update(image)
        return digest.hexdigest()

    def pixels(self, row: int, spec: Preprocess) -> np.ndarray:
        """The whole image, or its region, upright and at full size: uint8 [h, w, 3]; ValueError if unreadable."""
        if self.decoded:
            return self.in_memory[row]
        return decode.pixels(self.encoded[row], self.ranged(spec), **self._how(row))

    def square(self, row: int, spec: Preprocess, fit: str) -> np.ndarray:
        """The image, fitted to a square by `decode.decode`: uint8 [side, side, 3]; ValueError if unreadable."""
        return decode.decode(self.images[row], self.ranged(spec), fit=fit, **self._how(row))

    def ranged(self, spec: Preprocess) -> Preprocess:
        """`spec` with `max_value` filled in from these images if it is 0; ValueError where it cannot be determined."""
        return spec if spec.max_value else dataclasses.replace(spec, max_value=self.white)

    @functools.cached_property
    def white(self) -> float:
        """The value of white in images of more than 8 bits, found in a sample by `gray_levels.find_white`.

        Used where `Preprocess.max_value` is 0. 0.0 where there are no such images.

        Raises:
          ValueError: the values fit no usual range.
        """
        if self.decoded or not len(self):
            return 0.0
        rows = np.unique(np.linspace(0, len(self) - 1, _SAMPLE).round().astype(int))
        deep = (decode.deep_values(self.encoded[row], self.max_image_pixels) for row in rows)
        try:
            white = gray_levels.find_white(values for values in deep if values is not None)
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from error
        if white:
            report(
                f"{self.name}: images of more than 8 bits are read as 0 .. {white:g}, judging by {len(rows)} of "
                f"{len(self)} images; set max_value in the config for another range."
            )
        return white

    def _how(self, row: int) -> dict[str, Any]:
        region = None if self.regions is None else self.regions[row]
        return {"name": self.image_name(row), "region": region, "max_pixels": self.max_image_pixels}

    def label(self, row: int) -> str:
        """The image's class name; several names are joined by ' | '; '' if it has no label."""
        labels = np.flatnonzero(self.labels[row]) if self.multi_label else [self.labels[row]]
        return " | ".join(self.class_names[label] for label in labels)

    def counts(self) -> np.ndarray:
        """Number of images of each class: int [classes]."""
        return stratify.counts(self.labels, len(self.class_names))


def make_source(
    name: str,
    class_names: tuple[str, ...],
    images: Any,
    labels: Any,
    groups: np.ndarray | None = None,
    regions: np.ndarray | None = None,
) -> Source:
    """A source of a whole split, whose labels are checked against its classes; arguments as of `Source`."""
    labels, class_names = np.asarray(labels), tuple(map(normal, class_names))
    if labels.ndim == 2:
        if labels.shape[1] != len(class_names) or not np.isin(labels, (0, 1)).all():
            raise ValueError(
                f"labels of {name!r} are {list(labels.shape)} from {labels.min(initial=0)} to {labels.max(initial=0)}; "
                f"multi-label data need a row of zeros and ones for each image, one for each of {len(class_names)} "
                "classes."
            )
        indices = np.arange(len(labels), dtype=np.int64)
        return Source(name, class_names, labels.astype(np.uint8), images, indices, groups, regions)
    labels = labels.astype(np.int32)
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(class_names):
        raise ValueError(
            f"labels of {name!r} lie in {labels.min()}..{labels.max()}, but it has {len(class_names)} "
            f"classes, numbered 0..{len(class_names) - 1}. Name every class that the labels hold."
        )
    indices = np.arange(len(labels), dtype=np.int64)
    return Source(name, class_names, labels, images, indices, groups, regions)


def of_classes(source: Source, classes: Sequence[str]) -> Source:
    """The images of the classes of these names, relabeled 0, 1, ... in this order."""
    if not classes:
        return source
    classes = tuple(map(normal, classes))
    numbers = {name: label for label, name in enumerate(source.class_names)}
    chosen = [tree.choose(numbers, name, what=f"class of {source.name}") for name in classes]
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"classes names a class twice: {', '.join(classes)}.")
    if source.multi_label:
        labels = np.ascontiguousarray(source.labels[:, chosen])
        labeled = np.asarray(labels.any(axis=1))
        return dataclasses.replace(source.take(labeled), class_names=classes, labels=labels[labeled])
    relabel = np.full(len(source.class_names), -1, np.int32)
    relabel[chosen] = np.arange(len(chosen))
    kept = source.take(relabel[source.labels] >= 0)
    return dataclasses.replace(kept, class_names=classes, labels=relabel[kept.labels])


def joined(parts: list[Source]) -> Source:
    """The examples of several splits of one dataset, one after the other."""
    first = parts[0]
    if len(parts) == 1:
        return first
    decoded = all(part.decoded for part in parts)
    images = np.concatenate([p.in_memory for p in parts]) if decoded else sum((p.encoded for p in parts), ())
    labels, groups, regions = (
        None if getattr(first, name) is None else np.concatenate([getattr(part, name) for part in parts])
        for name in ("labels", "groups", "regions")
    )
    return make_source(first.name, first.class_names, images, labels, groups, regions)
