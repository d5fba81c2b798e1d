"""The output of `jft suggest`: a table and a plot of the models, and a config file to train the recommended one."""

import copy
import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import jax

from jft.config import Config
from jft.data import datasets
from jft.training.suggest import Probed, at_hand, make_config, pareto, pick, probe_one, sample
from jft.utils.files import check_folder, written_whole
from jft.utils.option_names import option
from jft.utils.text import aligned, human_bytes, one_line, terminal
from jft.weights.catalog import WeightSet

_HEADER = ("", "weights", "accuracy", "95 % interval", "images/s", "memory", "parameters", "probe")
_FIELDS = (
    *("dataset", "data_dir", "image_column", "label_column", "skip_unreadable"),
    *("model", "weights", "weights_path", "fit", "cut", "head", "pool", "flip"),
)
_ARMS = """    config.arms = (
        ("probe", %s),
        ("fine-tuned", {"preset": "fine_tune", "epochs": 8.0}),
    )"""


def write(config: Config, out: Path, *, patterns: Sequence[str], weights_path: str, images: int, force: bool) -> None:
    """Probes the weight sets on this machine, prints a table, and writes `suggest.png` and the config `suggested.py`.

    Args:
      config: says where the images are and how they are read.
      out: folder of the two files; need not exist.
      patterns: patterns of names of sets, see `at_hand`.
      weights_path: see `at_hand`.
      images: size of the sample.
      force: replace existing files.

    Raises:
      ValueError: the files exist or cannot be written; there are no sets or too few images; or no set could be probed.
      Stopped: a signal came; nothing is written, and the same call resumes.
    """
    another = f"give another {option('out')}"
    check_folder(out, another)
    config_file, plot_file = out / "suggested.py", out / "suggest.png"
    if there := [str(path) for path in (config_file, plot_file) if path.exists() and not force]:
        raise ValueError(f"{' and '.join(there)} exist already: {another}, or {option('force', True)}.")
    everything = datasets.of_config(config, "train", validation=0)
    sets = at_hand(patterns, weights_path)
    if others := _unknown(weights_path, sets):
        print(f"ignored, not the published name of a requested set: {', '.join(others)}")
    source, broken = sample(everything, images)
    left_out = f", {broken} unreadable images skipped" if broken else ""
    print(f"{terminal(source.name)}: {len(source):,} of {len(everything):,} training images{left_out}", flush=True)
    config = copy.deepcopy(config)
    config.skip_unreadable = broken > 0
    rows = _probed(sets, config, source)
    if not rows:
        raise ValueError("none of the weights could be probed: see the lines above for the reasons.")
    chosen = pick(rows)
    out.mkdir(parents=True, exist_ok=True)
    with written_whole(plot_file) as aside:
        plot(rows, aside)
    with written_whole(config_file) as aside:
        aside.write_text(config_text(chosen, config_file, len(source.class_names)))
    print(f"\n{table(rows)}\n\nPick: {chosen.title}\n  jft train {config_file}\n  plot: {plot_file}")


def _unknown(weights_path: str, sets: Sequence[tuple[WeightSet, str]]) -> list[str]:
    """Names of files in the folder that do not belong to these sets."""
    used = {Path(path).name for _, path in sets}
    lying = Path(weights_path).expanduser().iterdir() if weights_path else ()
    return sorted(path.name for path in lying if path.name not in used)


def _probed(sets: Sequence[tuple[WeightSet, str]], config: Config, source: datasets.Source) -> list[Probed]:
    """Probes each set and prints one line per set; skips sets that fail."""
    rows = []
    for row, weights_path in sets:
        try:
            rows.append(probe_one(make_config(config, row, weights_path), source))
        except (ValueError, OSError, jax.errors.JaxRuntimeError) as error:  # too large for the memory, too
            print(f"WARNING: {row.name} is skipped: {one_line(error)}", flush=True)
        else:
            print(f"{rows[-1].title}: {rows[-1].accuracy:.2%}", flush=True)
    return rows


def table(rows: Sequence[Probed]) -> str:
    """Formats one line per set, the most accurate first; '*': Pareto front of accuracy and speed, '>': the pick."""
    front, chosen = pareto(rows), pick(rows)
    cells: list[tuple[str, ...]] = [_HEADER]
    for row in sorted(rows, key=lambda row: -row.accuracy):
        low, high = row.interval
        mark = f"{'>' if row is chosen else ' '}{'*' if row in front else ' '}"
        speed, memory = f"{row.images_per_second:,.1f}", human_bytes(row.nbytes)
        values = (f"{row.accuracy:.2%}", f"{low:.2%} to {high:.2%}", speed, memory, f"{row.parameters:,}")
        probe = "" if row.best is None else f"{row.best.method}, {row.best.features}"
        cells.append((mark, row.title, *values, probe))
    return "\n".join(aligned(cells, right=(2, 3, 4, 5, 6)))


def plot(rows: Sequence[Probed], path: Path) -> None:
    """Plots accuracy against images/s as PNG; the area of a disc shows parameters, the line is the Pareto front."""
    from matplotlib.figure import Figure  # not pyplot: no display, no state

    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.subplots()
    most, chosen = max(row.parameters for row in rows), pick(rows)
    speeds, accuracies = [row.images_per_second for row in rows], [100 * row.accuracy for row in rows]
    areas = [1500 * row.parameters / most for row in rows]
    axes.scatter(speeds, accuracies, s=areas, color="#2b7bbf", alpha=0.5, linewidths=0)
    axes.scatter(speeds, accuracies, s=6, color="#1b2733")
    front = sorted((row.images_per_second, 100 * row.accuracy) for row in pareto(rows))
    axes.plot(*zip(*front, strict=True), color="#1b2733", linewidth=1, linestyle="--")
    for row in rows:
        axes.annotate(
            row.title + (" (the pick)" if row is chosen else ""),
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


def config_text(row: Probed, path: Path, classes: int) -> str:
    """The text of a config file for the pick, with two arms: a linear probe and a fine-tuned network.

    Args:
      row: the pick.
      path: path of the file, for the command in it.
      classes: number of classes.
    """
    own, low_high = row.config, " to ".join(f"{100 * bound:.2f}" for bound in row.interval)
    data = _plain(Path(own.data_dir).name or own.dataset)
    shown = {name: own[name] for name in _FIELDS if name == "flip" or own[name]}
    lines = [f"    config.{name} = {_literal(value)}" for name, value in shown.items()]
    lines = [f"{line}  # True where mirrored images keep their class" if ".flip" in line else line for line in lines]
    arms = _ARMS % json.dumps(dict(row.fields))
    command = shlex.quote(str(path)).replace("\\", "\\\\").replace('"', '\\"')
    return (
        f'"""{data}, {classes} classes, on {_plain(row.title)}: a probe of its frozen features,\n'
        "and the network fine-tuned from there.\n\n"
        f"    jft train {command}\n\n"
        f"`jft suggest` cross-validated a probe on {len(row.right):,} training images: {100 * row.accuracy:.2f} %\n"
        f"(95 % interval {low_high}), {row.images_per_second:,.1f} images/s forward. The fine-tuned arm was not run.\n"
        '"""\n\n'
        "from jft.config import default_config\n\n\n"
        "def get_config():\n"
        "    config = default_config()\n" + "\n".join(lines) + f"\n{arms}\n    return config\n"
    )


def _literal(value: object) -> str:
    """The Python literal, with double quotes if all characters are printable."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) and value.isprintable() else repr(value)


def _plain(text: str) -> str:
    return terminal(text).replace("\\", "/").replace('"', "'")
