"""Which tensors of a file become which leaf, dialect by dialect: tables that small functions spell out of a model.

What frameworks do differently is absorbed here wherever algebra allows: layouts, fc6's flatten order, a convolution's
bias before BatchNorm, BatchNorm's epsilon. What it does not allow is a module option in the catalog row.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from jft import tree
from jft.models import Chain
from jft.models.resnet import ResNet
from jft.models.squeezenet import SQUEEZE, SqueezeNet
from jft.models.vgg import VGG
from jft.weights.catalog import WeightSet


@dataclasses.dataclass(frozen=True)
class Rule:
    """One leaf and how it is made.

    Attributes:
      target: 'params/…' or 'batch_stats/…', the name of the leaf.
      sources: names of the tensors that `transform` takes, in order.
      transform: float32 arrays to the leaf; raises ValueError for shapes it cannot take.
    """

    target: str
    sources: tuple[str, ...]
    transform: Callable[..., np.ndarray]


# keras-applications 1.0.7, which the published ResNet files belong to, called the classifier 'probs'.
SYNONYMS = {"probs/0": "predictions/0", "probs/1": "predictions/1"}


def is_ignored(name: str) -> bool:
    """Whether a tensor has no meaning here: torch counts the batches that BatchNorm has seen."""
    return name.endswith(".num_batches_tracked")


def rules_for(row: WeightSet, model: Chain) -> list[Rule]:
    """All rules for a weight set: exactly one for each leaf of the model.

    Args:
      row: names the dialect; 'jft' has no rules, its names are the leaves' own.
      model: `create_model(row.model, **row.options)`.

    Returns:
      The rules, in the model's order.

    Raises:
      ValueError: nobody has published such a model in this dialect.
    """
    families = tree.choose(_RULES, row.dialect, what="dialect")
    names = {family.__name__: rules for family, rules in families.items()}
    return list(tree.choose(names, type(model).__name__, what=f"{row.dialect} family")(model))


def same(array: np.ndarray) -> np.ndarray:
    """The array itself."""
    return array


def hwio(kernel: np.ndarray) -> np.ndarray:
    """Convolution kernel, torch's [out, in, height, width] to [height, width, in, out]."""
    return kernel.transpose(2, 3, 1, 0)


def dense(weight: np.ndarray) -> np.ndarray:
    """Torch's [out, in] to [in, out]."""
    return weight.transpose(1, 0)


def dense_of_map(weight: np.ndarray, *, grid: int) -> np.ndarray:
    """[out, c * grid * grid], whose input torch flattens channel first, to [grid * grid * c, out], channel last."""
    return dense_of_conv(weight.reshape(weight.shape[0], -1, grid, grid))


def dense_of_conv(kernel: np.ndarray) -> np.ndarray:
    """A convolution that covers its whole input, [out, c, height, width], to [height * width * c, out]."""
    return hwio(kernel).reshape(-1, kernel.shape[0])


def centre(bias: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Running mean without the bias of the convolution before: (x + bias) - mean = x - (mean - bias)."""
    if bias.shape != mean.shape:
        raise ValueError("bias and mean differ in shape")
    return mean - bias


def keras_variance(variance: np.ndarray) -> np.ndarray:
    """Running variance that, with epsilon 1e-5, does what Keras' own does with its 1.001e-5."""
    return variance + np.float32(1.001e-5 - 1e-5)


# torchvision, and timm where it differs.


def _torch(target: str, source: str, kernel: Callable = hwio, *, bias: bool = True) -> Iterator[Rule]:
    yield Rule(f"params/{target}/kernel", (f"{source}.weight",), kernel)
    if bias:
        yield Rule(f"params/{target}/bias", (f"{source}.bias",), same)


def _torch_norm(target: str, source: str) -> Iterator[Rule]:
    yield Rule(f"params/{target}/scale", (f"{source}.weight",), same)
    yield Rule(f"params/{target}/bias", (f"{source}.bias",), same)
    yield Rule(f"batch_stats/{target}/mean", (f"{source}.running_mean",), same)
    yield Rule(f"batch_stats/{target}/var", (f"{source}.running_var",), same)


def _torch_vgg_blocks(model: VGG) -> Iterator[Rule]:
    index = 0  # in torch's flat list of layers
    for block, convs in enumerate(model.convs, 1):
        for i in range(1, convs + 1):
            yield from _torch(f"block{block}/conv{block}_{i}", f"features.{index}")
            if model.batch_norm:
                yield from _torch_norm(f"block{block}/bn{block}_{i}", f"features.{index + 1}")
            index += 3 if model.batch_norm else 2  # convolution, perhaps BatchNorm, ReLU
        index += 1  # max pool


def _torchvision_vgg(model: VGG) -> Iterator[Rule]:
    yield from _torch_vgg_blocks(model)
    yield from _torch("fc6/dense", "classifier.0", functools.partial(dense_of_map, grid=model.grid))
    yield from _torch("fc7/dense", "classifier.3", dense)
    yield from _torch("head/head", "classifier.6", dense)


def _timm_vgg(model: VGG) -> Iterator[Rule]:
    yield from _torch_vgg_blocks(model)
    yield from _torch("fc6/dense", "pre_logits.fc1", dense_of_conv)
    yield from _torch("fc7/dense", "pre_logits.fc2", dense_of_conv)
    yield from _torch("head/head", "head.fc", dense)


def _residual_blocks(model: ResNet) -> Iterator[tuple[int, int, bool]]:
    """(layer, block, whether its shortcut is a projection): layer from 1, block from 0."""
    for layer, blocks in enumerate(model.blocks, 1):
        for block in range(blocks):
            yield layer, block, block == 0 and (layer > 1 or model.bottleneck)


def _torch_resnet(model: ResNet) -> Iterator[Rule]:
    yield from _torch("stem/conv1", "conv1", bias=False)
    yield from _torch_norm("stem/bn1", "bn1")
    for layer, block, projection in _residual_blocks(model):
        target, source = f"layer{layer}/block{block}", f"layer{layer}.{block}"
        for i in range(1, 4 if model.bottleneck else 3):
            yield from _torch(f"{target}/conv{i}", f"{source}.conv{i}", bias=False)
            yield from _torch_norm(f"{target}/bn{i}", f"{source}.bn{i}")
        if projection:
            yield from _torch(f"{target}/downsample_conv", f"{source}.downsample.0", bias=False)
            yield from _torch_norm(f"{target}/downsample_bn", f"{source}.downsample.1")
    yield from _torch("head/head", "fc", dense)


def _fires() -> Iterable[tuple[str, tuple[str, ...]]]:
    return ((f"fire{i}", ("squeeze1x1", "expand1x1", "expand3x3")) for i, _ in enumerate(SQUEEZE, 2))


def _torchvision_squeezenet(model: SqueezeNet) -> Iterator[Rule]:
    yield from _torch("conv1/conv1", "features.0")
    index = 2 + ("conv1" in model.pools)  # after the convolution, its ReLU and perhaps a pool
    for fire, convs in _fires():
        for conv in convs:
            yield from _torch(f"{fire}/{conv}", f"features.{index}.{'squeeze' if conv == 'squeeze1x1' else conv}")
        index += 1 + (fire in model.pools)
    yield from _torch("head/head", "classifier.1")


# Keras and Caffe: '{layer}/{position}', kernels in jft's own layout.


def _layer(target: str, source: str) -> Iterator[Rule]:
    yield Rule(f"params/{target}/kernel", (f"{source}/0",), same)
    yield Rule(f"params/{target}/bias", (f"{source}/1",), same)


def _keras_conv_norm(conv: str, norm: str, source: str) -> Iterator[Rule]:
    yield Rule(f"params/{conv}/kernel", (f"{source}_conv/0",), same)
    yield Rule(f"params/{norm}/scale", (f"{source}_bn/0",), same)
    yield Rule(f"params/{norm}/bias", (f"{source}_bn/1",), same)
    yield Rule(f"batch_stats/{norm}/mean", (f"{source}_conv/1", f"{source}_bn/2"), centre)
    yield Rule(f"batch_stats/{norm}/var", (f"{source}_bn/3",), keras_variance)


def _keras_vgg(model: VGG) -> Iterator[Rule]:
    for block, convs in enumerate(model.convs, 1):
        for i in range(1, convs + 1):
            yield from _layer(f"block{block}/conv{block}_{i}", f"block{block}_conv{i}")
    yield from _layer("fc6/dense", "fc1")  # Keras flattens channel last, as jft
    yield from _layer("fc7/dense", "fc2")
    yield from _layer("head/head", "predictions")


def _keras_resnet(model: ResNet) -> Iterator[Rule]:
    yield from _keras_conv_norm("stem/conv1", "stem/bn1", "conv1")
    for layer, block, projection in _residual_blocks(model):
        target, source = f"layer{layer}/block{block}", f"conv{layer + 1}_block{block + 1}"
        for i in (1, 2, 3):
            yield from _keras_conv_norm(f"{target}/conv{i}", f"{target}/bn{i}", f"{source}_{i}")
        if projection:
            yield from _keras_conv_norm(f"{target}/downsample_conv", f"{target}/downsample_bn", f"{source}_0")
    yield from _layer("head/head", "predictions")


def _caffe_squeezenet(model: SqueezeNet) -> Iterator[Rule]:
    del model  # 1.0 and 1.1 have the same names
    yield from _layer("conv1/conv1", "conv1")
    for fire, convs in _fires():
        for conv in convs:
            yield from _layer(f"{fire}/{conv}", f"{fire}/{conv}")
    yield from _layer("head/head", "conv10")


_RULES: dict[str, dict[type[Chain], Callable[[Any], Iterator[Rule]]]] = {
    "torchvision": {VGG: _torchvision_vgg, ResNet: _torch_resnet, SqueezeNet: _torchvision_squeezenet},
    "timm": {VGG: _timm_vgg, ResNet: _torch_resnet},
    "keras": {VGG: _keras_vgg, ResNet: _keras_resnet},
    "caffe": {SqueezeNet: _caffe_squeezenet},
}
