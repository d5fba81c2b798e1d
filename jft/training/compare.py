"""`jft compare`: trains configs with several seeds each and tests them on the same images; makes a table and a plot."""

import copy
import csv
import dataclasses
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from jft.config import Config, arms_of
from jft.evaluation.evaluate import evaluate
from jft.evaluation.results import seen_warning
from jft.training.loop import checked_run, train
from jft.training.state import check_weights
from jft.utils import text
from jft.utils.files import written_whole
from jft.utils.logger import read_metrics
from jft.utils.ranking import score
from jft.utils.registry import code_allowed
from jft.utils.stopped import Stopped
from jft.utils.text import human_seconds

COLUMNS = (
    "run",
    "seeds",
    "test accuracy",
    "log loss",
    "training time",
    "features",
    "parameters",
    "trainable",
    "images/s",
)


_LONGEST = 40  # characters of a name beside a bar


@dataclasses.dataclass(frozen=True)
class Row:
    """The results of one config over its seeds.

    Attributes:
      name: the config's name and its arm.
      accuracies: test accuracy of each seed, 0 to 1; mean average precision if images have several labels.
      losses: test cross entropy of each seed, in nats.
      seconds: training time of each seed, without compilation and evaluation.
      extraction: seconds spent computing features, of all seeds together, because seeds share the cache.
      parameters: number of parameters of the network.
      trainable: number of trainable parameters, in the phase with the most.
      images_per_second: throughput of each seed, the median over its log lines; () if a solver fits the head.
    """

    name: str
    accuracies: tuple[float, ...]
    losses: tuple[float, ...]
    seconds: tuple[float, ...]
    extraction: float
    parameters: int
    trainable: int
    images_per_second: tuple[float, ...]

    def cells(self) -> tuple[str, ...]:
        """The cells of `COLUMNS`, as mean ± standard deviation over the seeds."""
        return (
            text.markdown(self.name),
            str(len(self.accuracies)),
            _spread([100 * a for a in self.accuracies], ".2f", " %"),
            _spread(self.losses, ".3f"),
            _spread(self.seconds, ".1f", " s"),
            f"{self.extraction:.1f} s" if self.extraction else "-",
            f"{self.parameters:,}",
            f"{self.trainable:,}",
            _spread(self.images_per_second, ",.0f") if self.images_per_second else "-",
        )


def compare(configs: Sequence[tuple[str, Config]], out: str | Path, *, seeds: int = 3) -> list[Row]:
    """Trains and tests every config, and writes `compare.md`, `compare.csv` and `compare.png`.

    Args:
      configs: pairs (name, config); a config with arms gives one row per arm.
      out: folder of the files; the runs go into its subfolder `runs/`. Finished runs there are not trained again.
      seeds: number of runs per config, with `config.seed`, `config.seed + 1`, ...

    Returns:
      One row per config.

    Raises:
      ValueError: two configs have the same name, a config is invalid, or its weights are unavailable; raised before
        the first run begins.
    """
    arms = [(name, arm) for config_name, config in configs for name, arm in arms_of(config_name, config)]
    if len({name for name, _ in arms}) < len(arms):
        raise ValueError(f"several runs have one name: {', '.join(name for name, _ in arms)}. Rename the config files.")
    runs = {name: [_seeded(arm, i) for i in range(seeds)] for name, arm in arms}
    places = {name: [Path(out) / "runs" / name / f"seed{c.seed}" for c in configs] for name, configs in runs.items()}
    for name in runs:
        with code_allowed():  # the user is about to train it
            check_weights(checked_run(runs[name][0], places[name][0]))
    rows, number, took = [], 0, {name: [] for name in runs}
    for name in runs:
        for config, place in zip(runs[name], places[name], strict=True):
            number += 1
            seconds_left = _seconds_left(took, {other: sum(not p.exists() for p in places[other]) for other in runs})
            left = f", about {human_seconds(seconds_left)} left" if seconds_left else ""
            print(f"\n== {name}, seed {config.seed}: run {number} of {len(runs) * seeds}{left}", flush=True)
            start, new = time.perf_counter(), not place.exists()
            trained = train(config, place, brief=config is not runs[name][0])
            if not trained["finished"]:
                raise Stopped(trained["signal"])
            if new:
                took[name].append(time.perf_counter() - start)
        rows.append(_row(name, places[name]))
        write(rows, Path(out))  # the results so far
    return rows


def _seconds_left(took: Mapping[str, Sequence[float]], ahead: Mapping[str, int]) -> float:
    """Estimates the seconds of the remaining runs from finished runs of the same config, else of all; 0 without any.

    Args:
      took: config -> seconds of its finished runs.
      ahead: config -> number of runs that have not begun.
    """
    known = [seconds for runs in took.values() for seconds in runs]
    return sum(count * statistics.mean(took[name] or known) for name, count in ahead.items()) if known else 0.0


def _seeded(config: Config, number: int) -> Config:
    seeded = copy.deepcopy(config)
    seeded.seed = config.seed + number
    return seeded


def _row(name: str, places: Sequence[Path]) -> Row:
    tested = [evaluate(place) for place in places]
    for place, values in zip(places, tested, strict=True):
        if warning := seen_warning(values):
            print(f"{place}: {warning}", flush=True)
    lines = [read_metrics(place) for place in places]
    speeds = [[line["images_per_second"] for line in run if "images_per_second" in line] for run in lines]
    return Row(
        name,
        tuple(score(values) for values in tested),
        tuple(values["loss"] for values in tested),
        tuple(sum(line["seconds"] for line in run if line["kind"] == "train") for run in lines),
        sum(line["seconds"] for run in lines for line in run if line["kind"] == "features"),
        tested[0]["parameters"],
        max(line.get("learning", 0) for line in lines[0]),
        tuple(statistics.median(speed) for speed in speeds if speed),
    )


def write(rows: Sequence[Row], out: Path) -> None:
    """Writes the table as Markdown and CSV, and the plot as PNG."""
    table = markdown(rows)
    with written_whole(out / "compare.md") as aside:
        aside.write_text(table + "\n")
    with written_whole(out / "compare.csv") as aside, aside.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in dataclasses.fields(Row)])
        for row in rows:
            values = dataclasses.astuple(row)
            cells = [" ".join(map(repr, value)) if isinstance(value, tuple) else value for value in values]
            writer.writerow(map(text.csv_cell, cells))
    with written_whole(out / "compare.png") as aside:
        plot(rows, aside)


def markdown(rows: Sequence[Row]) -> str:
    """Formats the table as Markdown, with aligned columns for reading in a terminal."""
    table = [COLUMNS, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for cells in table:
        name, *others = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        lines.append(f"| {name.strip():<{widths[0]}} | {' | '.join(others)} |")
    rule = "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])])
    return "\n".join([lines[0], f"|{rule}|", *lines[1:]])


def plot(rows: Sequence[Row], path: Path) -> None:
    """Draws the test accuracies as PNG: one bar per row, mean and standard deviation over the seeds."""
    from matplotlib.figure import Figure  # not pyplot: no display, no state

    figure = Figure(figsize=(8, 1 + 0.4 * len(rows)), layout="constrained")
    axes = figure.subplots()
    means = [100 * statistics.mean(row.accuracies) for row in rows]
    spreads = [100 * statistics.stdev(row.accuracies) if len(row.accuracies) > 1 else 0 for row in rows]
    names = [text.figure(row.name, _LONGEST) for row in rows]
    bars = axes.barh(range(len(rows)), means, xerr=spreads, color="#2b7bbf", ecolor="#1b2733", capsize=3)
    axes.set_yticks(range(len(rows)), names)
    axes.bar_label(bars, [f"{mean:.1f}" for mean in means], padding=4)
    axes.invert_yaxis()  # the first row on top, as in the table
    axes.set_xlim(0, 108)
    axes.set_xlabel("test accuracy in %, mean and standard deviation over seeds")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, format="png", dpi=150)


def _spread(values: Sequence[float], form: str, unit: str = "") -> str:
    mean = format(statistics.mean(values), form)
    return f"{mean} ± {statistics.stdev(values):{form}}{unit}" if len(values) > 1 else f"{mean}{unit}"
