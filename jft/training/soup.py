"""Greedy soups: one network of the averaged weights of several runs (Wortsman et al., 2022).

https://arxiv.org/abs/2203.05482, recipe 1: runs are tried from the best on validation to the worst, and each stays in
the average if validation does not get worse by it. A soup costs at prediction what one of its runs costs.
"""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jft.config import effective
from jft.data.record import DataRecord
from jft.data.source import Source
from jft.evaluation.checkpoint_info import CheckpointInfo
from jft.evaluation.evaluator import Evaluation
from jft.evaluation.restore import restore
from jft.metrics import image_metrics
from jft.training import noted_images
from jft.training.batch_norm_statistics import over_training_images
from jft.training.batches import make_evaluator
from jft.training.loop import checked_run
from jft.training.phases import in_force
from jft.training.recorded import recorded_config
from jft.training.run import Run, open_folder
from jft.training.state import enter_phase, optimizer_items
from jft.training.step import TrainState
from jft.utils import distributed, tree
from jft.utils.checkpoint import Checkpoints
from jft.utils.lock import claimed
from jft.utils.logger import Logs, write_json
from jft.utils.option_names import option
from jft.utils.ranking import score
from jft.utils.text import aligned

_ALIKE = ("model", "options", "objective", "class_names", "preprocess", "fit")


@dataclasses.dataclass(frozen=True)
class Tried:
    """A run, and the soup with it.

    Attributes:
      run: its folder.
      alone: figures of the run on validation, `Evaluation.summary`, and the `score` if `select_by` is set.
      together: those of the average with it; None of the first, with which the soup begins.
      kept: whether it is in the soup.
    """

    run: str
    alone: dict[str, float]
    together: dict[str, float] | None
    kept: bool


def soup(workdirs: Sequence[str | Path], out: Path, data: Source | None = None) -> list[Tried]:
    """Averages runs greedily into a new run, which is evaluated, exported and reported on as any other.

    Its `soup.json` says what was tried. BatchNorm's statistics that differ between the runs are estimated anew over the
    training images, for each average that is tried.

    Args:
      workdirs: folders of two runs or more, of the same network and classes, trained and validated on the same images.
      out: folder of the new run.
      data: the images, of runs that were trained on images in memory.

    Returns:
      The runs in the order in which they were tried.

    Raises:
      ValueError: the runs differ in more than their weights, have no validation images, or these have changed; or the
        folder holds something else.
    """
    names = [str(one) for one in workdirs]
    if len(names) < 2 or len({Path(one).resolve() for one in names}) < len(names):
        raise ValueError(f"a soup needs two different runs or more, here: {', '.join(names)}.")
    if distributed.several():
        raise ValueError("a soup is made by one process, and there are several: run `jft soup` on one host.")
    with claimed(out):
        return _made(names, out, data)


def _made(names: Sequence[str], out: Path, data: Source | None) -> list[Tried]:
    """As `soup`, in a folder that this process has claimed."""
    if any(not path.name.startswith(".") for path in out.iterdir()):
        what = "a run already" if (out / "config.json").exists() else "files, as of a soup that was interrupted"
        raise ValueError(f"{out} holds {what}: give another {option('to')}, or delete the folder.")
    infos = {one: restore(one).info for one in names}
    _check_alike(infos)
    first = infos[names[0]]
    config = recorded_config(names[0], first)
    config.teacher = ""  # it has taught; its run may be gone
    config.update(effective(config.to_dict()))
    run = checked_run(config, out, data)
    info = noted_images.note(run, run.info(), begins=True)
    if (_digest(info.trained_on), _digest(info.validated_on)) != (
        _digest(first.trained_on),
        _digest(first.validated_on),
    ):
        raise ValueError(f"the images of {names[0]} have changed since it was trained: put them back.")
    start, averages = time.perf_counter(), _Averages(run, names)
    found, best = greedy(names, averages.evaluate, functools.partial(_figures, run))
    variables = averages.variables([other.run for other in found if other.kept])
    weights = infos[found[0].run]
    info = dataclasses.replace(
        info,
        accumulate=weights.accumulate,
        weights=weights.weights,
        pretrained=weights.pretrained,
        cached=weights.cached,
        temperature=best.temperature(),
    )
    _write(run, info, variables, best, found, time.perf_counter() - start)
    return found


def greedy(
    runs: Sequence[str],
    evaluate: Callable[[Sequence[str]], Evaluation],
    figures: Callable[[Evaluation], dict[str, float]],
) -> tuple[list[Tried], Evaluation]:
    """The paper's recipe 1.

    Args:
      runs: their folders.
      evaluate: the average of some of them, on validation.
      figures: those of an evaluation; their `ranking.score` is to be large.

    Returns:
      The runs in the order in which they were tried, of equal scores the smaller loss first; and the average of those
      that stay.
    """
    evaluations = {one: evaluate([one]) for one in runs}
    alone = {one: figures(evaluation) for one, evaluation in evaluations.items()}
    ranked = sorted(runs, key=lambda one: (-score(alone[one]), alone[one]["loss"]))
    found, best = [Tried(ranked[0], alone[ranked[0]], None, True)], evaluations[ranked[0]]
    for one in ranked[1:]:
        evaluation = evaluate([*(other.run for other in found if other.kept), one])
        together = figures(evaluation)
        kept = score(together) >= score(figures(best))
        found.append(Tried(one, alone[one], together, kept))
        best = evaluation if kept else best
    return found, best


class _Averages:
    """Averages of runs, evaluated on validation."""

    def __init__(self, run: Run, members: Sequence[str]) -> None:
        self._run, self._evaluator = run, make_evaluator(run)
        stats = [tree.flatten(restore(one, run.parallel).variables["batch_stats"]) for one in members]
        # BatchNorms that no run has changed keep what they have.
        moved = {name for name, leaf in stats[0].items() for other in stats if not np.array_equal(leaf, other[name])}
        self._moved = {name.rsplit("/", 1)[0] for name in moved}

    def variables(self, members: Sequence[str]) -> Any:
        """The average of some runs' parameters, with statistics of its own; of one run alone what it has."""
        first = restore(members[0], self._run.parallel).variables
        if len(members) == 1:
            return first
        total = {name: np.asarray(leaf, np.float64) for name, leaf in tree.flatten(first["params"]).items()}
        for one in members[1:]:
            others = tree.flatten(restore(one, self._run.parallel).variables["params"])
            total = {name: leaf + np.asarray(others[name], np.float64) for name, leaf in total.items()}
        mean = tree.unflatten({name: (leaf / len(members)).astype(np.float32) for name, leaf in total.items()})
        mixed = {"params": self._run.parallel.place_state(mean), "batch_stats": first["batch_stats"]}
        if self._moved:
            mixed["batch_stats"] = over_training_images(self._run, mixed, norms=self._moved)
        return mixed

    def evaluate(self, members: Sequence[str]) -> Evaluation:
        """The average of some runs on validation."""
        return self._evaluator(self.variables(members), self._run.validation_source)


def _figures(run: Run, found: Evaluation) -> dict[str, float]:
    """The figures of an evaluation, with the score that `select_by` ranks by, if it is set."""
    values = found.summary()
    return {**values, **image_metrics.score(run.config.select_by, values)}


def _digest(record: DataRecord | None) -> str | None:
    return record.digest if record else None


def _check_alike(infos: Mapping[str, CheckpointInfo]) -> None:
    """Raises a ValueError unless runs can be averaged, and compared on the same validation images."""
    (name, first), *others = infos.items()
    for one, info in infos.items():
        if not info.validated_on or not info.validated_on.count:
            raise ValueError(f"a soup is chosen on validation images, and {one} has none: train with validation = 0.2.")
        if info.learnt_validation:
            raise ValueError(f"{one}'s head was refit on its validation images, so they cannot choose: leave it out.")
    for one, info in others:
        for field in _ALIKE:
            if (here := getattr(info, field)) != (there := getattr(first, field)):
                raise ValueError(f"only like networks can be averaged: {field} of {one} is {here}, of {name} {there}.")
        for field in ("trained_on", "validated_on"):
            here, there = _digest(getattr(info, field)), _digest(getattr(first, field))
            if here is None or here != there:
                what = "training" if field == "trained_on" else "validation"
                raise ValueError(
                    f"{one} and {name} have different {what} images, so they cannot be compared: train them with the "
                    "same seed, validation and examples_per_class."
                )


def _write(
    run: Run, info: CheckpointInfo, variables: Any, best: Evaluation, found: Sequence[Tried], seconds: float
) -> None:
    """Writes the run's folder: `soup.json`, its log, a checkpoint after its last step, and the config last.

    Without its config an interrupted soup is no run, so nothing is trained in its folder.
    """
    step, phase = run.num_steps, run.phases[-1]
    entry = {"step": step, **best.summary(), **run.score(step, best.summary())}
    # Its optimizer begins anew, for a run that trains from here.
    state = enter_phase(run, phase, TrainState(run.parallel.place_state(np.int32(step)), opt_state={}, **variables))
    info = dataclasses.replace(info, history=(entry,))
    write_json(run.workdir / "soup.json", [dataclasses.asdict(one) for one in found])
    with (
        contextlib.closing(Checkpoints(run.workdir)) as checkpoints,
        contextlib.closing(Logs(run.workdir, 0)) as logs,
    ):
        noted_images.save(run, begins=True)
        logs.write(step, "train", {"seconds": seconds, **in_force(phase, state.variables)})
        logs.write(step, "validation", entry)
        checkpoints.save(step, state.variables, optimizer_items(state), info.to_json())
        checkpoints.wait()
    open_folder(run).close()  # writes the config


def table(found: Sequence[Tried]) -> str:
    """The runs with what decided on them, alone and in the average, a line each.

    That is the score by `select_by`, or else mean average precision or accuracy in percent.
    """
    rows = [("run", "alone", "average with it", "")]
    for one in found:
        together = "-" if one.together is None else _told(one.together)
        rows.append((one.run, _told(one.alone), together, "kept" if one.kept else "left out"))
    return "\n".join(aligned(rows, right=(1, 2)))


def _told(figures: Mapping[str, float]) -> str:
    return f"{figures['score']:.4f}" if "score" in figures else f"{score(figures):.2%}"
