"""GoogLeNet (Szegedy et al., 2014, https://arxiv.org/abs/1409.4842).

Layers carry the names of Caffe's release. Reference: torchvision/models/googlenet.py, BVLC/caffe
models/bvlc_googlenet/train_val.prototxt.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from jft.models import layers, window_pooling
from jft.models.blocks import ConvUnit, Fork, Stage, Steps, Unit, batch_norm
from jft.models.chain import AuxiliaryHead, Chain, Stages

# Table 1 of the paper: outputs of 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5 and pool proj.
INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


class GoogLeNet(Chain):
    """A stem, nine inception modules and the head; auxiliary heads after 4a and 4d.

    Attributes:
      original: the paper's network as Caffe has it: biases and local response normalization, true 5x5 convolutions,
        auxiliary heads for 224 pixels only. Otherwise torchvision's: BatchNorm, and 3x3 where the paper has 5x5
        (pytorch/vision#906).
      bn_momentum: share of the old running average that one training step keeps.
      dropout: dropped share of the head's input in training.
      aux_dropout: the same of the auxiliary heads.
    """

    original: bool = False
    bn_momentum: float = 0.9
    dropout: float = 0.2
    aux_dropout: float = 0.7

    def published(self) -> Stages:
        """stem, 3a .. 5b, head."""
        pool = functools.partial(window_pooling.max_pool, window=3, stride=2, ceil=True)
        last_pool = pool if self.original else functools.partial(pool, window=2)
        ends = {"3b": (pool,), "4e": (last_pool,)}
        norm, large = self._norm(), 5 if self.original else 3
        return {
            "stem": functools.partial(Stage, _stem(pool, self.original), norm, self.dtype),
            **{
                name: functools.partial(Stage, (_inception(*widths, large), *ends.get(name, ())), norm, self.dtype)
                for name, widths in INCEPTIONS.items()
            },
            "head": functools.partial(layers.Head, self.num_classes, self.dtype, self.dropout),
        }

    def auxiliary_heads(self) -> dict[str, AuxiliaryHead]:
        """aux1 after 4a and aux2 after 4d; the paper adds 0.3 of their losses."""
        build = functools.partial(
            Auxiliary, self.num_classes, self.original, self.aux_dropout, self._norm(), self.dtype
        )
        return {"aux1": AuxiliaryHead("4a", build, 0.3), "aux2": AuxiliaryHead("4d", build, 0.3)}

    def _norm(self) -> functools.partial | None:
        return None if self.original else batch_norm(self)


def _stem(pool: functools.partial, original: bool) -> Steps:
    """To an eighth of the images' side, 192 channels."""
    lrn = (functools.partial(layers.local_response_norm, size=5, alpha=1e-4, beta=0.75),) if original else ()
    first = (Unit("conv1", 64, 7, stride=2), pool, *lrn)
    return (*first, Unit("conv2_reduce", 64), Unit("conv2", 192, 3), *lrn, pool)


def _inception(n1x1: int, reduce3x3: int, n3x3: int, reduce5x5: int, n5x5: int, proj: int, large: int) -> Fork:
    """Figure 2b of the paper; `large` is the kernel of the branch called 5x5."""
    return Fork(
        (
            (Unit("1x1", n1x1),),
            (Unit("3x3_reduce", reduce3x3), Unit("3x3", n3x3, 3)),
            (Unit("5x5_reduce", reduce5x5), Unit("5x5", n5x5, large)),
            (functools.partial(window_pooling.max_pool, window=3, stride=1, padding=1), Unit("pool_proj", proj)),
        )
    )


class Auxiliary(nn.Module):
    """Average pool to 4x4, a 1x1 convolution, a fully connected layer, dropout and the classifying layer."""

    num_classes: int
    original: bool
    dropout: float
    norm: functools.partial | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[batch, h, w, c] -> logits [batch, num_classes]; the original reads 14x14 maps alone."""
        if self.original and x.shape[1:3] != (14, 14):
            raise ValueError(
                f"an auxiliary head reads a 14x14 map, which 224-pixel images give, but got {x.shape[1]}x{x.shape[2]}: "
                "resize the images, or train with aux_heads=False."
            )
        x = window_pooling.avg_pool(x, 5, 3) if self.original else window_pooling.adaptive_avg_pool(x, 4)
        x = ConvUnit(Unit("reduce", 128), self.norm, self.dtype, name="reduce")(x, train=train)
        x = nn.relu(layers.Dense(1024, dtype=self.dtype, name="fc")(x.reshape(x.shape[0], -1)))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return layers.Dense(self.num_classes, dtype=self.dtype, name="head")(x)
