"""Preprocessing: `Preprocess` describes what a weight set expects; functions apply it on the host and the device."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jft.utils import tree
from jft.utils.arrays import Array
from jft.utils.color import check_background

# Values of fields that older specs lack.
_BEFORE = {"background": "", "max_value": 0.0}

FITS = ("crop", "whole")  # ways to fit an image to a square, see `to_model_input`

# A resized pixel is a weighted sum of a few pixels (2 for bilinear enlarging, 4 for bicubic). Up to this number,
# summing gathered rows and columns is 1.2 to 5 times as fast as a matrix product on a CPU, without temporary copies.
_FEW_TAPS = 8


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """The preprocessing that a weight set was trained with. It is part of the weight set's row in the catalog.

    An image is resized so that its shorter side is `resize`, center-cropped to `size`, multiplied by `scale`, put in
    the order of `channels`, and normalized as `(x - mean) / std`.

    Attributes:
      size: side of the square that the network reads, in pixels.
      resize: shorter side before the central crop, in pixels.
      interpolation: 'bilinear' or 'bicubic'.
      antialias: whether downsampling averages over all covered pixels, as PIL and torchvision do.
      channels: channel order of the network, 'RGB' or 'BGR'.
      scale: factor from gray levels 0 .. 255 to the range of `mean` and `std`.
      mean: mean of each channel, in the order of `channels`, after `scale`.
      std: standard deviation of each channel, in the order of `channels`, after `scale`.
      background: color behind transparent pixels, by its name in `PIL.ImageColor`; empty: drop alpha and read the
        hidden colors.
      max_value: the value of white in images of more than 8 bits a pixel, see `gray_levels`; 0: unknown.

    Raises:
      ValueError: a field has an invalid value.
    """

    size: int = 224
    resize: int = 256
    interpolation: str = "bilinear"
    antialias: bool = True
    channels: str = "RGB"
    scale: float = 1 / 255
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    background: str = "white"
    max_value: float = 0.0

    def __post_init__(self) -> None:
        tree.choose({"bilinear": 1, "bicubic": 1}, self.interpolation, what="interpolation")
        tree.choose({"RGB": 1, "BGR": 1}, self.channels, what="order of channels")
        for name in ("size", "resize", "scale"):
            if not getattr(self, name) > 0:
                raise ValueError(f"Preprocess.{name} is {getattr(self, name)}; it must be positive.")
        if len(self.mean) != 3 or len(self.std) != 3 or not all(s > 0 for s in self.std):
            raise ValueError(f"Preprocess needs 3 means and 3 positive stds, not mean={self.mean}, std={self.std}.")
        if not self.max_value >= 0:
            raise ValueError(f"Preprocess.max_value is {self.max_value}; it must be 0 or above.")
        check_background(self.background)

    def at(self, size: int) -> "Preprocess":
        """The same preprocessing for another input size in pixels, with `resize` in proportion."""
        return dataclasses.replace(self, size=size, resize=round(self.resize * size / self.size))

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dict of JSON types."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Preprocess":
        """Inverse of `to_dict`. ValueError for an unknown or missing field, so that none silently gets a default."""
        fields = _BEFORE | fields
        known = {field.name: None for field in dataclasses.fields(cls)}
        for name in fields:
            tree.choose(known, name, what="preprocessing field")
        if missing := [name for name in known if name not in fields]:
            raise ValueError(f"preprocessing lacks {', '.join(missing)}.")
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()}
        return cls(**values)


def scaled_size(height: int, width: int, short: int) -> tuple[int, int]:
    """Height and width after resizing the shorter side to `short`, rounded down like torchvision's Resize."""
    if height <= width:
        return short, int(short * width / height)
    return int(short * height / width), short


def crop_offset(length: int, size: int) -> int:
    """Pixels before a central crop, rounded half to even like torchvision's CenterCrop."""
    return round((length - size) / 2)


def stored_size(spec: Preprocess, fit: str) -> int:
    """Side in pixels of the squares made on the host: `spec.resize` for 'crop', which the device then crops."""
    return spec.resize if check_fit(fit) == "crop" else spec.size


def stored_offset(length: int, spec: Preprocess) -> int:
    """Pixels before the central square of side `spec.resize`, from which the device crops `spec.size`.

    Both crops round. This one is placed so that together they match torchvision's single CenterCrop(size).
    """
    return crop_offset(length, spec.size) - crop_offset(spec.resize, spec.size)


def resize_weights(source: int, target: int, spec: Preprocess) -> np.ndarray:
    """The matrix [target, source] that resizes one axis; its rows sum to 1.

    Pixel centers are at half-integers, as in PIL, torchvision, `jax.image` and `tf.image`. Bicubic uses Keys' kernel
    with a = -0.5, like these libraries with antialiasing.
    """
    step = source / target
    width = max(step, 1.0) if spec.antialias else 1.0
    centers = (np.arange(target) + 0.5) * step
    distance = np.abs(centers[:, None] - (np.arange(source) + 0.5)) / width
    if spec.interpolation == "bilinear":
        weights = np.maximum(1 - distance, 0)
    else:
        near = (1.5 * distance - 2.5) * distance**2 + 1
        far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
        weights = np.where(distance < 1, near, np.where(distance < 2, far, 0))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


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
    """Normalizes gray levels [batch, h, w, 3], RGB, 0 .. 255, to float32 in the network's channel order."""
    images = jnp.asarray(images, jnp.float32)
    if spec.channels == "BGR":
        images = images[..., ::-1]
    mean, std = (np.array(values, np.float32).reshape(1, 1, 1, 3) for values in (spec.mean, spec.std))
    return (images * np.float32(spec.scale) - mean) / std


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


def check_fit(fit: str) -> str:
    """Returns `fit`; ValueError unless it is one of `FITS`."""
    tree.choose(dict.fromkeys(FITS), fit, what="fit")
    return fit


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
