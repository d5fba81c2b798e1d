"""Functions of each element."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax import lax

from jft.exporters.onnx.arrays import Array, Unsupported, broadcast, in_layout
from jft.exporters.onnx.graph import Node, constant

# ONNX has the same operator.
_SAME = {
    **{"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "pow": "Pow", "max": "Max", "min": "Min"},
    **{"neg": "Neg", "abs": "Abs", "sign": "Sign", "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "erf": "Erf"},
    **{"tanh": "Tanh", "logistic": "Sigmoid", "floor": "Floor", "ceil": "Ceil", "sin": "Sin", "cos": "Cos"},
    **{"not": "Not", "and": "And", "or": "Or", "xor": "Xor"},
    **{"eq": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual"},
}
_OF_BOOLS = ("not", "and", "or", "xor")


def aligned(given: Sequence[Array]) -> tuple[list[Node], tuple[int, ...]]:
    """The nodes of arrays, in a layout that they share, and that layout."""
    rank = max(array.rank for array in given)
    full = [array for array in given if array.rank == rank]
    # An array that is broadcast is cheap to transpose, and a constant costs nothing.
    chosen = max(full, key=lambda array: (array.node.value is None, sum(n != 1 for n in array.node.shape)))
    nodes = []
    for array in given:
        if array.rank == rank:
            nodes.append(in_layout(array, chosen.layout).node)
        elif array.node.value is not None:  # a number, which JAX leaves without axes
            nodes.append(constant(array.node.value.reshape((1,) * rank), scope=array.node.scope))
        else:
            nodes.append(array.node)
    return nodes, chosen.layout


def elementwise(walk: Any, eqn: Any, given: Sequence[Array], make: Callable[..., Node]) -> Array:
    """An array of what `make` gives of the arrays' nodes, called with `shape` and `dtype` of its output."""
    nodes, layout = aligned(given)
    shape = broadcast([node.shape for node in nodes if node.rank == len(layout)])
    (result,) = eqn.outvars
    return Array(make(*nodes, shape=shape, dtype=result.aval.dtype), layout, tuple(result.aval.shape))


def _same(op: str, walk: Any, eqn: Any, *given: Array) -> Array:
    if eqn.primitive.name in _OF_BOOLS and given[0].node.dtype != bool:
        raise Unsupported(f"JAX's primitive {eqn.primitive.name!r} of integers")
    return elementwise(walk, eqn, given, functools.partial(walk.node, op))


def _chain(make: Callable[..., Node], walk: Any, eqn: Any, *given: Array) -> Array:
    """Of several operators: `make` is given a function (operator, *nodes) -> node, and the nodes."""

    def made(*nodes: Node, shape: Any, dtype: Any) -> Node:
        def op(name: str, *inputs: Node) -> Node:
            return walk.node(name, *inputs, shape=shape, dtype=bool if name == "Equal" else dtype)

        return make(op, *nodes)

    return elementwise(walk, eqn, given, made)


def _like(node: Node, value: float) -> Node:
    return constant(np.full((1,) * node.rank, value, node.dtype))


def _power(walk: Any, eqn: Any, x: Array) -> Array:
    exponent = eqn.params["y"]
    if exponent == 2:
        return _chain(lambda op, x: op("Mul", x, x), walk, eqn, x)
    return _chain(lambda op, x: op("Pow", x, _like(x, exponent)), walk, eqn, x)


def _convert(walk: Any, eqn: Any, x: Array) -> Array:
    to = np.dtype(eqn.params["new_dtype"])
    if to == x.node.dtype:
        return x
    if to.kind == "V" or to.name == "bfloat16":
        raise Unsupported(f"numbers of type {to.name}")
    node = walk.node("Cast", x.node, shape=x.node.shape, dtype=to, to=to)
    return dataclasses.replace(x, node=node)


def _round(walk: Any, eqn: Any, x: Array) -> Array:
    if eqn.params["rounding_method"] != lax.RoundingMethod.TO_NEAREST_EVEN:
        raise Unsupported("rounding of halves away from zero")
    return _chain(lambda op, x: op("Round", x), walk, eqn, x)


def _remainder(walk: Any, eqn: Any, *given: Array) -> Array:
    return elementwise(walk, eqn, given, functools.partial(walk.node, "Mod", fmod=1))


def _clamp(walk: Any, eqn: Any, low: Array, x: Array, high: Array) -> Array:
    return _chain(lambda op, low, x, high: op("Min", op("Max", x, low), high), walk, eqn, low, x, high)


def _select(walk: Any, eqn: Any, which: Array, *cases: Array) -> Array:
    if len(cases) != 2 or which.node.dtype != bool:
        raise Unsupported(f"a choice among {len(cases)} arrays")
    return elementwise(walk, eqn, [which, *reversed(cases)], functools.partial(walk.node, "Where"))


RULES: dict[str, Callable[..., Array]] = {
    **{name: functools.partial(_same, op) for name, op in _SAME.items()},
    "ne": functools.partial(_chain, lambda op, x, y: op("Not", op("Equal", x, y))),
    "square": functools.partial(_chain, lambda op, x: op("Mul", x, x)),
    "rsqrt": functools.partial(_chain, lambda op, x: op("Reciprocal", op("Sqrt", x))),
    "erfc": functools.partial(_chain, lambda op, x: op("Sub", _like(x, 1), op("Erf", x))),
    "log1p": functools.partial(_chain, lambda op, x: op("Log", op("Add", x, _like(x, 1)))),
    "expm1": functools.partial(_chain, lambda op, x: op("Sub", op("Exp", x), _like(x, 1))),
    "integer_pow": _power,
    "convert_element_type": _convert,
    "round": _round,
    "rem": _remainder,
    "clamp": _clamp,
    "select_n": _select,
}
