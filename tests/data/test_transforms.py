"""The device's half of preprocessing against PIL, jax.image and tf.image."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jft.data import transforms
from jft.data.lazy_tf import import_tensorflow
from jft.data.transforms import Preprocess

CAFFE = Preprocess(channels="BGR", scale=1.0, mean=(103.939, 116.779, 123.68), std=(1.0, 1.0, 1.0))

# height, width -> height, width: up, down, mixed, by a little, by so much that a row has more than a few taps
SIZES = [((32, 32), (224, 224)), ((50, 40), (28, 23)), ((20, 60), (30, 30)), ((31, 33), (32, 32)), ((200, 90), (16, 9))]


def noise(height, width, batch=2, low=0, high=256):
    return np.random.default_rng(height * width).integers(low, high, (batch, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("source,target", SIZES)
def test_resize_is_that_of_pil_within_a_gray_level(source, target, interpolation):
    images = noise(*source)
    ours = transforms.resize(images, *target, Preprocess(interpolation=interpolation))
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    theirs = [np.asarray(Image.fromarray(i).resize(target[::-1], filters[interpolation])) for i in images]
    assert ours.dtype == jnp.float32
    assert np.abs(np.rint(ours) - np.stack(theirs)).max() <= 1  # PIL rounds after each axis


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("source,target", SIZES)
def test_resize_is_that_of_jax_and_tensorflow(source, target, interpolation, antialias):
    tf = import_tensorflow()
    images = noise(*source, low=64, high=192)  # they do not clip what bicubic interpolation overshoots
    ours = transforms.resize(images, *target, Preprocess(interpolation=interpolation, antialias=antialias))
    shape = (len(images), *target, 3)
    method = interpolation.removeprefix("bi")
    of_jax = jax.image.resize(images.astype(np.float32), shape, method, antialias=antialias)
    of_tf = tf.image.resize(images, target, interpolation, antialias=antialias).numpy()
    np.testing.assert_allclose(ours, of_jax, atol=0.01)
    if interpolation == "bilinear" or antialias:
        np.testing.assert_allclose(ours, of_tf, atol=0.05)


def test_resize_few_and_many_taps_agree(monkeypatch):
    images, spec = noise(40, 30), Preprocess(interpolation="bicubic")
    gathered = transforms.resize(images, 25, 61, spec)
    monkeypatch.setattr(transforms, "_FEW_TAPS", 0)
    np.testing.assert_allclose(gathered, transforms.resize(images, 25, 61, spec), atol=1e-3)


# height, width, Resize -> height, width: `torchvision.transforms.functional._compute_resized_output_size`
@pytest.mark.parametrize(
    "height,width,short,expected",
    [
        (375, 500, 256, (256, 341)),
        (500, 375, 256, (341, 256)),
        (101, 300, 232, (232, 689)),
        (456, 342, 342, (456, 342)),
        (97, 64, 73, (110, 73)),
    ],
)
def test_scaled_size_is_torchvisions(height, width, short, expected):
    assert transforms.scaled_size(height, width, short) == expected


@pytest.mark.parametrize("length,size,offset", [(341, 224, 58), (343, 224, 60), (342, 299, 22), (344, 299, 22)])
def test_crop_offset_rounds_halves_to_even(length, size, offset):
    assert transforms.crop_offset(length, size) == offset


@pytest.mark.parametrize("size,resize", [(224, 256), (299, 342), (63, 64), (64, 73), (5, 5)])
def test_two_crops_land_where_one_would(size, resize):
    spec = Preprocess(size=size, resize=resize)
    for length in range(resize, resize + 50):
        first = transforms.stored_offset(length, spec)
        assert 0 <= first <= length - resize
        assert first + transforms.crop_offset(resize, size) == transforms.crop_offset(length, size)


@pytest.mark.parametrize(
    "spec,expected",
    [
        (Preprocess(), [(200 / 255 - 0.485) / 0.229, (100 / 255 - 0.456) / 0.224, (50 / 255 - 0.406) / 0.225]),
        (CAFFE, [50 - 103.939, 100 - 116.779, 200 - 123.68]),
        (
            Preprocess(scale=1 / 127.5, mean=(1.0,) * 3, std=(1.0,) * 3),
            [200 / 127.5 - 1, 100 / 127.5 - 1, 50 / 127.5 - 1],
        ),
        (Preprocess().gray(), [((0.299 * 200 + 0.587 * 100 + 0.114 * 50) / 255 - 0.449) / 0.226]),
    ],
)
def test_normalize(spec, expected):
    red_green_blue = np.full((1, 2, 2, 3), (200, 100, 50), np.uint8)
    out = jax.jit(lambda x: transforms.normalize(x, spec))(red_green_blue)
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out, np.broadcast_to(np.float32(expected), (1, 2, 2, len(expected))), rtol=2e-6)


@pytest.mark.parametrize("shape", [(32, 32), (48, 40), (64, 64), (90, 70)])
@pytest.mark.parametrize("fit", transforms.FITS)
def test_to_model_input_is_static_and_square(shape, fit):
    spec = Preprocess(size=56, resize=64)
    out = jax.jit(lambda x: transforms.to_model_input(x, spec, fit=fit))(noise(*shape))
    assert out.shape == (2, 56, 56, 3)


def test_to_model_input_crops_the_center():
    spec = Preprocess(size=2, resize=4, scale=1.0, mean=(0.0,) * 3, std=(1.0,) * 3)
    images = noise(4, 6)
    np.testing.assert_array_equal(transforms.to_model_input(images, spec, fit="crop"), images[:, 1:3, 2:4])
    with pytest.raises(ValueError, match="no central 5x5 crop"):
        transforms.to_model_input(images, dataclasses.replace(spec, size=5), fit="crop")
    with pytest.raises(ValueError, match="unknown fit 'crap', did you mean 'crop'"):
        transforms.to_model_input(images, spec, fit="crap")


def test_check_range():
    images = noise(4, 4)
    transforms.check_range(images, CAFFE)
    transforms.check_range(images // 128 * 2, CAFFE)  # dark, but not 0..1
    for wrong, found in [
        (images / np.float32(255), r"float32 \[2, 4, 4, 3\] in 0.*needs uint8"),
        (images[0], r"uint8 \[4, 4, 3\]"),
        (images[:0], r"uint8 \[0, 4, 4, 3\]; jft needs"),
        (images // 128, "no gray level in this batch is above 1.*Multiply them by 255"),
    ]:
        with pytest.raises(ValueError, match=found):
            transforms.check_range(wrong, CAFFE)


def test_dict_round_trip_through_json():
    for spec in (Preprocess(), CAFFE, CAFFE.gray()):
        assert Preprocess.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    with pytest.raises(ValueError, match="unknown preprocessing field 'sise', did you mean 'size'"):
        Preprocess.from_dict({**CAFFE.to_dict(), "sise": 3})
    with pytest.raises(ValueError, match="preprocessing lacks mean, std"):
        Preprocess.from_dict({k: v for k, v in CAFFE.to_dict().items() if k not in ("mean", "std")})


@pytest.mark.parametrize(
    "field,value,message",
    [
        ("interpolation", "nearest", "unknown interpolation"),
        ("channels", "GRB", "unknown order of channels"),
        ("size", 0, "must be positive"),
        ("std", (1.0, 0.0, 1.0), "positive stds as channels, 3"),
        ("mean", (0.5,), "as many means"),
        ("channels", "L", "Preprocess of L needs as many means and positive stds as channels, 1"),
    ],
)
def test_impossible_specs_are_refused(field, value, message):
    with pytest.raises(ValueError, match=message):
        Preprocess(**{field: value})
