"""VGG (Simonyan and Zisserman, 2014, https://arxiv.org/abs/1409.1556), with BatchNorm as torchvision adds it.

Layers carry the paper's names. Reference: torchvision/models/vgg.py, keras/applications/vgg16.py.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from jft.models import layers, window_pooling
from jft.models.chain import Chain, Stages

# Table 1 of the paper: 3x3 convolutions in each of the five blocks.
VGG_CONVS = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}


class VGG(Chain):
    """Blocks of 3x3 convolutions, each ended by a 2x2 max pool; then fc6, fc7 and the head.

    Attributes:
      convs: convolutions in each block.
      widths: output channels of each block's convolutions.
      hidden: units of fc6 and of fc7.
      batch_norm: BatchNorm after each convolution.
      grid: side of the feature map that fc6 reads; 7 is what 224-pixel images give.
      adaptive_pool: average any other map to `grid` x `grid`, as torchvision does; otherwise it is an error.
      dropout: dropped share of the outputs of fc6 and fc7 in training.
    """

    convs: tuple[int, ...] = VGG_CONVS["vgg16"]
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    hidden: int = 4096
    batch_norm: bool = False
    grid: int = 7
    adaptive_pool: bool = True
    dropout: float = 0.5

    def published(self) -> Stages:
        """block1 .. block5, fc6, fc7, head."""
        norm = functools.partial(layers.BatchNorm, dtype=self.dtype, axis_name=self.axis_name)
        dense = functools.partial(layers.Hidden, self.hidden, self.dropout, self.dtype)
        size = None if self.adaptive_pool else self.default_size
        return {
            **{
                f"block{i}": functools.partial(Block, i, convs, width, norm if self.batch_norm else None, self.dtype)
                for i, (convs, width) in enumerate(zip(self.convs, self.widths, strict=True), 1)
            },
            "fc6": functools.partial(dense, grid=self.grid, image_size=size),
            "fc7": dense,
            "head": functools.partial(layers.Head, self.num_classes, self.dtype),
        }


class Block(nn.Module):
    """conv{index}_1 .. conv{index}_{convs}, each with ReLU, and a 2x2 max pool."""

    index: int
    convs: int
    width: int
    norm: functools.partial | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[batch, h, w, c] -> [batch, h // 2, w // 2, width]."""
        for i in range(1, self.convs + 1):
            # With BatchNorm torchvision keeps the (then redundant) bias.
            x = layers.Conv(self.width, (3, 3), padding=1, dtype=self.dtype, name=f"conv{self.index}_{i}")(x)
            if self.norm is not None:
                x = self.norm(name=f"bn{self.index}_{i}")(x, train=train)
            x = nn.relu(x)
        return window_pooling.max_pool(x, 2, 2)
