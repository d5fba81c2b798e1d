"""Greedy soups: which runs stay, what the average is, and what cannot be averaged."""

import functools
import json
from types import SimpleNamespace

import numpy as np
import pytest
import small_chain
import small_digits
import small_info

from jft.data.record import DataRecord
from jft.evaluation.evaluate import evaluate
from jft.evaluation.report import write_report
from jft.evaluation.restore import restore
from jft.models import MODELS
from jft.training import soup as soups
from jft.training.batch_norm_statistics import over_training_images
from jft.training.loop import checked_run, train
from jft.training.soup import soup
from jft.training.state import fresh_state
from jft.utils import tree
from jft.utils.lock import claimed

pytestmark = [pytest.mark.xdist_group("soup"), pytest.mark.usefixtures("quick")]


def make(folder, **changes):
    own = {"model": "small", "weights": "", "image_size": 0, "freeze": "", "steps": 6, "batch_size": 32}
    own |= {"learning_rate": 1e-2, "optimizer": "sgd", "evaluate_every": 99.0}
    return small_digits.make(folder / "features", **{**own, **changes})


@pytest.fixture(scope="module", autouse=True)
def small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS._rows, "small", small_chain.Small)
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three runs of other rates: the last has learnt nothing."""
    folder = tmp_path_factory.mktemp("runs")
    for name, rate in (("slow", 0.03), ("fast", 0.1), ("still", 1e-6)):
        train(make(folder, learning_rate=rate), folder / name, brief=True)
    return [folder / name for name in ("still", "slow", "fast")]


def flat(variables, kind):
    return {name: np.asarray(leaf) for name, leaf in tree.flatten(variables[kind]).items()}


def test_greedy_by_hand():
    """Averages of rates: 'b' and 'c' make each other better, 'a' makes them worse, 'd' changes nothing and stays."""
    rates = {"a": 0.5, "b": 0.8, "c": 0.7, "d": 0.6, "bc": 0.9, "bcd": 0.9, "bcda": 0.85}
    asked = []

    def evaluate(members):
        asked.append("".join(members))
        rate = rates[asked[-1]]
        return SimpleNamespace(summary=lambda: {"accuracy": rate, "loss": 1 - rate})

    found, best = soups.greedy(["a", "b", "c", "d"], evaluate, lambda one: one.summary())
    assert [(one.run, one.kept) for one in found] == [("b", True), ("c", True), ("d", True), ("a", False)]
    assert asked == ["a", "b", "c", "d", "bc", "bcd", "bcda"] and best.summary()["accuracy"] == 0.9
    assert found[3].together == {"accuracy": 0.85, "loss": pytest.approx(0.15)} and found[0].together is None
    assert soups.table(found).splitlines()[4].split() == ["a", "50.00%", "85.00%", "left", "out"]


@pytest.mark.slow
def test_runs_are_tried_from_the_best_and_kept_where_validation_does_not_fall(runs, tmp_path):
    found = soup(runs, tmp_path / "soup")
    alone = [one.alone["accuracy"] for one in found]
    assert alone == sorted(alone, reverse=True) and {one.run for one in found} == {*map(str, runs)}
    best = alone[0]
    for one in found[1:]:
        assert one.kept == (one.together["accuracy"] >= best)
        best = one.together["accuracy"] if one.kept else best
    assert json.loads((tmp_path / "soup" / "soup.json").read_text())[0]["run"] == found[0].run

    # What is kept is the mean of those that stay, bit for bit.
    made, kept = restore(tmp_path / "soup"), [restore(one.run) for one in found if one.kept]
    for name, leaf in flat(made.variables, "params").items():
        mean = np.mean([flat(one.variables, "params")[name].astype(np.float64) for one in kept], axis=0)
        np.testing.assert_array_equal(leaf, mean.astype(np.float32), err_msg=name)
    assert made.info.history[-1]["accuracy"] == best and made.info.temperature is not None
    assert evaluate(tmp_path / "soup", split="validation")["accuracy"] == best


@pytest.mark.slow
def test_an_average_has_statistics_of_its_own(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(soups, "_figures", lambda run, found: {**found.summary(), "score": 0.0})  # so that all are kept
    found = soup(runs[1:], tmp_path / "soup")
    assert [one.kept for one in found] == [True, True]
    made = restore(tmp_path / "soup")
    run = checked_run(make(runs[0].parent), tmp_path / "another")
    expected = flat({"batch_stats": over_training_images(run, made.variables)}, "batch_stats")
    for name, leaf in flat(made.variables, "batch_stats").items():
        np.testing.assert_array_equal(leaf, expected[name], err_msg=name)
        assert not np.array_equal(leaf, flat(restore(runs[1]).variables, "batch_stats")[name])


@pytest.mark.slow
def test_a_soup_is_a_finished_run_with_a_report(runs, tmp_path):
    soup(runs[:2], tmp_path / "soup")
    page, _ = write_report(tmp_path / "soup")
    assert page.exists()
    again = train(make(runs[0].parent, learning_rate=1e-6), tmp_path / "soup", brief=True)
    assert again["finished"] and again["step"] == 6
    with pytest.raises(ValueError, match="holds a run already"):
        soup(runs, tmp_path / "soup")


def test_the_score_that_decides_is_the_one_that_is_told():
    """By `select_by = "-loss"` 'b' is better than 'a', whose accuracy is larger."""
    figures = {"a": {"accuracy": 0.9, "loss": 0.5}, "b": {"accuracy": 0.8, "loss": 0.25}}
    figures["ba"] = {"accuracy": 0.7, "loss": 0.2}

    def evaluate(members):
        return SimpleNamespace(summary=lambda: figures["".join(members)])

    run = SimpleNamespace(config=SimpleNamespace(select_by="-loss"))
    found, _ = soups.greedy(["a", "b"], evaluate, functools.partial(soups._figures, run))
    lines = [line.split() for line in soups.table(found).splitlines()[1:]]
    assert lines == [["b", "-0.2500", "-", "kept"], ["a", "-0.5000", "-0.2000", "kept"]]


def test_an_interrupted_soup_is_no_run(tmp_path, monkeypatch):
    config = small_digits.make(tmp_path / "features", freeze="fc7", steps=2)
    run = checked_run(config, tmp_path / "soup")
    run.workdir.mkdir()
    state, info = fresh_state(run)
    best = SimpleNamespace(summary=lambda: {"loss": 1.0, "accuracy": 0.5})

    def killed(self, *arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(soups.Checkpoints, "save", killed)
        soups._write(run, info, state.variables, best, [soups.Tried("a", {}, None, True)], 1.0)
    assert (tmp_path / "soup" / "soup.json").exists()
    with pytest.raises(ValueError, match="is not a run"):  # so nothing is trained there
        checked_run(config, tmp_path / "soup")
    with pytest.raises(ValueError, match="holds files, as of a soup that was interrupted: give another to, or delete"):
        soup(["a", "b"], tmp_path / "soup")


def test_one_process_at_a_time_makes_a_soup_in_a_folder(tmp_path):
    with claimed(tmp_path / "soup"), pytest.raises(ValueError, match="another process"):
        soup(["a", "b"], tmp_path / "soup")


def record(digest, count=9):
    return DataRecord("digits", "digits", "", count, labels=1, names=0, digest=digest)


ALIKE = {"class_names": ("5", "6", "7"), "model": "small", "options": {}, "learnt_validation": None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": ("5", "6")}, r"class_names of fast is \('5', '6'\), of still \('5', '6', '7'\)"),
        ({"model": "vgg_tiny"}, "only like networks can be averaged: model of fast is vgg_tiny, of still small"),
        ({"options": {"cut": "b"}}, "options of fast is {'cut': 'b'}"),
        ({"learnt_validation": True}, "fast's head was refit on its validation images"),
        ({"trained_on": record("other")}, "different training images, so .*: train them with the same seed"),
        ({"validated_on": record("other")}, "different validation images"),
        ({"validated_on": record(None)}, "different validation images"),
        ({"validated_on": record("of none", count=0)}, "chosen on validation images, and fast has none"),
    ],
)
def test_what_cannot_be_averaged_is_said(tmp_path, monkeypatch, changes, message):
    own = {**ALIKE, "trained_on": record("train"), "validated_on": record("held out")}
    infos = {"still": small_info.info_of(**own), "fast": small_info.info_of(**{**own, **changes})}
    monkeypatch.setattr(soups, "restore", lambda workdir: SimpleNamespace(info=infos[workdir]))
    with pytest.raises(ValueError, match=message):
        soup(["still", "fast"], tmp_path / "soup")
    assert not (tmp_path / "soup").exists()


def test_a_run_is_not_averaged_with_itself(tmp_path):
    with pytest.raises(ValueError, match="two different runs or more"):
        soup([tmp_path / "one", tmp_path / "other" / ".." / "one"], tmp_path / "soup")
