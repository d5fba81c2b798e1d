"""Fits published leaves to a model that differs from the published one in the shape of its input."""

from collections.abc import Mapping

import numpy as np


def fitted(leaves: Mapping[str, np.ndarray], wanted: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The leaves with the shapes that a model wants; those that have them already are returned as they are.

    Args:
      leaves: 'params/...' or 'batch_stats/...' -> array.
      wanted: leaf -> its shape in the model.

    Raises:
      ValueError: a leaf cannot be fitted; names both shapes.
    """
    return {
        name: leaf if leaf.shape == wanted[name] else _fit(name, leaf, wanted[name]) for name, leaf in leaves.items()
    }


def _fit(name: str, leaf: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    is_kernel_of_rgb = (
        leaf.ndim == 4 and leaf.shape[2] == 3 and (*leaf.shape[:2], leaf.shape[3]) == (*shape[:2], shape[3])
    )
    if is_kernel_of_rgb:
        return other_channels(leaf, shape[2])
    raise ValueError(
        f"{name} of the weights is {list(leaf.shape)}, where the model has {list(shape)}: give the model the size and "
        "options of the weights."
    )


def other_channels(kernel: np.ndarray, channels: int) -> np.ndarray:
    """A first kernel for images of other channels than three, as timm's `adapt_input_conv` makes it.

    One channel: the sum over the three, which gives for gray levels what the three give for gray images. More: the
    three in turn, scaled by 3 / channels, so that the output keeps its size.

    Args:
      kernel: [height, width, 3, out].
      channels: of the images.

    Returns:
      [height, width, channels, out], of the same dtype.
    """
    if channels == 1:
        return kernel.sum(axis=2, keepdims=True)
    repeated = np.take(kernel, np.arange(channels) % 3, axis=2)
    return repeated * np.asarray(3 / channels, kernel.dtype)
