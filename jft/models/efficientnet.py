"""EfficientNet (Tan and Le, 2019, https://arxiv.org/abs/1905.11946), EfficientNet-Lite and EfficientNetV2.

A table found by search for B0 is made wider and deeper for the others. Lite has ReLU6 in place of SiLU and no
squeeze-excitation; its stem and top are never wider, its first and last stage never deeper
(github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite).
V2 (Tan and Le, 2021, https://arxiv.org/abs/2104.00298) has fused blocks in its first stages.
References: timm/models/efficientnet.py, torchvision/models/efficientnet.py, keras/applications/efficientnet.py and
efficientnet_v2.py, github.com/google/automl/tree/master/efficientnetv2.
"""

import dataclasses
import functools
import math
from collections.abc import Callable

from jft.models.mbconv import Blocks, MBConvNet, Table, divisible


class EfficientNet(MBConvNet):
    """stem, stage1 .. stage7, top, head; see `MBConvNet`."""


class EfficientNetV2(MBConvNet):
    """stem, stage1 .. stage6 or stage7, top, head; see `MBConvNet`."""

    bn_epsilon: float = 1e-3


# Table 1 of the paper.
_B0 = (
    Blocks("mbconv", 1, 3, 1, 16, 1, squeeze=True),
    Blocks("mbconv", 6, 3, 2, 24, 2, squeeze=True),
    Blocks("mbconv", 6, 5, 2, 40, 2, squeeze=True),
    Blocks("mbconv", 6, 3, 2, 80, 3, squeeze=True),
    Blocks("mbconv", 6, 5, 1, 112, 3, squeeze=True),
    Blocks("mbconv", 6, 5, 2, 192, 4, squeeze=True),
    Blocks("mbconv", 6, 3, 1, 320, 1, squeeze=True),
)
_LITE0 = tuple(dataclasses.replace(row, squeeze=False) for row in _B0)

# Factors of width and depth, pixels, dropout.
_SCALES = {
    "efficientnet_b0": (1.0, 1.0, 224, 0.2),
    "efficientnet_b1": (1.0, 1.1, 240, 0.2),
    "efficientnet_b2": (1.1, 1.2, 260, 0.3),
    "efficientnet_b3": (1.2, 1.4, 300, 0.3),
    "efficientnet_b4": (1.4, 1.8, 380, 0.4),
    "efficientnet_b5": (1.6, 2.2, 456, 0.4),
    "efficientnet_b6": (1.8, 2.6, 528, 0.5),
    "efficientnet_b7": (2.0, 3.1, 600, 0.5),
}
_LITES = {
    "efficientnet_lite0": (1.0, 1.0, 224, 0.2),
    "efficientnet_lite1": (1.0, 1.1, 240, 0.2),
    "efficientnet_lite2": (1.1, 1.2, 260, 0.3),
    "efficientnet_lite3": (1.2, 1.4, 300, 0.3),
    "efficientnet_lite4": (1.4, 1.8, 380, 0.3),
}


# V2: the base of B0 to B3; tables 4 of S, and those of M and L in the authors' code.
_V2_B0 = (
    Blocks("fused", 1, 3, 1, 16, 1),
    Blocks("fused", 4, 3, 2, 32, 2),
    Blocks("fused", 4, 3, 2, 48, 2),
    Blocks("mbconv", 4, 3, 2, 96, 3, squeeze=True),
    Blocks("mbconv", 6, 3, 1, 112, 5, squeeze=True),
    Blocks("mbconv", 6, 3, 2, 192, 8, squeeze=True),
)
_V2_S = (
    Blocks("fused", 1, 3, 1, 24, 2),
    Blocks("fused", 4, 3, 2, 48, 4),
    Blocks("fused", 4, 3, 2, 64, 4),
    Blocks("mbconv", 4, 3, 2, 128, 6, squeeze=True),
    Blocks("mbconv", 6, 3, 1, 160, 9, squeeze=True),
    Blocks("mbconv", 6, 3, 2, 256, 15, squeeze=True),
)
_V2_M = (
    Blocks("fused", 1, 3, 1, 24, 3),
    Blocks("fused", 4, 3, 2, 48, 5),
    Blocks("fused", 4, 3, 2, 80, 5),
    Blocks("mbconv", 4, 3, 2, 160, 7, squeeze=True),
    Blocks("mbconv", 6, 3, 1, 176, 14, squeeze=True),
    Blocks("mbconv", 6, 3, 2, 304, 18, squeeze=True),
    Blocks("mbconv", 6, 3, 1, 512, 5, squeeze=True),
)
_V2_L = (
    Blocks("fused", 1, 3, 1, 32, 4),
    Blocks("fused", 4, 3, 2, 64, 7),
    Blocks("fused", 4, 3, 2, 96, 7),
    Blocks("mbconv", 4, 3, 2, 192, 10, squeeze=True),
    Blocks("mbconv", 6, 3, 1, 224, 19, squeeze=True),
    Blocks("mbconv", 6, 3, 2, 384, 25, squeeze=True),
    Blocks("mbconv", 6, 3, 1, 640, 7, squeeze=True),
)
# The base's factors of width and depth, pixels; of the others their table, outputs of the stem, pixels, dropout.
_V2_SCALES = {
    "efficientnet_v2_b0": (1.0, 1.0, 224),
    "efficientnet_v2_b1": (1.0, 1.1, 240),
    "efficientnet_v2_b2": (1.1, 1.2, 260),
    "efficientnet_v2_b3": (1.2, 1.4, 300),
}
_V2_TABLES = {
    "efficientnet_v2_s": (_V2_S, 24, 384, 0.2),
    "efficientnet_v2_m": (_V2_M, 24, 480, 0.3),
    "efficientnet_v2_l": (_V2_L, 32, 480, 0.4),
}


def scaled(rows: tuple[Blocks, ...], width: float, depth: float, *, ends: bool = True, floor: float = 0.9) -> Table:
    """A table with `width` times as many channels and `depth` times as many blocks, a row a stage.

    Args:
      rows: of the network of width and depth 1.
      width: channels become the nearest multiple of 8.
      depth: repeats are rounded up.
      ends: whether the first and the last row are deepened too.
      floor: see `divisible`.
    """

    def repeats(i: int, row: Blocks) -> int:
        return math.ceil(depth * row.repeats) if ends or 0 < i < len(rows) - 1 else row.repeats

    return tuple(
        (dataclasses.replace(row, channels=divisible(width * row.channels, floor), repeats=repeats(i, row)),)
        for i, row in enumerate(rows)
    )


def _scaled_b0(width: float, depth: float, size: int, dropout: float) -> Callable[..., EfficientNet]:
    return functools.partial(
        EfficientNet,
        table=scaled(_B0, width, depth),
        stem_width=divisible(32 * width),
        top_width=divisible(1280 * width),
        dropout=dropout,
        default_size=size,
    )


def _lite(width: float, depth: float, size: int, dropout: float) -> Callable[..., EfficientNet]:
    return functools.partial(
        EfficientNet,
        table=scaled(_LITE0, width, depth, ends=False),
        activation="relu6",
        padding="same",
        bn_epsilon=1e-3,
        bn_momentum=0.99,
        dropout=dropout,
        default_size=size,
    )


def _scaled_v2(width: float, depth: float, size: int) -> Callable[..., EfficientNetV2]:
    return functools.partial(
        EfficientNetV2,
        table=scaled(_V2_B0, width, depth, floor=0.0),
        stem_width=divisible(32 * width, 0.0),
        top_width=divisible(1280 * width, 0.0),
        default_size=size,
    )


def _v2(rows: tuple[Blocks, ...], stem: int, size: int, dropout: float) -> Callable[..., EfficientNetV2]:
    table = scaled(rows, 1.0, 1.0)
    return functools.partial(EfficientNetV2, table=table, stem_width=stem, default_size=size, dropout=dropout)


EFFICIENTNETS: dict[str, Callable[..., MBConvNet]] = {
    **{name: _scaled_b0(*scale) for name, scale in _SCALES.items()},
    **{name: _lite(*scale) for name, scale in _LITES.items()},
    **{name: _scaled_v2(*scale) for name, scale in _V2_SCALES.items()},
    **{name: _v2(*facts) for name, facts in _V2_TABLES.items()},
}
