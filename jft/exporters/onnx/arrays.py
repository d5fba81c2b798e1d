"""JAX's arrays as the graph holds them: in another order of axes, and not yet broadcast.

Nothing is transposed before it must be: an array of JAX [batch, height, width, channels] that a convolution gave stays
[batch, channels, height, width] in the graph through all that does not mind, and so does one that JAX transposes.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from jft.exporters.onnx.graph import Node, constant, integers, transposed

_FIRST_CHANNELS = (0, 3, 1, 2)


class Unsupported(ValueError):
    """There is no translation; the message says of what."""


@dataclasses.dataclass(frozen=True)
class Array:
    """An array of JAX.

    Attributes:
      node: what the graph holds, of the same number of axes; 1 long where the array is broadcast along an axis.
      layout: axis i of the node is axis `layout[i]` of the array.
      shape: of the array.
    """

    node: Node
    layout: tuple[int, ...]
    shape: tuple[Any, ...]

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def held(self) -> tuple[Any, ...]:
        """The node's shape in the order of the array's axes."""
        return tuple(self.node.shape[self.layout.index(axis)] for axis in range(self.rank))

    def axes(self, of: Iterable[int]) -> tuple[int, ...]:
        """The node's axes that are these axes of the array, in ascending order."""
        return tuple(sorted(self.layout.index(axis) for axis in of))

    def per_axis(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """Values of each axis of the array in the order of the node's."""
        return tuple(values[axis] for axis in self.layout)

    def value(self) -> np.ndarray | None:
        """That of a constant, in the order of the array's axes and not broadcast; None if it is none."""
        value = self.node.value
        return None if value is None else value.transpose([self.layout.index(axis) for axis in range(self.rank)])


def of_constant(value: Any, scope: str = "") -> Array:
    """An array whose value is known."""
    node = constant(value, scope=scope)
    return Array(node, (*range(node.rank),), node.shape)


def of_node(node: Node, shape: Sequence[Any] | None = None) -> Array:
    """An array whose axes are those of a node."""
    return Array(node, (*range(node.rank),), tuple(node.shape if shape is None else shape))


def in_layout(array: Array, layout: Sequence[int]) -> Array:
    """The same array with its axes in another order."""
    order = [array.layout.index(axis) for axis in layout]
    node, layout = array.node, (*layout,)
    if node.op == "Unsqueeze" and order != [*range(array.rank)]:
        new = {int(axis) for axis in node.inputs[1].value}  # type: ignore[union-attr]
        if [axis for axis in order if axis not in new] == [axis for axis in range(array.rank) if axis not in new]:
            places = integers(i for i, axis in enumerate(order) if axis in new)  # only axes 1 long move
            shape = tuple(node.shape[axis] for axis in order)
            return Array(dataclasses.replace(node, inputs=(node.inputs[0], places), shape=shape), layout, array.shape)
    return Array(transposed(node, order), layout, array.shape)


def images_in(node: Node) -> Array:
    """A function's input: images, [batch, height, width, channels], are transposed at once, where they are smallest."""
    array = of_node(node)
    return in_layout(array, _FIRST_CHANNELS) if array.rank == len(_FIRST_CHANNELS) else array


def squeezed(array: Array, axes: Sequence[int], shape: Sequence[Any], scope: str) -> Array:
    """Without some axes, which are 1 long."""
    if not axes:
        return dataclasses.replace(array, shape=(*shape,))
    gone = array.axes(axes)
    kept = [axis for axis in array.layout if axis not in axes]
    layout = tuple(sorted(kept).index(axis) for axis in kept)
    left = tuple(n for i, n in enumerate(array.node.shape) if i not in gone)
    if array.node.value is not None:
        node = constant(array.node.value.reshape(left), scope=array.node.scope)
    else:
        node = Node("Squeeze", (array.node, integers(gone)), {}, left, array.node.dtype, scope)
    return Array(node, layout, (*shape,))


def spread(array: Array, places: Sequence[int], shape: Sequence[Any], scope: str) -> Array:
    """Broadcast to a shape, of which `places` are the array's own axes; new axes are 1 long in the graph."""
    rank = len(shape)
    own = [places[axis] for axis in array.layout]  # the new array's axes that there are, in the node's order
    layout = _FIRST_CHANNELS if rank == len(_FIRST_CHANNELS) else (*range(rank),)
    if [axis for axis in layout if axis in places] != own:
        layout = (*own, *(axis for axis in range(rank) if axis not in places))
    new = [i for i, axis in enumerate(layout) if axis not in places]
    if not new:
        return Array(array.node, layout, (*shape,))
    lengths = iter(array.node.shape)
    held = tuple(1 if i in new else next(lengths) for i in range(rank))
    if array.node.value is not None:
        node = constant(array.node.value.reshape(held), scope=array.node.scope)
    else:
        node = Node("Unsqueeze", (array.node, integers(new)), {}, held, array.node.dtype, scope)
    return Array(node, layout, (*shape,))


def broadcast(shapes: Sequence[Sequence[Any]]) -> tuple[Any, ...]:
    """The shape of nodes of one rank together."""
    found = []
    for lengths in zip(*shapes, strict=True):
        longer = [n for n in lengths if not _is_one(n)]
        found.append(longer[0] if longer else 1)
    return tuple(found)


def _is_one(length: Any) -> bool:
    return isinstance(length, int) and length == 1
