"""Whether a plan can learn one batch by heart: the quickest sign that labels, weights and gradients fit together."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jft.config import Config
from jft.data.augment import Augmentation, make_train_transform
from jft.metrics.losses import Objective
from jft.models import Chain
from jft.training import optim
from jft.training.batches import on_device
from jft.training.freeze import Params, Plan
from jft.training.phases import Phase
from jft.training.run import Run
from jft.training.step import Input, TrainState, make_train_step
from jft.utils import tree

# Of Adam, tried in this order until one will do: heads need more than pretrained backbones bear.
RATES = (1e-3, 1e-2, 1e-4)
_MOST_IMAGES = 32
# Numbers of steps at which the rates begin lie so far apart: one program serves them all.
_APART = 2**24
# Where a kernel starts at zeros, what is before it gets a gradient from the second step on.
_FEWEST = 2


@dataclasses.dataclass(frozen=True)
class Overfit:
    """How far the batch was learnt, at the rate that got furthest.

    Attributes:
      images: in the batch.
      steps: that it took, or that were taken.
      rate: of Adam.
      guessing: loss of whoever knows how frequent each label is in the batch, and no more: nats.
      first: loss before the first step, in nats.
      loss: after the last, likewise.
      accuracy: after the last, a share of 1.
      still: names of the learning leaves that no step has moved: their gradient was exactly 0 in each, before which
        Adam without weight decay stands still. Bit for bit, so that no threshold decides.
    """

    images: int
    steps: int
    rate: float
    guessing: float
    first: float
    loss: float
    accuracy: float
    still: tuple[str, ...] = ()

    @property
    def learnt(self) -> bool:
        """The loss is below half of what it was and of what guessing gives, or every image is right."""
        return self.loss < min(self.first, self.guessing) / 2 or self.accuracy == 1


def overfit(run: Run, phase: Phase, state: TrainState, batch: dict[str, np.ndarray], *, steps: int = 30) -> Overfit:
    """Trains on one batch of at most 32 images, without augmentation, dropout, weight decay, smoothing or weights.

    Args:
      run: the run.
      phase: what learns.
      state: where it begins, on the host; it stays as it is.
      batch: a training batch of images.
      steps: at each rate, at most; it ends where the batch is learnt.

    Returns:
      The first success, or else the attempt with the smallest loss.
    """
    size = run.parallel.mesh.size
    batch = {key: value[: max(size, _MOST_IMAGES // size * size)] for key, value in on_device(batch).items()}
    config = Config(phase.config)  # a copy
    config.update({"optimizer": "adam", "weight_decay": 0.0, "clip_norm": 0.0})
    tx = optim.make_optimizer(config, phase.plan.freeze_mask(state.params))
    step = make_train_step(
        _without_dropout(run.model),
        phase.plan,
        tx,
        schedule=lambda number: jnp.asarray(RATES)[number // _APART],
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
        # Copied: the step takes the memory of what it is given.
        moving = run.parallel.place_state(jax.tree.map(np.array, begin.replace(step=np.int32(number * _APART))))
        for _ in range(steps + 1):  # a step tells of the state before it
            moving, sums = compiled(moving, placed)
            losses.append(float(sums["loss"]) / len(batch["label"]))
            accuracy = float(sums["correct"]) / len(batch["label"])
            found = Overfit(len(batch["label"]), len(losses) - 1, rate, guessing, losses[0], losses[-1], accuracy)
            if (found.learnt and len(losses) >= _FEWEST) or not np.isfinite(losses[-1]):
                break
        found = dataclasses.replace(found, still=_still(phase.plan, state.params, moving.params))
        if found.learnt:
            return found
        attempts.append(found)
    return min(attempts, key=lambda one: one.loss if np.isfinite(one.loss) else np.inf)


def _still(plan: Plan, before: Params, after: Params) -> tuple[str, ...]:
    """Names of the learning leaves that are bit for bit what they were."""
    old, new = (tree.flatten(plan.split(params)[0]) for params in (before, after))
    return tuple(name for name in old if np.array_equal(old[name], np.asarray(new[name])))


def _without_dropout(model: Chain) -> Chain:
    fields = {"dropout", "aux_dropout", "head_dropout"} & {field.name for field in dataclasses.fields(model)}
    return model.clone(**dict.fromkeys(fields, 0.0))


def _guessing(labels: np.ndarray, objective: Objective) -> float:
    """Loss of the labels' frequencies, as the objective counts it."""
    from scipy.special import entr

    if labels.ndim == 2:
        share = labels.mean(axis=0)
        return float((entr(share) + entr(1 - share)).mean())
    return float(entr(np.bincount(labels, minlength=objective.num_classes) / len(labels)).sum())
