"""`jft fit`: from images to a trained model within a time budget."""

import contextlib
import copy
import dataclasses
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jft.config import Config, as_json, default_config
from jft.data import datasets, survey
from jft.training import programs, suggest
from jft.training.feature_cache import decide
from jft.training.loop import checked_run, train
from jft.training.run import check_workdir
from jft.training.state import fresh_state
from jft.training.suggest import Probed
from jft.training.timing import forward_cost, step_cost
from jft.training.wise_ft import SHARES
from jft.utils.files import written_whole
from jft.utils.logger import write_json
from jft.utils.option_names import option
from jft.utils.text import human_seconds, one_line, terminal

_PROBING = 0.3  # of the budget, at most, to compare networks; the first is probed whatever it takes
_RESERVE = 0.25  # of what is left before training: compilation, checkpoints, what cannot be foreseen
_EPOCHS = 8  # found to be enough with few images, see docs/results.md; more do not help
_FOLDS = 5
_HELD_OUT = 0.2  # where there is no time for folds


@dataclasses.dataclass(frozen=True)
class Costs:
    """Measured seconds of the run that is planned.

    Attributes:
      step: of a training step.
      forward: of a forward pass, per image.
      images: number of images to train on or to hold out.
      tested: number of test images.
    """

    step: float
    forward: float
    images: int
    tested: int


class Clock:
    """The budget."""

    def __init__(self, minutes: float) -> None:
        self._start, self.budget = time.monotonic(), 60 * minutes

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    @property
    def left(self) -> float:
        """Seconds until the budget ends; below 0 afterwards."""
        return self.budget - self.spent

    def ends_at(self) -> str:
        """The hour at which the budget ends."""
        return time.strftime("%H:%M", time.localtime(time.time() + self.left))


def fit(
    config: Config, workdir: Path, *, minutes: float, patterns: Sequence[str] = (), weights_path: str = ""
) -> dict[str, Any]:
    """Trains the best network that is here within a budget.

    It writes a run like any other into `workdir`, and beside it `images.json`, what the images are, and `config.py`,
    which trains the same again without a clock. If the folder holds a run, that run goes on.

    Args:
      config: says where the images are, and what differs from the defaults.
      workdir: folder of the run.
      minutes: the budget, above 0.
      patterns: names of the weight sets to compare, see `suggest.at_hand`.
      weights_path: folder of weight files that is searched too.

    Returns:
      As `loop.train`.

    Raises:
      ValueError: there are no usable images or weights, or the folder holds something else.
    """
    clock = Clock(minutes)
    if (workdir / "config.json").exists():
        raise ValueError(
            f"{workdir} holds a run: resume it by `jft train {workdir / 'config.py'} --workdir {workdir}`, or give "
            f"another {option('workdir')}."
        )
    check_workdir(config, workdir)  # before the work, not after it
    _say(f"Looking at the images; done by {clock.ends_at()}.")
    found = survey.of_config(config)
    print(found, flush=True)
    config = copy.deepcopy(config)
    config.skip_unreadable = config.skip_unreadable or bool(found.unreadable)
    chosen = _pick(config, clock, patterns, weights_path)
    planned = plan(chosen.config, clock, chosen.fields)
    _say(f"{_described(planned)}; about {human_seconds(clock.left)} left, until {clock.ends_at()}.")
    try:
        return train(planned, workdir, brief=True)
    finally:
        if (workdir / "config.json").exists():  # also where it was stopped: what is here can be used and resumed
            write_json(workdir / "images.json", found.to_json())
            with written_whole(workdir / "config.py") as aside:
                aside.write_text(config_text(planned, chosen, minutes))


def _pick(config: Config, clock: Clock, patterns: Sequence[str], weights_path: str) -> Probed:
    """The fastest of the best networks, by probes of a sample."""
    everything = datasets.of_config({**config, "validation": 0}, "train")
    source, _ = suggest.sample(everything, 500)
    rows: list[Probed] = []
    sets = suggest.at_hand(patterns, weights_path)
    # The most accurate on ImageNet first: who has no time for all has tried these.
    for row, path in sorted(sets, key=lambda pair: -(pair[0].top1 or 0.0)):
        if rows and clock.spent + clock.spent / len(rows) > _PROBING * clock.budget:
            _say(f"{len(sets) - len(rows)} further networks are not probed, for want of time.")
            break
        try:
            rows.append(suggest.probe_one(suggest.make_config(config, row, path), source))
        except (ValueError, OSError, jax.errors.JaxRuntimeError) as error:  # too large for the memory, too
            _say(f"{row.name} is left out: {one_line(error)}")
        else:
            _say(f"{rows[-1].title}: probe {rows[-1].accuracy:.1%}, {rows[-1].images_per_second:,.0f} images/s")
    if not rows:
        raise ValueError("none of the weights could be probed: see the lines above for the reasons.")
    chosen = suggest.pick(rows)
    _say(f"Picked {chosen.title}.")
    return chosen


def plan(config: Config, clock: Clock, probe: Mapping[str, str]) -> Config:
    """The config that the rest of the budget allows.

    With time for it, five folds choose, or else one of them, and all images are trained on; else a fifth is held out;
    else the head is solved for and nothing more.

    Args:
      config: of a probe on the picked network.
      clock: the budget.
      probe: fields of its best probe, which is what there is the least time for.
    """
    config = copy.deepcopy(config)
    config.update({"preset": "fine_tune", "validation": _HELD_OUT, "epochs": 1.0})
    costs = _measure(config)
    left = (1 - _RESERVE) * clock.left - costs.forward * costs.tested
    epoch, features = costs.step * costs.images / config.batch_size, costs.forward * costs.images
    # Beside the steps: features for the heads, and each image once for every share of the average that is tried.
    line = len(SHARES) * features
    for trained in (_FOLDS, 1):
        steps = (1 + trained * (_FOLDS - 1) / _FOLDS) * _EPOCHS * epoch
        if steps + (trained + 1) * features + trained / _FOLDS * line <= left:
            config.update({"validation": "cv", "folds": _FOLDS, "epochs": float(_EPOCHS)})
            config.trained_folds = 0 if trained == _FOLDS else trained
            return config
    held_out = _HELD_OUT * (line + _EPOCHS * features)
    if (epochs := int((left - features - held_out) / ((1 - _HELD_OUT) * epoch))) >= 1:
        config.epochs = float(min(_EPOCHS, epochs))
        return config
    config.update({"preset": "", "validation": "cv", "epochs": default_config().epochs, **probe})
    return config


def _measure(config: Config) -> Costs:
    with tempfile.TemporaryDirectory() as folder:
        run = checked_run(config, Path(folder) / "run")
    state, _ = fresh_state(run)
    one = decide(run, None, {})[-1]
    [one] = programs.with_examples(run, [one], 0)
    assert one.example is not None  # see `with_examples`
    batch = one.example["image"]
    images = np.resize(batch, (config.eval_batch_size, *batch.shape[1:]))
    forward = forward_cost(run, state.variables, images).seconds / config.eval_batch_size
    step, _ = step_cost(run, one, jax.tree.map(np.array, state))
    tested = 0
    with contextlib.suppress(ValueError, OSError):  # there are no test images
        tested = len(datasets.of_config(config, "test"))
    return Costs(step.seconds, forward, len(run.train_source) + len(run.validation_source), tested)


def _described(config: Config) -> str:
    if config.solver != "steps":
        return f"No time to fine-tune: fitting the head of {config.model} alone"
    how = "a fifth held out to choose by"
    if config.validation == "cv":
        how = f"{config.folds} folds" if not config.trained_folds else f"{how} first"
        how += ", then on all images"
    return f"Fine-tuning {config.model} for {config.epochs:g} epochs: {how}"


def config_text(config: Config, chosen: Probed, minutes: float) -> str:
    """The text of a config file that trains the same again: what differs from the defaults."""
    usual = as_json(default_config())
    differs = {name: value for name, value in as_json(config).items() if value != usual[name]}
    lines = [
        f"    config.{name} = {tuple(value) if isinstance(value, list) else value!r}" for name, value in differs.items()
    ]
    title = terminal(chosen.title).replace("\\", "/").replace('"', "'")
    return (
        f'"""{title}, chosen and trained by `jft fit` within {minutes:g} minutes.\n\n'
        "    jft train config.py --workdir ANOTHER\n"
        '"""\n\nfrom jft.config import default_config\n\n\n'
        "def get_config():\n    config = default_config()\n" + "\n".join(lines) + "\n    return config\n"
    )


def _say(text: str) -> None:
    print(text, flush=True)
