"""EfficientNet. At the smaller size, SAME pads maps of odd sizes too."""

import torch

from families import Reference

SIZES = {"lite0": 224, "lite1": 240, "lite2": 260, "lite3": 300, "lite4": 380}
TIMM = {f"efficientnet_{name}": Reference(f"tf_efficientnet_{name}", (size, 72)) for name, size in SIZES.items()}


def timm_stages(model: torch.nn.Module) -> dict[str, str]:
    """timm's stages are jft's; BatchNorms activate."""
    stages = {f"stage{i}": f"blocks.{i - 1}" for i in range(1, len(model.blocks) + 1)}
    return {"stem": "bn1", **stages, "top": "bn2", "head": "classifier"}
