"""`jft predict`: finds image files, predicts their classes, and formats the predictions."""

import csv
import dataclasses
import functools
import glob
import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from jft.data import listing
from jft.data.feeds.threads import read_ahead
from jft.data.names import natural, normal
from jft.data.notes import report
from jft.evaluation.predictor import Predictor
from jft.utils.text import csv_cell, padded, terminal, width

_LONGEST = 60  # characters of a class name in a table
THRESHOLD = 0.5  # smallest probability of a predicted label, if images may have several


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The prediction for an image.

    Attributes:
      path: path of the image.
      classes: names of the predicted classes, the most probable first; () if the image cannot be read, or if it may
        have several labels and none is predicted.
      probabilities: their probabilities, 0 .. 1.
      error: why the image cannot be read, as a sentence that names it; None if it can be read.
    """

    path: Path
    classes: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    error: str | None = None


def find(paths: Iterable[str], stdin: TextIO) -> list[Path]:
    """Finds the images that a user names.

    Args:
      paths: files; folders, searched for images at any depth, in natural order and without hidden files; patterns such
        as 'photos/*.jpg' or 'photos/**/*.jpg' that the shell did not expand; or '-' for `stdin`.
      stdin: a list of further paths, one per line, read for '-'.

    Returns:
      Their paths, each once, in the order given.

    Raises:
      ValueError: a path that does not exist, a folder without images, a pattern without matches, or no path at all.
    """
    found: dict[Path, None] = {}
    for path in paths:
        lines = (line.rstrip("\r\n") for line in stdin) if path == "-" else [path]
        for line in lines:
            if line:
                found.update(dict.fromkeys(_expand(line)))
    if not found:
        raise ValueError("no image is given: give files, folders or patterns, or '-' and one path per line on stdin.")
    return list(found)


def _expand(name: str) -> list[Path]:
    path = Path(name)
    if path.is_dir():
        left_out = listing.LeftOut()
        images = listing.images_in(path, left_out)
        if not images:
            beside = f" ({left_out})" if left_out.counts else ""
            raise ValueError(f"folder {path} holds no images{beside}: give another folder, or the names of files.")
        if left_out.counts:
            report(f"{path}: skipped {left_out}.")
        return images
    if path.exists():
        return [path]
    if not glob.has_magic(name):
        raise ValueError(f"there is no file or folder {name}: check the path.")
    matches = sorted(glob.glob(name, recursive=True), key=lambda match: [natural(p) for p in Path(match).parts])
    if not matches:
        raise ValueError(f"no file matches {name}: check the pattern.")
    return list(itertools.chain.from_iterable(_expand(match) for match in matches))


def predict_paths(
    predictor: Predictor, paths: Sequence[Path], top: int | None = None, *, calibrated: bool = True
) -> Iterator[Prediction]:
    """Predicts the classes of image files in batches; reads the next batch while the devices compute.

    Args:
      predictor: the model.
      paths: paths of images.
      top: number of classes per image; None: the most probable one or, if images may have several labels, all with a
        probability of 1/2 or more.
      calibrated: see `Predictor.predict`.

    Yields:
      A prediction for each path, in order; for an image that cannot be read, one with an error.

    Raises:
      ValueError: top is below 1.
    """
    if top is not None and top < 1:
        raise ValueError(f"top = {top}: give 1 or more classes per image.")
    temperature = predictor.temperature if calibrated else 1.0
    ahead, size = iter(paths), predictor.batch_size
    groups = (paths[start : start + size] for start in range(0, len(paths), size))
    for _, squares in read_ahead(functools.partial(_read, predictor), groups):
        readable = [square for square in squares if not isinstance(square, str)]
        if readable:
            rows = iter(predictor.probabilities(predictor.logits(readable), temperature))
        for square in squares:
            if isinstance(square, str):
                yield Prediction(next(ahead), error=square)
            else:
                yield Prediction(next(ahead), *ranked(predictor, next(rows), top))


def _read(predictor: Predictor, path: Path) -> np.ndarray | str:
    """The image, or the reason why it cannot be read."""
    try:
        return predictor.read(path)
    except ValueError as error:
        return " ".join(str(error).split())


def ranked(
    predictor: Predictor, probabilities: np.ndarray, top: int | None
) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """The classes and probabilities of an image, float32 [classes], as of `predict_paths`."""
    order = np.argsort(-probabilities, kind="stable")
    count = top or 1
    if top is None and predictor.objective.multi_label:
        count = int((probabilities >= THRESHOLD).sum())
    order = order[:count]
    return tuple(predictor.class_names[c] for c in order), tuple(map(float, probabilities[order]))


def label_of(path: Path, class_names: Sequence[str]) -> str | None:
    """The class of an image whose folder is named like a class, else None."""
    name = normal(path.absolute().parent.name)
    return name if name in class_names else None


def columns(predictor: Predictor, top: int | None) -> int:
    """The largest number of classes of a prediction."""
    classes = len(predictor.class_names)
    return min(top or (classes if predictor.objective.multi_label else 1), classes)


def table_lines(predictions: Iterable[Prediction], most: int) -> Iterator[str]:
    """Formats a table for people, with at most `most` classes per image; needs all predictions for its width."""
    del most
    rows = [("image", "class", "probability")]
    for prediction in predictions:
        pairs = list(zip(prediction.classes, prediction.probabilities, strict=True))
        cells = [(terminal(name, _LONGEST), f"{probability:11.1%}") for name, probability in pairs]
        cells = cells or [("cannot be read" if prediction.error else "none", "")]
        rows += [(terminal(prediction.path), *cells[0]), *(("", *pair) for pair in cells[1:])]
    widths = [max(width(row[i]) for row in rows) for i in range(2)]
    for image, name, probability in rows:
        yield f"{padded(image, widths[0])}  {padded(name, widths[1])}  {probability}".rstrip()


def csv_lines(predictions: Iterable[Prediction], most: int) -> Iterator[str]:
    """Formats CSV, one row per image: path, class, probability, class2, ...; empty cells for unreadable images.

    A name with a line break is quoted over two lines; see `csv_cell` for names that a spreadsheet would evaluate.
    """
    numbers = ["", *map(str, range(2, most + 1))]
    yield _csv_line(["path", *itertools.chain.from_iterable((f"class{n}", f"probability{n}") for n in numbers)])
    for prediction in predictions:
        pairs = zip(prediction.classes, map(_rounded, prediction.probabilities), strict=True)
        cells = [str(prediction.path), *itertools.chain.from_iterable(pairs)]
        yield _csv_line(cells + [""] * (1 + 2 * most - len(cells)))


def json_lines(predictions: Iterable[Prediction], most: int) -> Iterator[str]:
    """Formats JSON lines: {'path', 'predictions': [{'class', 'probability'}, ...]} or {'path', 'error'} each."""
    del most
    for prediction in predictions:
        result: dict[str, Any] = {"error": prediction.error}
        if prediction.error is None:
            result = {"predictions": as_json(prediction.classes, prediction.probabilities)}
        yield json.dumps({"path": str(prediction.path), **result})


def as_json(classes: Iterable[str], probabilities: Iterable[float]) -> list[dict[str, Any]]:
    """[{'class', 'probability'}, ...] of an image, rounded."""
    pairs = zip(classes, map(_rounded, probabilities), strict=True)
    return [{"class": name, "probability": probability} for name, probability in pairs]


FORMATS: dict[str, Callable[[Iterable[Prediction], int], Iterator[str]]] = {
    "table": table_lines,
    "csv": csv_lines,
    "jsonl": json_lines,
}


def _csv_line(cells: Sequence[str | float]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(map(csv_cell, cells))  # quotes what its own ends of lines hold
    return text.getvalue().removesuffix("\r\n")


def _rounded(probability: float) -> float:
    """Rounds to six significant digits; float32 has about seven."""
    return float(f"{probability:.6g}")
