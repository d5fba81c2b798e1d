"""jft.load: images of any kind in, what the model itself makes of them out."""

import dataclasses

import jax
import numpy as np
import pytest
import small_digits
from PIL import Image
from scipy import special

import jft
from jft.data import transforms
from jft.evaluation.restore import restore
from jft.metrics.losses import Objective
from jft.utils.mesh import make_parallel

pytestmark = pytest.mark.xdist_group("predictor")  # whose run one worker trains for all


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return small_digits.solved(tmp_path_factory.mktemp("predictor"))


@pytest.fixture(scope="module")
def predictor(run):
    return jft.load(run, batch_size=5)


@pytest.fixture(scope="module")
def by_hand(run):
    """Squares uint8 [n, side, side, 3] -> logits, one call of the model outside of the predictor."""
    trained = restore(run, make_parallel("jit"))

    def logits(squares):
        images = transforms.to_model_input(squares, trained.spec, fit=trained.info.fit)
        return np.asarray(trained.model.apply(trained.variables, images, train=False))

    return logits


def noise(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("shape", [(3, 32, 32, 3), (19, 8, 8, 3), (2, 50, 40, 3)])
def test_arrays(predictor, by_hand, shape):
    """Fewer and more than a batch; no size is resized on the host."""
    images = noise(0, *shape)
    np.testing.assert_allclose(predictor.logits(images), by_hand(images), atol=1e-4)


def test_images_of_any_sizes(predictor, by_hand, tmp_path):
    """An array, a path and bytes hold the same pixels; a batch holds several sizes."""
    images = [noise(i, 20 + i, 50 - i, 3) for i in range(11)]
    paths = [tmp_path / f"{i}.png" for i in range(11)]
    for image, path in zip(images, paths, strict=True):
        Image.fromarray(image).save(path)
    squares = [Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR) for image in images]
    expected = by_hand(np.stack([np.asarray(square) for square in squares]))
    for given in (images, paths, [str(path) for path in paths], [path.read_bytes() for path in paths]):
        np.testing.assert_allclose(predictor.logits(given), expected, atol=1e-4)


def test_one_image_in_any_form_and_gray_ones(predictor, tmp_path):
    """What a notebook has at hand is what its array is."""
    color, gray = noise(1, 1, 20, 30, 3)[0], noise(2, 20, 30)
    for pixels, mode in ((color, "RGB"), (gray, "L")):
        image = Image.fromarray(pixels)
        image.save(tmp_path / "one.png")
        wanted = predictor.logits([np.asarray(image.convert("RGB"))])
        path = tmp_path / "one.png"
        for given in (path, str(path), path.read_bytes(), image, [image], Image.open(path), [pixels]):
            np.testing.assert_allclose(predictor.logits(given), wanted, atol=1e-5, err_msg=f"{type(given)} {mode}")
        # An array by itself is resized on the device, as several are.
        together = np.asarray(image.convert("RGB"))[None]
        np.testing.assert_array_equal(predictor.logits(pixels), predictor.logits(together))
    several = np.stack([gray, gray[::-1]])
    in_color = np.repeat(several[..., None], 3, axis=-1)
    for given in (several, several[..., None]):
        np.testing.assert_array_equal(predictor.logits(given), predictor.logits(in_color))


def test_a_notebook_shows_it_in_a_line(predictor, run):
    told = repr(predictor)
    assert str(run) in told and "32 x 32 pixels, 3 classes: 5, 6, 7" in told and len(told) < len(str(run)) + 80


@pytest.mark.parametrize("kind", ["softmax", "multilabel"])
def test_probabilities_and_temperature(predictor, by_hand, kind):
    images = noise(0, 9, 32, 32, 3)
    warm = dataclasses.replace(predictor, temperature=2.5, objective=Objective(kind, 3))
    meaning = special.expit if kind == "multilabel" else lambda x: special.softmax(x, axis=1)
    np.testing.assert_allclose(warm.predict(images), meaning(by_hand(images) / 2.5), atol=1e-5)
    np.testing.assert_allclose(warm.predict(images, calibrated=False), meaning(by_hand(images)), atol=1e-5)


def test_the_temperature_is_the_checkpoint_s(predictor, run):
    fitted = restore(run, make_parallel("jit")).info.temperature
    assert predictor.temperature == fitted != 1
    assert predictor.class_names == ("5", "6", "7")


def test_features(predictor):
    images = noise(0, 9, 32, 32, 3)
    maps, pooled = (predictor.features(images, "block2", pooled=pooled) for pooled in (False, True))
    assert maps.shape[0] == 9 and maps.ndim == 4 and maps.dtype == np.float32
    np.testing.assert_allclose(pooled, maps.mean((1, 2)), atol=1e-5)
    fc7 = predictor.features(images, "fc7")
    assert fc7.shape == (9, 64)
    head = predictor.variables["params"]["head"]["head"]
    np.testing.assert_allclose(fc7 @ head["kernel"] + head["bias"], predictor.logits(images), atol=1e-4)
    with pytest.raises(ValueError, match="fc8"):
        predictor.features(images, "fc8")


def test_one_compilation_for_any_number_of_images(run, compilations):
    fresh = jft.load(run, batch_size=7)
    assert fresh.batch_size == 8  # of 8 devices
    images = noise(0, 20, 32, 32, 3)
    rows = [fresh.logits(images[:n]) for n in (20, 1, 9)]
    rows.append(fresh.logits(list(images)))
    assert len(compilations) == 1
    for row in rows:
        np.testing.assert_allclose(row, rows[0][: len(row)], atol=1e-6)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            np.zeros((2, 8, 8, 3), np.float32),
            r"float32 \[2, 8, 8, 3\]; pass uint8 .* \(255 \* images\)\.round\(\)",
        ),
        (np.full((8, 8, 3), 90.5), r"float64 \[8, 8, 3\]; .* in 90\.5\.\.90\.5, so use images\.round\(\)\.astype"),
        (np.full((8, 8, 3), -2.1), "undo their normalization"),
        (np.zeros((8, 8, 4), np.uint8), r"drop the alpha channel, images\[\.\.\., :3\]"),
        (np.zeros((0, 8, 8, 3), np.uint8), "there are no images"),
        ([], "there are no images"),
        ([np.zeros((2, 8, 8, 3), np.uint8)], r"an image of the list is uint8 \[2, 8, 8, 3\]"),
        (["nothing.png"], "cannot read nothing.png as an image"),
        (np.ones((2, 9, 9, 3), np.uint8), "seem scaled to 0..1"),
    ],
)
def test_what_is_no_image(predictor, images, message):
    with pytest.raises(ValueError, match=message):
        predictor.predict(images)


@pytest.mark.parametrize(
    ("source", "changes", "message"),
    [
        ("nowhere", {}, "there is no run or weight file nowhere, and no pretrained model of that name"),
        ("vgg_tinny", {}, "did you mean 'vgg_tiny'"),
        ("cnn", {}, "cnn has no published weights"),
        ("vgg16", {"weights": "kers"}, "keras"),
        (".", {"weights": "keras"}, "weights and weights_path belong to a model"),
        (".", {"batch_size": 0}, "batch_size = 0"),
    ],
)
def test_what_cannot_be_loaded(source, changes, message):
    with pytest.raises(ValueError, match=message):
        jft.load(source, **changes)


def test_a_folder_without_a_checkpoint(tmp_path):
    with pytest.raises(ValueError, match="holds no checkpoint"):
        jft.load(tmp_path)


def test_a_pretrained_model(monkeypatch):
    """Which travels with the package, and knows the digits 0 to 4."""
    pretrained = jft.load("vgg_tiny", weights="digits04", batch_size=8)
    assert pretrained.info is None and pretrained.temperature == 1
    from jft.data import datasets

    source = datasets.load_source(
        "digits", split="test", data_dir=None, validation=0, seed=0, classes=tuple("01234"), examples_per_class=0
    )
    found = pretrained.predict(source.images)
    assert found.shape == (len(source), 5)
    assert np.mean(found.argmax(1) == source.labels) > 0.95
    assert jax.tree.leaves(pretrained.variables)[0].is_fully_addressable
