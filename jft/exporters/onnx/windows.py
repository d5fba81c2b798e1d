"""Sums and maxima over windows: the operators WindowSum and WindowMax, which the simplification makes pools.

Their attributes have a number for each axis: `window`, `strides`, `dilations`, `before` and `after` (the padding).
"""

import functools
from collections.abc import Callable
from typing import Any

from jft.exporters.onnx.arrays import Array, Unsupported
from jft.exporters.onnx.shapes import cropped

_OPS = {"reduce_window_sum": "WindowSum", "reduce_window_max": "WindowMax"}


def _reduce_window(op: str, walk: Any, eqn: Any, x: Array) -> Array:
    params = eqn.params
    if any(n != 1 for n in params["base_dilation"]):
        raise Unsupported("windows over an array with gaps")
    if sum(n != 1 for n in params["window_dimensions"]) > x.rank - 2:
        raise Unsupported("windows over more axes than a pool has")
    x = walk.expanded(x)
    window, strides, dilations, pads = (
        x.per_axis(params[name]) for name in ("window_dimensions", "window_strides", "window_dilation", "padding")
    )
    node = cropped(walk, x.node, pads)
    pads = [(max(before, 0), max(after, 0)) for before, after in pads]
    if any(max(pad) >= n and max(pad) for pad, n in zip(pads, window, strict=True)):
        raise Unsupported("windows in the padding alone")
    shape = x.per_axis(eqn.outvars[0].aval.shape)
    before, after = zip(*pads, strict=True)
    how = {"window": window, "strides": strides, "dilations": dilations, "before": before, "after": after}
    return Array(walk.node(op, node, shape=shape, dtype=node.dtype, **how), x.layout, eqn.outvars[0].aval.shape)


RULES: dict[str, Callable[..., Array]] = {name: functools.partial(_reduce_window, op) for name, op in _OPS.items()}
