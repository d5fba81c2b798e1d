"""Inverted bottlenecks, and networks that are tables of them: EfficientNet, MobileNet.

A block widens its input by a 1x1 convolution, filters each channel by itself (a depthwise convolution), and narrows the
result by a 1x1 convolution without activation, around a shortcut: MBConv of MobileNetV2 (Sandler et al., 2018,
https://arxiv.org/abs/1801.04381), with squeeze-excitation since MnasNet (Tan et al., 2018,
https://arxiv.org/abs/1807.11626). Fused-MBConv widens by a k x k convolution and has no depthwise one (EfficientNetV2,
Tan and Le, 2021, https://arxiv.org/abs/2104.00298).
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp

from jft.models import layers
from jft.models.chain import Chain, Stages
from jft.utils import tree

Activation = Literal["relu", "relu6", "silu", "hard_swish"]
Padding = Literal["torch", "same", "end"]
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nn.relu,
    "relu6": nn.relu6,
    "silu": nn.silu,
    "hard_swish": nn.hard_swish,
}


@dataclasses.dataclass(frozen=True)
class Blocks:
    """A row of a network's table: blocks of one kind, of which the first strides and widens.

    Attributes:
      kind: 'mbconv'; 'uib', the same with another depthwise convolution before the expanding one (MobileNetV4);
        'fused', whose k x k convolution is not depthwise; 'separable', whose last convolution activates, without
        shortcut (MobileNetV1); 'conv', a convolution alone.
      expansion: channels inside the block as a multiple of its inputs; 1: no expanding convolution.
      kernel: side of the k x k convolution; 0: there is none.
      stride: of the first block.
      channels: outputs.
      repeats: number of blocks.
      squeeze: whether squeeze-excitation follows the depthwise convolution.
      activation: a key of `ACTIVATIONS`; '': the network's.
      start: side of a 'uib' block's first depthwise convolution, which strides if there is no other; 0: there is none.
    """

    kind: str
    expansion: float
    kernel: int
    stride: int
    channels: int
    repeats: int
    squeeze: bool = False
    activation: str = ""
    start: int = 0


Table = tuple[tuple[Blocks, ...], ...]  # rows of each stage


@dataclasses.dataclass(frozen=True)
class Unit:
    """A convolution without bias, BatchNorm and, where it is `activated`, an activation."""

    name: str
    features: int
    kernel: int = 1
    stride: int = 1
    depthwise: bool = False
    activated: bool = True


@dataclasses.dataclass(frozen=True)
class Block:
    """One block.

    Attributes:
      row: of the table.
      inputs: channels.
      stride: of its k x k convolution.
      squeezed: channels between the two layers of its squeeze-excitation; 0: it has none.
    """

    row: Blocks
    inputs: int
    stride: int
    squeezed: int

    @property
    def shortcut(self) -> bool:
        """Whether the input is added to the output."""
        return self.stride == 1 and self.inputs == self.row.channels and self.row.kind not in ("separable", "conv")

    def units(self) -> tuple[Unit, ...]:
        """Its convolutions in order; squeeze-excitation comes before the last one."""
        row, middle = self.row, expanded(self.inputs, self.row)
        project = Unit("project", row.channels, activated=row.kind == "separable")
        if row.kind == "conv" or (row.kind == "fused" and middle == self.inputs):
            return (Unit("conv", row.channels, row.kernel, self.stride),)
        if row.kind == "fused":
            return Unit("expand", middle, row.kernel, self.stride), project
        before = 1 if row.kernel else self.stride
        start = Unit("start", self.inputs, row.start, before, depthwise=True, activated=False)
        depthwise = Unit("depthwise", middle, row.kernel, self.stride, depthwise=True)
        units = {start: row.start, Unit("expand", middle): middle != self.inputs, depthwise: row.kernel, project: True}
        return tuple(unit for unit, there in units.items() if there)


def divisible(channels: float, floor: float = 0.9) -> int:
    """The nearest multiple of 8, at least 8 and at least `floor` of `channels`, as the papers' code rounds widths."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < floor * channels else rounded


def expanded(inputs: int, row: Blocks) -> int:
    """Channels inside a block."""
    return divisible(inputs * row.expansion)


@dataclasses.dataclass(frozen=True)
class Style:
    """What all units of a network share; see `MBConvNet`.

    Attributes:
      activation: a key of `ACTIVATIONS`.
      padding: see `MBConvNet`.
      norm: constructor of BatchNorm.
      squeeze: constructor of squeeze-excitation, called with its channels.
      dtype: of the computation.
    """

    activation: str
    padding: str
    norm: Callable[..., nn.Module]
    squeeze: Callable[..., nn.Module]
    dtype: Any


class ConvNorm(nn.Module):
    """The layers of a `Unit`: `conv`, `bn`, activation."""

    unit: Unit
    style: Style

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[batch, h, w, c] -> [batch, ~h / stride, ~w / stride, features]."""
        unit, style = self.unit, self.style
        options: dict[str, Any] = {"use_bias": False, "dtype": style.dtype, "padding": _padding(unit, style.padding)}
        if unit.depthwise:
            options |= {"feature_group_count": x.shape[-1], "kernel_init": layers.depthwise_init}
        x = layers.Conv(unit.features, (unit.kernel,) * 2, unit.stride, name="conv", **options)(x)
        x = style.norm(name="bn")(x, train=train)
        return ACTIVATIONS[style.activation](x) if unit.activated else x


def _padding(unit: Unit, padding: str) -> Any:
    if padding == "torch":
        return unit.kernel // 2
    return ((0, 1),) * 2 if padding == "end" and unit.depthwise and unit.stride > 1 else "SAME"


class BlockStage(nn.Module):
    """Blocks in order, each with the units' names and `se`.

    Attributes:
      blocks: the blocks.
      drop_paths: share of each one's branches that training drops.
      style: of all units.
    """

    blocks: tuple[Block, ...]
    drop_paths: tuple[float, ...]
    style: Style

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[batch, h, w, c] -> [batch, ~h / stride, ~w / stride, channels of the last row]."""
        for i, (block, rate) in enumerate(zip(self.blocks, self.drop_paths, strict=True)):
            x = MBConv(block, rate, self.style, name=f"block{i}")(x, train=train)
        return x


class MBConv(nn.Module):
    """The layers of a `Block`."""

    block: Block
    drop_path: float
    style: Style

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[batch, h, w, inputs] -> [batch, ~h / stride, ~w / stride, channels]."""
        y, (*units, last) = x, self.block.units()
        style = dataclasses.replace(self.style, activation=self.block.row.activation or self.style.activation)
        for unit in units:
            y = ConvNorm(unit, style, name=unit.name)(y, train=train)
        if self.block.squeezed:
            y = style.squeeze(self.block.squeezed, name="se")(y)
        y = ConvNorm(last, style, name=last.name)(y, train=train)
        return x + layers.DropPath(self.drop_path)(y, train=train) if self.block.shortcut else y


class Head(nn.Module):
    """Average, a hidden layer, dropout, and the classifying layer.

    Attributes:
      num_classes: number of logits.
      hidden: units of the hidden layer.
      normed: whether that is a `ConvNorm`, as in MobileNetV4; else, as in V3, it has biases.
      dropout: dropped share of the classifying layer's input in training.
      style: of the network.
    """

    averages = True  # of a map it needs the average alone, see `Chain.averages_after`

    num_classes: int
    hidden: int
    normed: bool
    dropout: float
    style: Style

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[batch, h, w, c], or averaged, [batch, c] -> logits [batch, num_classes]."""
        x = jnp.mean(x, axis=(1, 2)) if x.ndim == 4 else x
        if self.normed:
            x = ConvNorm(Unit("hidden", self.hidden), self.style, name="hidden")(x[:, None, None], train=train)[:, 0, 0]
        else:
            x = layers.Dense(self.hidden, dtype=self.style.dtype, name="hidden")(x)
            x = ACTIVATIONS[self.style.activation](x)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return layers.Dense(self.num_classes, dtype=self.style.dtype, name="head")(x)


class MBConvNet(Chain):
    """A strided 3x3 convolution, stages of inverted bottlenecks, a 1x1 convolution ("top"), and a head that averages.

    Attributes:
      table: rows of each stage.
      stem_width: outputs of the first convolution.
      top_width: outputs of the last one; 0: there is none.
      hidden_width: units of the head's hidden layer; 0: there is none.
      hidden_norm: see `Head.normed`.
      activation: a key of `ACTIVATIONS`.
      padding: 'torch', half the kernel on each side; 'same', TensorFlow's, whose odd zero comes after the map; 'end',
        the same, but for one zero, after the map, of 3x3 depthwise convolutions that stride (Keras' MobileNetV1).
      bn_epsilon: added to BatchNorm's variance.
      bn_momentum: share of the old running average that one training step keeps.
      dropout: dropped share of the head's input in training.
      drop_path: share of the images whose branch training drops in the last block; of n blocks the k-th, from 0, drops
        k / n of it.
    """

    # Activation and gate of squeeze-excitation.
    SQUEEZE: ClassVar[Mapping[str, Callable[[jax.Array], jax.Array]]] = {"activation": nn.silu, "gate": nn.sigmoid}

    table: Table = ()
    stem_width: int = 32
    top_width: int = 1280
    hidden_width: int = 0
    hidden_norm: bool = False
    activation: Activation = "silu"
    padding: Padding = "torch"
    bn_epsilon: float = 1e-5
    bn_momentum: float = 0.9
    dropout: float = 0.2
    drop_path: float = 0.2

    def blocks(self) -> list[tuple[Block, ...]]:
        """The blocks of each stage."""
        inputs, stages = self.stem_width, []
        for rows in self.table:
            blocks = []
            for row in rows:
                for i in range(row.repeats):
                    squeezed = self.squeezed(inputs, row) if row.squeeze else 0
                    blocks.append(Block(row, inputs, row.stride if i == 0 else 1, squeezed))
                    inputs = row.channels
            stages.append(tuple(blocks))
        return stages

    def squeezed(self, inputs: int, row: Blocks) -> int:
        """Channels between the two layers of a block's squeeze-excitation: a quarter of the block's inputs."""
        del row
        return max(1, inputs // 4)

    def published(self) -> Stages:
        """stem, stage1, stage2 ... for each entry of the table, top if there is one, head."""
        style = self._style()
        stages, done, total = {}, 0, sum(map(len, self.blocks()))
        for number, blocks in enumerate(self.blocks(), 1):
            rates = tuple(self.drop_path * (done + i) / total for i in range(len(blocks)))
            stages[f"stage{number}"] = functools.partial(BlockStage, blocks, rates, style)
            done += len(blocks)
        if self.top_width:
            stages["top"] = functools.partial(ConvNorm, Unit("top", self.top_width), style)
        head = functools.partial(layers.Head, self.num_classes, self.dtype, self.dropout)
        if self.hidden_width:
            head = functools.partial(Head, self.num_classes, self.hidden_width, self.hidden_norm, self.dropout, style)
        return {"stem": functools.partial(ConvNorm, Unit("stem", self.stem_width, 3, 2), style), **stages, "head": head}

    def _style(self) -> Style:
        for what, known in {"activation": Activation, "padding": Padding}.items():
            tree.choose(dict.fromkeys(get_args(known)), getattr(self, what), what=what)
        norm = functools.partial(
            layers.BatchNorm,
            momentum=self.bn_momentum,
            epsilon=self.bn_epsilon,
            dtype=self.dtype,
            axis_name=self.axis_name,
        )
        squeeze = functools.partial(layers.SqueezeExcite, dtype=self.dtype, **self.SQUEEZE)
        return Style(self.activation, self.padding, norm, squeeze, self.dtype)
