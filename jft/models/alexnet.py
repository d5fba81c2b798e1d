"""AlexNet (Krizhevsky et al., 2012) and its single tower (Krizhevsky, 2014, https://arxiv.org/abs/1404.5997).

Layers carry the papers' names. Reference: torchvision/models/alexnet.py, BVLC/caffe
models/bvlc_alexnet/train_val.prototxt.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from jft.models import layers, window_pooling
from jft.models.chain import Chain, Stages

# Side and stride of the kernels of conv1 .. conv5, and which of them end with a 3x3/2 max pool.
KERNELS = {"conv1": (11, 4), "conv2": (5, 1), "conv3": (3, 1), "conv4": (3, 1), "conv5": (3, 1)}
POOLS = ("conv1", "conv2", "conv5")


class AlexNet(Chain):
    """conv1 .. conv5, fc6, fc7 and the head.

    Attributes:
      widths: output channels of conv1 .. conv5.
      hidden: units of fc6 and of fc7.
      original: the network of 2012 as Caffe has it: conv2, conv4 and conv5 in two groups, local response normalization
        after conv1 and conv2, no padding in conv1, dropout after fc6 and fc7, and maps of 6x6 alone at fc6. Otherwise
        torchvision's single tower: any other map is averaged to 6x6, and dropout comes before fc6 and fc7.
      dropout: dropped share at fc6 and at fc7 in training.
    """

    widths: tuple[int, ...] = (64, 192, 384, 256, 256)
    hidden: int = 4096
    original: bool = False
    dropout: float = 0.5

    def published(self) -> Stages:
        """conv1 .. conv5, fc6, fc7, head."""
        dense = functools.partial(layers.Hidden, self.hidden, self.dropout, self.dtype, drop_input=not self.original)
        return {
            **{
                name: functools.partial(Conv, name, width, self.original, self.dtype)
                for name, width in zip(KERNELS, self.widths, strict=True)
            },
            "fc6": functools.partial(dense, grid=6, image_size=self.default_size if self.original else None),
            "fc7": dense,
            "head": functools.partial(layers.Head, self.num_classes, self.dtype),
        }


class Conv(nn.Module):
    """A convolution with ReLU and, where the network has them, local response normalization and a max pool."""

    layer: str
    width: int
    original: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[batch, h, w, c] -> [batch, h', w', width]."""
        del train
        side, stride = KERNELS[self.layer]
        first = self.layer == "conv1"
        x = layers.Conv(
            self.width,
            (side, side),
            (stride, stride),
            padding=(0 if self.original else 2) if first else side // 2,
            feature_group_count=2 if self.original and self.layer in ("conv2", "conv4", "conv5") else 1,
            dtype=self.dtype,
            name=self.layer,
        )(x)
        x = nn.relu(x)
        if self.original and self.layer in ("conv1", "conv2"):
            x = layers.local_response_norm(x, size=5, alpha=1e-4, beta=0.75)
        # Caffe rounds the size of every pool up.
        return window_pooling.max_pool(x, 3, 2, ceil=self.original) if self.layer in POOLS else x
