"""Arms: one experiment trained in several ways and tested on the same images, side by side."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import logging

from jft.config import Config, arm_config
from jft.evaluation.evaluate import evaluate
from jft.evaluation.results import seen_warning
from jft.training.loop import checked_run, train
from jft.training.state import check_weights
from jft.utils import distributed, waiting
from jft.utils.ranking import score
from jft.utils.registry import code_allowed
from jft.utils.text import named_step


def train_arms(config: Config, workdir: str | Path, *, report: bool = False) -> int:
    """Trains the config, or each of its arms in `<workdir>/<arm>` and then tests them all.

    Args:
      config: from a config file; `config.arms` is ((name, {field: value}), ...).
      workdir: folder of the run, or of the arms' runs.
      report: write `report.html` into the folder of each run that is finished.

    Returns:
      Exit status: 0, or 128 + n if signal n stopped it; the same call then goes on.
    """
    if not config.arms:
        result = train(config, workdir)
        if result["finished"] and report:
            write_page(workdir)
        return 0 if result["finished"] else 128 + result["signal"]
    runs = {name: Path(workdir) / name.replace(" ", "_") for name, _ in config.arms}
    configs = {name: arm_config(config, name, changes) for name, changes in config.arms}
    for name, arm in configs.items():  # what is wrong with any arm is said before the first one is trained
        with code_allowed():
            check_weights(checked_run(arm, runs[name]))
    for name, arm in configs.items():
        distributed.say(f"\n== {name}")
        result = train(arm, runs[name])
        if not result["finished"]:
            return 128 + result["signal"]
    results = {name: (report and write_page(run)) or evaluate(run) for name, run in runs.items()}
    distributed.say(f"\n{table(results)}")
    distributed.say(f"\nEach is a run of its own: jft evaluate {runs[name]}")
    return 0


def arms_in(folder: str | Path) -> dict[str, Path]:
    """Name -> folder of the runs in a folder that is none itself; {} if it is a run, or holds none."""
    folder = Path(folder)
    if not folder.is_dir() or (folder / "config.json").exists() or (folder / "checkpoints").exists():
        return {}
    runs = [path for path in folder.iterdir() if (path / "config.json").is_file() and (path / "checkpoints").is_dir()]
    return {path.name: path for path in sorted(runs, key=lambda path: (path.stat().st_ctime_ns, path.name))}


def table(results: Mapping[str, dict[str, Any]], split: str = "test") -> str:
    """The figures of several runs, a line each, in a column of their own each."""
    rate = "mean AP" if any("mean_average_precision" in tested for tested in results.values()) else "top-1"
    lines = [f"{f'on the {split} images':<24}{rate:>8}{'loss':>9}{'images':>10}"]
    for name, tested in results.items():
        kept = f"  {named_step(tested['step'], tested['phase'])}" if tested["phase"] else ""
        lines.append(f"{name:<24}{score(tested):>8.1%}{tested['loss']:>9.3f}{tested['count']:>10,}{kept}")
        if told := seen_warning(tested):
            lines.append(f"  {told}")
    return "\n".join(lines)


def write_page(workdir: str | Path) -> dict[str, Any] | None:
    """Writes a run's page and returns its figures; None, and a line that says why, where that cannot be.

    The run is done and saved whatever becomes of its page.
    """
    from jft.evaluation.report import write_report

    if distributed.several():
        distributed.say(f"No report yet, which one process writes: jft report {workdir}")
        return None
    waiting.doing("testing the run and writing its report")
    try:
        path, result = write_report(workdir)
    except Exception as error:  # memory, for one: a page is no reason for a run that is done to look failed
        logging.warning("there is no report: %s: %s", type(error).__name__, error)
        return None
    low, high = result["accuracy_interval"] or (0.0, 1.0)
    told = f"test accuracy {result['accuracy']:.2%} (95 % interval {low:.2%} to {high:.2%})"
    distributed.say(f"{told}, log loss {result['loss']:.4f}. Report: {path}")
    if told := seen_warning(result):
        distributed.say(told)
    return result
