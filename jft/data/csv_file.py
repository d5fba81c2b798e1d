"""Images listed in a CSV file, with one label or several."""

import dataclasses
import functools
import pathlib
import re
from collections.abc import Callable, Sequence

import numpy as np

from jft.data import csv_paths, csv_table, names
from jft.data.csv_table import Row, Table, refuse
from jft.data.listing import EXTENSIONS
from jft.data.names import natural, normal
from jft.data.notes import report
from jft.utils import tree

SEPARATOR = "|"  # between the labels of one image: class names may well hold spaces, commas and semicolons
# Columns that are known, in this order where a file has several of them.
_IMAGE = (
    *("path", "filename", "image", "file", "filepath", "file_path", "file_name", "image_path", "imagepath"),
    *("image_file", "image_name", "image_filename", "img", "img_path", "img_name", "image", "photo"),
    *("image_id", "img_id", "id"),
)
_LABELS = ("labels",)
_LABEL = (
    *("label", "class", *_LABELS, "target", "category", "breed", "species", "class_name", "classname", "label_name"),
    *("category_name", "class_label", "class_id", "classid", "label_id", "category_id", "y"),
)
_SPLIT = ("split",)
_EXPECTED = {"path", "filename", "image", *_LABELS, "label", "class"}  # not worth a word

Listed = tuple[pathlib.Path, tuple[str, ...]]  # an image and its labels
Reader = Callable[[], tuple[tuple[pathlib.Path, ...], np.ndarray]]


@dataclasses.dataclass(frozen=True)
class _Columns:
    """Which columns say what; `split` is '' where there is none."""

    image: str
    label: str
    split: str


def find(
    data_dir: str | None, image_column: str = "", label_column: str = ""
) -> tuple[tuple[str, ...], dict[str, Reader]]:
    """The classes and splits of a CSV file.

    Its first row names the columns, in any order and case: of the images' paths, absolute or from the file's own
    folder; of `label`, or `labels`, several of which one cell joins by '|'; and perhaps `split`, by any of
    `names.SPELLINGS`. Other columns are not read. Images have several labels each if the column is called `labels`, or
    if any cell has several. A note says what was recognized.

    Args:
      data_dir: the file, see `csv_table.read`.
      image_column: of the images' paths; '' for the first of the usual names that it has.
      label_column: likewise.

    Returns:
      The class names in natural order and NFC, those of the training images; and for each split a function giving the
      paths in the order of the file, and labels: int32 [n], or multi-hot uint8 [n, classes].

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: a column or cell is missing or makes no sense, an image is not there or is listed twice: one error,
        with the numbers of the rows.
    """
    if not data_dir:
        raise ValueError("dataset 'csv' needs data_dir: a CSV file with the columns path and label.")
    path = pathlib.Path(data_dir).expanduser()
    if not path.is_file():
        hint = "; for a folder of class folders, dataset = 'folder'" if path.is_dir() else ""
        raise FileNotFoundError(
            f"there is no file {path}; data_dir must be a CSV file with the columns path and label{hint}."
        )
    table = csv_table.read(path)
    columns = _choose(path, table, image_column, label_column)
    finder = csv_paths.Finder(path.parent)
    images = finder.find([cells[columns.image] for _, cells in table.rows])
    listed, wrong = _parse(path, table.rows, columns, images)
    class_names, unknown = _classes(listed)
    missing = [cells[columns.image] for (_, cells), image in zip(table.rows, images, strict=True) if image is None]
    refuse(path, wrong or unknown, csv_paths.told_missing(missing))
    several = sum(len(labels) > 1 for part in listed.values() for _, (_, labels) in part)
    _tell(path, table, columns, several, finder.told())
    if told := names.told_alike(class_names):
        report(f"{path}: {told}")
    multi_label = columns.label in _LABELS or several > 0
    return class_names, {
        name: functools.partial(_arrays, [entry for _, entry in part], class_names, multi_label)
        for name, part in listed.items()
    }


def _choose(path: pathlib.Path, table: Table, image_column: str, label_column: str) -> _Columns:
    """The columns, as asked for or by their usual names."""
    usual = {re.sub(r"[\s-]+", "_", column): column for column in reversed(table.columns)}

    def choose(asked: str, known: Sequence[str]) -> str:
        if asked:
            named = {column: column for column in table.columns}
            return tree.choose(named, asked.strip().lower(), what=f"column of {path}")
        return next((usual[name] for name in known if name in usual), "")

    columns = _Columns(choose(image_column, _IMAGE), choose(label_column, _LABEL), choose("", _SPLIT))
    if not columns.image or not columns.label:
        unnamed = any(pathlib.Path(column).suffix in EXTENSIONS for column in table.columns)
        first = " Its first row must name the columns." if unnamed else ""
        raise ValueError(
            f"{path} has the columns {', '.join(table.columns)}, separated by {table.separator}; it needs path (or "
            f"{', '.join(_IMAGE[1:4])}, ...) and label (or class, category, ...; or labels, for several). Name those "
            f"of images and labels by the fields image_column and label_column (--image-column, --label-column).{first}"
        )
    if columns.image == columns.label:
        raise ValueError(f"{path}: {columns.image!r} cannot be the column of the images and of their labels.")
    if twice := [name for name in (columns.image, columns.label, columns.split) if table.columns.count(name) > 1]:
        raise ValueError(f"{path} has {table.columns.count(twice[0])} columns called {twice[0]!r}: rename the others.")
    return columns


def _parse(
    path: pathlib.Path, rows: list[Row], columns: _Columns, images: list[pathlib.Path | None]
) -> tuple[dict[str, list[tuple[int, Listed]]], list[tuple[int, str]]]:
    """The images of each split with their rows, and what is wrong with which row."""
    listed: dict[str, list[tuple[int, Listed]]] = {}
    wrong, first = [], {}
    if blank := [number for number, cells in rows if columns.split and not cells[columns.split]]:
        raise ValueError(
            f"{path}: the split is empty in {len(blank):,} of {len(rows):,} rows, first in row {blank[0]}: write "
            "train, validation or test there, or remove the rows."
        )
    for (number, cells), image in zip(rows, images, strict=True):
        written = cells[columns.image]
        labels = tuple(normal(label.strip()) for label in cells[columns.label].split(SEPARATOR))
        part = names.split_of(cells[columns.split]) if columns.split else "train"
        before = first.setdefault(image or written, number)
        if not written:
            wrong.append((number, f"has an empty {columns.image}"))
        elif not all(labels):
            wrong.append((number, f"has an empty {columns.label}"))
        elif len(set(labels)) < len(labels):
            wrong.append((number, f"names a label twice: {cells[columns.label]!r}"))
        elif part is None:
            given = cells[columns.split]
            wrong.append((number, f"is of the split {given!r}, which is none of train, validation and test"))
        elif before < number:
            wrong.append((number, f"lists {written!r} as row {before} does: one row an image, labels joined by '|'"))
        elif image is None:
            wrong.append((number, f"lists {written!r}, but there is no file {path.parent / written}"))
        else:
            listed.setdefault(part, []).append((number, (image, labels)))
    return listed, wrong


def _tell(path: pathlib.Path, table: Table, columns: _Columns, several: int, found: list[str]) -> None:
    """Says what was recognized, where it is not what a list usually holds."""
    told = [] if table.delimiter == "," else [f"cells are separated by {table.separator}"]
    told += [] if table.encoding.startswith("utf-8") else [f"the text is {table.encoding.upper()}"]
    told += [
        f"{column!r} is the column of the {what}"
        for column, what in ((columns.image, "images"), (columns.label, "labels"))
        if column not in _EXPECTED
    ]
    if several and columns.label not in _LABELS:
        told.append(
            f"{columns.label!r} holds several labels in {several:,} rows, joined by {SEPARATOR!r}, so that images may "
            "have several (call the column 'labels' to ask for it; write the names without it if that is not meant)"
        )
    if told := told + found:
        report(f"{path}: {'; '.join(told)}.")
    for column in () if columns.split else table.columns:
        if column not in (columns.image, columns.label) and _looks_like_split(column, table.rows):
            report(f"{path}: the column {column!r} looks like a split and is not used; name it 'split' to use it.")


def _looks_like_split(column: str, rows: list[Row]) -> bool:
    """Whether cells are spellings of two splits and nothing else, or the column asks as fastai's is_valid does."""
    values = {cells[column].lower() for _, cells in rows} - {""}
    found = {names.split_of(value) for value in values}
    asks = column.startswith("is_") and names.split_of(column[3:]) is not None
    return (len(found) > 1 and None not in found) or (asks and len(values) > 1)


def _classes(listed: dict[str, list[tuple[int, Listed]]]) -> tuple[tuple[str, ...], list[tuple[int, str]]]:
    """The classes of the training images, and the rows that have others."""
    reference = listed.get("train") or next(iter(listed.values()), [])
    known = {label for _, (_, labels) in reference for label in labels}
    unknown = [
        (number, f"is of the class {label!r}, of which there is none to train on")
        for part in listed.values()
        for number, (_, labels) in part
        for label in labels
        if label not in known
    ]
    return tuple(sorted(known, key=natural)), unknown


def _arrays(
    entries: list[Listed], class_names: tuple[str, ...], several: bool
) -> tuple[tuple[pathlib.Path, ...], np.ndarray]:
    numbers = {name: label for label, name in enumerate(class_names)}
    images = tuple(image for image, _ in entries)
    if not several:
        return images, np.array([numbers[labels[0]] for _, labels in entries], np.int32)
    hot = np.zeros((len(entries), len(class_names)), np.uint8)
    for row, (_, labels) in zip(hot, entries, strict=True):
        row[[numbers[label] for label in labels]] = 1
    return images, hot
