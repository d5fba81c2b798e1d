"""Charts as SVG for a page: text and axes take the page's color, so that they are read in light and dark."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jft.metrics.calibration import Reliability

_INK = "#010203"  # stands for the page's text color until the SVG is written
_BLUE, _ORANGE = "#3b82c4", "#d97b29"  # told apart by lightness too, on white and on black
_STYLE = {
    **{key: _INK for key in ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")},
    "font.size": 10,
    "svg.fonttype": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def curves(lines: Sequence[Mapping[str, Any]], name: str, title: str) -> str:
    """A metric by step, of training and, where there are any, validation.

    Args:
      lines: of `metrics.jsonl`.
      name: of the metric in them, such as 'loss'.
      title: of the axis and for those who cannot see it.
    """

    def draw(axes: Any) -> None:
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

    return _svg(draw, f"{title} by step")


def learning_parameters(lines: Sequence[Mapping[str, Any]], total: int) -> str:
    """What learnt at each step, as a share of all parameters: the frozen set is what is above the line."""

    def draw(axes: Any) -> None:
        own = [(line["step"], line["learning"] / total) for line in lines if line["kind"] == "train"]
        steps, shares = zip((0, own[0][1]), *own, strict=True)
        axes.fill_between(steps, shares, step="pre", color=_ORANGE, alpha=0.6, linewidth=0)
        axes.set_yscale("log" if 0 < min(shares) < 0.1 else "linear")
        axes.set_ylim(min(min(shares) / 2, 0.5) if 0 < min(shares) < 0.1 else 0, 1)
        axes.set_xlabel("step")
        axes.set_ylabel("share of parameters that learns")

    return _svg(draw, "share of the parameters that learns, by step")


def reliability(before: Reliability, after: Reliability | None) -> str:
    """How often predictions of a confidence are right, as the model is and with its temperature."""

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], ":", color=_INK, linewidth=1)
        for found, color, marker, label in (
            (before, _BLUE, "o", "as it is"),
            (after, _ORANGE, "s", "with temperature"),
        ):
            if found is not None:
                some = found.count > 0
                sizes = 12 + 100 * found.count[some] / found.count.sum()
                axes.plot(found.confidence[some], found.accuracy[some], color=color, linewidth=1)
                axes.scatter(
                    found.confidence[some], found.accuracy[some], sizes, color=color, marker=marker, label=label
                )
        axes.set(xlim=(0, 1.02), ylim=(0, 1.04), xlabel="confidence", ylabel="share that is right")
        axes.legend(loc="lower right")

    return _svg(draw, "reliability: share of predictions that are right, by confidence; area is their number")


def times(seconds: Mapping[str, float]) -> str:
    """Where the time went: a bar for each part."""

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


def _svg(draw: Any, told: str, *, height: float = 2.9) -> str:
    """An <svg> element with an accessible name."""
    import matplotlib
    from markupsafe import escape
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": told}):
        figure = Figure(figsize=(4.4, height), layout="constrained", facecolor="none")
        axes = figure.subplots()
        axes.set_facecolor("none")
        draw(axes)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = file.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", text)
    # The groups of all charts have the same ids, and a page may have each once; markers, which are used, have others.
    text = re.sub(r'(<g) id="[^"]*"| xmlns(?::xlink)?="[^"]*"', r"\1", text)
    size = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', text)
    return text.replace(size.group(0), f'role="img" aria-label="{escape(told)}"', 1)
