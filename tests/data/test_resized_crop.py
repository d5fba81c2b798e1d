"""Random resized crops: parts are drawn as torchvision draws them, and their pixels are Pillow's."""

import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image

from jft.data import resized_crop
from jft.data.augment import Augmentation, make_train_transform
from jft.data.transforms import Preprocess


def test_parts_lie_within_the_image():
    """test_augmentations.py compares their distribution with torchvision's."""
    draw = jax.jit(resized_crop.draw_boxes, static_argnums=(1, 2, 3, 4))
    for height, width, scale in ((32, 80, (0.08, 1.0)), (90, 20, (0.9, 1.0))):
        top, left, tall, wide = np.asarray(draw(jax.random.key(0), 2000, height, width, scale)).T
        assert (top >= 0).all() and (left >= 0).all() and (tall > 0).all() and (wide > 0).all()
        assert (top + tall <= height).all() and (left + wide <= width).all()


def test_where_no_draw_fits_it_is_the_largest_central_part():
    tall = np.asarray(resized_crop.draw_boxes(jax.random.key(0), 4, 100, 4, (0.9, 1.0)))
    np.testing.assert_array_equal(tall, np.tile([47, 0, 5, 4], (4, 1)))
    wide = np.asarray(resized_crop.draw_boxes(jax.random.key(0), 4, 6, 100, (0.9, 1.0)))
    np.testing.assert_array_equal(wide, np.tile([0, 46, 6, 8], (4, 1)))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("box", [(0, 0, 40, 50), (3, 7, 30, 25), (10, 0, 8, 50), (39, 49, 1, 1)])
def test_pixels_are_those_of_cutting_and_resizing(box, interpolation):
    image = np.random.default_rng(0).integers(80, 170, (40, 50, 3), np.uint8)  # Pillow clips between rows and columns
    top, left, height, width = box
    part = Image.fromarray(image[top : top + height, left : left + width])
    wanted = np.asarray(part.resize((24, 24), getattr(Image.Resampling, interpolation.upper())), np.float32)
    spec = Preprocess(size=24, interpolation=interpolation)
    found = np.asarray(resized_crop.resize_boxes(image[None], np.array([box]), spec))[0]
    assert np.abs(np.clip(found, 0, 255) - wanted).max() <= 1.5  # and rounds there


def test_training_images_are_parts_of_the_image_by_the_key_alone():
    rows, columns = np.mgrid[0:60, 0:60]
    image = np.stack([rows * 4, columns * 4, np.zeros_like(rows)], axis=-1).astype(np.uint8)
    spec = Preprocess(size=20, resize=24, scale=1.0, mean=(0.0,) * 3, std=(1.0,) * 3)
    for flip in (False, True):
        augmentation = Augmentation(flip=flip, resized_crop=(0.2, 0.5))
        transform = jax.jit(make_train_transform(spec, fit="whole", augmentation=augmentation))
        images = np.repeat(image[None], 16, axis=0)
        one, same, other = (np.asarray(transform(images, jax.random.key(seed))) for seed in (0, 0, 1))
        assert one.shape == (16, 20, 20, 3)
        np.testing.assert_array_equal(one, same)
        assert not np.array_equal(one, other)
        spans = one[:, -1, :, 0].mean(axis=1) - one[:, 0, :, 0].mean(axis=1)
        across = one[:, :, -1, 1].mean(axis=1) - one[:, :, 0, 1].mean(axis=1)
        assert (spans > 0).all() and len(np.unique(spans.round(3))) > 4
        assert (across < 0).any() is np.bool_(flip) and (np.abs(across) > 0).all()


def test_the_range_of_ratios_reaches_the_boxes():
    """Parts of one ratio of a ramp from left to right: each spans as much of it as its area says."""
    image = np.repeat(np.arange(100, dtype=np.uint8)[None, :, None], 100, axis=0).repeat(3, axis=2)
    spec = Preprocess(size=10, resize=10, scale=1.0, mean=(0.0,) * 3, std=(1.0,) * 3)
    for ratio, span in ((1 / 4, 25.0), (1.0, 50.0)):
        augmentation = Augmentation(resized_crop=(0.25, 0.25), resized_crop_ratio=(ratio, ratio))
        transform = jax.jit(make_train_transform(spec, fit="whole", augmentation=augmentation))
        found = np.asarray(transform(np.repeat(image[None], 4, axis=0), jax.random.key(0)))
        np.testing.assert_allclose((found[:, 0, -1] - found[:, 0, 0]) / 0.9, span, rtol=0.03)


def test_what_it_cannot_be_together_with():
    assert "resized_crop" in (Augmentation(resized_crop=(0.3, 1.0)).uncountable(Preprocess(), "whole") or "")
    for wrong in ((0.5,), (0.9, 0.2), (0.0, 1.0), (0.5, 1.5)):
        with pytest.raises(ValueError, match=r"resized_crop = .*least and the largest share"):
            Augmentation(resized_crop=wrong)
    for wrong in ((0.5,), (2.0, 0.5), (0.0, 1.0)):
        with pytest.raises(ValueError, match=r"resized_crop_ratio = .*least and the largest width / height"):
            Augmentation(resized_crop=(0.3, 1.0), resized_crop_ratio=wrong)
    with pytest.raises(ValueError, match=r"takes the place of crop_padding = 0\.1"):
        dataclasses.replace(Augmentation(resized_crop=(0.3, 1.0)), crop_padding=0.1)
