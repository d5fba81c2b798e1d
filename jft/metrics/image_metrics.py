"""Metrics by name for the field `metrics`: a number for each image, whose mean an evaluation reports."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

import jax
import jax.numpy as jnp
import numpy as np

from jft.utils.option_names import option
from jft.utils.registry import CodeRefusedError, Registry


class Metric(Protocol):
    """A metric: a number for each image, of which the mean over all images is reported."""

    def __call__(self, logits: jax.Array, targets: jax.Array) -> jax.Array:
        """The metric of each image of a batch.

        Args:
          logits: float32 [batch, classes], one a class; of two classes with loss 'sigmoid', 0 and the one there is.
          targets: float32 [batch, classes], one-hot or, where images have several labels, multi-hot.

        Returns:
          float32 [batch]; not their mean.
        """
        ...


def top3_accuracy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """`Metric`: 1 where the label is among the three largest logits."""
    return _among(logits, targets, 3)


def top5_accuracy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """`Metric`: 1 where the label is among the five largest logits."""
    return _among(logits, targets, 5)


def _among(logits: jax.Array, targets: jax.Array, count: int) -> jax.Array:
    _, best = jax.lax.top_k(logits, min(count, logits.shape[-1]))
    return jnp.max(jnp.take_along_axis(targets, best, axis=-1), axis=-1)


def brier_score(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """`Metric`: squared distance of the probabilities from the label, 0 to 2 (Brier, 1950); of one label an image."""
    return jnp.sum((jax.nn.softmax(logits) - targets) ** 2, axis=-1)


def label_f1(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """`Metric`: F1 of an image's labels, predicted from a probability of 1/2 on; 1 where there are none and none is."""
    predicted = (logits >= 0).astype(jnp.float32)
    both = jnp.sum(predicted, axis=-1) + jnp.sum(targets, axis=-1)
    return jnp.where(both > 0, 2 * jnp.sum(predicted * targets, axis=-1) / jnp.maximum(both, 1), 1.0)


METRICS: Registry[Metric] = Registry(
    "metrics",
    "(logits, targets) -> float32 [batch]",
    {
        "top3_accuracy": top3_accuracy,
        "top5_accuracy": top5_accuracy,
        "brier_score": brier_score,
        "label_f1": label_f1,
    },
)

# What an evaluation says by itself, and a line of the log.
TAKEN = frozenset(
    (
        *("step", "kind", "seconds", "loss", "accuracy", "top5", "count", "mean_average_precision", "score"),
        *("folds", "loss_low", "loss_high", "accuracy_low", "accuracy_high"),
    )
)


def resolve(names: Sequence[str], given: Sequence[Any] | None = None) -> dict[str, Metric]:
    """The metrics of a config by the name under which they are reported: a row's, or the function's.

    Raises:
      ValueError: there is no such, it has no name, or one that is taken.
    """
    found: dict[str, Metric] = {}
    for name, function in zip(names, METRICS.resolve_all(names, given), strict=True):
        called = name if name in METRICS else getattr(function, "__name__", type(function).__name__)
        usable = callable(function) and called.isidentifier()
        if not usable:
            raise ValueError(f"metric {name!r} is {function!r}: give a function {METRICS.signature}, made by def.")
        if called in TAKEN or called in found:
            raise ValueError(f"there are two metrics {called!r}: give the function another name.")
        found[called] = cast(Metric, function)
    return found


def restored(names: Sequence[str]) -> dict[str, Metric]:
    """As `resolve`, of a run that is read: those of the user's own only where their code is allowed or was imported."""
    kept = []
    for name in names:
        try:
            METRICS.resolve(name)
            kept.append(name)
        except CodeRefusedError:
            allow = option("allow_code", True)
            logging.warning("metric %s is code of the run's owner and is left out: allow it with %s.", name, allow)
        except ValueError as error:
            logging.warning("a metric of the run is left out: %s", error)
    return resolve(kept)


def check(metrics: Mapping[str, Metric], classes: int) -> None:
    """Raises a ValueError unless each gives a number an image."""
    batch = jax.ShapeDtypeStruct((2, classes), jnp.float32)
    for name, function in metrics.items():
        called = f"metric {name!r} for logits and targets {list(batch.shape)}"
        try:
            found = jax.eval_shape(function, batch, batch)
        except Exception as error:  # whatever the user's own code raises
            raise ValueError(
                f"{called} fails ({type(error).__name__}: {error}). It is called as {METRICS.signature}, inside of "
                "jax.jit."
            ) from error
        if getattr(found, "shape", None) != (2,):
            what = list(found.shape) if hasattr(found, "shape") else type(found).__name__
            raise ValueError(f"{called} gives {what}: give one number an image, and leave the mean to jft.")


def measure(metrics: Mapping[str, Metric], logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Means over images; a mean that is not finite is left out with a warning.

    Args:
      metrics: from `resolve`.
      logits: float32 [n, classes].
      labels: int [n], or multi-hot [n, classes].
    """
    targets = labels if labels.ndim == 2 else np.eye(logits.shape[1], dtype=np.float32)[labels]
    found = {}
    for name, function in metrics.items():
        values = jax.jit(function)(jnp.asarray(logits), jnp.asarray(targets, jnp.float32))
        mean = float(np.asarray(values, np.float64).mean())
        if np.isfinite(mean):
            found[name] = mean
        else:
            logging.warning("metric %s is %s, and is left out of this evaluation.", name, mean)
    return found


def check_select_by(select_by: str, metrics: Mapping[str, Metric], classes: int, multi_label: bool) -> None:
    """Raises a ValueError unless evaluations have the metric that `config.select_by` names."""
    own = ("mean_average_precision",) if multi_label else ("top5",) if classes > 5 else ()
    known = ("accuracy", "-loss", *own, *metrics)
    if select_by and select_by not in known and select_by.removeprefix("-") not in known:
        raise ValueError(
            f"select_by = {select_by!r} is no metric of this run: choose {', '.join(known)}; with a minus before it "
            "where less is better."
        )


def score(select_by: str, values: Mapping[str, float]) -> dict[str, float]:
    """`{'score': ...}`, what evaluations are ranked by, more being better; {} where `select_by` is empty.

    Raises:
      ValueError: the metric was not finite.
    """
    if not select_by:
        return {}
    name = select_by.removeprefix("-")
    if name not in values:
        raise ValueError(f"select_by = {select_by!r}, and {name} is not finite: no checkpoint can be chosen by it.")
    return {"score": -values[name] if select_by.startswith("-") else values[name]}
