"""Makes the graph that a walk gives short: ONNX's own operators, layers with their weights, few transpositions."""

import dataclasses

from jft.exporters.onnx import affine, layout, pools
from jft.exporters.onnx.graph import Node, rewritten
from jft.exporters.onnx.idioms import axes, idiom


def simplified(output: Node) -> Node:
    """A graph that computes the same, up to rounding, with ONNX's operators alone."""
    output = rewritten(output, lambda node, _: pools.pool(node) or idiom(node) or _strided(node) or _branches(node))
    output = rewritten(output, affine.fold)
    output = rewritten(output, lambda node, _: layout.sink(node))
    output = rewritten(output, affine.fold)  # a transposition that has sunk brings layers beside each other
    return rewritten(output, lambda node, _: _lowered(node))


def _lowered(node: Node) -> Node | None:
    return affine.lowered(node) or pools.lowered(node) or _global_pool(node)


def _strided(node: Node) -> Node | None:
    """A 1x1 convolution of every second row and column."""
    if node.op != "Conv" or node.inputs[0].op != "Slice" or node.inputs[1].shape[2:] != (1,) * (node.rank - 2):
        return None
    whole, *places = node.inputs[0].inputs
    starts, _, cut, steps = (held.value for held in places)
    assert starts is not None and cut is not None and steps is not None
    how = node.attributes
    if any(starts) or min(cut) < 2 or min(steps) < 1 or any(how["pads"]):
        return None
    by = dict(zip(map(int, cut), map(int, steps), strict=True))
    strides = tuple(by.get(axis, 1) * step for axis, step in enumerate(how["strides"], 2))
    if any(-(-whole.shape[axis] // step) != node.shape[axis] for axis, step in enumerate(strides, 2)):
        return None
    return dataclasses.replace(node, inputs=(whole, *node.inputs[1:]), attributes={**how, "strides": strides})


def _branches(node: Node) -> Node | None:
    """A ReLU of joined convolutions as one of each, which ONNX Runtime makes a part of them."""
    if node.op != "Relu" or node.inputs[0].op != "Concat":
        return None
    joined = node.inputs[0]
    if any(held.op not in ("Conv", "Add") for held in joined.inputs):
        return None
    parts = (dataclasses.replace(held, op="Relu", inputs=(held,), attributes={}) for held in joined.inputs)
    return node.become("Concat", *parts, **joined.attributes)


def _global_pool(node: Node) -> Node | None:
    """The average over a map, which ONNX Runtime computes in the layout of its convolutions."""
    x = node.inputs[0] if node.inputs else node
    if node.op != "ReduceMean" or x.rank != 4 or axes(node) != (2, 3):
        return None
    mean = Node("GlobalAveragePool", (x,), {}, (*x.shape[:2], 1, 1), node.dtype, node.scope)
    return mean if node.attributes["keepdims"] else node.become("Flatten", mean, axis=1)
