"""DenseNet (Huang et al., 2016, https://arxiv.org/abs/1608.06993): DenseNet-BC with bottlenecks and compression.

Layers carry torchvision's names. Reference: torchvision/models/densenet.py, keras/applications/densenet.py.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from jft.models import layers, window_pooling
from jft.models.chain import Chain, Stages

# Kaiming normal over the fan-in; jitted, as those of `layers` are: kernels of one shape share a trace.
_CONV_INIT = jax.jit(nn.initializers.variance_scaling(2.0, "fan_in", "normal"), static_argnums=(1, 2))
# Table 1 of the paper: layers in the dense blocks, growth rate k.
_VARIANTS = {
    "densenet121": ((6, 12, 24, 16), 32),
    "densenet161": ((6, 12, 36, 24), 48),
    "densenet169": ((6, 12, 32, 32), 32),
    "densenet201": ((6, 12, 48, 32), 32),
}


class DenseNet(Chain):
    """A stem, dense blocks with transitions between them, a last BatchNorm with ReLU, and the head.

    Attributes:
      blocks: layers in each dense block.
      growth: channels that a layer adds (k of the paper); the stem has twice as many.
      bn_momentum: share of the old running average that one training step keeps.
    """

    blocks: tuple[int, ...] = _VARIANTS["densenet121"][0]
    growth: int = 32
    bn_momentum: float = 0.9

    def published(self) -> Stages:
        """stem, denseblock1, transition1 .. denseblock4, norm5, head."""
        conv = functools.partial(layers.Conv, use_bias=False, kernel_init=_CONV_INIT, dtype=self.dtype)
        norm = functools.partial(
            layers.BatchNorm, momentum=self.bn_momentum, dtype=self.dtype, axis_name=self.axis_name
        )
        stages: Stages = {"stem": functools.partial(Stem, 2 * self.growth, conv, norm)}
        for i, number in enumerate(self.blocks, 1):
            stages[f"denseblock{i}"] = functools.partial(DenseBlock, number, self.growth, conv, norm)
            stages[f"transition{i}"] = functools.partial(Transition, conv, norm)
        del stages[f"transition{len(self.blocks)}"]
        return {
            **stages,
            "norm5": functools.partial(LastNorm, norm),
            "head": functools.partial(layers.Head, self.num_classes, self.dtype),
        }


class Stem(nn.Module):
    """conv0 7x7/2, BatchNorm, ReLU, max pool 3x3/2."""

    features: int
    conv: functools.partial
    norm: functools.partial

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[batch, h, w, 3] -> [batch, h / 4, w / 4, features]."""
        x = self.conv(self.features, (7, 7), (2, 2), padding=3, name="conv0")(x)
        x = nn.relu(self.norm(name="norm0")(x, train=train))
        return window_pooling.max_pool(x, 3, 2, padding=1)


class DenseBlock(nn.Module):
    """Layers that each read what all layers before them, and the block's input, have given."""

    layers: int
    growth: int
    conv: functools.partial
    norm: functools.partial

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[batch, h, w, c] -> [batch, h, w, c + layers * growth]."""
        for i in range(1, self.layers + 1):
            y = DenseLayer(self.growth, self.conv, self.norm, name=f"denselayer{i}")(x, train=train)
            x = jnp.concatenate([x, y], axis=-1)
        return x


class DenseLayer(nn.Module):
    """BatchNorm, ReLU, 1x1 convolution to 4 x `growth` channels (the bottleneck); the same, 3x3, to `growth`."""

    growth: int
    conv: functools.partial
    norm: functools.partial

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[batch, h, w, c] -> [batch, h, w, growth]."""
        x = nn.relu(self.norm(name="norm1")(x, train=train))
        x = self.conv(4 * self.growth, (1, 1), padding=0, name="conv1")(x)
        x = nn.relu(self.norm(name="norm2")(x, train=train))
        return self.conv(self.growth, (3, 3), padding=1, name="conv2")(x)


class Transition(nn.Module):
    """BatchNorm, ReLU, 1x1 convolution to half of the channels, average pool 2x2/2."""

    conv: functools.partial
    norm: functools.partial

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[batch, h, w, c] -> [batch, h / 2, w / 2, c / 2]."""
        channels = x.shape[-1]
        x = nn.relu(self.norm(name="norm")(x, train=train))
        x = self.conv(channels // 2, (1, 1), padding=0, name="conv")(x)
        return window_pooling.avg_pool(x, 2, 2)


class LastNorm(nn.Module):
    """BatchNorm and the ReLU that torchvision applies outside of its features."""

    norm: functools.partial

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[batch, h, w, c] -> the same shape."""
        return nn.relu(self.norm(name="norm5")(x, train=train))


DENSENETS = {
    name: functools.partial(DenseNet, blocks=blocks, growth=growth) for name, (blocks, growth) in _VARIANTS.items()
}
