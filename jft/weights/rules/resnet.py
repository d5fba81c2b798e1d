"""ResNet in torchvision's (and so timm's), the robustness library's and Keras' names."""

from collections.abc import Iterator

from jft.models.resnet import ResNet
from jft.weights.rules.rule import (
    Family,
    Rules,
    keras_conv_norm,
    layer,
    prefixed,
    synonyms,
    torch_dense,
    torch_layer,
    torch_norm,
)


def _blocks(model: ResNet) -> Iterator[tuple[int, int, bool]]:
    """(layer, block, whether its shortcut is a projection): layer from 1, block from 0."""
    for stage, blocks in enumerate(model.blocks, 1):
        for block in range(blocks):
            yield stage, block, block == 0 and (stage > 1 or model.bottleneck)


def _torch(model: ResNet) -> Rules:
    yield from torch_layer("stem/conv1", "conv1", bias=False)
    yield from torch_norm("stem/bn1", "bn1")
    for stage, block, projection in _blocks(model):
        target, source = f"layer{stage}/block{block}", f"layer{stage}.{block}"
        for i in range(1, 4 if model.bottleneck else 3):
            yield from torch_layer(f"{target}/conv{i}", f"{source}.conv{i}", bias=False)
            yield from torch_norm(f"{target}/bn{i}", f"{source}.bn{i}")
        if projection:
            yield from torch_layer(f"{target}/downsample_conv", f"{source}.downsample.0", bias=False)
            yield from torch_norm(f"{target}/downsample_bn", f"{source}.downsample.1")
    yield from torch_dense("head/head", "fc")


def _robustness(model: ResNet) -> Rules:
    """The AttackerModel of github.com/MadryLab/robustness, which holds torchvision's network as `model`."""
    return prefixed("model.", _torch(model))


def _keras(model: ResNet) -> Rules:
    yield from keras_conv_norm("stem/conv1", "stem/bn1", "conv1")
    for stage, block, projection in _blocks(model):
        target, source = f"layer{stage}/block{block}", f"conv{stage + 1}_block{block + 1}"
        for i in (1, 2, 3):
            yield from keras_conv_norm(f"{target}/conv{i}", f"{target}/bn{i}", f"{source}_{i}")
        if projection:
            yield from keras_conv_norm(f"{target}/downsample_conv", f"{target}/downsample_bn", f"{source}_0")
    yield from layer("head/head", "predictions")


def _keras_names(model: ResNet, names: tuple[str, ...]) -> dict[str, str]:
    """keras-applications 1.0.7, which the published files belong to, called the classifier 'probs'."""
    del model
    return synonyms(names, {f"probs/{i}": f"predictions/{i}" for i in (0, 1)})


FAMILY = Family(
    ResNet,
    {"torchvision": _torch, "timm": _torch, "robustness": _robustness, "keras": _keras},
    {"keras": _keras_names},
)
