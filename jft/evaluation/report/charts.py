"""SVG charts for the report; text and axes take the page's color, for light and dark mode."""

import collections
import io
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jft.metrics.calibration import Reliability
from jft.utils import text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INK = "#010203"  # placeholder for the page's text color
_BLUE, _ORANGE = "#3b82c4", "#d97b29"  # differ in lightness too, on white and on black
_LONGEST = 80  # characters of the name of a line
_STYLE = {
    **{key: _INK for key in ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")},
    "font.size": 10,
    "svg.fonttype": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def curves(lines: Sequence[Mapping[str, Any]], name: str, title: str) -> str:
    """Plots a metric by step, for training and, if there are any, validation lines.

    Args:
      lines: of `metrics.jsonl`.
      name: key of the metric in the lines, such as 'loss'.
      title: label of the axis and of the accessible name.
    """

    return _svg(lambda axes: draw_curves(axes, lines, name, title), f"{title} by step")


def draw_curves(axes: Any, lines: Sequence[Mapping[str, Any]], name: str, title: str) -> None:
    """Draws what `curves` shows into the axes of a figure."""
    kinds = (("train", _BLUE, "-", None), ("validation", _ORANGE, "--", "o"))
    for kind, color, style, marker in kinds:
        own = [(line["step"], line[name]) for line in lines if line["kind"] == kind and name in line]
        if own:
            one = marker or ("o" if len(own) == 1 else None)
            axes.plot(*zip(*own, strict=True), style, color=color, label=kind, marker=one, markersize=4)
    axes.set_xlabel("step")
    axes.set_ylabel(title)
    if len(axes.lines) > 1:
        axes.legend()


def rate_curve(
    rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], marked: Sequence[float]
) -> str:
    """Plots losses by learning rate, of each step and smoothed, with vertical lines at the marked rates."""

    def draw(axes: Any) -> None:
        axes.plot(rates, losses, ".", color=_BLUE, alpha=0.4, markersize=4, label="of a step")
        axes.plot(rates, smoothed, color=_BLUE, label="smoothed")
        for rate in marked:
            axes.axvline(rate, color=_ORANGE, linestyle="--", linewidth=1)
        axes.set_xscale("log")
        axes.set_ylim(0.9 * min(smoothed), 1.1 * max(smoothed[0], 2 * min(smoothed)))
        axes.set_xlabel("learning rate")
        axes.set_ylabel("loss in nats")
        axes.legend()

    return _svg(draw, "loss by learning rate")


def draw_bands(
    axes: Any, runs: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]], kind: str, name: str, title: str
) -> None:
    """Draws a metric by step, of several runs that have several seeds each, into the axes of a figure.

    The line is the mean of the seeds that have the step, the band their standard deviation on either side.

    Args:
      axes: of matplotlib's.
      runs: label -> lines of `metrics.jsonl` of each seed.
      kind: of lines: 'train' or 'validation'.
      name: key of the metric in the lines.
      title: label of the axis.
    """
    from matplotlib import colormaps

    palette = colormaps["tab10" if len(runs) <= 10 else "turbo"].resampled(max(10, len(runs)))
    for number, (label, seeds) in enumerate(runs.items()):
        values = collections.defaultdict(list)
        for line in itertools.chain(*seeds):
            if line["kind"] == kind and name in line:
                values[line["step"]].append(line[name])
        steps = sorted(values)
        mean = np.array([np.mean(values[step]) for step in steps])
        spread = np.array([np.std(values[step], ddof=1) if len(values[step]) > 1 else 0 for step in steps])
        color = palette(number)
        style = {"color": color, "label": text.figure(label, _LONGEST), "marker": "o" if len(steps) == 1 else None}
        axes.plot(steps, mean, **style)
        axes.fill_between(steps, mean - spread, mean + spread, color=color, alpha=0.2, linewidth=0)
    axes.set_xlabel("step")
    axes.set_ylabel(title)


def training_curves(lines: Sequence[Mapping[str, Any]]) -> "Figure":
    """Loss and accuracy by step, side by side, of training and validation; `lines` of `metrics.jsonl`."""
    from matplotlib.figure import Figure  # not pyplot: no display, no state

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    for axes, (name, title) in zip(
        figure.subplots(1, 2), (("loss", "loss in nats"), ("accuracy", "accuracy")), strict=True
    ):
        draw_curves(axes, lines, name, title)
    return figure


def trainable_parameters(lines: Sequence[Mapping[str, Any]], total: int) -> str:
    """Plots the trainable share of the parameters by step; the area above the line is frozen."""

    def draw(axes: Any) -> None:
        own = [(line["step"], line["learning"] / total) for line in lines if line["kind"] == "train"]
        steps, shares = zip((0, own[0][1]), *own, strict=True)
        axes.fill_between(steps, shares, step="pre", color=_ORANGE, alpha=0.6, linewidth=0)
        axes.set_yscale("log" if 0 < min(shares) < 0.1 else "linear")
        axes.set_ylim(min(min(shares) / 2, 0.5) if 0 < min(shares) < 0.1 else 0, 1)
        axes.set_xlabel("step")
        axes.set_ylabel("trainable share of parameters")

    return _svg(draw, "trainable share of the parameters, by step")


def reliability(before: Reliability, after: Reliability | None) -> str:
    """Plots accuracy by confidence, without and with temperature scaling."""

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], ":", color=_INK, linewidth=1)
        for found, color, marker, label in (
            (before, _BLUE, "o", "uncalibrated"),
            (after, _ORANGE, "s", "with temperature"),
        ):
            if found is not None:
                some = found.count > 0
                sizes = 12 + 100 * found.count[some] / found.count.sum()
                axes.plot(found.confidence[some], found.accuracy[some], color=color, linewidth=1)
                axes.scatter(
                    found.confidence[some], found.accuracy[some], sizes, color=color, marker=marker, label=label
                )
        axes.set(xlim=(0, 1.02), ylim=(0, 1.04), xlabel="confidence", ylabel="accuracy")
        axes.legend(loc="lower right")

    return _svg(draw, "reliability diagram: accuracy by confidence; marker area is the number of predictions")


def times(seconds: Mapping[str, float]) -> str:
    """Plots the seconds spent on each part of a run, one bar per part."""

    def draw(axes: Any) -> None:
        bars = axes.barh(list(seconds), list(seconds.values()), color=_BLUE)
        axes.bar_label(bars, [f"{value:,.1f} s" for value in seconds.values()], padding=4, color=_INK)
        axes.set_xlim(0, 1.25 * max(seconds.values(), default=1) or 1)
        axes.invert_yaxis()
        axes.set_xlabel("seconds")

    return _svg(
        draw,
        "seconds spent on " + ", ".join(f"{k}: {v:.1f}" for k, v in seconds.items()),
        height=0.9 + 0.35 * len(seconds),
    )


def _svg(draw: Any, name: str, *, height: float = 2.9) -> str:
    """An <svg> element with the accessible name `name`."""
    import matplotlib
    from markupsafe import escape
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {**_STYLE, "svg.hashsalt": name}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(4.4, height), layout="constrained", facecolor="none")
        axes = figure.subplots()
        axes.set_facecolor("none")
        draw(axes)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", svg)
    # Drops the ids of groups, which are the same in every chart: a page may hold an id once. Marker ids are referenced.
    svg = re.sub(r'(<g) id="[^"]*"| xmlns(?::xlink)?="[^"]*"', r"\1", svg)
    size = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', svg)
    assert size is not None  # Matplotlib writes one
    return svg.replace(size.group(0), f'role="img" aria-label="{escape(name)}"', 1)
