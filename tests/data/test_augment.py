"""Crops and mirror images: every outcome possible, none other, all from one key."""

import dataclasses

import jax
import numpy as np
import pytest

from jft.config import default_config
from jft.data import augment as augment_lib
from jft.data import transforms
from jft.data.augment import Augmentation, make_train_transform
from jft.data.transforms import Preprocess

KEY = jax.random.key(3)
SPEC = Preprocess(size=56, resize=64)
augment = jax.jit(augment_lib.augment, static_argnames=("flip", "crop_padding", "size"))
variant = jax.jit(augment_lib.variant, static_argnames=("spec", "fit", "augmentation"))


def images(height, width, batch=4):
    return np.random.default_rng(0).integers(0, 256, (batch, height, width, 3), dtype=np.uint8)


def numbered(side, batch=256):
    """Images whose gray level is 1 + row * side + column, so that a crop says where it was cut."""
    return np.tile((1 + np.arange(side * side, dtype=np.uint8)).reshape(1, side, side, 1), (batch, 1, 1, 3))


def places(images, side):
    """(row, column, mirrored) of each crop's upper left corner."""
    corners = [images[:, 0, x, 0].astype(int) - 1 for x in (0, 1)]
    mirrored = corners[1] < corners[0]
    width = images.shape[2]
    left = np.where(mirrored, corners[0] - width + 1, corners[0])
    return left // side, left % side, mirrored


def test_crops_reach_every_place_and_only_those():
    out = np.asarray(augment(numbered(8), KEY, flip=True, crop_padding=0.0, size=6))
    assert out.shape == (256, 6, 6, 3) and out.dtype == np.uint8
    rows, columns, mirrored = places(out, 8)
    assert set(rows) == set(columns) == {0, 1, 2}
    assert 90 < mirrored.sum() < 166
    for image, row, column, flipped in zip(out, rows, columns, mirrored, strict=True):
        expected = numbered(8, 1)[0, row : row + 6, column : column + 6]
        np.testing.assert_array_equal(image, expected[:, ::-1] if flipped else expected)
    assert abs(np.corrcoef(mirrored, columns)[0, 1]) < 0.2  # the coin and the place are independent


def test_padding_is_black_and_symmetric():
    images = np.full((256, 8, 8, 3), 200, np.uint8)
    out = np.asarray(augment(images, KEY, flip=False, crop_padding=0.25))
    assert out.shape == images.shape and set(np.unique(out)) == {0, 200}
    offsets = {int((row == 200).sum()) for row in out[:, 4, :, 0]}
    assert offsets == {6, 7, 8}
    tops = {int(np.argmax(column == 200)) for column in out[:, :, 4, 0]}
    assert tops == {0, 1, 2}


def test_nothing_asked_nothing_changed():
    np.testing.assert_array_equal(augment(numbered(8), KEY, flip=False, crop_padding=0.0), numbered(8))


def test_a_pure_function_of_its_key():
    images = numbered(8)
    outs = [np.asarray(augment(images, jax.random.key(k), flip=True, crop_padding=0.2)) for k in (1, 1, 2)]
    np.testing.assert_array_equal(outs[0], outs[1])
    assert (outs[0] != outs[2]).any()


def test_rectangles_and_too_large_crops():
    assert augment(np.zeros((2, 8, 12, 3), np.uint8), KEY, flip=True, crop_padding=0.125).shape == (2, 8, 12, 3)
    assert augment(np.zeros((2, 8, 12, 3), np.uint8), KEY, flip=True, crop_padding=0.125, size=9).shape == (2, 9, 9, 3)
    with pytest.raises(ValueError, match="cannot cut 9x9 out of 8x8 images"):
        augment(numbered(8, 2), KEY, flip=False, crop_padding=0.0, size=9)


@pytest.mark.parametrize("shape", [(64, 64), (40, 70)])
@pytest.mark.parametrize("fit", transforms.FITS)
def test_train_transform_at_random_places(shape, fit):
    augmentation = Augmentation(flip=True, crop="random", crop_padding=0.1)
    transform = jax.jit(make_train_transform(SPEC, fit=fit, augmentation=augmentation))
    varied = images(*shape)
    out = transform(varied, KEY)
    assert out.shape == (4, 56, 56, 3) and out.dtype == np.float32
    assert (np.asarray(transform(varied, jax.random.key(1))) != np.asarray(out)).any()


@pytest.mark.parametrize("crop", ["center", "five"])
@pytest.mark.parametrize("fit", transforms.FITS)
def test_variant_0_is_what_evaluation_reads(fit, crop):
    augmentation = Augmentation(flip=True, crop=crop)
    varied = images(40, 71)
    got = variant(varied, np.zeros(4, np.int32), SPEC, fit=fit, augmentation=augmentation)
    np.testing.assert_allclose(got, augment_lib.make_eval_transform(SPEC, fit=fit)(varied), atol=1e-6)


def test_five_crops_and_their_mirror_images():
    spec = Preprocess(size=4, resize=8, mean=(0, 0, 0), std=(1, 1, 1), scale=1.0)
    augmentation = Augmentation(flip=True, crop="five")
    out = variant(numbered(8, 10), np.arange(10), spec, fit="crop", augmentation=augmentation)
    image = numbered(8, 1)[0]
    for k, (top, left) in enumerate([(2, 2), (0, 0), (0, 4), (4, 0), (4, 4)]):
        expected = image[top : top + 4, left : left + 4]
        np.testing.assert_array_equal(out[2 * k], expected)
        np.testing.assert_array_equal(out[2 * k + 1], expected[:, ::-1])
    unmirrored = dataclasses.replace(augmentation, flip=False)
    alone = variant(numbered(8, 5), np.arange(5), spec, fit="crop", augmentation=unmirrored)
    np.testing.assert_array_equal(alone, out[::2])


def test_fixed_crops_need_room():
    spec = Preprocess(size=9, resize=8)
    for crop in ("center", "five"):
        with pytest.raises(ValueError, match="raise Preprocess"):
            variant(numbered(8, 1), np.zeros(1), spec, fit="crop", augmentation=Augmentation(crop=crop))


@pytest.mark.parametrize(
    ("augmentation", "fit", "count"),
    [
        (Augmentation(), "whole", 1),
        (Augmentation(flip=True), "crop", 2),
        (Augmentation(crop="five"), "crop", 5),
        (Augmentation(flip=True, crop="five"), "crop", 10),
        (Augmentation(flip=True, crop="five"), "whole", 2),
        (Augmentation(flip=True, crop="random"), "whole", 2),
    ],
)
def test_the_train_transform_shows_the_variants_that_were_drawn(augmentation, fit, count):
    """What a cache relies on: the same key names the same variants outside the step."""
    assert augmentation.uncountable(SPEC, fit) is None and augmentation.num_variants(fit) == count
    numbers = np.asarray(augmentation.draw(KEY, 1000, fit=fit))
    assert numbers.dtype == np.int32 and set(numbers) == set(range(count))
    assert np.bincount(numbers).min() > 0.6 * 1000 / count

    varied = images(40, 60)
    inputs = jax.jit(make_train_transform(SPEC, fit=fit, augmentation=augmentation))(varied, KEY)
    drawn = augmentation.draw(KEY, len(varied), fit=fit)
    np.testing.assert_allclose(inputs, variant(varied, drawn, SPEC, fit=fit, augmentation=augmentation), atol=1e-6)


@pytest.mark.parametrize(
    ("augmentation", "fit", "why"),
    [
        (Augmentation(crop="random"), "crop", "crop = 'random' cuts 56 pixels at a random place out of 64"),
        (Augmentation(crop_padding=0.125), "whole", "crop_padding = 0.125"),
        (Augmentation(auto_augment="trivial", flip=True), "whole", "auto_augment = 'trivial'"),
        (Augmentation(auto_augment="rand", crop="five"), "crop", "auto_augment = 'rand'"),
    ],
)
def test_what_cannot_be_counted_says_why(augmentation, fit, why):
    assert why in augmentation.uncountable(SPEC, fit)
    transform = jax.jit(make_train_transform(SPEC, fit=fit, augmentation=augmentation))
    varied = images(32, 32, batch=16)
    outs = [np.asarray(transform(varied, jax.random.key(k))) for k in (1, 1, 2)]
    assert outs[0].shape == (16, 56, 56, 3) and np.isfinite(outs[0]).all()
    np.testing.assert_array_equal(outs[0], outs[1])
    assert (outs[0] != outs[2]).any()


def test_padding_and_a_fixed_crop_contradict_each_other():
    augmentation = Augmentation(crop="five", crop_padding=0.1)
    with pytest.raises(ValueError, match=r"crop_padding = 0.1 .* but crop is 'five'"):
        make_train_transform(SPEC, fit="crop", augmentation=augmentation)
    make_train_transform(SPEC, fit="whole", augmentation=augmentation)


def test_from_config():
    config = default_config()
    config.update({"flip": False, "crop": "five", "auto_augment": "rand", "rand_magnitude": 5})
    expected = Augmentation(flip=False, crop="five", auto_augment="rand", rand_magnitude=5)
    assert Augmentation.from_config(config) == expected
    with pytest.raises(ValueError, match="unknown crop 'centre', did you mean 'center'"):
        Augmentation(crop="centre")
