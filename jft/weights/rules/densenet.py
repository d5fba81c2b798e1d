"""DenseNet in torchvision's (and so timm's) and Keras' names."""

import re

from jft.models.densenet import DenseNet
from jft.weights.rules import transforms
from jft.weights.rules.rule import Family, Rule, Rules, layer, synonyms, torch_dense, torch_layer, torch_norm
from jft.weights.rules.transforms import same


def _torch(model: DenseNet) -> Rules:
    yield from torch_layer("stem/conv0", "features.conv0", bias=False)
    yield from torch_norm("stem/norm0", "features.norm0")
    for block, number in enumerate(model.blocks, 1):
        for i in range(1, number + 1):
            unit = f"denseblock{block}/denselayer{i}"
            source = f"features.{unit.replace('/', '.')}"
            for part in (1, 2):
                yield from torch_norm(f"{unit}/norm{part}", f"{source}.norm{part}")
                yield from torch_layer(f"{unit}/conv{part}", f"{source}.conv{part}", bias=False)
        if block < len(model.blocks):
            yield from torch_norm(f"transition{block}/norm", f"features.transition{block}.norm")
            yield from torch_layer(f"transition{block}/conv", f"features.transition{block}.conv", bias=False)
    yield from torch_norm("norm5/norm5", "features.norm5")
    yield from torch_dense("head/head", "classifier")


def _torch_names(model: DenseNet, names: tuple[str, ...]) -> dict[str, str]:
    """The published files still say 'denselayer1.norm.1.weight', which torchvision renames when it loads them."""
    del model
    return synonyms(names, {name: re.sub(r"(denselayer\d+\.(?:norm|conv))\.(?=\d)", r"\1", name) for name in names})


def _keras(model: DenseNet) -> Rules:
    yield from _keras_conv("stem/conv0", "conv1_conv")
    yield from _keras_norm("stem/norm0", "conv1_bn")
    for block, number in enumerate(model.blocks, 1):
        for i in range(1, number + 1):
            unit, source = f"denseblock{block}/denselayer{i}", f"conv{block + 1}_block{i}"
            for part in (1, 2):
                yield from _keras_norm(f"{unit}/norm{part}", f"{source}_{part - 1}_bn")
                yield from _keras_conv(f"{unit}/conv{part}", f"{source}_{part}_conv")
        if block < len(model.blocks):
            yield from _keras_norm(f"transition{block}/norm", f"pool{block + 1}_bn")
            yield from _keras_conv(f"transition{block}/conv", f"pool{block + 1}_conv")
    yield from _keras_norm("norm5/norm5", "bn")
    yield from layer("head/head", "predictions")


def _keras_conv(target: str, source: str) -> Rules:
    yield Rule(f"params/{target}/kernel", (f"{source}/0",), same)


def _keras_norm(target: str, source: str) -> Rules:
    """A BatchNorm of epsilon 1.001e-5."""
    yield Rule(f"params/{target}/scale", (f"{source}/0",), same)
    yield Rule(f"params/{target}/bias", (f"{source}/1",), same)
    yield Rule(f"batch_stats/{target}/mean", (f"{source}/2",), same)
    yield Rule(f"batch_stats/{target}/var", (f"{source}/3",), transforms.keras_variance)


def _keras_names(model: DenseNet, names: tuple[str, ...]) -> dict[str, str]:
    """The names of keras-applications, which the published files were written by."""
    del model
    old = {"conv1/conv": "conv1_conv", "conv1/bn": "conv1_bn", "fc1000": "predictions"}
    return synonyms(names, {f"{before}/{i}": f"{after}/{i}" for before, after in old.items() for i in range(4)})


FAMILY = Family(
    DenseNet,
    {"torchvision": _torch, "timm": _torch, "keras": _keras},
    {"torchvision": _torch_names, "timm": _torch_names, "keras": _keras_names},
)
