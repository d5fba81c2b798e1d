"""EfficientNet (Tan and Le, 2019, https://arxiv.org/abs/1905.11946) and EfficientNet-Lite.

A table found by search for B0 is made wider and deeper for the others. Lite has ReLU6 in place of SiLU and no
squeeze-excitation; its stem and top are never wider, its first and last stage never deeper
(github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite).
References: timm/models/efficientnet.py, torchvision/models/efficientnet.py, keras/applications/efficientnet.py.
"""

import dataclasses
import functools
import math
from collections.abc import Callable

from jft.models.mbconv import Blocks, MBConvNet, Table, divisible


class EfficientNet(MBConvNet):
    """stem, stage1 .. stage7, top, head; see `MBConvNet`."""


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


def scaled(rows: tuple[Blocks, ...], width: float, depth: float, *, ends: bool = True) -> Table:
    """A table with `width` times as many channels and `depth` times as many blocks, a row a stage.

    Args:
      rows: of the network of width and depth 1.
      width: channels become the nearest multiple of 8.
      depth: repeats are rounded up.
      ends: whether the first and the last row are deepened too.
    """

    def repeats(i: int, row: Blocks) -> int:
        return math.ceil(depth * row.repeats) if ends or 0 < i < len(rows) - 1 else row.repeats

    return tuple(
        (dataclasses.replace(row, channels=divisible(width * row.channels), repeats=repeats(i, row)),)
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


EFFICIENTNETS: dict[str, Callable[..., EfficientNet]] = {
    **{name: _scaled_b0(*scale) for name, scale in _SCALES.items()},
    **{name: _lite(*scale) for name, scale in _LITES.items()},
}
