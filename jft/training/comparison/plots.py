"""The plots of a comparison: the accuracies of its arms, and their learning curves."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jft.evaluation.report import charts
from jft.training.comparison.table import Row
from jft.utils import text
from jft.utils.files import written_whole

_LONGEST = 60  # characters of a name beside a bar


def write(rows: Sequence[Row], logs: Mapping[str, Sequence[Sequence[dict[str, Any]]]], out: Path) -> None:
    """Writes `compare.png` and `curves.png`; `logs` are the lines of `metrics.jsonl` of each seed of each arm."""
    with written_whole(out / "compare.png") as aside:
        bars(rows, aside)
    with written_whole(out / "curves.png") as aside:
        curves(logs, aside)


def bars(rows: Sequence[Row], path: Path) -> None:
    """Draws the test accuracies as PNG: one bar per row, mean and standard deviation over the seeds."""
    from matplotlib.figure import Figure  # not pyplot: no display, no state

    figure = Figure(figsize=(8, 1 + 0.4 * len(rows)), layout="constrained")
    axes = figure.subplots()
    means = [100 * statistics.mean(row.accuracies) for row in rows]
    spreads = [100 * statistics.stdev(row.accuracies) if len(row.accuracies) > 1 else 0 for row in rows]
    names = [text.figure(row.name, _LONGEST) for row in rows]
    drawn = axes.barh(range(len(rows)), means, xerr=spreads, color="#2b7bbf", ecolor="#1b2733", capsize=3)
    axes.set_yticks(range(len(rows)), names)
    axes.bar_label(drawn, [f"{mean:.1f}" for mean in means], padding=4)
    axes.invert_yaxis()  # the first row on top, as in the table
    axes.set_xlim(0, 108)
    axes.set_xlabel("test accuracy in %, mean and standard deviation over seeds")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, format="png", dpi=150)


def curves(logs: Mapping[str, Sequence[Sequence[dict[str, Any]]]], path: Path) -> None:
    """Draws the learning curves of all arms as PNG: loss in training and accuracy on validation images by step.

    Args:
      logs: arm -> lines of `metrics.jsonl` of each seed. An arm whose head is solved for has no loss by step.
      path: the file.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6 + 0.18 * len(logs)), layout="constrained")
    left, right = figure.subplots(1, 2)
    charts.draw_bands(left, logs, "train", "loss", "training loss in nats")
    charts.draw_bands(right, logs, "validation", "accuracy", "validation accuracy")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower left", ncols=2, frameon=False)
    figure.suptitle("mean and standard deviation over seeds", fontsize="medium")
    figure.savefig(path, format="png", dpi=150)
