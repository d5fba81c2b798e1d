"""MobileNet V1 to V4 in the names of torchvision, timm and Keras."""

from jft.models.mbconv import MBConvNet
from jft.models.mobilenet import MobileNetV1, MobileNetV2, MobileNetV3, MobileNetV4
from jft.weights.rules import transforms
from jft.weights.rules.mbconv import blocks, keras_conv, parts, timm, timm_block, torch_conv_norm, torchvision_block
from jft.weights.rules.rule import Family, Rules, layer, torch_dense, torch_layer


def _torchvision_v2(model: MobileNetV2) -> Rules:
    """Blocks are counted through from 1; a block's last convolution and its BatchNorm have numbers of their own."""
    yield from torch_conv_norm("stem", "features.0.0", "features.0.1")
    i = 0
    for i, (stage, number, block) in enumerate(blocks(model), 1):
        target, source = f"stage{stage + 1}/block{number}", f"features.{i}.conv"
        *units, last = block.units()
        for k, unit in enumerate(units):
            yield from torch_conv_norm(f"{target}/{unit.name}", f"{source}.{k}.0", f"{source}.{k}.1")
        k = len(units)
        yield from torch_conv_norm(f"{target}/{last.name}", f"{source}.{k}", f"{source}.{k + 1}")
    yield from torch_conv_norm("top", f"features.{i + 1}.0", f"features.{i + 1}.1")
    yield from torch_dense("head/head", "classifier.1")


def _torchvision_v3(model: MobileNetV3) -> Rules:
    """Blocks are counted through from 1."""
    yield from torch_conv_norm("stem", "features.0.0", "features.0.1")
    i = 0
    for i, (stage, number, block) in enumerate(blocks(model), 1):
        yield from torchvision_block(block, f"stage{stage + 1}/block{number}", f"features.{i}.block")
    yield from torch_conv_norm("top", f"features.{i + 1}.0", f"features.{i + 1}.1")
    yield from torch_dense("head/hidden", "classifier.0")
    yield from torch_dense("head/head", "classifier.3")


def _timm_v3(model: MBConvNet) -> Rules:
    """timm's MobileNetV3 and V4, whose top is the last of the blocks."""
    yield from torch_conv_norm("stem", "conv_stem", "bn1")
    for stage, number, block in blocks(model):
        yield from timm_block(block, f"stage{stage + 1}/block{number}", f"blocks.{stage}.{number}")
    top = f"blocks.{len(model.table)}.0"
    yield from torch_conv_norm("top", f"{top}.conv", f"{top}.bn1")
    if model.hidden_norm:
        yield from torch_conv_norm("head/hidden", "conv_head", "norm_head")
    else:
        yield from torch_layer("head/hidden", "conv_head", transforms.dense_of_conv(1))
    yield from torch_dense("head/head", "classifier")


def _keras_v1(model: MobileNetV1) -> Rules:
    """Blocks are counted through from 1."""
    yield from keras_conv("stem", "conv1", "conv1_bn")
    for i, (stage, number, _) in enumerate(blocks(model), 1):
        target = f"stage{stage + 1}/block{number}"
        yield from keras_conv(f"{target}/depthwise", f"conv_dw_{i}", f"conv_dw_{i}_bn", depthwise=True)
        yield from keras_conv(f"{target}/project", f"conv_pw_{i}", f"conv_pw_{i}_bn")
    yield from layer("head/head", "conv_preds", kernel=transforms.dense_of_keras_conv)


def _keras_v2(model: MobileNetV2) -> Rules:
    """Blocks are counted through from 0, which is called 'expanded_conv'."""
    yield from keras_conv("stem", "Conv1", "bn_Conv1")
    for i, (stage, number, block) in enumerate(blocks(model)):
        source = f"block_{i}_" if i else "expanded_conv_"
        for unit in block.units():
            target, conv = f"stage{stage + 1}/block{number}/{unit.name}", f"{source}{unit.name}"
            yield from keras_conv(target, conv, f"{conv}_BN", depthwise=unit.depthwise)
    yield from keras_conv("top", "Conv_1", "Conv_1_bn")
    yield from layer("head/head", "predictions")


def _keras_v3(model: MobileNetV3) -> Rules:
    """As in V2, 'expanded_conv' has the number 0."""
    yield from keras_conv("stem", "conv", "conv_bn")
    for i, (stage, number, block) in enumerate(blocks(model)):
        target, source = f"stage{stage + 1}/block{number}", f"expanded_conv_{i}_" if i else "expanded_conv_"
        for unit in parts(block):
            if unit is None:
                yield from layer(f"{target}/se/reduce", f"{source}squeeze_excite_conv")
                yield from layer(f"{target}/se/expand", f"{source}squeeze_excite_conv_1")
            else:
                conv = f"{source}{unit.name}"
                yield from keras_conv(f"{target}/{unit.name}", conv, f"{conv}_bn", depthwise=unit.depthwise)
    yield from keras_conv("top", "conv_1", "conv_1_bn")
    yield from layer("head/hidden", "conv_2", kernel=transforms.dense_of_keras_conv)
    yield from layer("head/head", "logits", kernel=transforms.dense_of_keras_conv)


FAMILIES = (
    Family(MobileNetV1, {"timm": timm, "keras": _keras_v1}),
    Family(MobileNetV2, {"torchvision": _torchvision_v2, "timm": timm, "keras": _keras_v2}),
    Family(MobileNetV3, {"torchvision": _torchvision_v3, "timm": _timm_v3, "keras": _keras_v3}),
    Family(MobileNetV4, {"timm": _timm_v3}),
)
