"""Layers of the zoo in several forms, forward and backward, to choose among by measurement."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jft.models import layers

# Name: (shape of the input beside the batch, the forms). A form is `(x, parameters) -> y`.
SHAPES = {
    "max_pool_3x3_2": (112, 112, 64),
    "max_pool_2x2_2": (224, 224, 64),
    "max_pool_3x3_1": (28, 28, 256),
    "conv_1x1": (56, 56, 256),
    "batch_norm": (56, 56, 256),
}


def xla_pool(x: jax.Array, window: int, stride: int, padding: int) -> jax.Array:
    """XLA's own max pool, with its own gradient."""
    pads = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, window, window, 1), (1, stride, stride, 1), pads)


def split_pool(x: jax.Array, window: int, stride: int, padding: int) -> jax.Array:
    """jft's, columns first and then rows."""
    ends = [(padding, layers._pad_end(n, window, stride, padding, ceil=False)) for n in x.shape[1:3]]
    for axis in (1, 0):
        x = axis_pool(x, axis + 1, window, stride, ends[axis])
    return x


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def axis_pool(x: jax.Array, axis: int, window: int, stride: int, pads: tuple[int, int]) -> jax.Array:
    """Max pool along one axis."""
    return _axis_forward(x, axis, window, stride, pads)[0]


def _axis_forward(x: jax.Array, axis: int, window: int, stride: int, pads: tuple[int, int]) -> tuple:
    padded = lax.pad(x, jnp.array(-jnp.inf, x.dtype), [(*pads, 0) if i == axis else (0, 0, 0) for i in range(4)])
    size = (padded.shape[axis] - window) // stride + 1
    candidates = [lax.slice_in_dim(padded, k, k + (size - 1) * stride + 1, stride, axis) for k in range(window)]
    best, winner = candidates[0], jnp.zeros(candidates[0].shape, jnp.uint8)
    for k, candidate in enumerate(candidates[1:], 1):
        better = (candidate > best) | jnp.isnan(candidate)
        best, winner = jnp.where(better, candidate, best), jnp.where(better, jnp.uint8(k), winner)
    return best, (winner, x.shape[axis])


def _axis_backward(axis: int, window: int, stride: int, pads: tuple[int, int], saved: tuple, dy: jax.Array) -> tuple:
    winner, size = saved
    zero, dx = jnp.zeros((), dy.dtype), 0
    for k in range(window):
        first = k - pads[0]
        edge = (first, size - (first + (winner.shape[axis] - 1) * stride + 1), stride - 1)
        edges = [edge if i == axis else (0, 0, 0) for i in range(4)]
        dx += lax.pad(jnp.where(winner == k, dy, zero), zero, edges)
    return (dx,)


axis_pool.defvjp(_axis_forward, _axis_backward)


def conv_1x1(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """A convolution, as flax has it."""
    return lax.conv_general_dilated(
        x, kernel[None, None].astype(x.dtype), (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def dot_1x1(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The same as a matrix product over [batch * height * width, channels]."""
    return (x.reshape(-1, x.shape[-1]) @ kernel.astype(x.dtype)).reshape(*x.shape[:-1], -1)


def flax_norm(x: jax.Array, scale: jax.Array) -> jax.Array:
    """flax's BatchNorm in training."""
    module = nn.BatchNorm(use_running_average=False, dtype=x.dtype)
    variables = {"params": {"scale": scale, "bias": scale}, "batch_stats": {"mean": scale, "var": scale}}
    return module.apply(variables, x, mutable=["batch_stats"])[0]


def _sums(x: jax.Array) -> jax.Array:
    """Over all axes but the last, in float32."""
    return jnp.sum(x, (0, 1, 2), dtype=jnp.float32)


def _product_sums(x: jax.Array) -> jax.Array:
    flat = x.reshape(-1, x.shape[-1])
    return jnp.dot(jnp.ones(flat.shape[0], x.dtype), flat, preferred_element_type=jnp.float32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def own_norm(x: jax.Array, scale: jax.Array, sums: Callable) -> jax.Array:
    """BatchNorm in training with its gradient in closed form, and sums as they are given."""
    return _norm_forward(x, scale, sums)[0]


def _norm_forward(x: jax.Array, scale: jax.Array, sums: Callable) -> tuple:
    count = x.size // x.shape[-1]
    mean = sums(x) / count
    variance = sums(jnp.square(x.astype(jnp.float32)).astype(x.dtype)) / count - mean**2
    inverse = lax.rsqrt(variance + 1e-5)
    y = (x.astype(jnp.float32) - mean) * (inverse * scale) + scale
    return y.astype(x.dtype), (x, scale, mean, inverse)


def _norm_backward(sums: Callable, saved: tuple, dy: jax.Array) -> tuple:
    x, scale, mean, inverse = saved
    count = x.size // x.shape[-1]
    normal = (x.astype(jnp.float32) - mean) * inverse
    dbias, dscale = sums(dy), sums((dy * normal).astype(x.dtype))
    dx = (dy - dbias / count - normal * (dscale / count)) * (inverse * scale)
    return dx.astype(x.dtype), dscale + dbias


own_norm.defvjp(_norm_forward, _norm_backward)


def _pools(window: int, stride: int, padding: int) -> dict[str, Callable]:
    return {
        "xla": lambda x, _: xla_pool(x, window, stride, padding),
        "jft": lambda x, _: layers.max_pool(x, window, stride, padding=padding),
        "split": lambda x, _: split_pool(x, window, stride, padding),
    }


FORMS: dict[str, dict[str, Callable]] = {
    "max_pool_3x3_2": _pools(3, 2, 1),
    "max_pool_2x2_2": _pools(2, 2, 0),
    "max_pool_3x3_1": _pools(3, 1, 1),
    "conv_1x1": {"xla": conv_1x1, "dot": dot_1x1},
    "batch_norm": {
        "xla": flax_norm,
        "closed": lambda x, s: own_norm(x, s, _sums),
        "product": lambda x, s: own_norm(x, s, _product_sums),
    },
}


class ClosedNorm(layers.BatchNorm):
    """The zoo's BatchNorm, in training with the gradient in closed form and float32 sums in one pass; one device."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """As `layers.BatchNorm`."""
        if not train:
            return super().__call__(x, train=False)
        channels = x.shape[-1]
        scale = self.param("scale", self.scale_init, (channels,), self.param_dtype)
        bias = self.param("bias", self.bias_init, (channels,), self.param_dtype)
        running = self.variable("batch_stats", "mean", jnp.zeros, (channels,))
        spread = self.variable("batch_stats", "var", jnp.ones, (channels,))
        y, mean, variance = closed_norm(x, scale, bias, self.epsilon)
        if not self.is_initializing():
            running.value = self.momentum * running.value + (1 - self.momentum) * mean
            spread.value = self.momentum * spread.value + (1 - self.momentum) * variance
        return y


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def closed_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> tuple[jax.Array, ...]:
    """BatchNorm by the batch: y, mean, variance; the latter two carry no gradient."""
    return _closed_forward(x, scale, bias, epsilon)[0]


def _closed_forward(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> tuple:
    wide, count = x.astype(jnp.float32), x.size // x.shape[-1]
    mean = _sums(wide) / count
    variance = jnp.maximum(_sums(wide * wide) / count - mean**2, 0)
    inverse = lax.rsqrt(variance + epsilon)
    y = (wide - mean) * (inverse * scale) + bias
    return (y.astype(x.dtype), mean, variance), (x, scale, mean, inverse)


def _closed_backward(epsilon: float, saved: tuple, cotangents: tuple) -> tuple:
    del epsilon
    x, scale, mean, inverse = saved
    dy, count = cotangents[0].astype(jnp.float32), x.size // x.shape[-1]
    normal = (x.astype(jnp.float32) - mean) * inverse
    dbias, dscale = _sums(dy), _sums(dy * normal)
    dx = (dy - dbias / count - normal * (dscale / count)) * (inverse * scale)
    return dx.astype(x.dtype), dscale, dbias


closed_norm.defvjp(_closed_forward, _closed_backward)


class DotConv(nn.Conv):
    """A convolution; of a 1x1 kernel as one matrix product, after the stride."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """As `nn.Conv`."""
        if tuple(self.kernel_size) != (1, 1) or self.use_bias:
            return super().__call__(x)
        kernel = self.param("kernel", self.kernel_init, (1, 1, x.shape[-1], self.features), self.param_dtype)
        step = self.strides if isinstance(self.strides, int) else (self.strides or (1,))[0]
        return dot_1x1((x[:, ::step, ::step] if step > 1 else x).astype(self.dtype), kernel[0, 0])


def use(forms: str) -> None:
    """Puts forms of layers, joined by commas, in the place of the zoo's: 'closed' BatchNorm, 'dot' convolutions."""
    chosen = set(filter(None, forms.split(",")))
    assert chosen <= {"closed", "dot"}, forms
    layers.BatchNorm = ClosedNorm if "closed" in chosen else _BATCH_NORM
    layers.Conv = functools.partial(DotConv, kernel_init=layers.conv_init) if "dot" in chosen else _CONV


_BATCH_NORM, _CONV = layers.BatchNorm, layers.Conv


def make(name: str, form: str, batch: int, dtype: str) -> tuple[Callable, tuple[Any, ...]]:
    """`(x, parameters, cotangent) -> (dx, dparameters)`, forward and backward, and arguments for it."""
    function = FORMS[name][form]
    keys = [jax.random.key(i) for i in range(3)]
    x = jax.random.normal(keys[0], (batch, *SHAPES[name]), dtype)
    channels = x.shape[-1]
    parameters = jax.random.normal(keys[1], (channels, 64) if name == "conv_1x1" else (channels,))
    y = jax.eval_shape(function, x, parameters)
    cotangent = jax.random.normal(keys[2], y.shape, y.dtype)

    def both(x: jax.Array, parameters: jax.Array, cotangent: jax.Array) -> tuple:
        y, back = jax.vjp(function, x, parameters)
        return y, back(cotangent)

    return both, (x, parameters, cotangent)
