"""Operations whose gradient is written by hand, as XLA's own is slow on CPU.

BatchNorm, 1x1 convolution, residual sum, dense product, bias and max pool.

Each gives XLA's values and gradients up to rounding. What pays on CPU alone is lowered for CPUs alone; on a GPU XLA's
own BatchNorm is as fast, and its compiler of jax 0.11.2 fails with the 1x1 convolutions of a ResNet-50 as products.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_FOLD = 8  # places that are added at a time


def _sums(term: Callable[..., jax.Array], *maps: jax.Array) -> jax.Array:
    """Sums of `term(*maps)` over all axes but the last: [batch, ..., channels] -> [channels].

    XLA:CPU reduces the leading axes of a map one number at a time. Here eighths of each image's places are added to one
    another until few are left, which vectorizes over channels, reads the maps once, never writes the terms, and keeps
    digits, since no sum is long. The few are summed by a product with ones.

    Args:
      term: a function of numbers, or of places [batch, places, channels] and values by channel.
      *maps: [batch, ..., channels], float32 or wider.
    """

    def folded(*maps: jax.Array) -> jax.Array:
        batch, channels = maps[0].shape[0], maps[0].shape[-1]  # the batch may be spread over devices: it is not folded
        parts, rest = [x.reshape(batch, -1, channels) for x in maps], []
        take = term
        while (part := parts[0].shape[1] // _FOLD) > 1:
            # Places are cut out before the term is computed: XLA would otherwise write it down as a map of its own.
            cut = [[x[:, n * part : (n + 1) * part] for x in parts] for n in range(_FOLD)]
            rest.append(take(*(x[:, _FOLD * part :] for x in parts)))
            parts = [functools.reduce(jnp.add, (take(*slices) for slices in cut))]
            take = _itself
        few = jnp.concatenate([take(*parts), *rest], 1).reshape(-1, channels)
        return jnp.dot(jnp.ones(len(few), few.dtype), few, precision="highest")

    def plain(*maps: jax.Array) -> jax.Array:
        return jnp.sum(term(*maps), tuple(range(maps[0].ndim - 1)))

    return lax.platform_dependent(*maps, cpu=folded, default=plain)


def _itself(x: jax.Array) -> jax.Array:
    return x


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
    sums = jnp.stack([_sums(_itself, wide), _sums(jnp.square, wide)])
    mean, square = _average(sums, x, axis_name)
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
    dbias, dscale = _sums(_itself, dy), inverse * _sums(lambda dy, x: dy * (x - mean), dy, wide)
    of_dy, of_product = _average(jnp.stack([dbias, dscale]), x, axis_name)
    normal = (wide - mean) * inverse
    dx = (dy - of_dy - normal * of_product) * (inverse * scale)
    return dx.astype(x.dtype), dscale.astype(scale.dtype), dbias.astype(scale.dtype)


batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)


def _average(sums: jax.Array, x: jax.Array, axis_name: str | None) -> jax.Array:
    """Averages from sums over all axes of `x` but the last, and over the devices of a `jax.pmap` axis."""
    averages = sums / (x.size // x.shape[-1])
    return averages if axis_name is None else lax.pmean(averages, axis_name)


@jax.custom_vjp
def residual(y: jax.Array, shortcut: jax.Array) -> jax.Array:
    """relu(y + shortcut), the end of a residual block (He et al., 2015, figure 2), as max(y, -shortcut) + shortcut.

    The two are equal bit for bit. But XLA:CPU takes a maximum with 0 for so cheap that it computes it again, with all
    blocks before it, wherever it is read; a sum of two maps it writes down once.

    Args:
      y: the block's map.
      shortcut: of the same shape and dtype.
    """
    return jnp.maximum(y, -shortcut) + shortcut


def _residual_forward(y: jax.Array, shortcut: jax.Array) -> tuple[jax.Array, jax.Array]:
    out = residual(y, shortcut)
    return out, out


def _residual_backward(out: jax.Array, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    dx = jnp.where(out > 0, dy, jnp.zeros((), dy.dtype))
    return dx, dx


residual.defvjp(_residual_forward, _residual_backward)


@jax.custom_vjp
@jax.jit
def conv_1x1(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """A 1x1 convolution without stride: y[..., o] = sum over i of x[..., i] * kernel[i, o].

    On CPU it and both its gradients are single matrix products over [batch * height * width, channels].

    Args:
      x: [batch, height, width, inputs].
      kernel: [inputs, outputs], of the dtype of `x`.

    Returns:
      [batch, height, width, outputs].
    """
    return lax.platform_dependent(x, kernel, cpu=_product, default=_convolution)


def _product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], kernel.shape[-1])


def _convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(x, kernel[None, None], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _conv_1x1_forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple]:
    return conv_1x1(x, kernel), (x, kernel)


@jax.jit
def _conv_1x1_backward(saved: tuple, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    def products(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
        flat, of_outputs = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
        return _times_transposed(of_outputs, kernel).reshape(x.shape), flat.T @ of_outputs

    def convolutions(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.vjp(_convolution, x, kernel)[1](dy)

    return lax.platform_dependent(*saved, dy, cpu=products, default=convolutions)


def _times_transposed(a: jax.Array, b: jax.Array) -> jax.Array:
    """a @ b.T of matrices [m, k] and [n, k], as a convolution: 1 to 20 times as fast on CPU.

    XLA:CPU makes the transposition a part of a product, which then reads that matrix across its rows; for a convolution
    it copies it first. The smaller of the two is transposed.
    """
    if b.size > a.size:
        return _times_transposed(b, a).T
    return _convolution(a[None, :, None], b.T).reshape(len(a), -1)


conv_1x1.defvjp(_conv_1x1_forward, _conv_1x1_backward)


@jax.custom_vjp
def dense(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The product of a fully connected layer, x @ kernel. On CPU the gradient for `x` never transposes a large kernel.

    Args:
      x: [..., inputs].
      kernel: [inputs, outputs], of the dtype of `x`.

    Returns:
      [..., outputs].
    """
    return x @ kernel


def _dense_forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple]:
    return dense(x, kernel), (x, kernel)


def _dense_backward(saved: tuple, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    rows = dy.reshape(-1, dy.shape[-1])
    dx = lax.platform_dependent(rows, kernel, cpu=_times_transposed, default=lambda a, b: a @ b.T)
    return dx.reshape(x.shape), x.reshape(-1, x.shape[-1]).T @ rows


dense.defvjp(_dense_forward, _dense_backward)


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
    return dy, _sums(_itself, wide).astype(dy.dtype)


add_bias.defvjp(_add_bias_forward, _add_bias_backward)


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
                    (len(x), top + i + (height - 1) * stride + 1, left + j + (width - 1) * stride + 1, x.shape[-1]),
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
