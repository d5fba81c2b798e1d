"""The training step, a pure function `(state, batch) -> (state, metrics)`.

`jft.utils.mesh` compiles it with jit or pmap. A batch is `{'image': uint8 [batch, h, w, 3], 'label': int32 [batch],
'mask': bool [batch]}`; labels are [batch, classes] if images have several. If the output of frozen stages is cached,
`'feature'` replaces `'image'`: [batch, variants, ...], the features of each variant of an image. If the logits of a
teacher are cached, `'taught'` holds them: [batch, variants, outputs].
"""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from jft.metrics import masked_sums
from jft.metrics.losses import Objective
from jft.models import Chain
from jft.training.freeze import Params, Plan, apply_frozen, apply_trainable
from jft.utils import tree

Batch = dict[str, jax.Array]


@flax.struct.dataclass
class TrainState:
    """Everything that a step changes.

    Attributes:
      step: int32 scalar, number of steps done; with the seed, it determines the data order and all randomness.
      params: parameters by stage, float32.
      batch_stats: BatchNorm's running statistics by stage, float32; {} without BatchNorm.
      opt_state: state of the Optax optimizer, without frozen leaves.
      ema: exponential moving average of the trainable parameters; {} if there is none.
      start: `{'params', 'batch_stats'}`, those that training changes, as they were at the start of the phase, where
        `Phase.keeps_start`; else {}.
      teacher: variables of the teacher, which no step changes; {} if there is none.
    """

    if TYPE_CHECKING:

        def replace(self, **updates: Any) -> "TrainState":
            """A copy with other values of some fields; flax makes it."""
            ...

    step: Any
    params: Any
    batch_stats: Any
    opt_state: Any
    ema: Any = flax.struct.field(default_factory=dict)
    start: Any = flax.struct.field(default_factory=dict)
    teacher: Any = flax.struct.field(default_factory=dict)

    @property
    def variables(self) -> dict[str, Any]:
        """`{'params', 'batch_stats'}` for evaluation and export; parameters are the moving average if there is one."""
        averaged = {**tree.flatten(self.params), **tree.flatten(self.ema)}
        return {"params": tree.unflatten(averaged) if self.ema else self.params, "batch_stats": self.batch_stats}


@dataclasses.dataclass(frozen=True)
class Input:
    """Preprocessing and augmentation of a training batch; pure functions, random by a key.

    Attributes:
      transform: (uint8 images [batch, h, w, 3], key) -> float32 [batch, size, size, 3], augmented and normalized.
      draw: (key, batch size) -> int32 [batch], the variant of each image that `transform` would choose with this key;
        selects among cached features.
      mix: (images, targets, key) -> mixed images and targets (mixup, CutMix); None for no mixing.
    """

    transform: Callable[[jax.Array, jax.Array], jax.Array]
    draw: Callable[[jax.Array, int], jax.Array] | None = None
    mix: Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]] | None = None


@dataclasses.dataclass(frozen=True)
class Teaching:
    """How a teacher's logits enter the loss: `(1 - weight) * loss of the labels + weight * losses`.

    Attributes:
      weight: 0 .. 1.
      losses: (logits, the teacher's logits) -> float32 [batch], see `distillation.losses`.
      logits: (variables of the teacher, augmented and mixed inputs) -> its logits, where they are not cached.
    """

    weight: float
    losses: Callable[[jax.Array, jax.Array], jax.Array]
    logits: Callable[[Any, jax.Array], jax.Array]


def make_train_step(
    model: Chain,
    plan: Plan,
    tx: optax.GradientTransformation,
    *,
    schedule: optax.Schedule | None,
    objective: Objective,
    inputs: Input,
    seed: int,
    penalty: Callable[[Params, Params], Params] | None = None,
    teaching: Teaching | None = None,
    ema: float = 0.0,
    accumulate: int = 1,
    axis_name: str | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, masked_sums.Sums]]:
    """Makes the training step.

    Args:
      model: the chain of stages.
      plan: says what is frozen; the step differentiates with respect to trainable leaves only.
      tx: from `make_optimizer`, or any other of Optax; where its `update` takes `learning_rate`, the step gives it.
      schedule: step -> learning rate; None: the optimizer has its own, which is not known here.
      objective: the loss.
      inputs: preprocessing and augmentation of a batch.
      seed: seed of augmentation and dropout, together with the step.
      penalty: (trainable parameters, those of `state.start`) -> gradient of a penalty, added to the loss's for the
        optimizer; see `l2_sp`.
      teaching: how the logits of a teacher enter the loss; None: there is no teacher.
      ema: decay of the moving average `state.ema` of the trainable parameters; 0 for none.
      accumulate: number of micro-batches, run one after another, whose gradients are summed. Augmentation, mixing and
        dropout are drawn for the whole batch, so results do not depend on it, except that a BatchNorm with batch
        statistics normalizes each micro-batch separately.
      axis_name: under `jax.pmap`, the axis to sum over.

    Returns:
      A pure function of state and batch. Its metrics are `classification_sums` (or `label_sums`) plus `objective`, the
      minimized loss including auxiliary heads, times `count`; `grad_norm`, the norm of its gradient by the trainable
      leaves; and `learning_rate`, if there is a schedule. None includes the penalty.
    """

    tx = optax.with_extra_args_support(tx)
    prepare, gradients = _make_prepare(objective, inputs), _make_gradients(model, plan, objective, teaching)
    if accumulate > 1:
        gradients = _accumulated(gradients, accumulate)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, masked_sums.Sums]:
        rng = jax.random.fold_in(jax.random.key(seed), state.step)
        if axis_name is not None:
            rng = jax.random.fold_in(rng, jax.lax.axis_index(axis_name))
        for_augment, for_mix, for_dropout = jax.random.split(rng, 3)
        prepared = prepare(batch, for_augment, for_mix)
        grads, stats, sums = gradients(state.params, state.batch_stats, prepared, for_dropout, state.teacher)
        if axis_name is not None:
            grads, sums = jax.lax.psum((grads, sums), axis_name)
            stats = jax.lax.pmean(stats, axis_name)
        # If all images of a batch have class weight 0, the gradient is 0 instead of 0 / 0.
        divisor = jnp.where(sums["divisor"] > 0, sums.pop("divisor"), 1.0)
        grads = jax.tree.map(lambda g: g / divisor, grads)
        sums["objective"] *= sums["count"] / divisor

        trainable, frozen = plan.split(state.params)
        rate = {} if schedule is None else {"learning_rate": jnp.float32(schedule(state.step))}
        learning = grads if penalty is None else jax.tree.map(jnp.add, grads, penalty(trainable, state.start["params"]))
        # Frozen leaves fill the places of their gradients, which the mask never reads.
        updates, opt_state = tx.update(plan.merge(learning, frozen), state.opt_state, state.params, **rate)
        trainable = jax.tree.map(jnp.add, trainable, plan.split(cast(Params, updates))[0])
        average = jax.tree.map(lambda old, new: ema * old + (1 - ema) * new, state.ema, trainable) if ema else {}
        scalars = {"grad_norm": optax.tree.norm(grads), **rate}
        params = plan.merge(trainable, frozen)
        state = state.replace(step=state.step + 1, params=params, batch_stats=stats, opt_state=opt_state, ema=average)
        return state, {**sums, **scalars}

    return train_step


def _make_prepare(objective: Objective, inputs: Input) -> Callable[[Batch, jax.Array, jax.Array], Batch]:
    """Makes `(batch, key to augment, key to mix) -> batch` with `'target'` and `'input'` or `'feature'`."""

    def pick(cached: jax.Array, for_augment: jax.Array) -> jax.Array:
        assert inputs.draw is not None
        chosen = inputs.draw(for_augment, len(cached)).reshape(-1, *(1,) * (cached.ndim - 1))
        return jnp.take_along_axis(cached, chosen, axis=1)[:, 0]

    def prepare(batch: Batch, for_augment: jax.Array, for_mix: jax.Array) -> Batch:
        prepared = {"label": batch["label"], "mask": batch["mask"], "target": objective.targets(batch["label"])}
        prepared |= {name: pick(batch[name], for_augment) for name in ("feature", "taught") if name in batch}
        if "feature" in batch:
            return prepared
        images, targets = inputs.transform(batch["image"], for_augment), prepared["target"]
        if inputs.mix is not None:
            images, targets = inputs.mix(images, targets, for_mix)
        return {**prepared, "input": images, "target": targets}

    return prepare


def _make_gradients(model: Chain, plan: Plan, objective: Objective, teaching: Teaching | None) -> Callable:
    """Makes `(params, batch_stats, prepared batch, rng, teacher) -> (gradients of summed loss, batch_stats, sums)`."""

    def gradients(
        params: Any, batch_stats: Any, batch: Batch, rng: jax.Array, teacher: Any
    ) -> tuple[Any, Any, masked_sums.Sums]:
        trainable, frozen = plan.split(params)
        if "feature" in batch:
            features = batch["feature"]
        else:
            features = apply_frozen(model, plan, frozen, batch_stats, batch["input"])
        if teaching and "taught" not in batch:
            batch = {**batch, "taught": teaching.logits(teacher, batch["input"])}

        def total(trainable: Any) -> tuple[jax.Array, tuple[Any, masked_sums.Sums]]:
            logits, aux_logits, stats = apply_trainable(
                model, plan, trainable, frozen, batch_stats, features, {"dropout": rng}
            )
            targets = batch["target"]
            loss = jnp.sum(batch["mask"] * objective.losses(logits, targets))
            if teaching:
                # Images count as they do in the loss of the labels, by the class weights, if there are any.
                counts = jax.vmap(objective.divisor)(targets[:, None], batch["mask"][:, None])
                taught = jnp.sum(counts * teaching.losses(logits, batch["taught"]))
                loss = (1 - teaching.weight) * loss + teaching.weight * taught
            for name, x in aux_logits.items():
                loss += model.auxiliary_heads()[name].weight * jnp.sum(batch["mask"] * objective.losses(x, targets))
            divisor = objective.divisor(targets, batch["mask"])
            sums = masked_sums.batch_sums(objective, logits, batch)
            return loss, (stats, {**sums, "objective": loss, "divisor": divisor})

        grads, (stats, sums) = jax.grad(total, has_aux=True)(trainable)
        return grads, stats, sums

    return gradients


def _accumulated(gradients: Callable, parts: int) -> Callable:
    """`gradients` summed over `parts` micro-batches, run one after another; BatchNorm normalizes each separately."""

    # Every parts-th image goes into the same micro-batch, so that each stays spread over the devices.
    def fold(x: jax.Array) -> jax.Array:
        return jnp.swapaxes(x.reshape(-1, parts, *x.shape[1:]), 0, 1)

    def accumulated(
        params: Any, batch_stats: Any, batch: Batch, rng: jax.Array, teacher: Any
    ) -> tuple[Any, Any, masked_sums.Sums]:
        def of_part(stats: Any, part: tuple[Batch, jax.Array]) -> tuple[Any, Any, masked_sums.Sums]:
            with _dropout_of_part(part[1], parts):
                return gradients(params, stats, part[0], rng, teacher)

        # The sums start with the first micro-batch, so that only one set of gradients is in memory.
        def body(carry: tuple, part: tuple[Batch, jax.Array]) -> tuple[tuple, None]:
            stats, *total = carry
            grads, stats, sums = of_part(stats, part)
            return (stats, *jax.tree.map(jnp.add, total, [grads, sums])), None

        folded = jax.tree.map(fold, batch), jnp.arange(parts)
        first, rest = jax.tree.map(lambda x: x[0], folded), jax.tree.map(lambda x: x[1:], folded)
        grads, stats, sums = of_part(batch_stats, first)
        (stats, grads, sums), _ = jax.lax.scan(body, (stats, grads, sums), rest)
        return grads, stats, sums

    return accumulated


def _dropout_of_part(part: jax.Array, parts: int) -> contextlib.AbstractContextManager:
    """Context in which dropout draws for the whole batch and takes a micro-batch's rows, as `fold` divides them."""

    def intercept(call: Any, args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        drop = context.module
        if not isinstance(drop, nn.Dropout) or drop.deterministic or not drop.rate:
            return call(*args, **kwargs)
        [x] = args
        keep = 1 - drop.rate
        alike = [1 if axis in drop.broadcast_dims else size for axis, size in enumerate(x.shape)][1:]
        whole = jax.random.bernoulli(drop.make_rng("dropout"), keep, (len(x) * parts, *alike))
        mask = jax.lax.dynamic_index_in_dim(whole.reshape(-1, parts, *alike), part, 1, keepdims=False)
        return jnp.where(mask, x / keep, jnp.zeros_like(x))

    return nn.intercept_methods(intercept)
