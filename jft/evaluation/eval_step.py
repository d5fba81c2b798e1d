"""The pure evaluation step: `(variables, batch) -> sums`."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jft.metrics import masked_sums
from jft.metrics.losses import Objective
from jft.models import Chain


def make_eval_step(
    model: Chain,
    *,
    objective: Objective,
    transform: Callable[[jax.Array], jax.Array],
    boundary: str | None = None,
    views: tuple[int, Callable[[jax.Array, jax.Array], jax.Array]] | None = None,
    axis_name: str | None = None,
) -> Callable[[Any, Mapping[str, jax.Array]], masked_sums.Sums]:
    """Makes `(variables, batch) -> sums`, for `variables = {'params', 'batch_stats'}`.

    Args:
      model: the chain.
      objective: says what logits mean.
      transform: uint8 images [batch, h, w, 3] -> float32 [batch, size, size, 3], normalized.
      boundary: the stage whose output a batch's `'feature'` is, where it has one.
      views: how many, and (images, number) -> x, of each one, in place of `transform`: probabilities are averaged.
      axis_name: under `jax.pmap`, the axis to sum over.

    Returns:
      A pure function, giving `classification_sums` or, where images have several labels, `label_sums`; and
      `'logits'`, one for each class: float32 [batch, classes], on every device.
    """

    def eval_step(variables: Any, batch: Mapping[str, jax.Array]) -> masked_sums.Sums:
        # The first variant of an image is neither mirrored nor moved.
        cached = "feature" in batch
        if views and not cached:
            count, view = views

            def seen(number: jax.Array) -> jax.Array:
                return model.apply(variables, view(batch["image"], number), train=False)

            # One after the other: a program as long as for one view, and no more memory.
            logits = objective.averaged(jax.lax.map(seen, jnp.arange(count)))
        else:
            x = batch["feature"][:, 0] if cached else transform(batch["image"])
            logits = model.apply(variables, x, train=False, start=boundary if cached else None)
        sums = masked_sums.batch_sums(objective, logits, batch)
        class_logits = objective.class_logits(logits)
        if axis_name is not None:
            sums = jax.lax.psum(sums, axis_name)
            class_logits = jax.lax.all_gather(class_logits, axis_name, tiled=True)
        return {**sums, "logits": class_logits}

    return eval_step
