"""Augmentations by name: what each does to pixels, where it comes in, and what is refused.

tests/golden/augmentations.npz holds what torchvision gives, by scripts/golden/make_augmentations.py.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jft.config import default_config, validate
from jft.data import augmentations, color_jitter, resized_crop
from jft.data.augment import Augmentation, make_train_transform
from jft.data.transforms import Preprocess
from jft.features import cache_key
from jft.features.feature_step import Wanted
from jft.utils.registry import code_allowed

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


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).parents[1] / "golden/augmentations.npz") as held:
        return dict(held)


def test_colors_are_changed_as_torchvision_changes_them(golden):
    adjust = jax.jit(color_jitter.adjust)
    for (brightness, contrast, saturation, hue), wanted in zip(golden["colors"], golden["adjusted"], strict=True):
        factors = [np.full(2, factor, np.float32) for factor in (brightness, contrast, saturation, hue)]
        found = np.asarray(adjust(golden["images"], *factors))
        np.testing.assert_allclose(found, wanted, atol=0.15)  # its weight of red is 0.2989


def test_color_jitter_draws_each_factor_uniformly_and_leaves_out_what_is_0():
    jitter = jax.jit(augmentations.color_jitter, static_argnums=(2, 3, 4, 5))
    gray = np.full((20_000, 1, 1, 3), 100, np.uint8)
    brightness = np.asarray(jitter(gray, KEY, 0.3, 0, 0))[:, 0, 0, 0] / 100
    for moment, wanted in (("mean", 1.0), ("std", 0.3 / 3**0.5), ("min", 0.7), ("max", 1.3)):
        assert getattr(brightness, moment)() == pytest.approx(wanted, abs=0.01)
    images = noise(4)
    np.testing.assert_array_equal(jitter(images, KEY, 0, 0, 0), images)
    red = np.tile(np.array([255, 0, 0], np.uint8), (20_000, 1, 1, 1))
    turned = np.asarray(jitter(red, KEY, 0, 0, 0, 0.1), np.float64)[:, 0, 0]
    angle = (turned[:, 1] - turned[:, 2]) / 255 / 6  # of the color circle, next to red
    assert (turned[:, 0] == 255).all() and np.abs(angle).max() <= 0.1
    assert angle.mean() == pytest.approx(0, abs=2e-3) and angle.std() == pytest.approx(0.1 / 3**0.5, rel=0.02)
    strong = np.asarray(jitter(gray, KEY, 3.0, 0, 0))[:, 0, 0, 0]
    assert strong.min() == 0 and strong.max() == 255  # factors from 0, not from -2


def test_random_grayscale(golden):
    images = golden["images"]
    np.testing.assert_allclose(augmentations.random_grayscale(images, KEY, 1.0), golden["grayscale"], atol=0.6)
    np.testing.assert_array_equal(augmentations.random_grayscale(images, KEY, 0.0), images)
    colored = np.tile(np.array([200, 0, 0], np.uint8), (10_000, 1, 1, 1))
    gray = np.ptp(np.asarray(augmentations.random_grayscale(colored, KEY)), axis=-1) == 0
    assert gray.mean() == pytest.approx(0.1, abs=0.015)


@pytest.mark.parametrize("kind", ["crops", "erased"])
def test_boxes_are_drawn_as_torchvision_draws_them(golden, kind):
    """Means and covariances of top, left, height and width, to five standard errors of 100,000 draws."""
    draw = {"crops": resized_crop.draw_boxes, "erased": resized_crop.draw_erased}[kind]
    for (height, width, *ranges), (mean, *covariance) in zip(golden[kind], golden[f"{kind}_moments"], strict=True):
        scale, ratio = tuple(ranges[:2]), tuple(ranges[2:])
        count = int(golden["draws"])
        jitted = jax.jit(draw, static_argnums=(1, 2, 3, 4, 5))
        found = np.asarray(jitted(KEY, count, int(height), int(width), scale, ratio), np.float64)
        covariance = np.array(covariance)
        deviation = np.sqrt(np.diag(covariance))
        assert (np.abs(found.mean(axis=0) - mean) <= 5 * deviation * np.sqrt(2 / count) + 1e-9).all()
        error = 5 * np.outer(deviation, deviation) * np.sqrt(6 / count) + 1e-9  # of a kurtosis up to 6
        assert (np.abs(np.cov(found.T) - covariance) <= error).all()


def test_random_erasing_fills_a_rectangle_of_some_images_with_noise():
    images = np.full((2000, 16, 24, 3), 7, np.uint8)
    erase = jax.jit(augmentations.random_erasing, static_argnums=(2, 3, 4))
    found = np.asarray(erase(images, KEY, 0.25, 0.1, 0.2))
    changed = (found != 7).any(axis=-1)
    assert (changed.any(axis=(1, 2))).mean() == pytest.approx(0.25, abs=0.05)
    for mask in changed[changed.any(axis=(1, 2))]:
        rows, columns = mask.any(axis=1), mask.any(axis=0)
        assert mask[np.ix_(rows, columns)].all() and 0.08 < mask.mean() < 0.22
    levels = found[changed]
    assert levels.mean() == pytest.approx(127.5, abs=2) and levels.std() == pytest.approx(256 / 12**0.5, abs=2)


def test_parameters_stand_behind_the_name():
    names = ("color_jitter(0.2, hue=5e-2)", "random_erasing( 1 )", "vertical_flip()")
    jitter, erasing, flip = augmentations.resolve(names, None, 8)
    assert jitter.func is augmentations.color_jitter and jitter.keywords == {"brightness": 0.2, "hue": 0.05}
    assert erasing.func is augmentations.random_erasing and erasing.keywords == {"probability": 1.0}
    assert flip is augmentations.vertical_flip


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("color_jitter(0.1, blue=2)", "its parameters are brightness, contrast, saturation, hue. Set each once"),
        ("color_jitter(0.1, brightness=0.2)", "Set each once"),
        ("color_jitter(hue=0.1, 0.2)", "those by name behind the others"),
        ("vertical_flip(0.1, 0.2)", "its parameters are probability"),
        ("color_jitter(os.getcwd())", "unknown augment|is neither a number nor NAME=NUMBER"),
        ("color_jitter(0.1,)", "'' is neither a number"),
        ("color_jiter(0.1)", "unknown augment 'color_jiter', did you mean 'color_jitter'"),
        ("color_jitter(hue=0.7)", "hue 0.7: give 0 or more, and for hue at most 0.5"),
        ("color_jitter(-1)", "strengths are brightness -1"),
        ("random_grayscale(2)", r"probability 2: give a number in 0 \.\. 1"),
        ("random_erasing(0.5, 0.4, 0.2)", "areas are 0.4 to 0.2"),
    ],
)
def test_wrong_parameters_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        augmentations.resolve((name,), None, 8)


def test_a_config_is_checked_for_parameters_before_anything_is_read():
    config = default_config()
    config.augment = ("color_jitter(0.2, 0.1)", "module:function(3)")
    validate(config)
    config.augment = ("color_jitter(0.2, blue=0.1)",)
    with pytest.raises(ValueError, match="its parameters are brightness"):
        validate(config)


def test_functions_of_ones_own_take_parameters(monkeypatch):
    images = noise(2)
    monkeypatch.setattr(augmentations, "dimmed", lambda images, key, by=1: images - jnp.uint8(by), raising=False)
    with code_allowed():
        (found,) = augmentations.resolve(("jft.data.augmentations:dimmed(by=3)",), None, 8)
    np.testing.assert_array_equal(found(images, KEY), images - np.uint8(3))


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
