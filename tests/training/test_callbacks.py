"""Callbacks: what they are told, and that a run which one of them stops is at its end."""

import json

import pytest
import small_chain
import small_digits
import test_own
from test_own import make

from jft.training import callbacks
from jft.training.callbacks import EvaluationEnd
from jft.training.loop import train

small = test_own.small  # the network by name, and one device


class Notes:
    """Notes every event; stops at a step, where it is told."""

    def __init__(self, stop=0):
        self.events, self._stop = [], stop

    def on_step_end(self, event):
        self.events.append(event)
        if event.step == self._stop:
            assert float(event.sums["objective"]) > 0 and event.sums["count"] == 12
            event.stop("Notes")

    def on_epoch_end(self, event):
        self.events.append(event)

    on_evaluation_end = on_epoch_end


def test_all_ends_are_told_to_objects_and_functions(tmp_path):
    notes, seen = Notes(), []
    result = train(
        make(steps=6, evaluate_every=1.0), tmp_path / "run", small_chain.images(), callbacks=[notes, seen.append]
    )
    assert seen == notes.events
    steps_per_epoch = 26 / 12
    assert [(event.kind, event.step) for event in seen] == [
        *(("step", 1), ("step", 2), ("step", 3), ("epoch", 3), ("evaluation", 3)),
        *(("step", 4), ("step", 5), ("epoch", 5), ("evaluation", 5), ("step", 6), ("evaluation", 6)),
    ]
    assert {
        (event.num_steps, event.phase, event.epoch == pytest.approx(event.step / steps_per_epoch, abs=1e-4))
        for event in seen
    } == {(6, "training", True)}
    assert [dict(one) for one in seen[-1].history] == result["history"] and seen[-1].metrics["count"] == 12


def test_a_stopped_run_is_evaluated_saved_and_at_its_end(tmp_path, capsys):
    result = train(make(steps=50), tmp_path / "run", small_chain.images(), callbacks=Notes(stop=3))
    assert (result["finished"], result["step"], result["signal"]) == (True, 3, None)
    assert [values["step"] for values in result["history"]] == [3]
    assert "Stopped early: Notes." in capsys.readouterr().out
    assert [line["step"] for line in small_digits.records(tmp_path / "run", "train")] == [2, 3]
    again = train(make(steps=50), tmp_path / "run", small_chain.images())  # with none, and nothing is left to do
    assert (again["finished"], again["step"]) == (True, 3)


def test_one_that_an_evaluation_stops_and_one_by_name(tmp_path):
    def enough(event):
        if isinstance(event, EvaluationEnd) and event.metrics["accuracy"] >= 0:
            event.stop()

    result = train(make(steps=50, evaluate_every=1.0), tmp_path / "run", small_chain.images(), callbacks=enough)
    assert (result["finished"], result["step"]) == (True, 3)
    config = make(steps=3, evaluate_every=1.0, callbacks=("stop_when_perfect",))
    assert train(config, tmp_path / "named", small_chain.images())["step"] == 3
    assert json.loads((tmp_path / "named" / "config.json").read_text())["callbacks"] == ["stop_when_perfect"]


def test_callbacks_change_no_bit(tmp_path):
    train(make(), tmp_path / "with", small_chain.images(), callbacks=Notes())
    train(make(), tmp_path / "without", small_chain.images())
    assert test_own.parameters(tmp_path / "with") == test_own.parameters(tmp_path / "without")


def test_a_wrong_one_is_refused():
    with pytest.raises(ValueError, match=r"callback '3' is 3: give a function \(event\)"):
        callbacks.resolve(("3",), (3,))
    with pytest.raises(ValueError, match=r"unknown callbacks 'stop_when_perfekt', did you mean 'stop_when_perfect'"):
        callbacks.resolve(("stop_when_perfekt",))
