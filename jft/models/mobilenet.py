"""MobileNet V1 to V4: tables of depthwise separable convolutions, inverted bottlenecks and their universal form.

V1: Howard et al., 2017, https://arxiv.org/abs/1704.04861; V2: Sandler et al., 2018, https://arxiv.org/abs/1801.04381;
V3: Howard et al., 2019, https://arxiv.org/abs/1905.02244; V4: Qin et al., 2024, https://arxiv.org/abs/2404.10518.
References: torchvision/models/mobilenetv2.py and mobilenetv3.py, timm/models/efficientnet.py and mobilenetv3.py,
keras/applications/mobilenet.py, mobilenet_v2.py and mobilenet_v3.py. V3's and V4's stages are timm's.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn

from jft.models.mbconv import Activation, Blocks, MBConvNet, Padding, Table, divisible, expanded


class MobileNetV1(MBConvNet):
    """stem, stage1 .. stage5, head; as Keras has it."""

    top_width: int = 0
    activation: Activation = "relu6"
    padding: Padding = "end"
    bn_epsilon: float = 1e-3
    bn_momentum: float = 0.99
    dropout: float = 1e-3
    drop_path: float = 0.0


class MobileNetV2(MBConvNet):
    """stem, stage1 .. stage7, top, head; as torchvision has it."""

    activation: Activation = "relu6"
    drop_path: float = 0.0


class MobileNetV3(MBConvNet):
    """stem, stages, top, head; as torchvision has it."""

    SQUEEZE: ClassVar = {"activation": nn.relu, "gate": nn.hard_sigmoid}

    stem_width: int = 16
    activation: Activation = "hard_swish"
    bn_epsilon: float = 1e-3
    bn_momentum: float = 0.99
    drop_path: float = 0.0

    def squeezed(self, inputs: int, row: Blocks) -> int:
        """A quarter of the expanded channels."""
        return divisible(expanded(inputs, row) / 4)


class MobileNetV4(MBConvNet):
    """stem, stage1 .. stage4, top, head; as timm has it."""

    top_width: int = 960
    hidden_width: int = 1280
    hidden_norm: bool = True
    activation: Activation = "relu"
    drop_path: float = 0.0


# Tables 1 (V1), 2 (V2), 1 and 2 (V3); V4 from its appendix.
_V1 = (
    (Blocks("separable", 1, 3, 1, 64, 1),),
    (Blocks("separable", 1, 3, 2, 128, 2),),
    (Blocks("separable", 1, 3, 2, 256, 2),),
    (Blocks("separable", 1, 3, 2, 512, 6),),
    (Blocks("separable", 1, 3, 2, 1024, 2),),
)
_V2 = (
    (Blocks("mbconv", 1, 3, 1, 16, 1),),
    (Blocks("mbconv", 6, 3, 2, 24, 2),),
    (Blocks("mbconv", 6, 3, 2, 32, 3),),
    (Blocks("mbconv", 6, 3, 2, 64, 4),),
    (Blocks("mbconv", 6, 3, 1, 96, 3),),
    (Blocks("mbconv", 6, 3, 2, 160, 3),),
    (Blocks("mbconv", 6, 3, 1, 320, 1),),
)
_V3_SMALL = (
    (Blocks("mbconv", 1, 3, 2, 16, 1, True, "relu"),),
    (Blocks("mbconv", 72 / 16, 3, 2, 24, 1, False, "relu"), Blocks("mbconv", 88 / 24, 3, 1, 24, 1, False, "relu")),
    (Blocks("mbconv", 4, 5, 2, 40, 1, True), Blocks("mbconv", 6, 5, 1, 40, 2, True)),
    (Blocks("mbconv", 3, 5, 1, 48, 2, True),),
    (Blocks("mbconv", 6, 5, 2, 96, 3, True),),
)
_V3_LARGE = (
    (Blocks("mbconv", 1, 3, 1, 16, 1, False, "relu"),),
    (Blocks("mbconv", 4, 3, 2, 24, 1, False, "relu"), Blocks("mbconv", 3, 3, 1, 24, 1, False, "relu")),
    (Blocks("mbconv", 3, 5, 2, 40, 3, True, "relu"),),
    (Blocks("mbconv", 6, 3, 2, 80, 1), Blocks("mbconv", 2.5, 3, 1, 80, 1), Blocks("mbconv", 2.3, 3, 1, 80, 2)),
    (Blocks("mbconv", 6, 3, 1, 112, 2, True),),
    (Blocks("mbconv", 6, 5, 2, 160, 3, True),),
)


def _uib(start: int, kernel: int, stride: int, expansion: float, channels: int, repeats: int = 1) -> Blocks:
    return Blocks("uib", expansion, kernel, stride, channels, repeats, start=start)


_V4_SMALL = (
    (Blocks("conv", 1, 3, 2, 32, 1), Blocks("conv", 1, 1, 1, 32, 1)),
    (Blocks("conv", 1, 3, 2, 96, 1), Blocks("conv", 1, 1, 1, 64, 1)),
    (_uib(5, 5, 2, 3, 96), _uib(0, 3, 1, 2, 96, 4), _uib(3, 0, 1, 4, 96)),
    (
        _uib(3, 3, 2, 6, 128),
        _uib(5, 5, 1, 4, 128),
        _uib(0, 5, 1, 4, 128),
        _uib(0, 5, 1, 3, 128),
        _uib(0, 3, 1, 4, 128, 2),
    ),
)
_V4_MEDIUM = (
    (Blocks("fused", 4, 3, 2, 48, 1),),
    (_uib(3, 5, 2, 4, 80), _uib(3, 3, 1, 2, 80)),
    (
        _uib(3, 5, 2, 6, 160),
        _uib(3, 3, 1, 4, 160, 2),
        _uib(3, 5, 1, 4, 160),
        _uib(3, 3, 1, 4, 160),
        _uib(3, 0, 1, 4, 160),
        _uib(0, 0, 1, 2, 160),
        _uib(3, 0, 1, 4, 160),
    ),
    (
        _uib(5, 5, 2, 6, 256),
        _uib(5, 5, 1, 4, 256),
        _uib(3, 5, 1, 4, 256, 2),
        _uib(0, 0, 1, 4, 256),
        _uib(3, 0, 1, 4, 256),
        _uib(3, 5, 1, 2, 256),
        _uib(5, 5, 1, 4, 256),
        _uib(0, 0, 1, 4, 256, 2),
        _uib(5, 0, 1, 2, 256),
    ),
)


def _wide(table: Table, alpha: float) -> Table:
    return tuple(
        tuple(dataclasses.replace(row, channels=divisible(alpha * row.channels)) for row in rows) for rows in table
    )


def _v1(alpha: float) -> Callable[..., MobileNetV1]:
    return functools.partial(MobileNetV1, table=_wide(_V1, alpha), stem_width=divisible(32 * alpha))


def _v2(alpha: float) -> Callable[..., MobileNetV2]:
    # The top is never narrower.
    top = divisible(1280 * max(alpha, 1.0))
    return functools.partial(MobileNetV2, table=_wide(_V2, alpha), stem_width=divisible(32 * alpha), top_width=top)


# The names of narrower and wider ones end with a hundred times their width.
MOBILENETS: dict[str, Callable[..., MBConvNet]] = {
    "mobilenet_v1": _v1(1.0),
    **{f"mobilenet_v1_{width:03}": _v1(width / 100) for width in (75, 50, 25)},
    "mobilenet_v2": _v2(1.0),
    **{f"mobilenet_v2_{width:03}": _v2(width / 100) for width in (140, 130, 75, 50, 35)},
    "mobilenet_v3_large": functools.partial(MobileNetV3, table=_V3_LARGE, top_width=960, hidden_width=1280),
    "mobilenet_v3_small": functools.partial(MobileNetV3, table=_V3_SMALL, top_width=576, hidden_width=1024),
    "mobilenet_v4_conv_medium": functools.partial(MobileNetV4, table=_V4_MEDIUM),
    "mobilenet_v4_conv_small": functools.partial(MobileNetV4, table=_V4_SMALL),
}
