"""Vision Transformer (Dosovitskiy et al., 2020, https://arxiv.org/abs/2010.11929), and those that keep its layers.

DeiT (Touvron et al., 2020, https://arxiv.org/abs/2012.12877) is the same network, trained otherwise. DeiT-3 (Touvron
et al., 2022, https://arxiv.org/abs/2204.07118) has layer scales, and no position for the class token. DINOv2 (Oquab et
al., 2023, https://arxiv.org/abs/2304.07193) has layer scales, patches of 14 pixels, and the positions of images of 518;
some have registers (Darcet et al., 2023, https://arxiv.org/abs/2309.16588). Reference: torchvision's and timm's
models/vision_transformer.py, timm/models/deit.py.
"""

import functools
from typing import Any, Literal

import flax.linen as nn
import jax

from jft.models import attention, kernels, layers
from jft.models.chain import Chain, Pool, Stages
from jft.models.scales import LayerScale

# Width and heads; all have 12 blocks. Table 1 of DeiT, table 1 of DeiT-3 (medium).
SIZES = {"tiny": (192, 3), "small": (384, 6), "medium": (512, 8), "base": (768, 12)}

_patch_init = jax.jit(nn.initializers.lecun_normal(), static_argnums=(1, 2))


class ViT(Chain):
    """Patches as tokens beside a class token, blocks of attention and perceptron, a last LayerNorm, and the head.

    Stages give tokens, [batch, tokens, width]: the class token, registers, and the patches row by row.

    Attributes:
      patch: side of a patch, in pixels.
      width: channels.
      depth: number of blocks.
      heads: of the attention.
      grid: side of the grid of position embeddings; they are resampled to that of the images.
      class_position: whether the class token has a position embedding too, the first.
      registers: learned tokens without position or meaning, which attention uses as scratch space.
      resize: how position embeddings are resampled, see `attention.bicubic`.
      layer_scale: value of the layer scales before training; None: no layer scales.
      dropout: dropped share of the embeddings, and of what each branch of a block gives.
      drop_path: dropped share of the last block's branches in training; it grows linearly from 0 in the first block.
    """

    pool: Pool = "token"
    patch: int = 16
    width: int = SIZES["base"][0]
    depth: int = 12
    heads: int = SIZES["base"][1]
    grid: int = 14
    class_position: bool = True
    registers: int = 0
    resize: Literal["antialias", "offset"] = "antialias"
    layer_scale: float | None = None
    dropout: float = 0.0
    drop_path: float = 0.0

    @property
    def prefix_tokens(self) -> int:
        """The class token and the registers."""
        return 1 + self.registers

    def published(self) -> Stages:
        """embed, block1 .. block12, norm, head."""
        tokens = functools.partial(attention.Tokens, self.grid, self.class_position, self.registers, self.resize)
        embed = functools.partial(Embed, self.patch, self.width, tokens, self.dropout, self.dtype)
        block = functools.partial(Block, self.heads, self.layer_scale, self.dropout, dtype=self.dtype)
        rates = [self.drop_path * i / max(self.depth - 1, 1) for i in range(self.depth)]
        return {
            "embed": embed,
            **{f"block{i}": functools.partial(block, drop_path=rate) for i, rate in enumerate(rates, 1)},
            "norm": functools.partial(Norm, self.dtype),
            "head": functools.partial(
                layers.Head, self.num_classes, self.dtype, pool=self.pool, prefix=self.prefix_tokens
            ),
        }

    def reads_patches(self, stage: str) -> bool:
        """Whether a block comes after the stage, which mixes patches into the class token, or the head reads both."""
        stages = list(self.stages())
        return self.pool_of_stage != "token" or any(
            name.startswith("block") for name in stages[stages.index(stage) + 1 :]
        )


class Embed(nn.Module):
    """Patches through one convolution, the class token and registers before them, and position embeddings."""

    patch: int
    width: int
    tokens: functools.partial
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[batch, h, w, 3] -> [batch, 1 + registers + h / patch * w / patch, width]."""
        height, width = x.shape[1:3]
        if height % self.patch or width % self.patch:
            low = max(height // self.patch, 1) * self.patch
            raise ValueError(
                f"the images are {height} x {width}, which is no multiple of the patch, {self.patch} x {self.patch} "
                f"pixels: give another size, such as {low} or {low + self.patch} (image_size)."
            )
        sides = (self.patch, self.patch)
        conv = {"padding": "VALID", "kernel_init": _patch_init, "dtype": self.dtype, "name": "patch"}
        x = layers.Conv(self.width, sides, sides, **conv)(x)
        x = self.tokens(name="tokens")(x)
        return nn.Dropout(self.dropout, deterministic=not train)(x)


class Block(nn.Module):
    """Two branches around shortcuts: LayerNorm and attention; LayerNorm and a perceptron with four times the width."""

    heads: int
    layer_scale: float | None
    dropout: float
    drop_path: float
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[batch, tokens, width] -> the same shape."""
        drop = nn.Dropout(self.dropout, deterministic=not train)
        drop_path = functools.partial(layers.DropPath(self.drop_path), train=train)

        def scaled(y: jax.Array, name: str) -> jax.Array:
            return y if self.layer_scale is None else LayerScale(self.layer_scale, name=name)(y)

        y = layers.LayerNorm(dtype=self.dtype, name="norm1")(x)
        y = attention.SelfAttention(self.heads, self.dtype, name="attention")(y)
        x = x + drop_path(scaled(drop(y), "scale1"))
        y = layers.LayerNorm(dtype=self.dtype, name="norm2")(x)
        y = kernels.gelu(attention.Dense(4 * x.shape[-1], dtype=self.dtype, name="fc1")(y))
        y = attention.Dense(x.shape[-1], dtype=self.dtype, name="fc2")(drop(y))
        return x + drop_path(scaled(drop(y), "scale2"))


class Norm(nn.Module):
    """The LayerNorm after the blocks."""

    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[batch, tokens, width] -> the same shape."""
        del train
        return layers.LayerNorm(dtype=self.dtype, name="norm")(x)


def _size(name: str, **fields: Any) -> functools.partial:
    width, heads = SIZES[name]
    return functools.partial(ViT, width=width, heads=heads, **fields)


# As timm calls them, without the size of the images.
VIT = {
    **{f"vit_{size}_patch16": _size(size) for size in ("tiny", "small", "base")},
    **{f"vit_{size}_patch32": _size(size, patch=32, grid=7) for size in ("small", "base")},
    **{
        f"deit3_{size}_patch16": _size(size, class_position=False, layer_scale=1e-6)
        for size in ("small", "medium", "base")
    },
    **{
        f"vit_{size}_patch14_{reg4}dinov2": _size(
            size, patch=14, grid=37, layer_scale=1e-5, registers=4 * bool(reg4), class_position=not reg4
        )
        for reg4 in ("", "reg4_")
        for size in ("small", "base")
    },
}
