"""A network of the ONNX writer's graph as a Keras model: layers with their weights, one for each node that computes.

Transpositions are no layers: a value remembers in which order Keras holds its axes, and is permuted only where a layer
needs another order. So maps stay with their channels last, as Keras and phones have them.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jft.exporters.onnx.graph import CONSTANT, INPUT, Node, ordered

CHANNELS_LAST = (0, 2, 3, 1)


@dataclasses.dataclass(frozen=True)
class Value:
    """What a node gives.

    Attributes:
      tensor: Keras' symbolic tensor.
      order: axes of the node's output, as ONNX counts them, in the order in which the tensor has them; 0 is first.
    """

    tensor: Any
    order: tuple[int, ...]

    def place(self, axis: int) -> int:
        """Which axis of the tensor is this axis of the node's output; negative ones count from the end."""
        return self.order.index(axis % len(self.order))


class Builder:
    """A model in the making.

    Attributes:
      keras: the module.
      images: Keras' symbolic tensor of the input.
    """

    def __init__(self, keras: Any, images: Any) -> None:
        """Begins with the images."""
        self.keras, self.images = keras, images
        self._made: dict[int, Value] = {}

    def __getitem__(self, node: Node) -> Value:
        """What was made of a node."""
        return self._made[id(node)]

    def __setitem__(self, node: Node, value: Value) -> None:
        """Keeps what was made of a node."""
        self._made[id(node)] = value

    def at(self, node: Node, order: Sequence[int]) -> Any:
        """A node's tensor with its axes in this order."""
        value, order = self[node], tuple(order)
        if value.order == order:
            return value.tensor
        return self.keras.layers.Permute([value.order.index(axis) for axis in order[1:]])(value.tensor)

    def plain(self, node: Node) -> Any:
        """A node's tensor with its axes in ONNX's order."""
        return self.at(node, range(node.rank))

    def flat(self, node: Node) -> Any:
        """A node's tensor whose numbers lie in ONNX's order; where axes of length 1 stand does not matter."""
        long = [axis for axis in self[node].order if axis == 0 or node.shape[axis] != 1]
        return self[node].tensor if long == sorted(long) else self.plain(node)


# (the model so far, a node, the layer's name) -> its value, or None where Keras has no layer for it.
Make = Callable[[Builder, Node, str], Value | None]


def build(keras: Any, makes: Mapping[str, Make], output: Node, root: str = "") -> Any:
    """Makes a Keras model, whose first axis is of any length.

    Args:
      keras: the module.
      makes: {ONNX operator: what makes its layer}.
      output: of a graph of `simplify.simplified` that reads images with their channels last.
      root: name of the Flax module, which names of layers leave out.

    Returns:
      A `keras.Model` of the same function.

    Raises:
      ValueError: an operator has no Keras layer; names it and its stage.
    """
    nodes = [node for node in ordered(output) if node.op != CONSTANT and node.dtype != np.int64]  # those are shapes
    images = next(node for node in nodes if node.op == INPUT)
    start = keras.Input(images.shape[1:], dtype=str(images.dtype), name="images")
    builder, names = Builder(keras, start), _Names(root)
    builder[images] = Value(start, (*range(images.rank),))
    for node in nodes:
        if node.op == INPUT:
            continue
        if (make := makes.get(node.op)) is None or (value := make(builder, node, names(node))) is None:
            stage = f"stage {node.scope!r}" if node.scope else "the network"
            raise ValueError(f"{stage} has no translation to Keras: ONNX's operator {node.op}. Export ONNX instead.")
        builder[node] = value
    return keras.Model(start, builder.plain(output))


class _Names:
    """Names of layers: the path of the module, numbered where one path has several."""

    def __init__(self, root: str) -> None:
        self._root, self._counts = f"{root}/", dict[str, int]()

    def __call__(self, node: Node) -> str:
        path = (node.scope.removeprefix(self._root) or node.op.lower()).replace("/", "_")
        self._counts[path] = count = self._counts.get(path, 0) + 1
        return path if count == 1 else f"{path}_{count}"
