"""Biases."""

import jax
import jax.numpy as jnp

from jft.models.kernels.sums import itself, sums


@jax.custom_vjp
def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    """x + bias, whose gradient for the bias is a sum as BatchNorm's.

    Args:
      x: [batch, ..., channels].
      bias: [channels], of the dtype of `x`.
    """
    return x + bias


def _add_bias_forward(x: jax.Array, bias: jax.Array) -> tuple[jax.Array, None]:
    return add_bias(x, bias), None


def _add_bias_backward(saved: None, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    del saved
    wide = dy.astype(jnp.promote_types(dy.dtype, jnp.float32))
    return dy, sums(itself, wide).astype(dy.dtype)


add_bias.defvjp(_add_bias_forward, _add_bias_backward)
