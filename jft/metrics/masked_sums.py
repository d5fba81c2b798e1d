"""Metrics as masked sums, added over batches and devices and divided once at the end: every example counts once."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jft.metrics.losses import Objective

Sums = dict[str, Any]


def classification_sums(logits: jax.Array, labels: jax.Array, mask: jax.Array) -> Sums:
    """Sums over the examples of a batch where the mask is True.

    Args:
      logits: float32 [batch, num_classes].
      labels: int32 [batch], 0 .. num_classes - 1.
      mask: bool [batch], False for padding.

    Returns:
      float32 scalars `loss` (cross entropy in nats), `correct`, `count`, and of more than five classes `correct5`
      (label among the five largest logits; of fewer it always is).
    """
    weight = mask.astype(jnp.float32)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    own = jnp.take_along_axis(logits, labels[:, None], axis=-1)
    # Rank of the label, ties going to the smaller class index as in argmax; constant logits must not look right.
    earlier = jnp.arange(logits.shape[-1])[None, :] < labels[:, None]
    rank = jnp.sum((logits > own) | ((logits == own) & earlier), axis=-1)
    # No comparison is true of NaN: where there is one, nothing is right, among the first five neither.
    sound = jnp.isfinite(own[:, 0]) & ~jnp.isnan(logits).any(axis=-1)
    rank = jnp.where(sound, rank, logits.shape[-1])
    top5 = {"correct5": jnp.sum(weight * (rank < 5))} if logits.shape[-1] > 5 else {}
    return {
        "loss": jnp.sum(weight * loss),
        "correct": jnp.sum(weight * (rank == 0)),
        **top5,
        "count": jnp.sum(weight),
    }


def label_sums(losses: jax.Array, probabilities: jax.Array, labels: jax.Array, mask: jax.Array) -> Sums:
    """Sums over the examples of a multi-label batch where the mask is True.

    Args:
      losses: float32 [batch], in nats.
      probabilities: float32 [batch, classes]; from 1/2 on a label is said to be there.
      labels: [batch, classes], 1 where a label is there.
      mask: bool [batch], False for padding.

    Returns:
      As `classification_sums`, without `correct5`. An example is correct by the share of the classes decided rightly.
    """
    weight = mask.astype(jnp.float32)
    # No comparison is true of NaN, so no label would be said to be there, which is often right.
    right = (((probabilities >= 0.5) == (labels > 0)) & jnp.isfinite(probabilities)).astype(jnp.float32)
    return {
        "loss": jnp.sum(weight * losses),
        "correct": jnp.sum(weight * jnp.mean(right, axis=-1)),
        "count": jnp.sum(weight),
    }


def average_precision(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Average precision of each class: the sum over thresholds of precision times the recall gained.

    As scikit-learn's `average_precision_score`; examples of one score pass a threshold together.

    Args:
      scores: float [n, classes], higher where a label is more likely.
      labels: [n, classes], 1 where a label is there.

    Returns:
      float64 [classes], 0 .. 1; NaN for a class that no example has.
    """
    result = np.full(scores.shape[1], np.nan)
    for c in np.flatnonzero(labels.sum(axis=0)):
        order = np.argsort(-scores[:, c], kind="stable")
        hits = np.cumsum(labels[order, c] > 0)
        ends = np.append(np.flatnonzero(np.diff(scores[order, c])), len(order) - 1)
        result[c] = np.sum(np.diff(hits[ends], prepend=0) * hits[ends] / (ends + 1)) / hits[-1]
    return result


def of_probabilities(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float | int]:
    """The metrics of `summarize`, computed from probabilities on the host.

    Args:
      probabilities: float [n, classes].
      labels: int [n], or multi-hot [n, classes].
    """
    tiny = np.finfo(np.float64).tiny
    if labels.ndim == 2:
        likely = np.where(labels > 0, probabilities, 1 - probabilities)
        return {
            "loss": float(-np.log(np.maximum(likely, tiny)).mean()),
            "accuracy": float((((probabilities >= 0.5) == (labels > 0)) & np.isfinite(probabilities)).mean()),
            "count": len(labels),
            "mean_average_precision": float(np.nanmean(average_precision(probabilities, labels))),
        }
    own = np.take_along_axis(probabilities, labels[:, None], axis=1)
    # Ties go to the smaller class index, as in `classification_sums`.
    earlier = np.arange(probabilities.shape[1]) < labels[:, None]
    rank = ((probabilities > own) | ((probabilities == own) & earlier)).sum(axis=1)
    rank = np.where(np.isnan(probabilities).any(axis=1), probabilities.shape[1], rank)
    return {
        "loss": float(-np.log(np.maximum(own, tiny)).mean()),
        "accuracy": float((rank == 0).mean()),
        **({"top5": float((rank < 5).mean())} if probabilities.shape[1] > 5 else {}),
        "count": len(labels),
    }


def add(total: Sums | None, sums: Sums) -> Sums:
    """Adds one batch's sums to the running ones, on the host in float64; None is the empty total."""
    sums = jax.tree.map(lambda x: np.asarray(x, np.float64), sums)
    return sums if total is None else jax.tree.map(np.add, total, sums)


def summarize(total: Sums) -> dict[str, float | int]:
    """`{'loss', 'accuracy', 'top5', 'count'}`: the sums divided once, rates as shares of 1.

    There is no `top5` where images have several labels, nor of five classes or fewer, among which every label is.
    """
    count = float(total["count"])
    top5 = {"top5": float(total["correct5"]) / count} if "correct5" in total else {}
    return {
        "loss": float(total["loss"]) / count,
        "accuracy": float(total["correct"]) / count,
        **top5,
        "count": round(count),
    }


def batch_sums(objective: Objective, logits: jax.Array, batch: Mapping[str, jax.Array]) -> Sums:
    """Metrics of a batch, of the labels as they are: neither smoothed, weighted nor mixed."""
    if not objective.multi_label:
        return classification_sums(objective.class_logits(logits), batch["label"], batch["mask"])
    plain = Objective(objective.kind, objective.num_classes)
    losses = plain.losses(logits, plain.targets(batch["label"]))
    return label_sums(losses, plain.probabilities(logits), batch["label"], batch["mask"])
