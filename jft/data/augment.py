"""Training pictures, varied on the device: random crops and mirror images, of uint8, before anything is resized."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jft.data import preprocess
from jft.data.preprocess import Preprocess


def augment(
    images: jax.Array, rng: jax.Array, *, flip: bool, crop_padding: float, size: int | None = None
) -> jax.Array:
    """Cuts every picture out at its own random place and mirrors half of them.

    Args:
      images: [batch, h, w, 3], uint8 or float.
      rng: one key for the whole batch; every picture draws its own numbers from it.
      flip: mirror left and right with probability 1/2.
      crop_padding: black border added on each side before cutting, as a share of that side: CIFAR's classic 4 of 32
        pixels are 0.125. 0 adds none.
      size: side of the square to cut out, in pixels; None cuts out h x w.

    Returns:
      [batch, size, size, 3], or [batch, h, w, 3] where `size` is None, in the type of `images`.

    Raises:
      ValueError: the padded pictures are smaller than `size`.
    """
    batch, height, width, channels = images.shape
    crop_rng, flip_rng = jax.random.split(rng)
    pads = tuple(round(crop_padding * length) for length in (height, width))
    target = (size or height, size or width)
    room = tuple(length + 2 * pad - wanted for length, pad, wanted in zip((height, width), pads, target, strict=True))
    if min(room) < 0:
        raise ValueError(f"cannot cut {target[0]}x{target[1]} out of {height}x{width} pictures padded by {pads}.")
    if max(room) > 0:
        padded = jnp.pad(images, ((0, 0), (pads[0], pads[0]), (pads[1], pads[1]), (0, 0)))
        corners = jax.random.randint(crop_rng, (batch, 2), 0, jnp.array(room) + 1)
        cut = functools.partial(jax.lax.dynamic_slice, slice_sizes=(*target, channels))
        images = jax.vmap(lambda image, corner: cut(image, (corner[0], corner[1], 0)))(padded, corners)
    if flip:
        mirrored = jax.random.bernoulli(flip_rng, shape=(batch, 1, 1, 1))
        images = jnp.where(mirrored, images[:, :, ::-1], images)
    return images


def make_train_transform(
    spec: Preprocess, *, fit: str, flip: bool, crop_padding: float
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """What the training step does to its pictures.

    Args:
      spec: of the weights.
      fit: 'crop' cuts a random `spec.size` square out of pictures whose shorter side is `spec.resize`; 'whole' cuts
        raw pictures at their own size and squashes them to `spec.size`.
      flip: see `augment`.
      crop_padding: see `augment`.

    Returns:
      `(images, rng) -> inputs`: pure, jittable; images uint8 [batch, h, w, 3], inputs float32
      [batch, spec.size, spec.size, 3], normalised.
    """
    preprocess.check_fit(fit)

    def transform(images: jax.Array, rng: jax.Array) -> jax.Array:
        if fit == "crop":
            images = preprocess.resize_shorter(images, spec)
        size = spec.size if fit == "crop" else None
        images = augment(images, rng, flip=flip, crop_padding=crop_padding, size=size)
        return preprocess.normalise(preprocess.resize(images, spec.size, spec.size, spec), spec)

    return transform


def make_eval_transform(spec: Preprocess, *, fit: str) -> Callable[[jax.Array], jax.Array]:
    """What evaluation and prediction do to their pictures: `preprocess.to_model_input` for one spec and fit."""
    preprocess.check_fit(fit)
    return functools.partial(preprocess.to_model_input, spec=spec, fit=fit)
