"""ConvNeXt in torchvision's, timm's and Keras' names."""

import re
from collections.abc import Iterator

from jft.models.convnext import SIZES, ConvNeXt
from jft.weights.rules.rule import (
    Family,
    Rule,
    Rules,
    keras_layer_norm,
    layer,
    synonyms,
    torch_dense,
    torch_layer,
    torch_layer_norm,
)
from jft.weights.rules.transforms import conv_of_dense, conv_of_keras_dense, hwio, same, vector


def _blocks(model: ConvNeXt) -> Iterator[tuple[int, int]]:
    """(stage, block), both from 0."""
    return ((stage, block) for stage, blocks in enumerate(model.blocks) for block in range(blocks))


def _torchvision(model: ConvNeXt) -> Rules:
    yield from torch_layer("stem/conv", "features.0.0")
    yield from torch_layer_norm("stem/norm", "features.0.1")
    for stage, block in _blocks(model):  # what downsamples before a stage is an element of its own there
        if stage and block == 0:
            yield from torch_layer_norm(f"stage{stage + 1}/downsample_norm", f"features.{2 * stage}.0")
            yield from torch_layer(f"stage{stage + 1}/downsample_conv", f"features.{2 * stage}.1")
        target, source = f"stage{stage + 1}/block{block}", f"features.{2 * stage + 1}.{block}"
        yield from torch_layer(f"{target}/dwconv", f"{source}.block.0")
        yield from torch_layer_norm(f"{target}/norm", f"{source}.block.2")
        yield from torch_layer(f"{target}/pwconv1", f"{source}.block.3", conv_of_dense)
        yield from torch_layer(f"{target}/pwconv2", f"{source}.block.5", conv_of_dense)
        yield Rule(f"params/{target}/layer_scale/gamma", (f"{source}.layer_scale",), vector)
    yield from torch_layer_norm("norm/norm", "classifier.0")
    yield from torch_dense("head/head", "classifier.2")


def _timm(model: ConvNeXt) -> Rules:
    pointwise = hwio if model.width < SIZES["tiny"][1] else conv_of_dense  # the small ones' are 1x1 convolutions
    yield from torch_layer("stem/conv", "stem.0")
    yield from torch_layer_norm("stem/norm", "stem.1")
    for stage, block in _blocks(model):
        if stage and block == 0:
            yield from torch_layer_norm(f"stage{stage + 1}/downsample_norm", f"stages.{stage}.downsample.0")
            yield from torch_layer(f"stage{stage + 1}/downsample_conv", f"stages.{stage}.downsample.1")
        target, source = f"stage{stage + 1}/block{block}", f"stages.{stage}.blocks.{block}"
        yield from torch_layer(f"{target}/dwconv", f"{source}.conv_dw")
        yield from torch_layer_norm(f"{target}/norm", f"{source}.norm")
        yield from torch_layer(f"{target}/pwconv1", f"{source}.mlp.fc1", pointwise)
        yield from torch_layer(f"{target}/pwconv2", f"{source}.mlp.fc2", pointwise)
        if model.grn:
            yield from torch_layer_norm(f"{target}/grn", f"{source}.mlp.grn")
        else:
            yield Rule(f"params/{target}/layer_scale/gamma", (f"{source}.gamma",), same)
    yield from torch_layer_norm("norm/norm", "head.norm")
    yield from torch_dense("head/head", "head.fc")


def _keras(model: ConvNeXt) -> Rules:
    """Keras' stem and downsampling are models within the model, whose tensors count on."""
    yield from layer("stem/conv", f"{_name(model)}_stem")
    yield from keras_layer_norm("stem/norm", f"{_name(model)}_stem", 2)
    for stage, block in _blocks(model):
        if stage and block == 0:
            source = f"{_name(model)}_downsampling_block_{stage - 1}"
            yield from keras_layer_norm(f"stage{stage + 1}/downsample_norm", source)
            yield from layer(f"stage{stage + 1}/downsample_conv", source, 2)
        target, source = f"stage{stage + 1}/block{block}", f"{_name(model)}_stage_{stage}_block_{block}"
        yield from layer(f"{target}/dwconv", f"{source}_depthwise_conv")
        yield from keras_layer_norm(f"{target}/norm", f"{source}_layernorm")
        for i in (1, 2):
            yield from layer(f"{target}/pwconv{i}", f"{source}_pointwise_conv_{i}", kernel=conv_of_keras_dense)
        yield Rule(f"params/{target}/layer_scale/gamma", (f"{source}_layer_scale/0",), same)
    yield from keras_layer_norm("norm/norm", f"{_name(model)}_head_layernorm")
    yield from layer("head/head", f"{_name(model)}_head_dense")


def _name(model: ConvNeXt) -> str:
    """Keras' name of the model, with which its layers begin; one of another size gets that of none."""
    names = {sizes: f"convnext_{size}" for size, sizes in SIZES.items()}
    return names.get((tuple(model.blocks), model.width), "convnext")


def _keras_names(model: ConvNeXt, names: tuple[str, ...]) -> dict[str, str]:
    """Files without top end in a LayerNorm that Keras numbers as the process made it: the head's, over averages."""
    norms = [name for name in names if re.fullmatch(r"layer_normalization(_\d+)?/[01]", name)]
    return synonyms(names, {name: f"{_name(model)}_head_layernorm/{name[-1]}" for name in norms})


FAMILY = Family(ConvNeXt, {"torchvision": _torchvision, "timm": _timm, "keras": _keras}, {"keras": _keras_names})
