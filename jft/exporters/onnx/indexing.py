"""Parts of arrays at places that are known when the file is written."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jax import lax

from jft.exporters.onnx.arrays import Array, Unsupported, squeezed
from jft.exporters.onnx.graph import constant, sliced


def _slice(walk: Any, eqn: Any, x: Array) -> Array:
    starts, ends = eqn.params["start_indices"], eqn.params["limit_indices"]
    steps = eqn.params["strides"] or (1,) * x.rank
    shape = eqn.outvars[0].aval.shape
    changed = [i for i in range(x.rank) if not _same(x.shape[i], shape[i])]
    return _part(walk, x, {i: (starts[i], ends[i], steps[i]) for i in changed}, shape)


def _same(one: Any, other: Any) -> bool:
    return isinstance(one, int) == isinstance(other, int) and one == other


def _part(walk: Any, x: Array, places: Mapping[int, tuple[int, int, int]], shape: Sequence[Any]) -> Array:
    """Slices of axes of an array; of one along which it is broadcast, nothing is cut in the graph."""
    held = x.held
    for axis in places:
        if not isinstance(x.shape[axis], int):
            raise Unsupported("a part of the batch")
    cut = {x.layout.index(axis): place for axis, place in places.items() if held[axis] != 1}
    return Array(sliced(x.node, cut, walk.scope), x.layout, (*shape,))


def _rev(walk: Any, eqn: Any, x: Array) -> Array:
    return _part(walk, x, {i: (x.shape[i] - 1, -1, -1) for i in eqn.params["dimensions"]}, x.shape)


def _dynamic_slice(walk: Any, eqn: Any, x: Array, *starts: Array) -> Array:
    sizes, places = eqn.params["slice_sizes"], {}
    for axis, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        if _same(size, x.shape[axis]):
            continue
        if (value := start.value()) is None:
            raise Unsupported("a slice whose place is computed")
        first = int(np.clip(value, 0, x.shape[axis] - size))
        places[axis] = first, first + size, 1
    return _part(walk, x, places, eqn.outvars[0].aval.shape)


def _gather(walk: Any, eqn: Any, x: Array, places: Array) -> Array:
    """What indexing and `jnp.take` are made of: here, of each axis by itself, elements at known places."""
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    where = places.value()
    if where is None or numbers.operand_batching_dims:
        raise Unsupported("indexing by what is computed")
    where = np.broadcast_to(where, places.shape)
    shape, batch = eqn.outvars[0].aval.shape, where.ndim - 1
    outer = [i for i in range(len(shape)) if i not in numbers.offset_dims]  # the result's axes of the indices
    becomes: dict[int, int] = {}  # an axis of x -> of the result
    gone = []
    kept = [i for i in range(x.rank) if i not in numbers.collapsed_slice_dims]
    becomes |= zip(kept, numbers.offset_dims, strict=True)
    for column, axis in enumerate(numbers.start_index_map):
        if not isinstance(x.shape[axis], int):
            raise Unsupported("a part of the batch")
        first = _inside(where[..., column], x.shape[axis] - sizes[axis], eqn.params["mode"])
        varies = [i for i in range(batch) if (first != np.take(first, [0], i)).any()]
        if len(varies) > 1 or (varies and axis in kept):
            raise Unsupported("indexing of axes that depend on each other")
        line = first.transpose([*varies, *(i for i in range(batch) if i not in varies)]).reshape(-1)
        line = line.reshape(where.shape[varies[0]] if varies else 1, -1)[:, 0]
        x = _taken(walk, x, axis, line, sizes[axis])
        if axis not in kept and varies:
            becomes[axis] = outer[varies[0]]
        elif axis not in kept:
            gone.append(axis)
    if len({*becomes.values()}) < len(becomes):
        raise Unsupported("indexing of axes together")
    return _placed(walk, x, gone, becomes, shape)


def _inside(first: np.ndarray, last: int, mode: Any) -> np.ndarray:
    """The starts, moved inside where JAX does so."""
    if mode == lax.GatherScatterMode.CLIP:
        return np.clip(first, 0, last)
    if first.size and (first.min() < 0 or first.max() > last):
        raise Unsupported("indexing beyond an array's end")
    return first


def _taken(walk: Any, x: Array, axis: int, starts: np.ndarray, size: int) -> Array:
    """Elements of an axis: `size` from the only start, or one from each start."""
    line = np.arange(starts[0], starts[0] + size) if len(starts) == 1 else starts
    shape = [len(line) if i == axis else n for i, n in enumerate(x.shape)]
    steps = np.unique(np.diff(line))
    if len(line) == x.shape[axis] and (line == np.arange(len(line))).all():
        return x
    if len(line) == 1 or (len(steps) == 1 and steps[0] != 0):
        step = int(steps[0]) if len(steps) else 1
        return _part(walk, x, {axis: (int(line[0]), int(line[-1]) + (1 if step > 0 else -1), step)}, shape)
    held = x.layout.index(axis)
    if x.node.shape[held] == 1:
        return dataclasses.replace(x, shape=tuple(shape))
    lengths = [len(line) if i == held else n for i, n in enumerate(x.node.shape)]
    index = constant(line, np.int64)
    node = walk.node("Gather", x.node, index, shape=lengths, dtype=x.node.dtype, axis=held)
    return Array(node, x.layout, tuple(shape))


def _placed(walk: Any, x: Array, gone: Sequence[int], becomes: Mapping[int, int], shape: Sequence[Any]) -> Array:
    """Without axes, and the others where the result has them; axes of indices that are 1 long are added."""
    left = [axis for axis in range(x.rank) if axis not in gone]
    x = squeezed(x, gone, [x.shape[axis] for axis in left], walk.scope)
    order = [becomes[axis] for axis in left]
    missing = [i for i in range(len(shape)) if i not in order]
    if missing:
        raise Unsupported("indexing that repeats elements")
    return Array(x.node, tuple(order[axis] for axis in x.layout), (*shape,))


RULES: dict[str, Callable[..., Array]] = {
    "slice": _slice,
    "rev": _rev,
    "dynamic_slice": _dynamic_slice,
    "gather": _gather,
}
