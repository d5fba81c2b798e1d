"""Sums, maxima and minima along axes."""

import functools
from collections.abc import Callable
from typing import Any

from jft.exporters.onnx.arrays import Array
from jft.exporters.onnx.graph import integers

_OPS = {"reduce_sum": "ReduceSum", "reduce_max": "ReduceMax", "reduce_min": "ReduceMin", "reduce_prod": "ReduceProd"}


def _reduce(op: str, walk: Any, eqn: Any, x: Array) -> Array:
    axes = eqn.params["axes"]
    x, (result,) = walk.expanded(x), eqn.outvars
    if not axes:
        return x
    gone = x.axes(axes)
    kept = [axis for axis in x.layout if axis not in axes]
    shape = tuple(n for i, n in enumerate(x.node.shape) if i not in gone)
    node = walk.node(op, x.node, integers(gone), shape=shape, dtype=result.aval.dtype, keepdims=0)
    return Array(node, tuple(sorted(kept).index(axis) for axis in kept), tuple(result.aval.shape))


RULES: dict[str, Callable[..., Array]] = {name: functools.partial(_reduce, op) for name, op in _OPS.items()}
