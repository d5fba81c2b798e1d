"""Stages of DenseNet."""

from collections.abc import Mapping
from typing import Any

from families import Reference

TORCHVISION = TIMM = {f"densenet{n}": Reference(f"densenet{n}", (224, 64)) for n in (121, 161, 169, 201)}
KERAS = {f"densenet{n}": Reference(f"DenseNet{n}", (224, 64)) for n in (121, 169, 201)}


def torchvision_stages(model: Any) -> Mapping[str, str]:
    """jft's name of each stage -> torchvision's module; the ReLU after the last BatchNorm is none."""
    return {**timm_stages(model), "norm5": "features.norm5:relu", "head": "classifier"}


def timm_stages(model: Any) -> Mapping[str, str]:
    """jft's name of each stage -> timm's module."""
    names = [name for name, _ in model.features.named_children() if name[:5] in ("dense", "trans", "norm5")]
    return {"stem": "features.pool0", **{name: f"features.{name}" for name in names}, "head": "classifier"}


def keras_stages(model: Any) -> Mapping[str, str]:
    """jft's name of each stage -> Keras' layer."""
    layers = [layer.name for layer in model.layers]
    blocks = {int(layer[4]) - 1: layer for layer in layers if layer.endswith("_concat")}  # the last of each to come
    stages = {"stem": "pool1"}
    for block, layer in blocks.items():
        stages |= {f"denseblock{block}": layer, f"transition{block}": f"pool{block + 1}_pool"}
    del stages["transition4"]
    return {**stages, "norm5": "relu", "head": "predictions"}
