"""Overfits one batch: the quickest check that labels, weights and gradients fit together."""

import copy
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jft.data.augment import Augmentation, make_train_transform
from jft.data.feeds.feed import on_device
from jft.metrics.losses import Objective
from jft.models import Chain
from jft.training import optim
from jft.training.freeze import Params, Plan
from jft.training.phases import Phase
from jft.training.run import Run
from jft.training.step import Input, TrainState, make_train_step
from jft.utils import tree, waiting

# Learning rates of Adam, tried in this order until one succeeds: heads need larger rates than pretrained backbones.
RATES = (1e-3, 1e-2, 1e-4)
_MOST_IMAGES = 32
# Distance between the first step numbers of the rates, so that one compiled program serves all rates.
_APART = 2**24
# If a kernel starts at zeros, the layers before it get a gradient only from the second step on.
_FEWEST = 2


@dataclasses.dataclass(frozen=True)
class Overfit:
    """The result of overfitting a batch, at the best learning rate.

    Attributes:
      images: number of images in the batch.
      steps: number of steps taken.
      rate: learning rate of Adam.
      guessing: loss in nats of always predicting the label frequencies of the batch.
      first: loss before the first step, in nats.
      loss: loss after the last step, in nats.
      accuracy: accuracy after the last step, 0 to 1.
      unchanged: names of the trainable leaves that no step has changed, compared bit for bit: their gradient was
        exactly 0 in every step, because Adam without weight decay changes all others.
    """

    images: int
    steps: int
    rate: float
    guessing: float
    first: float
    loss: float
    accuracy: float
    unchanged: tuple[str, ...] = ()

    @property
    def succeeded(self) -> bool:
        """Whether the loss fell below half of `first` and of `guessing`, or every image is classified correctly."""
        return self.loss < min(self.first, self.guessing) / 2 or self.accuracy == 1


@waiting.during("overfitting one batch")
def overfit(run: Run, phase: Phase, state: TrainState, batch: dict[str, np.ndarray], *, steps: int = 30) -> Overfit:
    """Trains on one batch of at most 32 images, without augmentation, dropout, weight decay, smoothing or weights.

    Args:
      run: the run.
      phase: says which leaves are trainable.
      state: the initial state, on the host; it is not changed.
      batch: a training batch of images.
      steps: most steps per rate; stops early on success.

    Returns:
      The first success, or the attempt with the smallest loss.
    """
    size = run.parallel.mesh.size
    batch = {key: value[: max(size, _MOST_IMAGES // size * size)] for key, value in on_device(batch).items()}
    config = copy.deepcopy(phase.config)
    config.update({"optimizer": "adam", "weight_decay": 0.0, "clip_norm": 0.0})
    tx = optim.make_optimizer(config, phase.plan.freeze_mask(state.params))
    step = make_train_step(
        _without_dropout(run.model),
        phase.plan,
        tx,
        schedule=_rate_of,
        objective=Objective(run.objective.kind, run.objective.num_classes),
        inputs=Input(make_train_transform(run.spec, fit=run.config.fit, augmentation=Augmentation())),
        seed=run.config.seed,
        axis_name=run.parallel.axis_name,
    )
    begin = TrainState(np.zeros((), np.int32), state.params, state.batch_stats, tx.init(state.params))
    placed = run.parallel.place_batch(batch)
    compiled = run.parallel.compile(step, run.parallel.abstract(begin), placed, donate=True)
    guessing, attempts = _guessing(batch["label"], run.objective), []
    for number, rate in enumerate(RATES):
        losses, accuracy = [], 0.0
        # A copy, because the step donates its input.
        current = run.parallel.place_state(jax.tree.map(np.array, begin.replace(step=np.int32(number * _APART))))
        for _ in range(steps + 1):  # a step returns the loss of the state before it
            current, sums = compiled(current, placed)
            losses.append(float(sums["loss"]) / len(batch["label"]))
            accuracy = float(sums["correct"]) / len(batch["label"])
            found = Overfit(len(batch["label"]), len(losses) - 1, rate, guessing, losses[0], losses[-1], accuracy)
            if (found.succeeded and len(losses) >= _FEWEST) or not np.isfinite(losses[-1]):
                break
        found = dataclasses.replace(found, unchanged=_unchanged(phase.plan, state.params, current.params))
        if found.succeeded:
            return found
        attempts.append(found)
    return min(attempts, key=lambda one: one.loss if np.isfinite(one.loss) else np.inf)


def _rate_of(number: Any) -> jax.Array:
    """The learning rate of a step number, an int32 scalar."""
    return jnp.asarray(RATES)[number // _APART]


def _unchanged(plan: Plan, before: Params, after: Params) -> tuple[str, ...]:
    """Names of the trainable leaves that are bit-identical before and after."""
    old, new = (tree.flatten(plan.split(params)[0]) for params in (before, after))
    return tuple(name for name in old if np.array_equal(old[name], np.asarray(new[name])))


def _without_dropout(model: Chain) -> Chain:
    fields = {"dropout", "aux_dropout", "head_dropout"} & {field.name for field in dataclasses.fields(model)}
    without: dict[str, Any] = dict.fromkeys(fields, 0.0)
    return model.clone(**without)


def _guessing(labels: np.ndarray, objective: Objective) -> float:
    """Loss of predicting the label frequencies, in the objective's loss."""
    from scipy.special import entr

    if labels.ndim == 2:
        share = labels.mean(axis=0)
        return float((entr(share) + entr(1 - share)).mean())
    return float(entr(np.bincount(labels, minlength=objective.num_classes) / len(labels)).sum())
