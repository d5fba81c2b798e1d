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
      model: the chain of stages.
      objective: converts logits to losses and predictions.
      transform: uint8 images [batch, h, w, 3] -> float32 [batch, size, size, 3], normalized.
      boundary: the stage that a batch's `'feature'` is the output of, if batches hold cached features.
      views: test-time augmentation in place of `transform`: the number of views, and a function (images, number) -> x.
        Probabilities are averaged over the views.
      axis_name: under `jax.pmap`, the axis to sum over.

    Returns:
      A pure function. It returns `classification_sums`, or `label_sums` if images have several labels, and `'logits'`,
      one per class: float32 [batch, classes], replicated on every device.
    """

    def eval_step(variables: Any, batch: Mapping[str, jax.Array]) -> masked_sums.Sums:
        # Variant 0 of a cached image is neither mirrored nor shifted.
        cached = "feature" in batch
        if views and not cached:
            count, view = views

            def logits_of_view(number: jax.Array) -> jax.Array:
                return model.apply(variables, view(batch["image"], number), train=False)

            # Views run in sequence: program size and memory stay those of one view.
            logits = objective.averaged(jax.lax.map(logits_of_view, jnp.arange(count)))
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
