"""`jft fit`: the plan follows the budget; the run is like any other, and its config.py trains the same again."""

import json

import numpy as np
import pytest
import small_digits
import small_run

import jft
from jft.cli.config_file import read_config
from jft.config import default_config
from jft.evaluation.load import load
from jft.training import fit as fit_lib
from jft.training.loop import train


def images(factory):
    config = default_config()
    config.update({"dataset": "folder", "data_dir": str(small_run.images(factory)), "batch_size": 32, "flip": False})
    return config


class Hour(fit_lib.Clock):
    """An hour that does not pass."""

    spent = 0.0


@pytest.mark.parametrize(
    ("step", "forward", "expected"),
    [
        (1.0, 1e-3, {"preset": "fine_tune", "validation": "cv", "trained_folds": 0, "epochs": 8.0}),
        (40.0, 1e-3, {"preset": "fine_tune", "validation": "cv", "trained_folds": 1, "epochs": 8.0}),
        (70.0, 1e-3, {"preset": "fine_tune", "validation": 0.2, "epochs": 8.0, "solver": "steps"}),
        (300.0, 1e-3, {"preset": "fine_tune", "validation": 0.2, "epochs": 3.0, "solver": "steps"}),
        (2000.0, 1e-3, {"preset": "", "validation": "cv", "solver": "lda", "pool": "stages"}),
        (1.0, 12.0, {"preset": "", "validation": "cv", "solver": "lda", "pool": "stages"}),
    ],
)
def test_the_plan_is_what_the_budget_allows(monkeypatch, step, forward, expected):
    monkeypatch.setattr(fit_lib, "_measure", lambda config: fit_lib.Costs(step, forward, images=100, tested=30))
    config = fit_lib.plan(default_config(), Hour(60), {"solver": "lda", "pool": "stages"})
    assert {name: config[name] for name in expected} == expected


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted")
    with pytest.MonkeyPatch.context() as patch, small_digits.quick():
        patch.setenv("JFT_CACHE", str(folder / "cache"))
        patch.setattr(fit_lib, "_EPOCHS", 1)
        patch.setattr(fit_lib, "_FOLDS", 2)
        result = fit_lib.fit(images(tmp_path_factory), folder / "run", minutes=30, patterns=["vgg_tiny.digits04"])
    return folder, result


@pytest.mark.slow
@pytest.mark.xdist_group("fit")
def test_the_run_is_like_any_other(fitted, tmp_path_factory):
    folder, result = fitted
    assert result["finished"] and result["history"][-1]["folds"] == 2
    assert load(folder / "run").info.model == "vgg_tiny"
    found = json.loads((folder / "run" / "images.json").read_text())
    assert sum(found["splits"].values()) == 150


@pytest.mark.slow
@pytest.mark.xdist_group("fit")
def test_its_config_trains_the_same_again(fitted):
    folder, result = fitted
    config = read_config(str(folder / "run" / "config.py"), [])
    with small_digits.quick():
        assert train(config, folder / "run", brief=True)["history"] == result["history"]  # that is: it is this run


@pytest.mark.slow
@pytest.mark.xdist_group("fit")
def test_a_folder_with_a_run_is_left_alone(fitted, tmp_path_factory):
    folder, _ = fitted
    with pytest.raises(ValueError, match=r"holds a run: resume it by `jft train .*config\.py --workdir"):
        fit_lib.fit(images(tmp_path_factory), folder / "run", minutes=1)


def test_a_folder_of_something_else_is_left_alone_before_any_work(tmp_path, tmp_path_factory, monkeypatch):
    (tmp_path / "notes.txt").write_text("mine")
    monkeypatch.setattr(fit_lib.survey, "of_config", None)
    with pytest.raises(ValueError, match="exists and is not a run"):
        fit_lib.fit(images(tmp_path_factory), tmp_path, minutes=1)


def test_a_budget_is_above_0(command, tmp_path_factory):
    status, _, error = command("fit", small_run.images(tmp_path_factory), "--minutes", "0")
    assert status == 1 and "--minutes 0: give a budget above 0" in error


@pytest.mark.slow
@pytest.mark.xdist_group("fit")
def test_it_is_a_function_too(tmp_path, tmp_path_factory, monkeypatch):
    monkeypatch.setattr(fit_lib, "plan", lambda config, clock: config)  # the probe's
    data = jft.data.from_folder(small_run.images(tmp_path_factory))
    with small_digits.quick():
        run = jft.fit(data, models=["vgg_tiny.digits04"], workdir=tmp_path / "run", batch_size=32)
    assert run.config["batch_size"] == 32 and run.history and (tmp_path / "run" / "config.py").exists()


def test_what_a_function_cannot_take_is_said(tmp_path_factory):
    folder, arrays = (
        small_run.images(tmp_path_factory),
        jft.data.from_arrays(*[np.zeros((9, 8, 8, 3), np.uint8), [0, 1, 2] * 3]),
    )
    for given, fields, message in (
        (arrays, {}, "these images are in memory, and jft.fit reads files"),
        (folder, {"epochs": 3, "model": "vgg16"}, "epochs, model: jft.fit chooses this"),
        (folder, {"minutes": 0.0}, "minutes = 0: give a budget above 0"),
        (folder, {"augment": [np.flip]}, "augment: jft.fit takes values; for objects of your own, call jft.train"),
        (str(folder) + "/none", {}, "none"),
    ):
        with pytest.raises(ValueError, match=message):
            jft.fit(given, **fields)
