"""Stages of ResNet, ResNeXt and Wide ResNet."""

from collections.abc import Mapping
from typing import Any

from families import Reference

_NAMES = (
    *(f"resnet{n}" for n in (18, 34, 50, 101, 152)),
    *("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d"),
    *("wide_resnet50_2", "wide_resnet101_2"),
)
TORCHVISION = TIMM = {name: Reference(name, (224, 96)) for name in _NAMES}
ROBUSTNESS = {name: TORCHVISION[name] for name in ("resnet18", "resnet50", "wide_resnet50_2")}


def torchvision_stages(model: Any) -> Mapping[str, str]:
    """jft's name of each stage -> torchvision's module."""
    del model
    return {"stem": "maxpool", **{f"layer{i}": f"layer{i}" for i in (1, 2, 3, 4)}, "head": "fc"}


timm_stages = torchvision_stages
