"""Logs of a run: `metrics.jsonl`, TensorBoard, a progress bar."""

import contextlib
import datetime
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from jft.utils import checksum, distributed, json_file
from jft.utils.event_file import EventFile
from jft.utils.files import open_regular, written_whole
from jft.utils.progress_bar import ProgressBar

if TYPE_CHECKING:
    from PIL import Image


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON, whole or not at all; tuples become lists."""
    with written_whole(path) as aside:
        aside.write_text(json.dumps(value, indent=2) + "\n")


class Line(TypedDict):
    """The types of any line of the log; all measures are numbers."""

    step: int
    kind: str
    seconds: NotRequired[float]
    loss: NotRequired[float]
    accuracy: NotRequired[float]
    learning_rate: NotRequired[float]
    images_per_second: NotRequired[float]


class TimedLine(Line):
    """Of a kind whose time is added up."""

    seconds: float


class TrainLine(TimedLine):
    """Training over a span of steps, or of a head fitted directly."""

    phase: str
    boundary: str
    learning: int
    batch_norm: str


class SteppedLine(TrainLine):
    """Of steps, which have a loss."""

    waiting: float


_SHAPES = {"features": TimedLine, "train": TrainLine}
_REMEDY = "mend the line, or delete it"


class Logs:
    """Metrics by step, to `<workdir>/metrics.jsonl` and to TensorBoard files in `<workdir>/tensorboard`.

    Of several processes the first one writes; the others' logs do nothing.
    """

    def __init__(self, workdir: Path, step: int) -> None:
        """Opens the logs of a run that stands at `step`; what an interrupted run wrote beyond it is dropped.

        Raises:
          ValueError: see `read_metrics`.
        """
        self._writes, self._workdir = distributed.is_first(), workdir
        if not self._writes:
            return
        path = workdir / "metrics.jsonl"
        if path.exists():
            lines = [line for line in read_metrics(workdir) if line["step"] <= step]
            with written_whole(path) as aside:
                aside.write_text("".join(_as_text(line) for line in lines))
        self._file = path.open("a")
        self._board = EventFile(workdir / "tensorboard", purge_step=step + 1 if step else 0)

    def write(self, step: int, kind: str, values: dict[str, float | str]) -> None:
        """One line `{'step', 'kind', 'time', ...values}`, the time UTC; in TensorBoard the tags are '<kind>/<name>'."""
        if self._writes:
            self._write(step, kind, values)
            numbers = {f"{kind}/{name}": value for name, value in values.items() if not isinstance(value, str)}
            self._board.scalars(step, numbers)

    def text(self, step: int, name: str, text: str) -> None:
        """One line of kind 'text', with the text; TensorBoard shows it with its lines and columns."""
        if self._writes:
            self._write(step, "text", {"name": name, "text": text})
            self._board.text(step, name, f"```\n{text}\n```")

    def image(self, step: int, name: str, image: "Image.Image") -> None:
        """One line of kind 'image', with the name of the PNG file in the run's folder that the image is written to."""
        if self._writes:
            path = self._workdir / "images" / f"{name.replace(' ', '_')}_{step}.png"
            path.parent.mkdir(exist_ok=True)
            with written_whole(path) as aside:
                image.save(aside, "PNG")
            self._write(step, "image", {"name": name, "file": str(path.relative_to(self._workdir))})
            self._board.image(step, name, path.read_bytes())

    def _write(self, step: int, kind: str, values: dict[str, float | str]) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        self._file.write(_as_text({"step": step, "kind": kind, "time": now, **values}))
        self._file.flush()

    def close(self) -> None:
        """Closes both."""
        if not self._writes:
            return
        self._file.close()
        self._board.close()


def _as_text(line: dict[str, Any]) -> str:
    return json.dumps(checksum.added(line)) + "\n"


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl`, without a last one that was cut off when the run was killed.

    Raises:
      ValueError: another line is none of the log's; names it.
    """
    path = workdir / "metrics.jsonl"
    with open_regular(path) as file:
        *texts, last = file.read().split(b"\n")
    # All lines have a checksum, or, of an earlier version, none: what resumes such a run writes all of them anew.
    has_one = [f'"{checksum.KEY}"'.encode() in text for text in texts]
    if any(has_one) and not all(has_one):
        line = f"{path}, line {has_one.index(False) + 1}"
        raise ValueError(f"{line}: it has no {checksum.KEY}, as the others have: it was changed or damaged; {_REMEDY}.")
    lines = [_line(text, f"{path}, line {number}") for number, text in enumerate(texts, 1)]
    with contextlib.suppress(ValueError):
        lines += [_line(last, "the last line")] if last else []
    return lines


def _line(text: bytes, name: str) -> dict[str, Any]:
    line = json_file.parse(text, Line, name, _REMEDY)
    stepped = line["kind"] == "train" and "loss" in line
    return json_file.parse(text, SteppedLine if stepped else _SHAPES.get(line["kind"], Line), name, _REMEDY)


def progress_bar(*, total: int, initial: int, unit: str, description: str) -> ProgressBar:
    """A bar on standard error; where that is no terminal, a line now and then instead of a redrawn one.

    Of several processes the first one draws.
    """
    interval = 0.5 if os.isatty(2) else 30.0
    return ProgressBar(
        total=total,
        initial=initial,
        unit=unit,
        desc=description,
        mininterval=interval,
        dynamic_ncols=True,
        leave=True,
        disable=not distributed.is_first(),
    )
