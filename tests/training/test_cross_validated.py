"""validation = 'cv': folds choose the share of wise_ft and the temperature, and the run trains on all images."""

import dataclasses
import json
import shutil
import signal

import numpy as np
import pytest
import small_digits

from jft.config import default_config
from jft.data import datasets
from jft.data.folds import folds
from jft.evaluation.evaluate import evaluate
from jft.evaluation.load import load
from jft.metrics import calibration
from jft.training import cross_validated, wise_ft
from jft.training.loop import checked_run, train
from jft.utils import interrupt

pytestmark = pytest.mark.xdist_group("folds")  # which one worker trains for all


def make(folder, **changes):
    own = {"preset": "fine_tune", "freeze": "", "steps": 3, "batch_size": 64, "learning_rate": 1e-3, "log_every": 3}
    return small_digits.make(folder / "features", **{**own, "validation": "cv", "folds": 2, **changes})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("folds")
    with small_digits.quick():
        result = train(make(folder), folder / "run", brief=True)
    return folder, result


def held(folder, number):
    with np.load(folder / "run" / "folds" / str(number) / "held_out.npz") as held:
        return dict(held)


def test_each_image_is_held_out_once_and_the_run_trains_on_all(run):
    folder, result = run
    with small_digits.quick():
        whole = checked_run(make(folder), folder / "run").train_source
        parts = [checked_run(make(folder, fold=number), folder / "no").validation_source for number in (1, 2)]
    fold_of = folds(whole.labels, 2, 0)
    assert len(whole) == 434 and [len(part) for part in parts] == np.bincount(fold_of).tolist()
    assert sorted(np.concatenate([part.indices for part in parts])) == sorted(whole.indices)
    for number, part in enumerate(parts, 1):
        np.testing.assert_array_equal(held(folder, number)["indices"], part.indices)
    model = load(folder / "run")
    assert model.info.trained_on.count == 434 and result["step"] == 4 and result["finished"]
    assert not list((folder / "run" / "folds").rglob("checkpoints"))


def test_the_share_and_the_temperature_are_the_best_of_all_folds(run):
    folder, result = run
    parts = [held(folder, number) for number in (1, 2)]
    logits = np.concatenate([part["logits"] for part in parts], 1).astype(np.float64)
    labels = np.concatenate([part["labels"] for part in parts])
    assert parts[0]["shares"].tolist() == list(wise_ft.SHARES)
    temperatures = [calibration.fit_temperature(one.astype(np.float32), labels) for one in logits]
    scaled = logits / np.array(temperatures)[:, None, None]
    logs = scaled - np.log(np.exp(scaled).sum(-1, keepdims=True))
    losses = -logs[:, np.arange(len(labels)), labels].mean(1)
    best = int(losses.argmin())
    chosen = json.loads((folder / "run" / "folds" / "chosen.json").read_text())
    assert chosen["share"] == wise_ft.SHARES[best] and chosen["count"] == 434
    assert chosen["loss"] == pytest.approx(losses[best], rel=0.05)
    (average,) = small_digits.records(folder / "run", "average")
    assert average["share"] == chosen["share"]
    temperature = load(folder / "run").info.temperature
    assert temperature == chosen["temperature"] == pytest.approx(temperatures[best], rel=1e-5)
    (entry,) = result["history"]
    assert entry["step"] == 4 and entry["accuracy_low"] <= entry["accuracy"] <= entry["accuracy_high"]


def test_one_of_the_folds_can_choose_for_all(run, tmp_path):
    folder, _ = run
    with small_digits.quick():
        short = checked_run(make(tmp_path, trained_folds=1), tmp_path / "run")

    def copied(config, place):
        assert (config.fold, place) == (1, tmp_path / "run" / "folds" / "1")
        shutil.copytree(folder / "run" / "folds" / "1", place)
        return True

    assert cross_validated.run_folds(short, copied)
    chosen, part = cross_validated.read(short), held(folder, 1)
    assert (chosen["folds"], chosen["count"]) == (1, len(part["labels"]))
    assert len(short.train_source) == 434 and not len(short.validation_source)


@pytest.mark.slow
def test_a_run_killed_in_a_fold_goes_on(run, tmp_path):
    folder, result = run
    shutil.copytree(folder / "run", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    (tmp_path / "run" / "folds" / "chosen.json").unlink()
    shutil.rmtree(tmp_path / "run" / "folds" / "2")
    config = make(tmp_path, features_dir=str(folder / "features"))
    with small_digits.quick():
        again = train(config, tmp_path / "run", brief=True)
    assert again["history"] == result["history"]
    one, other = (small_digits.records(place / "run", "train")[-1]["parameters"] for place in (folder, tmp_path))
    assert one == other


def test_a_signal_in_a_fold_ends_the_run(tmp_path, monkeypatch):
    def check(self):
        self.received = signal.SIGTERM
        return True

    monkeypatch.setattr(interrupt.Interrupt, "check", check)
    with small_digits.quick():
        result = train(make(tmp_path), tmp_path / "run", brief=True)
    assert (result["step"], result["finished"], result["signal"]) == (0, False, signal.SIGTERM)
    assert not (tmp_path / "run" / "folds" / "2").exists()


@pytest.mark.parametrize("solver", ["lbfgs", "lda"])
def test_a_solver_needs_no_folds_of_its_own(tmp_path, solver):
    config = make(tmp_path, preset="", steps=0, solver=solver, batch_size=32, learning_rate=1e-3)
    with small_digits.quick():
        result = train(config, tmp_path / "run", brief=True)
    assert not (tmp_path / "run" / "folds").exists()
    (entry,) = result["history"]
    assert entry["count"] == 434 and entry["folds"] == 2 and entry["accuracy"] > 0.9
    tested = evaluate(tmp_path / "run")
    assert tested["loss"] < 2 * entry["loss"]  # what is saved is as sure of itself as what was cross-validated
    if solver == "lda":  # whose head has its temperature in it
        assert load(tmp_path / "run").info.temperature == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation": "cw"}, "validation = 'cw': give a share below 1, a number of images, or 'cv'"),
        ({"folds": 1}, "folds = 1: must be 2 or more"),
        ({"trained_folds": 3}, "trained_folds = 3 of folds = 2: give at most as many, or 0"),
        ({"fold": 4}, "fold = 4, and there are 2: give 1 .. 2, or 0"),
        ({"preset": "", "early_stopping": 2}, "early_stopping = 2 ends each fold at its own step"),
        ({"validation": 0.2, "folds": 3}, "folds = 3 has no effect where validation = 0.2"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, changes, message):
    with small_digits.quick(), pytest.raises(ValueError, match=message):
        checked_run(make(tmp_path, **changes), tmp_path / "run")


def test_validation_images_of_their_own_are_not_divided():
    images, labels = np.zeros((12, 8, 8, 3), np.uint8), np.arange(12) % 2
    source = datasets.from_arrays(images, labels)
    official = dataclasses.replace(source, official={"validation": source.take(np.arange(4))})
    fields = {**default_config(), "dataset": official, "validation": "cv"}
    with pytest.raises(ValueError, match="has validation images of its own, and validation = 'cv'"):
        datasets.of_config(fields, "train")
