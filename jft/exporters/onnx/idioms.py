"""Expressions that JAX writes out and ONNX has an operator for."""

import math
from collections.abc import Callable

import numpy as np

from jft.exporters.onnx.graph import Node, constant, scalar, size
from jft.exporters.onnx.match import Pattern, match

_HALF = math.sqrt(0.5)
_TANH = ("Tanh", ("Mul", math.sqrt(2 / math.pi), ("Add", "x", ("Mul", 0.044715, ("Pow", "x", 3)))))
_CENTERED = ("Sub", "x", ("ReduceMean", "x"))
_RELU6 = ("Clip", ("Add", "x", 3), 0, 6)

Found = dict[str, Node]


def _relu(node: Node, found: Found) -> Node:
    return node.become("Relu", found["x"])


def _itself(node: Node, found: Found) -> Node:
    return found["x"]


def _residual(node: Node, found: Found) -> Node:
    return node.become("Relu", node.become("Add", found["y"], found["x"]))


def _clip(node: Node, found: Found) -> Node | None:
    low, high = scalar(found["low"]), scalar(found["high"])
    if low is None or high is None or not low <= high or node.dtype.kind != "f":
        return None
    return node.become(
        "Clip", found["x"], constant(np.asarray(low, node.dtype)), constant(np.asarray(high, node.dtype))
    )


def _clip_relu(node: Node, found: Found) -> Node | None:
    return _clip(node, {**found, "low": constant(0.0)})


def _mean(node: Node, found: Found) -> Node | None:
    total, count = found["=ReduceSum"], scalar(found["n"])
    reduced = [found["x"].shape[axis] for axis in axes(total)]
    if not all(isinstance(n, int) for n in reduced) or count is None:
        return None
    if np.float32(count if node.op == "Div" else 1 / count) != np.float32(size(reduced)):
        return None
    return node.become("ReduceMean", *total.inputs, **total.attributes)


def _keepdims(node: Node, found: Found) -> Node | None:
    """A reduction whose axes come back with length 1."""
    reduction = node.inputs[0]
    if not reduction.op.startswith("Reduce") or reduction.attributes["keepdims"] or axes(reduction) != axes(node):
        return None
    return node.become(reduction.op, *reduction.inputs, keepdims=1)


def _no_axes(node: Node, found: Found) -> Node | None:
    """Axes that come and go, or go and come."""
    before = node.inputs[0]
    return before.inputs[0] if axes(before) == axes(node) else None


def _softmax(node: Node, found: Found) -> Node | None:
    axis = axes(found["=ReduceMax"])
    if axis != axes(found["=ReduceSum"]) or len(axis) != 1:
        return None
    return node.become("Softmax", found["x"], axis=axis[0])


def _layer_norm(node: Node, found: Found) -> Node | None:
    """Over the last axis, to which others are transposed."""
    mean, epsilon = found["=ReduceMean"], scalar(found["epsilon"])
    (axis, *others), rank = axes(mean), node.rank
    scale, bias = found["scale"].value, found["bias"].value
    if others or epsilon is None or scale is None or bias is None or not mean.attributes["keepdims"]:
        return None
    channels = found["x"].shape[axis]
    if any(weights.shape != tuple(channels if i == axis else 1 for i in range(rank)) for weights in (scale, bias)):
        return None
    order = [*(i for i in range(rank) if i != axis), axis]
    back = [order.index(i) for i in range(rank)]
    weights = (constant(w.reshape(-1), scope=node.scope) for w in (scale, bias))
    last = permuted(found["x"], order, node.scope)
    normal = Node(
        "LayerNormalization", (last, *weights), {"axis": -1, "epsilon": epsilon}, last.shape, node.dtype, node.scope
    )
    return permuted(normal, back, node.scope)


def _gelu(node: Node, found: Found) -> Node:
    return node.become("Gelu", found["x"])


def _gelu_tanh(node: Node, found: Found) -> Node:
    return node.become("Gelu", found["x"], approximate="tanh")


def _hard_sigmoid(node: Node, found: Found) -> Node:
    return node.become("HardSigmoid", found["x"], alpha=1 / 6, beta=0.5)


def _hard_swish(node: Node, found: Found) -> Node | None:
    how = found["=HardSigmoid"].attributes
    return node.become("HardSwish", found["x"]) if how == {"alpha": 1 / 6, "beta": 0.5} else None


def axes(node: Node) -> tuple[int, ...]:
    """What a reduction, Squeeze or Unsqueeze is told as its second input."""
    value = node.inputs[1].value
    return () if value is None else tuple(map(int, value))


def permuted(node: Node, order: list[int], scope: str) -> Node:
    """As `graph.transposed`, of the module of what comes after."""
    if order == [*range(node.rank)]:
        return node
    shape = tuple(node.shape[axis] for axis in order)
    return Node("Transpose", (node,), {"perm": tuple(order)}, shape, node.dtype, scope)


# In the order in which they are tried; a later one may be of what an earlier one gives.
IDIOMS: tuple[tuple[Pattern, Callable[[Node, Found], Node | None]], ...] = (
    (("Max", "x", -math.inf), _itself),
    (("Max", "x", 0), _relu),
    (("Add", ("Max", "y", ("Neg", "x")), "x"), _residual),
    (("Min", ("Relu", "x"), "high"), _clip_relu),
    (("Min", ("Max", "x", "low"), "high"), _clip),
    (("Div", ("ReduceSum", "x"), "n"), _mean),
    (("Mul", ("ReduceSum", "x"), "n"), _mean),
    (("Unsqueeze", "x"), _keepdims),
    (("Squeeze", ("Unsqueeze", "x")), _no_axes),
    (("Unsqueeze", ("Squeeze", "x")), _no_axes),
    (
        ("Div", ("Exp", ("Sub", "x", ("ReduceMax", "x"))), ("ReduceSum", ("Exp", ("Sub", "x", ("ReduceMax", "x"))))),
        _softmax,
    ),
    (("Mul", ("Mul", 0.5, "x"), ("Sub", 1, ("Erf", ("Mul", ("Neg", "x"), _HALF)))), _gelu),
    (("Mul", "x", ("Mul", 0.5, ("Add", 1, ("Erf", ("Mul", "x", _HALF))))), _gelu),
    (("Mul", "x", ("Mul", 0.5, ("Add", 1, _TANH))), _gelu_tanh),
    (("Div", _RELU6, 6), _hard_sigmoid),
    (("Mul", "x", ("HardSigmoid", "x")), _hard_swish),
    (
        (
            "Add",
            (
                "Mul",
                _CENTERED,
                (
                    "Mul",
                    ("Reciprocal", ("Sqrt", ("Add", ("ReduceMean", ("Mul", _CENTERED, _CENTERED)), "epsilon"))),
                    "scale",
                ),
            ),
            "bias",
        ),
        _layer_norm,
    ),
)


def idiom(node: Node) -> Node | None:
    """The operator that a node and those before it are; None if they are none."""
    for pattern, make in IDIOMS:
        found = match(pattern, node)
        if found is not None and (better := make(node, found)) is not None:
            return better
    return None
