"""Walks a jaxpr: constants are computed, calls are entered, and all else is translated by the table of rules."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend import core

from jft.exporters.onnx.arrays import Array, Unsupported, images_in, in_layout, of_constant
from jft.exporters.onnx.graph import INPUT, Node, constant, integers
from jft.exporters.onnx.rules import RULES

# Primitives that call a jaxpr: all of it happens, once.
_CALLS = (
    "jit",
    "pjit",
    "closed_call",
    "core_call",
    "custom_jvp_call",
    "custom_vjp_call",
    "remat",
    "remat2",
    "checkpoint",
)
# What is said of an array but does nothing to it.
_SAME = ("stop_gradient", "copy", "copy_p", "reduce_precision", "optimization_barrier", "sharding_constraint")
# Their rules keep constants small, or know the length of the batch.
_LAZY = ("broadcast_in_dim", "dim_as_value")


def translate(traced: Any, name: str, root: str = "") -> Node:
    """The graph of a traced function.

    Args:
      traced: from `trace.trace`.
      name: of the input.
      root: first name of all modules' paths, which is left out.

    Returns:
      The node of its output, whose axes are those of the function's result.

    Raises:
      Unsupported: names the primitive, and the stage that it is in.
    """
    (given,) = traced.jaxpr.invars
    node = Node(INPUT, (), {"name": name}, tuple(given.aval.shape), np.dtype(given.aval.dtype))
    with jax.default_matmul_precision("highest"):
        translator = Translator(node, root)
        (result,) = translator.run(traced.jaxpr, traced.consts, [images_in(node)], "")
    return translator.whole(result)


class Translator:
    """What rules ask of the walk.

    Attributes:
      scope: path of the module whose primitive is translated.
    """

    def __init__(self, images: Node, root: str) -> None:
        self.scope = ""
        self._images, self._root = images, root

    def node(self, op: str, *inputs: Node, shape: Sequence[Any], dtype: Any, **attributes: Any) -> Node:
        """A node of the module that is being translated."""
        return Node(op, inputs, attributes, (*shape,), np.dtype(dtype), self.scope)

    def whole(self, array: Array) -> Node:
        """An array's node with its axes in order, and broadcast."""
        return self.expanded(in_layout(array, range(array.rank))).node

    def expanded(self, array: Array) -> Array:
        """Broadcast in the graph too, in the layout that it has."""
        shape = array.per_axis(array.shape)
        if shape == array.node.shape:
            return array
        value = array.node.value
        if value is not None and all(isinstance(n, int) for n in shape):
            return Array(constant(np.broadcast_to(value, shape), scope=self.scope), array.layout, array.shape)
        node = self.node("Expand", array.node, self.lengths(shape), shape=shape, dtype=array.node.dtype)
        return Array(node, array.layout, array.shape)

    def lengths(self, shape: Sequence[Any]) -> Node:
        """A shape as a node: int64 [rank]; it may hold the batch's length."""
        batch, parts = self._images.shape[0], []
        for length in shape:
            if isinstance(length, int):
                parts.append(integers([length]))
            elif length == batch:
                parts.append(self.node("Shape", self._images, shape=(1,), dtype=np.int64, start=0, end=1))
            else:
                raise Unsupported(f"a length of {length} of an array: it is the batch's own, or a number")
        if all(part.value is not None for part in parts):
            return integers(int(part.value[0]) for part in parts if part.value is not None)
        return self.node("Concat", *parts, shape=(len(parts),), dtype=np.int64, axis=0)

    def run(self, jaxpr: Any, consts: Sequence[Any], given: Sequence[Array], scope: str) -> list[Array]:
        """The results of a jaxpr of given arrays."""
        held: dict[Any, Array] = dict(zip(jaxpr.invars, given, strict=True))
        held |= {var: of_constant(value, scope) for var, value in zip(jaxpr.constvars, consts, strict=True)}

        def read(atom: Any) -> Array:
            return of_constant(np.asarray(atom.val), scope) if isinstance(atom, core.Literal) else held[atom]

        for eqn in jaxpr.eqns:
            inner = "/".join(part for part in (scope, str(eqn.source_info.name_stack)) if part)
            results = self._equation(eqn, [read(atom) for atom in eqn.invars], inner)
            held |= zip(eqn.outvars, results, strict=True)
        return [read(atom) for atom in jaxpr.outvars]

    def _equation(self, eqn: Any, given: list[Array], scope: str) -> list[Array]:
        name, self.scope = eqn.primitive.name, self._cleaned(scope)
        if name in _SAME:
            return given
        if name in _CALLS:
            inner = next(value for value in eqn.params.values() if hasattr(value, "eqns") or hasattr(value, "jaxpr"))
            return self.run(getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), given, scope)
        if name == "platform_index":
            platforms = eqn.params["platforms"]
            return [of_constant(np.int32(platforms.index(None) if None in platforms else 0))]
        if name == "cond" and (index := given[0].value()) is not None:
            branch = eqn.params["branches"][int(np.clip(index, 0, len(eqn.params["branches"]) - 1))]
            return self.run(branch.jaxpr, branch.consts, given[1:], scope)
        if (computed := _computed(eqn, given)) is not None:
            return [of_constant(value, self.scope) for value in computed]
        try:
            if name not in RULES:
                raise Unsupported(f"JAX's primitive {name!r}")
            result = RULES[name](self, eqn, *given)
        except Unsupported as error:
            stage, _, module = self.scope.partition("/")
            where = f"stage {stage!r}" if stage else "a function outside of all stages"
            inside = f" ({module})" if module else ""
            raise Unsupported(f"{where}{inside} has no translation to ONNX: {error}") from None
        return result if isinstance(result, list) else [result]

    def _cleaned(self, scope: str) -> str:
        """A path of modules: einsum, for one, names its primitives by its equation."""
        parts = [part for part in scope.split("/") if re.fullmatch(r"[\w.-]+", part)]
        return "/".join(parts[1:] if parts and parts[0] == self._root else parts)


def _computed(eqn: Any, given: Sequence[Array]) -> list[np.ndarray] | None:
    """What a primitive gives; None if it depends on the input, or on the length of the batch."""
    name, values = eqn.primitive.name, []
    shapes = [var.aval.shape for var in (*eqn.invars, *eqn.outvars)]
    if name in _LAZY or not all(isinstance(n, int) for shape in shapes for n in shape):
        return None
    for array in given:
        if (value := array.value()) is None:
            return None
        values.append(np.broadcast_to(value, array.shape))
    if name in _NUMPY:  # without a compilation for each shape
        return [_NUMPY[name](*values).astype(eqn.outvars[0].aval.dtype)]
    results = eqn.primitive.bind(*values, **eqn.params)
    return [np.asarray(result) for result in (results if eqn.primitive.multiple_results else [results])]


_NUMPY: dict[str, Callable[..., Any]] = {
    **{name: getattr(np, name) for name in ("add", "square", "sqrt", "exp", "log")},
    **{"sub": np.subtract, "mul": np.multiply, "neg": np.negative, "max": np.maximum, "min": np.minimum},
    "rsqrt": lambda x: 1 / np.sqrt(x),
}
