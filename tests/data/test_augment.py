"""Random crops and mirror images: every outcome possible, none other, all from one key."""

import jax
import numpy as np
import pytest

from jft.data import augment as augment_lib
from jft.data import preprocess
from jft.data.augment import augment
from jft.data.preprocess import Preprocess

KEY = jax.random.key(3)


def numbered(side, batch=256):
    """Pictures whose grey level is 1 + row * side + column, so that a crop says where it was cut."""
    return np.tile((1 + np.arange(side * side, dtype=np.uint8)).reshape(1, side, side, 1), (batch, 1, 1, 3))


def places(images, side):
    """(row, column, mirrored) of each crop's upper left corner."""
    corners = [images[:, 0, x, 0].astype(int) - 1 for x in (0, 1)]
    mirrored = corners[1] < corners[0]
    width = images.shape[2]
    left = np.where(mirrored, corners[0] - width + 1, corners[0])
    return left // side, left % side, mirrored


def test_crops_reach_every_place_and_only_those():
    out = np.asarray(jax.jit(lambda x: augment(x, KEY, flip=True, crop_padding=0.0, size=6))(numbered(8)))
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
    with pytest.raises(ValueError, match="cannot cut 9x9 out of 8x8 pictures"):
        augment(numbered(8, 2), KEY, flip=False, crop_padding=0.0, size=9)


@pytest.mark.parametrize("shape", [(32, 32), (64, 64), (40, 70)])
@pytest.mark.parametrize("fit", preprocess.FITS)
def test_train_transform(shape, fit):
    spec = Preprocess(size=56, resize=64)
    images = np.random.default_rng(0).integers(0, 256, (4, *shape, 3), dtype=np.uint8)
    transform = jax.jit(augment_lib.make_train_transform(spec, fit=fit, flip=True, crop_padding=0.1))
    out = transform(images, KEY)
    assert out.shape == (4, 56, 56, 3) and out.dtype == np.float32
    assert (np.asarray(transform(images, jax.random.key(1))) != np.asarray(out)).any()


def test_train_transform_without_augmentation_is_evaluation():
    spec = Preprocess(size=56, resize=64)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    trained = augment_lib.make_train_transform(spec, fit="whole", flip=False, crop_padding=0.0)(images, KEY)
    np.testing.assert_array_equal(trained, augment_lib.make_eval_transform(spec, fit="whole")(images))
