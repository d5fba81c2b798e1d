"""The graph that the writer makes and simplifies before it becomes a file."""

import collections
import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

INPUT, CONSTANT = "Input", "Constant"


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
    """A node with one output; the graph is what its output node reads.

    Attributes:
      op: an ONNX operator, `INPUT`, `CONSTANT`, or one of the writer's own, which `lower` replaces in the end.
      inputs: what it reads.
      attributes: of the operator; tuples of ints, ints, floats or strings.
      shape: of the output, as ONNX holds it: ints, or JAX's symbolic dimensions.
      dtype: of the output.
      scope: path of the module that it comes from, such as 'layer1/block0/conv1'; '' outside of modules.
      value: of a constant.
    """

    op: str
    inputs: tuple["Node", ...]
    attributes: Mapping[str, Any]
    shape: tuple[Any, ...]
    dtype: np.dtype
    scope: str = ""
    value: np.ndarray | None = None

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def become(self, op: str, *inputs: "Node", **attributes: Any) -> "Node":
        """A node in place of this one, of the same shape."""
        return dataclasses.replace(self, op=op, inputs=inputs, attributes=attributes)


def constant(value: Any, dtype: Any = None, scope: str = "") -> Node:
    """A node of a constant."""
    array = np.asarray(value, dtype)
    return Node(CONSTANT, (), {}, array.shape, array.dtype, scope, array)


def integers(values: Iterable[int]) -> Node:
    """What shapes, axes and places in arrays are written as: int64 [n]."""
    return constant(np.array([*values], np.int64))


def transposed(node: Node, order: Iterable[int], scope: str = "") -> Node:
    """A node whose axis i is axis `order[i]` of the given one; itself if that changes nothing."""
    order = (*order,)
    if order == (*range(node.rank),):
        return node
    if node.value is not None:
        return constant(node.value.transpose(order), scope=node.scope)
    shape = tuple(node.shape[axis] for axis in order)
    return Node("Transpose", (node,), {"perm": order}, shape, node.dtype, scope or node.scope)


def sliced(node: Node, places: Mapping[int, tuple[int, int, int]], scope: str) -> Node:
    """A part of an array: {axis: (start, end, step)}, other axes whole; a negative step runs down from the start."""
    if not places:
        return node
    shape = [*node.shape]
    for axis, (start, end, step) in places.items():
        shape[axis] = len(range(start, end, step))
    columns = zip(*places.values(), strict=True)
    # Below the first place ONNX counts from the end, so that an end of -1 must be far below.
    starts, ends, steps = ([n if n >= 0 or i == 2 else -(2**31) for n in column] for i, column in enumerate(columns))
    inputs = (node, integers(starts), integers(ends), integers(places), integers(steps))
    return Node("Slice", inputs, {}, tuple(shape), node.dtype, scope)


def scalar(node: Node) -> float | None:
    """The value of a constant that is the same everywhere; None for other nodes."""
    if node.value is None or not node.value.size or node.value.dtype == bool:
        return None
    first = node.value.flat[0]
    return float(first) if node.value.size == 1 or bool((node.value == first).all()) else None


def ordered(output: Node) -> list[Node]:
    """All nodes that an output needs, each after its inputs."""
    done: dict[int, Node] = {}
    waiting = [(output, False)]
    while waiting:
        node, ready = waiting.pop()
        if id(node) in done:
            continue
        if ready:
            done[id(node)] = node
            continue
        waiting.append((node, True))
        waiting += [(held, False) for held in reversed(node.inputs)]
    return [*done.values()]


# (a node, whether a node is read by one other alone) -> what takes its place, or None.
Rule = Callable[[Node, Callable[[Node], bool]], Node | None]


def rewritten(output: Node, rule: Rule) -> Node:
    """The graph with a rule applied to each node, after its inputs, until it changes nothing.

    Nodes that compute the same are made one.
    """
    uses = collections.Counter(id(held) for node in ordered(output) for held in node.inputs)
    done: dict[int, Node] = {}
    known: dict[Any, Node] = {}
    now: collections.Counter[int] = collections.Counter()
    kept = []  # or an id may be given again

    def alone(node: Node) -> bool:
        return now[id(node)] <= 1

    for node in ordered(output):
        new = dataclasses.replace(node, inputs=tuple(done[id(held)] for held in node.inputs)) if node.inputs else node
        while (better := rule(new, alone)) is not None:
            kept.append(new)
            new = better
        if new.inputs:
            new = known.setdefault(_key(new), new)
        done[id(node)] = new
        now[id(new)] += uses[id(node)]
        kept.append(new)
    return done[id(output)]


def _key(node: Node) -> Any:
    """Equal for nodes that compute the same."""
    values = {k: v.tobytes() if isinstance(v, np.ndarray) else v for k, v in node.attributes.items()}
    return node.op, tuple(map(id, node.inputs)), tuple(values.items()), node.dtype


def size(shape: Iterable[Any]) -> int:
    """Number of elements of a shape without symbolic dimensions."""
    return math.prod(shape)
