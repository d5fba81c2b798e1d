"""Transforms between the tensors of a file and leaves, in both directions.

Layouts are permuted and nothing else. What frameworks add before BatchNorm or leave out of it is folded into the
running statistics; on the way back it is written as the number that does nothing.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Transform:
    """A function of tensors and its inverse.

    Attributes:
      forward: float32 arrays, one for each source of the rule, to the leaf; ValueError for shapes it cannot take.
      backward: the leaf, and those that the rule names beside it, to a tuple with one array for each source, None where
        another rule gives that tensor back. `forward` of the result is the leaf again. Arrays are views where they
        can be.
    """

    forward: Callable[..., np.ndarray]
    backward: Callable[..., tuple[np.ndarray | None, ...]]


def _permuted(axes: tuple[int, ...]) -> Transform:
    back = tuple(np.argsort(axes).tolist())
    return Transform(lambda array: array.transpose(axes), lambda leaf: (leaf.transpose(back),))


# The array itself.
same = Transform(lambda array: array, lambda leaf: (leaf,))
# Convolution kernel, torch's [out, in, height, width] to [height, width, in, out].
hwio = _permuted((2, 3, 1, 0))
# Torch's [out, in] to [in, out].
dense = _permuted((1, 0))
# Keras' depthwise kernel, [height, width, channels, 1], to [height, width, 1, channels].
depthwise = _permuted((0, 1, 3, 2))
# A fully connected layer that reads each place of a map: torch's [out, in], Keras' [in, out], to a 1x1 convolution's.
conv_of_dense = Transform(lambda array: array.T[None, None], lambda leaf: (leaf[0, 0].T,))
conv_of_keras_dense = Transform(lambda array: array[None, None], lambda leaf: (leaf[0, 0],))


def _pixel(array: np.ndarray) -> np.ndarray:
    if array.shape[:2] != (1, 1):
        raise ValueError(f"{array.shape} is not [1, 1, inputs, outputs]")
    return array[0, 0]


# Keras' 1x1 convolution of an average, [1, 1, in, out], to [in, out].
dense_of_keras_conv = Transform(_pixel, lambda leaf: (leaf[None, None],))


def _vector(array: np.ndarray) -> np.ndarray:
    if array.shape[1:] != (1, 1):
        raise ValueError(f"{array.shape} is not [channels, 1, 1]")
    return array[:, 0, 0]


# torchvision's layer scale, [channels, 1, 1], to [channels].
vector = Transform(_vector, lambda leaf: (leaf[:, None, None],))
# A transformer's learned tokens [1, tokens, channels], which torch has as a batch of one, to [tokens, channels]; and a
# single one, [1, 1, channels], to [channels].
of_one = Transform(lambda array: array.squeeze(0), lambda leaf: (leaf[None],))
vector_of_one = Transform(lambda array: array.squeeze((0, 1)), lambda leaf: (leaf[None, None],))


@functools.cache
def dense_of_conv(grid: int) -> Transform:
    """A convolution that covers its whole input, [out, c, grid, grid], to [grid * grid * c, out]."""

    def forward(kernel: np.ndarray) -> np.ndarray:
        out, channels, *sides = kernel.shape
        if sides != [grid, grid]:
            raise ValueError(f"a kernel of {sides}, not of {grid}x{grid}")
        # kernel.transpose(2, 3, 1, 0) in blocks that stay in the processor's cache: VGG's fc6 six times faster.
        leaf = np.empty((grid * grid, channels, out), kernel.dtype)
        for i in range(0, out, 128):
            block = kernel[i : i + 128].reshape(-1, channels, grid * grid).transpose(1, 2, 0)
            leaf[:, :, i : i + 128] = np.ascontiguousarray(block).transpose(1, 0, 2)
        return leaf.reshape(-1, out)

    return Transform(forward, lambda leaf: (leaf.reshape(grid, grid, -1, leaf.shape[-1]).transpose(3, 2, 0, 1),))


@functools.cache
def dense_of_map(grid: int) -> Transform:
    """[out, c * grid * grid], whose input torch flattens channel first, to [grid * grid * c, out], channel last."""
    conv = dense_of_conv(grid)

    def forward(weight: np.ndarray) -> np.ndarray:
        out, _ = weight.shape
        return conv.forward(weight.reshape(out, -1, grid, grid))

    def backward(leaf: np.ndarray) -> tuple[np.ndarray]:
        (kernel,) = conv.backward(leaf)
        assert kernel is not None  # the rule gives one
        return (kernel.reshape(kernel.shape[0], -1),)

    return Transform(forward, backward)


def _centerd(bias: np.ndarray, mean: np.ndarray) -> np.ndarray:
    if bias.shape != mean.shape:
        raise ValueError("bias and mean differ in shape")
    return mean - bias


# Running mean without the bias of the convolution before: (x + bias) - mean = x - (mean - bias).
center = Transform(_centerd, lambda mean: (np.zeros_like(mean), mean))

# Running variance that, with epsilon 1e-5, does what Keras' own does with its 1.001e-5. From 1e-7 on, a leaf that goes
# to a file and back is the same number; a file's number that becomes a leaf and goes back may be its neighbor.
_EPSILON = np.float32(1.001e-5 - 1e-5)
keras_variance = Transform(lambda variance: variance + _EPSILON, lambda variance: (variance - _EPSILON,))

# The scale of a BatchNorm that has none: ones of its bias' shape. The bias' own rule gives the bias back.
no_scale = Transform(np.ones_like, lambda scale: (None,))


def _scaled(leaf: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray]:
    return (leaf,) if np.all(scale == 1) else (leaf * scale,)


# What a BatchNorm without scale normalizes, and its mean: a scale learnt since moves into both on the way back,
# scale * (conv - mean) = scale * conv - scale * mean.
scaled = Transform(same.forward, _scaled)
