"""BatchNorm in training."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from jft.models.kernels.sums import itself, sums


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def batch_norm(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, axis_name: str | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalizes by the batch (Ioffe and Szegedy, 2015, algorithm 1): y = scale * (x - mean) / sqrt(var + eps) + bias.

    The gradient, with z = (x - mean) / sqrt(var + epsilon) and averages over all n values of a channel, is
    dx = scale / sqrt(var + epsilon) * (dy - mean(dy) - z * mean(dy * z)), dscale = sum(dy * z), dbias = sum(dy).

    Args:
      x: [..., channels].
      scale: float32 [channels].
      bias: float32 [channels].
      epsilon: added to the variance.
      axis_name: the `jax.pmap` axis whose devices hold parts of the batch, or None.

    Returns:
      y, of the shape and dtype of `x`; the batch's mean and its biased variance, float32 [channels], which have no
      gradient.
    """
    return _batch_norm_forward(x, scale, bias, epsilon, axis_name)[0]


@functools.partial(jax.jit, static_argnums=(3, 4))
def _batch_norm_forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, axis_name: str | None
) -> tuple[tuple, tuple]:
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    totals = jnp.stack([sums(itself, wide), sums(jnp.square, wide)])
    mean, square = _average(totals, x, axis_name)
    variance = jnp.maximum(square - mean * mean, 0)
    inverse = lax.rsqrt(variance + epsilon)
    y = (wide - mean) * (inverse * scale) + bias
    return (y.astype(x.dtype), mean, variance), (x, scale, mean, inverse)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _batch_norm_backward(
    epsilon: float, axis_name: str | None, saved: tuple, cotangents: tuple
) -> tuple[jax.Array, jax.Array, jax.Array]:
    del epsilon
    x, scale, mean, inverse = saved
    dy = cotangents[0].astype(mean.dtype)
    wide = x.astype(mean.dtype)
    dbias, dscale = sums(itself, dy), inverse * sums(lambda dy, x: dy * (x - mean), dy, wide)
    of_dy, of_product = _average(jnp.stack([dbias, dscale]), x, axis_name)
    normal = (wide - mean) * inverse
    dx = (dy - of_dy - normal * of_product) * (inverse * scale)
    return dx.astype(x.dtype), dscale.astype(scale.dtype), dbias.astype(scale.dtype)


batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)


def _average(totals: jax.Array, x: jax.Array, axis_name: str | None) -> jax.Array:
    """Averages from sums over all axes of `x` but the last, and over the devices of a `jax.pmap` axis."""
    averages = totals / (x.size // x.shape[-1])
    return averages if axis_name is None else lax.pmean(averages, axis_name)
