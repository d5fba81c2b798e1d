"""ResNet (He et al., 2015, https://arxiv.org/abs/1512.03385), and two networks that widen its bottlenecks.

ResNeXt (Xie et al., 2016, https://arxiv.org/abs/1611.05431) splits their 3x3 convolutions into groups, Wide ResNet
(Zagoruyko & Komodakis, 2016, https://arxiv.org/abs/1605.07146) gives them more channels. Layers carry torchvision's
names. Reference: torchvision/models/resnet.py (v1.5: the stride sits in the 3x3) and keras/applications/resnet.py (v1,
as the paper: the stride sits in the first 1x1).
"""

import functools

import flax.linen as nn
import jax

from jft.models import kernels, layers, window_pooling
from jft.models.chain import Chain, Stages

# The tables of the papers: residual blocks in layer1 .. layer4, whether they are bottlenecks, groups of these, and
# channels of a group in layer1.
_VARIANTS = {
    "resnet18": ((2, 2, 2, 2), False, 1, 64),
    "resnet34": ((3, 4, 6, 3), False, 1, 64),
    "resnet50": ((3, 4, 6, 3), True, 1, 64),
    "resnet101": ((3, 4, 23, 3), True, 1, 64),
    "resnet152": ((3, 8, 36, 3), True, 1, 64),
    "resnext50_32x4d": ((3, 4, 6, 3), True, 32, 4),
    "resnext101_32x8d": ((3, 4, 23, 3), True, 32, 8),
    "resnext101_64x4d": ((3, 4, 23, 3), True, 64, 4),
    "wide_resnet50_2": ((3, 4, 6, 3), True, 1, 128),
    "wide_resnet101_2": ((3, 4, 23, 3), True, 1, 128),
}


class ResNet(Chain):
    """A stem, four layers of residual blocks at widths 64 .. 512, and the head.

    Attributes:
      blocks: residual blocks in each layer.
      bottleneck: 1x1, 3x3, 1x1 blocks with four times as many outputs (50 and deeper); else two 3x3.
      groups: of a bottleneck's 3x3 convolution (ResNeXt's cardinality).
      width_per_group: channels of a group in layer1; each later layer has twice as many.
      stride_in_1x1: a layer's first bottleneck strides in its first 1x1, as the paper and Keras have it.
      bn_momentum: share of the old running average that one training step keeps.
    """

    blocks: tuple[int, ...] = (3, 4, 6, 3)
    bottleneck: bool = True
    groups: int = 1
    width_per_group: int = 64
    stride_in_1x1: bool = False
    bn_momentum: float = 0.9

    def published(self) -> Stages:
        """stem, layer1 .. layer4, head."""
        conv = functools.partial(layers.Conv, use_bias=False, dtype=self.dtype)
        norm = functools.partial(
            layers.BatchNorm, momentum=self.bn_momentum, dtype=self.dtype, axis_name=self.axis_name
        )
        bottleneck = functools.partial(Bottleneck, self.stride_in_1x1, self.groups, self.width_per_group)
        block = bottleneck if self.bottleneck else BasicBlock
        return {
            "stem": functools.partial(Stem, conv, norm),
            **{
                f"layer{i}": functools.partial(
                    Layer, functools.partial(block, width=64 * 2 ** (i - 1), conv=conv, norm=norm), blocks, min(i, 2)
                )
                for i, blocks in enumerate(self.blocks, 1)
            },
            "head": functools.partial(layers.Head, self.num_classes, self.dtype),
        }


class Stem(nn.Module):
    """conv1 7x7/2, BatchNorm, ReLU, max pool 3x3/2."""

    conv: functools.partial
    norm: functools.partial

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[batch, h, w, 3] -> [batch, h / 4, w / 4, 64]."""
        # Explicit padding: SAME would pad (2, 3) at 224, which is another network.
        x = self.conv(64, (7, 7), (2, 2), padding=3, name="conv1")(x)
        x = nn.relu(self.norm(name="bn1")(x, train=train))
        return window_pooling.max_pool(x, 3, 2, padding=1)


class Layer(nn.Module):
    """Residual blocks, of which the first strides."""

    block: functools.partial
    blocks: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[batch, h, w, c] -> [batch, h / stride, w / stride, outputs of the block]."""
        for i in range(self.blocks):
            x = self.block(stride=self.stride if i == 0 else 1, name=f"block{i}")(x, train=train)
        return x


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut; `width` outputs."""

    width: int
    stride: int
    conv: functools.partial
    norm: functools.partial

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[batch, h, w, c] -> [batch, h / stride, w / stride, width]."""
        y = self.conv(self.width, (3, 3), self.stride, padding=1, name="conv1")(x)
        y = nn.relu(self.norm(name="bn1")(y, train=train))
        y = self.conv(self.width, (3, 3), padding=1, name="conv2")(y)
        y = self.norm(name="bn2")(y, train=train)
        return kernels.residual(y, shortcut(x, y, self.stride, self.conv, self.norm, train))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions around a shortcut; 4 x `width` outputs."""

    stride_in_1x1: bool
    groups: int
    width_per_group: int
    width: int
    stride: int
    conv: functools.partial
    norm: functools.partial

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[batch, h, w, c] -> [batch, h / stride, w / stride, 4 * width]."""
        first, second = (self.stride, 1) if self.stride_in_1x1 else (1, self.stride)
        inner = self.groups * (self.width_per_group * self.width // 64)
        y = self.conv(inner, (1, 1), first, padding=0, name="conv1")(x)
        y = nn.relu(self.norm(name="bn1")(y, train=train))
        y = self.conv(inner, (3, 3), second, padding=1, feature_group_count=self.groups, name="conv2")(y)
        y = nn.relu(self.norm(name="bn2")(y, train=train))
        y = self.conv(4 * self.width, (1, 1), padding=0, name="conv3")(y)
        y = self.norm(name="bn3")(y, train=train)
        return kernels.residual(y, shortcut(x, y, self.stride, self.conv, self.norm, train))


def shortcut(
    x: jax.Array, y: jax.Array, stride: int, conv: functools.partial, norm: functools.partial, train: bool
) -> jax.Array:
    """The identity, or a 1x1 projection where the shape changes (option B of the paper)."""
    if x.shape == y.shape:
        return x
    x = conv(y.shape[-1], (1, 1), stride, padding=0, name="downsample_conv")(x)
    return norm(name="downsample_bn")(x, train=train)


RESNETS = {
    name: functools.partial(ResNet, blocks=blocks, bottleneck=bottleneck, groups=groups, width_per_group=width)
    for name, (blocks, bottleneck, groups, width) in _VARIANTS.items()
}
