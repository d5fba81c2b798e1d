"""mixup and CutMix: targets follow the pixels, shares come from Beta, all from one key."""

import functools

import jax
import numpy as np
import pytest

from jft.data.mixup import mix

BATCH, SIDE, CLASSES = 6, 12, 4


@pytest.fixture(scope="module")
def batch():
    """Image k is all k + 1, so that a mixed pixel tells the share of either."""
    images = np.ones((BATCH, SIDE, SIDE + 2, 3), np.float32) * (1 + np.arange(BATCH)).reshape(-1, 1, 1, 1)
    return images, np.eye(CLASSES, dtype=np.float32)[np.arange(BATCH) % CLASSES]


@functools.cache
def mixer(mixup, cutmix):
    """Mixes the batch with each of the keys."""
    one = functools.partial(mix, mixup=mixup, cutmix=cutmix)
    return jax.jit(lambda images, targets, keys: jax.lax.map(lambda key: one(images, targets, key), keys))


def keys(count):
    return jax.random.split(jax.random.key(0), count)


def shares(targets):
    """What the first image, of class 0, has left of its target; its partner's class is 1."""
    return np.asarray(targets[:, 0, 0])


def test_mixup_blends_images_as_their_targets(batch):
    images, targets = map(np.asarray, mixer(0.4, 0.0)(*batch, keys(300)))
    assert images.dtype == targets.dtype == np.float32
    share = shares(targets)[:, None, None, None, None]
    np.testing.assert_allclose(images, share * batch[0] + (1 - share) * batch[0][::-1], rtol=1e-5)
    np.testing.assert_allclose(
        targets, share[..., 0, 0] * batch[1] + (1 - share[..., 0, 0]) * batch[1][::-1], atol=1e-6
    )
    # Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1)) = 0.139.
    assert abs(share.mean() - 0.5) < 0.07 and abs(share.var() - 0.139) < 0.03


def test_cutmix_targets_are_the_area_that_is_seen(batch):
    images, targets = map(np.asarray, mixer(0.0, 1.0)(*batch, keys(300)))
    own = images == batch[0]
    assert ((images == batch[0]) | (images == batch[0][::-1])).all()
    seen = own[:, 0, :, :, 0].mean(axis=(1, 2))
    np.testing.assert_allclose(shares(targets), seen, atol=1e-6)
    np.testing.assert_allclose(targets.sum(axis=2), 1, atol=1e-6)
    pasted = ~own[:, 0, :, :, 0]
    rectangle = pasted.any(axis=2)[:, :, None] & pasted.any(axis=1)[:, None, :]
    np.testing.assert_array_equal(pasted, rectangle)
    assert pasted.any(axis=0).all() and 0.2 < pasted.mean() < 0.5  # everywhere; below 1/2, being cut off at the sides
    edges = np.diff(pasted.astype(int), axis=1, prepend=0, append=0)
    assert (np.abs(edges).sum(axis=1) <= 2).all()  # one box, in one piece


def test_both_share_the_batches_evenly(batch):
    images, _ = map(np.asarray, mixer(0.5, 0.5)(*batch, keys(300)))
    blended = ((images != batch[0]) & (images != batch[0][::-1])).any(axis=(1, 2, 3, 4))
    assert 110 < blended.sum() < 190


def test_multi_hot_targets_that_agree_stay(batch):
    targets = np.tile(np.array([[1, 1, 0, 1]], np.float32), (BATCH, 1))
    _, mixed = mixer(0.4, 0.0)(batch[0], targets, keys(300))
    np.testing.assert_allclose(mixed, np.broadcast_to(targets, mixed.shape), atol=1e-6)


def test_none_changes_nothing_and_a_key_decides_all(batch):
    assert mix(*batch, jax.random.key(0), mixup=0.0, cutmix=0.0) == batch
    order = np.arange(300)[::-1]
    images, again = (np.asarray(mixer(0.4, 0.0)(*batch, keys(300)[k])[0]) for k in (slice(None), order))
    np.testing.assert_array_equal(images, again[order])
    assert (images[0] != images[1]).any()


def test_what_cannot_be_mixed(batch):
    with pytest.raises(ValueError, match=r"cutmix = -1\.0 must be 0 \(off\) or above"):
        mix(*batch, jax.random.key(0), mixup=0.0, cutmix=-1.0)
    with pytest.raises(ValueError, match="needs float images, these are uint8"):
        mix(batch[0].astype(np.uint8), batch[1], jax.random.key(0), mixup=0.2, cutmix=0.0)
