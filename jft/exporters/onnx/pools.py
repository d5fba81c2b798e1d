"""Windows of sums and maxima as ONNX's pools, and as its local response normalization."""

import functools

import numpy as np

from jft.exporters.onnx.graph import Node, constant, scalar, size, transposed
from jft.exporters.onnx.match import match

_WINDOWS = ("WindowSum", "WindowMax")
_NORM = (
    "Mul",
    "x",
    ("Exp", ("Mul", "beta", ("Log", ("Add", "k", ("Mul", "alpha", ("WindowSum", ("Mul", "x", "x"))))))),
)


def pool(node: Node) -> Node | None:
    """Makes windows along rows, then columns, one; averages of sums; and local response normalization."""
    if node.op in _WINDOWS:
        return _merged(node)
    if node.op == "Div" and node.inputs[0].op == "WindowSum":
        return _average(node, *node.inputs)
    if node.op == "Mul" and (found := match(_NORM, node)):
        return _local_response_norm(node, found)
    return None


def _merged(node: Node) -> Node | None:
    before = node.inputs[0]
    if before.op != node.op:
        return None
    moving = [axis for of in (node, before) for axis in range(node.rank) if _moves(of, axis)]
    if len({*moving}) < len(moving) or len(moving) > node.rank - 2:
        return None
    how = {
        name: tuple((node if _moves(node, axis) else before).attributes[name][axis] for axis in range(node.rank))
        for name in node.attributes
    }
    return node.become(node.op, *before.inputs, **how)


def _moves(node: Node, axis: int) -> bool:
    names = ("window", "strides", "before", "after")
    return tuple(node.attributes[name][axis] for name in names) != (1, 1, 0, 0)


def _average(node: Node, total: Node, counts: Node) -> Node | None:
    window = total.attributes["window"]
    if scalar(counts) == size(window):
        return node.become("WindowMean", *total.inputs, **total.attributes, include=1)
    if counts.value is None or any(n != 1 for n in total.attributes["dilations"]):
        return None
    inside = functools.reduce(np.multiply.outer, (_inside(total, axis) for axis in range(node.rank)))
    if window[0] == 1 and np.array_equal(np.broadcast_to(counts.value, inside.shape), inside):
        return node.become("WindowMean", *total.inputs, **total.attributes, include=0)
    return None


def _inside(node: Node, axis: int) -> np.ndarray:
    """How many places of each window lie in the array along an axis; 1 of an axis without windows."""
    if not _moves(node, axis):
        return np.ones(1, np.int64)
    window, stride, before = (node.attributes[name][axis] for name in ("window", "strides", "before"))
    first = np.arange(node.shape[axis]) * stride - before
    return np.minimum(first + window, node.inputs[0].shape[axis]) - np.maximum(first, 0)


def _local_response_norm(node: Node, found: dict[str, Node]) -> Node | None:
    """Along axis 1, over a window of odd size."""
    windows = found["=WindowSum"]
    beta, bias, alpha = (scalar(found[name]) for name in ("beta", "k", "alpha"))
    window = windows.attributes["window"][1]
    half = window // 2
    expected = {"window": window, "strides": 1, "dilations": 1, "before": half, "after": half}
    if {name: values[1] for name, values in windows.attributes.items()} != expected or window % 2 == 0:
        return None
    if any(_moves(windows, axis) for axis in range(node.rank) if axis != 1) or None in (beta, bias, alpha):
        return None
    assert beta is not None and bias is not None and alpha is not None
    return node.become("LRN", found["x"], size=window, alpha=alpha * window, beta=-beta, bias=bias)


def lowered(node: Node) -> Node | None:
    """A pool over windows that are left, in place of the writer's own operator."""
    if node.op not in (*_WINDOWS, "WindowMean"):
        return None
    moving = [axis for axis in range(node.rank) if _moves(node, axis)]
    if any(axis < 2 for axis in moving):  # pools have two axes without windows first
        order = [*(axis for axis in range(node.rank) if axis not in moving), *moving]
        back = [order.index(axis) for axis in range(node.rank)]
        how = {name: tuple(values[axis] for axis in order) if isinstance(values, tuple) else values
               for name, values in node.attributes.items()}  # fmt: skip
        inner = Node(
            node.op,
            (transposed(node.inputs[0], order),),
            how,
            tuple(node.shape[i] for i in order),
            node.dtype,
            node.scope,
        )
        return transposed(lowered(inner) or inner, back, node.scope)
    of = {name: values[2:] for name, values in node.attributes.items() if isinstance(values, tuple)}
    how = {"kernel_shape": of["window"], "strides": of["strides"], "pads": (*of["before"], *of["after"])}
    if any(n != 1 for n in of["dilations"]):
        how["dilations"] = of["dilations"]
    if node.op == "WindowMax":
        return node.become("MaxPool", *node.inputs, **how)
    mean = node.become("AveragePool", *node.inputs, **how, count_include_pad=node.attributes.get("include", 1))
    if node.op == "WindowMean":
        return mean
    return node.become("Mul", mean, constant(np.asarray(size(of["window"]), node.dtype)))
