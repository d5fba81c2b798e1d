"""The transfer plan: which parameters are trainable, and how the others stay frozen.

Frozen leaves are neither in the differentiated tree nor in the optimizer state. The stages up to the boundary run in
inference mode, without a backward pass. A BatchNorm whose parameters are frozen normalizes by its running statistics
and does not update them. So frozen leaves stay bit-identical after any number of steps.
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
      frozen_stages: the longest prefix of stages that are entirely frozen; they run in inference mode.
      boundary: the last of them, if the stages after it need its output alone; else None.
      inference_norms: BatchNorms that run in inference mode and keep their statistics, such as 'layer1/block0/bn1'.
      norms: all BatchNorms.
    """

    stages: tuple[str, ...]
    frozen: frozenset[str]
    frozen_stages: tuple[str, ...]
    boundary: str | None
    inference_norms: frozenset[str]
    norms: frozenset[str]

    def split(self, params: Params) -> tuple[Params, Params]:
        """Splits the parameters into (trainable, frozen), nested dicts of the same names."""
        flat = tree.flatten(params)
        trainable = {name: leaf for name, leaf in flat.items() if name not in self.frozen}
        frozen = {name: leaf for name, leaf in flat.items() if name in self.frozen}
        return tree.unflatten(trainable), tree.unflatten(frozen)

    def merge(self, trainable: Params, frozen: Params) -> Params:
        """Inverse of `split`."""
        return tree.unflatten({**tree.flatten(trainable), **tree.flatten(frozen)})

    def moving(self, batch_stats: Params) -> Params:
        """The running statistics that training updates: those of BatchNorms that normalize by batches."""
        live = self.norms - self.inference_norms
        flat = tree.flatten(batch_stats)
        return tree.unflatten({name: leaf for name, leaf in flat.items() if name.rpartition("/")[0] in live})

    def freeze_mask(self, params: Params) -> Params:
        """A tree of bools shaped like `params`, True where frozen, for `optax.selective_transform`."""
        return tree.unflatten({name: name in self.frozen for name in tree.flatten(params)})

    def normalized_away(self, name: str) -> bool:
        """Whether a leaf is a bias in a stage whose BatchNorm subtracts the batch mean, so that its gradient may be 0.

        Such a bias shifts all activations alike, and BatchNorm subtracts the shift again.
        """
        layer, _, kind = name.rpartition("/")
        live = self.norms - self.inference_norms  # normalize by the batch
        return kind == "bias" and layer not in live and name.split("/")[0] in {norm.split("/")[0] for norm in live}

    def frozen_in_inference_mode(self) -> contextlib.AbstractContextManager:
        """Context manager in which `frozen_stages`, and of others the `inference_norms`, run in inference mode."""

        def intercept(call: Any, args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
            path = "/".join(context.module.path)
            norm = isinstance(context.module, BatchNorm) and path in self.inference_norms
            # Flax's own call inside jft's has no `train`.
            if "train" in kwargs and (norm or path in self.frozen_stages):
                kwargs = {**kwargs, "train": False}
            return call(*args, **kwargs)

        return nn.intercept_methods(intercept)


def make_plan(model: Chain, variables: Mapping[str, Any], freeze: str, *, batch_norm: str = "trained") -> Plan:
    """Makes the plan of a transfer.

    An auxiliary head is frozen together with the stage that it reads: a head on a frozen stage does not run and adds
    no loss.

    Args:
      model: the chain of stages.
      variables: `{'params', 'batch_stats'}` (arrays or shapes), nested.
      freeze: the name of a stage, which freezes it and all stages before it; or regular expressions over the names of
        leaves, separated by spaces ('block[12] .*/bias'); or '' to freeze nothing.
      batch_norm: mode of the BatchNorms that `freeze` leaves trainable. 'trained': scale and bias are trained,
        statistics updated. 'statistics': scale and bias are frozen, statistics updated. 'frozen': both are frozen, the
        layer runs in inference mode.

    Returns:
      The plan.

    Raises:
      ValueError: a pattern matches nothing, or nothing would be trainable.
    """
    names = list(tree.flatten(variables["params"]))
    stages = tuple(model.stages())
    if freeze in stages:
        prefix = stages[: stages.index(freeze) + 1]
        frozen = {name for name in names if name.split("/")[0] in prefix}
    else:
        frozen = tree.matching(freeze.split(), names, what="freeze")
    norms = {name.rsplit("/", 1)[0] for name in tree.flatten(variables["batch_stats"])}
    inference = {norm for norm in norms if {f"{norm}/scale", f"{norm}/bias"} <= frozen or batch_norm == "frozen"}
    if batch_norm != "trained":
        frozen |= {name for name in names if name.rsplit("/", 1)[0] in norms}
    changing = {name.split("/")[0] for name in {*names} - frozen | (norms - inference)}
    prefix = tuple(itertools.takewhile(lambda stage: stage not in changing, stages))
    idle_heads = {name for name, head in model.auxiliary_heads().items() if head.after in prefix}
    frozen |= {name for name in names if name.split("/")[0] in idle_heads}
    if len(frozen) == len(names):
        raise ValueError(
            f"freeze = {freeze!r} and batch_norm = {batch_norm!r} freeze all {len(names)} leaves, so nothing is "
            "trainable: freeze an earlier stage."
        )
    boundary = prefix[-1] if prefix and model.starts_after(prefix[-1]) else None
    return Plan(stages, frozenset(frozen), prefix, boundary, frozenset(inference), frozenset(norms))


def apply_trainable(
    model: Chain,
    plan: Plan,
    trainable: Params,
    frozen: Params,
    batch_stats: Params,
    x: jax.Array,
    rngs: dict[str, jax.Array],
) -> tuple[jax.Array, dict[str, jax.Array], Params]:
    """Runs the stages after the boundary in training mode, but for `frozen_stages`, if they are among them.

    Args:
      model: the chain of stages.
      plan: says what is frozen.
      trainable: parameters to differentiate with respect to.
      frozen: the other parameters.
      batch_stats: running statistics of the whole model.
      x: output of `apply_frozen`.
      rngs: keys for dropout.

    Returns:
      Logits, float32 [batch, num_classes]; the logits of the auxiliary heads that ran, by name; and the running
      statistics after the step.
    """
    variables = {"params": plan.merge(trainable, frozen), "batch_stats": batch_stats}
    with plan.frozen_in_inference_mode():
        logits, updated = model.apply(
            variables, x, train=True, start=plan.boundary, rngs=rngs, mutable=["batch_stats", "auxiliary"]
        )
    heads, found = model.auxiliary_heads(), updated.get("auxiliary", {}).get("logits", {})
    trained = {name: x for name, x in found.items() if heads[name].after not in plan.frozen_stages}
    return logits, trained, updated.get("batch_stats", batch_stats)


def apply_frozen(model: Chain, plan: Plan, frozen: Params, batch_stats: Params, images: jax.Array) -> jax.Array:
    """Runs the stages up to the boundary in inference mode: images [batch, h, w, 3] -> output of the boundary stage."""
    if plan.boundary is None:
        return images
    return model.apply({"params": frozen, "batch_stats": batch_stats}, images, train=False, stop=plan.boundary)
