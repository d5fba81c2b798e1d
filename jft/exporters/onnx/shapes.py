"""What moves elements and computes nothing: reshaping, broadcasting, transposing, joining."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jft.exporters.onnx.arrays import Array, Unsupported, in_layout, of_node, spread, squeezed
from jft.exporters.onnx.graph import Node, constant, integers, sliced


def _broadcast_in_dim(walk: Any, eqn: Any, x: Array, *lengths: Array) -> Array:
    del lengths  # of symbolic axes: the shape has them too
    return spread(x, eqn.params["broadcast_dimensions"], eqn.outvars[0].aval.shape, walk.scope)


def _squeeze(walk: Any, eqn: Any, x: Array) -> Array:
    return squeezed(x, eqn.params["dimensions"], eqn.outvars[0].aval.shape, walk.scope)


def _transpose(walk: Any, eqn: Any, x: Array) -> Array:
    order = eqn.params["permutation"]
    return Array(x.node, tuple(order.index(axis) for axis in x.layout), eqn.outvars[0].aval.shape)


def _reshape(walk: Any, eqn: Any, x: Array, *lengths: Array) -> Array:
    del lengths
    if eqn.params.get("dimensions") is not None:
        raise Unsupported("a reshape that transposes")
    return reshaped(walk, x, eqn.outvars[0].aval.shape)


def reshaped(walk: Any, x: Array, shape: Sequence[Any]) -> Array:
    """The elements in their order, in another shape."""
    old, new = ([i for i, n in enumerate(lengths) if not _one(n)] for lengths in (x.shape, shape))
    if [x.shape[i] for i in old] == [shape[i] for i in new]:  # axes 1 long come and go: nothing moves
        without = squeezed(x, [i for i in range(x.rank) if i not in old], [x.shape[i] for i in old], walk.scope)
        return spread(without, new, shape, walk.scope)
    node = walk.whole(x)
    return of_node(node_reshaped(walk, node, shape))


def node_reshaped(walk: Any, node: Node, shape: Sequence[Any]) -> Node:
    """A node's elements in another shape, of which one length may depend on the batch's."""
    if tuple(shape) == node.shape:
        return node
    if node.value is not None:
        return constant(node.value.reshape(shape), scope=node.scope)
    if sum(not isinstance(n, int) for n in shape) > 1:
        raise Unsupported(f"a reshape to {tuple(shape)}, of which two lengths depend on the batch's")
    target = integers(n if isinstance(n, int) else -1 for n in shape)
    return walk.node("Reshape", node, target, shape=shape, dtype=node.dtype)


def _one(length: Any) -> bool:
    return isinstance(length, int) and length == 1


def _concatenate(walk: Any, eqn: Any, *given: Array) -> Array:
    return _joined(walk, eqn.params["dimension"], given, tuple(eqn.outvars[0].aval.shape))


def _joined(walk: Any, axis: int, given: Sequence[Array], shape: Sequence[Any]) -> Array:
    layout = next((array.layout for array in given if array.node.value is None), given[0].layout)
    nodes = [walk.expanded(in_layout(array, layout)).node for array in given]
    held = [shape[i] for i in layout]
    node = walk.node("Concat", *nodes, shape=held, dtype=nodes[0].dtype, axis=layout.index(axis))
    return Array(node, layout, tuple(shape))


def _stack(walk: Any, eqn: Any, *given: Array) -> Array:
    axis, shape = eqn.params["axis"], tuple(eqn.outvars[0].aval.shape)
    others = [i for i in range(len(shape)) if i != axis]
    parts = [spread(array, others, [1 if i == axis else n for i, n in enumerate(shape)], walk.scope) for array in given]
    return _joined(walk, axis, parts, shape)


def _length(walk: Any, eqn: Any) -> Array:
    """The length of the batch as a number."""
    node = walk.lengths([eqn.params["dim"]])
    number = walk.node("Squeeze", node, integers([0]), shape=(), dtype=node.dtype)
    to = np.dtype(eqn.outvars[0].aval.dtype)
    return of_node(walk.node("Cast", number, shape=(), dtype=to, to=to))


def _pad(walk: Any, eqn: Any, x: Array, value: Array) -> Array:
    config, (result,) = eqn.params["padding_config"], eqn.outvars
    if any(inside for _, _, inside in config):
        raise Unsupported("padding between elements")
    if value.node.value is None:
        raise Unsupported("padding by a value that is computed")
    whole = walk.expanded(x)
    node = _padded(walk, whole.node, [(low, high) for low, high, _ in whole.per_axis(config)], value.node)
    return Array(node, whole.layout, result.aval.shape)


def _padded(walk: Any, node: Node, pads: Sequence[tuple[int, int]], value: Node) -> Node:
    """Padded, and cropped where the padding is negative."""
    node = cropped(walk, node, pads)
    lows, highs = ([max(pad[i], 0) for pad in pads] for i in (0, 1))
    if not any((*lows, *highs)):
        return node
    shape = [n + low + high if low or high else n for n, low, high in zip(node.shape, lows, highs, strict=True)]
    return walk.node("Pad", node, integers([*lows, *highs]), value, shape=shape, dtype=node.dtype, mode="constant")


def cropped(walk: Any, node: Node, pads: Sequence[tuple[int, int]]) -> Node:
    """Without what negative padding (before, after) each axis takes away."""
    cut = {i: (max(-low, 0), max(-high, 0)) for i, (low, high) in enumerate(pads) if min(low, high) < 0}
    places = {i: (first, node.shape[i] - last, 1) for i, (first, last) in cut.items()}
    return sliced(node, places, walk.scope)


def _split(walk: Any, eqn: Any, x: Array) -> list[Array]:
    axis, results, first = eqn.params["axis"], [], 0
    whole = walk.expanded(x)
    for size, var in zip(eqn.params["sizes"], eqn.outvars, strict=True):
        node = sliced(whole.node, {whole.layout.index(axis): (first, first + size, 1)}, walk.scope)
        results.append(Array(node, whole.layout, var.aval.shape))
        first += size
    return results


RULES: dict[str, Callable[..., Any]] = {
    "broadcast_in_dim": _broadcast_in_dim,
    "squeeze": _squeeze,
    "transpose": _transpose,
    "reshape": _reshape,
    "concatenate": _concatenate,
    "stack": _stack,
    "dim_as_value": _length,
    "pad": _pad,
    "split": _split,
}
