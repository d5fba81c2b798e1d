"""ConvNeXt (Liu et al., 2022, https://arxiv.org/abs/2201.03545) and V2 (Woo et al., https://arxiv.org/abs/2301.00808).

Layers carry the names of the authors' code, github.com/facebookresearch/ConvNeXt. Reference:
torchvision/models/convnext.py, keras/applications/convnext.py, and timm/models/convnext.py, which has the sizes below
tiny and V2.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jft.models import kernels, layers
from jft.models.chain import Chain, Stages
from jft.models.scales import GlobalResponseNorm, LayerScale

# Blocks in each stage, and channels of the first; the others double them. Tiny and larger: section 3.1 of the paper,
# beside it the stochastic depth that torchvision trained them with. Smaller ones: timm, and table 11 of V2's paper.
SIZES: dict[str, tuple[tuple[int, ...], int]] = {
    "atto": ((2, 2, 6, 2), 40),
    "femto": ((2, 2, 6, 2), 48),
    "pico": ((2, 2, 6, 2), 64),
    "nano": ((2, 2, 8, 2), 80),
    "tiny": ((3, 3, 9, 3), 96),
    "small": ((3, 3, 27, 3), 96),
    "base": ((3, 3, 27, 3), 128),
    "large": ((3, 3, 27, 3), 192),
}
_DROP_PATH = {"tiny": 0.1, "small": 0.4, "base": 0.5, "large": 0.5}


class ConvNeXt(Chain):
    """A stem of 4x4 patches, four stages of depthwise blocks, and pool, LayerNorm and the classifier.

    Attributes:
      blocks: in each stage.
      width: channels of the first stage; each later one has twice as many as the one before.
      grn: V2's blocks, which have a global response normalization and no layer scale.
      drop_path: dropped share of the last block's branch in training; it grows linearly from 0 in the first block.
      layer_scale: value of the layer scales before training.
    """

    blocks: tuple[int, ...] = SIZES["tiny"][0]
    width: int = SIZES["tiny"][1]
    grn: bool = False
    drop_path: float = 0.0
    layer_scale: float = 1e-6

    def published(self) -> Stages:
        """stem, stage1 .. stage4, norm, head."""
        rates = [self.drop_path * i / max(sum(self.blocks) - 1, 1) for i in range(sum(self.blocks))]
        block = functools.partial(Block, grn=self.grn, layer_scale=self.layer_scale, dtype=self.dtype)
        stages: Stages = {"stem": functools.partial(Stem, self.width, self.dtype)}
        for i, blocks in enumerate(self.blocks):
            own = tuple(functools.partial(block, drop_path=rates.pop(0)) for _ in range(blocks))
            stages[f"stage{i + 1}"] = functools.partial(Stage, own, self.width * 2**i, i > 0, self.dtype)
        return {
            **stages,
            "norm": functools.partial(PooledNorm, self.dtype),
            "head": functools.partial(layers.Head, self.num_classes, self.dtype),
        }


class Conv(layers.Conv):
    """A convolution, initialized as the authors do."""

    kernel_init: nn.initializers.Initializer = jax.jit(nn.initializers.normal(0.02), static_argnums=(1, 2))


class Stem(nn.Module):
    """Patches of 4x4 pixels, and LayerNorm."""

    width: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[batch, h, w, 3] -> [batch, h / 4, w / 4, width]."""
        del train
        x = Conv(self.width, (4, 4), (4, 4), padding="VALID", dtype=self.dtype, name="conv")(x)
        return layers.LayerNorm(dtype=self.dtype, name="norm")(x)


class Stage(nn.Module):
    """Blocks of one width; all stages but the first halve the map before, with LayerNorm and a 2x2 convolution."""

    blocks: tuple[functools.partial, ...]
    width: int
    downsample: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[batch, h, w, c] -> [batch, h', w', width], h' = h / 2 where it downsamples."""
        if self.downsample:
            x = layers.LayerNorm(dtype=self.dtype, name="downsample_norm")(x)
            x = Conv(self.width, (2, 2), (2, 2), padding="VALID", dtype=self.dtype, name="downsample_conv")(x)
        for i, block in enumerate(self.blocks):
            x = block(name=f"block{i}")(x, train=train)
        return x


class Block(nn.Module):
    """Depthwise 7x7, LayerNorm, 1x1 to four times the channels, GELU, 1x1 back, around a shortcut."""

    grn: bool
    layer_scale: float
    drop_path: float
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[batch, h, w, c] -> the same shape."""
        width = x.shape[-1]
        y = Conv(width, (7, 7), padding=3, feature_group_count=width, dtype=self.dtype, name="dwconv")(x)
        y = layers.LayerNorm(dtype=self.dtype, name="norm")(y)
        y = Conv(4 * width, (1, 1), dtype=self.dtype, name="pwconv1")(y)
        y = kernels.gelu(y)
        y = GlobalResponseNorm(name="grn")(y) if self.grn else y
        y = Conv(width, (1, 1), dtype=self.dtype, name="pwconv2")(y)
        y = y if self.grn else LayerScale(self.layer_scale, name="layer_scale")(y)
        return x + layers.DropPath(self.drop_path)(y, train=train)


class PooledNorm(nn.Module):
    """The average over the map, and LayerNorm: what the classifier reads, and features are taken from."""

    averages = True

    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[batch, h, w, c] or its average [batch, c] -> [batch, c]."""
        del train
        x = jnp.mean(x, axis=(1, 2)) if x.ndim == 4 else x
        return layers.LayerNorm(dtype=self.dtype, name="norm")(x)


CONVNEXT = {
    **{
        f"convnext_{size}": functools.partial(ConvNeXt, blocks=blocks, width=width, drop_path=_DROP_PATH.get(size, 0.0))
        for size, (blocks, width) in SIZES.items()
    },
    **{
        f"convnextv2_{size}": functools.partial(ConvNeXt, blocks=blocks, width=width, grn=True)
        for size, (blocks, width) in SIZES.items()
        if size != "small"  # which nobody has published
    },
}
