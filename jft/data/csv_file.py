"""Dataset 'csv': images listed in a CSV file, single-label or multi-label."""

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
from jft.utils.option_names import option

SEPARATOR = "|"  # between the labels of one image: class names may contain spaces, commas and semicolons
# Usual names of columns; where a file has several of them, the first one here is used.
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
_EXPECTED = {"path", "filename", "image", *_LABELS, "label", "class"}  # recognized without a note

Listed = tuple[pathlib.Path, tuple[str, ...]]  # an image and its labels
Reader = Callable[[], tuple[tuple[pathlib.Path, ...], np.ndarray]]


@dataclasses.dataclass(frozen=True)
class _Columns:
    """Names of the columns in use; `split` is '' where there is none."""

    image: str
    label: str
    split: str


def find(
    data_dir: str | None, image_column: str = "", label_column: str = ""
) -> tuple[tuple[str, ...], dict[str, Reader]]:
    """Finds the classes and splits of a CSV file.

    The first row names the columns, in any order and case. One holds image paths, absolute or relative to the file's
    folder. One holds labels; a cell joins several labels with '|'. An optional column `split` holds any of
    `names.SPELLINGS`. Other columns are ignored. The data are multi-label if the label column is named `labels` or any
    cell has several labels. A note reports what was recognized, where it is unusual.

    Args:
      data_dir: path of the file, see `csv_table.read`.
      image_column: column of the image paths; '': the first of the usual names that the file has.
      label_column: column of the labels; '': the first of the usual names that the file has.

    Returns:
      The class names of the training images, in natural order and NFC; and {split: function}. Each function returns
      the paths in the order of the file and the labels: int32 [n], or multi-hot uint8 [n, classes].

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: a column or cell is missing or invalid, an image file is missing or is listed twice. One error lists
        the row numbers.
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
    refuse(path, wrong or unknown, csv_paths.missing_hint(missing))
    several = sum(len(labels) > 1 for part in listed.values() for _, (_, labels) in part)
    _report_recognized(path, table, columns, several, finder.corrections())
    if warning := names.alike_warning(class_names):
        report(f"{path}: {warning}")
    multi_label = columns.label in _LABELS or several > 0
    return class_names, {
        name: functools.partial(_arrays, [entry for _, entry in part], class_names, multi_label)
        for name, part in listed.items()
    }


def _choose(path: pathlib.Path, table: Table, image_column: str, label_column: str) -> _Columns:
    """The columns, by the given names or by their usual names."""
    usual = {re.sub(r"[\s-]+", "_", column): column for column in reversed(table.columns)}

    def choose(given: str, known: Sequence[str]) -> str:
        if given:
            named = {column: column for column in table.columns}
            return tree.choose(named, given.strip().lower(), what=f"column of {path}")
        return next((usual[name] for name in known if name in usual), "")

    columns = _Columns(choose(image_column, _IMAGE), choose(label_column, _LABEL), choose("", _SPLIT))
    if not columns.image or not columns.label:
        unnamed = any(pathlib.Path(column).suffix in EXTENSIONS for column in table.columns)
        first = " Its first row must name the columns." if unnamed else ""
        raise ValueError(
            f"{path} has the columns {', '.join(table.columns)}, separated by {table.separator}; it needs path (or "
            f"{', '.join(_IMAGE[1:4])}, ...) and label (or class, category, ...; or labels, for several). Set "
            f"{option('image_column')} and {option('label_column')} to your columns.{first}"
        )
    if columns.image == columns.label:
        raise ValueError(f"{path}: {columns.image!r} cannot be both image_column and label_column.")
    if twice := [name for name in (columns.image, columns.label, columns.split) if table.columns.count(name) > 1]:
        raise ValueError(f"{path} has {table.columns.count(twice[0])} columns named {twice[0]!r}: keep one of them.")
    return columns


def _parse(
    path: pathlib.Path, rows: list[Row], columns: _Columns, images: list[pathlib.Path | None]
) -> tuple[dict[str, list[tuple[int, Listed]]], list[tuple[int, str]]]:
    """{split: [(row, (image, labels))]}, and the errors [(row, message)]."""
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
            wrong.append((number, f"has the split {given!r}, which is none of train, validation and test"))
        elif before < number:
            wrong.append(
                (
                    number,
                    f"lists {written!r} again after row {before}: write one row for each image, labels joined by '|'",
                )
            )
        elif image is None:
            wrong.append((number, f"lists {written!r}, but there is no file {path.parent / written}"))
        else:
            listed.setdefault(part, []).append((number, (image, labels)))
    return listed, wrong


def _report_recognized(
    path: pathlib.Path, table: Table, columns: _Columns, several: int, corrections: list[str]
) -> None:
    """Reports how the file was read, where it is not what a list usually holds."""
    remarks = [] if table.delimiter == "," else [f"cells are separated by {table.separator}"]
    remarks += [] if table.encoding.startswith("utf-8") else [f"the text is {table.encoding.upper()}"]
    remarks += [
        f"{column!r} is the column of the {what}"
        for column, what in ((columns.image, "images"), (columns.label, "labels"))
        if column not in _EXPECTED
    ]
    if several and columns.label not in _LABELS:
        remarks.append(
            f"{columns.label!r} holds several labels in {several:,} rows, joined by {SEPARATOR!r}, so the data are "
            f"multi-label (name the column 'labels' to confirm; remove {SEPARATOR!r} from the names if not intended)"
        )
    if remarks := remarks + corrections:
        report(f"{path}: {'; '.join(remarks)}.")
    for column in () if columns.split else table.columns:
        if column not in (columns.image, columns.label) and _looks_like_split(column, table.rows):
            report(f"{path}: the column {column!r} looks like a split and is not used; name it 'split' to use it.")


def _looks_like_split(column: str, rows: list[Row]) -> bool:
    """Whether the cells spell two or more splits and nothing else, or the column is named like fastai's is_valid."""
    values = {cells[column].lower() for _, cells in rows} - {""}
    found = {names.split_of(value) for value in values}
    is_flag = column.startswith("is_") and names.split_of(column[3:]) is not None
    return (len(found) > 1 and None not in found) or (is_flag and len(values) > 1)


def _classes(listed: dict[str, list[tuple[int, Listed]]]) -> tuple[tuple[str, ...], list[tuple[int, str]]]:
    """The classes of the training images, and an error for each row that has another class."""
    reference = listed.get("train") or next(iter(listed.values()), [])
    known = {label for _, (_, labels) in reference for label in labels}
    unknown = [
        (number, f"has the class {label!r}, which no training image has")
        for part in listed.values()
        for number, (_, labels) in part
        for label in labels
        if label not in known
    ]
    return tuple(sorted(known, key=natural)), unknown


def _arrays(
    entries: list[Listed], class_names: tuple[str, ...], several: bool
) -> tuple[tuple[pathlib.Path, ...], np.ndarray]:
    """Paths, and labels int32 [n], or multi-hot uint8 [n, classes] if `several`."""
    numbers = {name: label for label, name in enumerate(class_names)}
    images = tuple(image for image, _ in entries)
    if not several:
        return images, np.array([numbers[labels[0]] for _, labels in entries], np.int32)
    hot = np.zeros((len(entries), len(class_names)), np.uint8)
    for row, (_, labels) in zip(hot, entries, strict=True):
        row[[numbers[label] for label in labels]] = 1
    return images, hot
