"""`jft compare`: trains configs with several seeds each and tests them on the same images; makes tables and plots."""

import collections
import copy
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from jft.config import Config, arms_of
from jft.training.comparison import plots, side_by_side, table
from jft.training.comparison.pairs import Pair, pairs
from jft.training.comparison.table import Row
from jft.training.comparison.trial import Outcome, Trial, check, perform
from jft.utils.logger import read_metrics
from jft.utils.text import human_seconds


def compare(
    configs: Sequence[tuple[str, Config]], out: str | Path, *, seeds: int = 3, workers: int = 1
) -> tuple[list[Row], list[Pair]]:
    """Trains and tests every config; writes `compare.md`, `.tex`, `.csv` and `.png`, `pairs.csv` and `curves.png`.

    Args:
      configs: pairs (name, config); a config with arms gives one row per arm.
      out: folder of the files; the runs go into its subfolder `runs/`. Finished runs there are not trained again.
      seeds: number of runs per config, with `config.seed`, `config.seed + 1`, ...
      workers: runs at a time, each in a process of its own on a device of its own. With one, runs follow one another
        in this process, each on all devices.

    Returns:
      One row per config, and the paired tests between them.

    Raises:
      ValueError: two configs have the same name, a config is invalid, its weights are unavailable, or there are fewer
        devices than workers; raised before the first run begins.
      Stopped: a signal came; the same call resumes.
    """
    trials = planned(configs, Path(out), seeds)
    performed = side_by_side.perform_all(trials, workers) if workers > 1 else _one_by_one(trials)
    tested: dict[Path, Outcome] = {}
    rows, tests = [], []
    for trial, result in performed:
        tested[trial.place] = result
        arms = _whole_arms(trials, tested)
        if trial.name in arms:
            rows, tests = _write(arms, tested, Path(out))  # the results so far
    return rows, tests


def planned(configs: Sequence[tuple[str, Config]], out: Path, seeds: int) -> list[Trial]:
    """The runs of a comparison, in the order of its table; arguments as of `compare`."""
    arms = [(name, arm) for config_name, config in configs for name, arm in arms_of(config_name, config)]
    if len({name for name, _ in arms}) < len(arms):
        raise ValueError(f"several runs have one name: {', '.join(name for name, _ in arms)}. Rename the config files.")
    seeded = [(name, _seeded(arm, number), number > 0) for name, arm in arms for number in range(seeds)]
    return [Trial(name, one, out / "runs" / name / f"seed{one.seed}", brief) for name, one, brief in seeded]


def _seeded(config: Config, number: int) -> Config:
    seeded = copy.deepcopy(config)
    seeded.seed = config.seed + number
    return seeded


def _one_by_one(trials: Sequence[Trial]) -> Iterator[tuple[Trial, Outcome]]:
    """Performs all runs in this process, in their order."""
    for trial in trials:
        if not trial.brief:  # what is wrong with any arm is said before the first one is trained
            check(trial)
    took: dict[str, list[float]] = {trial.name: [] for trial in trials}
    for number, trial in enumerate(trials, 1):
        ahead = collections.Counter(other.name for other in trials if not other.place.exists())
        seconds_left = _seconds_left(took, ahead)
        left = f", about {human_seconds(seconds_left)} left" if seconds_left else ""
        print(f"\n== {trial}: run {number} of {len(trials)}{left}", flush=True)
        start, new = time.perf_counter(), not trial.place.exists()
        result = perform(trial)
        if new:
            took[trial.name].append(time.perf_counter() - start)
        yield trial, result


def _seconds_left(took: Mapping[str, Sequence[float]], ahead: Mapping[str, int]) -> float:
    """Estimates the seconds of the remaining runs from finished runs of the same config, else of all; 0 without any.

    Args:
      took: config -> seconds of its finished runs.
      ahead: config -> number of runs that have not begun.
    """
    known = [seconds for runs in took.values() for seconds in runs]
    return sum(count * statistics.mean(took[name] or known) for name, count in ahead.items()) if known else 0.0


def _whole_arms(trials: Sequence[Trial], tested: Mapping[Path, Outcome]) -> dict[str, list[Trial]]:
    """The arms of which every seed is tested, in the order of the trials."""
    arms: dict[str, list[Trial]] = {}
    for trial in trials:
        arms.setdefault(trial.name, []).append(trial)
    return {name: runs for name, runs in arms.items() if all(run.place in tested for run in runs)}


def _write(
    arms: Mapping[str, Sequence[Trial]], tested: Mapping[Path, Outcome], out: Path
) -> tuple[list[Row], list[Pair]]:
    results = {name: [tested[run.place] for run in runs] for name, runs in arms.items()}
    logs = {name: [read_metrics(run.place) for run in runs] for name, runs in arms.items()}
    rows = [Row.of(name, results[name], logs[name]) for name in arms]
    tests = pairs(results)
    table.write(rows, tests, out)
    plots.write(rows, logs, out)
    return rows, tests
