"""Convolutions and products of matrices."""

from collections.abc import Callable, Sequence
from typing import Any

from jft.exporters.onnx.arrays import Array, Unsupported, in_layout
from jft.exporters.onnx.graph import Node, size
from jft.exporters.onnx.shapes import cropped, node_reshaped


def _conv(walk: Any, eqn: Any, x: Array, kernel: Array) -> Array:
    params, (result,) = eqn.params, eqn.outvars
    numbers = params["dimension_numbers"]
    if params["batch_group_count"] != 1 or any(n != 1 for n in params["lhs_dilation"]):
        raise Unsupported("a transposed convolution")
    image = walk.expanded(in_layout(x, numbers.lhs_spec)).node
    weights = walk.expanded(in_layout(kernel, numbers.rhs_spec)).node
    pads = params["padding"]
    image = cropped(walk, image, ((0, 0), (0, 0), *pads))
    before, after = zip(*pads, strict=True)
    layout = numbers.out_spec
    node = walk.node(
        *("Conv", image, weights),
        shape=[result.aval.shape[axis] for axis in layout],
        dtype=result.aval.dtype,
        strides=(*params["window_strides"],),
        dilations=(*params["rhs_dilation"],),
        pads=(*(max(n, 0) for n in before), *(max(n, 0) for n in after)),
        group=params["feature_group_count"],
    )
    return Array(node, layout, tuple(result.aval.shape))


def _dot_general(walk: Any, eqn: Any, x: Array, y: Array) -> Array:
    ((x_sum, y_sum), (x_batch, y_batch)), (result,) = eqn.params["dimension_numbers"], eqn.outvars
    x_free, y_free = _others(x, (*x_sum, *x_batch)), _others(y, (*y_sum, *y_batch))
    left = walk.expanded(in_layout(x, (*x_batch, *x_free, *x_sum))).node
    right = walk.expanded(in_layout(y, (*y_batch, *y_sum, *y_free))).node
    shape = tuple(result.aval.shape)
    batch = [x.shape[axis] for axis in x_batch]
    many = len(x_free) if not batch and len(y_sum) == len(y_free) == 1 else 1  # axes that MatMul lets pass
    left = _matrix(walk, left, batch, [x.shape[a] for a in x_free], [x.shape[a] for a in x_sum], many)
    right = _matrix(walk, right, batch, [y.shape[a] for a in y_sum], [y.shape[a] for a in y_free], 1)
    product = walk.node("MatMul", left, right, shape=(*left.shape[:-1], right.shape[-1]), dtype=result.aval.dtype)
    node = node_reshaped(walk, product, shape)
    return Array(node, (*range(len(shape)),), shape)


def _others(array: Array, but: Sequence[int]) -> list[int]:
    return [axis for axis in range(array.rank) if axis not in but]


def _matrix(walk: Any, node: Node, batch: list, rows: list, columns: list, keep: int) -> Node:
    """[*batch, *rows, *columns] as matrices [*batch, rows, columns]; `keep` axes of rows stay, if there are as many."""
    kept = rows if len(rows) == keep else [_product(rows)]
    return node_reshaped(walk, node, (*batch, *kept, _product(columns)))


def _product(lengths: list) -> Any:
    return size(lengths)


RULES: dict[str, Callable[..., Array]] = {"conv_general_dilated": _conv, "dot_general": _dot_general}
