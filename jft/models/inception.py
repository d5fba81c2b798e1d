"""Inception-V3 (Szegedy et al., 2015, https://arxiv.org/abs/1512.00567).

Layers carry torchvision's names. Reference: torchvision/models/inception.py, keras/applications/inception_v3.py.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from jft.models import layers, window_pooling
from jft.models.blocks import ConvUnit, Fork, Stage, Steps, Unit, batch_norm
from jft.models.chain import AuxiliaryHead, Chain, Stages

MAX_POOL = functools.partial(window_pooling.max_pool, window=3, stride=2)


class InceptionV3(Chain):
    """A stem, modules mixed_5b .. mixed_7c, and the head; an auxiliary head after mixed_6e. Images from 75 pixels.

    Attributes:
      count_include_pad: the average pools of the modules count the zeros around the map, as torchvision's do; Keras'
        do not.
      bn_momentum: share of the old running average that one training step keeps.
      dropout: dropped share of the head's input in training.
    """

    count_include_pad: bool = True
    bn_momentum: float = 0.9
    dropout: float = 0.5
    default_size: int = 299

    def published(self) -> Stages:
        """stem, mixed_5b .. mixed_5d, mixed_6a .. mixed_6e, mixed_7a .. mixed_7c, head."""
        pool = functools.partial(
            window_pooling.avg_pool, window=3, stride=1, padding=1, count_include_pad=self.count_include_pad
        )
        # Table 1 of the paper.
        table = {
            "stem": _stem(),
            "mixed_5b": _mixed_5(pool, 32),
            "mixed_5c": _mixed_5(pool, 64),
            "mixed_5d": _mixed_5(pool, 64),
            "mixed_6a": _mixed_6a(),
            "mixed_6b": _mixed_6(pool, 128),
            "mixed_6c": _mixed_6(pool, 160),
            "mixed_6d": _mixed_6(pool, 160),
            "mixed_6e": _mixed_6(pool, 192),
            "mixed_7a": _mixed_7a(),
            "mixed_7b": _mixed_7(pool),
            "mixed_7c": _mixed_7(pool),
        }
        return {
            **{name: functools.partial(Stage, steps, batch_norm(self), self.dtype) for name, steps in table.items()},
            "head": functools.partial(layers.Head, self.num_classes, self.dtype, self.dropout),
        }

    def auxiliary_heads(self) -> dict[str, AuxiliaryHead]:
        """aux after mixed_6e, at 0.4 of its loss, as TF-Slim and torchvision's references train it."""
        build = functools.partial(Auxiliary, self.num_classes, batch_norm(self), self.dtype)
        return {"aux": AuxiliaryHead("mixed_6e", build, 0.4)}


def _stem() -> Steps:
    """299 pixels to 35, 192 channels."""
    return (
        Unit("conv1a", 32, 3, stride=2, valid=True),
        Unit("conv2a", 32, 3, valid=True),
        Unit("conv2b", 64, 3),
        MAX_POOL,
        Unit("conv3b", 80, 1),
        Unit("conv4a", 192, 3, valid=True),
        MAX_POOL,
    )


def _mixed_5(pool: functools.partial, pooled: int) -> Steps:
    """Figure 5 of the paper, where 5x5 stays; `pooled` is the width of its last branch."""
    return (
        Fork(
            (
                (Unit("branch1x1", 64),),
                (Unit("branch5x5_1", 48), Unit("branch5x5_2", 64, 5)),
                (Unit("branch3x3dbl_1", 64), Unit("branch3x3dbl_2", 96, 3), Unit("branch3x3dbl_3", 96, 3)),
                (pool, Unit("branch_pool", pooled)),
            )
        ),
    )


def _mixed_6a() -> Steps:
    """Figure 10: halves the map."""
    return (
        Fork(
            (
                (Unit("branch3x3", 384, 3, stride=2, valid=True),),
                (
                    Unit("branch3x3dbl_1", 64),
                    Unit("branch3x3dbl_2", 96, 3),
                    Unit("branch3x3dbl_3", 96, 3, stride=2, valid=True),
                ),
                (MAX_POOL,),
            )
        ),
    )


def _mixed_6(pool: functools.partial, width: int) -> Steps:
    """Figure 6 with n = 7: 7x7 as 1x7 and 7x1; `width` is that of the layers between."""
    return (
        Fork(
            (
                (Unit("branch1x1", 192),),
                (
                    Unit("branch7x7_1", width),
                    Unit("branch7x7_2", width, (1, 7)),
                    Unit("branch7x7_3", 192, (7, 1)),
                ),
                (
                    Unit("branch7x7dbl_1", width),
                    Unit("branch7x7dbl_2", width, (7, 1)),
                    Unit("branch7x7dbl_3", width, (1, 7)),
                    Unit("branch7x7dbl_4", width, (7, 1)),
                    Unit("branch7x7dbl_5", 192, (1, 7)),
                ),
                (pool, Unit("branch_pool", 192)),
            )
        ),
    )


def _mixed_7a() -> Steps:
    """Figure 10 again: halves the map."""
    return (
        Fork(
            (
                (Unit("branch3x3_1", 192), Unit("branch3x3_2", 320, 3, stride=2, valid=True)),
                (
                    Unit("branch7x7x3_1", 192),
                    Unit("branch7x7x3_2", 192, (1, 7)),
                    Unit("branch7x7x3_3", 192, (7, 1)),
                    Unit("branch7x7x3_4", 192, 3, stride=2, valid=True),
                ),
                (MAX_POOL,),
            )
        ),
    )


def _mixed_7(pool: functools.partial) -> Steps:
    """Figure 7: 3x3 as 1x3 beside 3x1."""
    return (
        Fork(
            (
                (Unit("branch1x1", 320),),
                (
                    Unit("branch3x3_1", 384),
                    Fork(((Unit("branch3x3_2a", 384, (1, 3)),), (Unit("branch3x3_2b", 384, (3, 1)),))),
                ),
                (
                    Unit("branch3x3dbl_1", 448),
                    Unit("branch3x3dbl_2", 384, 3),
                    Fork(((Unit("branch3x3dbl_3a", 384, (1, 3)),), (Unit("branch3x3dbl_3b", 384, (3, 1)),))),
                ),
                (pool, Unit("branch_pool", 192)),
            )
        ),
    )


class Auxiliary(nn.Module):
    """Average pool 5x5/3, a 1x1 and a 5x5 convolution, global average pool and the classifying layer."""

    num_classes: int
    norm: functools.partial
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[batch, h, w, 768] -> logits [batch, num_classes]; the map is 17x17 or larger."""
        if min(x.shape[1:3]) < 17:
            raise ValueError(
                f"the auxiliary head reads a map from 17x17 on, which 299-pixel images give, but got {x.shape[1]}x"
                f"{x.shape[2]}: take larger images, or train with aux_heads=False."
            )
        unit = functools.partial(ConvUnit, norm=self.norm, dtype=self.dtype)
        x = window_pooling.avg_pool(x, 5, 3)
        x = unit(Unit("conv0", 128), name="conv0")(x, train=train)
        x = unit(Unit("conv1", 768, 5, valid=True), name="conv1")(x, train=train)
        return layers.Dense(self.num_classes, dtype=self.dtype, name="head")(jnp.mean(x, axis=(1, 2)))
