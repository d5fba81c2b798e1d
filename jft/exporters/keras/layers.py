"""The Keras layers of ONNX's operators, as far as the networks of the zoo need them; see `build`."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jft.exporters.keras import build as building
from jft.exporters.keras.build import CHANNELS_LAST, Builder, Value
from jft.exporters.onnx.graph import Node, scalar, size


def build(keras: Any, output: Node, root: str = "") -> Any:
    """Makes a Keras model of a graph, see `build.build`."""
    return building.build(keras, _LAYERS, output, root)


def _values(node: Node) -> list[np.ndarray] | None:
    """What a node reads beside its first input, if all are constants."""
    values = [held.value for held in node.inputs[1:]]
    return None if any(value is None for value in values) else values  # type: ignore[return-value]


def _weighted(layer: Any, x: Any, weights: Sequence[np.ndarray]) -> Any:
    result = layer(x)
    layer.set_weights(weights)
    return result


def _conv(b: Builder, node: Node, name: str) -> Value | None:
    values, how, layers = _values(node), node.attributes, b.keras.layers
    if values is None or node.rank != 4:
        return None
    kernel, *bias = values
    channels, groups = node.inputs[0].shape[1], how["group"]
    own = {"strides": how["strides"], "dilation_rate": how["dilations"], "use_bias": bool(bias), "name": name}
    x, padding = _padded(b, node, kernel.shape[2:], how["dilations"], 0.0, same=True)
    if groups == channels > 1:
        many = kernel.shape[0] // channels
        layer = layers.DepthwiseConv2D(kernel.shape[2:], padding=padding, depth_multiplier=many, **own)
        kernel = kernel.reshape(channels, many, *kernel.shape[2:]).transpose(2, 3, 0, 1)
    else:
        layer = layers.Conv2D(kernel.shape[0], kernel.shape[2:], padding=padding, groups=groups, **own)
        kernel = kernel.transpose(2, 3, 1, 0)
    return Value(_weighted(layer, x, [kernel, *bias]), CHANNELS_LAST)


def _padded(
    b: Builder, node: Node, window: Sequence[int], dilations: Sequence[int], value: float, *, same: bool
) -> tuple[Any, str]:
    """What a layer with a window reads, and its `padding`: 'same' where that is what TensorFlow calls so."""
    pads, x = node.attributes["pads"], b.at(node.inputs[0], CHANNELS_LAST)
    if not any(pads):
        return x, "valid"
    if same and pads == _same(node, window, dilations):
        return x, "same"
    edges = ((pads[0], pads[2]), (pads[1], pads[3]))
    if value == 0:
        return b.keras.layers.ZeroPadding2D(edges)(x), "valid"
    return b.keras.ops.pad(x, ((0, 0), *edges, (0, 0)), constant_values=value), "valid"


def _same(node: Node, window: Sequence[int], dilations: Sequence[int]) -> tuple[int, ...]:
    """What TensorFlow pads with padding='same': top, left, bottom, right."""
    before, after = [], []
    for length, step, width, apart in zip(
        node.inputs[0].shape[2:], node.attributes["strides"], window, dilations, strict=True
    ):
        total = max((math.ceil(length / step) - 1) * step + (width - 1) * apart + 1 - length, 0)
        before.append(total // 2)
        after.append(total - total // 2)
    return (*before, *after)


def _pool(b: Builder, node: Node, name: str) -> Value | None:
    how = node.attributes
    if node.rank != 4 or how.get("ceil_mode") or any(n != 1 for n in how.get("dilations", ())):
        return None
    window, largest = how["kernel_shape"], node.op == "MaxPool"
    counted = not largest and bool(how["count_include_pad"])
    # Nothing is below 0 after a ReLU, and zeros quantize better than the lowest number does.
    value = float(np.finfo(np.float32).min) if largest and node.inputs[0].op != "Relu" else 0.0
    x, padding = _padded(b, node, window, (1, 1), value, same=not counted)
    if padding == "valid" and any(how["pads"]) and not largest and not counted:
        return None
    layer = b.keras.layers.MaxPooling2D if largest else b.keras.layers.AveragePooling2D
    return Value(layer(window, how["strides"], padding, name=name)(x), CHANNELS_LAST)


def _mean_of_map(b: Builder, node: Node, name: str) -> Value:
    x = b.at(node.inputs[0], CHANNELS_LAST)
    return Value(b.keras.layers.GlobalAveragePooling2D(keepdims=True, name=name)(x), CHANNELS_LAST)


def _reshape(b: Builder, node: Node, name: str) -> Value | None:
    """Of one image's numbers alone."""
    if node.shape[0] != node.inputs[0].shape[0] or not all(isinstance(n, int) for n in node.shape[1:]):
        return None
    layer = b.keras.layers.Flatten(name=name) if node.rank == 2 else b.keras.layers.Reshape(node.shape[1:], name=name)
    return Value(layer(b.flat(node.inputs[0])), (*range(node.rank),))


def _product(b: Builder, node: Node, name: str) -> Value | None:
    """A dense layer on the last axis, or the product of two values."""
    values, plain = _values(node), (*range(node.rank),)
    if values is None:
        both = [b.plain(held) for held in node.inputs if held.value is None]
        return Value(b.keras.ops.matmul(*both), plain) if len(both) == len(node.inputs) == 2 else None
    if values[0].ndim != 2 or node.attributes:
        return None
    layer = b.keras.layers.Dense(values[0].shape[1], use_bias=len(values) > 1, name=name)
    return Value(_weighted(layer, b.plain(node.inputs[0]), values), plain)


def _batchnorm(b: Builder, node: Node, name: str) -> Value | None:
    if (values := _values(node)) is None or node.rank not in (2, 4):
        return None
    order = CHANNELS_LAST if node.rank == 4 else (0, 1)
    layer = b.keras.layers.BatchNormalization(epsilon=node.attributes["epsilon"], name=name)
    return Value(_weighted(layer, b.at(node.inputs[0], order), values), order)


def _layernorm(b: Builder, node: Node, name: str) -> Value | None:
    if (values := _values(node)) is None or node.attributes["axis"] not in (-1, node.rank - 1):
        return None
    layer = b.keras.layers.LayerNormalization(epsilon=node.attributes["epsilon"], name=name)
    return Value(_weighted(layer, b.plain(node.inputs[0]), values), (*range(node.rank),))


def _binary(b: Builder, node: Node, name: str) -> Value | None:
    one, other = node.inputs
    if one.value is None and other.value is None:
        if one.rank != other.rank:
            return None
        order = b[one].order
        layer = b.keras.layers.Add if node.op == "Add" else b.keras.layers.Multiply
        return Value(layer(name=name)([b[one].tensor, b.at(other, order)]), order)
    held, given = (one, other) if one.value is None else (other, one)
    x, numbers = b[held], scalar(given)
    if numbers is None:
        assert given.value is not None
        array = given.value.reshape((1,) * (node.rank - given.value.ndim) + given.value.shape).transpose(x.order)
        if array.size != array.shape[-1]:
            function = b.keras.ops.add if node.op == "Add" else b.keras.ops.multiply
            return Value(function(x.tensor, array), x.order)
        numbers = array.ravel().tolist()
    scale_and_offset = (1.0, numbers) if node.op == "Add" else (numbers, 0.0)
    return Value(b.keras.layers.Rescaling(*scale_and_offset, name=name)(x.tensor), x.order)


def _quotient(b: Builder, node: Node, name: str) -> Value | None:
    one, other = node.inputs
    if one.value is not None or other.value is not None or one.rank != other.rank:
        return None
    return Value(b.keras.ops.divide(b[one].tensor, b.at(other, b[one].order)), b[one].order)


def _at_least(b: Builder, node: Node, name: str) -> Value | None:
    x, least = b[node.inputs[0]], scalar(node.inputs[1])
    return None if least is None else Value(b.keras.ops.maximum(x.tensor, least), x.order)


def _reduced(b: Builder, node: Node, name: str) -> Value | None:
    """Sums and means over axes."""
    if (values := _values(node)) is None:
        return None
    x, kept = b.plain(node.inputs[0]), bool(node.attributes["keepdims"])
    axes = tuple(int(axis) % node.inputs[0].rank for axis in values[0])
    function = b.keras.ops.sum if node.op == "ReduceSum" else b.keras.ops.mean
    return None if 0 in axes else Value(function(x, axis=axes, keepdims=kept), (*range(node.rank),))


def _concat(b: Builder, node: Node, name: str) -> Value | None:
    if any(held.value is not None for held in node.inputs):
        return None
    first = b[node.inputs[0]]
    parts = [b.at(held, first.order) for held in node.inputs]
    return Value(b.keras.layers.Concatenate(first.place(node.attributes["axis"]), name=name)(parts), first.order)


def _for_each(b: Builder, node: Node, name: str) -> Value | None:
    """A constant for each image, such as a class token: the bias of a dense layer that reads zeros."""
    (given, _), layers = node.inputs, b.keras.layers
    if given.value is None or isinstance(node.shape[0], int) or len(b.images.shape) != 4:
        return None
    whole = np.broadcast_to(given.value, (1, *node.shape[1:])).ravel()
    zeros = layers.Rescaling(0.0)(b.images)
    dense = layers.Dense(size(node.shape[1:]), name=name)
    x = _weighted(
        dense, layers.GlobalAveragePooling2D()(zeros), [np.zeros((b.images.shape[-1], whole.size), np.float32), whole]
    )
    return Value(layers.Reshape(node.shape[1:])(x), (*range(node.rank),))


def _clip(b: Builder, node: Node, name: str) -> Value | None:
    low, high = (scalar(held) for held in node.inputs[1:])
    x = b[node.inputs[0]]
    return None if low != 0 or high is None else Value(b.keras.layers.ReLU(high, name=name)(x.tensor), x.order)


def _transpose(b: Builder, node: Node, name: str) -> Value | None:
    """The same tensor, whose axes have other numbers."""
    x, perm = b[node.inputs[0]], node.attributes["perm"]
    return Value(x.tensor, tuple(perm.index(axis) for axis in x.order)) if perm[0] == 0 else None


def _cast(b: Builder, node: Node, name: str) -> Value | None:
    x = b[node.inputs[0]]
    return Value(b.keras.layers.Rescaling(1.0, name=name)(x.tensor), x.order) if node.dtype == np.float32 else None


def _slice(b: Builder, node: Node, name: str) -> Value | None:
    """A crop, or an axis in reverse order, such as BGR."""
    values, held = _values(node), node.inputs[0]
    if values is None:
        return None
    x, crops = b[held], {}
    result = x.tensor
    for start, end, axis, step in zip(*(value.tolist() for value in values), strict=True):
        place, length = x.place(axis), held.shape[axis]
        if not isinstance(length, int):
            return None
        if step == -1 and start == length - 1 and end <= -length:
            result = b.keras.ops.flip(result, axis=place)
        elif step == 1 and 0 <= start < end <= length and 0 < place < held.rank - 1:
            crops[place] = (start, length - end)
        elif step != 1 or (start, end) != (0, length):
            return None
    if any(map(any, crops.values())):
        layer = getattr(b.keras.layers, f"Cropping{held.rank - 2}D", None)
        edges = tuple(crops.get(place, (0, 0)) for place in range(1, held.rank - 1))
        if layer is None:
            return None
        result = layer(edges[0] if held.rank == 3 else edges, name=name)(result)
    return Value(result, x.order)


def _softmax(b: Builder, node: Node, name: str) -> Value:
    x = b[node.inputs[0]]
    return Value(b.keras.layers.Softmax(x.place(node.attributes["axis"]), name=name)(x.tensor), x.order)


def _activation(function: str) -> Callable[[Builder, Node, str], Value | None]:
    def make(b: Builder, node: Node, name: str) -> Value | None:
        how, x = node.attributes, b[node.inputs[0]]
        if node.op == "HardSigmoid" and not (np.isclose(how["alpha"], 1 / 6) and how["beta"] == 0.5):
            return None
        if node.op == "Gelu" and how.get("approximate", "none") == "tanh":
            return Value(b.keras.ops.gelu(x.tensor, approximate=True), x.order)
        return Value(b.keras.layers.Activation(function, name=name)(x.tensor), x.order)

    return make


def _function(name: str) -> Callable[[Builder, Node, str], Value]:
    """An operation of each number."""

    def make(b: Builder, node: Node, _: str) -> Value:
        x = b[node.inputs[0]]
        return Value(getattr(b.keras.ops, name)(x.tensor), x.order)

    return make


_LAYERS: dict[str, building.Make] = {
    "Add": _binary,
    "AveragePool": _pool,
    "BatchNormalization": _batchnorm,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "Div": _quotient,
    "Expand": _for_each,
    "Flatten": _reshape,
    "Gelu": _activation("gelu"),
    "Gemm": _product,
    "GlobalAveragePool": _mean_of_map,
    "HardSigmoid": _activation("hard_sigmoid"),
    "HardSwish": _activation("hard_silu"),
    "LayerNormalization": _layernorm,
    "MatMul": _product,
    "Max": _at_least,
    "MaxPool": _pool,
    "Mul": _binary,
    "Reciprocal": _function("reciprocal"),
    "ReduceMean": _reduced,
    "ReduceSum": _reduced,
    "Relu": _activation("relu"),
    "Reshape": _reshape,
    "Sigmoid": _activation("sigmoid"),
    "Slice": _slice,
    "Softmax": _softmax,
    "Sqrt": _function("sqrt"),
    "Squeeze": _reshape,
    "Tanh": _activation("tanh"),
    "Transpose": _transpose,
}
