"""Augmentations by name: what each does to pixels, where it comes in, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jft.data import augmentations
from jft.data.augment import Augmentation, make_train_transform
from jft.data.transforms import Preprocess
from jft.features import cache_key
from jft.features.feature_step import Wanted

KEY = jax.random.key(0)
SPEC = Preprocess(size=8, resize=8, mean=(0, 0, 0), std=(1, 1, 1))


def noise(n=64, size=8):
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 3)).astype(np.uint8)


def test_vertical_flip_turns_about_half_upside_down():
    images = noise()
    found = np.asarray(augmentations.vertical_flip(images, KEY))
    flipped = [np.array_equal(after, before[::-1]) for before, after in zip(images, found, strict=True)]
    same = [np.array_equal(after, before) for before, after in zip(images, found, strict=True)]
    assert np.logical_xor(flipped, same).all() and 16 < sum(flipped) < 48


def test_color_jitter_keeps_grays_gray_and_stays_in_its_range():
    gray = np.full((64, 8, 8, 3), 100, np.uint8)
    found = np.asarray(augmentations.color_jitter(gray, KEY))
    assert (found == found[..., :1]).all() and len(np.unique(found[:, 0, 0, 0])) > 20
    assert found.min() >= 60 and found.max() <= 140
    images = noise(4)
    assert not np.array_equal(augmentations.color_jitter(images, KEY), images)


def test_random_erasing_replaces_a_rectangle_of_about_half_of_the_images():
    images = np.zeros((400, 32, 32, 3), np.uint8)
    changed = (np.asarray(augmentations.random_erasing(images, KEY)) != images).any(axis=-1)
    shares = changed.mean(axis=(1, 2))
    assert 150 < (shares > 0).sum() < 250 and shares.max() < 0.4
    for mask in changed[shares > 0]:
        rows, columns = mask.any(axis=1), mask.any(axis=0)
        assert rows.sum() * columns.sum() == pytest.approx(mask.sum(), abs=3)  # noise may draw a 0


def test_augment_comes_after_resizing_and_before_normalizing():
    seen = []

    def note(images, key):
        seen.append((images.shape, images.dtype))
        return jnp.full_like(images, 51)

    for fit, crop in (("whole", "random"), ("crop", "random"), ("crop", "center")):
        augmentation = Augmentation(flip=True, crop=crop, augment=(augmentations.vertical_flip, note))
        transform = make_train_transform(SPEC, fit=fit, augmentation=augmentation)
        np.testing.assert_allclose(transform(noise(2, 16), KEY), 0.2, rtol=1e-6)
    assert seen == [((2, 8, 8, 3), jnp.uint8)] * 3


def test_without_augment_the_images_are_as_they_were():
    images, usual = noise(4), Augmentation(flip=True)
    once = make_train_transform(SPEC, fit="whole", augmentation=usual)(images, KEY)
    assert np.array_equal(
        once, make_train_transform(SPEC, fit="whole", augmentation=Augmentation.from_config(vars(usual)))(images, KEY)
    )


def test_features_of_augmented_images_are_not_cached():
    augmentation = Augmentation(augment=(augmentations.vertical_flip,))
    assert augmentation.uncountable(SPEC, "whole") == "augment changes every image anew"
    with pytest.raises(ValueError, match="but augment changes every image anew"):
        cache_key.recipe(None, {}, SPEC, Wanted("conv1", False, "whole", "device", augmentation))


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (lambda images, key: images / 2, r"gives float32 \[2, 8, 8, 3\]: give as many images"),
        (lambda images, key: images[:, :4], r"gives uint8 \[2, 4, 8, 3\]"),
        (lambda images: images, r"fails \(TypeError"),
        (lambda images, key: None, r"gives NoneType"),
    ],
)
def test_a_wrong_one_is_refused(own, message):
    with pytest.raises(ValueError, match=message):
        augmentations.resolve(("own",), (own,), 8)
    with pytest.raises(ValueError, match=r"unknown augment 'vertical_flipp', did you mean 'vertical_flip'"):
        augmentations.resolve(("vertical_flipp",), None, 8)
