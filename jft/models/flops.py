"""Costs of a forward pass: shapes, parameters and FLOPs of every layer, computed from shapes only.

FLOPs as papers and profilers count them: a multiplication and an addition are two, so a convolution or a dense layer
costs twice its multiply-adds, windows over padding included, and its bias nothing (a sum of n products that starts from
a bias has n additions). Attention costs its two matrix products. BatchNorm costs two per element, LayerNorm five, as
fvcore counts them; layer scale and the addition of positions one, and global response normalization six. Pools,
activations, softmax, dropout, local response normalization and the additions of shortcuts are left out.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from jft.models.attention import Product, Tokens
from jft.models.chain import Chain, trace
from jft.models.scales import GlobalResponseNorm, LayerScale
from jft.utils import tree

Shape = tuple[int, ...]

_PER_ELEMENT = {nn.BatchNorm: 2, nn.LayerNorm: 5, LayerScale: 1, GlobalResponseNorm: 6, Tokens: 1}


@dataclasses.dataclass(frozen=True)
class LayerCosts:
    """A module with parameters of its own, or the products of attention.

    Attributes:
      stage: the stage or auxiliary head that it belongs to.
      name: of the layer, as its leaves have it: 'layer1/block0/conv1'.
      kind: 'conv 3x3', with its stride and groups where it has any: 'conv 7x7 /2'; 'dense'; 'BatchNorm'; 'attention'.
      output: shape of its output, without the batch.
      params: shapes of its parameters, by the name of the leaf: 'layer1/block0/conv1/kernel'.
      num_statistics: values of BatchNorm's moving mean and variance, which are no parameters.
      flops: of a forward pass, for one image.
    """

    stage: str
    name: str
    kind: str
    output: Shape
    params: dict[str, Shape]
    num_statistics: int
    flops: int

    @property
    def num_params(self) -> int:
        """Number of parameters."""
        return sum(map(math.prod, self.params.values()))


@dataclasses.dataclass(frozen=True)
class StageCosts:
    """A stage, or an auxiliary head.

    Attributes:
      name: of the stage or of the head.
      output: shape of its output, without the batch.
      layers: those that it runs, in order.
      after: the stage whose output an auxiliary head reads; None for a stage. A forward pass runs stages alone.
    """

    name: str
    output: Shape
    layers: tuple[LayerCosts, ...]
    after: str | None = None

    @property
    def num_params(self) -> int:
        """Number of parameters."""
        return sum(layer.num_params for layer in self.layers)

    @property
    def params(self) -> dict[str, Shape]:
        """Shapes of the parameters, by the name of the leaf."""
        return {name: shape for layer in self.layers for name, shape in layer.params.items()}

    @property
    def flops(self) -> int:
        """FLOPs of a forward pass through it, for one image."""
        return sum(layer.flops for layer in self.layers)


def layer_costs(model: Chain, size: int) -> list[LayerCosts]:
    """The layers in execution order; those of an auxiliary head follow the stage that it reads.

    Args:
      model: the chain; made with `aux_heads=True` it has its auxiliary heads' layers too.
      size: side of the square images, in pixels.

    Returns:
      A row per layer. Nothing is allocated, compiled or lowered.

    Raises:
      ValueError: the model does not take images of this size.
    """
    return [layer for stage in stage_costs(model, size).values() for layer in stage.layers]


def stage_costs(model: Chain, size: int) -> dict[str, StageCosts]:
    """Costs by stage, {name: costs}, in execution order; arguments and errors as in `layer_costs`."""
    traced = trace(model, size)
    layers = [layer for name, call in traced.calls.items() if (layer := _layer(*call, name, traced.variables))]
    outputs = {name: output for name, (_, output) in traced.calls.items() if "/" not in name}
    after = {name: head.after for name, head in model.auxiliary_heads().items()}
    return {
        name: StageCosts(name, output, tuple(v for v in layers if v.stage == name), after.get(name))
        for name, output in outputs.items()
    }


def forward_flops(stages: Mapping[str, StageCosts]) -> int:
    """FLOPs of a forward pass for one image, without auxiliary heads, which run only in training."""
    return sum(stage.flops for stage in stages.values() if stage.after is None)


def parameter_shapes(stages: dict[str, StageCosts]) -> dict[str, Any]:
    """The tree of parameters, nested, with `jax.ShapeDtypeStruct` as its leaves."""
    flat = {name: shape for stage in stages.values() for name, shape in stage.params.items()}
    return tree.unflatten({name: jax.ShapeDtypeStruct(shape, "float32") for name, shape in flat.items()})


def _own(variables: Any, name: str) -> dict[str, Shape]:
    """Shapes of the leaves that a module has itself, by their names."""
    for part in name.split("/"):
        variables = variables.get(part, {})
    return {leaf: value.shape for leaf, value in variables.items() if hasattr(value, "shape")}


def _layer(module: nn.Module, output: Shape, name: str, shapes: Mapping[str, Any]) -> LayerCosts | None:
    """The costs of a module; None if it has no parameters of its own and is no product of attention."""
    params, stats = (_own(shapes.get(kind, {}), name) for kind in ("params", "batch_stats"))
    if not (params or stats or isinstance(module, Product)):
        return None
    if isinstance(module, Product):  # of queries and keys, and of the weights and values, [tokens, tokens] both
        flops = 4 * output[0] * math.prod(output)
    elif each := next((each for kind, each in _PER_ELEMENT.items() if isinstance(module, kind)), 0):
        flops = each * math.prod(output)
    else:  # A grouped convolution's kernel is smaller by as much as it saves.
        flops = 2 * math.prod(params["kernel"]) * math.prod(output[:-1]) if "kernel" in params else 0
    return LayerCosts(
        stage=name.split("/")[0],
        name=name,
        kind=_kind(module),
        output=output,
        params={f"{name}/{leaf}": shape for leaf, shape in params.items()},
        num_statistics=sum(map(math.prod, stats.values())),
        flops=flops,
    )


def _kind(module: nn.Module) -> str:
    if isinstance(module, Product):
        return "attention"
    if not isinstance(module, nn.Conv):
        return "dense" if isinstance(module, nn.Dense) else type(module).__name__
    stride = module.strides if isinstance(module.strides, int) else max(module.strides or (1,))
    groups = module.feature_group_count
    sizes = (module.kernel_size,) if isinstance(module.kernel_size, int) else module.kernel_size
    kind = f"conv {'x'.join(map(str, sizes))}"
    return f"{kind}{f' /{stride}' if stride > 1 else ''}{f' in {groups} groups' if groups > 1 else ''}"
