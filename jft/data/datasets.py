"""Labeled images from whichever place, and their split into train, validation and test."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jft.data import cifar, csv_file, decode, digits, folder, gtsrb, splits, tfds
from jft.data.image_file import MAX_IMAGE_PIXELS
from jft.data.names import normal
from jft.data.notes import report
from jft.data.source import Source
from jft.utils import tree
from jft.utils.text import terminal

SPLITS = ("train", "validation", "test", "all")

# Datasets that are files of the user's own, which come and go; what the others are, their name says.
OF_FILES = ("folder", "csv", "gtsrb")

# Where a dataset has no test split of its own, this share of it is one, the same in every run whatever its seed.
_TEST_SHARE = 0.2
_TEST_SEED = -1

_SAMPLE_SEED = 0

# Further arguments of `load_source` that are fields of a config by the same names.
_FIELDS = (
    *("validation", "seed", "classes", "examples_per_class", "region_of_interest", "skip_unreadable"),
    *("image_column", "label_column", "max_image_pixels"),
)

# What was found to be unreadable, by the fingerprint of its source: {row: why}. A run loads its data twice.
_unreadable: dict[str, dict[int, str]] = {}


def from_arrays(
    images: np.ndarray, labels: np.ndarray, class_names: Sequence[str] | None = None, name: str = "arrays"
) -> Source:
    """A source of images in memory.

    Args:
      images: uint8 [n, h, w, 3], RGB, 0 .. 255.
      labels: integers [n], 0 .. classes-1; or, for images with several labels, multi-hot 0 or 1 [n, classes].
      class_names: what the labels mean; None numbers them.
      name: of the dataset, for people.

    Raises:
      ValueError: another type, shape or range.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(
            f"images of {name!r} are {images.dtype} {list(images.shape)}; jft wants uint8 [n, height, width, 3], RGB, "
            "0..255 (grays: repeat them along the last axis; 0..1: multiply by 255, round, cast)."
        )
    whole = np.issubdtype(labels.dtype, np.integer) or labels.dtype == bool
    if not whole or labels.ndim not in (1, 2) or len(labels) != len(images):
        raise ValueError(
            f"labels of {name!r} are {labels.dtype} {list(labels.shape)}; jft wants one integer for each of the "
            f"{len(images)} images, or a row of zeros and ones where they have several labels."
        )
    if class_names is None:
        count = labels.shape[1] if labels.ndim == 2 else int(labels.max(initial=0)) + 1
        class_names = [str(c) for c in range(count)]
    return _source(name, tuple(class_names), images, labels)


def _source(
    name: str,
    class_names: tuple[str, ...],
    images: Any,
    labels: Any,
    groups: np.ndarray | None = None,
    regions: np.ndarray | None = None,
) -> Source:
    labels, class_names = np.asarray(labels), tuple(map(normal, class_names))
    if labels.ndim == 2:
        if labels.shape[1] != len(class_names) or not np.isin(labels, (0, 1)).all():
            raise ValueError(
                f"labels of {name!r} are {list(labels.shape)} from {labels.min(initial=0)} to {labels.max(initial=0)}; "
                f"several labels of an image are a row of zeros and ones, one for each of {len(class_names)} classes."
            )
        indices = np.arange(len(labels), dtype=np.int64)
        return Source(name, class_names, labels.astype(np.uint8), images, indices, groups, regions)
    labels = labels.astype(np.int32)
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(class_names):
        raise ValueError(
            f"labels of {name!r} lie in {labels.min()}..{labels.max()}, but its classes are numbered "
            f"0..{len(class_names) - 1}."
        )
    indices = np.arange(len(labels), dtype=np.int64)
    return Source(name, class_names, labels, images, indices, groups, regions)


def of_config(
    config: Mapping[str, Any],
    split: str,
    *,
    dataset: str | Source | None = None,
    data_dir: str | None = None,
    **changes: Any,
) -> Source:
    """One split of a config's data.

    Args:
      config: fields of `default_config`, those that `load_source` takes among them.
      split: see `load_source`.
      dataset: other data, of which all classes and images are taken; None: the config's.
      data_dir: where the data lie; None: where the config says.
      **changes: further arguments of `load_source` that are to be others than the config's.
    """
    if dataset not in (None, config["dataset"]):
        changes = {"classes": (), "examples_per_class": 0, "image_column": "", "label_column": "", **changes}
    asked = {field: config[field] for field in _FIELDS if field in config} | changes  # an old config has fewer
    return load_source(
        config["dataset"] if dataset is None else dataset,
        split=split,
        data_dir=config["data_dir"] if data_dir is None else data_dir,
        **asked,
    )


def columns(image_column: str, label_column: str) -> dict[str, str]:
    """Columns of a CSV file as changes for `of_config`: one that is not named is the config's."""
    named = {"image_column": image_column, "label_column": label_column}
    return {field: column for field, column in named.items() if column}


def load_source(
    dataset: str | Source,
    *,
    split: str,
    data_dir: str | None,
    validation: int | float,
    seed: int,
    classes: Sequence[str] = (),
    examples_per_class: int = 0,
    region_of_interest: bool = True,
    skip_unreadable: bool = False,
    image_column: str = "",
    label_column: str = "",
    max_image_pixels: int = MAX_IMAGE_PIXELS,
) -> Source:
    """One split of a dataset. Test never depends on the seed and never shares an image with the other two.

    Args:
      dataset: 'cifar10'; 'digits', which needs nothing else; 'folder', a folder of class folders; 'csv', a file that
        lists images; 'gtsrb'; a name that TensorFlow Datasets knows, or 'tfds:NAME'; or a Source, which is split like
        a dataset without official splits.
      split: 'train', 'validation', 'test', or 'all' that the dataset has, unsplit, as for evaluating on other data.
      data_dir: where the data lie, of 'csv' the file; None or empty is TFDS's own folder.
      validation: share in (0, 1) or count of training images to hold out, stratified, in whole groups where there are
        such; 0 for none. Not used where the dataset has a validation split of its own.
      seed: decides what is held out, and which few examples are kept.
      classes: names of the classes to keep, relabeled in this order, with the images that have any of them; empty
        keeps all.
      examples_per_class: training images to keep of each class; 0 keeps all.
      region_of_interest: cuts out the region that the dataset marks in each image, if it does; else they stay whole.
      skip_unreadable: tries to read every image of the split and leaves those out that cannot be, with a warning that
        names them; else such an image is an error once it is reached.
      image_column, label_column: of 'csv', the columns of the images and of their labels; '': a usual name.
      max_image_pixels: the most that an image in a file may have; one that has more cannot be read.

    Raises:
      ValueError: an unknown dataset, split or class, a broken list, or too few images for what is asked.
      FileNotFoundError: the data are neither there nor to be had; says what to put where.
    """
    tree.choose(dict.fromkeys(SPLITS), split, what="split")
    official = {
        name: functools.partial(_prepared, read, region_of_interest)
        for name, read in _official_splits(dataset, data_dir, image_column, label_column).items()
    }
    # Parted first: an image that cannot be read moves no other from one split to another.
    source = _keep(_parted(official, split, classes), classes)
    source = dataclasses.replace(source, max_image_pixels=max_image_pixels)
    if split in ("train", "validation") and "validation" not in official:
        held_out = splits.stratified(source.labels, validation, seed, source.class_names, source.groups)
        if held_out.any():
            _tell_absent(source, held_out, "validation")
        source = source.take(held_out if split == "validation" else ~held_out)
    elif split in ("validation", "test"):
        _tell_missing(source, split)
    if skip_unreadable:
        source = readable(source)
    if not len(source):
        raise ValueError(f"{source.name!r} has no {split} images (validation = {validation}).")
    if split == "train" and examples_per_class:
        source = source.take(splits.few_per_class(source.labels, examples_per_class, seed, source.class_names))
    return source


def _parted(official: dict[str, Callable[[], Source]], split: str, classes: Sequence[str]) -> Source:
    """A split, before validation is held out; what is test is parted from the rest if the dataset does not do so."""
    if split == "all" and official:
        return _joined([read() for read in official.values()])
    if split != "train" and split in official:
        return official[split]()
    if "train" not in official:
        raise ValueError(
            f"the data have no train split, only {', '.join(official) or 'others that jft does not know'}."
        )
    source = official["train"]()
    if "test" in official:
        return source
    test = splits.stratified(source.labels, _TEST_SHARE, _TEST_SEED, source.class_names, source.groups, what="test")
    _tell_absent(source, test, "test", classes)
    return source.take(test if split == "test" else ~test)


def _tell_missing(source: Source, split: str) -> None:
    """Warns of classes of which a split that the dataset comes with has no image."""
    if without := [name for name, count in zip(source.class_names, source.counts(), strict=True) if not count]:
        more = f" and {len(without) - 5} more classes" if len(without) > 5 else ""
        report(
            f"{source.name}: the {split} split has no images of {', '.join(map(repr, without[:5]))}{more}: its figures "
            "say nothing of them. Add images, or leave the classes out."
        )


def _tell_absent(source: Source, held_out: np.ndarray, split: str, classes: Sequence[str] = ()) -> None:
    """Warns of classes, of `classes` if it names any, none of whose images is held out."""
    if absent := splits.absent(source.labels, held_out, source.class_names, tuple(map(normal, classes))):
        more = "raise validation" if split == "validation" else "give a test split of your own"
        report(
            f"{source.name}: too few images to hold any out for {split} ({absent}): its figures will say nothing of "
            f"these classes. Add images, {more}, or leave the classes out."
        )


def _official_splits(
    dataset: str | Source, data_dir: str | None, image_column: str = "", label_column: str = ""
) -> dict[str, Callable[[], Source]]:
    """The splits that the dataset comes with, by name, in the order train, validation, test; read when called."""
    if isinstance(dataset, Source):
        return {"train": lambda: dataset}
    try:
        class_names, readers = _find(dataset, data_dir, image_column, label_column)
    except FileNotFoundError as error:
        if not data_dir or pathlib.Path(data_dir).expanduser().is_absolute():
            raise
        raise FileNotFoundError(f"{error} data_dir = {data_dir!r} was looked for from {pathlib.Path.cwd()}.") from error
    return {
        split: functools.partial(_read, dataset, class_names, readers[split])
        for split in ("train", "validation", "test")
        if split in readers
    }


def _find(
    dataset: str, data_dir: str | None, image_column: str, label_column: str
) -> tuple[tuple[str, ...], Mapping[str, Callable[[], tuple[Any, ...]]]]:
    """Class names and, by split, what reads it."""
    if not dataset:  # as a run notes images that it was given
        raise ValueError(
            "the run was trained on images given in memory, which no config names: give them again from Python, such "
            "as evaluate(run, dataset=from_arrays(...)), with split='all' where all of them are new to it; or give "
            "other data with --dataset and --data."
        )
    if dataset == "digits":
        return digits.find()
    if dataset == "folder":
        return folder.find(data_dir)
    if dataset == "csv":
        return csv_file.find(data_dir, image_column, label_column)
    if dataset == "gtsrb":
        return gtsrb.find(data_dir)
    if dataset == "cifar10":
        return cifar.find(data_dir) or tfds.find("cifar10", data_dir, url=cifar.URL, remedy=cifar.REMEDY)
    return tfds.find(dataset.removeprefix("tfds:"), data_dir)


def _read(name: str, class_names: tuple[str, ...], reader: Callable[[], tuple[Any, ...]]) -> Source:
    return _source(name, class_names, *reader())


def _prepared(read: Callable[[], Source], region_of_interest: bool) -> Source:
    source = read()
    return source if region_of_interest else dataclasses.replace(source, regions=None)


def readable(source: Source) -> Source:
    """Those images of a source that can be read; a warning names the others."""
    if source.decoded:
        return source
    key = f"{source.fingerprint()} {source.max_image_pixels}"
    if key not in _unreadable:
        _unreadable[key] = found = decode.unreadable(source.images, source.regions, source.max_image_pixels)
        if found:
            which = terminal("; ".join(f"{source.image_name(row)} ({why})" for row, why in found.items()))
            report(f"{source.name}: left out {len(found)} unreadable of {len(source)} images: {which}.")
    return source.take(~np.isin(np.arange(len(source)), list(_unreadable[key])))


def sample(source: Source, count: int) -> Source:
    """About `count` images of a source, of each class its share, the same ones every time; all where it has few."""
    if len(source) - count < len(source.class_names):
        return source
    return source.take(splits.stratified(source.labels, count, _SAMPLE_SEED, source.class_names))


def comes_with(config: Mapping[str, Any], data_dir: str) -> tuple[str, ...]:
    """The splits that a config's data have of their own, of train, validation and test; errors as of `load_source`."""
    columns = (config.get(field, "") for field in ("image_column", "label_column"))
    return tuple(_official_splits(config["dataset"], data_dir, *columns))


def _keep(source: Source, classes: Sequence[str]) -> Source:
    """Only the classes of these names, relabeled 0, 1, ... in this order."""
    if not classes:
        return source
    classes = tuple(map(normal, classes))
    numbers = {name: label for label, name in enumerate(source.class_names)}
    chosen = [tree.choose(numbers, name, what=f"class of {source.name}") for name in classes]
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"classes names a class twice: {', '.join(classes)}.")
    if source.multi_label:
        labels = np.ascontiguousarray(source.labels[:, chosen])
        some = labels.any(axis=1)
        return dataclasses.replace(source.take(some), class_names=classes, labels=labels[some])
    relabel = np.full(len(source.class_names), -1, np.int32)
    relabel[chosen] = np.arange(len(chosen))
    kept = source.take(relabel[source.labels] >= 0)
    return dataclasses.replace(kept, class_names=classes, labels=relabel[kept.labels])


def _joined(parts: list[Source]) -> Source:
    first = parts[0]
    if len(parts) == 1:
        return first
    decoded = all(part.decoded for part in parts)
    images = np.concatenate([p.images for p in parts]) if decoded else sum((p.images for p in parts), ())
    labels, groups, regions = (
        None if getattr(first, name) is None else np.concatenate([getattr(part, name) for part in parts])
        for name in ("labels", "groups", "regions")
    )
    return _source(first.name, first.class_names, images, labels, groups, regions)
