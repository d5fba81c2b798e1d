"""EfficientNet in timm's names, and in those of the package efficientnet_lite_pytorch."""

from jft.models.efficientnet import EfficientNet
from jft.weights.rules.mbconv import blocks, timm, torch_conv_norm
from jft.weights.rules.rule import Family, Rules, torch_dense


def _lite(model: EfficientNet) -> Rules:
    """Blocks are numbered through; a block without expansion has no `_bn0`."""
    yield from torch_conv_norm("stem", "_conv_stem", "_bn0")
    norms = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}
    for i, (stage, number, block) in enumerate(blocks(model)):
        target, source = f"stage{stage + 1}/block{number}", f"_blocks.{i}"
        for unit in block.units():
            norm = norms[unit.name]
            yield from torch_conv_norm(f"{target}/{unit.name}", f"{source}._{unit.name}_conv", f"{source}.{norm}")
    yield from torch_conv_norm("top", "_conv_head", "_bn1")
    yield from torch_dense("head/head", "_fc")


FAMILY = Family(EfficientNet, {"timm": timm, "efficientnet_lite": _lite})
