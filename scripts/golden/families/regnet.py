"""Stages of RegNet."""

from collections.abc import Mapping
from typing import Any

from families import Reference

# torchvision's name: timm's. Of X-400MF, Y-800MF and Y-8GF timm has its own and, as _tv, torchvision's.
_NAMES = {
    "regnet_x_400mf": "regnetx_004_tv",
    "regnet_x_800mf": "regnetx_008",
    "regnet_x_1_6gf": "regnetx_016",
    "regnet_x_3_2gf": "regnetx_032",
    "regnet_x_8gf": "regnetx_080",
    "regnet_y_400mf": "regnety_004",
    "regnet_y_800mf": "regnety_008_tv",
    "regnet_y_1_6gf": "regnety_016",
    "regnet_y_3_2gf": "regnety_032",
    "regnet_y_8gf": "regnety_080_tv",
}
TORCHVISION = {name: Reference(name, (224, 64), device="cpu") for name in _NAMES}
TIMM = {name: Reference(theirs, (224, 64)) for name, theirs in _NAMES.items()}


def torchvision_stages(model: Any) -> Mapping[str, str]:
    """jft's name of each stage -> torchvision's module."""
    del model
    return {"stem": "stem", **{f"stage{i}": f"trunk_output.block{i}" for i in (1, 2, 3, 4)}, "head": "fc"}


def timm_stages(model: Any) -> Mapping[str, str]:
    """jft's name of each stage -> timm's module."""
    del model
    return {"stem": "stem", **{f"stage{i}": f"s{i}" for i in (1, 2, 3, 4)}, "head": "head.fc"}
