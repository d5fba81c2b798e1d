"""What a comparison of pretrained models comes to: a table, a plot, and a config file that trains."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from jft.models import create_model
from jft.suggest import Probed, pareto, pick
from jft.text import aligned

_HEADER = ("", "weights", "accuracy", "95 % interval", "images/s", "memory", "parameters")
# As configs/flowers_squeezenet.py, which was measured: rates that a network without BatchNorm bears too.
_RECIPE = {"batch_size": 16, "optimizer": "sgd", "learning_rate": 2e-3, "schedule": "cosine"}
_PHASES = """PHASES = (
    {{"name": "probe", "epochs": 30, "freeze": "{last}", "weight_decay": 0.3}},
    {{"name": "fine-tune", "epochs": 12, "freeze": "{middle}", "weight_decay": 0.3, "learning_rate": 1e-3}},
)"""
_ARMS = """    config.arms = (
        ("probe", {"solver": "lbfgs"}),
        ("fine-tuned", {"phases": PHASES, "ema": 0.98}),
    )"""


def table(rows: Sequence[Probed]) -> str:
    """A line a weight set, the most accurate first: '*' is on the Pareto front of accuracy and speed, '>' the pick."""
    front, chosen = pareto(rows), pick(rows)
    cells = [_HEADER]
    for row in sorted(rows, key=lambda row: -row.accuracy):
        low, high = row.interval
        mark = f"{'>' if row is chosen else ' '}{'*' if row in front else ' '}"
        speed, memory = f"{row.images_per_second:,.1f}", f"{row.nbytes / 1e6:,.1f} MB"
        figures = (f"{row.accuracy:.2%}", f"{low:.2%} to {high:.2%}", speed, memory, f"{row.parameters:,}")
        cells.append((mark, row.name, *figures))
    return "\n".join(aligned(cells, right=(2, 3, 4, 5, 6)))


def plot(rows: Sequence[Probed], path: Path) -> None:
    """Draws accuracy against images/s as PNG: the area of a disc is its parameters, the line the Pareto front."""
    from matplotlib.figure import Figure  # not pyplot: no display, no state

    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.subplots()
    most = max(row.parameters for row in rows)
    speeds, accuracies = [row.images_per_second for row in rows], [100 * row.accuracy for row in rows]
    areas = [1500 * row.parameters / most for row in rows]
    axes.scatter(speeds, accuracies, s=areas, color="#2b7bbf", alpha=0.5, linewidths=0)
    axes.scatter(speeds, accuracies, s=6, color="#1b2733")
    front = sorted((row.images_per_second, 100 * row.accuracy) for row in pareto(rows))
    axes.plot(*zip(*front, strict=True), color="#1b2733", linewidth=1, linestyle="--")
    for row in rows:
        axes.annotate(
            row.name + (" (the pick)" if row is pick(rows) else ""),
            (row.images_per_second, 100 * row.accuracy),
            xytext=(6, 6),
            textcoords="offset points",
        )
    axes.set_xscale("log")
    axes.margins(0.2)
    axes.set_xlabel("images/s on this machine, forward pass; area: parameters, dashed: Pareto front")
    axes.set_ylabel("accuracy of a probe in %, cross-validated")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, format="png", dpi=150)


def config_text(row: Probed, path: Path, data: str, classes: int, skip_unreadable: bool) -> str:
    """A config file that trains the pick: a probe, and a fine-tuned network beside it.

    Args:
      row: what was found of it.
      path: where the file will be, for its command.
      data: name of the dataset, for people.
      classes: how many there are.
      skip_unreadable: whether pictures were met that cannot be read.
    """
    own, low_high = row.config, " to ".join(f"{100 * bound:.2f}" for bound in row.interval)
    fields = {name: own[name] for name in ("dataset", "data_dir", "model", "weights", "weights_path")}
    fields |= {"fit": own.fit, "cut": own.cut, "head": own.head, "flip": own.flip, "skip_unreadable": skip_unreadable}
    shown = {name: value for name, value in fields.items() if name == "flip" or value}
    lines = [f"    config.{name} = {_literal(value)}" for name, value in (shown | _RECIPE).items()]
    lines = [f"{line}  # True where mirrored pictures keep their class" if ".flip" in line else line for line in lines]
    body = list(create_model(own.model, cut=own.cut).stages())[:-1]
    phases = _PHASES.format(last=body[-1], middle=body[len(body) // 2])
    command = shlex.quote(str(path)).replace("\\", "\\\\").replace('"', '\\"')
    return (
        f'"""{_plain(data)}, {classes} classes, on {row.name}: a probe of its frozen features; and '
        f"its later half fine-tuned.\n\n"
        f"    jft train --config {command}\n\n"
        f"`jft suggest` cross-validated a probe on {len(row.right):,} training pictures: {100 * row.accuracy:.2f} %\n"
        f"(95 % interval {low_high}), {row.images_per_second:,.1f} images/s forward. The fine-tuned arm was not run.\n"
        '"""\n\n'
        f"from jft.config import default_config\n\n{phases}\n\n\n"
        "def get_config():\n"
        "    config = default_config()\n" + "\n".join(lines) + f"\n{_ARMS}\n    return config\n"
    )


def _literal(value: object) -> str:
    """As Python writes it, with double quotes."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _plain(text: str) -> str:
    return text.replace("\\", "/").replace('"', "'")
