"""A network of the ONNX writer's graph as a Keras model: maps with their channels last, layers with their weights."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jft.exporters.onnx.graph import CONSTANT, INPUT, Node, ordered, scalar

_CHANNELS_LAST = (0, 2, 3, 1)


def build(keras: Any, output: Node, root: str = "") -> Any:
    """Makes a Keras model, whose first axis is of any length.

    Args:
      keras: the module.
      output: of a graph of `simplify.simplified` that reads images with their channels last.
      root: name of the Flax module, which names of layers leave out.

    Returns:
      A `keras.Model` of the same function.

    Raises:
      ValueError: an operator has no Keras layer; names it and its stage.
    """
    nodes = [node for node in ordered(output) if node.op != CONSTANT]
    images = next(node for node in nodes if node.op == INPUT)
    start = keras.Input(images.shape[1:], dtype=str(images.dtype), name="images")
    made, names = {id(images): start}, _Names(root)
    for node in nodes:
        if node.op == INPUT:
            continue
        if (make := _LAYERS.get(node.op)) is None or (result := make(keras, node, made, names(node))) is None:
            stage = f"stage {node.scope!r}" if node.scope else "the network"
            raise ValueError(f"{stage} has no translation to Keras: ONNX's operator {node.op}. Export ONNX instead.")
        made[id(node)] = result
    return keras.Model(start, made[id(output)])


class _Names:
    """Names of layers: the path of the module, numbered where one path has several."""

    def __init__(self, root: str) -> None:
        self._root, self._counts = f"{root}/", dict[str, int]()

    def __call__(self, node: Node) -> str:
        path = (node.scope.removeprefix(self._root) or node.op.lower()).replace("/", "_")
        self._counts[path] = count = self._counts.get(path, 0) + 1
        return path if count == 1 else f"{path}_{count}"


def _values(node: Node, first: int = 1) -> list[np.ndarray] | None:
    values = [held.value for held in node.inputs[first:]]
    return None if any(value is None for value in values) else values  # type: ignore[return-value]


def _weighted(layer: Any, x: Any, weights: Sequence[np.ndarray]) -> Any:
    result = layer(x)
    layer.set_weights(weights)
    return result


def _conv(keras: Any, node: Node, made: dict, name: str) -> Any:
    values, how = _values(node), node.attributes
    if values is None or node.rank != 4:
        return None
    kernel, *bias = values
    channels, groups = node.inputs[0].shape[1], how["group"]
    own = {"strides": how["strides"], "dilation_rate": how["dilations"], "use_bias": bool(bias), "name": name}
    x, padding = _padded(keras, node, made[id(node.inputs[0])], kernel.shape[2:], how["dilations"], 0.0, same=True)
    if groups == channels > 1:
        many = kernel.shape[0] // channels
        layer = keras.layers.DepthwiseConv2D(kernel.shape[2:], padding=padding, depth_multiplier=many, **own)
        return _weighted(layer, x, [kernel.reshape(channels, many, *kernel.shape[2:]).transpose(2, 3, 0, 1), *bias])
    layer = keras.layers.Conv2D(kernel.shape[0], kernel.shape[2:], padding=padding, groups=groups, **own)
    return _weighted(layer, x, [kernel.transpose(2, 3, 1, 0), *bias])


def _padded(
    keras: Any, node: Node, x: Any, window: Sequence[int], dilations: Sequence[int], value: float, *, same: bool
) -> tuple[Any, str]:
    """What a layer with a window reads, and its `padding`: 'same' where that is what TensorFlow calls so."""
    pads = node.attributes["pads"]
    if not any(pads):
        return x, "valid"
    if same and pads == _same(node, window, dilations):
        return x, "same"
    edges = ((pads[0], pads[2]), (pads[1], pads[3]))
    if value == 0:
        return keras.layers.ZeroPadding2D(edges)(x), "valid"
    return keras.ops.pad(x, ((0, 0), *edges, (0, 0)), constant_values=value), "valid"


def _same(node: Node, window: Sequence[int], dilations: Sequence[int]) -> tuple[int, ...]:
    """What TensorFlow pads with padding='same': top, left, bottom, right."""
    before, after = [], []
    for size, step, width, apart in zip(
        node.inputs[0].shape[2:], node.attributes["strides"], window, dilations, strict=True
    ):
        total = max((math.ceil(size / step) - 1) * step + (width - 1) * apart + 1 - size, 0)
        before.append(total // 2)
        after.append(total - total // 2)
    return (*before, *after)


def _pool(keras: Any, node: Node, made: dict, name: str) -> Any:
    how, x = node.attributes, made[id(node.inputs[0])]
    if node.rank != 4 or how.get("ceil_mode") or any(n != 1 for n in how.get("dilations", ())):
        return None
    window, largest = how["kernel_shape"], node.op == "MaxPool"
    counted = not largest and bool(how["count_include_pad"])
    # Nothing is below 0 after a ReLU, and zeros quantize better than the lowest number does.
    value = float(np.finfo(np.float32).min) if largest and node.inputs[0].op != "Relu" else 0.0
    x, padding = _padded(keras, node, x, window, (1, 1), value, same=not counted)
    if padding == "valid" and any(how["pads"]) and not largest and not counted:
        return None
    layer = keras.layers.MaxPooling2D if largest else keras.layers.AveragePooling2D
    return layer(window, how["strides"], padding, name=name)(x)


def _mean(keras: Any, node: Node, made: dict, name: str) -> Any:
    return keras.layers.GlobalAveragePooling2D(keepdims=True, name=name)(made[id(node.inputs[0])])


def _flatten(keras: Any, node: Node, made: dict, name: str) -> Any:
    x = made[id(node.inputs[0])]
    if node.attributes["axis"] != 1:
        return None
    if node.inputs[0].rank == 4 and node.inputs[0].shape[2:] != (1, 1):
        x = keras.layers.Permute((3, 1, 2))(x)  # ONNX's order
    return keras.layers.Flatten(name=name)(x)


def _dense(keras: Any, node: Node, made: dict, name: str) -> Any:
    values = _values(node)
    if values is None or node.rank != 2 or node.attributes:
        return None
    return _weighted(
        keras.layers.Dense(values[0].shape[1], use_bias=len(values) > 1, name=name), made[id(node.inputs[0])], values
    )


def _batchnorm(keras: Any, node: Node, made: dict, name: str) -> Any:
    values = _values(node)
    if values is None:
        return None
    layer = keras.layers.BatchNormalization(epsilon=node.attributes["epsilon"], name=name)
    return _weighted(layer, made[id(node.inputs[0])], values)


def _binary(keras: Any, node: Node, made: dict, name: str) -> Any:
    held = [inner for inner in node.inputs if inner.value is None]
    if len(held) == 2:
        layer = keras.layers.Add if node.op == "Add" else keras.layers.Multiply
        if held[0].rank != held[1].rank:
            return None
        return layer(name=name)([made[id(inner)] for inner in held])
    (value,) = (inner.value for inner in node.inputs if inner.value is not None)
    numbers: Any = scalar(next(inner for inner in node.inputs if inner.value is not None))
    if numbers is None:
        # One for each channel; others have no layer.
        if value.size != node.shape[1] or value.ndim != node.rank or value.shape[1] != value.size:
            return None
        numbers = value.ravel().tolist()
    one = (1.0, numbers) if node.op == "Add" else (numbers, 0.0)
    return keras.layers.Rescaling(*one, name=name)(made[id(held[0])])


def _concat(keras: Any, node: Node, made: dict, name: str) -> Any:
    axis = node.attributes["axis"]
    last = _CHANNELS_LAST.index(axis) if node.rank == 4 else axis
    if any(inner.value is not None for inner in node.inputs):
        return None
    return keras.layers.Concatenate(last, name=name)([made[id(inner)] for inner in node.inputs])


def _clip(keras: Any, node: Node, made: dict, name: str) -> Any:
    low, high = (scalar(inner) for inner in node.inputs[1:])
    if low != 0 or high is None:
        return None
    return keras.layers.ReLU(high, name=name)(made[id(node.inputs[0])])


def _transpose(keras: Any, node: Node, made: dict, name: str) -> Any:
    """The one that makes the images' channels first, which here stay last."""
    return made[id(node.inputs[0])] if _as_given(node.inputs[0]) and node.attributes["perm"] == (0, 3, 1, 2) else None


def _as_given(node: Node) -> bool:
    """Whether a node is the images, or a part of them, before their channels come first."""
    return node.op == INPUT or (node.op == "Slice" and _as_given(node.inputs[0]))


def _cast(keras: Any, node: Node, made: dict, name: str) -> Any:
    return keras.layers.Rescaling(1.0, name=name)(made[id(node.inputs[0])]) if node.dtype == np.float32 else None


def _slice(keras: Any, node: Node, made: dict, name: str) -> Any:
    """A crop, or channels in reverse order: BGR."""
    values, x = _values(node), node.inputs[0]
    if values is None or x.rank != 4:
        return None
    starts, ends, axes, steps = (value.tolist() for value in values)
    cut = dict(zip(axes, zip(starts, ends, steps, strict=True), strict=True))
    height, width, channels = (1, 2, 3) if _as_given(x) else (2, 3, 1)
    last = x.shape[channels]
    reverse = cut.pop(channels, None)
    if reverse is not None and (reverse[0] != last - 1 or reverse[1] > -last or reverse[2] != -1):
        return None
    edges = []
    for axis in (height, width):
        start, end, step = cut.pop(axis, (0, x.shape[axis], 1))
        if step != 1 or not 0 <= start < end <= x.shape[axis]:
            return None
        edges.append((start, x.shape[axis] - end))
    if cut:
        return None
    result = made[id(x)]
    if any(map(any, edges)):
        result = keras.layers.Cropping2D(tuple(edges), name=name)(result)
    return result if reverse is None else keras.ops.flip(result, axis=-1)


def _activation(function: str) -> Callable[..., Any]:
    def make(keras: Any, node: Node, made: dict, name: str) -> Any:
        how = node.attributes
        if node.op == "HardSigmoid" and not (np.isclose(how["alpha"], 1 / 6) and how["beta"] == 0.5):
            return None
        if node.op == "Softmax" and (node.rank, how["axis"]) not in ((2, 1), (2, -1)):
            return None
        return keras.layers.Activation(function, name=name)(made[id(node.inputs[0])])

    return make


_LAYERS: dict[str, Callable[..., Any]] = {
    "Add": _binary,
    "AveragePool": _pool,
    "BatchNormalization": _batchnorm,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "Flatten": _flatten,
    "Gemm": _dense,
    "GlobalAveragePool": _mean,
    "HardSigmoid": _activation("hard_sigmoid"),
    "HardSwish": _activation("hard_silu"),
    "MatMul": _dense,
    "MaxPool": _pool,
    "Mul": _binary,
    "Relu": _activation("relu"),
    "Sigmoid": _activation("sigmoid"),
    "Slice": _slice,
    "Softmax": _activation("softmax"),
    "Tanh": _activation("tanh"),
    "Transpose": _transpose,
}
