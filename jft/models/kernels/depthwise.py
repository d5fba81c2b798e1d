"""Depthwise convolution: each channel with a window of its own.

XLA:CPU's own takes 10 to 100 times as long as sums of shifted products, which it fuses into one loop over channels.
"""

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

Pads = tuple[tuple[int, int], tuple[int, int]]
# What each output of a phase reads along one axis: (place in the window, place in the source, maybe outside of it).
_Phase = list[list[tuple[int, int]]]

_MOST = 400  # products in the text of a program, which XLA compiles in half a second
_UNROLLED = 9  # places of a window, each with its sum in the text of a program; larger windows share that of a row


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
@functools.partial(jax.jit, static_argnums=(2, 3))
def depthwise(x: jax.Array, kernel: jax.Array, strides: tuple[int, int], pads: Pads) -> jax.Array:
    """Convolves each channel by itself: y[p, q, c] = sum over i, j of x[s * p + i, t * q + j, c] * kernel[i, j, 0, c].

    On CPU each product is a slice of `x` times one place of the window. Outputs at an edge, whose windows lie partly in
    the padding, are expressions of their own, so that no padded copy of `x` is written. The gradient for `x` is such a
    sum for each phase of the strides.

    Args:
      x: [batch, height, width, channels], followed on all sides by zeros.
      kernel: [rows, columns, 1, channels], of the dtype of `x`.
      strides: (s, t), of rows and of columns.
      pads: (before, after) of rows and of columns; negative ones crop.

    Returns:
      [batch, out_height, out_width, channels], of the dtype of `x`; on CPU added up in float32 at least.
    """
    own = functools.partial(_xla, strides=strides, pads=pads)
    out = jax.eval_shape(own, x, kernel).shape

    def taps(x: jax.Array, kernel: jax.Array) -> jax.Array:
        axes = zip(out[1:3], kernel.shape[:2], strides, pads, strict=True)
        plans = [[[[(k, step * n + k - before) for k in range(window)] for n in range(size)]]
                 for size, window, step, (before, _) in axes]  # fmt: skip
        return _sum_of_products(x, kernel, plans, strides)

    return own(x, kernel) if 0 in out else lax.platform_dependent(x, kernel, cpu=taps, default=own)


def _xla(x: jax.Array, kernel: jax.Array, strides: tuple[int, int], pads: Pads) -> jax.Array:
    return lax.conv_general_dilated(
        x, kernel, strides, pads, dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=x.shape[-1]
    )


def _forward(x: jax.Array, kernel: jax.Array, strides: tuple[int, int], pads: Pads) -> tuple[jax.Array, tuple]:
    return depthwise(x, kernel, strides, pads), (x, kernel)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _backward(strides: tuple[int, int], pads: Pads, saved: tuple, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved

    def taps(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
        axes = zip(x.shape[1:3], kernel.shape[:2], strides, pads, strict=True)
        plans = [_phases(size, window, step, before) for size, window, step, (before, _) in axes]
        return _sum_of_products(dy, kernel, plans, (1, 1)), _kernel_gradient(x, kernel, dy, strides, pads)

    def own(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.vjp(functools.partial(_xla, strides=strides, pads=pads), x, kernel)[1](dy)

    return own(x, kernel, dy) if 0 in dy.shape else lax.platform_dependent(x, kernel, dy, cpu=taps, default=own)


depthwise.defvjp(_forward, _backward)


def _phases(size: int, window: int, stride: int, before: int) -> list[_Phase]:
    """Of the inputs of an axis: n has a part in the outputs p with stride * p + tap = n + before."""

    def taps(n: int) -> list[tuple[int, int]]:
        return [(k, (n + before - k) // stride) for k in range(window) if (n + before - k) % stride == 0]

    return [[taps(n) for n in range(first, size, stride)] for first in range(min(stride, size))]


class _Run(NamedTuple):
    """Neighboring outputs along one axis that read the same places of the window.

    Attributes:
      count: outputs.
      taps: (place in the window, where the first of the outputs finds it in the source).
    """

    count: int
    taps: tuple[tuple[int, int], ...]


def _runs(phase: _Phase, size: int, before: int = 0) -> list[_Run]:
    """The runs of a phase in a source of `size` places, before which there are `before` more."""
    inside = [[(k, place + before) for k, place in taps if 0 <= place + before < size] for taps in phase]
    groups = itertools.groupby(inside, key=lambda taps: [k for k, _ in taps])
    runs = [list(group) for _, group in groups]
    return [_Run(len(run), tuple(run[0])) for run in runs]


def _sum_of_products(
    source: jax.Array, kernel: jax.Array, plans: Sequence[list[_Phase]], steps: tuple[int, int]
) -> jax.Array:
    """The outputs of the plans of rows and columns, whose phases take turns; `steps` apart in the source."""
    sizes = source.shape[1:3]
    runs = [[_runs(phase, size) for phase in plan] for plan, size in zip(plans, sizes, strict=True)]
    if len(list(_taps(runs[0]))) * len(list(_taps(runs[1]))) > _MOST:
        # Large windows read a padded copy, in which all outputs of a phase are one run.
        places = [[place for phase in plan for taps in phase for _, place in taps] for plan in plans]
        edges = [(max(0, -min(p)), max(0, max(p) + 1 - size)) for p, size in zip(places, sizes, strict=True)]
        source = lax.pad(source, _zero(source), ((0, 0, 0), *((*edge, 0) for edge in edges), (0, 0, 0)))
        axes = zip(plans, source.shape[1:3], edges, strict=True)
        runs = [[_runs(phase, size, before) for phase in plan] for plan, size, (before, _) in axes]

    def piece(rows: _Run, columns: _Run) -> jax.Array:
        return _piece(source, kernel, rows, columns, steps)

    bands = [
        [_woven([_joined([piece(run, c) for c in columns], 2) for columns in runs[1]], 2) for run in rows]
        for rows in runs[0]
    ]
    return _woven([_joined(band, 1) for band in bands], 1)


def _taps(phases: list[list[_Run]]) -> Iterator[tuple[int, int]]:
    return itertools.chain.from_iterable(run.taps for runs in phases for run in runs)


def _piece(source: jax.Array, kernel: jax.Array, rows: _Run, columns: _Run, steps: tuple[int, int]) -> jax.Array:
    wide, counts = _wide(source), (rows.count, columns.count)
    batch, channels = source.shape[0], source.shape[-1]
    total = None
    for (i, row), (j, column) in itertools.product(rows.taps, columns.taps):
        ends = (first + (n - 1) * step + 1 for first, n, step in zip((row, column), counts, steps, strict=True))
        part = lax.slice(source, (0, row, column, 0), (batch, *ends, channels), (1, *steps, 1))
        product = part.astype(wide) * kernel[i, j, 0].astype(wide)
        total = product if total is None else total + product
    total = jnp.zeros((batch, *counts, channels), wide) if total is None else total
    return total.astype(source.dtype)


def _joined(parts: list[jax.Array], axis: int) -> jax.Array:
    return parts[0] if len(parts) == 1 else lax.concatenate(parts, axis)


def _woven(parts: list[jax.Array], axis: int) -> jax.Array:
    """The parts' first elements along an axis, then their second, and so on; the last of later parts may be missing."""
    if len(parts) == 1:
        return parts[0]
    sizes = [part.shape[axis] for part in parts]
    shape = [*parts[0].shape]
    shape[axis] *= len(parts)
    fill = [[(0, sizes[0] - n if i == axis else 0, 0) for i in range(4)] for n in sizes]
    even = [lax.pad(part, _zero(part), edges) for part, edges in zip(parts, fill, strict=True)]
    return lax.slice_in_dim(jnp.stack(even, axis + 1).reshape(shape), 0, sum(sizes), axis=axis)


def _kernel_gradient(x: jax.Array, kernel: jax.Array, dy: jax.Array, strides: tuple[int, int], pads: Pads) -> jax.Array:
    """dkernel[i, j, 0, c] = sum of x[s * p + i, t * q + j, c] * dy[p, q, c]."""
    edges = (
        (before, (out - 1) * stride + window - size - before, 0)
        for size, out, window, stride, (before, _) in zip(
            x.shape[1:3], dy.shape[1:3], kernel.shape[:2], strides, pads, strict=True
        )
    )
    x, wide = lax.pad(x, _zero(x), ((0, 0, 0), *edges, (0, 0, 0))), _wide(x)
    batch, height, width, channels = dy.shape
    added = next((n for n in (8, 7, 6, 5, 4) if height % n == 0), min(8, height))  # rows at a time
    whole = height - height % added

    def product(x: jax.Array, place: tuple[int, int], first: int, last: int, step: int) -> jax.Array:
        """Of every `step`-th row of first <= p < last, [batch, rows, width, channels]."""
        starts = first * strides[0] + place[0], place[1]
        ends = (last - 1) * strides[0] + place[0] + 1, (width - 1) * strides[1] + place[1] + 1
        steps = (1, step * strides[0], strides[1], 1)
        read = lax.slice(x, (0, *starts, 0), (batch, *ends, channels), steps)
        return read.astype(wide) * dy[:, first:last:step].astype(wide)

    def of_window_row(x: jax.Array, i: int) -> jax.Array:
        found = []
        for place in ((i, j) for j in range(kernel.shape[1])):
            # Neighboring rows are added, since rows far apart may fall on the same few lines of a cache.
            rows = functools.reduce(jnp.add, (product(x, place, n, whole, added) for n in range(added)))
            if whole < height:
                rows = jnp.concatenate([rows, product(x, place, whole, height, 1)], 1)
            few = rows.reshape(-1, channels)
            found.append(jnp.dot(jnp.ones(len(few), wide), few, precision="highest"))
        return jnp.stack(found)

    def of_top_row(x: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        return lax.pad(x, _zero(x), ((0, 0, 0), (-1, 1, 0), (0, 0, 0), (0, 0, 0))), of_window_row(x, 0)

    # With a stride, moving the whole map takes longer than the products do.
    if max(strides) > 1 or kernel.shape[0] * kernel.shape[1] <= _UNROLLED:
        found = jnp.stack([of_window_row(x, i) for i in range(kernel.shape[0])])
    else:
        _, found = lax.scan(of_top_row, x, length=kernel.shape[0])
    return found.reshape(kernel.shape).astype(kernel.dtype)


def _wide(x: jax.Array) -> jnp.dtype:
    return jnp.promote_types(x.dtype, jnp.float32)


def _zero(x: jax.Array) -> jax.Array:
    return jnp.zeros((), x.dtype)
