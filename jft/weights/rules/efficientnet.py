"""EfficientNet in the names of torchvision, timm, Keras, and the package efficientnet_lite_pytorch."""

from jft.models.efficientnet import EfficientNet, EfficientNetV2
from jft.models.mbconv import MBConvNet
from jft.weights.rules.mbconv import blocks, keras_conv, parts, timm, torch_conv_norm, torchvision_block
from jft.weights.rules.rule import Family, Rules, layer, torch_dense


def _torchvision(model: MBConvNet) -> Rules:
    yield from torch_conv_norm("stem", "features.0.0", "features.0.1")
    for stage, number, block in blocks(model):
        target, source = f"stage{stage + 1}/block{number}", f"features.{stage + 1}.{number}.block"
        yield from torchvision_block(block, target, source)
    top = f"features.{len(model.table) + 1}"
    yield from torch_conv_norm("top", f"{top}.0", f"{top}.1")
    yield from torch_dense("head/head", "classifier.1")


def _keras(model: MBConvNet) -> Rules:
    """Blocks are called block1a, block2a, block2b and so on."""
    depthwise = "dwconv2" if isinstance(model, EfficientNetV2) else "dwconv"
    yield from keras_conv("stem", "stem_conv", "stem_bn")
    for stage, number, block in blocks(model):
        target, source = f"stage{stage + 1}/block{number}", f"block{stage + 1}{chr(ord('a') + number)}_"
        for unit in parts(block):
            if unit is None:
                yield from layer(f"{target}/se/reduce", f"{source}se_reduce")
                yield from layer(f"{target}/se/expand", f"{source}se_expand")
            elif unit.depthwise:
                yield from keras_conv(f"{target}/{unit.name}", f"{source}{depthwise}", f"{source}bn", depthwise=True)
            else:
                name = f"{source}{'project' if unit.name == 'conv' else unit.name}"  # fused and not expanding
                yield from keras_conv(f"{target}/{unit.name}", f"{name}_conv", f"{name}_bn")
    yield from keras_conv("top", "top_conv", "top_bn")
    yield from layer("head/head", "predictions")


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


_RULES = {"torchvision": _torchvision, "timm": timm, "keras": _keras}
FAMILIES = (Family(EfficientNet, {**_RULES, "efficientnet_lite": _lite}), Family(EfficientNetV2, _RULES))
