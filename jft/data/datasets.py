"""Loads any dataset as a `Source` and splits it into train, validation and test."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jft.data import decode, formats, splits
from jft.data.folds import folds as folds_of
from jft.data.image_file import MAX_IMAGE_PIXELS
from jft.data.names import normal
from jft.data.notes import report
from jft.data.source import Source, joined, make_source, of_classes
from jft.utils import registry, tree
from jft.utils.text import terminal

SPLITS = ("train", "validation", "test", "all")

# The share held out as test where a dataset has no official test split. It does not depend on the run's seed.
_TEST_SHARE = 0.2
TEST_SEED = -1

_SAMPLE_SEED = 0

# Arguments of `load_source` that are also config fields, by the same names.
_FIELDS = (
    *("validation", "folds", "fold", "seed", "classes", "examples_per_class", "region_of_interest", "skip_unreadable"),
    *("image_column", "label_column", "max_image_pixels"),
)

# Unreadable images by the fingerprint of their source: {row: why}. A run loads its data twice.
_unreadable: dict[str, dict[int, str]] = {}


def from_arrays(
    images: np.ndarray, labels: np.ndarray, class_names: Sequence[str] | None = None, name: str = "arrays"
) -> Source:
    """Makes a source of images in memory.

    Args:
      images: uint8 [n, h, w, 3], RGB, 0 .. 255.
      labels: single-label, integers [n] in 0 .. classes-1; or multi-label, multi-hot 0 or 1 [n, classes].
      class_names: names of the labels 0, 1, ...; None names them '0', '1', ...
      name: name of the dataset, used in messages.

    Raises:
      ValueError: images or labels have another type, shape or range.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(
            f"images of {name!r} are {images.dtype} {list(images.shape)}; jft needs uint8 [n, height, width, 3], RGB, "
            "0..255 (grayscale: repeat along the last axis; values in 0..1: multiply by 255, round, cast)."
        )
    whole = np.issubdtype(labels.dtype, np.integer) or labels.dtype == bool
    if not whole or labels.ndim not in (1, 2) or len(labels) != len(images):
        raise ValueError(
            f"labels of {name!r} are {labels.dtype} {list(labels.shape)}; jft needs one integer for each of the "
            f"{len(images)} images, or for multi-label data a row of zeros and ones for each."
        )
    if class_names is None:
        count = labels.shape[1] if labels.ndim == 2 else int(labels.max(initial=0)) + 1
        class_names = [str(c) for c in range(count)]
    return make_source(name, tuple(class_names), images, labels)


def of_config(
    config: Mapping[str, Any],
    split: str,
    *,
    dataset: str | Source | None = None,
    data_dir: str | None = None,
    **changes: Any,
) -> Source:
    """Loads one split of a config's data.

    Args:
      config: fields of `default_config`; those that `load_source` takes are used.
      split: 'train', 'validation', 'test' or 'all', see `load_source`.
      dataset: another dataset in place of the config's, loaded with all its classes and images; None: the config's.
      data_dir: location of the data; None: the config's `data_dir`.
      **changes: arguments of `load_source` that override the config.
    """
    if dataset not in (None, config["dataset"]):
        changes = {"classes": (), "examples_per_class": 0, "image_column": "", "label_column": "", **changes}
    options = {field: config[field] for field in _FIELDS if field in config} | changes  # older configs lack some fields
    return load_source(
        config["dataset"] if dataset is None else dataset,
        split=split,
        data_dir=config["data_dir"] if data_dir is None else data_dir,
        **options,
    )


def columns(image_column: str, label_column: str) -> dict[str, str]:
    """Column names of a CSV file as `changes` for `of_config`; an empty name keeps the config's."""
    named = {"image_column": image_column, "label_column": label_column}
    return {field: column for field, column in named.items() if column}


def load_source(
    dataset: str | Source,
    *,
    split: str,
    data_dir: str | None,
    validation: int | float | str,
    seed: int,
    folds: int = 0,
    fold: int = 0,
    classes: Sequence[str] = (),
    examples_per_class: int = 0,
    region_of_interest: bool = True,
    skip_unreadable: bool = False,
    image_column: str = "",
    label_column: str = "",
    max_image_pixels: int = MAX_IMAGE_PIXELS,
) -> Source:
    """Loads one split of a dataset.

    The test split never depends on the seed and never shares an image with the other two.

    Args:
      dataset: 'cifar10'; 'digits', which is part of jft; 'folder', a folder of class folders; 'csv', a file that lists
        images; 'gtsrb'; a TensorFlow Datasets name, or 'tfds:NAME'; or a Source, which is split like a dataset without
        official splits.
      split: 'train', 'validation' or 'test'; or 'all', the union of the official splits, to evaluate on other data.
      data_dir: folder of the data, for 'csv' the file; None or empty: the default folder of TFDS.
      validation: share in (0, 1) or number of training images to hold out, stratified, keeping groups whole; 0 holds
        none out. Not used where the dataset has an official validation split. 'cv' holds out one of `folds`.
      folds: with validation 'cv', into how many the training images are divided, see `folds.folds`.
      fold: with validation 'cv', the one to hold out, from 1; 0 holds none out.
      seed: decides which images are held out, and which are kept by `examples_per_class`.
      classes: names of the classes to keep, relabeled in this order, with all images that have any of them; empty
        keeps all.
      examples_per_class: number of training images to keep of each class; 0 keeps all.
      region_of_interest: crop each image to the region that the dataset annotates, if any; else use whole images.
      skip_unreadable: try to read every image of the split, leave out the unreadable ones and warn with their names;
        otherwise reading such an image raises an error later.
      image_column, label_column: for 'csv', the columns of image paths and labels; '' recognizes the usual names.
      max_image_pixels: limit on width times height of an image file; a larger image counts as unreadable.

    Raises:
      ValueError: an unknown dataset, split or class, a broken list, or too few images to split as requested.
      FileNotFoundError: the data are missing and cannot be downloaded; says what to put where.
    """
    tree.choose(dict.fromkeys(SPLITS), split, what="split")
    official = {
        name: functools.partial(_prepared, read, region_of_interest)
        for name, read in _official_splits(dataset, data_dir, image_column, label_column).items()
    }
    # Split before looking for unreadable images, so that these do not move other images between splits.
    source = of_classes(_parted(official, split, classes), classes)
    source = dataclasses.replace(source, max_image_pixels=max_image_pixels)
    if split in ("train", "validation") and "validation" not in official:
        held_out = _held_out(source, validation, seed, folds, fold)
        if held_out.any():
            _warn_not_held_out(source, held_out, "validation")
        source = source.take(held_out if split == "validation" else ~held_out)
    elif validation == "cv" and split == "train":
        raise ValueError(
            f"{source.name!r} has validation images of its own, and validation = 'cv' divides the training images: "
            "give a number, such as 0.1; the images of its own are used all the same."
        )
    elif split in ("validation", "test"):
        _warn_missing_classes(source, split)
    if skip_unreadable:
        source = readable(source)
    if not len(source):
        raise ValueError(f"{source.name!r} has no {split} images (validation = {validation}).")
    if split == "train" and examples_per_class:
        source = source.take(splits.few_per_class(source.labels, examples_per_class, seed, source.class_names))
    return source


def _held_out(source: Source, validation: int | float | str, seed: int, folds: int, fold: int) -> np.ndarray:
    """Which training images are for validation, bool [n]."""
    if validation != "cv":
        assert not isinstance(validation, str)
        return splits.stratified(source.labels, validation, seed, source.class_names, source.groups)
    if fold > folds:
        raise ValueError(f"fold = {fold}, and there are {folds}: give 1 .. {folds}, or 0 for all of them.")
    if not fold:
        return np.zeros(len(source), bool)
    return folds_of(source.labels, folds, seed, source.groups) == fold - 1


def _parted(official: dict[str, Callable[[], Source]], split: str, classes: Sequence[str]) -> Source:
    """One split, before validation is held out. Holds out a test split if the dataset has no official one."""
    if split == "all" and official:
        return joined([read() for read in official.values()])
    if split != "train" and split in official:
        return official[split]()
    if "train" not in official:
        raise ValueError(
            f"the data have no train split, only {', '.join(official) or 'splits that jft does not know'}: add one, or "
            "load split='all'."
        )
    source = official["train"]()
    if "test" in official:
        return source
    test = splits.stratified(source.labels, _TEST_SHARE, TEST_SEED, source.class_names, source.groups, what="test")
    _warn_not_held_out(source, test, "test", classes)
    return source.take(test if split == "test" else ~test)


def _warn_missing_classes(source: Source, split: str) -> None:
    """Warns of classes that have no image in an official split."""
    if without := [name for name, count in zip(source.class_names, source.counts(), strict=True) if not count]:
        more = f" and {len(without) - 5} more classes" if len(without) > 5 else ""
        report(
            f"{source.name}: the {split} split has no images of {', '.join(map(repr, without[:5]))}{more}: its metrics "
            "do not cover them. Add images, or leave the classes out."
        )


def _warn_not_held_out(source: Source, held_out: np.ndarray, split: str, classes: Sequence[str] = ()) -> None:
    """Warns of classes of which no image is held out; looks only at `classes` unless that is empty."""
    if absent := splits.absent(source.labels, held_out, source.class_names, tuple(map(normal, classes))):
        more = "raise validation" if split == "validation" else "give a test split of your own"
        report(
            f"{source.name}: {split} has no image of some classes ({absent}): its metrics will not cover these "
            f"classes. Add images, {more}, or leave the classes out."
        )


def _official_splits(
    dataset: str | Source, data_dir: str | None, image_column: str = "", label_column: str = ""
) -> dict[str, Callable[[], Source]]:
    """The dataset's official splits in the order train, validation, test: {name: function that reads it}."""
    if not isinstance(dataset, Source) and formats.is_own(dataset):
        dataset = formats.of_function(registry.imported(dataset, "dataset"), dataset, data_dir)
    if isinstance(dataset, Source):
        parts = {"train": dataset, **{split: dataset.official[split] for split in SPLITS if split in dataset.official}}
        return {split: functools.partial(_given, part, split) for split, part in parts.items()}
    try:
        class_names, readers = formats.find(dataset, formats.Place(data_dir, image_column, label_column))
    except FileNotFoundError as error:
        if not data_dir or pathlib.Path(data_dir).expanduser().is_absolute():
            raise
        raise FileNotFoundError(f"{error} data_dir = {data_dir!r} is relative to {pathlib.Path.cwd()}.") from error
    return {
        split: functools.partial(_read, dataset, class_names, readers[split])
        for split in ("train", "validation", "test")
        if split in readers
    }


def _given(source: Source, split: str) -> Source:
    """A split that came in memory."""
    if not len(source):
        raise ValueError(f"{source.name!r} has no {split} images: none were given, or set apart.")
    return dataclasses.replace(source, official={})


def _read(name: str, class_names: tuple[str, ...], reader: Callable[[], tuple[Any, ...]]) -> Source:
    return make_source(name, class_names, *reader())


def _prepared(read: Callable[[], Source], region_of_interest: bool) -> Source:
    source = read()
    return source if region_of_interest else dataclasses.replace(source, regions=None)


def readable(source: Source) -> Source:
    """The source without its unreadable images, which are named in a warning."""
    if source.decoded:
        return source
    key = f"{source.fingerprint()} {source.max_image_pixels}"
    if key not in _unreadable:
        _unreadable[key] = unreadable = decode.unreadable(source.encoded, source.regions, source.max_image_pixels)
        if unreadable:
            names = terminal("; ".join(f"{source.image_name(row)} ({why})" for row, why in unreadable.items()))
            report(f"{source.name}: left out {len(unreadable)} unreadable of {len(source)} images: {names}.")
    return source.take(~np.isin(np.arange(len(source)), list(_unreadable[key])))


def sample(source: Source, count: int) -> Source:
    """A fixed stratified sample of about `count` images; the whole source if it is not much larger."""
    if len(source) - count < len(source.class_names):
        return source
    return source.take(splits.stratified(source.labels, count, _SAMPLE_SEED, source.class_names))


def official_splits(config: Mapping[str, Any], data_dir: str) -> tuple[str, ...]:
    """The official splits of a config's dataset, out of 'train', 'validation' and 'test'.

    Raises:
      ValueError: an unknown dataset or a broken list.
      FileNotFoundError: the data are missing and cannot be downloaded.
    """
    columns = (config.get(field, "") for field in ("image_column", "label_column"))
    return tuple(_official_splits(config["dataset"], data_dir, *columns))
