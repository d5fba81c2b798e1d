"""validation = 'cv': a run for each fold of the training images, whose choice a run on all of them then uses.

`<workdir>/folds/<k>` is an ordinary run that trains on all folds but the k-th and validates on that. What the folds
choose together is written to `<workdir>/folds/chosen.json`, and the run itself then trains on all images with it.
With `trained_folds` some of the folds choose for all: one of five is a fifth held out, which then joins the images.
"""

import copy
import dataclasses
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from jft.config import Config
from jft.evaluation.evaluator import Evaluation
from jft.metrics import calibration, classification
from jft.metrics.choice import choose
from jft.training.run import Run
from jft.utils import distributed, json_file
from jft.utils.files import written_whole
from jft.utils.logger import write_json

_HELD_OUT = "held_out.npz"  # of a fold's run: logits of its validation images at the end


class Chosen(TypedDict):
    """What the folds have chosen.

    Attributes:
      share: of the trained weights, for `wise_ft`; 1 where no phase averages.
      temperature: fitted to the logits of all images, each by a network that has not seen it; None: not finite.
      loss, accuracy: to expect on other images at that temperature, corrected for the choice; see `metrics.choice`.
      loss_low, loss_high, accuracy_low, accuracy_high: their 95 % intervals.
      count: number of images.
      folds: number of folds that were trained.
    """

    share: float
    temperature: float | None
    loss: float
    accuracy: float
    loss_low: float
    loss_high: float
    accuracy_low: float
    accuracy_high: float
    count: int
    folds: int


def wanted(config: Config) -> bool:
    """Whether a run begins with a run for each fold."""
    return config.validation == "cv" and not config.fold and config.solver == "steps"


def trained(config: Config) -> int:
    """How many of the folds are trained."""
    return config.trained_folds or config.folds


def run_folds(run: Run, train: Callable[[Config, Path], bool]) -> bool:
    """Trains each fold that is not finished, and writes what they choose, unless that is done.

    Args:
      run: the run whose training images are divided.
      train: trains or resumes a run of this config in this folder; returns whether it is finished.

    Returns:
      Whether all is done; False: a signal came.
    """
    folder, folds = run.workdir / "folds", trained(run.config)
    if distributed.from_first((folder / "chosen.json").exists()):
        return True
    places = [folder / str(number) for number in range(1, folds + 1)]
    for number, place in enumerate(places, 1):
        config = copy.deepcopy(run.config)
        config.fold, config.trackers = number, ()  # they follow the run on all images
        distributed.say(f"Fold {number} of {folds}:")
        if not train(config, place):
            return False
    if distributed.is_first():
        groups = run.train_source.groups
        write_json(folder / "chosen.json", _chosen([_read(place) for place in places], groups))
        for place in places:  # what they have said is kept, and they are not trained further
            shutil.rmtree(place / "checkpoints", ignore_errors=True)
    distributed.wait_for_all("the folds have chosen")
    return True


def read(run: Run) -> Chosen:
    """What the folds of a run have chosen.

    Raises:
      ValueError: the file is missing or damaged.
    """
    path = run.workdir / "folds" / "chosen.json"
    return json_file.read(path, Chosen, f"delete {path.parent} to train the folds again")


def entry(chosen: Chosen, step: int) -> dict[str, Any]:
    """What stands for an evaluation in the history of a cross-validated run."""
    return {"step": step, **logged(chosen)}


def logged(chosen: Chosen) -> dict[str, Any]:
    """The figures to expect, for the log."""
    return {name: value for name, value in chosen.items() if name not in ("share", "temperature")}


def keep(run: Run, evaluations: Mapping[float, Evaluation]) -> None:
    """Writes the logits of a fold's validation images, for each share of the trained weights."""
    if not run.config.fold or not distributed.is_first():
        return
    source = run.validation_source
    with written_whole(run.workdir / _HELD_OUT) as aside, aside.open("wb") as file:
        np.savez(
            file,
            shares=np.array([*evaluations]),
            logits=np.stack([one.logits for one in evaluations.values()]),
            labels=source.labels,
            indices=source.indices,
            groups=source.indices if source.groups is None else source.groups,
        )


@dataclasses.dataclass(frozen=True)
class _HeldOut:
    shares: np.ndarray
    logits: np.ndarray
    labels: np.ndarray
    indices: np.ndarray
    groups: np.ndarray


def _read(place: Path) -> _HeldOut:
    with np.load(place / _HELD_OUT, allow_pickle=False) as held:
        return _HeldOut(**{field.name: held[field.name] for field in dataclasses.fields(_HeldOut)})


def _chosen(folds: list[_HeldOut], groups: np.ndarray | None) -> Chosen:
    labels = np.concatenate([fold.labels for fold in folds])
    logits = np.concatenate([fold.logits for fold in folds], axis=1)
    together = None if groups is None else np.concatenate([fold.groups for fold in folds])
    return conclude(folds[0].shares, logits, labels, together, len(folds))


def conclude(
    shares: np.ndarray, logits: np.ndarray, labels: np.ndarray, together: np.ndarray | None, folds: int
) -> Chosen:
    """Chooses a share by the loss of all images, each of networks that have not seen it, at the share's temperature.

    Args:
      shares: [choices], of the trained weights.
      logits: [choices, n, classes].
      labels: int [n], or multi-hot [n, classes].
      together: int [n], groups of images, such as frames of a track; None: no groups.
      folds: number of folds.
    """
    temperatures = [calibration.fit_temperature(one, labels) if np.isfinite(one).all() else np.inf for one in logits]
    losses = np.stack(
        [_losses(one, temperature, labels) for one, temperature in zip(logits, temperatures, strict=True)]
    )
    found = choose(losses, rates(logits, labels), together)
    low_high = (*found.interval, *found.accuracy_interval)
    names = ("loss_low", "loss_high", "accuracy_low", "accuracy_high")
    return Chosen(
        share=float(shares[found.index]),
        temperature=temperatures[found.index] if np.isfinite(temperatures[found.index]) else None,
        loss=found.loss,
        accuracy=found.accuracy,
        **dict(zip(names, map(float, low_high), strict=True)),
        count=len(labels),
        folds=folds,
    )


def _losses(logits: np.ndarray, temperature: float, labels: np.ndarray) -> np.ndarray:
    """[n], nats; far more than guessing where a logit is not finite, so that it is not chosen."""
    if not np.isfinite(temperature):
        return np.full(len(labels), 1e6)
    scaled = calibration.apply_temperature(logits.astype(np.float64), temperature, multilabel=labels.ndim == 2)
    return classification.log_losses(scaled, labels)


def rates(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """[choices, n]: whether each prediction is right; of several labels an image the share that is."""
    if labels.ndim == 1:
        return logits.argmax(-1) == labels
    return ((logits > 0) == labels.astype(bool)).mean(-1)
