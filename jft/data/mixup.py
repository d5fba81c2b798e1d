"""Mixup and CutMix on the device: mixes pairs of training images and their labels."""

import functools

import jax
import jax.numpy as jnp


def mix(
    images: jax.Array, targets: jax.Array, rng: jax.Array, *, mixup: float, cutmix: float
) -> tuple[jax.Array, jax.Array]:
    """Mixes image i of a batch of n with image n - 1 - i.

    mixup (Zhang et al. 2018) averages the two images with weights lambda and 1 - lambda, lambda ~ Beta(alpha, alpha).
    CutMix (Yun et al. 2019) pastes a box of area 1 - lambda from the second image into the first; the part of the box
    outside the image is cut off. Lambda and the box are the same for the whole batch. Targets are mixed by the share
    of pixels from each image.

    Args:
      images: float [batch, h, w, 3], normalized or not.
      targets: float32 [batch, classes]: one-hot, smoothed or multi-hot.
      rng: one key for the whole batch.
      mixup: alpha of mixup; 0: no mixup.
      cutmix: alpha of CutMix; 0: no CutMix. If both are above 0, each batch uses one of the two with probability 1/2.

    Returns:
      Images and targets, in the shapes and types of the arguments; unchanged if both alphas are 0.

    Raises:
      ValueError: a negative alpha, or images that are not float.
    """
    if min(mixup, cutmix) < 0:
        raise ValueError(f"mixup = {mixup} and cutmix = {cutmix} must be 0 (off) or above.")
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(f"mixup needs float images, these are {images.dtype}: mix after normalizing.")
    if not mixup and not cutmix:
        return images, targets
    mix_rng, coin_rng = jax.random.split(rng)
    ways = [functools.partial(way, alpha=alpha) for way, alpha in ((_mixup, mixup), (_cutmix, cutmix)) if alpha]
    if len(ways) == 1:
        return ways[0](images, targets, mix_rng)
    return jax.lax.cond(jax.random.bernoulli(coin_rng), *ways, images, targets, mix_rng)


def _mixup(images: jax.Array, targets: jax.Array, rng: jax.Array, *, alpha: float) -> tuple[jax.Array, jax.Array]:
    share = jax.random.beta(rng, alpha, alpha)
    return _blend(images, share), _blend(targets, share)


def _cutmix(images: jax.Array, targets: jax.Array, rng: jax.Array, *, alpha: float) -> tuple[jax.Array, jax.Array]:
    share_rng, row_rng, column_rng = jax.random.split(rng, 3)
    side = jnp.sqrt(1 - jax.random.beta(share_rng, alpha, alpha))
    height, width = images.shape[1:3]
    rows, columns = _interval(row_rng, height, side), _interval(column_rng, width, side)
    box = rows[:, None] & columns
    return jnp.where(box[:, :, None], images[::-1], images), _blend(targets, 1 - jnp.mean(box))


def _interval(rng: jax.Array, length: int, share: jax.Array) -> jax.Array:
    """bool [length], True for the pixels within `share * length / 2` of a random center."""
    half = (share * length).astype(jnp.int32) // 2
    center = jax.random.randint(rng, (), 0, length)
    pixels = jnp.arange(length)
    return (pixels >= center - half) & (pixels < center + half)


def _blend(values: jax.Array, share: jax.Array) -> jax.Array:
    """`share * values + (1 - share) * partners`, [batch, ...], in the type of `values`."""
    share = share.astype(values.dtype)
    return share * values + (1 - share) * values[::-1]
