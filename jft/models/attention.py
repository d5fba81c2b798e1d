"""What a transformer has beside dense layers: self-attention, learned tokens, and positions for a grid of any size."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jft.models import layers

_dense_init = jax.jit(nn.initializers.xavier_uniform(), static_argnums=(1, 2))


class Dense(layers.Dense):
    """A fully connected layer of a transformer, initialized as in the paper's code."""

    kernel_init: nn.initializers.Initializer = _dense_init


class SelfAttention(nn.Module):
    """Self-attention (Vaswani et al., 2017, https://arxiv.org/abs/1706.03762): `qkv`, `product`, `proj`.

    Attributes:
      heads: among which the channels are divided.
      dtype: of the computation.
    """

    heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, tokens, channels] -> the same shape."""
        width = x.shape[-1]
        qkv = Dense(3 * width, dtype=self.dtype, name="qkv")(x)
        return Dense(width, dtype=self.dtype, name="proj")(Product(self.heads, name="product")(qkv))


class Product(nn.Module):
    """softmax(q k^T / sqrt(d)) v of each head, with d channels a head; its softmax is computed in float32.

    Attributes:
      heads: see `SelfAttention`.
    """

    heads: int

    def __call__(self, qkv: jax.Array) -> jax.Array:
        """[batch, tokens, 3 * channels], queries, then keys, then values, each head by head -> [..., channels]."""
        batch, tokens, packed = qkv.shape
        q, k, v = jnp.moveaxis(qkv.reshape(batch, tokens, 3, self.heads, packed // (3 * self.heads)), 2, 0)
        scores = jnp.einsum("bqhd,bkhd->bhqk", q * q.shape[-1] ** -0.5, k)
        weights = nn.softmax(scores.astype(jnp.promote_types(scores.dtype, jnp.float32))).astype(qkv.dtype)
        return jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(batch, tokens, -1)


class Tokens(nn.Module):
    """Makes a map a sequence of tokens: adds position embeddings, and puts learned tokens before it.

    Attributes:
      grid: side of the grid of `position`, which is resampled to that of the map.
      class_position: whether `position` has a first row, for the class token `cls`.
      registers: number of learned tokens after the class token, without positions.
    """

    grid: int
    class_position: bool = True
    registers: int = 0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, h, w, channels] -> [batch, 1 + registers + h * w, channels], the map row by row."""
        batch, height, width, channels = x.shape
        learned = nn.initializers.normal(0.02)
        first = self.param("cls", learned, (channels,), jnp.float32)[None]
        rows = self.grid**2 + self.class_position
        position = self.param("position", learned, (rows, channels), jnp.float32)
        position = resample(position, self.grid, (height, width))
        if self.class_position:
            first, position = first + position[:1], position[1:]
        if self.registers:
            registers = self.param("registers", learned, (self.registers, channels), jnp.float32)
            first = jnp.concatenate([first, registers])
        patches = x.reshape(batch, height * width, channels) + position.astype(x.dtype)
        first = jnp.broadcast_to(first.astype(x.dtype), (batch, *first.shape))
        return jnp.concatenate([first, patches], axis=1)


def resample(position: jax.Array, grid: int, to: tuple[int, int]) -> jax.Array:
    """Position embeddings of a square grid, resampled to the grid of other images.

    Bicubic, and averaging where the grid shrinks, as `timm.layers.resample_abs_pos_embed`.

    Args:
      position: [rows + grid * grid, channels]; rows before the grid, such as that of the class token, stay.
      grid: side of the grid.
      to: rows and columns of the new grid.

    Returns:
      [rows + to[0] * to[1], channels].
    """
    if to == (grid, grid):
        return position
    before, rest = position[: -grid * grid], position[-grid * grid :]
    rows, columns = (bicubic(grid, side) for side in to)
    square = rest.reshape(grid, grid, -1)
    resized = jnp.einsum("hg,gkc,wk->hwc", rows, square, columns, precision="highest")
    return jnp.concatenate([before, resized.reshape(-1, rest.shape[-1])])


@functools.cache
def bicubic(size: int, to: int) -> np.ndarray:
    """[to, size] matrix that resizes a line: Keys' kernel with a = -0.5, which is widened where the line shrinks."""
    stretch = max(size / to, 1.0)
    center = (np.arange(to)[:, None] + 0.5) * size / to - 0.5
    x = np.abs(np.arange(size) - center) / stretch
    weights = np.where(x < 1, (1.5 * x - 2.5) * x * x + 1, np.where(x < 2, ((2.5 - 0.5 * x) * x - 4) * x + 2, 0))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)  # what lies outside has no part
