"""Layers shared by the models: convolutions, dense layers, norms, heads, and the papers' initializers."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype
from flax.linen.linear import canonicalize_padding
from jax import lax

from jft.models import kernels, window_pooling
from jft.models.pooling import pooled


def _traced_once(init: nn.initializers.Initializer) -> nn.initializers.Initializer:
    """The initializer, which Flax asks for shapes whenever a model is traced: kernels of one shape share a trace."""
    return jax.jit(init, static_argnums=(1, 2))


# Kaiming normal over the fan-out, as torchvision initializes convolutions trained from scratch.
conv_init = _traced_once(nn.initializers.variance_scaling(2.0, "fan_out", "normal"))
# The same for a depthwise kernel [h, w, 1, channels], each of whose outputs has h * w values.
depthwise_init = _traced_once(nn.initializers.variance_scaling(2.0, "fan_in", "normal"))
head_init = _traced_once(nn.initializers.normal(0.01))


class Dense(nn.Dense):
    """`flax.linen.Dense`, whose product is `kernels.dense`."""

    kernel_init: nn.initializers.Initializer = head_init

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """[batch, inputs] -> [batch, features]."""
        kernel = self.param("kernel", self.kernel_init, (inputs.shape[-1], self.features), self.param_dtype)
        bias = self.param("bias", self.bias_init, (self.features,), self.param_dtype)
        x, kernel, bias = promote_dtype(inputs, kernel, bias, dtype=self.dtype)
        return kernels.dense(x, kernel) + bias


class Conv(nn.Conv):
    """`flax.linen.Conv` of images, whose 1x1, depthwise and grouped convolutions are those of `kernels`."""

    kernel_init: nn.initializers.Initializer = conv_init

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """[batch, h, w, c] -> [batch, h', w', features]."""
        height, width = (self.kernel_size,) * 2 if isinstance(self.kernel_size, int) else self.kernel_size
        down, across = (self.strides,) * 2 if isinstance(self.strides, int) else self.strides or (1, 1)
        padding = canonicalize_padding(self.padding, 2)
        shape = (height, width, inputs.shape[-1] // self.feature_group_count, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        bias = self.param("bias", self.bias_init, (self.features,), self.param_dtype) if self.use_bias else None
        x, kernel, bias = promote_dtype(inputs, kernel, bias, dtype=self.dtype)
        strides = (down, across)
        if isinstance(padding, str):
            padding = lax.padtype_to_pads(x.shape[1:3], (height, width), strides, padding)
        (top, bottom), (left, right) = padding
        groups, pads = self.feature_group_count, ((top, bottom), (left, right))
        if (height, width, groups) == (1, 1, 1) and not np.any(pads):
            y: Any = kernels.conv_1x1(x[:, ::down, ::across], kernel[0, 0])
        elif 1 < groups == x.shape[-1] == self.features:
            y = kernels.depthwise(x, kernel, strides, pads)
        elif groups > 1:
            y = kernels.grouped(x, kernel, strides, pads, groups)
        else:
            y = lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return y if bias is None else kernels.add_bias(y, bias)


class BatchNorm(nn.BatchNorm):
    """`flax.linen.BatchNorm` told, as every stage is, whether it trains. Momentum 0.9 here is torch's 0.1."""

    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Normalizes the last axis by batch statistics (train) or running averages; keeps the shape."""
        if not train:
            return super().__call__(x, use_running_average=True)
        channels = (x.shape[-1],)
        scale = self.param("scale", self.scale_init, channels, self.param_dtype)
        bias = self.param("bias", self.bias_init, channels, self.param_dtype)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        variance = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        x = x.astype(self.dtype or x.dtype)
        normalized: Any = kernels.batch_norm(x, scale, bias, self.epsilon, self.axis_name)
        y, *of_batch = normalized
        if not self.is_initializing():
            for running, value in zip((mean, variance), of_batch, strict=True):
                running.value = self.momentum * running.value + (1 - self.momentum) * value
        return y


class LayerNorm(nn.LayerNorm):
    """`flax.linen.LayerNorm` over the last axis with the epsilon of ConvNeXt and ViT, and torch's variance.

    Flax's fast variance, E[x^2] - E[x]^2, loses digits where the mean is large.
    """

    epsilon: float = 1e-6
    use_fast_variance: bool = False


class DropPath(nn.Module):
    """Stochastic depth (Huang et al., 2016, https://arxiv.org/abs/1603.09382): drops a residual branch, image by image.

    As `torchvision.ops.StochasticDepth` in mode "row" and timm's `DropPath`: what stays is divided by its share.

    Attributes:
      rate: dropped share of the images in training, 0 to 1.
    """

    rate: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[batch, ...] -> the same shape; needs the rng 'dropout' where it drops."""
        others = tuple(range(1, x.ndim))
        return nn.Dropout(self.rate, broadcast_dims=others, deterministic=not train)(x)


class SqueezeExcite(nn.Module):
    """Scales channels by what their averages say (Hu et al., 2018, https://arxiv.org/abs/1709.01507).

    Attributes:
      squeezed: channels between the two 1x1 convolutions, `reduce` and `expand`, which have biases.
      activation: after the first.
      gate: after the second; gives 0 to 1.
      dtype: of the computation.
    """

    squeezed: int
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    gate: Callable[[jax.Array], jax.Array] = nn.sigmoid
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, h, w, c] -> the same shape."""
        y = jnp.mean(x, axis=(1, 2), keepdims=True)
        y = self.activation(Conv(self.squeezed, (1, 1), dtype=self.dtype, name="reduce")(y))
        return x * self.gate(Conv(x.shape[-1], (1, 1), dtype=self.dtype, name="expand")(y))


class Hidden(nn.Module):
    """A fully connected layer with ReLU and dropout; flattens a feature map first.

    Attributes:
      features: units.
      dropout: dropped share of the outputs in training.
      dtype: of the computation.
      grid: side to which a map is averaged first, or None.
      image_size: in pixels: the map must be what images of that size give, `grid` x `grid`, and nothing is averaged.
      drop_input: dropout of the inputs instead of the outputs.
      kernel_init: initializer of the weights.
    """

    features: int
    dropout: float
    dtype: jnp.dtype
    grid: int | None = None
    image_size: int | None = None
    drop_input: bool = False
    kernel_init: nn.initializers.Initializer = head_init

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[batch, h, w, c] or [batch, c] -> [batch, features]."""
        drop = nn.Dropout(self.dropout, deterministic=not train)
        if self.grid is not None:
            if self.image_size is not None and x.shape[1:3] != (self.grid, self.grid):
                raise ValueError(
                    f"{self.name} reads a {self.grid}x{self.grid} map, which {self.image_size}-pixel images give, but "
                    f"got {x.shape[1]}x{x.shape[2]}: resize the images, or take weights whose model pools other maps."
                )
            x = window_pooling.adaptive_avg_pool(x, self.grid)
        # Flattened height, width, channel; weights of other orders are permuted at conversion.
        x = x.reshape(x.shape[0], -1)
        x = drop(x) if self.drop_input else x
        x = nn.relu(Dense(self.features, kernel_init=self.kernel_init, dtype=self.dtype, name="dense")(x))
        return x if self.drop_input else drop(x)


class Head(nn.Module):
    """The classifying layer, after the average over a map where it reads one, hidden layers, and dropout.

    Attributes:
      num_classes: number of logits.
      dtype: of the computation.
      dropout: dropped share of each layer's inputs, averaged, in training.
      hidden: units of the layers before it, `hidden1`, ..., each with ReLU.
      pool, prefix: see `pooled`.
    """

    averages = True  # of a map it needs the average alone, see `Chain.averages_after`

    num_classes: int
    dtype: jnp.dtype
    dropout: float = 0.0
    hidden: tuple[int, ...] = ()
    pool: str = "average"
    prefix: int = 0

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[batch, h, w, c], [batch, tokens, c], or pooled, [batch, inputs] -> logits [batch, num_classes]."""
        x = pooled(x, self.pool, self.prefix)
        drop = nn.Dropout(self.dropout, deterministic=not train)
        for number, units in enumerate(self.hidden, 1):
            x = Dense(units, kernel_init=nn.initializers.he_normal(), dtype=self.dtype, name=f"hidden{number}")(drop(x))
            x = nn.relu(x)
        x = drop(x)
        return Dense(self.num_classes, dtype=self.dtype, name="head")(x)


class Joined(nn.Module):
    """Vectors of several stages side by side, each scaled to length 1 (Head2Toe: Evci et al., 2022)."""

    @nn.compact
    def __call__(self, vectors: Sequence[jax.Array], *, train: bool) -> jax.Array:
        """[batch, channels] of each stage -> float32 [batch, their sum]; zeros stay zeros."""
        del train
        wide = [jnp.asarray(x, jnp.float32) for x in vectors]
        tiny = jnp.finfo(jnp.float32).tiny
        squares = [jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), tiny) for x in wide]
        return jnp.concatenate([x * jax.lax.rsqrt(s) for x, s in zip(wide, squares, strict=True)], axis=-1)


def local_response_norm(x: jax.Array, *, size: int, alpha: float, beta: float, k: float = 1.0) -> jax.Array:
    """Divides by the neighboring channels' energy: x / (k + alpha / size * sum of their squares) ** beta.

    As Caffe's LRN across channels (https://caffe.berkeleyvision.org/tutorial/layers/lrn.html) and torch's
    `LocalResponseNorm`; section 3.3 of the AlexNet paper has k = 2 and does not divide alpha by `size`.

    Args:
      x: [batch, height, width, channels].
      size: channels in the neighborhood, centered and cut at the ends.
      alpha: weight of the mean square.
      beta: exponent.
      k: what is added before the power.

    Returns:
      Shape and dtype of `x`; computed in float32 at least.
    """
    wide = jnp.asarray(x, jnp.promote_types(x.dtype, jnp.float32))
    energy = window_pooling.window_sum(wide**2, 3, size, 1, (size // 2, (size - 1) // 2))
    # XLA:CPU computes exp and log on vectors and pow one number at a time: a third of the time, with the gradient.
    return (wide * jnp.exp(-beta * jnp.log(k + alpha / size * energy))).astype(x.dtype)
