"""What multiplies and shifts channels, such as BatchNorm: folded into the layer before it.

Affine is the writer's own operator: x * scale + shift, whose attributes hold two arrays, float64, of one number or of
one for each place of `axis`. Dense is a product with weights [inputs, outputs] and biases.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from jft.exporters.onnx.graph import Node, constant

_ARITHMETIC = ("Add", "Sub", "Mul", "Div")
_WEIGHTS = {"Conv": 1, "Dense": -1}  # layers with weights, and the axis of their channels


def fold(node: Node, alone: Callable[[Node], bool]) -> Node | None:
    """The step of the simplification that makes and folds Affine."""
    if node.op == "MatMul" and node.inputs[1].value is not None and node.inputs[1].rank == 2:
        return node.become("Dense", *node.inputs)
    if node.op in _ARITHMETIC and node.dtype == np.float32:
        return _affine(node)
    if node.op != "Affine":
        return None
    before = node.inputs[0]
    if before.op == "Affine" and alone(before):
        return _composed(node, before)
    if before.op in _WEIGHTS and alone(before) and before.inputs[1].value is not None:
        return _in_weights(node, before)
    return None


def _affine(node: Node) -> Node | None:
    left, right = node.inputs
    of, held = (right, left) if left.value is not None else (left, right)
    if held.value is None or of.value is not None or (node.op == "Div" and held is left) or of.shape != node.shape:
        return None
    wide = [axis for axis, n in enumerate(held.shape) if n != 1]
    if len(wide) > 1:
        return None
    axis, value = (wide[0] if wide else None), held.value.reshape(-1).astype(np.float64)
    one, zero = np.ones(1), np.zeros(1)
    scale, shift = {
        "Add": (one, value),
        "Sub": (-one, value) if held is left else (one, -value),
        "Mul": (value, zero),
        "Div": (1 / value if value.all() else value, zero),
    }[node.op]
    return None if node.op == "Div" and not value.all() else _made(node, of, scale, shift, axis)


def _made(node: Node, of: Node, scale: np.ndarray, shift: np.ndarray, axis: int | None) -> Node:
    return node.become("Affine", of, scale=scale, shift=shift, axis=axis)


def _composed(node: Node, before: Node) -> Node | None:
    first, then = before.attributes, node.attributes
    known = {how["axis"] for how in (first, then)} - {None}
    if len(known) > 1:
        return None
    axis: Any = known.pop() if known else None
    scale = first["scale"] * then["scale"]
    return _made(node, before.inputs[0], scale, first["shift"] * then["scale"] + then["shift"], axis)


def _in_weights(node: Node, layer: Node) -> Node | None:
    how, channel = node.attributes, _WEIGHTS[layer.op] % node.rank
    if how["axis"] not in (None, channel):
        return None
    x, kernel, *bias = layer.inputs
    assert kernel.value is not None
    outputs = kernel.shape[0] if layer.op == "Conv" else kernel.shape[-1]
    scale, shift = (np.broadcast_to(how[name], (outputs,)) for name in ("scale", "shift"))
    along = scale.reshape(-1, *(1,) * (kernel.rank - 1)) if layer.op == "Conv" else scale
    weights = kernel
    if (scale != 1).any():
        weights = constant((kernel.value * along).astype(np.float32), scope=kernel.scope)
    shifted = (bias[0].value if bias else 0) * scale + shift
    biases = (constant(shifted.astype(np.float32), scope=layer.scope),) if bias or shifted.any() else ()
    # The name of the layer, in the place of what was done to it.
    return Node(layer.op, (x, weights, *biases), layer.attributes, node.shape, node.dtype, layer.scope)


def lowered(node: Node) -> Node | None:
    """ONNX's operators in place of Affine and Dense."""
    if node.op == "Dense":
        return _product(node)
    if node.op != "Affine":
        return None
    (x,), how = node.inputs, node.attributes
    scale, shift, axis = how["scale"].astype(np.float32), how["shift"].astype(np.float32), how["axis"]
    if axis == 1 and node.rank > 2 and (scale != 1).any() and shift.any():
        channels = (x.shape[1],)
        zero, one = np.zeros(channels, np.float32), np.ones(channels, np.float32)
        held = (*(np.broadcast_to(v, channels) for v in (scale, shift)), zero, one)
        return node.become("BatchNormalization", x, *(constant(v, scope=node.scope) for v in held), epsilon=0.0)
    shape = [1] * node.rank
    if axis is not None:
        shape[axis] = x.shape[axis]
    y = x
    if (scale != 1).any() or not shift.any():
        y = node.become("Mul", y, _held(scale, shape))
    return node.become("Add", y, _held(shift, shape)) if shift.any() else y


def _held(value: np.ndarray, shape: list[int]) -> Node:
    return constant(value.reshape(shape) if value.size > 1 else value.reshape([1] * len(shape)))


def _product(node: Node) -> Node:
    x, kernel, *bias = node.inputs
    if node.rank == 2:
        return node.become("Gemm", x, kernel, *bias)
    product = node.become("MatMul", x, kernel)
    return node.become("Add", product, *bias) if bias else product
