"""Layers of the zoo in several forms, forward and backward, to choose among by measurement."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jft.models import kernels, window_pooling

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
    ends = [(padding, window_pooling.pad_end(n, window, stride, padding, ceil=False)) for n in x.shape[1:3]]
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


def flax_norm(x: jax.Array, scale: jax.Array) -> jax.Array:
    """flax's BatchNorm in training."""
    module = nn.BatchNorm(use_running_average=False, dtype=x.dtype)
    variables = {"params": {"scale": scale, "bias": scale}, "batch_stats": {"mean": scale, "var": scale}}
    return module.apply(variables, x, mutable=["batch_stats"])[0]


def jft_norm(x: jax.Array, scale: jax.Array) -> jax.Array:
    """jft's BatchNorm in training."""
    return kernels.batch_norm(x, scale, scale, 1e-5, None)[0]


def _pools(window: int, stride: int, padding: int) -> dict[str, Callable]:
    return {
        "xla": lambda x, _: xla_pool(x, window, stride, padding),
        "jft": lambda x, _: window_pooling.max_pool(x, window, stride, padding=padding),
        "split": lambda x, _: split_pool(x, window, stride, padding),
    }


FORMS: dict[str, dict[str, Callable]] = {
    "max_pool_3x3_2": _pools(3, 2, 1),
    "max_pool_2x2_2": _pools(2, 2, 0),
    "max_pool_3x3_1": _pools(3, 1, 1),
    "conv_1x1": {"xla": conv_1x1, "jft": lambda x, kernel: kernels.conv_1x1(x, kernel.astype(x.dtype))},
    "batch_norm": {
        "xla": flax_norm,
        "jft": jft_norm,
    },
}


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
