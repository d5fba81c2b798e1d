"""Random resized crops on the device: a part of each image, of random area and shape, resized to the network's size."""

import jax
import jax.numpy as jnp

from jft.data.preprocess import Preprocess
from jft.data.transforms import resize_filter

RATIO = (3 / 4, 4 / 3)  # of the width to the height
_ATTEMPTS = 10


def draw_boxes(
    key: jax.Array, batch: int, height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float] = RATIO
) -> jax.Array:
    """Draws a part of each image as torchvision's `RandomResizedCrop.get_params` does.

    The area is uniform in `scale`, the ratio log-uniform in `ratio`, the place uniform; of ten draws the first counts
    that fits into the image, and where none does the largest central part whose ratio is allowed.

    Args:
      key: one JAX random key for the whole batch.
      batch: number of images.
      height: of the images, in pixels.
      width: of the images, in pixels.
      scale: least and largest share of the image's area.
      ratio: least and largest width / height.

    Returns:
      int32 [batch, 4]: top, left, height and width, in pixels.
    """
    size, fits, for_place = _draw_sizes(key, batch, (height, width), scale, ratio)
    size = jnp.where(fits[:, None], size, jnp.array(_central(height, width, ratio), jnp.int32))
    whole = jnp.array([height, width], jnp.int32)
    corner = jnp.where(fits[:, None], _draw_corners(for_place, whole - size), (whole - size) // 2)
    return jnp.concatenate([corner, size], axis=1)


def draw_erased(
    key: jax.Array, batch: int, height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> jax.Array:
    """Draws a part of each image as torchvision's `RandomErasing.make_params` does: with each side below the image's.

    Arguments are those of `draw_boxes`, but `ratio` is height / width.

    Returns:
      int32 [batch, 4]: top, left, height and width, in pixels; all 0 where none of ten draws fits.
    """
    wide = 1 / ratio[1], 1 / ratio[0]
    size, fits, for_place = _draw_sizes(key, batch, (height - 1, width - 1), scale, wide, area=height * width)
    corner = _draw_corners(for_place, jnp.array([height, width], jnp.int32) - size)
    return jnp.where(fits[:, None], jnp.concatenate([corner, size], axis=1), 0)


def _draw_sizes(
    key: jax.Array,
    batch: int,
    most: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    area: int | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The first of ten draws of each image that fits.

    Args:
      key, batch, scale: see `draw_boxes`.
      most: height and width that fit.
      ratio: least and largest width / height.
      area: in pixels, of which `scale` is a share; None: `most`.

    Returns:
      Height and width, int32 [batch, 2]; whether any fits, bool [batch]; a key for the places.
    """
    for_area, for_ratio, for_place = jax.random.split(key, 3)
    shape = (batch, _ATTEMPTS)
    areas = jax.random.uniform(for_area, shape, minval=scale[0], maxval=scale[1]) * (area or most[0] * most[1])
    ratios = jnp.exp(jax.random.uniform(for_ratio, shape, minval=jnp.log(ratio[0]), maxval=jnp.log(ratio[1])))
    sides = jnp.round(jnp.sqrt(jnp.stack([areas / ratios, areas * ratios], axis=-1))).astype(jnp.int32)
    fits = jnp.all((sides > 0) & (sides <= jnp.array(most, jnp.int32)), axis=-1)
    first = jnp.argmax(fits, axis=1)[:, None, None]
    return jnp.take_along_axis(sides, first, axis=1)[:, 0], jnp.any(fits, axis=1), for_place


def _draw_corners(key: jax.Array, room: jax.Array) -> jax.Array:
    """Upper left corners, int32 [batch, 2], uniform in 0 .. room, int32 [batch, 2]."""
    corners = jnp.floor(jax.random.uniform(key, room.shape) * (room + 1)).astype(jnp.int32)
    return jnp.minimum(corners, room)


def _central(height: int, width: int, ratio: tuple[float, float]) -> tuple[int, int]:
    """Height and width of the largest part of an image whose ratio is allowed."""
    if width / height < ratio[0]:
        return round(width / ratio[0]), width
    if width / height > ratio[1]:
        return height, round(height * ratio[1])
    return height, width


def resize_boxes(images: jax.Array, boxes: jax.Array, spec: Preprocess) -> jax.Array:
    """Cuts out a part of each image and resizes it, as cutting first and `transforms.resize` then.

    Args:
      images: uint8 or float [batch, h, w, channels].
      boxes: int32 [batch, 4]: top, left, height and width of each part, in pixels.
      spec: its size, interpolation and antialiasing.

    Returns:
      float32 [batch, spec.size, spec.size, channels], not rounded.
    """
    wide = jnp.asarray(images, jnp.float32)
    rows, columns = (_weights(boxes[:, axis], boxes[:, axis + 2], images.shape[axis + 1], spec) for axis in range(2))
    # The highest precision, or accelerators multiply with 8 to 10 bits and gray levels change.
    exact = jax.lax.Precision.HIGHEST
    return jnp.einsum(
        "bpw,bowc->bopc", columns, jnp.einsum("boh,bhwc->bowc", rows, wide, precision=exact), precision=exact
    )


def _weights(start: jax.Array, length: jax.Array, size: int, spec: Preprocess) -> jax.Array:
    """[batch, spec.size, size]: each image's `transforms.resize_weights` of its part, zero outside of it."""
    step = length.astype(jnp.float32) / spec.size
    width = jnp.maximum(step, 1.0) if spec.antialias else jnp.ones_like(step)
    centers = start[:, None] + (jnp.arange(spec.size) + 0.5) * step[:, None]
    pixels = jnp.arange(size)
    weights = resize_filter((centers[:, :, None] - (pixels + 0.5)) / width[:, None, None], spec.interpolation, jnp)
    inside = (start[:, None] <= pixels) & (pixels < (start + length)[:, None])
    weights = jnp.where(inside[:, None, :], weights, 0.0)
    return weights / jnp.sum(weights, axis=-1, keepdims=True)
