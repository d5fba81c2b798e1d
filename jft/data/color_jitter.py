"""Brightness, contrast, saturation and hue of images, as torchvision computes them, on the device."""

import jax
import jax.numpy as jnp

_LUMA = (0.299, 0.587, 0.114)  # ITU-R 601-2, as PIL


def adjust(
    images: jax.Array,
    brightness: jax.Array | float = 1.0,
    contrast: jax.Array | float = 1.0,
    saturation: jax.Array | float = 1.0,
    hue: jax.Array | float | None = None,
) -> jax.Array:
    """Changes the colors of images, in this order, as torchvision's `adjust_brightness`, ... do in float32.

    Args:
      images: [batch, h, w, 3], RGB, 0 .. 255.
      brightness: factor on all levels, [batch] or a number, 0 and above, like the others.
      contrast: factor on the distance from the mean gray level of the image.
      saturation: factor on the distance of a pixel from its own gray level; 0: gray.
      hue: turn of the color circle, -0.5 .. 0.5 of its whole; None: none.

    Returns:
      float32 [batch, h, w, 3], 0 .. 255, not rounded.
    """
    brightness, contrast, saturation = (
        jnp.reshape(jnp.asarray(factor, jnp.float32), (-1, 1, 1, 1)) for factor in (brightness, contrast, saturation)
    )
    x = jnp.clip(images * brightness, 0, 255)
    mean = jnp.mean(luma(x), axis=(1, 2, 3), keepdims=True)
    x = jnp.clip(mean + contrast * (x - mean), 0, 255)
    gray = luma(x)
    x = jnp.clip(gray + saturation * (x - gray), 0, 255)
    return x if hue is None else turned(x, jnp.reshape(jnp.asarray(hue, jnp.float32), (-1, 1, 1)))


def luma(images: jax.Array) -> jax.Array:
    """The gray level of each pixel of [..., 3]: float32 [..., 1]."""
    red, green, blue = (images[..., channel : channel + 1] * _LUMA[channel] for channel in range(3))
    return red + green + blue


def turned(images: jax.Array, hue: jax.Array) -> jax.Array:
    """Images, float32 [batch, h, w, 3], with their hue turned by a share of the circle; value and saturation stay.

    The hue of the HSV hexcone (Smith, Color Gamut Transform Pairs, 1978): 0 at red, 1/3 at green, 2/3 at blue.
    """
    red, green, blue = jnp.moveaxis(images, -1, 0)
    value, low = jnp.max(images, axis=-1), jnp.min(images, axis=-1)
    chroma = value - low
    safe = jnp.where(chroma > 0, chroma, 1.0)
    # Not `value == red`: XLA may compute a channel twice, in two ways that differ in the last bit.
    sixth = jnp.where(
        (red >= green) & (red >= blue),
        (green - blue) / safe,
        jnp.where(green >= blue, 2.0 + (blue - red) / safe, 4.0 + (red - green) / safe),
    )
    sixth = sixth + 6.0 * hue
    # A channel is as far below the value as its place on the circle is from where it is full, at most by the chroma.
    places = (jnp.mod(sixth + offset, 6.0) for offset in (5.0, 3.0, 1.0))
    return jnp.stack(
        [value - chroma * jnp.clip(jnp.minimum(place, 4.0 - place), 0.0, 1.0) for place in places], axis=-1
    )
