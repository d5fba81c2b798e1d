"""Labelled pictures with random access, from whichever place, and their split into train, validation and test."""

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

import numpy as np

from jft import tree
from jft.data import cifar, folder, named, splits

SPLITS = ("train", "validation", "test", "all")

# Where a dataset has no test split of its own, this share of it is one, the same in every run whatever its seed.
_TEST_SHARE = 0.2
_TEST_SEED = -1


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Labelled pictures, any of which can be had by its row.

    Attributes:
      name: of the dataset, for people.
      class_names: what the labels 0, 1, ... mean.
      labels: int32 [n], 0 .. len(class_names)-1.
      pictures: uint8 [n, h, w, 3] RGB, or n paths of pictures, or n encoded pictures as bytes.
      indices: int64 [n], each example's row in the dataset's own split, before anything was taken out of it.
    """

    name: str
    class_names: tuple[str, ...]
    labels: np.ndarray
    pictures: np.ndarray | tuple[pathlib.Path, ...] | tuple[bytes, ...]
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def decoded(self) -> bool:
        """Whether the pictures are arrays of pixels already."""
        return isinstance(self.pictures, np.ndarray)

    def take(self, rows: np.ndarray) -> "Source":
        """The examples at `rows`: int [k] positions, or bool [n]."""
        rows = np.arange(len(self))[rows]
        pictures = self.pictures[rows] if self.decoded else tuple(self.pictures[row] for row in rows)
        return dataclasses.replace(self, labels=self.labels[rows], pictures=pictures, indices=self.indices[rows])

    def picture_name(self, row: int) -> str:
        """What to call the picture at `row` in an error: its path, or its place in the dataset."""
        picture = self.pictures[row]
        return str(picture) if isinstance(picture, pathlib.Path) else f"picture {self.indices[row]} of {self.name}"

    def fingerprint(self) -> str:
        """Hexadecimal digest of pictures, labels and order; files count by path, size and time, not by content."""
        digest = hashlib.sha256(repr((self.name, self.class_names, len(self))).encode())
        digest.update(np.ascontiguousarray(self.labels))
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


def from_arrays(
    images: np.ndarray, labels: np.ndarray, class_names: Sequence[str] | None = None, name: str = "arrays"
) -> Source:
    """A source of pictures in memory.

    Args:
      images: uint8 [n, h, w, 3], RGB, 0 .. 255.
      labels: integers [n], 0 .. classes-1.
      class_names: what the labels mean; None numbers them.
      name: of the dataset, for people.

    Raises:
      ValueError: another type, shape or range.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(
            f"images of {name!r} are {images.dtype} {list(images.shape)}; jft wants uint8 [n, height, width, 3], RGB, "
            "0..255 (greys: repeat them along the last axis; 0..1: multiply by 255, round, cast)."
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != (len(images),):
        raise ValueError(
            f"labels of {name!r} are {labels.dtype} {list(labels.shape)}; jft wants one integer for each of the "
            f"{len(images)} images."
        )
    if class_names is None:
        class_names = [str(c) for c in range(int(labels.max(initial=0)) + 1)]
    return _source(name, tuple(class_names), images, labels)


def _source(name: str, class_names: tuple[str, ...], pictures: Any, labels: Any) -> Source:
    labels = np.asarray(labels, np.int32)
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(class_names):
        raise ValueError(
            f"labels of {name!r} lie in {labels.min()}..{labels.max()}, but its classes are numbered "
            f"0..{len(class_names) - 1}."
        )
    return Source(name, tuple(class_names), labels, pictures, np.arange(len(labels), dtype=np.int64))


def load_source(
    dataset: str | Source,
    *,
    split: str,
    data_dir: str | None,
    validation: int | float,
    seed: int,
    classes: Sequence[str] = (),
    examples_per_class: int = 0,
) -> Source:
    """One split of a dataset. Test never depends on the seed and never shares a picture with the other two.

    Args:
      dataset: 'cifar10'; 'digits', which needs nothing else; 'folder', a folder of class folders; a name that
        TensorFlow Datasets knows, or 'tfds:NAME'; or a Source, which is split like a dataset without official splits.
      split: 'train', 'validation', 'test', or 'all' that the dataset has, unsplit, as for evaluating on other data.
      data_dir: where the data lie; None or empty is TFDS's own folder.
      validation: share in (0, 1) or count of training pictures to hold out, stratified; 0 for none. Not used where
        the dataset has a validation split of its own.
      seed: decides what is held out, and which few examples are kept.
      classes: names of the classes to keep, relabelled in this order; empty keeps all.
      examples_per_class: training pictures to keep of each class; 0 keeps all.

    Raises:
      ValueError: an unknown dataset, split or class, or too few pictures for what is asked.
      FileNotFoundError: the data are neither there nor to be had; says what to put where.
    """
    tree.choose(dict.fromkeys(SPLITS), split, what="split")
    official = _official_splits(dataset, data_dir)
    if split == "all":
        return _keep(_joined([read() for read in official.values()]), classes)
    if split != "train" and split in official:
        return _keep(official[split](), classes)
    source = _keep(_train_or_test(official, split), classes)
    if split != "test" and "validation" not in official:
        held_out = splits.stratified(source.labels, validation, seed, source.class_names)
        source = source.take(held_out if split == "validation" else ~held_out)
    if not len(source):
        raise ValueError(f"{source.name!r} has no {split} pictures (validation = {validation}).")
    if split == "train" and examples_per_class:
        source = source.take(splits.few_per_class(source.labels, examples_per_class, seed, source.class_names))
    return source


def _train_or_test(official: dict[str, Callable[[], Source]], split: str) -> Source:
    """The training split, parted into what is test and what is not where the dataset does not do so itself."""
    if "train" not in official:
        raise ValueError(f"the data have no train split, only {', '.join(official)}.")
    source = official["train"]()
    if "test" in official:
        return source
    test = splits.stratified(source.labels, _TEST_SHARE, _TEST_SEED, source.class_names)
    return source.take(test if split == "test" else ~test)


def _official_splits(dataset: str | Source, data_dir: str | None) -> dict[str, Callable[[], Source]]:
    """The splits that the dataset comes with, by name, in the order train, validation, test; read when called."""
    if isinstance(dataset, Source):
        return {"train": lambda: dataset}
    if dataset == "digits":
        class_names, readers = _digits()
    elif dataset == "folder":
        class_names, readers = folder.find(data_dir)
    elif dataset == "cifar10":
        class_names, readers = cifar.find(data_dir) or named.find(
            "cifar10", data_dir, url=cifar.URL, remedy=cifar.REMEDY
        )
    else:
        class_names, readers = named.find(dataset.removeprefix("tfds:"), data_dir)
    return {
        split: functools.partial(_read, dataset, class_names, readers[split]) for split in SPLITS if split in readers
    }


def _read(name: str, class_names: tuple[str, ...], reader: Callable[[], tuple[Any, Any]]) -> Source:
    return _source(name, class_names, *reader())


def _digits() -> tuple[tuple[str, ...], dict[str, Callable[[], tuple[Any, Any]]]]:
    """The 1,797 handwritten digits, 8x8, that come with jft: E. Alpaydin, C. Kaynak, UCI (1998), CC BY 4.0.

    https://archive.ics.uci.edu/dataset/80, as in scikit-learn's load_digits; made by scripts/make_digits.py.
    """

    def read() -> tuple[np.ndarray, np.ndarray]:
        with resources.files("jft.data").joinpath("digits.npz").open("rb") as file, np.load(file) as arrays:
            greys = np.rint(arrays["images"] * (255 / 16)).astype(np.uint8)  # 0 .. 16 as scanned
            return np.repeat(greys[..., None], 3, axis=-1), arrays["labels"]

    return tuple("0123456789"), {"train": read}


def _keep(source: Source, classes: Sequence[str]) -> Source:
    """Only the classes of these names, relabelled 0, 1, ... in this order."""
    if not classes:
        return source
    numbers = {name: label for label, name in enumerate(source.class_names)}
    chosen = [tree.choose(numbers, name, what=f"class of {source.name}") for name in classes]
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"classes names a class twice: {', '.join(classes)}.")
    relabel = np.full(len(source.class_names), -1, np.int32)
    relabel[chosen] = np.arange(len(chosen))
    kept = source.take(relabel[source.labels] >= 0)
    return dataclasses.replace(kept, class_names=tuple(classes), labels=relabel[kept.labels])


def _joined(parts: list[Source]) -> Source:
    first = parts[0]
    if len(parts) == 1:
        return first
    decoded = all(part.decoded for part in parts)
    pictures = np.concatenate([p.pictures for p in parts]) if decoded else sum((p.pictures for p in parts), ())
    return _source(first.name, first.class_names, pictures, np.concatenate([p.labels for p in parts]))
