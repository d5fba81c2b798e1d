"""What a run minimizes: softmax or sigmoid cross entropy or a loss of the user's own, of one label or several."""

import dataclasses
import inspect
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jft.utils import registry
from jft.utils.registry import Registry

KINDS = ("softmax", "binary", "multilabel")  # of an `Objective`


class Loss(Protocol):
    """A loss: pure, differentiable and jittable.

    One that has a third parameter `weights`, float32 [classes], can be used with class weights.
    """

    def __call__(self, logits: jax.Array, targets: jax.Array) -> jax.Array:
        """The loss of each image of a batch.

        Args:
          logits: float32 [batch, outputs], one output a class (a single one for two classes with loss 'sigmoid').
          targets: float32 [batch, classes], probabilities: one-hot or multi-hot, unless smoothed or mixed.

        Returns:
          float32 [batch]; not their mean, as the last batch may be padded.
        """
        ...


def softmax_cross_entropy(logits: jax.Array, targets: jax.Array, weights: jax.Array | float = 1.0) -> jax.Array:
    """`Loss` of images with one label each, in nats."""
    return -jnp.sum(weights * targets * jax.nn.log_softmax(logits), axis=-1)


def sigmoid_cross_entropy(logits: jax.Array, targets: jax.Array, weights: jax.Array | float = 1.0) -> jax.Array:
    """`Loss` of one sigmoid unit for two classes; or a unit a class, where images have several labels: their mean."""
    if logits.shape[-1] == 1 and targets.shape[-1] == 2:
        return softmax_cross_entropy(_two_logits(logits), targets, weights)
    return jnp.mean(weights * optax.sigmoid_binary_cross_entropy(logits, targets), axis=-1)


LOSSES: Registry[Loss] = Registry(
    "loss",
    "(logits, targets) -> float32 [batch]",
    {"softmax": softmax_cross_entropy, "sigmoid": sigmoid_cross_entropy},
)


@dataclasses.dataclass(frozen=True)
class Objective:
    """How labels become targets and logits a loss. Made by `make_objective`.

    Attributes:
      kind: 'softmax', one of the classes; 'binary', one sigmoid unit for the second of two classes; 'multilabel', a
        sigmoid unit for each class, any of which may be there.
      num_classes: number of classes.
      label_smoothing: probability moved from the labels to all outcomes alike (Szegedy et al., 2016).
      class_weights: a factor on the loss for each class, or () for 1. What is minimized is then the weighted mean, the
        sum of a batch divided by `divisor`.
      loss: what is minimized; None: the cross entropy of the kind.
    """

    kind: str
    num_classes: int
    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] = ()
    loss: Loss | None = None

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels, or none."""
        return self.kind == "multilabel"

    @property
    def num_outputs(self) -> int:
        """Number of logits."""
        return 1 if self.kind == "binary" else self.num_classes

    def targets(self, labels: jax.Array) -> jax.Array:
        """Labels, int [batch] or multi-hot [batch, classes], as probabilities: float32 [batch, classes]."""
        if self.multi_label:
            # A label is there or it is not: two outcomes.
            return jnp.asarray(labels, jnp.float32) * (1 - self.label_smoothing) + self.label_smoothing / 2
        return optax.smooth_labels(jax.nn.one_hot(labels, self.num_classes), self.label_smoothing)

    def losses(self, logits: jax.Array, targets: jax.Array) -> jax.Array:
        """What is minimized, float32 [batch]: cross entropies in nats, or what `loss` gives.

        Args:
          logits: float32 [batch, num_outputs].
          targets: float32 [batch, classes], from `targets`, mixed or not.
        """
        loss = self.loss or (softmax_cross_entropy if self.kind == "softmax" else sigmoid_cross_entropy)
        if not self.class_weights:
            return loss(logits, targets)
        return loss(logits, targets, jnp.asarray(self.class_weights, jnp.float32))  # type: ignore[call-arg]

    def divisor(self, targets: jax.Array, mask: jax.Array) -> jax.Array:
        """By what the sum of a batch's losses is divided: float32 scalar, adds up over parts of a batch.

        With class weights the sum of the weights of the targets, as in `torch.nn.CrossEntropyLoss`; where an image has
        several labels, whose loss is a mean over the classes already, and without weights the number of images.

        Args:
          targets: float32 [batch, classes], from `targets`, mixed or not.
          mask: bool [batch], False for padding.
        """
        if self.multi_label or not self.class_weights:
            return jnp.sum(mask.astype(jnp.float32))
        weights = jnp.asarray(self.class_weights, jnp.float32)
        # Of the targets before they were smoothed.
        smoothed = self.label_smoothing * jnp.mean(weights)
        return jnp.sum(mask * (targets @ weights - smoothed)) / (1 - self.label_smoothing)

    def class_logits(self, logits: jax.Array) -> jax.Array:
        """A logit for each class: [batch, classes]; one sigmoid unit z is a softmax over (0, z)."""
        return _two_logits(logits) if self.kind == "binary" else logits

    def probabilities(self, logits: jax.Array) -> jax.Array:
        """Float32 [batch, classes]; they add up to 1 unless an image may have several labels."""
        if self.multi_label:
            return jax.nn.sigmoid(logits)
        return jax.nn.softmax(self.class_logits(logits))

    def averaged(self, logits: jax.Array) -> jax.Array:
        """Logits whose probabilities are the mean of those of several views: [views, batch, n] -> [batch, n]."""
        if self.kind == "softmax":
            return jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=0) - jnp.log(len(logits))
        there, not_there = (jax.nn.logsumexp(jax.nn.log_sigmoid(sign * logits), axis=0) for sign in (1, -1))
        return there - not_there


def _two_logits(logits: jax.Array) -> jax.Array:
    return jnp.concatenate([jnp.zeros_like(logits), logits], axis=-1)


def make_objective(
    loss: str | Loss,
    labels: np.ndarray,
    class_names: tuple[str, ...],
    *,
    label_smoothing: float = 0.0,
    balance: str = "",
    class_weights: tuple[float, ...] = (),
) -> Objective:
    """Chooses the objective.

    Args:
      loss: a key of `LOSSES`, "module:function", or a `Loss` itself.
      labels: of the training images: int [n], or multi-hot [n, classes].
      class_names: what they mean.
      label_smoothing: see `Objective`.
      balance: 'weights' gives class c the weight n / (classes * n_c), as scikit-learn's 'balanced' does.
      class_weights: of the user's own, one a class; see `Objective`.

    Raises:
      ValueError: the loss does not fit the labels or gives no number an image, or the weights do not fit the classes.
    """
    classes = len(class_names)
    function = LOSSES.resolve(loss)
    if labels.ndim == 2 and loss == "softmax":
        raise ValueError("the images have several labels each, and loss = 'softmax' chooses one: set loss = 'sigmoid'.")
    if labels.ndim == 1 and loss == "sigmoid" and classes != 2:
        raise ValueError(
            f"loss = 'sigmoid' is for two classes, or images with several labels; here each has one of {classes}: "
            "set loss = 'softmax'."
        )
    if class_weights and len(class_weights) != classes:
        raise ValueError(
            f"class_weights has {len(class_weights)} numbers for {classes} classes: {', '.join(class_names)}."
        )
    if class_weights and balance == "weights":
        raise ValueError("class_weights and balance = 'weights' both weight the loss: choose one.")
    if min(class_weights, default=1) < 0 or max(class_weights, default=1) <= 0:
        raise ValueError(f"class_weights = {class_weights}: must not be below 0, and not all 0.")
    weights = tuple(map(float, class_weights))
    if balance == "weights":
        counts = labels.sum(axis=0) if labels.ndim == 2 else np.bincount(labels, minlength=classes)
        # A class without images is never asked for; any weight would do.
        weights = tuple((counts.sum() / (classes * np.maximum(counts, 1))).tolist())
    kind = "multilabel" if labels.ndim == 2 else "binary" if function is sigmoid_cross_entropy else "softmax"
    own = None if function in (softmax_cross_entropy, sigmoid_cross_entropy) else function
    objective = Objective(kind, classes, label_smoothing, weights, own)
    if own is not None:
        _check_own(objective, registry.name_of(loss))
    return objective


def _check_own(objective: Objective, name: str) -> None:
    """Raises a ValueError unless a loss takes weights, if there are any, and gives a number an image."""
    assert objective.loss is not None
    if objective.class_weights and "weights" not in inspect.signature(objective.loss).parameters:
        raise ValueError(
            f"loss = {name!r} takes no class weights, which class_weights or balance = 'weights' ask for: give it a "
            "third parameter `weights`, float32 [classes], or leave them out."
        )
    batch = 2
    logits, targets = (
        jax.ShapeDtypeStruct((batch, size), jnp.float32) for size in (objective.num_outputs, objective.num_classes)
    )
    called = f"loss = {name!r} for logits {list(logits.shape)} and targets {list(targets.shape)}"
    try:
        found = jax.eval_shape(objective.losses, logits, targets)
    except Exception as error:  # whatever the user's own code raises
        raise ValueError(f"{called} fails ({type(error).__name__}: {error}).") from error
    shape, dtype = getattr(found, "shape", None), getattr(found, "dtype", type(found).__name__)
    if shape != (batch,) or dtype != jnp.float32:
        raise ValueError(
            f"{called} gives {dtype} {'' if shape is None else list(shape)}; a loss gives one number an image, float32 "
            "[batch]: sum over the classes, and leave out the mean over the batch."
        )
