"""Draws a grid of images with their predictions, as PNG, SVG or PDF."""

import collections
import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from jft.utils.files import written_whole
from jft.utils.text import terminal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")
COLUMNS = 5

_CELL = (2.2, 2.75)  # inches: width, and height with room for three lines of text
_TITLE = 0.4  # inches
_WIDTH = 26  # characters per line of a caption
_DPI = 100
_INK, _GRAY, _WRONG = "#1b2733", "#aab4be", "#c62828"


def check_path(path: Path) -> None:
    """Raises a ValueError unless the suffix is one of `SUFFIXES`."""
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path} has the suffix {path.suffix!r}: a grid is drawn as {', '.join(SUFFIXES)}.")


def wrong(predicted: str, label: str | None) -> bool:
    """Whether a prediction is known to be wrong."""
    return label is not None and predicted != label


def caption(predicted: str, probability: float | None, label: str | None) -> str:
    """Caption of an image: the prediction, with a cross if it is wrong, and the true class if it is known."""
    prediction = terminal(predicted, 40) + ("" if probability is None else f" {probability:.0%}")
    lines = textwrap.wrap(f"✗ {prediction}" if wrong(predicted, label) else prediction, _WIDTH)
    return "\n".join(lines if label is None else [*lines, terminal(f"true: {label}", _WIDTH)])


def spread(sizes: Sequence[int], count: int) -> list[int]:
    """How many to take from each of several groups of these sizes, at most `count` in all, as equally as possible."""
    turns = sorted((turn, group) for group, size in enumerate(sizes) for turn in range(size))
    taken = collections.Counter(group for _, group in turns[:count])
    return [taken[group] for group in range(len(sizes))]


def draw(
    path: str | Path,
    images: Sequence[np.ndarray],
    predicted: Sequence[str],
    probabilities: Sequence[float | None],
    labels: Sequence[str | None],
    *,
    title: str = "",
    columns: int = COLUMNS,
) -> None:
    """Draws images in rows; a wrong prediction has a red frame and a cross.

    Args:
      path: the file, replaced if it exists; its suffix, one of `SUFFIXES`, is the format.
      images: n images, at least 1: uint8 [h, w, 3], RGB, 0 .. 255, of any size.
      predicted: n names of classes.
      probabilities: n probabilities of the predictions, 0 .. 1; None is not shown.
      labels: n names of true classes; None if unknown, then nothing is marked as wrong.
      title: a line above the grid.
      columns: number of images in a row.

    Raises:
      ValueError: another suffix, no images, or sequences of different lengths.
    """
    path = Path(path)
    check_path(path)
    figure = _figure(images, predicted, probabilities, labels, title, columns)
    with written_whole(path) as aside:
        figure.savefig(aside, format=path.suffix[1:].lower(), dpi=_DPI)


def to_image(
    images: Sequence[np.ndarray], captions: Sequence[str], *, title: str = "", columns: int = COLUMNS
) -> Image.Image:
    """What `draw` draws of images with captions, for a notebook, which shows a PIL image by itself."""
    nothing = [None] * len(images)
    return rendered(_figure(images, captions, nothing, nothing, title, columns))


def rendered(figure: "Figure") -> Image.Image:
    """A figure of matplotlib's as a PIL image."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DPI)
    return Image.open(file, formats=("PNG",))


def _figure(
    images: Sequence[np.ndarray],
    predicted: Sequence[str],
    probabilities: Sequence[float | None],
    labels: Sequence[str | None],
    title: str,
    columns: int,
) -> "Figure":
    from matplotlib.figure import Figure  # not pyplot: no display, no state

    counts = [len(each) for each in (images, predicted, probabilities, labels)]
    if not counts[0] or len(set(counts)) > 1:
        raise ValueError(
            f"{counts[0]} images with {counts[1]} predictions, {counts[2]} probabilities and {counts[3]} labels: give "
            "one of each per image, and at least one image."
        )
    across = min(len(images), columns)
    down = -(-len(images) // across)
    size = (_CELL[0] * max(across, 2), _CELL[1] * down + _TITLE)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(down, across, squeeze=False).ravel()
    for axes, image, said, sure, label in zip(grid, images, predicted, probabilities, labels, strict=False):
        _draw_cell(axes, image, said, sure, label)
    for axes in grid[len(images) :]:
        axes.set_axis_off()
    figure.suptitle(title, fontsize=10, color=_INK, parse_math=False)
    return figure


def _draw_cell(axes, image: np.ndarray, predicted: str, probability: float | None, label: str | None) -> None:  # noqa: ANN001
    is_wrong = wrong(predicted, label)
    axes.imshow(image)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(color=_WRONG if is_wrong else _GRAY, linewidth=4 if is_wrong else 0.8)
    # parse_math=False: a '$' in a name is no formula.
    axes.set_title(
        caption(predicted, probability, label), fontsize=9, color=_WRONG if is_wrong else _INK, parse_math=False
    )
