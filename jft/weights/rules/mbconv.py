"""Rules of networks of inverted bottlenecks that several families share: timm's; blocks of torchvision's and Keras'."""

from collections.abc import Iterator

from jft.models.mbconv import Block, MBConvNet, Unit
from jft.weights.rules import transforms
from jft.weights.rules.rule import Rule, Rules, keras_norm, same, torch_dense, torch_layer, torch_norm


def blocks(model: MBConvNet) -> Iterator[tuple[int, int, Block]]:
    """(stage, block in it, block): both from 0."""
    for stage, members in enumerate(model.blocks()):
        for number, block in enumerate(members):
            yield stage, number, block


def torch_conv_norm(target: str, conv: str, norm: str) -> Rules:
    """A `ConvNorm` of torch's convolution and BatchNorm."""
    yield from torch_layer(f"{target}/conv", conv, bias=False)
    yield from torch_norm(f"{target}/bn", norm)


def parts(block: Block) -> list[Unit | None]:
    """Its convolutions, and None for its squeeze-excitation, in order."""
    *units, last = block.units()
    return [*units, *([None] if block.squeezed else []), last]


def torchvision_block(block: Block, target: str, source: str) -> Rules:
    """A block as a sequence."""
    for i, unit in enumerate(parts(block)):
        if unit is not None:
            yield from torch_conv_norm(f"{target}/{unit.name}", f"{source}.{i}.0", f"{source}.{i}.1")
        else:
            yield from torch_layer(f"{target}/se/reduce", f"{source}.{i}.fc1")
            yield from torch_layer(f"{target}/se/expand", f"{source}.{i}.fc2")


def keras_conv(target: str, conv: str, norm: str, *, depthwise: bool = False) -> Rules:
    """A `ConvNorm` of Keras' convolution and BatchNorm."""
    yield Rule(f"params/{target}/conv/kernel", (f"{conv}/0",), transforms.depthwise if depthwise else same)
    yield from keras_norm(f"{target}/bn", norm)


def timm(model: MBConvNet) -> Rules:
    """timm's EfficientNet, and its MobileNets V1 and V2."""
    yield from torch_conv_norm("stem", "conv_stem", "bn1")
    for stage, number, block in blocks(model):
        yield from timm_block(block, f"stage{stage + 1}/block{number}", f"blocks.{stage}.{number}")
    if model.top_width:
        yield from torch_conv_norm("top", "conv_head", "bn2")
    yield from torch_dense("head/head", "classifier")


def timm_block(block: Block, target: str, source: str) -> Rules:
    """A block, whose convolutions are called by their kind; its BatchNorms are counted or, in 'uib', each one's own."""
    norms = iter(range(1, 4))
    for unit in parts(block):
        if unit is None:
            yield from torch_layer(f"{target}/se/reduce", f"{source}.se.conv_reduce")
            yield from torch_layer(f"{target}/se/expand", f"{source}.se.conv_expand")
        elif block.row.kind == "uib":
            name = f"{source}.{_TIMM_UIB[unit.name]}"
            yield from torch_conv_norm(f"{target}/{unit.name}", f"{name}.conv", f"{name}.bn")
        else:
            name = _TIMM[tuple(other.name for other in block.units())][unit.name]
            yield from torch_conv_norm(f"{target}/{unit.name}", f"{source}.{name}", f"{source}.bn{next(norms)}")


# Names of a block's units -> timm's.
_TIMM = {
    ("conv",): {"conv": "conv"},
    ("expand", "project"): {"expand": "conv_exp", "project": "conv_pwl"},
    ("depthwise", "project"): {"depthwise": "conv_dw", "project": "conv_pw"},
    ("expand", "depthwise", "project"): {"expand": "conv_pw", "depthwise": "conv_dw", "project": "conv_pwl"},
}
_TIMM_UIB = {"start": "dw_start", "expand": "pw_exp", "depthwise": "dw_mid", "project": "pw_proj"}
