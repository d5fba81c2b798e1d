"""One run of a comparison: trained, or found to be finished, and tested."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from jft.config import Config
from jft.evaluation.evaluate import Images, predict_run, record
from jft.evaluation.results import seen_warning
from jft.training.loop import checked_run, train
from jft.training.state import check_weights
from jft.utils.registry import code_allowed
from jft.utils.stopped import Stopped


@dataclasses.dataclass(frozen=True)
class Trial:
    """One run of a comparison.

    Attributes:
      name: of its arm.
      config: with its seed.
      place: folder of the run.
      brief: leave out the table of stages, which the first seed has shown.
    """

    name: str
    config: Config
    place: Path
    brief: bool

    def __str__(self) -> str:
        return f"{self.name}, seed {self.config.seed}"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the test of a run gave.

    Attributes:
      values: as `evaluate` gives them.
      right: bool [n], whether each test image is classified correctly; None if images have several labels.
    """

    values: dict[str, Any]
    right: np.ndarray | None


def check(trial: Trial) -> None:
    """Raises a ValueError for what is wrong with a run's config, its folder or its weights, before it begins."""
    with code_allowed():  # the user is about to train it
        check_weights(checked_run(trial.config, trial.place))


def perform(trial: Trial) -> Outcome:
    """Trains a run unless it is finished, and tests it.

    Raises:
      Stopped: a signal ended the training, which the same call resumes.
    """
    trained = train(trial.config, trial.place, brief=trial.brief)
    if not trained["finished"]:
        raise Stopped(trained["signal"])
    predicted = predict_run(trial.place, Images())
    values, source = record(predicted), predicted.source
    if warning := seen_warning(values):
        print(f"{trial.place}: {warning}", flush=True)
    right = None if source.multi_label else predicted.found.probabilities.argmax(axis=1) == source.labels
    return Outcome(values, right)
