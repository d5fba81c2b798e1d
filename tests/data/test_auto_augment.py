"""Every operation against PIL, at every magnitude, and what is drawn."""

import math

import jax
import numpy as np
import pytest
from hasty import AS_USERS
from PIL import Image, ImageEnhance, ImageOps

from jft.data import auto_augment
from jft.data.auto_augment import MAX_MAGNITUDE, OPERATIONS, RAND, TRIVIAL, operate, rand_augment, trivial_augment

KEY = jax.random.key(5)
MAGNITUDES = np.arange(-MAX_MAGNITUDE, MAX_MAGNITUDE + 1)
# Where torchvision's magnitudes end: TrivialAugmentWide's in pixels, RandAugment's in sides of the image.
ENDS = {
    **dict.fromkeys(("shear_x", "shear_y"), (0.99, 0.3)),
    **dict.fromkeys(("translate_x", "translate_y"), (32.0, 150 / 331)),
    "rotate": (135.0, 30.0),
    **dict.fromkeys(("brightness", "color", "contrast", "sharpness"), (0.99, 0.9)),
}
ENHANCERS = {
    "brightness": ImageEnhance.Brightness,
    "color": ImageEnhance.Color,
    "contrast": ImageEnhance.Contrast,
    "sharpness": ImageEnhance.Sharpness,
}

# Rounding is PIL's where the compiler fuses as it does for users.
pytestmark = [
    pytest.mark.usefixtures("optimizing_compiler"),
    pytest.mark.xdist_group("auto_augment"),  # of which one worker traces `compiled`
]


def image(height, width):
    """A smooth image with noise, whose channels have other ranges and a border."""
    rng = np.random.default_rng(height)
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 5 + y / 9), np.cos(y / 4), np.sin(x * y / 90)], axis=-1)
    pixels = 128 + waves * (90, 40, 120) + rng.normal(0, 9, waves.shape)
    pixels[0], pixels[:, -1] = (30, 240, 90), (250, 7, 0)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def expected(pixels, name, magnitude, ranges):
    """What torchvision does to a PIL image, written out."""
    image = Image.fromarray(pixels)
    which = 0 if ranges is TRIVIAL else 1
    value = ENDS.get(name, (0.0, 0.0))[which] * magnitude / MAX_MAGNITUDE
    if name in ENHANCERS:
        return ENHANCERS[name](image).enhance(1.0 + value)
    if name == "rotate":
        return image.rotate(value)
    if name == "posterize":
        return ImageOps.posterize(image, 8 - round(abs(magnitude) / (MAX_MAGNITUDE / (6, 4)[which])))
    if name == "solarize":
        return ImageOps.solarize(image, 255 - 8.5 * abs(magnitude))
    if name in ("auto_contrast", "equalize"):
        return (ImageOps.autocontrast if name == "auto_contrast" else ImageOps.equalize)(image)
    if name == "identity":
        return image
    side = (image.width if name.endswith("x") else image.height) if which else 1
    matrix = {
        "shear_x": (1, math.tan(math.atan(value)), 0, 0, 1, 0),
        "shear_y": (1, 0, 0, math.tan(math.atan(value)), 1, 0),
        "translate_x": (1, 0, -int(value * side), 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, -int(value * side)),
    }[name]
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST, fillcolor=(0, 0, 0))


@pytest.fixture(scope="module")
def compiled():
    return {
        ranges: jax.jit(lambda *args, ranges=ranges: operate(*args, ranges), compiler_options=AS_USERS)
        for ranges in (TRIVIAL, RAND)
    }


@pytest.mark.parametrize(("ranges", "shape"), [(TRIVIAL, (32, 32)), (TRIVIAL, (45, 60)), (RAND, (40, 30))])
@pytest.mark.parametrize("name", OPERATIONS)
def test_as_pil_at_every_magnitude(name, ranges, shape, compiled):
    pixels = image(*shape)
    count = len(MAGNITUDES)
    operation = np.full(count, OPERATIONS.index(name), np.int32)
    out = np.asarray(compiled[ranges](np.tile(pixels, (count, 1, 1, 1)), operation, MAGNITUDES))
    assert out.dtype == np.uint8
    tolerance = 0 if name in (*auto_augment.MOVES, "identity", "posterize", "solarize", "equalize") else 1
    for got, magnitude in zip(out.astype(int), MAGNITUDES, strict=True):
        wanted = np.asarray(expected(pixels, name, int(magnitude), ranges)).astype(int)
        assert np.abs(got - wanted).max() <= tolerance, magnitude
        assert (got != wanted).mean() < 0.02, magnitude


@pytest.mark.parametrize("shape", [(1, 1), (2, 5)])
def test_tiny_and_flat_images(shape, compiled):
    """Without an interior, with too few pixels to equalise, of one gray level."""
    flat = np.full((*shape, 3), 77, np.uint8)
    for pixels in (flat, image(*shape)):
        out = compiled[RAND](np.tile(pixels, (14, 1, 1, 1)), np.arange(14), np.full(14, 17))
        for name, got in zip(OPERATIONS, np.asarray(out).astype(int), strict=True):
            wanted = np.asarray(expected(pixels, name, 17, RAND)).astype(int)
            assert np.abs(got - wanted).max() <= 1, name


def test_trivial_augment_draws_operation_magnitude_and_sign_evenly(monkeypatch):
    drawn = []
    monkeypatch.setattr(auto_augment, "operate", lambda images, *args: drawn.extend(args))
    trivial_augment(np.zeros((6000, 1, 1, 3), np.uint8), KEY)
    operation, magnitude, ranges = np.asarray(drawn[0]), np.asarray(drawn[1]), drawn[2]
    assert ranges is TRIVIAL
    assert set(operation) == set(range(14)) and set(magnitude) == set(MAGNITUDES)
    assert np.bincount(operation).min() > 0.8 * 6000 / 14
    assert np.bincount(np.abs(magnitude)).min() > 0.65 * 6000 / 31
    assert abs(np.mean(magnitude)) < 1 and abs(np.corrcoef(operation, magnitude)[0, 1]) < 0.05


def test_rand_augment_does_its_operations_in_turn(compiled):
    """Every outcome is one of those that two operations at this magnitude can have, and most of those come."""
    pixels = image(12, 17)
    operation, sign = (values.reshape(-1) for values in np.meshgrid(np.arange(14), (-17, 17)))
    once = np.asarray(compiled[RAND](np.tile(pixels, (28, 1, 1, 1)), operation, sign))
    twice = np.asarray(compiled[RAND](np.repeat(once, 28, axis=0), np.tile(operation, 28), np.tile(sign, 28)))
    possible = {pil.tobytes() for pil in twice}
    draw = jax.jit(rand_augment, static_argnums=(2, 3), compiler_options=AS_USERS)
    drawn = draw(np.tile(pixels, (1000, 1, 1, 1)), KEY, 2, 17)
    outcomes = {pil.tobytes() for pil in np.asarray(drawn)}
    assert outcomes <= possible and len(outcomes) > 0.5 * len(possible)


def test_a_pure_function_of_its_key():
    images = np.tile(image(12, 12), (32, 1, 1, 1))
    draw = jax.jit(trivial_augment, compiler_options=AS_USERS)
    outs = [np.asarray(draw(images, jax.random.key(k))) for k in (1, 1, 2)]
    np.testing.assert_array_equal(outs[0], outs[1])
    assert (outs[0] != outs[2]).any()


def test_what_cannot_be_augmented():
    with pytest.raises(ValueError, match=r"magnitude of 0 \.\. 30, not 2 and 31"):
        rand_augment(np.zeros((1, 4, 4, 3), np.uint8), KEY, 2, 31)
    with pytest.raises(ValueError, match="uint8 images, these are float32"):
        trivial_augment(np.zeros((1, 4, 4, 3), np.float32), KEY)
