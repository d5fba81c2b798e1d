"""Stretches of steps on cached features: the bits of single steps, and an end wherever the loop does something."""

import dataclasses
import re
import signal

import numpy as np
import pytest
import small_digits
from small_vgg import killing, records

from jft.evaluation.restore import restore
from jft.training import feature_cache, stretches
from jft.training.loop import train
from jft.training.progress import NonFiniteLossError, Window
from jft.training.run import create_run
from jft.training.state import initial_state
from jft.utils import tree
from jft.utils.mesh import make_parallel

pytestmark = pytest.mark.usefixtures("quick")
# The log, evaluations (every 10.19 steps) and checkpoints all end stretches, and seldom at the same step.
CONFIG = {"steps": 60, "log_every": 8, "evaluate_every": 1.0, "checkpoint_every": 7, "cache_features": True}
HEADS = {
    "linear": {},
    "variants": {"flip": True, "optimizer": "sgd", "schedule": "cosine", "clip_norm": 1.0},
    "hidden": {"head": "linear", "head_hidden": (16,), "head_dropout": 0.3, "ema": 0.9, "accumulate": 2},
    "bfloat16": {"features_dtype": "bfloat16", "dtype": "bfloat16", "balance": "weights", "label_smoothing": 0.1},
}


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """A folder of features that all runs share."""
    return tmp_path_factory.mktemp("features")


def make(features, **changes):
    return small_digits.make(features, **{**CONFIG, **changes})


def variables(workdir):
    return tree.flatten(restore(workdir, make_parallel("jit")).variables)


def assert_same_run(one, other):
    assert records(one) == records(other)  # with fingerprints of all that is trainable
    ours, theirs = variables(one), variables(other)
    for name, leaf in ours.items():
        np.testing.assert_array_equal(leaf, theirs[name], err_msg=name)


LONG = ("linear", "hidden", "bfloat16")  # "variants" keeps the promise in every run


@pytest.mark.parametrize("head", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in HEADS])
def test_stretches_have_the_bits_of_single_steps(head, features, tmp_path, monkeypatch, capsys, optimizing_compiler):
    config = make(features, **HEADS[head])
    train(config, tmp_path / "stretches")
    assert ", up to 8 steps in a call." in capsys.readouterr().out
    monkeypatch.setattr(stretches, "MOST", 1)
    train(config, tmp_path / "steps")
    assert "steps in a call" not in capsys.readouterr().out
    assert_same_run(tmp_path / "stretches", tmp_path / "steps")
    assert [line["step"] for line in records(tmp_path / "steps") if line["kind"] == "train"] == [*range(8, 60, 8), 60]


def test_killed_or_stopped_anywhere_it_resumes_to_the_same_bits(features, tmp_path, monkeypatch):
    config = make(features)
    train(config, tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Window, "add", killing(Window.add, 5))
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "run")
    add, stopped = Window.add, []

    def signalled(self, step, sums, *stretch):
        add(self, step, sums, *stretch)
        if step > 40 and not stopped:
            stopped.append(step)
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Window, "add", signalled)
    result = train(config, tmp_path / "run")
    assert (result["signal"], result["step"]) == (signal.SIGTERM, stopped[0])  # saved where the stretch ends
    assert train(config, tmp_path / "run")["finished"]
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_a_loss_that_is_not_finite_names_its_step(features, tmp_path, monkeypatch):
    config = make(features, head="linear", head_hidden=(16,), learning_rate=1e30, optimizer="sgd")
    steps = []
    for most, name in ((stretches.MOST, "stretches"), (1, "steps")):
        monkeypatch.setattr(stretches, "MOST", most)
        with pytest.raises(NonFiniteLossError) as caught:
            train(config, tmp_path / name)
        steps.append((caught.value.step, str(caught.value)))
    assert steps[0] == steps[1] and re.match(r"the (loss|gradient norm) of step \d", steps[0][1])


@pytest.fixture
def run(features, tmp_path):
    return create_run(make(features), tmp_path / "run")


def changed(run, **fields):
    config = make(run.config.features_dir, **fields)
    return dataclasses.replace(run, config=config)


@pytest.mark.parametrize(
    ("fields", "steps", "most", "ends"),
    [
        ({}, range(0, 25), 8, [7, 8, 11, 14, 16, 21, 24, 25]),
        ({}, range(9, 25), 8, [11, 14, 16, 21, 24, 25]),  # 11 and 21: epochs of 10.19 steps end before
        ({"checkpoint_every": 0, "log_every": 20}, range(0, 25), 8, [8, 11, 19, 20, 21, 25]),
        ({"log_every": 1}, range(0, 3), 8, [1, 2, 3]),
    ],
)
def test_stretches_end_where_something_follows(run, fields, steps, most, ends):
    cut = list(stretches.cut(changed(run, **fields), steps, most))
    assert [part.stop for part in cut] == ends
    assert [number for part in cut for number in part] == list(steps)


@pytest.mark.parametrize(
    ("fields", "patched"),
    [
        ({"log_every": 1}, {}),
        ({"on_nan": "rollback"}, {}),
        ({"callbacks": ("stop_when_perfect",)}, {}),
        ({"parallel": "pmap"}, {}),
        ({"cache_features": False}, {}),
        ({"freeze": "block2", "head": "published"}, {}),  # the head reads maps
        ({}, {"_CHEAP": 3 * 32 * (64 * 3 + 3) - 1}),
        ({}, {"_SHARE": 0.0}),
    ],
)
def test_single_steps_where_stretches_would_not_do(features, tmp_path, monkeypatch, fields, patched):
    def length(**fields):
        run = create_run(make(features, **fields), tmp_path / "run")
        state, _ = initial_state(run)
        return stretches.decide(run, feature_cache.decide(run, state, {}))[0].stretch

    assert length() == 8
    for name, value in patched.items():
        monkeypatch.setattr(stretches, name, value)
    assert length(**fields) == 1
