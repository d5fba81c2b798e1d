"""Augmentations by name for the field `augment`: jft's own, and what one of the user's own must be."""

from collections.abc import Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jft.utils.registry import Registry


class AugmentFunction(Protocol):
    """An augmentation: pure and jittable."""

    def __call__(self, images: jax.Array, key: jax.Array) -> jax.Array:
        """Varies each image of a batch by itself.

        Args:
          images: uint8 [batch, size, size, 3], RGB, 0 .. 255, of the size that the model reads.
          key: one JAX random key for the whole batch.

        Returns:
          uint8 [batch, size, size, 3].
        """
        ...


def vertical_flip(images: jax.Array, key: jax.Array) -> jax.Array:
    """`AugmentFunction`: upside down, half of the time."""
    flipped = jax.random.bernoulli(key, shape=(len(images), 1, 1, 1))
    return jnp.where(flipped, images[:, ::-1], images)


def color_jitter(images: jax.Array, key: jax.Array) -> jax.Array:
    """`AugmentFunction`: brightness, contrast and saturation, each times a factor from 0.6 .. 1.4 of the image's own.

    As `torchvision.transforms.ColorJitter(0.4, 0.4, 0.4)`, always in this order.
    """
    brightness, contrast, saturation = jax.random.uniform(key, (3, len(images), 1, 1, 1), minval=0.6, maxval=1.4)
    gray_of = jnp.array([0.299, 0.587, 0.114])  # ITU-R 601-2, as PIL
    x = jnp.clip(images * brightness, 0, 255)
    mean = jnp.mean(x @ gray_of, axis=(1, 2))[:, None, None, None]
    x = jnp.clip(mean + contrast * (x - mean), 0, 255)
    gray = (x @ gray_of)[..., None]
    x = jnp.clip(gray + saturation * (x - gray), 0, 255)
    return jnp.round(x).astype(jnp.uint8)


def random_erasing(images: jax.Array, key: jax.Array) -> jax.Array:
    """`AugmentFunction`: half of the time, noise in place of a rectangle (Zhong et al., 2020).

    It covers 2 to 33 % of the image, less where it meets the border, and its sides' ratio is 0.3 to 3.3.
    """
    batch, height, width, _ = images.shape
    for_choice, for_area, for_ratio, for_place, for_noise = jax.random.split(key, 5)
    area = jax.random.uniform(for_area, (batch,), minval=0.02, maxval=0.33) * height * width
    ratio = jnp.exp(jax.random.uniform(for_ratio, (batch,), minval=jnp.log(0.3), maxval=jnp.log(3.3)))
    sides = jnp.minimum(jnp.sqrt(jnp.stack([area * ratio, area / ratio])), jnp.array([[height], [width]]))
    corner = jax.random.uniform(for_place, (2, batch)) * (jnp.array([[height], [width]]) - sides)
    end = corner + sides
    y, x = jnp.arange(height)[None, :, None], jnp.arange(width)[None, None, :]
    low, high = corner[:, :, None, None], end[:, :, None, None]
    inside = (low[0] <= y) & (y < high[0]) & (low[1] <= x) & (x < high[1])
    inside &= jax.random.bernoulli(for_choice, shape=(batch, 1, 1))
    noise = jax.random.randint(for_noise, images.shape, 0, 256).astype(jnp.uint8)
    return jnp.where(inside[..., None], noise, images)


AUGMENTATIONS: Registry[AugmentFunction] = Registry(
    "augment",
    "(uint8 images [batch, h, w, 3], key) -> the same",
    {"vertical_flip": vertical_flip, "color_jitter": color_jitter, "random_erasing": random_erasing},
)


def resolve(names: Sequence[str], given: Sequence[Any] | None, size: int) -> tuple[AugmentFunction, ...]:
    """The augmentations of a config, in order.

    Args:
      names: the config's `augment`.
      given: what was given in Python for them, if it was.
      size: side of the images in pixels, to try each on shapes.

    Raises:
      ValueError: there is no such, it fails, or gives other than it took.
    """
    functions = AUGMENTATIONS.resolve_all(names, given)
    for name, function in zip(names, functions, strict=True):
        _check(name, function, size)
    return functions


def _check(name: str, function: Any, size: int) -> None:
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.uint8)
    called = f"augment {name!r} on uint8 {list(images.shape)} images"
    try:
        found = jax.eval_shape(function, images, jax.eval_shape(lambda: jax.random.key(0)))
    except Exception as error:  # whatever the user's own code raises
        raise ValueError(
            f"{called} fails ({type(error).__name__}: {error}). It is called as {AUGMENTATIONS.signature}, inside of "
            "jax.jit."
        ) from error
    if (getattr(found, "shape", None), getattr(found, "dtype", None)) != (images.shape, images.dtype):
        what = f"{found.dtype} {list(found.shape)}" if hasattr(found, "shape") else type(found).__name__
        raise ValueError(f"{called} gives {what}: give as many images of the same size and type, rounded and clipped.")
