"""MobileNet V1 to V4. At the smaller size, SAME pads maps of odd sides too."""

from typing import Any

import numpy as np
import torch

from families import Reference

_SIZES = (224, 72)
TORCHVISION = {name: Reference(name, _SIZES) for name in ("mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small")}
TIMM = {
    "mobilenet_v1": Reference("mobilenetv1_100", _SIZES),
    "mobilenet_v2": Reference("mobilenetv2_100", _SIZES),
    "mobilenet_v2_050": Reference("mobilenetv2_050", _SIZES),
    "mobilenet_v2_140": Reference("mobilenetv2_140", _SIZES),
    "mobilenet_v3_large": Reference("mobilenetv3_large_100", _SIZES),
    "mobilenet_v3_large.tf": Reference("tf_mobilenetv3_large_100", _SIZES),
    "mobilenet_v3_small": Reference("mobilenetv3_small_100", _SIZES),
    "mobilenet_v3_small.tf": Reference("tf_mobilenetv3_small_100", _SIZES),
    "mobilenet_v4_conv_medium": Reference("mobilenetv4_conv_medium", (224, 256, 72)),
    "mobilenet_v4_conv_small": Reference("mobilenetv4_conv_small", (224, 256, 72)),
}
_PLAIN = {"include_preprocessing": False}
KERAS = {
    "mobilenet_v1": Reference("MobileNet", _SIZES),
    **{f"mobilenet_v1_{width:03}": Reference("MobileNet", _SIZES, {"alpha": width / 100}) for width in (75, 50, 25)},
    "mobilenet_v2": Reference("MobileNetV2", _SIZES),
    **{
        f"mobilenet_v2_{width:03}": Reference("MobileNetV2", _SIZES, {"alpha": width / 100})
        for width in (140, 130, 75, 50, 35)
    },
    "mobilenet_v3_large": Reference("MobileNetV3Large", _SIZES, _PLAIN),
    "mobilenet_v3_small": Reference("MobileNetV3Small", _SIZES, _PLAIN),
}
# Blocks of each stage, by V2's and V3's number of blocks, and by V1's layers.
_BLOCKS = {17: (1, 2, 3, 4, 3, 3, 1), 15: (1, 2, 3, 4, 2, 3), 11: (1, 2, 3, 2, 3)}
_V1 = {"stage1": 1, "stage2": 3, "stage3": 5, "stage4": 11, "stage5": 13}


# The published files of which proofs tell: name, SHA-256.
REAL = {
    "mobilenet_v1_025": (
        "mobilenet_2_5_224_tf_no_top.h5",
        "dbdb03ee2a22fd895301636cd328b234bb3a9952358f436d82f46b81e0d5b0bf",
    )
}


def keras_leaves(model: Any) -> dict[str, np.ndarray]:
    """The weights of a MobileNetV1 under jft's names, in its layouts."""
    ends, leaves, first = list(_V1.values()), {}, [1, *(end + 1 for end in _V1.values())]
    for layer in model.layers:
        if not layer.weights:
            continue
        _, kind, block, *_ = [*layer.name.removesuffix("_bn").split("_"), "", "", ""]
        name = "stem"
        if kind:
            stage = next(i for i, end in enumerate(ends) if int(block) <= end)
            unit = {"dw": "depthwise", "pw": "project"}[kind]
            name = f"stage{stage + 1}/block{int(block) - first[stage]}/{unit}"
        arrays = [np.asarray(weight) for weight in layer.weights]
        if layer.name.endswith("_bn"):
            kinds = ("params/{}/bn/scale", "params/{}/bn/bias", "batch_stats/{}/bn/mean", "batch_stats/{}/bn/var")
            leaves |= {key.format(name): array for key, array in zip(kinds, arrays, strict=True)}
        else:
            leaves[f"params/{name}/conv/kernel"] = arrays[0].transpose(0, 1, 3, 2) if kind == "dw" else arrays[0]
    return leaves


def torchvision_stages(model: torch.nn.Module) -> dict[str, str]:
    """Blocks lie side by side, between the stem and the top."""
    count, ends, done = len(model.features) - 2, {}, 0
    for stage, blocks in enumerate(_BLOCKS[count], 1):
        done += blocks
        ends[f"stage{stage}"] = f"features.{done}"
    return {
        "stem": "features.0",
        **ends,
        "top": f"features.{count + 1}",
        "head": f"classifier.{len(model.classifier) - 1}",
    }


def timm_stages(model: torch.nn.Module) -> dict[str, str]:
    """As EfficientNet's; V3 and V4 have their top among the blocks, V1 has none."""
    stages = {f"stage{i}": f"blocks.{i - 1}" for i in range(1, len(model.blocks) + 1)}
    if hasattr(model, "norm_head"):
        stages["top"] = stages.popitem()[1]
    elif isinstance(model.bn2, torch.nn.BatchNorm2d):
        stages["top"] = "bn2"
    return {"stem": "bn1", **stages, "head": "classifier"}


def keras_stages(model: Any) -> dict[str, str]:
    """A stage ends where the next one's first layer begins."""
    names = [layer.name for layer in model.layers]
    if "conv_preds" in names:
        stages = {stage: f"conv_pw_{block}_relu" for stage, block in _V1.items()}
        return {"stem": "conv1_relu", **stages, "head": "reshape_2"}
    if "conv_pw_13" in names:  # without the top
        return {"stem": "conv1_relu", **{stage: f"conv_pw_{block}_relu" for stage, block in _V1.items()}}
    # Of V3's stem and top Keras does not name the activation: they end with what the next convolution reads.
    v2 = "Conv1" in names
    prefix = "block_{}_" if v2 else "expanded_conv_{}_"
    count = sum(name.endswith("_project") for name in names)
    begins = {i: (prefix.format(i) + "expand" if i else "expanded_conv_depthwise") for i in range(count)}
    stages, done = {}, 0
    for stage, blocks in enumerate(_BLOCKS[count], 1):
        done += blocks
        following = begins.get(done, "Conv_1" if v2 else "conv_1")
        stages[f"stage{stage}"] = f"{following}:input"
    # V3-Small's first depthwise convolution strides, after a layer that pads.
    first = "expanded_conv_depthwise_pad" if "expanded_conv_depthwise_pad" in names else "expanded_conv_depthwise"
    if v2:
        return {"stem": "Conv1_relu", **stages, "top": "out_relu", "head": "predictions"}
    pool = next(
        layer
        for layer in model.layers
        if type(layer).__name__ == "GlobalAveragePooling2D" and "squeeze" not in layer.name
    )
    return {"stem": f"{first}:input", **stages, "top": f"{pool.name}:input", "head": "predictions"}
