"""Successive halving: a search over arms that trains only the promising ones to their end.

Karnin et al. (2013, https://proceedings.mlr.press/v28/karnin13.html), used for hyperparameters by Jamieson & Talwalkar
(2016, https://arxiv.org/abs/1502.07943): all arms are trained a little, the better half by held-out loss twice as far,
and so on until one is left. Only training images take part: the loss is that of the images held out of them.
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from jft.config import Config
from jft.evaluation.checkpoint_info import CheckpointInfo
from jft.training.comparison.compare import planned
from jft.training.comparison.trial import Trial, check
from jft.training.loop import checked_run, train
from jft.training.progress import NonFiniteLossError
from jft.utils.checkpoint import Checkpoints
from jft.utils.logger import read_metrics, write_json
from jft.utils.registry import code_allowed
from jft.utils.stopped import Stopped
from jft.utils.text import aligned


@dataclasses.dataclass(frozen=True)
class Round:
    """One round of the search.

    Attributes:
      share: of the steps of each arm that are done at its end.
      losses: arm -> held-out loss in nats; infinite where its training diverged.
      kept: arms that go on, the best first; in the last round the winner.
    """

    share: float
    losses: Mapping[str, float]
    kept: tuple[str, ...]


def halve(arms: Sequence[str], loss_at: Callable[[str, float], float]) -> list[Round]:
    """The search itself.

    Args:
      arms: names of the arms, 2 or more.
      loss_at: trains an arm to a share of its steps, and gives its held-out loss; shares of an arm rise.

    Returns:
      The rounds: n arms take log2(n), rounded up, and the last trains the one that is left to its end.

    Raises:
      ValueError: no loss of a round is finite.
    """
    halvings = math.ceil(math.log2(len(arms)))
    rounds, left = [], tuple(arms)
    for number in range(halvings + 1):
        share = 2.0 ** (number - halvings)
        losses = {arm: loss_at(arm, share) for arm in left}
        if not math.isfinite(min(losses.values())):
            raise ValueError(
                f"{', '.join(left)}: diverged by {share:.0%} of the steps, and no other arm is left: lower their "
                "learning rates."
            )
        ranked = sorted(left, key=losses.__getitem__)  # of equals the first
        left = tuple(ranked[: math.ceil(len(ranked) / 2)])
        rounds.append(Round(share, losses, left))
    return rounds


def search(configs: Sequence[tuple[str, Config]], out: str | Path) -> tuple[list[Round], Path]:
    """Searches the arms of some configs, and writes `halving.json`. The same call resumes.

    An arm's schedule is that of its whole run, and it goes on from where it stopped as if it had not: the winner's
    weights and evaluations are those of the arm trained alone, bit for bit.

    Args:
      configs: pairs (name, config); a config with arms gives each of them.
      out: folder of the result; the runs go into its subfolder `halving/runs/`.

    Returns:
      The rounds, and the folder of the winner's run.

    Raises:
      ValueError: there is one arm; an arm is invalid, holds no images out, or may stop early; the folder holds runs of
        other shares of their steps; or all arms diverge.
      Stopped: a signal came; the same call resumes.
    """
    trials = {trial.name: trial for trial in planned(configs, Path(out) / "halving", 1)}
    if len(trials) < 2:
        raise ValueError("halving searches among two arms or more: give more configs, or --sweep FIELD=A,B.")
    for trial in trials.values():
        check(trial)
        _check_held_out(trial)
    rounds = halve([*trials], lambda arm, share: _loss_at(trials[arm], share))
    write_json(Path(out) / "halving.json", [dataclasses.asdict(one) for one in rounds])
    return rounds, trials[rounds[-1].kept[0]].place


def _check_held_out(trial: Trial) -> None:
    config = trial.config
    if config.validation == "cv" or not config.validation:
        raise ValueError(
            f"{trial.name}: halving compares arms on images held out of the training images, and validation = "
            f"{config.validation!r}: hold some out, such as validation = 0.2."
        )
    if config.early_stopping:
        raise ValueError(f"{trial.name}: halving ends arms itself: leave early_stopping out.")
    if config.callbacks:
        raise ValueError(f"{trial.name}: halving ends arms itself, and callbacks may end them: leave callbacks out.")


def _loss_at(trial: Trial, share: float) -> float:
    """Trains or resumes an arm up to a share of its steps; the loss of its held-out images there."""
    with code_allowed():  # the user is about to train it
        steps = max(1, round(share * checked_run(trial.config, trial.place).num_steps))
    if _steps_done(trial.place) < steps:
        print(f"\n== {trial.name}: {share:.0%} of its steps", flush=True)
        try:
            trained = train(trial.config, trial.place, brief=True, until=steps)
        except NonFiniteLossError as error:
            print(f"{trial.name}: {error}", flush=True)
            return math.inf
        if not trained["finished"]:
            raise Stopped(trained["signal"])
    return _loss_in_log(trial, steps)


def _steps_done(place: Path) -> int:
    """Steps that an earlier call has trained an arm; 0 without one."""
    if not (place / "checkpoints").exists():
        return 0
    with contextlib.closing(Checkpoints(place, read_only=True, from_json=CheckpointInfo.from_json)) as checkpoints:
        info = checkpoints.newest_info()
    return info.step if info else 0


def _loss_in_log(trial: Trial, steps: int) -> float:
    lines = [line for line in read_metrics(trial.place) if line["step"] == steps]
    losses = [line["loss"] for line in lines if line["kind"] in ("validation", "pause")]
    if not losses:
        raise ValueError(
            f"{trial.name} in {trial.place} has gone past step {steps} without an evaluation there, as in a search "
            "among another number of arms: give another --out, or delete that folder."
        )
    return losses[-1] if math.isfinite(losses[-1]) else math.inf


def table(rounds: Sequence[Round]) -> str:
    """A line for each arm: its loss in each round that it took part in."""
    rows = [("arm", *(f"{one.share:.1%}" for one in rounds))]
    for arm in sorted(rounds[0].losses, key=lambda arm: [-len([1 for one in rounds if arm in one.losses])]):
        rows.append((arm, *(f"{one.losses[arm]:.4f}" if arm in one.losses else "" for one in rounds)))
    return "\n".join(aligned(rows, right=range(1, len(rounds) + 1)))
