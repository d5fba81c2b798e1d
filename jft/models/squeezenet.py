"""SqueezeNet 1.0 and 1.1 (Iandola et al., 2016, https://arxiv.org/abs/1602.07360).

Layers carry the paper's names. Reference: torchvision/models/squeezenet.py, github.com/forresti/SqueezeNet.
"""

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jft.models import layers, window_pooling
from jft.models.chain import Chain, Stages

# Outputs of the squeeze layer of fire2 .. fire9; each expand layer has four times as many.
SQUEEZE = (16, 16, 32, 32, 48, 48, 64, 64)


class SqueezeNet(Chain):
    """conv1, eight fire modules, and a head that classifies by a 1x1 convolution. No padding in conv1.

    Attributes:
      conv1: outputs and kernel side of the first convolution, whose stride is 2.
      pools: stages that end with a 3x3/2 max pool, whose size is rounded up.
      head_padding: zeros around the head's input, in pixels: Caffe's 1.0 has one, torchvision's and 1.1 have none.
      dropout: dropped share of the head's input in training.
      clipped: the published head, whose logits go through a ReLU. A sigmoid of such is never below one half, of two
        classes' softmax the first never above, and where all are 0 nothing is learnt: new heads have none.
    """

    NEW_HEAD: ClassVar[Mapping[str, Any]] = {"clipped": False}

    conv1: tuple[int, int] = (64, 3)
    pools: tuple[str, ...] = ("conv1", "fire3", "fire5")
    head_padding: int = 0
    dropout: float = 0.5
    clipped: bool = True

    def published(self) -> Stages:
        """conv1, fire2 .. fire9, head."""
        fires = {f"fire{i}": functools.partial(Fire, squeeze) for i, squeeze in enumerate(SQUEEZE, 2)}
        stages = {"conv1": functools.partial(Stem, *self.conv1), **fires}
        return {
            **{k: functools.partial(v, pool=k in self.pools, dtype=self.dtype) for k, v in stages.items()},
            "head": functools.partial(
                Head, self.num_classes, self.head_padding, self.dropout, self.clipped, self.dtype
            ),
        }


class Stem(nn.Module):
    """A convolution of stride 2 with ReLU and, where asked, a max pool."""

    features: int
    kernel: int
    pool: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[batch, h, w, 3] -> [batch, ~h / 4, ~w / 4, features]."""
        del train
        x = layers.Conv(self.features, (self.kernel,) * 2, (2, 2), padding=0, dtype=self.dtype, name="conv1")(x)
        return _maybe_pool(nn.relu(x), self.pool)


class Fire(nn.Module):
    """Squeeze to few channels with 1x1, expand with 1x1 and 3x3 side by side."""

    squeeze: int
    pool: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[batch, h, w, c] -> [batch, h, w, 8 * squeeze], halved by a pool."""
        del train
        conv = functools.partial(layers.Conv, dtype=self.dtype)
        x = nn.relu(conv(self.squeeze, (1, 1), name="squeeze1x1")(x))
        left = conv(4 * self.squeeze, (1, 1), name="expand1x1")(x)
        right = conv(4 * self.squeeze, (3, 3), padding=1, name="expand3x3")(x)
        return _maybe_pool(nn.relu(jnp.concatenate([left, right], axis=-1)), self.pool)


class Head(nn.Module):
    """Dropout, the classifying 1x1 convolution (conv10 in the paper), perhaps ReLU, global average pool."""

    num_classes: int
    padding: int
    dropout: float
    clipped: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[batch, h, w, 512] -> logits [batch, num_classes]; clipped: none below zero."""
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        options = {"padding": self.padding, "kernel_init": layers.head_init, "dtype": self.dtype}
        x = layers.Conv(self.num_classes, (1, 1), **options, name="head")(x)
        return jnp.mean(nn.relu(x) if self.clipped else x, axis=(1, 2))


def _maybe_pool(x: jax.Array, pool: bool) -> jax.Array:
    return window_pooling.max_pool(x, 3, 2, ceil=True) if pool else x
