"""A plain convolutional network to train from scratch, as a baseline for pretrained weights."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from jft.models import layers, window_pooling
from jft.models.chain import Chain, Stages

GLOROT = nn.initializers.glorot_uniform()


class CNN(Chain):
    """Three 3x3 convolutions without padding, a fully connected layer and the head. Keras' initializer, as published.

    fc4 reads the flattened map, so its weights are of one image size.

    Attributes:
      width: output channels of each convolution.
      hidden: units of fc4.
      dropout: dropped share of conv2's output in training.
    """

    width: int = 64
    hidden: int = 128
    dropout: float = 0.25

    def published(self) -> Stages:
        """conv1, conv2, conv3, fc4, head."""
        conv = functools.partial(Conv, width=self.width, dtype=self.dtype)
        return {
            "conv1": functools.partial(conv, "conv1"),
            "conv2": functools.partial(conv, "conv2", pool=True, dropout=self.dropout),
            "conv3": functools.partial(conv, "conv3", pool=True),
            "fc4": functools.partial(layers.Hidden, self.hidden, 0.0, self.dtype, kernel_init=GLOROT),
            "head": functools.partial(layers.Head, self.num_classes, self.dtype),
        }


class Conv(nn.Module):
    """A 3x3 convolution with ReLU, a 2x2 max pool where asked, and dropout."""

    layer: str
    width: int
    dtype: jnp.dtype
    pool: bool = False
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[batch, h, w, c] -> [batch, h - 2, w - 2, width], halved by a pool."""
        x = nn.relu(
            layers.Conv(self.width, (3, 3), padding=0, dtype=self.dtype, kernel_init=GLOROT, name=self.layer)(x)
        )
        if self.pool:
            x = window_pooling.max_pool(x, 2, 2)
        return nn.Dropout(self.dropout, deterministic=not train)(x)
