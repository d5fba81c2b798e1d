"""The pure steps: `(state, batch) -> (state, metrics)` and `(variables, batch) -> sums`.

They are jitted (or pmapped) once, at the edge, by `jft.parallel`. A batch is `{'image': uint8 [batch, h, w, 3],
'label': int32 [batch], 'mask': bool [batch]}`.
"""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from jft import metrics
from jft.models import Chain
from jft.transfer.plan import Plan, apply_frozen, apply_learning

Batch = dict[str, jax.Array]


@flax.struct.dataclass
class TrainState:
    """All that a step changes.

    Attributes:
      step: int32 scalar, steps done; with the seed it gives the data order and all randomness.
      params: parameters by stage, float32.
      batch_stats: BatchNorm's running statistics by stage, float32; {} without BatchNorm.
      opt_state: Optax's state, holding nothing for frozen leaves.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any

    @property
    def variables(self) -> dict[str, Any]:
        """`{'params', 'batch_stats'}`, as `model.apply` takes them."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def make_train_step(
    model: Chain,
    plan: Plan,
    tx: optax.GradientTransformation,
    *,
    schedule: optax.Schedule,
    transform: Callable[[jax.Array, jax.Array], jax.Array],
    seed: int,
    label_smoothing: float = 0.0,
    accumulate: int = 1,
    axis_name: str | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, metrics.Sums]]:
    """Makes the training step.

    Args:
      model: the chain.
      plan: what learns; the step differentiates by these leaves alone.
      tx: from `make_optimizer`.
      schedule: step -> learning rate, as `tx` has it; for the metrics alone.
      transform: (uint8 images [batch, h, w, 3], key) -> float32 [batch, size, size, 3], augmented and normalised.
      seed: of augmentation and dropout, together with the step.
      label_smoothing: probability spread over all classes.
      accumulate: micro-batches, run one after another, whose gradients are summed.
      axis_name: under `jax.pmap`, the axis to sum over.

    Returns:
      A pure function of state and batch. Its metrics are `classification_sums` plus `objective`, the sum over the
      batch of the loss that is minimised, with the auxiliary heads' shares; `grad_norm`, the norm of the learning
      leaves' gradient; `learning_rate`.
    """

    gradients = _make_gradients(model, plan, transform, label_smoothing)
    if accumulate > 1:
        gradients = _accumulated(gradients, accumulate)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, metrics.Sums]:
        rng = jax.random.fold_in(jax.random.key(seed), state.step)
        if axis_name is not None:
            rng = jax.random.fold_in(rng, jax.lax.axis_index(axis_name))
        grads, stats, sums = gradients(state.params, state.batch_stats, batch, rng)
        if axis_name is not None:
            grads, sums = jax.lax.psum((grads, sums), axis_name)
            stats = jax.lax.pmean(stats, axis_name)
        grads = jax.tree.map(lambda g: g / sums["count"], grads)

        learning, frozen = plan.split(state.params)
        # Frozen leaves stand in for their own gradients, which the mask keeps unread.
        updates, opt_state = tx.update(plan.merge(grads, frozen), state.opt_state, state.params)
        learning = optax.apply_updates(learning, plan.split(updates)[0])
        told = {"grad_norm": optax.tree.norm(grads), "learning_rate": jnp.float32(schedule(state.step))}
        return TrainState(state.step + 1, plan.merge(learning, frozen), stats, opt_state), {**sums, **told}

    return train_step


def _make_gradients(model: Chain, plan: Plan, transform: Callable, label_smoothing: float) -> Callable:
    """Makes `(params, batch_stats, batch, rng) -> (gradients of the summed loss, batch_stats, sums)`."""

    def gradients(params: Any, batch_stats: Any, batch: Batch, rng: jax.Array) -> tuple[Any, Any, metrics.Sums]:
        learning, frozen = plan.split(params)
        for_augment, for_dropout = jax.random.split(rng)
        images = transform(batch["image"], for_augment)
        features = apply_frozen(model, plan, frozen, batch_stats, images)

        def objective(learning: Any) -> tuple[jax.Array, tuple[Any, metrics.Sums]]:
            logits, aux_logits, stats = apply_learning(
                model, plan, learning, frozen, batch_stats, features, {"dropout": for_dropout}
            )
            loss = cross_entropy(logits, batch, label_smoothing)
            for name, x in aux_logits.items():
                loss += model.auxiliary_heads()[name].weight * cross_entropy(x, batch, label_smoothing)
            sums = metrics.classification_sums(logits, batch["label"], batch["mask"])
            return loss, (stats, {**sums, "objective": loss})

        grads, (stats, sums) = jax.grad(objective, has_aux=True)(learning)
        return grads, stats, sums

    return gradients


def cross_entropy(logits: jax.Array, batch: Batch, label_smoothing: float) -> jax.Array:
    """Softmax cross entropy of [batch, num_classes] logits, summed over the batch's pictures: a scalar, in nats."""
    targets = optax.smooth_labels(jax.nn.one_hot(batch["label"], logits.shape[-1]), label_smoothing)
    return jnp.sum(batch["mask"] * optax.softmax_cross_entropy(logits, targets))


def _accumulated(gradients: Callable, parts: int) -> Callable:
    """`gradients` summed over `parts` micro-batches, run one after another; BatchNorm sees each by itself."""

    # Every parts-th picture goes into the same micro-batch, so that each stays spread over the devices.
    def fold(x: jax.Array) -> jax.Array:
        return jnp.swapaxes(x.reshape(-1, parts, *x.shape[1:]), 0, 1)

    def accumulated(params: Any, batch_stats: Any, batch: Batch, rng: jax.Array) -> tuple[Any, Any, metrics.Sums]:
        # The first micro-batch gives the sums that the others are added to: one gradient is held, not one of each.
        def body(carry: tuple, part: tuple[Batch, jax.Array]) -> tuple[tuple, None]:
            stats, *total = carry
            grads, stats, sums = gradients(params, stats, part[0], jax.random.fold_in(rng, part[1]))
            return (stats, *jax.tree.map(jnp.add, total, [grads, sums])), None

        folded = jax.tree.map(fold, batch), jnp.arange(parts)
        first, rest = jax.tree.map(lambda x: x[0], folded), jax.tree.map(lambda x: x[1:], folded)
        grads, stats, sums = gradients(params, batch_stats, first[0], jax.random.fold_in(rng, first[1]))
        (stats, grads, sums), _ = jax.lax.scan(body, (stats, grads, sums), rest)
        return grads, stats, sums

    return accumulated


def make_eval_step(
    model: Chain, *, transform: Callable[[jax.Array], jax.Array], axis_name: str | None = None
) -> Callable[[Any, Batch], metrics.Sums]:
    """Makes `(variables, batch) -> classification_sums`, for `variables = {'params', 'batch_stats'}`.

    Args:
      model: the chain.
      transform: uint8 images [batch, h, w, 3] -> float32 [batch, size, size, 3], normalised.
      axis_name: under `jax.pmap`, the axis to sum over.

    Returns:
      A pure function.
    """

    def eval_step(variables: Any, batch: Batch) -> metrics.Sums:
        logits = model.apply(variables, transform(batch["image"]), train=False)
        sums = metrics.classification_sums(logits, batch["label"], batch["mask"])
        return sums if axis_name is None else jax.lax.psum(sums, axis_name)

    return eval_step
