"""The names of networks of inverted bottlenecks that several families share: timm's."""

from collections.abc import Iterator

from jft.models.mbconv import Block, MBConvNet
from jft.weights.rules.rule import Rules, torch_dense, torch_layer, torch_norm


def blocks(model: MBConvNet) -> Iterator[tuple[int, int, Block]]:
    """(stage, block in it, block): both from 0."""
    for stage, members in enumerate(model.blocks()):
        for number, block in enumerate(members):
            yield stage, number, block


def torch_conv_norm(target: str, conv: str, norm: str) -> Rules:
    """A `ConvNorm` of torch's convolution and BatchNorm."""
    yield from torch_layer(f"{target}/conv", conv, bias=False)
    yield from torch_norm(f"{target}/bn", norm)


def timm(model: MBConvNet) -> Rules:
    """timm's EfficientNet: a block's convolutions are called by their kind, its BatchNorms counted."""
    yield from torch_conv_norm("stem", "conv_stem", "bn1")
    for stage, number, block in blocks(model):
        target, source = f"stage{stage + 1}/block{number}", f"blocks.{stage}.{number}"
        names = _TIMM[tuple(unit.name for unit in block.units())]
        for i, (unit, name) in enumerate(zip(block.units(), names, strict=True), 1):
            yield from torch_conv_norm(f"{target}/{unit.name}", f"{source}.{name}", f"{source}.bn{i}")
        if block.squeezed:
            for layer in ("reduce", "expand"):
                yield from torch_layer(f"{target}/se/{layer}", f"{source}.se.conv_{layer}")
    yield from torch_conv_norm("top", "conv_head", "bn2")
    yield from torch_dense("head/head", "classifier")


# Names of a block's units -> timm's.
_TIMM = {
    ("depthwise", "project"): ("conv_dw", "conv_pw"),
    ("expand", "depthwise", "project"): ("conv_pw", "conv_dw", "conv_pwl"),
}
