"""Max pooling."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


# XLA differentiates a max pool into select-and-scatter, which is slow on CPU (3 to 10 times a forward pass). Here the
# forward pass notes each window's winner as an integer, and the backward pass reads it. The backward pass must not look
# for the value itself: XLA may compute `x` again there with other rounding, and then no element equals the maximum.
@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def max_pool(x: jax.Array, window: tuple[int, int], stride: int, pads: tuple) -> jax.Array:
    """Max pooling, y[p, q] = max over i, j of x[stride * p + i, stride * q + j] of x padded by -inf.

    Its gradient is dx[stride * p + i, stride * q + j] += dy[p, q] for the (i, j) of the maximum; of equal ones the
    first in reading order, as in XLA and torch. NaN wins.

    Args:
      x: [batch, height, width, channels].
      window: rows and columns.
      stride: in both directions.
      pads: (before, after) of rows and of columns, after which the windows tile exactly; negative ones crop.

    Returns:
      [batch, out_height, out_width, channels].
    """

    def windows(x: jax.Array) -> jax.Array:
        spread = ((0, 0), *pads, (0, 0))
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, *window, 1), (1, stride, stride, 1), spread)

    def pieces(x: jax.Array) -> jax.Array:
        return _in_pieces(x, window, stride, pads, lambda places: functools.reduce(jnp.maximum, places.values()))

    if stride == 1 or any(n + sum(pad) < w for n, pad, w in zip(x.shape[1:3], pads, window, strict=True)):
        return windows(x)  # of stride 1 it is the fastest; and where no window fits, an empty map
    # On CPU a window at a time takes 1.5 to 10 times as long as a place of all windows at a time.
    return lax.platform_dependent(x, cpu=pieces, default=windows)


# Numbers of places of a window in reading order, and what all windows of a part of the map have there.
_Places = dict[int, jax.Array]


def _in_pieces(
    x: jax.Array, window: tuple[int, int], stride: int, pads: tuple, reduce: Callable[[_Places], Any]
) -> Any:
    """Reduces windows without writing a padded map, which takes XLA:CPU longer than the pool itself.

    Windows that meet the border read fewer places. So the inner ones, those of each edge and those of each corner are
    reduced by themselves, and put together.

    Args:
      x: [batch, height, width, channels].
      window: see `max_pool`, as `stride` and `pads`.
      reduce: of the places inside the map, each [batch, rows, columns, channels], to an array or several of that shape.

    Returns:
      What `reduce` returns, of all windows: [batch, out_height, out_width, channels].
    """
    runs = [_runs(n, w, stride, pad) for n, w, pad in zip(x.shape[1:3], window, pads, strict=True)]

    def piece(rows: _Run, columns: _Run) -> Any:
        (top, down, height), (left, right, width) = rows, columns
        return reduce(
            {
                i * window[1] + j: lax.slice(
                    x,
                    (0, top + i, left + j, 0),
                    (x.shape[0], top + i + (height - 1) * stride + 1, left + j + (width - 1) * stride + 1, x.shape[-1]),
                    (1, stride, stride, 1),
                )
                for i in down
                for j in right
            }
        )

    def joined(parts: list, axis: int) -> Any:
        return parts[0] if len(parts) == 1 else jax.tree.map(lambda *y: lax.concatenate(y, axis), *parts)

    return joined([joined([piece(rows, columns) for columns in runs[1]], 2) for rows in runs[0]], 1)


# Neighboring windows with the same places inside the map: where the first begins, these places, how many windows.
_Run = tuple[int, tuple[int, ...], int]


def _runs(size: int, window: int, stride: int, pad: tuple[int, int]) -> list[_Run]:
    """The windows along an axis, from the first to the last."""
    starts = range(-pad[0], size + pad[1] - window + 1, stride)
    inside = [tuple(i for i in range(window) if 0 <= start + i < size) for start in starts]
    grouped = itertools.groupby(zip(starts, inside, strict=True), key=lambda item: item[1])
    runs = [(places, [start for start, _ in items]) for places, items in grouped]
    return [(starts[0], places, len(starts)) for places, starts in runs]


def _at_places(
    x: jax.Array, window: tuple[int, int], stride: int, pads: tuple, reduce: Callable[[_Places], Any]
) -> Any:
    """As `_in_pieces`, of a map that is padded by -inf."""
    padded = lax.pad(x, jnp.array(-jnp.inf, x.dtype), ((0, 0, 0), *((*pad, 0) for pad in pads), (0, 0, 0)))
    return _in_pieces(padded, window, stride, ((0, 0), (0, 0)), reduce)


def _max_pool_forward(x: jax.Array, window: tuple[int, int], stride: int, pads: tuple) -> tuple[jax.Array, tuple]:
    def first_best(places: _Places) -> tuple[jax.Array, jax.Array]:
        best = winner = None
        for number, candidate in places.items():
            if best is None or winner is None:
                best, winner = candidate, jnp.full(candidate.shape, number, jnp.uint8)
            else:
                better = (candidate > best) | jnp.isnan(candidate)
                best, winner = jnp.where(better, candidate, best), jnp.where(better, jnp.uint8(number), winner)
        assert best is not None and winner is not None  # a window has at least one place
        return best, winner

    if not all(_runs(n, w, stride, pad) for n, w, pad in zip(x.shape[1:3], window, pads, strict=True)):
        empty: Any = max_pool(x, window, stride, pads)
        return empty, (jnp.zeros(empty.shape, jnp.uint8), x.shape[1:3])
    how = {"window": window, "stride": stride, "pads": pads, "reduce": first_best}
    in_pieces, at_places = functools.partial(_in_pieces, **how), functools.partial(_at_places, **how)
    best, winner = lax.platform_dependent(x, cpu=in_pieces, default=at_places)
    return best, (winner, tuple(n + sum(pad) for n, pad in zip(x.shape[1:3], pads, strict=True)))


def _max_pool_backward(
    window: tuple[int, int], stride: int, pads: tuple, saved: tuple, dy: jax.Array
) -> tuple[jax.Array]:
    winner, shape = saved
    backward = (
        functools.partial(_by_phases, window, stride, shape),
        functools.partial(_by_places, window, stride, shape),
    )
    dx = lax.platform_dependent(winner, dy, cpu=backward[0], default=backward[1])
    return (lax.pad(dx, jnp.zeros((), dy.dtype), ((0, 0, 0), *((-b, -a, 0) for b, a in pads), (0, 0, 0))),)


def _by_places(
    window: tuple[int, int], stride: int, shape: tuple[int, int], winner: jax.Array, dy: jax.Array
) -> jax.Array:
    """The gradient before the padding's is cut off: a place of all windows at a time, spread over the whole map."""
    (height, width), (batch, rows, columns, channels) = shape, dy.shape
    zero = jnp.zeros((), dy.dtype)
    dx = jnp.zeros((batch, height, width, channels), dy.dtype)
    for number, (i, j) in enumerate(np.ndindex(*window)):
        below, right = height - i - (rows - 1) * stride - 1, width - j - (columns - 1) * stride - 1
        edges = (0, 0, 0), (i, below, stride - 1), (j, right, stride - 1), (0, 0, 0)
        dx += lax.pad(jnp.where(winner == number, dy, zero), zero, edges)
    return dx


def _by_phases(
    window: tuple[int, int], stride: int, shape: tuple[int, int], winner: jax.Array, dy: jax.Array
) -> jax.Array:
    """As `_by_places`, in its order, for pixels of equal remainders by the stride: those are in the same few windows.

    On CPU one loop over such pixels reads their windows, where each place of `_by_places` writes a whole map.
    """
    batch, _, _, channels = dy.shape
    # Windows before the first and behind the last, none of which has a maximum.
    reach = [-(-w // stride) - 1 for w in window]
    counts = [-(-n // stride) for n in shape]
    edges = [(r, n - size, 0) for r, n, size in zip(reach, counts, dy.shape[1:3], strict=True)]
    around = ((0, 0, 0), *edges, (0, 0, 0))
    winner = lax.pad(winner, jnp.uint8(window[0] * window[1]), around)
    dy = lax.pad(dy, jnp.zeros((), dy.dtype), around)

    def phase(first: int, second: int) -> jax.Array:
        dx = jnp.zeros((batch, *counts, channels), dy.dtype)
        for i in range(first, window[0], stride):
            for j in range(second, window[1], stride):
                top, left = reach[0] - i // stride, reach[1] - j // stride
                here = (slice(None), slice(top, top + counts[0]), slice(left, left + counts[1]))
                dx += jnp.where(winner[here] == i * window[1] + j, dy[here], 0)
        return dx

    rows = [jnp.stack([phase(i, j) for j in range(stride)], axis=3) for i in range(stride)]
    dx = jnp.stack(rows, axis=2).reshape(batch, counts[0] * stride, counts[1] * stride, channels)
    return dx[:, : shape[0], : shape[1]]


max_pool.defvjp(_max_pool_forward, _max_pool_backward)
