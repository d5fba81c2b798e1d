"""Transpositions sink towards the output, where they meet others and vanish; 1x1 convolutions let them pass.

Networks of LayerNorm, whose channels are last, so keep them last between their depthwise convolutions.
"""

import dataclasses

from jft.exporters.onnx.graph import INPUT, Node, constant, integers, transposed
from jft.exporters.onnx.idioms import axes

_UNARY = (
    *("Relu", "Clip", "Gelu", "HardSigmoid", "HardSwish", "Sigmoid", "Tanh", "Exp", "Log", "Sqrt", "Reciprocal"),
    *("Neg", "Abs", "Erf", "Cast"),
)
_BINARY = ("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow")
_LAST_CHANNELS = (0, 3, 1, 2)  # how a map with its channels last becomes one with its channels first


def sink(node: Node) -> Node | None:
    """The step of the simplification that moves a node before the transposition of what it reads."""
    before = _order(node.inputs[0]) if node.inputs else None
    if node.op == "Transpose":
        inner = node.inputs[0]
        if inner.op != "Transpose":
            return None
        return transposed(inner.inputs[0], [inner.attributes["perm"][axis] for axis in node.attributes["perm"]])
    if node.op in _BINARY:
        return _binary(node)
    if before is None:
        return None
    if node.op in _UNARY:
        return _after(node, before, node.inputs[0].inputs[0], *node.inputs[1:])
    if node.op == "Affine":
        axis = node.attributes["axis"]
        moved = dataclasses.replace(
            node, attributes={**node.attributes, "axis": None if axis is None else before[axis]}
        )
        return _after(moved, before, node.inputs[0].inputs[0])
    if node.op.startswith("Reduce"):
        return _reduction(node, before)
    if node.op == "Conv" and before == _LAST_CHANNELS:
        return _matrix(node)
    return None


def _order(node: Node) -> tuple[int, ...] | None:
    """How a transposition that may sink orders axes: that of the images comes first of all, and stays there."""
    return node.attributes["perm"] if node.op == "Transpose" and node.inputs[0].op != INPUT else None


def _after(node: Node, order: tuple[int, ...], *inputs: Node) -> Node:
    back = [order.index(axis) for axis in range(node.rank)]
    inner = dataclasses.replace(node, inputs=inputs, shape=tuple(node.shape[axis] for axis in back))
    return transposed(inner, order)


def _binary(node: Node) -> Node | None:
    """Both transposed alike, or one and a constant."""
    orders = [_order(held) for held in node.inputs]
    order = next((held for held in orders if held is not None), None)
    if order is None or node.rank != len(order):
        return None
    back, inputs = [order.index(axis) for axis in range(node.rank)], []
    for held, of in zip(node.inputs, orders, strict=True):
        if of == order:
            inputs.append(held.inputs[0])
        elif held.value is not None and held.rank in (0, node.rank):
            inputs.append(transposed(held, back) if held.rank else held)
        else:
            return None
    return _after(node, order, *inputs)


def _reduction(node: Node, order: tuple[int, ...]) -> Node | None:
    gone = tuple(sorted(order[axis] for axis in axes(node)))
    inner = node.inputs[0].inputs[0]
    if node.attributes["keepdims"]:
        return _after(node, order, inner, integers(gone))
    left = [order[axis] for axis in range(len(order)) if order[axis] not in gone]
    if left != sorted(left):
        return None
    return dataclasses.replace(node, inputs=(inner, integers(gone)))


def _matrix(node: Node) -> Node | None:
    """A 1x1 convolution of a map with its channels last as a product of matrices."""
    x, kernel, *bias = node.inputs
    how = node.attributes
    plain = {"strides": (1, 1), "dilations": (1, 1), "pads": (0, 0, 0, 0), "group": 1}
    if how != plain or kernel.value is None or kernel.shape[2:] != (1, 1):
        return None
    weights = constant(kernel.value[:, :, 0, 0].T, scope=kernel.scope)
    back = [_LAST_CHANNELS.index(axis) for axis in range(node.rank)]
    shape = tuple(node.shape[axis] for axis in back)
    inner = Node("Dense", (x.inputs[0], weights, *bias), {}, shape, node.dtype, node.scope)
    return transposed(inner, _LAST_CHANNELS)
