"""Sweeps, the curves of several seeds, and runs side by side."""

import json

import matplotlib.figure
import numpy as np
import pytest
from small_digits import make, write_config

from jft.config import arms_of
from jft.evaluation.report import charts
from jft.training.comparison import side_by_side
from jft.training.comparison.compare import compare
from jft.training.comparison.sweep import with_sweep


def test_a_grid_of_each_arm(tmp_path):
    config = make(tmp_path, arms=(("one", {"steps": 2}), ("two", {"steps": 3})))
    swept = with_sweep(config, {"learning_rate": (1e-4, 0.001), "flip": (True, False)})
    names, configs = zip(*arms_of("base", swept), strict=True)
    assert names[:3] == (
        "base/one_learning_rate=0.0001,flip=True",
        "base/one_learning_rate=0.0001,flip=False",
        "base/one_learning_rate=0.001,flip=True",
    )
    assert len(names) == 8
    assert [(c.steps, c.learning_rate, c.flip) for c in configs[:2]] == [(2, 1e-4, True), (2, 1e-4, False)]
    assert (configs[7].steps, configs[7].learning_rate, configs[7].flip) == (3, 0.001, False)
    (name, _), *_ = arms_of("base", with_sweep(make(tmp_path), {"weights": ("hf:a/b", "digits04")}))
    assert name == "base/weights=hf_a_b"  # a part of a folder's name
    with pytest.raises(ValueError, match="a sweep makes arms itself"):
        with_sweep(config, {"arms": ((),)})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sweep", "lerning_rate=1,2"], "unknown config field 'lerning_rate', did you mean 'learning_rate'?"),
        (["--sweep", "learning_rate"], "'learning_rate': give a field and its values, such as learning_rate=1e-4,3e-4"),
        (["--sweep", "learning_rate=a,b"], "--learning-rate 'a': give "),
        (["--sweep", "steps=1", "--sweep", "steps=2"], "give each field once, with all of its values"),
        (["--sweep", "learning_rate=0.1,0.2"], "learning_rate = 0.1 has no effect where solver = 'ridge'"),
        (["--workers", "0"], "--workers 0: at least 1."),
    ],
)
def test_what_is_wrong_with_a_sweep_is_said(tmp_path, command, arguments, message):
    write_config(tmp_path / "a.py", make(tmp_path, solver="ridge"))
    status, _, error = command("compare", tmp_path / "a.py", "--out", tmp_path / "out", *arguments)
    assert status == 1 and message in error
    assert not (tmp_path / "out").exists()


def test_curves_have_the_mean_of_the_seeds_and_a_band():
    def log(values, kind="train"):
        return [{"kind": kind, "step": step, "loss": loss} for step, loss in values.items()]

    seeds = [[*log({1: 1.0, 2: 3.0}), *log({2: 9.0}, "validation")], log({1: 3.0})]
    axes = matplotlib.figure.Figure().subplots()
    charts.draw_bands(axes, {"two": seeds, "none": [[]]}, "train", "loss", "loss")
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[1, 2.0], [2, 3.0]])
    (band,) = axes.collections[0].get_paths()
    assert {tuple(point) for point in band.vertices} == {(1, 2 - 2**0.5), (1, 2 + 2**0.5), (2, 3)}
    assert not len(axes.lines[1].get_xydata()) and axes.lines[1].get_label() == "none"


def test_each_worker_sees_one_device(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_a=1 --xla_force_host_platform_device_count=8")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (flags,) = {one["XLA_FLAGS"] for one in side_by_side.environments("cpu", 8, 2)}
    assert flags.endswith("=8 --xla_force_host_platform_device_count=1")  # the last one holds
    assert side_by_side.environments("gpu", 4, 2) == [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5")
    assert side_by_side.environments("gpu", 2, 2) == [{"CUDA_VISIBLE_DEVICES": "3"}, {"CUDA_VISIBLE_DEVICES": "GPU-5"}]
    with pytest.raises(ValueError, match=r"3 workers need as many devices, and JAX finds 2 here \(gpu\)\.$"):
        side_by_side.environments("gpu", 2, 3)
    with pytest.raises(ValueError, match="XLA_FLAGS=--xla_force_host_platform_device_count=N makes N of a CPU"):
        side_by_side.environments("cpu", 1, 2)
    with pytest.raises(ValueError, match="this machine has 4 x tpu: use one worker"):
        side_by_side.environments("tpu", 4, 2)


@pytest.mark.slow
def test_runs_side_by_side(tmp_path, one_device):
    """Two at a time; then one that fails, and one after another in this process, which finds them finished."""
    config = make(tmp_path / "features", solver="ridge", examples_per_class=20)
    swept = with_sweep(config, {"examples_per_class": (20, 40)})
    rows, (pair,) = compare([("a", swept)], tmp_path / "out", seeds=1, workers=2)
    names = [f"a/examples_per_class={n}" for n in (20, 40)]
    assert [row.name for row in rows] == names == [pair.first, pair.second]
    for row in rows:
        run = tmp_path / "out" / "runs" / row.name / "seed0"
        assert json.loads((run / "eval.json").read_text())["accuracy"] == row.accuracies[0]
        assert "at 32 pixels on 1 x cpu" in run.with_name("seed0.log").read_text()
    assert compare([("a", swept)], tmp_path / "out", seeds=1) == (rows, [pair])

    broken = with_sweep(config, {"weights": ("nothing",)})
    with pytest.raises(ValueError, match=r"a/weights=nothing, seed 0: .*nothing"):
        compare([("a", broken)], tmp_path / "broken", seeds=1, workers=2)
