"""Augmentations by name for the field `augment`: jft's own, and what one of the user's own must be.

A name may set parameters: `augment = ("color_jitter(0.2, hue=0.05)", "random_erasing(0.25)")`. They are the arguments
behind `images` and `key`, by place or by name, all numbers; those that are not set keep their defaults.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jft.data.color_jitter import adjust, luma
from jft.data.resized_crop import draw_erased
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


def vertical_flip(images: jax.Array, key: jax.Array, probability: float = 0.5) -> jax.Array:
    """`AugmentFunction`: upside down with this probability."""
    return _some(key, probability, images[:, ::-1], images)


def color_jitter(
    images: jax.Array,
    key: jax.Array,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.4,
    hue: float = 0.0,
) -> jax.Array:
    """`AugmentFunction`: brightness, contrast and saturation times random factors, and the hue turned, in this order.

    As `torchvision.transforms.v2.ColorJitter`, which does them in random order: a factor is uniform in 1 - s .. 1 + s
    for a strength s, at least 0; the turn is uniform in -hue .. hue of the color circle.

    Raises:
      ValueError: a strength below 0, or a hue above 0.5.
    """
    if min(brightness, contrast, saturation, hue) < 0 or hue > 0.5:
        raise ValueError(
            f"strengths are brightness {brightness:g}, contrast {contrast:g}, saturation {saturation:g} and hue "
            f"{hue:g}: give 0 or more, and for hue at most 0.5, half of the color circle."
        )
    strengths = jnp.array([brightness, contrast, saturation])[:, None]
    low, high = jnp.maximum(1 - strengths, 0), 1 + strengths
    brightness_of, contrast_of, saturation_of = jax.random.uniform(key, (3, len(images)), minval=low, maxval=high)
    turn = jax.random.uniform(jax.random.fold_in(key, 3), (len(images),), minval=-hue, maxval=hue) if hue else None
    return _rounded(adjust(images, brightness_of, contrast_of, saturation_of, turn))


def random_grayscale(images: jax.Array, key: jax.Array, probability: float = 0.1) -> jax.Array:
    """`AugmentFunction`: gray with this probability, as `torchvision.transforms.v2.RandomGrayscale`."""
    return _some(key, probability, _rounded(jnp.broadcast_to(luma(images), images.shape)), images)


def random_erasing(
    images: jax.Array,
    key: jax.Array,
    probability: float = 0.5,
    min_area: float = 0.02,
    max_area: float = 0.33,
    min_ratio: float = 0.3,
    max_ratio: float = 3.3,
) -> jax.Array:
    """`AugmentFunction`: with this probability, noise in place of a rectangle (Zhong et al., 2020).

    Its area is a share of the image's, its ratio that of height to width; see `resized_crop.draw_erased`. Each level of
    the noise is as likely.

    Raises:
      ValueError: shares that are no range within 0 .. 1, or ratios that are no range.
    """
    if not 0 <= min_area <= max_area <= 1 or not 0 < min_ratio <= max_ratio:
        raise ValueError(
            f"areas are {min_area:g} to {max_area:g} and ratios {min_ratio:g} to {max_ratio:g}: give the smaller one "
            "first, areas as shares of 1, ratios above 0."
        )
    batch, height, width, _ = images.shape
    for_choice, for_boxes, for_noise = jax.random.split(key, 3)
    boxes = draw_erased(for_boxes, batch, height, width, (min_area, max_area), (min_ratio, max_ratio))
    top, left, tall, wide = boxes.T[:, :, None, None]
    y, x = jnp.arange(height)[None, :, None], jnp.arange(width)[None, None, :]
    inside = (top <= y) & (y < top + tall) & (left <= x) & (x < left + wide)
    noise = jax.random.bits(for_noise, images.shape, jnp.uint8)
    return _some(for_choice, probability, jnp.where(inside[..., None], noise, images), images)


def _some(key: jax.Array, probability: float, changed: jax.Array, images: jax.Array) -> jax.Array:
    """Each image changed with this probability; ValueError where it is none."""
    if not 0 <= probability <= 1:
        raise ValueError(f"probability {probability:g}: give a number in 0 .. 1.")
    return jnp.where(jax.random.bernoulli(key, probability, (len(images), 1, 1, 1)), changed, images)


def _rounded(images: jax.Array) -> jax.Array:
    return jnp.round(images).astype(jnp.uint8)


AUGMENTATIONS: Registry[AugmentFunction] = Registry(
    "augment",
    "(uint8 images [batch, h, w, 3], key) -> the same",
    {
        "vertical_flip": vertical_flip,
        "color_jitter": color_jitter,
        "random_grayscale": random_grayscale,
        "random_erasing": random_erasing,
    },
    arguments=2,
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
