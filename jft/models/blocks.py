"""Building blocks of GoogLeNet and Inception: stages written as tables of steps."""

import dataclasses
import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from jft.models import layers
from jft.models.chain import Chain


@dataclasses.dataclass(frozen=True)
class Unit:
    """A step: a convolution, BatchNorm if the network uses it, and ReLU.

    Attributes:
      name: of the unit, whose layers are `conv` and `bn`.
      features: output channels.
      kernel: side of the kernel, or (height, width).
      stride: of the convolution.
      valid: no padding; otherwise half the kernel on each side, which SAME is not where the convolution strides.
    """

    name: str
    features: int
    kernel: int | tuple[int, int] = 1
    stride: int = 1
    valid: bool = False


@dataclasses.dataclass(frozen=True)
class Fork:
    """A step: parallel branches on the same input, whose outputs are concatenated along channels in this order."""

    branches: tuple["Steps", ...]


def batch_norm(model: Chain) -> functools.partial:
    """Constructor of the BatchNorm of a model's units, with Google's epsilon; its `bn_momentum` is the model's."""
    return functools.partial(
        layers.BatchNorm, momentum=model.bn_momentum, epsilon=1e-3, dtype=model.dtype, axis_name=model.axis_name
    )


# The third kind of step is a function of the map, such as a pool.
Steps = tuple[Unit | Fork | Callable[[jax.Array], jax.Array], ...]


class ConvUnit(nn.Module):
    """The layers of a `Unit`: `conv`, with a bias only where there is no `bn`; `bn`; ReLU.

    Attributes:
      unit: the step.
      norm: constructor of the BatchNorm, or None.
      dtype: of the computation.
    """

    unit: Unit
    norm: Callable[..., nn.Module] | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[batch, h, w, c] -> [batch, ~h / stride, ~w / stride, features]."""
        unit = self.unit
        kernel = (unit.kernel, unit.kernel) if isinstance(unit.kernel, int) else unit.kernel
        padding = 0 if unit.valid else tuple((k // 2, k // 2) for k in kernel)
        options = {"strides": unit.stride, "padding": padding, "use_bias": self.norm is None, "dtype": self.dtype}
        x = layers.Conv(unit.features, kernel, **options, name="conv")(x)
        if self.norm is not None:
            x = self.norm(name="bn")(x, train=train)
        return nn.relu(x)


class Stage(nn.Module):
    """Runs steps in order; the units in them are its submodules.

    Attributes:
      steps: the table.
      norm: constructor of the units' BatchNorm, or None.
      dtype: of the computation.
    """

    steps: Steps
    norm: Callable[..., nn.Module] | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[batch, h, w, c] -> [batch, h', w', c'], the output of the last step."""

        def run(steps: Steps, x: jax.Array) -> jax.Array:
            for step in steps:
                if isinstance(step, Unit):
                    x = ConvUnit(step, self.norm, self.dtype, name=step.name)(x, train=train)
                elif isinstance(step, Fork):
                    x = jnp.concatenate([run(branch, x) for branch in step.branches], axis=-1)
                else:
                    x = step(x)
            return x

        return run(self.steps, x)
