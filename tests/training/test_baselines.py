"""Probes of a config's frozen features side by side: what is tried, what is chosen, and a test that chose nothing."""

import dataclasses
import signal

import numpy as np
import pytest
from small_digits import make, write_config

from jft.data import datasets
from jft.data.augment import Augmentation
from jft.features import candidates
from jft.training import baselines
from jft.training.baselines import format_baselines, measure, score_interval
from jft.training.probe_features import extract_stages, probe_run
from jft.utils.interrupt import Interrupt
from jft.utils.stopped import Stopped

# One worker trains for all of them.
pytestmark = [pytest.mark.xdist_group("baselines"), pytest.mark.usefixtures("quick")]

FEW = (("ridge", "last"), ("lda", "last"), ("nearest neighbors", "last"), ("lda", "all"))


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def few(features):
    """Five examples of each class; C given for the config's own solver; mirrored images; some of the probes."""
    config = make(features, examples_per_class=5, solver="ridge", regularization=(1e-3, 1e-1), flip=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "TRIED", FEW)
        return config, measure(config)


def test_all_stages_come_from_one_pass(features):
    run, state, _ = probe_run(make(features, flip=True, examples_per_class=5))
    assert len(run.train_source) == 15 and not len(run.validation_source)
    with Interrupt() as interrupt:
        found = extract_stages(run, state, run.train_source, run.augmentation, interrupt)
        single = extract_stages(run, state, run.train_source, run.augmentation, interrupt, every=False)
    assert found.widths == {"block1": 16, "block2": 32, "block3": 64, "fc6": 64, "fc7": 64}
    assert found.values.shape == (15, 2, 240) and single.values.shape == (15, 2, 64)
    np.testing.assert_allclose(found.last(), single.values[..., -64:], rtol=1e-4, atol=1e-5)
    parts = np.split(found.normalized(), np.cumsum([16, 32, 64, 64]), axis=-1)
    for part in parts:
        np.testing.assert_allclose(np.linalg.norm(part, axis=-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(found.normalized(last=True), parts[-1])


def test_few_examples_are_compared_on_the_same_folds(few):
    config, measured = few
    tried = [(one.method, one.features, one.variants) for one in measured.found]
    assert tried[:4] == [(*pair, "no") for pair in FEW]
    leader = candidates.best(measured.found[:4])
    assert tried[4:] == [(leader.method, leader.features, v) for v in ("training", "training and test")]
    assert measured.best is min(measured.found, key=lambda one: one.loss)
    assert len(measured.images.labels) == 15 and sorted(np.bincount(measured.images.folds)) == [3] * 5
    assert list(measured.found[0].choice.losses) == list(config.regularization)
    for one in measured.found:
        assert one.score == np.mean(one.guesses == measured.images.labels) and one.seconds > 0
        if one.choice is not None:
            np.testing.assert_array_equal(one.choice.folds, measured.images.folds)
    assert measured.found[2].loss == np.inf and measured.found[2].strength.startswith("k = ")


def test_the_test_figure_is_of_the_best_alone(few):
    config, measured = few
    run, state, _ = probe_run(config)
    test = datasets.of_config(config, "test")
    with Interrupt() as interrupt:
        averaged = measured.best.variants == "training and test"
        seen = extract_stages(run, state, test, run.augmentation if averaged else Augmentation(), interrupt)
    values = seen.last() if measured.best.features == "last" else seen.normalized()
    head = candidates.fit(measured.best, measured.images)
    guesses = np.mean([head.logits(values[:, v]) for v in range(values.shape[1])], 0).argmax(-1)
    assert measured.test == np.mean(guesses == test.labels) == measured.test_right.mean() > 0.6
    assert len(measured.test_losses) == len(test) and measured.test_losses.mean() < 1.1


def test_an_image_has_no_part_in_the_choice_for_it(few):
    _, measured = few
    first, second = measured.found[0], measured.found[1]
    folds = np.array([0, 0, 1, 1, 2])
    # Each is far better on one fold; without that fold the other is the better one.
    one = dataclasses.replace(first, losses=np.array([0.0, 0.0, 5.0, 5.0, 1.0]))
    other = dataclasses.replace(second, losses=np.array([5.0, 5.0, 0.0, 0.0, 1.0]))
    chosen = candidates.chosen_without([measured.found[2], one, other], folds)
    assert chosen.tolist() == [2, 2, 1, 1, 1]


def test_groups_widen_an_interval():
    right = np.arange(200) % 4 > 0
    low, high = score_interval(np.repeat(right[:40], 5), np.repeat(np.arange(40), 5))
    assert low == pytest.approx(0.75 - 1.96 * (0.1875 / 39) ** 0.5) and high < 1
    assert high - low > 2 * np.ptp(score_interval(np.repeat(right[:40], 5), None))


def test_several_networks_join(features, monkeypatch):
    joined = tuple(("lda", f"{stages}, networks") for stages in ("last", "all"))
    monkeypatch.setattr(baselines, "TRIED", (("lda", "last"),))
    monkeypatch.setattr(baselines, "OF_SEVERAL", joined)
    config = make(features, examples_per_class=20)
    measured = measure(config, [("vgg_tiny", "digits04", "")])
    names = [(one.method, one.features) for one in measured.found]
    assert names == [("lda", "last"), *joined]
    shapes = {name: values.shape for name, values in measured.images.features.items()}
    assert shapes["last, networks"] == (60, 1, 128) and shapes["all, networks"] == (60, 1, 480)
    assert measured.test > 0.8 and measured.title.startswith("vgg_tiny.digits04 + vgg_tiny.digits04: 60 training")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
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


def test_the_command(few, tmp_path, command, monkeypatch):
    monkeypatch.setattr(baselines, "TRIED", FEW)
    path = tmp_path / "config.py"
    write_config(path, few[0])
    status, printed, error = command("probe", path)
    assert status == 0, error

    def without_seconds(text):
        return [line.rsplit(maxsplit=1)[0] for line in text.strip().splitlines()[2:-3]]

    told = format_baselines(few[1])
    assert without_seconds(printed)[-6:] == without_seconds(told)
    assert printed.strip().splitlines()[-3:] == told.splitlines()[-3:]
    best = few[1].best
    pool = ", pool = 'stages'" if best.features == "all" else ""
    flip = ", flip = False" if best.variants == "no" else ""
    how = f"solver = '{best.method}'{pool}, regularization = ({best.choice.regularization:g},){flip}"
    assert told.endswith(f" with: preset = '', head = 'linear', {how}.")
    assert f"Test accuracy {few[1].test:.2%} (" in told and "of 108 images, which were read once" in told
    status, printed, error = command("probe", path, "--config.cutt=fc6")
    assert (status, printed) == (1, "")
    assert error.startswith("error: unknown config field 'cutt', did you mean 'cut'?") and error.count("\n") == 1
    status, _, error = command("probe", path, "--also", "resnet50")
    assert status == 1 and "--also resnet50: name a weight set as MODEL.TAG" in error
