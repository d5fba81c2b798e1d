"""Finds an expression in a graph."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jft.exporters.onnx.graph import Node, scalar

# A name that stands for any node, and for the same wherever it comes again; a number, for a constant of that value; or
# an operator and what its inputs are, those of a commutative one in any order.
Pattern = str | float | tuple

_COMMUTATIVE = ("Add", "Mul", "Max", "Min")


def match(pattern: Pattern, node: Node, found: Mapping[str, Node] | None = None) -> dict[str, Node] | None:
    """The nodes that the names of a pattern stand for, and under '=OPERATOR' those it is made of; None without a match.

    Args:
      pattern: see `Pattern`.
      node: the last of the expression.
      found: what names stand for already.
    """
    found = dict(found or {})
    if isinstance(pattern, str):
        known = found.setdefault(pattern, node)
        return found if known is node else None
    if not isinstance(pattern, tuple):
        value = scalar(node)
        return found if value is not None and np.float32(value) == np.float32(pattern) else None
    op, *inputs = pattern
    if node.op != op or len(node.inputs) < len(inputs):
        return None
    found[f"={op}"] = node
    orders: list[Any] = [node.inputs]
    if op in _COMMUTATIVE and len(node.inputs) == 2:
        orders.append(node.inputs[::-1])
    for order in orders:
        result: dict[str, Node] | None = found
        for inner, held in zip(inputs, order[: len(inputs)], strict=True):
            result = match(inner, held, result)
            if result is None:
                break
        if result is not None:
            return result
    return None
