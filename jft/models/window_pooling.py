"""Pooling over windows, with the sizes and averages of the original frameworks."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jft.models import kernels


def avg_pool(x: jax.Array, window: int, stride: int, *, padding: int = 0, count_include_pad: bool = True) -> jax.Array:
    """Average pooling; sizes are rounded down.

    Args:
      x: [batch, height, width, channels].
      window: side of the square window, in pixels.
      stride: step of the window, in pixels.
      padding: zeros on each side.
      count_include_pad: divide by the whole window at the edges too, as torch and Caffe do, or by what lies inside
        the image, as Keras does.

    Returns:
      [batch, out_height, out_width, channels], of the dtype of `x`; computed in float32 at least.
    """
    total, counts = jnp.asarray(x, jnp.promote_types(x.dtype, jnp.float32)), []
    # Rows, then columns: two short sums are faster than one of window x window.
    for axis in (1, 2):
        total = window_sum(total, axis, window, stride, (padding, padding))
        begin = np.arange(total.shape[axis]) * stride - padding
        inside = np.minimum(begin + window, x.shape[axis]) - np.maximum(begin, 0)
        counts.append(np.full_like(inside, window) if count_include_pad else inside)
    return (total / np.outer(*counts)[:, :, None].astype(np.float32)).astype(x.dtype)


def window_sum(x: jax.Array, axis: int, window: int, stride: int, pads: tuple[int, int]) -> jax.Array:
    """Sums over windows along one axis of four."""

    def along(value: int | tuple, other: int | tuple) -> tuple:
        return tuple(value if i == axis else other for i in range(4))

    return lax.reduce_window(x, 0.0, lax.add, along(window, 1), along(stride, 1), along(pads, (0, 0)))


def max_pool(x: jax.Array, window: int, stride: int, *, padding: int = 0, ceil: bool = False) -> jax.Array:
    """Max pooling with torch's arithmetic of sizes.

    Args:
      x: [batch, height, width, channels].
      window: side of the square window, in pixels.
      stride: step of the window, in pixels.
      padding: pixels of -inf on each side.
      ceil: round the output size up (Caffe, `ceil_mode=True`) instead of down.

    Returns:
      [batch, out_height, out_width, channels].
    """
    pads = tuple((padding, pad_end(n, window, stride, padding, ceil)) for n in x.shape[1:3])
    if stride == 1:
        # Windows overlap so much that columns, then rows, take half of the time.
        columns = kernels.max_pool(x, (1, window), 1, ((0, 0), pads[1]))
        return kernels.max_pool(columns, (window, 1), 1, (pads[0], (0, 0)))
    return kernels.max_pool(x, (window, window), stride, pads)


def pad_end(size: int, window: int, stride: int, padding: int, ceil: bool) -> int:
    """Padding after the last pixel so that the windows cover the input exactly; negative to crop."""
    steps = (size + 2 * padding - window) / stride
    out = int(np.ceil(steps) if ceil else np.floor(steps)) + 1
    if ceil and (out - 1) * stride >= size + padding:
        out -= 1  # torch: the last window must begin inside the image
    return max((out - 1) * stride + window - size - padding, -size) if out > 0 else 0


def adaptive_avg_pool(x: jax.Array, grid: int) -> jax.Array:
    """Averages [batch, height, width, channels] to [batch, grid, grid, channels] as `torch.nn.AdaptiveAvgPool2d`."""
    if x.shape[1:3] == (grid, grid):
        return x
    rows, columns = (_adaptive_weights(n, grid) for n in x.shape[1:3])
    return jnp.einsum("gh,bhwc,kw->bgkc", rows, x, columns).astype(x.dtype)


def _adaptive_weights(size: int, grid: int) -> np.ndarray:
    """[grid, size] matrix of averages over the windows floor(i * size / grid) to ceil((i + 1) * size / grid)."""
    weights = np.zeros((grid, size), np.float32)
    for i in range(grid):
        first, last = i * size // grid, -(-(i + 1) * size // grid)
        weights[i, first:last] = 1 / (last - first)
    return weights
