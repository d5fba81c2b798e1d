"""Successive halving: who goes on by hand, and that an arm which goes on is the arm trained alone."""

import json
import math

import jax
import numpy as np
import pytest
import small_digits

from jft.training.comparison import halving
from jft.training.comparison.halving import halve, search, table
from jft.training.loop import checked_run, train
from jft.training.replay import MEASURED
from jft.training.state import initial_state
from jft.utils.stopped import Stopped

pytestmark = pytest.mark.usefixtures("quick")

# Arm -> its loss at 1/8, 1/4, 1/2 and all of its steps.
LOSSES = {"a": (5, 4, 3, 2), "b": (1, 3, 9, 0), "c": (3, 1, 1, 1), "d": (math.inf, 0, 0, 0), "e": (2, 2, 2, 2)}


def test_the_better_half_is_trained_twice_as_far():
    calls = []

    def loss_at(arm, share):
        calls.append((arm, share))
        return float(LOSSES[arm][round(math.log2(share)) + 3])

    rounds = halve([*LOSSES], loss_at)
    assert [one.share for one in rounds] == [1 / 8, 1 / 4, 1 / 2, 1]
    # Of five arms the best three; b falls back at a quarter, c wins at a half and is trained to its end.
    assert [one.kept for one in rounds] == [("b", "e", "c"), ("c", "e"), ("c",), ("c",)]
    assert [arm for arm, share in calls if share == 1 / 4] == ["b", "e", "c"] and calls[-1] == ("c", 1)
    assert len(calls) == 5 + 3 + 2 + 1
    assert table(rounds).splitlines()[1].split() == ["c", "3.0000", "1.0000", "1.0000", "1.0000"]
    assert table(rounds).splitlines()[-1].split() in (["a", "5.0000"], ["d", "inf"])


def test_of_two_that_are_equal_the_first_goes_on():
    assert halve(["x", "y"], lambda arm, share: 1.0)[-1].kept == ("x",)


@pytest.mark.parametrize("at", [0, 1])
def test_where_all_that_are_left_diverge_none_wins(at):
    losses = {"x": (1, math.inf), "y": (math.inf, math.inf)} if at else dict.fromkeys("xy", (math.inf,))
    with pytest.raises(ValueError, match="x: diverged by 100%" if at else "x, y: diverged by 50%"):
        halve(["x", "y"], lambda arm, share: losses[arm][round(2 * share) - 1])


def arms(folder, **changes):
    own = {"steps": 16, "schedule": "cosine", "optimizer": "adam", "evaluate_every": 99.0, "log_every": 3, **changes}
    config = small_digits.make(folder / "features", **own)
    config.arms = (("still", {"learning_rate": 1e-6}), ("learns", {"learning_rate": 1e-2}))
    return config


@pytest.mark.slow
def test_the_winner_is_the_arm_trained_alone_bit_for_bit(tmp_path, monkeypatch):
    config = arms(tmp_path)
    rounds, winner = search([("digits", config)], tmp_path / "out")
    assert [(one.share, one.kept) for one in rounds] == [(0.5, ("digits/learns",)), (1.0, ("digits/learns",))]
    told = json.loads((tmp_path / "out" / "halving.json").read_text())
    assert told[0]["losses"]["digits/still"] > told[0]["losses"]["digits/learns"]

    alone = halving.planned([("digits", config)], tmp_path / "alone", 1)[1]
    train(alone.config, alone.place, brief=True)
    (state, info), (other, others) = (initial_state(checked_run(alone.config, at)) for at in (winner, alone.place))
    assert int(state.step) == 16
    jax.tree.map(np.testing.assert_array_equal, state, other)
    assert (info.history, info.temperature, info.cached) == (others.history, others.temperature, others.cached)
    logs = [[line for line in small_digits.records(at, "train") if "loss" in line] for at in (winner, alone.place)]
    for one, line in zip(*logs, strict=True):
        assert {**one, **dict.fromkeys(MEASURED)} == {**line, **dict.fromkeys(MEASURED)}

    # A second call trains nothing; one with more arms would stop at other steps.
    monkeypatch.setattr(halving, "train", None)
    assert search([("digits", config)], tmp_path / "out")[0] == rounds
    config.arms = (*config.arms, ("third", {"learning_rate": 1e-4}))
    with pytest.raises(ValueError, match=r"digits/still in .* has gone past step 4 without an evaluation there"):
        search([("digits", config)], tmp_path / "out")


def test_a_pause_leaves_no_trace_in_what_a_run_decides(tmp_path):
    # The whole run reads 512 images and caches the features of 326; up to the pause it reads 256.
    config = arms(tmp_path, batch_size=32)
    paused = train(config, tmp_path / "run", brief=True, until=8)
    assert (paused["step"], paused["finished"], paused["history"]) == (8, True, [])
    _, info = initial_state(checked_run(config, tmp_path / "run"))
    assert info.cached == {0: True} and info.phases[-1][1] == 16
    assert [line["step"] for line in small_digits.records(tmp_path / "run", "pause")] == [8]
    assert not small_digits.records(tmp_path / "run", "validation")


@pytest.mark.slow
def test_pauses_in_and_between_phases_leave_no_trace(tmp_path):
    phases = (
        {"name": "head", "steps": 4, "freeze": "fc7"},
        {"name": "all", "steps": 5, "freeze": "", "wise_ft": "auto"},
    )
    own = {"phases": phases, "freeze": "", "batch_size": 32, "learning_rate": 1e-2, "evaluate_every": 3, "log_every": 1}
    config = small_digits.make(tmp_path / "features", **own)
    for until in (2, 4, 7, None):  # within a phase, at its end, and in the next
        paused = train(config, tmp_path / "paused", brief=True, until=until)
        assert paused["step"] == (until or 9)
    whole = train(config, tmp_path / "whole", brief=True)
    assert paused["history"] == whole["history"]
    folders = [tmp_path / name for name in ("paused", "whole")]
    states = [initial_state(checked_run(config, folder))[0] for folder in folders]
    jax.tree.map(np.testing.assert_array_equal, *states)
    logs = [[line["loss"] for line in small_digits.records(folder, "train") if "loss" in line] for folder in folders]
    assert logs[0] == logs[1] and len(logs[0]) == 9


def test_a_signal_ends_the_search(tmp_path, monkeypatch):
    monkeypatch.setattr(halving, "train", lambda *a, **k: {"finished": False, "signal": 2})
    with pytest.raises(Stopped):
        search([("digits", arms(tmp_path))], tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation": 0.0}, "validation = 0.0: hold some out"),
        ({"validation": "cv"}, "validation = 'cv': hold some out"),
        ({"early_stopping": 2}, "halving ends arms itself: leave early_stopping out"),
        ({"callbacks": ("builtins:print",)}, "halving ends arms itself, and callbacks may end them"),
    ],
)
def test_what_cannot_be_searched_is_said(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        search([("digits", arms(tmp_path, **changes))], tmp_path / "out")


def test_one_arm_is_no_search(tmp_path):
    config = arms(tmp_path)
    config.arms = ()
    with pytest.raises(ValueError, match="among two arms or more"):
        search([("digits", config)], tmp_path / "out")
