"""RegNet X and Y (Radosavovic et al., 2020, https://arxiv.org/abs/2003.13678).

Y is X with squeeze-and-excitation. Depths, widths and groups are those that the paper's quantized linear
parametrization gives, as torchvision rounds them to multiples of the group's width; timm's own rounding gives
other networks for X-400MF, Y-800MF and Y-8GF. Layers carry the names of ResNet's. Reference:
torchvision/models/regnet.py.
"""

import functools

import flax.linen as nn
import jax

from jft.models import kernels, layers, resnet
from jft.models.chain import Chain, Stages

# Blocks and channels in stage1 .. stage4, channels of a group.
_VARIANTS = {
    "regnet_x_400mf": ((1, 2, 7, 12), (32, 64, 160, 400), 16),
    "regnet_x_800mf": ((1, 3, 7, 5), (64, 128, 288, 672), 16),
    "regnet_x_1_6gf": ((2, 4, 10, 2), (72, 168, 408, 912), 24),
    "regnet_x_3_2gf": ((2, 6, 15, 2), (96, 192, 432, 1008), 48),
    "regnet_x_8gf": ((2, 5, 15, 1), (80, 240, 720, 1920), 120),
    "regnet_y_400mf": ((1, 3, 6, 6), (48, 104, 208, 440), 8),
    "regnet_y_800mf": ((1, 3, 8, 2), (64, 144, 320, 784), 16),
    "regnet_y_1_6gf": ((2, 6, 17, 2), (48, 120, 336, 888), 24),
    "regnet_y_3_2gf": ((2, 5, 13, 1), (72, 216, 576, 1512), 24),
    "regnet_y_8gf": ((2, 4, 10, 1), (224, 448, 896, 2016), 56),
}


class RegNet(Chain):
    """A stem of 32 channels, four stages of residual blocks, and the head.

    Attributes:
      depths: blocks in each stage.
      widths: channels of each stage.
      group_width: channels in a group of the 3x3 convolutions; narrower stages have one group.
      squeeze_excite: whether blocks have squeeze-and-excitation (Y).
      bn_momentum: share of the old running average that one training step keeps.
    """

    depths: tuple[int, ...] = _VARIANTS["regnet_y_400mf"][0]
    widths: tuple[int, ...] = _VARIANTS["regnet_y_400mf"][1]
    group_width: int = 8
    squeeze_excite: bool = True
    bn_momentum: float = 0.9

    def published(self) -> Stages:
        """stem, stage1 .. stage4, head."""
        conv = functools.partial(layers.Conv, use_bias=False, dtype=self.dtype)
        norm = functools.partial(
            layers.BatchNorm, momentum=self.bn_momentum, dtype=self.dtype, axis_name=self.axis_name
        )
        block = functools.partial(Block, self.squeeze_excite, self.group_width, conv=conv, norm=norm)
        return {
            "stem": functools.partial(Stem, conv, norm),
            **{
                f"stage{i}": functools.partial(resnet.Layer, functools.partial(block, width), depth, 2)
                for i, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True), 1)
            },
            "head": functools.partial(layers.Head, self.num_classes, self.dtype),
        }


class Stem(nn.Module):
    """conv1 3x3/2, BatchNorm, ReLU."""

    conv: functools.partial
    norm: functools.partial

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[batch, h, w, 3] -> [batch, h / 2, w / 2, 32]."""
        x = self.conv(32, (3, 3), (2, 2), padding=1, name="conv1")(x)
        return nn.relu(self.norm(name="bn1")(x, train=train))


class Block(nn.Module):
    """1x1, grouped 3x3, perhaps squeeze-and-excitation, 1x1, around a shortcut; `width` channels throughout."""

    squeeze_excite: bool
    group_width: int
    width: int
    stride: int
    conv: functools.partial
    norm: functools.partial

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[batch, h, w, c] -> [batch, h / stride, w / stride, width]."""
        groups = self.width // min(self.group_width, self.width)
        y = self.conv(self.width, (1, 1), padding=0, name="conv1")(x)
        y = nn.relu(self.norm(name="bn1")(y, train=train))
        y = self.conv(self.width, (3, 3), self.stride, padding=1, feature_group_count=groups, name="conv2")(y)
        y = nn.relu(self.norm(name="bn2")(y, train=train))
        if self.squeeze_excite:  # to a quarter of the block's input, not of its own
            y = layers.SqueezeExcite(round(x.shape[-1] / 4), dtype=self.conv.keywords["dtype"], name="se")(y)
        y = self.conv(self.width, (1, 1), padding=0, name="conv3")(y)
        y = self.norm(name="bn3")(y, train=train)
        return kernels.residual(y, resnet.shortcut(x, y, self.stride, self.conv, self.norm, train))


REGNETS = {
    name: functools.partial(RegNet, depths=depths, widths=widths, group_width=width, squeeze_excite="_y_" in name)
    for name, (depths, widths, width) in _VARIANTS.items()
}
