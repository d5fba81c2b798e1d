"""A network that compiles in a second: three stages with BatchNorm, and a head."""

import functools

import flax.linen as nn
import numpy as np

from jft.data import datasets
from jft.models import layers
from jft.models.chain import Chain


class Stage(nn.Module):
    axis_name: str | None

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.Conv(4, (3, 3), name="conv")(x)
        return nn.relu(layers.BatchNorm(axis_name=self.axis_name, name="bn")(x, train=train))


class Small(Chain):
    """a, b, c, head, for images of 8 pixels."""

    default_size: int = 8

    def published(self):
        stage = functools.partial(Stage, self.axis_name)
        head = functools.partial(layers.Head, self.num_classes, self.dtype)
        return {"a": stage, "b": stage, "c": stage, "head": head}


def images(n=48, classes=3):
    """Noise, brighter where the class is higher, so that there is something to learn."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % classes
    images = rng.integers(0, 128, (n, 8, 8, 3)) + 60 * labels[:, None, None, None]
    return datasets.from_arrays(images.astype(np.uint8), labels, tuple("abcdefgh"[:classes]))
