"""Calibration: against scikit-learn, and temperatures that are known."""

import hypothesis
import numpy as np
import pytest
import sklearn.metrics
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.calibration import calibration_curve

from jft.metrics import calibration, classification


def drawn(n, classes, *, multilabel, scale=3.0):
    """Logits, and labels drawn from the probabilities that they state."""
    rng = np.random.default_rng(0)
    logits = scale * rng.standard_normal((n, classes))
    probabilities = calibration.apply_temperature(logits, 1.0, multilabel=multilabel)
    if multilabel:
        return logits, (rng.random((n, classes)) < probabilities).astype(np.uint8)
    return logits, (rng.random((n, 1)) > probabilities.cumsum(axis=1)[:, :-1]).sum(axis=1)


def log_loss(logits, labels, temperature):
    probabilities = calibration.apply_temperature(logits, temperature, multilabel=labels.ndim == 2)
    return classification.log_losses(probabilities, labels).mean()


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_reliability_against_scikit_learn(multilabel, dtype):
    logits, labels = drawn(400, 4, multilabel=multilabel)
    probabilities = calibration.apply_temperature(logits.astype(dtype), 0.4, multilabel=multilabel)
    assert probabilities.dtype == dtype
    found = calibration.reliability(probabilities, labels)
    confidence = probabilities.ravel() if multilabel else probabilities.max(axis=1)
    right = labels.ravel() if multilabel else probabilities.argmax(axis=1) == labels
    accuracies, confidences = calibration_curve(right, confidence, n_bins=15, strategy="uniform")
    there = found.count > 0
    assert multilabel or not there.all()  # the largest of four is at least 1/4
    np.testing.assert_allclose(found.accuracy[there], accuracies)
    np.testing.assert_allclose(found.confidence[there], confidences, rtol=1e-6)
    assert np.isnan(found.accuracy[~there]).all() and np.isnan(found.confidence[~there]).all()
    assert found.count.sum() == len(confidence) and len(found.edges) == 16
    weights = found.count[there] / len(confidence)
    assert found.expected_error == pytest.approx(np.sum(weights * np.abs(accuracies - confidences)), rel=1e-6)


def test_expected_error_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.5, 0.5]])
    found = calibration.reliability(probabilities, np.array([0, 1, 1, 0]), bins=2)
    np.testing.assert_array_equal(found.count, [1, 3])  # a bin has its upper edge
    np.testing.assert_allclose(found.accuracy, [1, 2 / 3])
    np.testing.assert_allclose(found.confidence, [0.5, 0.8])
    assert found.expected_error == pytest.approx(1 / 4 * 0.5 + 3 / 4 * (0.8 - 2 / 3))


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("true", [0.4, 2.5])
def test_a_known_temperature_is_found(multilabel, true):
    logits, labels = drawn(2000, 5, multilabel=multilabel)
    found = calibration.fit_temperature(true * logits, labels)
    assert found == pytest.approx(true, rel=0.1)
    before, after = (
        calibration.reliability(calibration.apply_temperature(true * logits, t, multilabel=multilabel), labels)
        for t in (1.0, found)
    )
    assert after.expected_error < 0.5 * before.expected_error


@pytest.mark.parametrize("n", [1, 100])
@pytest.mark.parametrize("multilabel", [False, True])
def test_all_right_gives_a_temperature_above_0(n, multilabel):
    logits, _ = drawn(n, 5, multilabel=multilabel)
    labels = (logits > 0).astype(int) if multilabel else logits.argmax(axis=1)
    found = calibration.fit_temperature(logits, labels)
    assert 0.01 < found < 1
    # The slope of what is minimized is 0 there: the loss wants less, the prior more.
    slope = (log_loss(logits, labels, found * 1.001) - log_loss(logits, labels, found / 1.001)) / (2 * np.log(1.001))
    assert slope == pytest.approx(-np.log(found) / n, rel=0.01)


def test_logits_that_say_nothing_stay():
    assert calibration.fit_temperature(np.zeros((10, 3), np.float32), np.arange(10) % 3) == 1.0


SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 4))


@hypothesis.settings(max_examples=100, deadline=None)
@hypothesis.given(st.data(), SHAPES, st.booleans(), st.sampled_from(["any", "right", "wrong"]))
def test_the_log_loss_is_never_worse(data, shape, multilabel, which):
    spread = data.draw(st.sampled_from([1e-3, 1.0, 30.0, 1e4]))
    logits = data.draw(arrays.arrays(np.float32, shape, elements=st.floats(-1, 1, width=32))) * np.float32(spread)
    if which == "any":
        top = shape[1] - 1
        size, largest = (shape, 1) if multilabel else (shape[0], top)
        labels = data.draw(arrays.arrays(np.int64, size, elements=st.integers(0, largest)))
    elif multilabel:
        labels = ((logits > 0) == (which == "right")).astype(int)
    else:
        labels = logits.argmax(axis=1) if which == "right" else logits.argmin(axis=1)
    found = calibration.fit_temperature(logits, labels)
    assert 0 < found < np.inf
    # Written out, as probabilities of 0 have no logarithm.
    exact = logits.astype(np.float64)
    if multilabel:
        excess = np.where(labels > 0, -exact, exact)[..., None] * [0, 1]
    else:
        excess = exact - np.take_along_axis(exact, labels[:, None], axis=1)
    after, before = (np.logaddexp.reduce(excess / t, axis=-1).mean() for t in (found, 1.0))
    assert after <= before * (1 + 1e-12)


@pytest.mark.parametrize("n, classes, margin", [(13, 2, 0.05), (20, 4, 0.003)])
def test_the_deeper_of_two_valleys_is_found(n, classes, margin):
    """All right by a little: one valley lies near T = 1, the deeper one where the margin counts."""
    labels = np.arange(n) % classes
    found = calibration.fit_temperature(margin * np.eye(classes)[labels], labels)
    grid = np.linspace(-9, 9, 3601)
    cost = np.log1p((classes - 1) * np.exp(-margin * np.exp(-grid))) + grid**2 / (2 * n)
    assert np.log(found) == pytest.approx(grid[cost.argmin()], abs=0.01)
    assert ((cost[1:-1] < cost[2:]) & (cost[1:-1] < cost[:-2])).sum() == 2


def test_applying_it():
    logits = np.array([[1000.0, 0.0, -1000.0], [1.0, 2.0, 3.0]])
    softmax = calibration.apply_temperature(logits, 2.0, multilabel=False)
    np.testing.assert_allclose(softmax[1], np.exp([0.5, 1, 1.5]) / np.exp([0.5, 1, 1.5]).sum())
    np.testing.assert_allclose(softmax[0], [1, 0, 0], atol=1e-200)
    sigmoid = calibration.apply_temperature(logits, 2.0, multilabel=True)
    np.testing.assert_allclose(sigmoid[1], 1 / (1 + np.exp([-0.5, -1, -1.5])))
    np.testing.assert_allclose(sigmoid[0], [1, 0.5, 0], atol=1e-200)
    assert classification.log_losses(softmax, np.array([0, 2])).mean() == pytest.approx(
        sklearn.metrics.log_loss([0, 2], softmax, labels=range(3))
    )


LOGITS, LABELS = np.zeros((4, 3)), np.array([0, 1, 2, 2])


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda: calibration.fit_temperature(LOGITS, LABELS[:3]), r"logits are \[4, 3\] and labels \[3\]"),
        (lambda: calibration.fit_temperature(LOGITS[:, :2], LABELS), r"in 0\.\.2, logits have 2 classes"),
        (lambda: calibration.fit_temperature(np.diag([np.nan, np.inf, 0]), LABELS[:3]), "2 of 3 rows of logits"),
        (lambda: calibration.reliability(LOGITS + 1.5, LABELS), "softmax or sigmoid"),
        (lambda: calibration.reliability(LOGITS, LABELS, bins=0), "bins is 0"),
        (lambda: calibration.apply_temperature(LOGITS, 0.0, multilabel=False), "temperature is 0.0"),
    ],
)
def test_what_does_not_fit_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()
