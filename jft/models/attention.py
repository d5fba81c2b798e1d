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
      resize: how `position` is resampled, see `bicubic`.
    """

    grid: int
    class_position: bool = True
    registers: int = 0
    resize: str = "antialias"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, h, w, channels] -> [batch, 1 + registers + h * w, channels], the map row by row."""
        batch, height, width, channels = x.shape
        learned = nn.initializers.normal(0.02)
        first = self.param("cls", learned, (channels,), jnp.float32)[None]
        rows = self.grid**2 + self.class_position
        position = self.param("position", learned, (rows, channels), jnp.float32)
        position = resample(position, self.grid, (height, width), self.resize)
        if self.class_position:
            first, position = first + position[:1], position[1:]
        if self.registers:
            registers = self.param("registers", learned, (self.registers, channels), jnp.float32)
            first = jnp.concatenate([first, registers])
        patches = x.reshape(batch, height * width, channels) + position.astype(x.dtype)
        first = jnp.broadcast_to(first.astype(x.dtype), (batch, *first.shape))
        return jnp.concatenate([first, patches], axis=1)


def resample(position: jax.Array, grid: int, to: tuple[int, int], how: str = "antialias") -> jax.Array:
    """Position embeddings of a square grid, resampled to the grid of other images.

    Args:
      position: [rows + grid * grid, channels]; rows before the grid, such as that of the class token, stay.
      grid: side of the grid.
      to: rows and columns of the new grid.
      how: see `bicubic`.

    Returns:
      [rows + to[0] * to[1], channels].
    """
    if to == (grid, grid):
        return position
    before, rest = position[: -grid * grid], position[-grid * grid :]
    rows, columns = (bicubic(grid, side, how) for side in to)
    square = rest.reshape(grid, grid, -1)
    resized = jnp.einsum("hg,gkc,wk->hwc", rows, square, columns, precision="highest")
    return jnp.concatenate([before, resized.reshape(-1, rest.shape[-1])])


@functools.cache
def bicubic(size: int, to: int, how: str) -> np.ndarray:
    """[to, size] matrix that resizes a line with Keys' kernel.

    Args:
      size: length of the line.
      to: length after.
      how: 'antialias', as `timm.layers.resample_abs_pos_embed`: a = -0.5, the kernel is widened where the line shrinks,
        and what lies outside has no part; or 'offset', as DINOv2 without registers in its authors' code: a = -0.75, as
        torch has it without antialias, the ends go on outside, and the line becomes `to` + 0.1 long and is then cut.
    """
    places, outputs = np.arange(-2, size + 2), np.arange(to)[:, None] + 0.5
    if how == "offset":
        weights = _keys(np.abs(places - (outputs * size / (to + 0.1) - 0.5)), -0.75)
        weights[:, 2] += weights[:, :2].sum(axis=1)
        weights[:, -3] += weights[:, -2:].sum(axis=1)
    else:
        weights = _keys(np.abs(places - (outputs * size / to - 0.5)) / max(size / to, 1.0), -0.5)
    weights = weights[:, 2:-2]
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _keys(x: np.ndarray, a: float) -> np.ndarray:
    """Keys' cubic kernel (1981, https://doi.org/10.1109/TASSP.1981.1163711) at distances `x`."""
    return np.where(x < 1, ((a + 2) * x - (a + 3)) * x * x + 1, np.where(x < 2, a * (((x - 5) * x + 8) * x - 4), 0))
