"""Classes of images in files: which files there are, what a model makes of them, and how that is written."""

import csv
import dataclasses
import functools
import glob
import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np

from jft.data import listing
from jft.data.names import natural, normal
from jft.data.notes import report
from jft.evaluation.predictor import Predictor, read_ahead
from jft.utils.text import csv_cell, padded, terminal, width

_LONGEST = 60  # characters of a class in a table
THRESHOLD = 0.5  # from which on an image that may have several labels has one


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a model makes of an image.

    Attributes:
      path: of the image.
      classes: names, the most probable first; () where the image cannot be read, or has none of several labels.
      probabilities: of these, 0 .. 1.
      error: why it cannot be read, a sentence that names it; None if it can.
    """

    path: Path
    classes: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    error: str | None = None


def find(paths: Iterable[str], stdin: TextIO) -> list[Path]:
    """The images that a user names.

    Args:
      paths: files, taken as they are; folders, for the images in them at any depth, natural order, hidden ones left
        out; patterns such as 'photos/*.jpg' or 'photos/**/*.jpg' that the shell did not expand; or '-'.
      stdin: where '-' finds more of them, one a line.

    Returns:
      Their paths, each once, in the order in which they are named.

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
        raise ValueError("no image is named: give files, folders or patterns; or a list of them, one a line, for -.")
    return list(found)


def _expand(name: str) -> list[Path]:
    path = Path(name)
    if path.is_dir():
        left_out = listing.LeftOut()
        images = listing.images_in(path, left_out)
        if not images:
            beside = f" ({left_out})" if left_out.counts else ""
            raise ValueError(f"folder {path} holds no images{beside}: give another one, or files by their names.")
        if left_out.counts:
            report(f"{path}: left out {left_out}.")
        return images
    if path.exists():
        return [path]
    if not glob.has_magic(name):
        raise ValueError(f"there is no file or folder {name}.")
    matches = sorted(glob.glob(name, recursive=True), key=lambda match: [natural(p) for p in Path(match).parts])
    if not matches:
        raise ValueError(f"no file matches {name}.")
    return list(itertools.chain.from_iterable(_expand(match) for match in matches))


def predict_paths(
    predictor: Predictor, paths: Sequence[Path], top: int | None = None, *, calibrated: bool = True
) -> Iterator[Prediction]:
    """Predicts the classes of images in files, a batch at a time; the next one is read while the devices compute.

    Args:
      predictor: the model.
      paths: of images.
      top: how many classes to tell of each; None: the most probable one, or, where an image may have several labels,
        each whose probability is 1/2 or more.
      calibrated: see `Predictor.predict`.

    Yields:
      A prediction for each path, in their order; of an image that cannot be read, the error.

    Raises:
      ValueError: top is below 1.
    """
    if top is not None and top < 1:
        raise ValueError(f"top = {top}: give 1 or more classes an image.")
    temperature = predictor.temperature if calibrated else 1.0
    ahead = iter(paths)
    for squares in read_ahead(functools.partial(_read, predictor), paths, predictor.batch_size):
        readable = [square for square in squares if not isinstance(square, str)]
        if readable:
            rows = iter(predictor.probabilities(predictor.logits(readable), temperature))
        for square in squares:
            if isinstance(square, str):
                yield Prediction(next(ahead), error=square)
            else:
                yield _prediction(predictor, next(ahead), next(rows), top)


def _read(predictor: Predictor, path: Path) -> np.ndarray | str:
    """An image, or why it cannot be read."""
    try:
        return predictor.read(path)
    except ValueError as error:
        return " ".join(str(error).split())


def _prediction(predictor: Predictor, path: Path, probabilities: np.ndarray, top: int | None) -> Prediction:
    order = np.argsort(-probabilities, kind="stable")
    count = top or 1
    if top is None and predictor.objective.multi_label:
        count = int((probabilities >= THRESHOLD).sum())
    order = order[:count]
    return Prediction(path, tuple(predictor.class_names[c] for c in order), tuple(map(float, probabilities[order])))


def label_of(path: Path, class_names: Sequence[str]) -> str | None:
    """The class whose folder an image lies in, or None where the folder is called otherwise."""
    name = normal(path.absolute().parent.name)
    return name if name in class_names else None


def columns(predictor: Predictor, top: int | None) -> int:
    """How many classes a prediction may have."""
    classes = len(predictor.class_names)
    return min(top or (classes if predictor.objective.multi_label else 1), classes)


def table_lines(predictions: Iterable[Prediction], most: int) -> Iterator[str]:
    """A table for people; `most` classes an image. It waits for the last prediction, to know how wide it becomes."""
    del most
    rows = [("image", "class", "probability")]
    for prediction in predictions:
        pairs = list(zip(prediction.classes, prediction.probabilities, strict=True))
        told = [(terminal(name, _LONGEST), f"{probability:11.1%}") for name, probability in pairs]
        told = told or [("cannot be read" if prediction.error else "none", "")]
        rows += [(terminal(prediction.path), *told[0]), *(("", *pair) for pair in told[1:])]
    widths = [max(width(row[i]) for row in rows) for i in range(2)]
    for image, name, probability in rows:
        yield f"{padded(image, widths[0])}  {padded(name, widths[1])}  {probability}".rstrip()


def csv_lines(predictions: Iterable[Prediction], most: int) -> Iterator[str]:
    """CSV, a row an image: path, class, probability, class2, probability2, ...; unreadable ones have empty cells.

    A name with an end of line in it is quoted, over two lines; see `csv_cell` for one that a spreadsheet would compute.
    """
    numbers = ["", *map(str, range(2, most + 1))]
    yield _csv_line(["path", *itertools.chain.from_iterable((f"class{n}", f"probability{n}") for n in numbers)])
    for prediction in predictions:
        pairs = zip(prediction.classes, map(_rounded, prediction.probabilities), strict=True)
        cells = [str(prediction.path), *itertools.chain.from_iterable(pairs)]
        yield _csv_line(cells + [""] * (1 + 2 * most - len(cells)))


def json_lines(predictions: Iterable[Prediction], most: int) -> Iterator[str]:
    """JSON, an object a line: {'path', 'predictions': [{'class', 'probability'}, ...]}, or {'path', 'error'}."""
    del most
    for prediction in predictions:
        pairs = zip(prediction.classes, map(_rounded, prediction.probabilities), strict=True)
        told = {"error": prediction.error}
        if prediction.error is None:
            told = {"predictions": [{"class": name, "probability": probability} for name, probability in pairs]}
        yield json.dumps({"path": str(prediction.path), **told})


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
    """To six digits, of which float32 has seven."""
    return float(f"{probability:.6g}")
