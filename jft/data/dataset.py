"""A data set in Python: where its images lie or the images themselves, how they are split, and a look at them."""

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jft.data import datasets, grid, memory, splits
from jft.data.given import Given
from jft.data.source import Source
from jft.data.transforms import Preprocess

_SIDE = 256  # pixels of the longer side of an image that is shown
Part = float | tuple[Any, Any]  # a share or count of the images, or (images, labels) of others


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Labeled images in three splits. Made by the functions of `jft.data`; `train` and `evaluate` take it.

    Attributes:
      fields: fields of a config: dataset, data_dir, validation, seed, classes, ...
      source: the images, where they are in memory; None: `fields` say where they lie.
    """

    fields: Mapping[str, Any]
    source: Source | None = None

    def split(self, name: str) -> Source:
        """One split: 'train', 'validation', 'test' or 'all'; see `datasets.load_source`."""
        dataset = self.fields["dataset"] if self.source is None else self.source
        fields = {"data_dir": "", **self.fields, "dataset": dataset}
        if name == "validation" and (not fields["validation"] or fields["validation"] == "cv"):
            return self.train.take(np.zeros(0, np.int64))
        return datasets.of_config(fields, name)

    @functools.cached_property
    def train(self) -> Source:
        """Training images: `.images`, `.labels` int32 [n] or multi-hot uint8 [n, classes], `.class_names`."""
        return self.split("train")

    @functools.cached_property
    def validation(self) -> Source:
        """Images that choose among checkpoints; empty where `validation=0`."""
        return self.split("validation")

    @functools.cached_property
    def test(self) -> Source:
        """Images that judge the result; without a test split of its own a fifth of the images, whatever the seed."""
        return self.split("test")

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their numbers."""
        return self.train.class_names

    def __len__(self) -> int:
        """Images of all splits."""
        return len(self.split("all"))

    def __repr__(self) -> str:
        names = ", ".join(self.class_names[:5]) + (", ..." if len(self.class_names) > 5 else "")
        counts = f"{len(self.train):,} training and {len(self.validation):,} validation images"
        return f"Dataset({self.train.name!r}: {counts}, {len(self.class_names)} classes: {names})"

    def show(self, count: int = 20, *, split: str = "train", path: str | Path | None = None) -> Image.Image | Path:
        """Draws a grid of images with their labels, of each class as many as of any.

        Args:
          count: images.
          split: of which.
          path: a file to write, .png, .svg or .pdf.

        Returns:
          A PIL image, which a notebook shows by itself; or the path that was written.
        """
        source = getattr(self, split) if split in ("train", "validation", "test") else self.split(split)
        small, captions, title = _sheet(source, split, count)
        if path is None:
            return grid.to_image(small, captions, title=title)
        nothing = [None] * len(small)
        grid.draw(path, small, captions, nothing, nothing, title=title)
        return Path(path)


def sheet(source: Source, split: str, count: int = 20) -> Image.Image:
    """What `Dataset.show` draws of a source that is called `split`, such as 'train'."""
    small, captions, title = _sheet(source, split, count)
    return grid.to_image(small, captions, title=title)


def _sheet(source: Source, split: str, count: int) -> tuple[list[np.ndarray], list[str], str]:
    rows = _spread(source, count)
    small = [_small(source.pixels(row, Preprocess())) for row in rows]
    captions = [source.label(row) or "no label" for row in rows]
    return small, captions, f"{source.name}: {len(rows)} of {len(source):,} {split} images"


def check_given(data: Any) -> None:
    """TypeError unless it is a `Dataset`, a `Source` or None; names the function of `jft.data` that makes one of it."""
    if data is None or isinstance(data, Dataset | Source):
        return
    make = "one of the functions of jft.data, such as from_folder"
    if isinstance(data, str | Path):
        make = f"jft.data.from_{'csv' if str(data).endswith('.csv') else 'folder'}({str(data)!r})"
    elif isinstance(data, tuple) and len(data) == 2:
        make = "jft.data.from_arrays(images, labels)"
    raise TypeError(f"data is of type {type(data).__name__}: pass a data set, made by {make}.")


def _spread(source: Source, count: int) -> list[int]:
    """Rows of a source, of each class as many as of any that has them."""
    if source.multi_label:
        return np.linspace(0, len(source) - 1, min(count, len(source))).round().astype(int).tolist()
    members = [np.flatnonzero(source.labels == number) for number in range(len(source.class_names))]
    numbers = grid.spread([len(own) for own in members], count)
    return np.concatenate([own[:number] for own, number in zip(members, numbers, strict=True)]).tolist()


def _small(pixels: np.ndarray) -> np.ndarray:
    image = Image.fromarray(pixels)
    image.thumbnail((_SIDE, _SIDE))
    return np.asarray(image)


def from_folder(
    path: str | Path,
    *,
    validation: float = 0.1,
    classes: Sequence[str] = (),
    examples_per_class: int = 0,
    skip_unreadable: bool = False,
    seed: int = 0,
) -> Dataset:
    """Images in class folders, `path/daisy/1.jpg`, perhaps below folders `train`, `validation` or `test`.

    Args:
      path: the folder.
      validation: share below 1, or count, of the training images that is held out, stratified; 0: none.
      classes: names of the classes to keep, in this order; (): all.
      examples_per_class: training images of each class to keep, drawn by the seed; 0: all.
      skip_unreadable: leave out images that cannot be read, naming them; False: they are an error.
      seed: decides what is held out, and which few examples are kept.

    Raises:
      FileNotFoundError, ValueError: there is no such folder, or there are no classes in it.
    """
    return _of_files("folder", path, locals())


def from_csv(
    path: str | Path,
    *,
    image_column: str = "",
    label_column: str = "",
    validation: float = 0.1,
    classes: Sequence[str] = (),
    examples_per_class: int = 0,
    skip_unreadable: bool = False,
    seed: int = 0,
) -> Dataset:
    """Images that a CSV file lists, with one label or, between '|', several; a column `split` parts them.

    Args:
      path: the file; paths in it are relative to its folder.
      image_column, label_column: columns of the images' paths and labels; '': ones with usual names.
      validation, classes, examples_per_class, skip_unreadable, seed: see `from_folder`.

    Raises:
      FileNotFoundError, ValueError: there is no such file, or it is no such list; names the row.
    """
    return _of_files("csv", path, locals())


def from_tfds(
    name: str,
    data_dir: str | Path = "",
    *,
    validation: float = 0.1,
    classes: Sequence[str] = (),
    examples_per_class: int = 0,
    skip_unreadable: bool = False,
    seed: int = 0,
) -> Dataset:
    """A data set that a config can name: one of TensorFlow Datasets, or 'digits', 'cifar10' or 'gtsrb'.

    Args:
      name: such as 'oxford_flowers102', which is downloaded if it has to be; 'digits' needs nothing.
      data_dir: where it lies; '': TFDS's own folder.
      validation, classes, examples_per_class, skip_unreadable, seed: see `from_folder`. Validation images are held
        out where the data set has none of its own.

    Raises:
      FileNotFoundError, ValueError: no such data set, or it is neither there nor to be had.
    """
    return _of_files(name, data_dir, locals())


def _of_files(dataset: str, data_dir: str | Path, given: Mapping[str, Any]) -> Dataset:
    fields = {key: value for key, value in given.items() if key not in ("path", "name", "data_dir")}
    fields |= {"dataset": dataset, "data_dir": str(data_dir), "classes": tuple(given["classes"])}
    datasets.official_splits(fields, fields["data_dir"])  # what is not there is said here
    return Dataset(fields)


def from_arrays(
    images: Any,
    labels: Any,
    *,
    class_names: Sequence[str] | None = None,
    validation: Part = 0.1,
    test: Part | None = None,
    seed: int = 0,
    name: str = "arrays",
) -> Dataset:
    """Images in an array.

    Args:
      images: uint8 [n, h, w, 3], RGB, 0 .. 255; or gray, [n, h, w] or [n, h, w, 1].
      labels: n names or numbers of classes; or n tuples of them, or multi-hot [n, classes], where an image may have
        several labels (train with `loss="sigmoid"`).
      class_names: of the classes in order; None: the names among the labels, in natural order, or the numbers.
      validation: share below 1, or count, of the training images that is held out, stratified; (images, labels) of
        others; 0: none.
      test: likewise; None: a fifth, the same whatever the seed.
      seed: decides which are held out for validation.
      name: for people.

    Raises:
      ValueError: another type, shape or range; says how to make it what is wanted.
    """
    return _in_memory(memory.of_array(images), labels, class_names, validation, test, seed, name)


def from_iterable(
    examples: Iterable[tuple[Given, Any]],
    *,
    class_names: Sequence[str] | None = None,
    validation: float | Iterable[tuple[Given, Any]] = 0.1,
    test: float | Iterable[tuple[Given, Any]] | None = None,
    seed: int = 0,
    name: str = "iterable",
) -> Dataset:
    """Images of any sizes, read once and kept: files by their paths, all else in memory.

    Args:
      examples: pairs (image, label). An image is a path, the bytes of an encoded one, a PIL image, or an array uint8
        [h, w, 3] or gray, [h, w]. A label is the name or number of a class, or a tuple, list or set of them.
      class_names, seed, name: see `from_arrays`.
      validation, test: see `from_arrays`; or further pairs.

    Raises:
      ValueError: an image or label of another kind.
    """
    images, labels = memory.of_pairs(examples)
    held_out = [
        part if part is None or isinstance(part, int | float) else memory.of_pairs(part) for part in (validation, test)
    ]
    return _in_memory(images, labels, class_names, held_out[0], held_out[1], seed, name)


def _in_memory(
    images: Any, labels: Any, class_names: Sequence[str] | None, validation: Any, test: Any, seed: int, name: str
) -> Dataset:
    given = {"train": (images, labels)}
    for split, part in (("validation", validation), ("test", test)):
        if isinstance(part, tuple):
            given[split] = (memory.of_array(part[0]) if isinstance(part[0], np.ndarray) else part[0], part[1])
    stored = memory.alike([images for images, _ in given.values()])
    official = {}
    for split, images in zip(given, stored, strict=True):
        names = official["train"].class_names if official else class_names
        official[split] = memory.source(images, given[split][1], names, name)
    source = official.pop("train")
    if test is not None and "test" not in official:
        # The split that `load_source` makes, of another size.
        out = splits.stratified(source.labels, test, datasets.TEST_SEED, source.class_names, what="test")
        official["test"], source = source.take(out), source.take(~out)
    fields = {"dataset": "", "seed": seed, "validation": 0.1 if "validation" in official else validation}
    return Dataset(fields, dataclasses.replace(source, official=official))
