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


def arms(folder, **changes):
    own = {"steps": 8, "schedule": "cosine", "optimizer": "adam", "evaluate_every": 99.0, "log_every": 3, **changes}
    config = small_digits.make(folder / "features", **own)
    config.arms = (("still", {"learning_rate": 1e-6}), ("learns", {"learning_rate": 1e-2}))
    return config


@pytest.mark.slow
def test_the_winner_is_the_arm_trained_alone_bit_for_bit(tmp_path, monkeypatch):
    config = arms(tmp_path)
    rounds, winner = search([("digits", config)], tmp_path / "out")
    assert [(one.share, one.kept) for one in rounds] == [(0.5, ("digits/learns",)), (1.0, ("digits/learns",))]
    told = json.loads((tmp_path / "out" / "halving.json").read_text())
    assert told[0]["losses"]["digits/still"] > told[0]["losses"]["digits/learns"] > told[1]["losses"]["digits/learns"]

    alone = halving.planned([("digits", config)], tmp_path / "alone", 1)[1]
    train(alone.config, alone.place, brief=True)
    states = [initial_state(checked_run(alone.config, place))[0] for place in (winner, alone.place)]
    assert int(states[0].step) == 8
    for one, other in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))

    # A second call trains nothing.
    monkeypatch.setattr(halving, "train", None)
    assert search([("digits", config)], tmp_path / "out")[0] == rounds


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
