"""Preprocessing on the device, and its matrices: functions that apply a `Preprocess`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# What needs no JAX is used by name from here, too.
from jft.data.preprocess import FITS as FITS
from jft.data.preprocess import Preprocess as Preprocess
from jft.data.preprocess import check_fit as check_fit
from jft.data.preprocess import crop_offset as crop_offset
from jft.data.preprocess import scaled_size as scaled_size
from jft.data.preprocess import stored_offset as stored_offset
from jft.data.preprocess import stored_size as stored_size
from jft.utils.arrays import Array

# A resized pixel is a weighted sum of a few pixels (2 for bilinear enlarging, 4 for bicubic). Up to this number,
# summing gathered rows and columns is 1.2 to 5 times as fast as a matrix product on a CPU, without temporary copies.
_FEW_TAPS = 8

_LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601, as Pillow's mode L


def resize_weights(source: int, target: int, spec: Preprocess) -> np.ndarray:
    """The matrix [target, source] that resizes one axis; its rows sum to 1.

    Pixel centers are at half-integers, as in PIL, torchvision, `jax.image` and `tf.image`. Bicubic uses Keys' kernel
    with a = -0.5, like these libraries with antialiasing.
    """
    step = source / target
    width = max(step, 1.0) if spec.antialias else 1.0
    centers = (np.arange(target) + 0.5) * step
    weights = resize_filter((centers[:, None] - (np.arange(source) + 0.5)) / width, spec.interpolation, np)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def resize_filter(offsets: Any, interpolation: str, xp: Any) -> Any:
    """The weight of a pixel by its distance to the resized pixel's center, in widths of the filter, before division.

    Args:
      offsets: signed distances, of any shape.
      interpolation: 'bilinear' or 'bicubic'.
      xp: `numpy` or `jax.numpy`, whose arrays these are.
    """
    distance = xp.abs(offsets)
    if interpolation == "bilinear":
        return xp.maximum(1 - distance, 0)
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return xp.where(distance < 1, near, xp.where(distance < 2, far, 0))


def resize(images: Array, height: int, width: int, spec: Preprocess) -> jax.Array:
    """Resizes on the device, with the same weights as on the host.

    Args:
      images: [batch, h, w, 3], uint8 or float, 0 .. 255.
      height: height of the result in pixels.
      width: width of the result in pixels.
      spec: its `interpolation` and `antialias` are used.

    Returns:
      float32 [batch, height, width, 3], 0 .. 255.
    """
    for axis, target in ((2, width), (1, height)):
        if images.shape[axis] != target:
            images = _resize_axis(images, axis, resize_weights(images.shape[axis], target, spec))
            if spec.interpolation == "bicubic":  # overshoots at edges; PIL also clips after each axis, in this order
                images = jnp.clip(images, 0, 255)
    return jnp.asarray(images, jnp.float32)


def _resize_axis(images: Array, axis: int, weights: np.ndarray) -> jax.Array:
    taps = int((weights != 0).sum(axis=1).max())
    if taps > _FEW_TAPS or jax.default_backend() == "tpu":  # TPUs multiply matrices better than they gather
        equation = {1: "oi,biwc->bowc", 2: "oi,bhic->bhoc"}[axis]
        # The highest precision, or accelerators multiply with 8 to 10 bits and gray levels change.
        return jnp.einsum(equation, weights, jnp.asarray(images, jnp.float32), precision=jax.lax.Precision.HIGHEST)
    where = np.argsort(weights == 0, axis=1, kind="stable")[:, :taps]
    factors = np.take_along_axis(weights, where, axis=1)
    shape = (1, -1, 1, 1) if axis == 1 else (1, 1, -1, 1)
    total: Any = 0.0
    for pixel, factor in zip(where.T, factors.T, strict=True):
        total += jnp.take(images, pixel, axis=axis, mode="clip").astype(jnp.float32) * factor.reshape(shape)
    return total


def center_crop(images: jax.Array, size: int) -> jax.Array:
    """Crops the central [batch, size, size, 3] from [batch, h, w, 3], at torchvision's offsets."""
    height, width = images.shape[1:3]
    if min(height, width) < size:
        raise ValueError(f"a {height}x{width} image has no central {size}x{size} crop; raise Preprocess.resize.")
    top, left = crop_offset(height, size), crop_offset(width, size)
    return images[:, top : top + size, left : left + size]


def normalize(images: Array, spec: Preprocess) -> jax.Array:
    """Normalizes gray levels [batch, h, w, 3], RGB, 0 .. 255, to float32 [batch, h, w, channels of the network]."""
    images = jnp.asarray(images, jnp.float32)
    if spec.channels == "BGR":
        images = images[..., ::-1]
    if spec.channels == "L":
        # Multiplied and added, or accelerators multiply matrices with 8 to 10 bits.
        red, green, blue = (images[..., i : i + 1] * np.float32(weight) for i, weight in enumerate(_LUMINANCE))
        images = red + green + blue
    mean, std = (np.array(values, np.float32).reshape(1, 1, 1, -1) for values in (spec.mean, spec.std))
    return (images * np.float32(spec.scale) - mean) / std


def denormalize(images: jax.Array, spec: Preprocess) -> jax.Array:
    """Inverse of `normalize`: float32 [batch, h, w, 3], RGB, 0 .. 255; gray where the network reads gray levels."""
    mean, std = (np.array(values, np.float32).reshape(1, 1, 1, -1) for values in (spec.mean, spec.std))
    images = (images * std + mean) / np.float32(spec.scale)
    if spec.channels == "BGR":
        images = images[..., ::-1]
    return jnp.broadcast_to(images, (*images.shape[:3], 3))


def resize_shorter(images: Array, spec: Preprocess) -> Any:
    """Resizes the shorter side of [batch, h, w, 3] to `spec.resize`; images of that size are returned unchanged."""
    if min(images.shape[1:3]) == spec.resize:
        return images
    height, width = scaled_size(images.shape[1], images.shape[2], spec.resize)
    return resize(images, height, width, spec)


def to_model_input(images: Array, spec: Preprocess, *, fit: str) -> jax.Array:
    """Preprocesses images for evaluation and prediction. Pure; call it inside the jitted step.

    Args:
      images: uint8 or float [batch, h, w, 3], RGB, 0 .. 255, of any size: raw arrays, or the output of `decode`.
      spec: preprocessing of the weights.
      fit: 'crop' resizes the shorter side to `spec.resize` and crops the central `spec.size`, as ImageNet models are
        evaluated; 'whole' resizes the whole image to `spec.size`, for small images whose edges matter.

    Returns:
      float32 [batch, spec.size, spec.size, 3], normalized.
    """
    if check_fit(fit) == "crop":
        return normalize(center_crop(resize_shorter(images, spec), spec.size), spec)
    return normalize(resize(images, spec.size, spec.size, spec), spec)


def check_range(images: Any, spec: Preprocess) -> None:
    """Checks the type, shape and range of a batch. Call it once, on the host, with a real batch.

    Args:
      images: the batch before preprocessing: uint8 [batch, h, w, 3], gray levels 0 .. 255.
      spec: preprocessing of the weights, for the error.

    Raises:
      ValueError: another type or shape, or all gray levels are below 2: the images were already scaled to 0 .. 1.
    """
    images = np.asarray(images)
    wanted = "jft needs uint8 [batch, height, width, 3] with gray levels 0..255 and applies scale, mean and std itself"
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8 or images.size == 0:
        span = f" in {images.min():.4g}..{images.max():.4g}" if images.size else ""
        raise ValueError(f"images are {images.dtype} {list(images.shape)}{span}; {wanted}.")
    if images.max() < 2:
        raise ValueError(
            f"no gray level in this batch is above {images.max()}: the images seem scaled to 0..1 before they became "
            f"uint8; {wanted} (here scale={spec.scale:.4g}, mean={spec.mean}, std={spec.std}). Multiply them by 255."
        )
