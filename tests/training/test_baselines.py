"""What frozen features are worth by themselves: each method's figures, and the script."""

import signal

import numpy as np
import pytest
from small_digits import examples, make, write_config

from jft.features import linear
from jft.features.knn import choose_neighbors, nearest_neighbors
from jft.training.baselines import format_baselines, measure
from jft.utils.interrupt import Interrupt
from jft.utils.stopped import Stopped

# One worker trains for all of them.
pytestmark = [pytest.mark.xdist_group("baselines"), pytest.mark.usefixtures("quick")]


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def few(features):
    """Five examples of each class; C given for the config's own solver."""
    config = make(features, examples_per_class=5, solver="ridge", regularization=(1e-3, 1e-1))
    return config, measure(config)


def test_few_examples_stay_few(few, tmp_path):
    config, found = few
    train, validation, test = examples(config, tmp_path / "run")
    assert len(train) == 15
    for baseline, regularization in zip(found, ((1e-3, 1e-1), ()), strict=False):
        fitted = linear.fit(baseline.method, train, validation, outputs=3, regularization=regularization)
        assert baseline.chosen == f"C = {fitted.regularization:g}"
        assert baseline.validation == fitted.scores[fitted.regularization]
        assert baseline.test == linear.measure(fitted.linear, test)[0]
    nearest = choose_neighbors(train, validation, outputs=3)
    (guessed,) = nearest_neighbors(train, test.features, outputs=3, ks=[nearest.k])
    assert [b.method for b in found] == ["ridge", "lbfgs", "nearest neighbors"]
    assert found[2].chosen == f"k = {nearest.k}"
    assert (found[2].validation, found[2].test) == (nearest.scores[nearest.k], np.mean(guessed == test.labels))
    assert all(b.seconds > 0 for b in found)


def test_validation_joins_for_test(features, tmp_path):
    # The config's own head, phases and solver do not matter, nor is it changed.
    config = make(features, head="linear", head_hidden=(4,), phases=({"epochs": 1.0, "freeze": "fc6"},))
    before = config.to_json()
    found = measure(config)
    assert config.to_json() == before
    train, validation, test = examples(make(features), tmp_path / "run")
    both = train.join(validation)
    for baseline in found[:2]:
        chosen = float(baseline.chosen.removeprefix("C = "))
        own = linear.fit(baseline.method, train, None, outputs=3, regularization=[chosen]).linear
        joined = linear.fit(baseline.method, both, None, outputs=3, regularization=[chosen]).linear
        assert baseline.validation == pytest.approx(linear.measure(own, validation)[0], abs=1.5 / len(validation))
        assert baseline.test == pytest.approx(linear.measure(joined, test)[0], abs=1.5 / len(test))
        assert baseline.test > 0.9
    k = int(found[2].chosen.removeprefix("k = "))
    (guessed,) = nearest_neighbors(both, test.features, outputs=3, ks=[k])
    assert found[2].test == np.mean(guessed == test.labels)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation": 0}, "validation = 0 leaves nothing to choose regularization by: hold images out"),
        (
            {"validation": 0, "solver": "ridge", "regularization": (0.1,)},
            "baselines choose on validation images, and validation = 0: hold some images out",
        ),
        ({"cut": "fc9"}, "unknown stage 'fc9', did you mean 'fc"),
        ({"auto_augment": "trivial"}, "countable number of variants, but auto_augment = 'trivial'"),
    ],
)
def test_what_is_wrong_is_said(features, changes, message):
    with pytest.raises(ValueError, match=message):
        measure(make(features, **changes))


def test_a_signal_ends_it(tmp_path, monkeypatch):
    def signalled(self):
        enter(self)
        self.received = signal.SIGTERM
        return self

    enter = Interrupt.__enter__
    monkeypatch.setattr(Interrupt, "__enter__", signalled)
    with pytest.raises(Stopped) as stopped:
        measure(make(tmp_path))
    assert stopped.value.signal == signal.SIGTERM


def test_format(few):
    lines = format_baselines(few[1]).splitlines()
    assert len(lines) == 3 and len({line.index("validation") for line in lines}) == 1
    assert f"test {few[1][0].test:7.2%}" in lines[0]


def test_script(few, tmp_path, command):
    path = tmp_path / "config.py"
    write_config(path, few[0])

    def run(*arguments):
        return command("probe", path, *arguments)

    status, printed, _ = run()
    assert status == 0

    def without_seconds(text):
        return [line.split("   ")[:-1] for line in text.strip().splitlines()]

    assert without_seconds(printed)[-3:] == without_seconds(format_baselines(few[1]))
    status, printed, error = run("--config.cutt=fc6")
    assert (status, printed) == (1, "")
    assert error.startswith("error: unknown config field 'cutt', did you mean 'cut'?") and error.count("\n") == 1
    status, _, error = run("--config.validation=0")
    assert status == 1 and "validation = 0 leaves nothing to choose regularization by" in error
