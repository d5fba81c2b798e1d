"""Labelled pictures with random access."""

import dataclasses
import hashlib
import pathlib
import zlib

import numpy as np

from jft.data import decode, units


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Labelled pictures, any of which can be had by its row.

    Attributes:
      name: of the dataset, for people.
      class_names: what the labels 0, 1, ... mean.
      labels: int32 [n], 0 .. len(class_names)-1; or, where pictures have several, multi-hot uint8 [n, classes].
      pictures: uint8 [n, h, w, 3] RGB, or n paths of pictures, or n encoded pictures as bytes.
      indices: int64 [n], each example's row in the dataset's own split, before anything was taken out of it.
      groups: int64 [n], pictures of one group are never parted by a split of jft's, such as the frames of one GTSRB
        track; None: each is its own.
      regions: int32 [n, 4], x1, y1, x2, y2 in pixels, x2 and y2 exclusive: what is cut out of each picture when it is
        decoded, of those that are arrays already nothing; None: all of it is used.
    """

    name: str
    class_names: tuple[str, ...]
    labels: np.ndarray
    pictures: np.ndarray | tuple[pathlib.Path, ...] | tuple[bytes, ...]
    indices: np.ndarray
    groups: np.ndarray | None = None
    regions: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def decoded(self) -> bool:
        """Whether the pictures are arrays of pixels already."""
        return isinstance(self.pictures, np.ndarray)

    @property
    def multi_label(self) -> bool:
        """Whether a picture may have several labels, or none."""
        return self.labels.ndim == 2

    def take(self, rows: np.ndarray) -> "Source":
        """The examples at `rows`: int [k] positions, or bool [n]."""
        rows = np.arange(len(self))[rows]
        pictures = self.pictures[rows] if self.decoded else tuple(self.pictures[row] for row in rows)
        arrays = {name: getattr(self, name) for name in ("labels", "indices", "groups", "regions")}
        taken = {name: None if array is None else array[rows] for name, array in arrays.items()}
        return dataclasses.replace(self, pictures=pictures, **taken)

    def picture_name(self, row: int) -> str:
        """What to call the picture at `row` in an error: its path, or its place in the dataset."""
        picture = self.pictures[row]
        return str(picture) if isinstance(picture, pathlib.Path) else f"picture {self.indices[row]} of {self.name}"

    def names_crc(self) -> int:
        """CRC-32 of the files' names and folders' names, in order, wherever they lie; of pictures in memory 0."""
        crc = 0
        for picture in self.pictures if not self.decoded else ():
            if isinstance(picture, pathlib.Path):
                crc = zlib.crc32(f"{picture.parent.name}/{picture.name}\n".encode("utf-8", "surrogateescape"), crc)
        return crc

    def fingerprint(self) -> str:
        """Hexadecimal digest of pictures, regions, labels and order; files count by path, size and time."""
        digest = hashlib.sha256(repr((self.name, self.class_names, len(self))).encode())
        digest.update(np.ascontiguousarray(self.labels))
        if self.regions is not None:
            digest.update(np.ascontiguousarray(self.regions))
        if self.decoded:
            digest.update(repr(self.pictures.shape).encode())
            digest.update(np.ascontiguousarray(self.pictures))
            return digest.hexdigest()
        for picture in self.pictures:
            if isinstance(picture, pathlib.Path):
                stat = picture.stat()
                picture = repr((str(picture), stat.st_size, stat.st_mtime_ns)).encode()
            digest.update(len(picture).to_bytes(8))
            digest.update(picture)
        return digest.hexdigest()

    def pixels(self, row: int) -> np.ndarray:
        """A picture in full, upright, or its region: uint8 [h, w, 3]; ValueError if it cannot be read."""
        if self.decoded:
            return self.pictures[row]
        region = None if self.regions is None else self.regions[row]
        return decode.pixels(self.pictures[row], name=self.picture_name(row), region=region)

    def label(self, row: int) -> str:
        """The name of a picture's class; of several ' | ' between them; '' where it has none."""
        own = np.flatnonzero(self.labels[row]) if self.multi_label else [self.labels[row]]
        return " | ".join(self.class_names[c] for c in own)

    def counts(self) -> np.ndarray:
        """Pictures of each class: int [classes]."""
        return units.counts(self.labels, len(self.class_names))
