"""jft.train and what it gives: one run, trained once, from arrays to files."""

import json

import numpy as np
import pytest
from PIL import Image

import jft
from jft.data import digits

_, readers = digits.find()
ALL, LABELS = readers["train"]()[:2]
IMAGES, LABELS = ALL[:150], LABELS[:150] % 3
NAMES = ("red", "green", "blue")
SMALL = {
    **{"model": "vgg_tiny", "weights": "digits04", "image_size": 16, "flip": False, "cache_features": False},
    **{"batch_size": 20, "eval_batch_size": 40, "log_every": 2, "learning_rate": 1e-2, "steps": 6},
}


@pytest.fixture(scope="module")
def data():
    return jft.data.from_arrays(IMAGES, LABELS, class_names=NAMES, validation=30)


@pytest.fixture(scope="module")
def run(data, quick, tmp_path_factory):
    return jft.train(
        data=data, workdir=tmp_path_factory.mktemp("api") / "run", freeze="fc7", evaluate_every=0.7, **SMALL
    )


def test_what_a_run_says(run):
    assert run.class_names == NAMES and run.config["freeze"] == "fc7" and run.config["validation"] == 30
    assert [line["step"] for line in run.history] == [4, 6] and "accuracy" in run.history[0]
    assert {line["kind"] for line in run.log} >= {"train", "validation"}
    assert run.predict(IMAGES[:5]).shape == (5, 3) and run.features(IMAGES[:2], "fc7").shape == (2, 64)
    assert repr(run).startswith("TrainedRun(") and "red, green, blue" in repr(run)


def test_it_is_evaluated_on_its_own_and_on_other_images(run, data):
    own = run.evaluate()
    assert own["count"] == len(data.test) == 30 and own["learnt"] == 0 and own["split"] == "test"
    assert jft.evaluate(run, data)["accuracy"] == own["accuracy"]
    assert jft.evaluate(run, data.train)["learnt"] == len(data.train)
    assert run.evaluate(data.validation)["validated"] == 30
    other = jft.data.from_arrays(IMAGES[:12], [NAMES[label] for label in LABELS[:12]], validation=0, test=0)
    told = jft.evaluate(str(run.workdir), other.train)
    assert told["count"] == 12 and list(told["per_class"]) == list(NAMES) != list(other.class_names)


def test_it_opens_again(run, data):
    again = jft.load(run.workdir)
    assert isinstance(again, jft.TrainedRun) and again.history == run.history
    np.testing.assert_array_equal(again.predict(IMAGES[:5]), run.predict(IMAGES[:5]))
    with pytest.raises(ValueError, match="images in memory"):
        again.evaluate()
    assert again.evaluate(data)["count"] == 30
    again = jft.load(run.save(run.workdir.parent / "model.safetensors"))
    assert again.temperature == run.temperature
    np.testing.assert_allclose(again.predict(IMAGES[:5]), run.predict(IMAGES[:5]), atol=1e-6)


def test_it_is_drawn_and_reported(run):
    assert isinstance(run.plot(), Image.Image) and run.plot(run.workdir / "curves.svg").exists()
    path = run.report()
    assert path == run.workdir / "report.html" and "red" in path.read_text()


def test_it_is_exported(run, data, tmp_path, monkeypatch):
    asked = {}
    monkeypatch.setattr("jft.exporters.bundle.ship", lambda *args, **how: asked.update(how, args=args))
    jft.load(run.workdir).export(tmp_path / "out", data=data)
    usual = {"data_dir": None, "preprocessing": True, "int8": False}
    assert asked == {"args": (run.workdir, tmp_path / "out"), **usual, "data": data.source}
    run.export("there")
    assert asked["data"] is run.data is not None


def test_the_same_call_finds_it_done(run, data, capsys):
    again = jft.train(data=data, workdir=run.workdir, freeze="fc7", evaluate_every=0.7, **SMALL)
    assert again.history == run.history
    assert f"To test it: jft.evaluate({str(run.workdir)!r}, data)" in capsys.readouterr().out
    with pytest.raises(ValueError, match="freeze: 'fc7' -> 'fc6'"):
        jft.train(data=data, workdir=run.workdir, freeze="fc6", evaluate_every=0.7, **SMALL)


def test_a_config_and_fields(data, quick, tmp_path, monkeypatch):
    from jft.config import default_config
    from jft.training import train as fit

    config = default_config()
    config.update({"model": "vgg16", "seed": 3, "validation": 0.3})
    made, own = fit._configured(config, data.fields, {"head_hidden": [8], "epochs": np.int64(2), "loss": np.sum})
    assert (made.model, made.seed, made.validation, made.head_hidden, made.epochs) == ("vgg16", 3, 30, (8,), 2.0)
    assert own == {"loss": np.sum} and made.loss == "softmax" and config.validation == 0.3
    made, own = fit._configured(
        {"model": "cnn", "phases": [{"epochs": 1}]}, {}, {"callbacks": [print], "workers": None}
    )
    assert made.model == "cnn" and made.phases == ({"epochs": 1},) and own == {"callbacks": [print]}
    folder = jft.data.from_tfds("digits", classes=["3", "5"], seed=4)
    made, _ = fit._configured(None, folder.fields, {})
    assert (made.dataset, made.classes, made.seed) == ("digits", ("3", "5"), 4)
    monkeypatch.chdir(tmp_path)
    assert fit._free(made, "my photos").name == "my_photos-vgg19"
    (tmp_path / "runs/my_photos-vgg19").mkdir(parents=True)
    (tmp_path / "runs/my_photos-vgg19/config.json").write_text(json.dumps({}))
    assert fit._free(made, "my photos").name == "my_photos-vgg19-2"
    for wrong, told in (
        ({"lerning_rate": 1}, "did you mean 'learning_rate'"),
        ({"num_classes": 3}, "num_classes is the number of classes of the data: leave it out"),
        ({"arms": (("a", {}),)}, "several runs"),
    ):
        with pytest.raises(ValueError, match=told):
            jft.train(data=data, **wrong)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("photos", r"data is of type str: pass a data set, made by jft\.data\.from_folder\('photos'\)"),
        (("list.csv"), r"made by jft\.data\.from_csv\('list\.csv'\)"),
        ((IMAGES, LABELS), r"data is of type tuple: pass a data set, made by jft\.data\.from_arrays\(images, labels\)"),
        (IMAGES, r"data is of type ndarray: .* functions of jft\.data"),
    ],
)
def test_what_is_no_data_set_is_refused(run, wrong, told):
    for call in (
        lambda: jft.train(data=wrong, **SMALL),
        lambda: jft.evaluate(run, wrong),
        lambda: run.evaluate(wrong),
        lambda: run.report(data=wrong),
    ):
        with pytest.raises(TypeError, match=told):
            call()


def test_images_are_passed_as_data(data):
    with pytest.raises(TypeError, match="pass it as data="):
        jft.train(data, **SMALL)
    with pytest.raises(ValueError, match="there are no images: pass data"):
        jft.train(**SMALL)


def test_a_model_that_is_no_run_is_evaluated(quick):
    model = jft.create_model("vgg_tiny", weights="digits04", fit="whole")
    data = jft.data.from_tfds("digits", classes=["4", "3", "2", "1", "0"])
    told = jft.evaluate(model, data)
    assert told["accuracy"] > 0.9 and told["count"] == len(data.test) and list(told["per_class"]) == list("01234")
    assert jft.evaluate(model, data.test)["accuracy"] == told["accuracy"]
    with pytest.raises(ValueError, match="give it data"):
        jft.evaluate(model)
    several = jft.data.from_arrays(IMAGES[:4], np.eye(5, dtype=int)[:4], validation=0, test=0)
    for wrong, why in ((several.train, "several labels an image"), (data.test.take(np.arange(2)), None)):
        if why:
            with pytest.raises(ValueError, match=why):
                jft.evaluate(model, wrong)
        else:
            assert jft.evaluate(model, wrong)["count"] == 2
    strange = jft.data.from_arrays(IMAGES, LABELS, class_names=NAMES)
    with pytest.raises(ValueError, match="the model's classes are not the data's"):
        jft.evaluate(model, strange)
