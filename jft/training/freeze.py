"""The transfer plan: which parameters learn, and the two ways in which the rest is kept from moving.

Frozen leaves are outside the differentiated tree and outside the optimizer state, the stages up to the boundary run in
inference mode without a backward pass, and a BatchNorm whose parameters are frozen reads its running statistics and
leaves them alone. So frozen leaves are bit-identical after any number of steps.
"""

import contextlib
import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from jft.models import Chain
from jft.models.layers import BatchNorm
from jft.utils import tree

Params = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Plan:
    """Which parameters are frozen. Made by `make_plan`.

    Attributes:
      stages: the model's stages, in order.
      frozen: names of the frozen leaves, such as 'block1/conv1_1/kernel'.
      boundary: the last stage of the longest prefix in which nothing moves, or None.
      still_norms: BatchNorms that run in inference mode and whose statistics stay, such as 'layer1/block0/bn1'.
      norms: all BatchNorms.
    """

    stages: tuple[str, ...]
    frozen: frozenset[str]
    boundary: str | None
    still_norms: frozenset[str]
    norms: frozenset[str]

    def split(self, params: Params) -> tuple[Params, Params]:
        """(learning, frozen) parts of the parameters, as nested dicts of the same names."""
        flat = tree.flatten(params)
        learning = {name: leaf for name, leaf in flat.items() if name not in self.frozen}
        frozen = {name: leaf for name, leaf in flat.items() if name in self.frozen}
        return tree.unflatten(learning), tree.unflatten(frozen)

    def merge(self, learning: Params, frozen: Params) -> Params:
        """Inverse of `split`."""
        return tree.unflatten({**tree.flatten(learning), **tree.flatten(frozen)})

    def freeze_mask(self, params: Params) -> Params:
        """A tree of bools like `params`, True where frozen: what `optax.selective_transform` takes."""
        return tree.unflatten({name: name in self.frozen for name in tree.flatten(params)})

    @property
    def frozen_stages(self) -> tuple[str, ...]:
        """The stages up to the boundary."""
        return self.stages[: self.stages.index(self.boundary) + 1] if self.boundary else ()

    def normalized_away(self, name: str) -> bool:
        """Whether a leaf is a bias in a stage where BatchNorm takes means away, so that its gradient may be 0."""
        layer, _, kind = name.rpartition("/")
        moving = self.norms - self.still_norms
        return kind == "bias" and layer not in moving and name.split("/")[0] in {norm.split("/")[0] for norm in moving}

    def frozen_norms(self) -> contextlib.AbstractContextManager:
        """Context in which the still BatchNorms run in inference mode, wherever they are."""

        def intercept(call: Any, args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
            path = "/".join(context.module.path)
            norm = isinstance(context.module, BatchNorm) and "train" in kwargs  # not Flax's own call inside of ours
            if norm and path in self.still_norms:
                kwargs = {**kwargs, "train": False}
            return call(*args, **kwargs)

        return nn.intercept_methods(intercept)


def make_plan(model: Chain, variables: Mapping[str, Any], freeze: str, *, batch_norm: str = "trained") -> Plan:
    """Plans a transfer.

    An auxiliary head is frozen with the stage that it reads: behind the boundary it neither runs nor teaches.

    Args:
      model: the chain.
      variables: `{'params', 'batch_stats'}` (arrays or shapes), nested.
      freeze: the name of a stage, which freezes it and all before it; or patterns over the names of leaves, separated
        by spaces ('block[12] .*/bias'); or empty.
      batch_norm: of what is not frozen: 'trained'; 'statistics', normalize by the batch and follow it, while scale and
        bias stay; 'frozen', run in inference mode, while scale and bias stay.

    Returns:
      The plan.

    Raises:
      ValueError: a pattern matches nothing, or nothing would learn.
    """
    names = list(tree.flatten(variables["params"]))
    stages = tuple(model.stages())
    if freeze in stages:
        prefix = stages[: stages.index(freeze) + 1]
        frozen = {name for name in names if name.split("/")[0] in prefix}
    else:
        frozen = tree.matching(freeze.split(), names, what="freeze")
    norms = {name.rsplit("/", 1)[0] for name in tree.flatten(variables["batch_stats"])}
    still = {norm for norm in norms if {f"{norm}/scale", f"{norm}/bias"} <= frozen or batch_norm == "frozen"}
    if batch_norm != "trained":
        frozen |= {name for name in names if name.rsplit("/", 1)[0] in norms}
    moving = {name.split("/")[0] for name in {*names} - frozen | (norms - still)}
    prefix = tuple(itertools.takewhile(lambda stage: stage not in moving, stages))
    behind = {name for name, head in model.auxiliary_heads().items() if head.after in prefix}
    frozen |= {name for name in names if name.split("/")[0] in behind}
    if len(frozen) == len(names):
        raise ValueError(
            f"freeze = {freeze!r} and batch_norm = {batch_norm!r} freeze all {len(names)} leaves: nothing would learn."
        )
    return Plan(stages, frozenset(frozen), prefix[-1] if prefix else None, frozenset(still), frozenset(norms))


def apply_learning(
    model: Chain,
    plan: Plan,
    learning: Params,
    frozen: Params,
    batch_stats: Params,
    x: jax.Array,
    rngs: dict[str, jax.Array],
) -> tuple[jax.Array, dict[str, jax.Array], Params]:
    """Runs the stages after the boundary in training mode.

    Args:
      model: the chain.
      plan: what learns.
      learning: parameters to differentiate by.
      frozen: the others.
      batch_stats: running statistics of the whole model.
      x: output of `apply_frozen`.
      rngs: keys for dropout.

    Returns:
      Logits float32 [batch, num_classes]; those of the auxiliary heads that ran, by name; and the batch statistics
      after the step.
    """
    variables = {"params": plan.merge(learning, frozen), "batch_stats": batch_stats}
    with plan.frozen_norms():
        logits, updated = model.apply(
            variables, x, train=True, start=plan.boundary, rngs=rngs, mutable=["batch_stats", "auxiliary"]
        )
    return logits, updated.get("auxiliary", {}).get("logits", {}), updated.get("batch_stats", batch_stats)


def apply_frozen(model: Chain, plan: Plan, frozen: Params, batch_stats: Params, images: jax.Array) -> jax.Array:
    """Runs the stages up to the boundary in inference mode: [batch, h, w, 3] images -> the boundary's output."""
    if plan.boundary is None:
        return images
    return model.apply({"params": frozen, "batch_stats": batch_stats}, images, train=False, stop=plan.boundary)
