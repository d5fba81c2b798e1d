"""Runs tested together: the average of their probabilities, measured as scikit-learn measures it."""

import itertools
import json
import shutil

import jax
import numpy as np
import pytest
import sklearn.metrics
import small_digits
from PIL import Image
from small_chain import Small
from small_chain import images as some_images

from jft.data import datasets
from jft.data.transforms import to_model_input
from jft.evaluation.evaluate import evaluate, evaluate_ensemble
from jft.evaluation.restore import restore
from jft.evaluation.results import format_evaluation
from jft.models import MODELS
from jft.training.loop import train
from jft.utils.mesh import make_parallel

# One worker trains for all of them.
pytestmark = [pytest.mark.xdist_group("ensemble"), pytest.mark.usefixtures("quick")]

CLASSES = tuple("0123456789")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ensemble")


def run(folder, name, **changes):
    config = small_digits.make(folder / "features", **{"classes": CLASSES, "solver": "ridge", **changes})
    return train(config, folder / name)["finished"] and folder / name


@pytest.fixture(scope="module")
def members(folder):
    """Two runs of other networks, seeds and sizes of images."""
    return [
        run(folder, "one", examples_per_class=3),
        run(folder, "two", examples_per_class=4, seed=1, cut="block2", freeze="", head="linear", image_size=24),
    ]


@pytest.fixture(scope="module")
def found(members):
    return evaluate_ensemble(members)


def probabilities(workdir, source):
    """As the run's own model has them, one image after the other prepared outside of the evaluator."""
    trained = restore(workdir, make_parallel("jit"))
    images = to_model_input(source.images, trained.spec, fit=trained.info.fit)
    logits = np.asarray(jax.jit(lambda v, x: trained.model.apply(v, x, train=False))(trained.variables, images))
    if trained.info.objective == "multilabel":
        return 1 / (1 + np.exp(-logits.astype(np.float64)))
    powers = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def test_the_average_of_probabilities(members, found):
    source = datasets.load_source(
        "digits", split="test", data_dir=None, validation=0.25, seed=0, classes=CLASSES, examples_per_class=0
    )
    own = [probabilities(member, source) for member in members]
    average = np.mean(own, axis=0)
    assert found["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(source.labels, average.argmax(-1)))
    assert found["top5"] == pytest.approx(sklearn.metrics.top_k_accuracy_score(source.labels, average, k=5))
    assert found["top5"] < 1
    assert found["loss"] == pytest.approx(sklearn.metrics.log_loss(source.labels, average), rel=1e-5)
    assert found["count"] == len(source) and found["split"] == "test" and found["dataset"] == source.name
    for member, alone, theirs in zip(found["members"], own, members, strict=True):
        assert member["checkpoint"] == str(theirs) and member["step"] == 1
        assert member["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(source.labels, alone.argmax(-1)))
        assert member["loss"] == pytest.approx(sklearn.metrics.log_loss(source.labels, alone), rel=1e-5)
        assert not (theirs / "eval.json").exists()
    # Neither member's figure, nor that of averaged logits.
    assert found["loss"] not in [pytest.approx(member["loss"], rel=1e-3) for member in found["members"]]
    geometric = np.exp(np.mean(np.log(own), axis=0))
    geometric /= geometric.sum(-1, keepdims=True)
    assert found["loss"] != pytest.approx(sklearn.metrics.log_loss(source.labels, geometric), rel=1e-3)


def test_one_member_is_the_run(members, folder):
    copy = shutil.copytree(members[0], folder / "copy")
    single, found = evaluate(copy, split="validation"), evaluate_ensemble([copy], split="validation")
    shared = ("accuracy", "top5", "count", "dataset", "split", "checkpoint")
    assert {key: found[key] for key in shared} == {key: single[key] for key in shared}
    assert found["loss"] == pytest.approx(single["loss"], rel=1e-5)
    assert found["members"][0]["loss"] == single["loss"]


def test_other_classes_or_images_are_refused(members, folder):
    other = run(folder, "other", classes=CLASSES[::-1], examples_per_class=3)
    with pytest.raises(ValueError) as error:
        evaluate_ensemble([members[0], other])
    assert f"{other} has classes {list(CLASSES[::-1])}" in str(error.value)
    assert f"{members[0]} has {list(CLASSES)}" in str(error.value)


def test_validation_images_of_two_seeds_are_refused(members, tmp_path):
    """A class folder is sorted by class, so that their labels are the same ones in the same order."""
    rng = np.random.default_rng(0)
    for name in CLASSES:
        (tmp_path / name).mkdir()
        for i in range(8):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(tmp_path / name / f"{i}.png")
    drawn = {"classes": (), "examples_per_class": 0, "validation": 0.25, "data_dir": str(tmp_path)}
    one, two = (datasets.load_source("folder", split="validation", seed=seed, **drawn) for seed in (0, 1))
    np.testing.assert_array_equal(one.labels, two.labels)
    with pytest.raises(ValueError, match="the runs have different images: "):
        evaluate_ensemble(members, dataset="folder", data_dir=str(tmp_path), split="validation")


def test_several_labels(folder, monkeypatch):
    monkeypatch.setitem(MODELS._rows, "small", Small)
    plain = some_images(60, classes=2)
    labels = np.stack([plain.labels, np.arange(60) % 3 == 0, np.arange(60) % 5 == 0], axis=1)
    source = datasets.from_arrays(plain.images, labels.astype(np.uint8), ("a", "b", "c"))
    runs = [folder / "labels0", folder / "labels1"]
    for seed, workdir in enumerate(runs):
        config = small_digits.make(folder / "features", classes=(), model="small", weights="", loss="sigmoid")
        config.update({"image_size": 0, "freeze": "", "steps": 3, "batch_size": 15, "seed": seed, "validation": 0})
        config.update({"optimizer": "sgd", "learning_rate": 0.3})
        train(config, workdir, source)
    found = evaluate_ensemble(runs, dataset=source, split="all")
    average = np.mean([probabilities(one, source) for one in runs], axis=0)
    assert len(np.unique(average)) == average.size
    assert "top5" not in found
    assert found["mean_average_precision"] == pytest.approx(
        sklearn.metrics.average_precision_score(source.labels, average, average="macro"), rel=1e-5
    )
    likely = np.where(source.labels, average, 1 - average)
    assert found["loss"] == pytest.approx(-np.log(likely).mean(), rel=1e-4)
    assert found["accuracy"] == pytest.approx(np.mean((average >= 0.5) == source.labels))
    assert "mean average precision" in format_evaluation(found)


def test_script(members, found, command):
    status, printed, _ = command("evaluate", *members)
    assert status == 0
    assert printed == format_evaluation(found) + "\n"
    assert f"{members[0]} + {members[1]} on digits test, {found['count']} images:" in printed
    assert f"top-1 {found['accuracy']:.2%}, top-5 {found['top5']:.2%}, log loss {found['loss']:.4f}" in printed
    assert f"{members[1]} alone: {found['members'][1]['accuracy']:.2%}" in printed
    status, printed, error = command("evaluate", members[0] / "nothing", members[1])
    assert status == 1 and printed == "" and error.startswith("error: ") and error.count("\n") == 1


def test_images_that_came_or_went_since_training_are_noticed(folder, tmp_path):
    rng = np.random.default_rng(0)
    for name, i in itertools.product(("dark", "light"), range(12)):
        (tmp_path / "images" / name).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 120, (32, 32, 3)) + 120 * (name == "light")
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "images" / name / f"{i}.png")
    own = {"dataset": "folder", "data_dir": str(tmp_path / "images"), "classes": ()}
    workdir = run(folder, "images", **own)
    assert evaluate(workdir)["count"] == 5
    # In its place, others would be test images than before.
    (tmp_path / "images/light/3.png").unlink()
    with pytest.raises(
        ValueError, match=r"does not hold the images that .*: \d+ training images then, .* or train again"
    ):
        evaluate(workdir)
    assert evaluate(workdir, split="all")["count"] == 23
    (tmp_path / "images/light/3.png").write_text("not an image")
    assert evaluate(workdir, split="all", skip_unreadable=True)["count"] == 23
    assert json.loads((workdir / "eval.json").read_text())["count"] == 5


def test_figures_of_other_images_stand_apart(folder, tmp_path):
    """Of the same images elsewhere they are the run's own; of others never, and no test split is drawn from them."""
    rng = np.random.default_rng(0)
    for place, name, i in itertools.product(("here", "new/test", "new/train"), ("dark", "light"), range(12)):
        (tmp_path / place / name).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 120, (32, 32, 3)) + 120 * (name == "light")
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / place / name / f"{i}{place[-1]}.png")
    workdir = run(folder, "apart", dataset="folder", data_dir=str(tmp_path / "here"), classes=())
    moved, new = shutil.copytree(tmp_path / "here", tmp_path / "moved"), tmp_path / "new"
    assert evaluate(workdir, data_dir=str(moved))["count"] == 5
    own = (workdir / "eval.json").read_text()
    found = evaluate(workdir, data_dir=str(new))
    assert found["count"] == 24 and found["dataset"] == "new"
    assert json.loads((workdir / "eval-new-test.json").read_text()) == found
    assert evaluate(workdir, data_dir=str(new), split="all")["count"] == 48
    with pytest.raises(ValueError, match="for entirely new images, give data with split='all'"):
        evaluate(workdir, data_dir=str(new / "test"))
    assert (workdir / "eval.json").read_text() == own
    assert {path.name for path in workdir.glob("eval*.json")} == {
        *("eval.json", "eval-new-test.json", "eval-new-all.json")
    }
