"""VGG in torchvision's, timm's, Keras' and Caffe's names."""

from jft.models.vgg import VGG
from jft.weights.rules.rule import Family, Rules, layer, torch_dense, torch_layer, torch_norm
from jft.weights.rules.transforms import dense_of_conv, dense_of_map


def _torch_blocks(model: VGG) -> Rules:
    index = 0  # in torch's flat list of layers
    for block, convs in enumerate(model.convs, 1):
        for i in range(1, convs + 1):
            yield from torch_layer(f"block{block}/conv{block}_{i}", f"features.{index}")
            if model.batch_norm:
                yield from torch_norm(f"block{block}/bn{block}_{i}", f"features.{index + 1}")
            index += 3 if model.batch_norm else 2  # convolution, perhaps BatchNorm, ReLU
        index += 1  # max pool


def _torchvision(model: VGG) -> Rules:
    yield from _torch_blocks(model)
    yield from torch_layer("fc6/dense", "classifier.0", dense_of_map(model.grid))
    yield from torch_dense("fc7/dense", "classifier.3")
    yield from torch_dense("head/head", "classifier.6")


def _timm(model: VGG) -> Rules:
    yield from _torch_blocks(model)
    yield from torch_layer("fc6/dense", "pre_logits.fc1", dense_of_conv(model.grid))
    yield from torch_layer("fc7/dense", "pre_logits.fc2", dense_of_conv(1))
    yield from torch_dense("head/head", "head.fc")


def _keras(model: VGG) -> Rules:
    for block, convs in enumerate(model.convs, 1):
        for i in range(1, convs + 1):
            yield from layer(f"block{block}/conv{block}_{i}", f"block{block}_conv{i}")
    yield from layer("fc6/dense", "fc1")  # Keras flattens channel last, as jft
    yield from layer("fc7/dense", "fc2")
    yield from layer("head/head", "predictions")


def _caffe(model: VGG) -> Rules:
    for block, convs in enumerate(model.convs, 1):
        for i in range(1, convs + 1):
            yield from layer(f"block{block}/conv{block}_{i}", f"conv{block}_{i}")
    yield from layer("fc6/dense", "fc6")  # channel first in Caffe; its converters re-order what they write as npy
    yield from layer("fc7/dense", "fc7")
    yield from layer("head/head", "fc8")


FAMILY = Family(VGG, {"torchvision": _torchvision, "timm": _timm, "keras": _keras, "caffe": _caffe})
