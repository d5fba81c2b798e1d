"""The names of `import jft`: lists, models, and what is asked of them."""

import importlib
import subprocess
import sys

import numpy as np
import pytest

import jft

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (3, 20, 30, 3), np.uint8)


@pytest.fixture(scope="module")
def model(quick):
    return jft.create_model("vgg_tiny", weights="digits04", num_classes=3, batch_size=4)


def test_every_name_is_there_and_listed():
    assert dir(jft) == sorted(jft.__all__) and set(jft._HOMES) <= set(jft.__all__)
    for name, home in jft._HOMES.items():
        assert getattr(jft, name) is getattr(importlib.import_module(home), name) and getattr(jft, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        jft.trian  # noqa: B018


def test_importing_is_light_and_a_room_takes_no_name():
    program = (
        "import sys, jft; assert not {'jax', 'numpy', 'tensorflow'} & set(sys.modules)\n"
        "import jft.training.loop, jft.evaluation.evaluate, jft.data.datasets\n"
        "assert all(callable(getattr(jft, name)) for name in jft._HOMES)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_lists():
    assert jft.list_models("resnet*", pretrained=True) == [f"resnet{n}" for n in (18, 34, 50, 101, 152)]
    assert "cnn" in jft.list_models() and "cnn" not in jft.list_models(pretrained=True)
    rows = jft.list_weights("resnet50")
    assert {row.tag for row in rows} >= {"torchvision", "keras"}
    assert (rows[0].name, rows[0].top1, rows[0].license, rows[0].size) == (
        *("resnet50.torchvision", 76.13, "BSD-3-Clause"),
        pytest.approx(97.8, abs=0.1),
    )
    with pytest.raises(ValueError, match="did you mean 'resnet50'"):
        jft.list_models("resnet5")


def test_a_model_keeps_its_weights_under_a_new_head(model):
    published = jft.create_model("vgg_tiny", weights="digits04")
    assert published.class_names == tuple("01234") and model.class_names == tuple("012")
    assert model.stages == published.stages and model(IMAGES).shape == (3, 3)
    np.testing.assert_allclose(model.features(IMAGES, "fc7"), published.features(IMAGES, "fc7"), atol=1e-5)
    normalized = np.zeros((1, model.preprocess.size, model.preprocess.size, 3), np.float32)
    assert model.module.apply(model.variables, normalized, train=False).shape == (1, 3)


def test_options_of_a_model(quick):
    made = jft.create_model("vgg_tiny", class_names=("cat", "dog"), cut="block2", new_head="linear", image_size=16)
    assert made.stages == ("block1", "block2", "head") and made.class_names == ("cat", "dog")
    assert made.preprocess.size == 16 and made.predict(IMAGES).shape == (3, 2)
    for wrong, told in (
        ({"num_classes": 3, "class_names": ("a", "b")}, "num_classes = 3, but class_names has 2"),
        ({"num_classes": 0}, "num_classes = 0: give a whole number above 0"),
        ({"num_classes": "3"}, "num_classes = '3': give a whole number above 0"),
        ({"deep": 3}, "unknown option of vgg_tiny 'deep'"),
        ({"weights": "torchvision"}, "unknown vgg_tiny weights"),
    ):
        with pytest.raises(ValueError, match=told):
            jft.create_model("vgg_tiny", **wrong)


def test_a_saved_model_is_the_same(model, tmp_path):
    import dataclasses

    warm = dataclasses.replace(model, temperature=2.5, class_names=("a", "b", "c"))
    again = jft.load(warm.save(tmp_path / "model.safetensors"))
    assert (again.class_names, again.temperature, again.fit) == (("a", "b", "c"), 2.5, "crop")
    np.testing.assert_allclose(again.predict(IMAGES), warm.predict(IMAGES), atol=1e-6)
    assert np.abs(again.predict(IMAGES) - model.predict(IMAGES)).max() > 1e-3


def test_gray_levels_and_other_channels(model, tmp_path):
    gray = jft.create_model("vgg_tiny", weights="digits04", num_classes=3, in_channels=1)
    assert gray.preprocess.channels == "L" and gray.variables["params"]["block1"]["conv1_1"]["kernel"].shape[2] == 1
    levels = np.repeat(IMAGES[..., :1], 3, axis=-1)
    np.testing.assert_allclose(gray.features(levels, "fc7"), model.features(levels, "fc7"), atol=0.2)
    again = jft.load(gray.save(tmp_path / "gray.safetensors"))
    np.testing.assert_allclose(again.predict(IMAGES), gray.predict(IMAGES), atol=1e-6)
    five = jft.create_model("vgg_tiny", num_classes=3, in_channels=5)
    assert five.module.apply(five.variables, np.zeros((1, 32, 32, 5), np.float32), train=False).shape == (1, 3)
    with pytest.raises(ValueError, match=r"images have 3 channels.* the model reads 5"):
        five(IMAGES)
    for wrong in (0, "1"):
        with pytest.raises(ValueError, match=f"in_channels = {wrong!r}: give the images' channels, 1 or more"):
            jft.create_model("vgg_tiny", in_channels=wrong)


def test_a_run_on_gray_levels(tmp_path, quick):
    data = jft.data.from_arrays(IMAGES.repeat(8, axis=0), np.arange(24) % 3)
    fields = {"model": "vgg_tiny", "weights": "digits04", "weights_path": "", "preset": "full", "epochs": 1}
    run = jft.train(data=data, in_channels=1, batch_size=8, workdir=str(tmp_path / "run"), **fields)
    assert run.preprocess.channels == "L" and run.module.in_channels == 1
    np.testing.assert_array_equal(jft.load(tmp_path / "run").predict(IMAGES), run.predict(IMAGES))
    with pytest.raises(ValueError, match=r"in_channels.*choose 1 or 3"):
        jft.train(data=data, in_channels=4, workdir=str(tmp_path / "other"), **fields)


def test_a_summary_is_a_table(model):
    told = jft.summary("vgg16", freeze="block5")
    assert told.num_params == 138_357_544 and told.num_trainable < told.num_params
    assert "Total params: 138,357,544" in str(told) and "vgg_tiny: 32 x 32 pixels, 3 classes" in repr(
        jft.summary(model)
    )


def test_where_it_looks(model):
    best = model(IMAGES).argmax(axis=1)
    found = jft.grad_cam(model, IMAGES)
    assert found.shape == (3, 4, 4) and (found >= 0).all() and found.any()
    np.testing.assert_array_equal(found, jft.grad_cam(model, IMAGES, classes=best.tolist()))
    assert jft.grad_cam(model, IMAGES[0], "block1", classes=["1"]).shape == (1, 16, 16)
    with pytest.raises(ValueError, match="2 values for 3 images"):
        jft.grad_cam(model, IMAGES, classes=[0, 1])
    with pytest.raises(ValueError, match="unknown class 'cat'"):
        jft.grad_cam(model, IMAGES[0], classes=["cat"])


def test_a_head_is_solved_for():
    features = RNG.normal(size=(90, 4)).astype(np.float32)
    labels = (features[:, 0] > 0).astype(int) + (features[:, 0] > 0.5)
    found = jft.fit_head(features, labels)
    assert found.linear.kernel.shape == (4, 3) and found.regularization in found.scores
    assert np.mean(found.linear.logits(features).argmax(1) == labels) > 0.9
    given = jft.fit_head(features, labels, validation=(features, labels), method="ridge")
    assert given.losses[given.regularization] == min(given.losses.values())
    only = jft.fit_head(features, labels > 0, validation=0, regularization=[1.0])
    assert only.scores == {} and only.linear.kernel.shape == (4, 2)
