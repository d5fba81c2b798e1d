"""EfficientNet, EfficientNet-Lite and EfficientNetV2. At the smaller size, SAME pads maps of odd sides too."""

from typing import Any

import torch

from families import Reference

_SMALL = 72
SIZES = {"b0": 224, "b1": 240, "b2": 260, "b3": 300, "b4": 380, "b5": 456, "b6": 528, "b7": 600}
LITES = {"lite0": 224, "lite1": 240, "lite2": 260, "lite3": 300, "lite4": 380}
V2 = {"b0": 224, "b1": 240, "b2": 260, "b3": 300, "s": 384, "m": 480, "l": 480}
# Those of timm's own trainings.
_TIMM = {"b0": (224,), "b1": (240, 256), "b2": (288,), "b3": (320,), "b4": (384,)}

TORCHVISION = {
    **{
        f"efficientnet_{name}": Reference(f"efficientnet_{name}", (288 if name == "b2" else size, _SMALL))
        for name, size in SIZES.items()
    },
    **{f"efficientnet_v2_{name}": Reference(f"efficientnet_v2_{name}", (V2[name], _SMALL)) for name in "sml"},
}
TIMM = {
    **{f"efficientnet_{name}": Reference(f"efficientnet_{name}", (*sizes, _SMALL)) for name, sizes in _TIMM.items()},
    **{f"efficientnet_{name}.tf": Reference(f"tf_efficientnet_{name}", (size, _SMALL)) for name, size in SIZES.items()},
    **{f"efficientnet_{name}": Reference(f"tf_efficientnet_{name}", (size, _SMALL)) for name, size in LITES.items()},
    **{f"efficientnet_v2_{name}": Reference(f"tf_efficientnetv2_{name}", (size, _SMALL)) for name, size in V2.items()},
    "efficientnet_lite0.ra": Reference("efficientnet_lite0", (224, _SMALL)),
}
# Keras' first model divides images by 255 and, without weights, normalizes by mean 0 and variance 1.
KERAS = {
    **{
        f"efficientnet_{name}": Reference(f"EfficientNet{name.upper()}", (size, _SMALL), scale=255.0)
        for name, size in SIZES.items()
    },
    **{
        f"efficientnet_v2_{name}": Reference(
            f"EfficientNetV2{name.upper()}", (size, _SMALL), {"include_preprocessing": False}
        )
        for name, size in V2.items()
    },
}


def torchvision_stages(model: torch.nn.Module) -> dict[str, str]:
    """The stem, a sequence for each stage, the top."""
    *stages, top = range(len(model.features))
    names = ["stem", *(f"stage{i}" for i in stages[1:]), "top"]
    return {**{name: f"features.{i}" for name, i in zip(names, (*stages, top), strict=True)}, "head": "classifier.1"}


def timm_stages(model: torch.nn.Module) -> dict[str, str]:
    """timm's stages are jft's; its BatchNorms activate."""
    stages = {f"stage{i}": f"blocks.{i - 1}" for i in range(1, len(model.blocks) + 1)}
    return {"stem": "bn1", **stages, "top": "bn2", "head": "classifier"}


def keras_stages(model: Any) -> dict[str, str]:
    """A stage ends with its last block's sum or, where it has none, BatchNorm or activation."""
    layers = [layer.name for layer in model.layers if layer.name.startswith("block")]
    ends = {f"stage{name[5]}": name for name in layers}  # the last one of each stage stays
    return {"stem": "stem_activation", **ends, "top": "top_activation", "head": "predictions"}
