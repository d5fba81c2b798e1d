"""Makes an ONNX model of a graph: names, weights, and the file's own facts."""

import collections
from collections.abc import Mapping
from typing import Any

import numpy as np

from jft.exporters.onnx.graph import CONSTANT, INPUT, Node, ordered
from jft.utils.version import __version__

OPSET = 20
_IR = 9  # the file format that came with this opset; newer ones shut out older runtimes
# What the inputs of an operator are called after the first; those without names are called by its own.
_ROLES = {
    "Conv": ("kernel", "bias"),
    "Gemm": ("kernel", "bias"),
    "MatMul": ("kernel",),
    "BatchNormalization": ("scale", "bias", "mean", "variance"),
    "LayerNormalization": ("scale", "bias"),
}
_OTHERS = {
    "Reshape": ("shape",),
    "Expand": ("shape",),
    "Slice": ("starts", "ends", "axes", "steps"),
    "Squeeze": ("axes",),
    "Unsqueeze": ("axes",),
    "Clip": ("low", "high"),
    "Pad": ("pads", "value"),
}


def make(onnx: Any, output: Node, name: str, facts: Mapping[str, str]) -> Any:
    """The model.

    Args:
      onnx: the package.
      output: of the graph, with ONNX's operators alone.
      name: of its output.
      facts: the file's metadata.

    Returns:
      An `onnx.ModelProto`.
    """
    nodes = ordered(output)
    names = _names(nodes, output, name)
    model = onnx.ModelProto(ir_version=_IR, producer_name="jft", producer_version=__version__)
    model.opset_import.append(onnx.helper.make_opsetid("", OPSET))
    graph = model.graph
    graph.name = "jft"
    for node in nodes:
        if node.op == INPUT:
            graph.input.append(_about(onnx, node, names))
        elif node.op == CONSTANT:
            graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(node.value), names[id(node)]))
        else:
            graph.node.append(_proto(onnx, node, names))
    graph.output.append(_about(onnx, output, names))
    onnx.helper.set_model_props(model, dict(facts))
    return model


def _about(onnx: Any, node: Node, names: Mapping[int, str]) -> Any:
    kind = onnx.helper.np_dtype_to_tensor_dtype(node.dtype)
    shape = [length if isinstance(length, int) else str(length) for length in node.shape]
    return onnx.helper.make_tensor_value_info(names[id(node)], kind, shape)


def _proto(onnx: Any, node: Node, names: Mapping[int, str]) -> Any:
    how = {
        name: onnx.helper.np_dtype_to_tensor_dtype(value) if isinstance(value, np.dtype) else value
        for name, value in node.attributes.items()
    }
    inputs, own = [names[id(held)] for held in node.inputs], names[id(node)]
    return onnx.helper.make_node(node.op, inputs, [own], name=own, **how)


def _names(nodes: list[Node], output: Node, name: str) -> dict[int, str]:
    """'layer1/block0/conv1/Conv' of a node, 'layer1/block0/conv1/kernel' of its weights; numbered where they repeat."""
    names: dict[int, str] = {}
    taken: collections.Counter[str] = collections.Counter()

    def give(node: Node, wanted: str) -> None:
        if id(node) not in names:
            taken[wanted] += 1
            names[id(node)] = wanted if taken[wanted] == 1 else f"{wanted}_{taken[wanted]}"

    give(output, name)
    for node in nodes:
        if node.op == INPUT:
            give(node, node.attributes["name"])
        elif node.op != CONSTANT:
            path = node.scope + "/" * bool(node.scope)
            give(node, path + node.op)
            for place, held in enumerate(node.inputs):
                if held.op == CONSTANT:
                    give(held, _constant_name(node, place, path))
    return names


def _constant_name(node: Node, place: int, path: str) -> str:
    roles = _ROLES.get(node.op)
    if roles and 0 < place <= len(roles):
        return path + roles[place - 1]
    others = _OTHERS.get(node.op, ())
    what = others[place - 1] if 0 < place <= len(others) else "constant"
    return f"{path}{node.op}/{what}"
