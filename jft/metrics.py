"""Metrics as masked sums: added over batches and devices, divided once at the end, so every example counts once."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

Sums = dict[str, Any]


def classification_sums(logits: jax.Array, labels: jax.Array, mask: jax.Array) -> Sums:
    """Sums over the examples of a batch that the mask admits.

    Args:
      logits: float32 [batch, num_classes].
      labels: int32 [batch], 0 .. num_classes - 1.
      mask: bool [batch], False for padding.

    Returns:
      float32 scalars `loss` (cross entropy in nats), `correct`, `correct5` (label among the five largest logits),
      `count`; and float32 [num_classes] `class_correct`, `class_count`.
    """
    weight = mask.astype(jnp.float32)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    own = jnp.take_along_axis(logits, labels[:, None], axis=-1)
    # Rank of the label, ties going to the smaller class index as in argmax; constant logits must not look right.
    earlier = jnp.arange(logits.shape[-1])[None, :] < labels[:, None]
    rank = jnp.sum((logits > own) | ((logits == own) & earlier), axis=-1)
    rank = jnp.where(jnp.isfinite(own[:, 0]), rank, logits.shape[-1])  # no comparison is true of NaN: it is not first
    one_hot = jax.nn.one_hot(labels, logits.shape[-1], dtype=jnp.float32) * weight[:, None]
    correct = (rank == 0).astype(jnp.float32)
    return {
        "loss": jnp.sum(weight * loss),
        "correct": jnp.sum(weight * correct),
        "correct5": jnp.sum(weight * (rank < 5)),
        "count": jnp.sum(weight),
        "class_correct": correct @ one_hot,
        "class_count": jnp.sum(one_hot, axis=0),
    }


def add(total: Sums | None, sums: Sums) -> Sums:
    """Adds one batch's sums to the running ones, on the host in float64; None is the empty total."""
    sums = jax.tree.map(lambda x: np.asarray(x, np.float64), sums)
    return sums if total is None else jax.tree.map(np.add, total, sums)


def summarise(total: Sums) -> dict[str, float | int]:
    """`{'loss', 'accuracy', 'top5', 'count'}`: the sums divided once, rates as shares of 1."""
    count = float(total["count"])
    return {
        "loss": float(total["loss"]) / count,
        "accuracy": float(total["correct"]) / count,
        "top5": float(total["correct5"]) / count,
        "count": round(count),
    }
