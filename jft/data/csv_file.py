"""Pictures listed in a CSV file, with one label or several."""

import csv
import functools
import pathlib
from collections.abc import Callable, Iterable

import numpy as np

from jft.data.folder import SPLITS, natural

SEPARATOR = "|"  # between the labels of one picture: class names may well hold spaces, commas and semicolons
_PATH, _LABEL, _LABELS, _SPLIT = ("path", "filename", "image"), ("label", "class"), ("labels",), ("split",)
_SHOWN = 5  # of the wrong rows in an error

Row = tuple[int, dict[str, str]]  # number in the file, of which the header is 1; cells by lower-case column name
Listed = tuple[pathlib.Path, tuple[str, ...]]  # a picture and its labels
Reader = Callable[[], tuple[tuple[pathlib.Path, ...], np.ndarray]]


def find(data_dir: str | None) -> tuple[tuple[str, ...], dict[str, Reader]]:
    """The classes and splits of a CSV file.

    Its first row names the columns, in any order and case: `path` (or `filename`, `image`), absolute or from the
    file's own folder; `label` (or `class`), or `labels`, several of which one cell joins by '|'; and perhaps `split`:
    train, validation (or val) or test. Other columns are not read. Pictures have several labels each if the column is
    called `labels`, or if any cell has several.

    Args:
      data_dir: the file, in UTF-8, with commas.

    Returns:
      The class names in natural order, those of the training pictures; and for each split a function giving the paths
      in the order of the file, and labels: int32 [n], or multi-hot uint8 [n, classes].

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: a column or cell is missing or makes no sense, a picture is not there or is listed twice: one error,
        with the numbers of the rows.
    """
    if not data_dir:
        raise ValueError("dataset 'csv' needs data_dir: a CSV file with the columns path and label.")
    path = pathlib.Path(data_dir).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no file {path}; data_dir must be a CSV file with the columns path and label."
        )
    columns, rows = read_rows(path, ",")
    places, names, split = (_choose(columns, known) for known in (_PATH, _LABEL + _LABELS, _SPLIT))
    if not places or not names:
        raise ValueError(
            f"{path} has the columns {', '.join(columns)}; it needs path (or {', '.join(_PATH[1:])}) and label "
            "(or class; or labels, for several), separated by commas."
        )
    listed, wrong = _parse(path, rows, places, names, split)
    class_names, unknown = _classes(listed)
    refuse(path, wrong or unknown)
    several = names in _LABELS or any(len(labels) > 1 for part in listed.values() for _, (_, labels) in part)
    return class_names, {
        name: functools.partial(_arrays, [entry for _, entry in part], class_names, several)
        for name, part in listed.items()
    }


def read_rows(path: pathlib.Path, delimiter: str) -> tuple[list[str], list[Row]]:
    """The columns of a CSV file, in lower case, and its rows, stripped; empty lines are passed over.

    Raises:
      ValueError: it is no text in UTF-8, it is empty, or a row has too few or too many cells; names the row.
    """
    rows, wrong = [], []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file, delimiter=delimiter)
            columns = [cell.strip().lower() for cell in next(lines, [])]
            for cells in lines:
                if cells and len(cells) != len(columns):
                    wrong.append((lines.line_num, f"has {len(cells)} cells, but there are {len(columns)} columns"))
                elif cells:
                    rows.append((lines.line_num, dict(zip(columns, map(str.strip, cells), strict=True))))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"cannot read {path} as a CSV file in UTF-8 ({error}).") from error
    refuse(path, wrong)
    if not rows:
        raise ValueError(f"{path} lists no pictures: it has {len(columns)} columns and no rows below them.")
    return columns, rows


def refuse(path: pathlib.Path, wrong: Iterable[tuple[int, str]]) -> None:
    """Raises one ValueError for all that is wrong, as (row, what), in a file; none if there is nothing."""
    if wrong := sorted(wrong):
        lines = "; ".join(f"row {row} {what}" for row, what in wrong[:_SHOWN])
        more = f"; and {len(wrong) - _SHOWN} more rows" if len(wrong) > _SHOWN else ""
        raise ValueError(f"{path}: {lines}{more} (the header is row 1).")


def _choose(columns: list[str], known: tuple[str, ...]) -> str:
    """The column that has one of these names; empty if none has."""
    return next((name for name in known if name in columns), "")


def _parse(
    path: pathlib.Path, rows: list[Row], places: str, names: str, split: str
) -> tuple[dict[str, list[tuple[int, Listed]]], list[tuple[int, str]]]:
    """The pictures of each split with their rows, and what is wrong with which row."""
    listed: dict[str, list[tuple[int, Listed]]] = {}
    wrong, first = [], {}
    for number, cells in rows:
        picture = path.parent / cells[places]
        labels = tuple(label.strip() for label in cells[names].split(SEPARATOR))
        part = SPLITS.get(cells[split].lower()) if split else "train"
        before = first.setdefault(picture, number)
        if not all(labels):
            wrong.append((number, f"has an empty {names}"))
        elif len(set(labels)) < len(labels):
            wrong.append((number, f"names a label twice: {cells[names]!r}"))
        elif part is None:
            wrong.append((number, f"is of the split {cells[split]!r}, which is none of train, validation and test"))
        elif before < number:
            wrong.append(
                (number, f"lists {cells[places]!r} as row {before} does: one row a picture, labels joined by '|'")
            )
        elif not picture.is_file():
            wrong.append((number, f"lists {cells[places]!r}, but there is no file {picture}"))
        else:
            listed.setdefault(part, []).append((number, (picture, labels)))
    return listed, wrong


def _classes(listed: dict[str, list[tuple[int, Listed]]]) -> tuple[tuple[str, ...], list[tuple[int, str]]]:
    """The classes of the training pictures, and the rows that have others."""
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
    pictures = tuple(picture for picture, _ in entries)
    if not several:
        return pictures, np.array([numbers[labels[0]] for _, labels in entries], np.int32)
    hot = np.zeros((len(entries), len(class_names)), np.uint8)
    for row, (_, labels) in zip(hot, entries, strict=True):
        row[[numbers[label] for label in labels]] = 1
    return pictures, hot
