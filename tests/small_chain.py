"""A network that compiles in a second: three stages with BatchNorm, and a head."""

import functools

import flax.linen as nn
import numpy as np

from jft.data import sources
from jft.models.chain import Chain
from jft.models.layers import BatchNorm, Head


class Stage(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        return nn.relu(BatchNorm(name="bn")(nn.Conv(4, (3, 3), name="conv")(x), train=train))


class Small(Chain):
    """a, b, c, head, for pictures of 8 pixels."""

    default_size: int = 8

    def published(self):
        head = functools.partial(Head, self.num_classes, self.dtype)
        return {"a": Stage, "b": Stage, "c": Stage, "head": head}


def pictures(n=48, classes=3):
    """Noise, brighter where the class is higher, so that there is something to learn."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % classes
    images = rng.integers(0, 128, (n, 8, 8, 3)) + 60 * labels[:, None, None, None]
    return sources.from_arrays(images.astype(np.uint8), labels, tuple("abcdefgh"[:classes]))
