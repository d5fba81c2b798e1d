"""Figures from predictions: against scikit-learn, by hand, and by simulation."""

import numpy as np
import pytest
import sklearn.metrics

from jft.metrics import classification

NAMES = ("ant", "bee", "cat", "dog", "elk")


def predictions(n=200, *, multilabel=False):
    """Random ones of five classes; 'dog' is never predicted and 'elk' never there."""
    rng = np.random.default_rng(0)
    probabilities = rng.random((n, 5), np.float32)
    probabilities[:, 3] = 0
    if multilabel:
        return probabilities, (rng.random((n, 5)) < [0.3, 0.3, 0.5, 0.3, 0]).astype(np.uint8)
    return probabilities / probabilities.sum(axis=1, keepdims=True), rng.integers(0, 4, n)


@pytest.mark.parametrize("multilabel", [False, True])
def test_class_figures_against_scikit_learn(multilabel):
    probabilities, labels = predictions(multilabel=multilabel)
    said = probabilities >= 0.5 if multilabel else probabilities.argmax(axis=1)
    found = classification.class_figures(probabilities, labels, NAMES)
    for field in ("precision", "recall", "f1"):
        score = getattr(sklearn.metrics, f"{field}_score")
        expected = score(labels, said, labels=range(5), average=None, zero_division=np.nan)
        np.testing.assert_allclose([np.nan if (x := getattr(f, field)) is None else x for f in found], expected)
    counts = labels.sum(axis=0) if multilabel else np.bincount(labels, minlength=5)
    assert [(f.name, f.count) for f in found] == list(zip(NAMES, counts.tolist(), strict=True))
    dog, elk = found[3:]
    assert (dog.precision, dog.recall, dog.f1) == (None, 0, 0)  # never predicted
    assert (elk.precision, elk.recall, elk.f1) == (0, None, 0)  # never there
    assert classification.macro_f1(found) == pytest.approx(sklearn.metrics.f1_score(labels, said, average="macro"))


@pytest.mark.parametrize(
    "labels, one", [([[1], [0], [1]], (0.5, 0.5, 0.5, 2)), ([[0], [0], [0]], (0, None, 0, 0))], ids=["some", "none"]
)
def test_a_single_class_that_is_there_or_not(labels, one):
    (found,) = classification.class_figures(np.array([[0.9], [0.8], [0.1]]), np.array(labels), ["ant"])
    assert (found.precision, found.recall, found.f1, found.count) == one


def test_a_class_neither_there_nor_predicted_is_no_part_of_the_macro_average():
    probabilities, labels = np.eye(3)[[0, 1, 1]], np.array([0, 1, 0])
    found = classification.class_figures(probabilities, labels, NAMES[:3])
    assert found[2] == classification.ClassFigures("cat", None, None, None, 0)
    assert classification.macro_f1(found) == pytest.approx(sklearn.metrics.f1_score(labels, [0, 1, 1], average="macro"))
    assert classification.macro_f1(found[2:]) is None


def test_confusions():
    probabilities, labels = predictions()
    matrix = classification.confusion_matrix(probabilities, labels)
    assert matrix.dtype == np.int64
    said = probabilities.argmax(axis=1)
    np.testing.assert_array_equal(matrix, sklearn.metrics.confusion_matrix(labels, said, labels=range(5)))
    tied = classification.confusion_matrix(np.full((4, 3), 1 / 3), np.array([0, 1, 2, 2]))
    np.testing.assert_array_equal(tied, [[1, 0, 0], [1, 0, 0], [2, 0, 0]])


def test_confused_pairs_are_errors_most_first():
    matrix = np.array([[90, 3, 7], [0, 10, 0], [7, 0, 7]])
    pairs = classification.confused_pairs(matrix, NAMES[:3], 10)
    assert pairs == [("ant", "cat", 7, 0.07), ("cat", "ant", 7, 0.5), ("ant", "bee", 3, 0.03)]
    assert classification.confused_pairs(matrix, NAMES[:3], 1) == pairs[:1]


@pytest.mark.parametrize("multilabel", [False, True])
def test_log_losses_against_scikit_learn(multilabel):
    probabilities, labels = predictions(multilabel=multilabel)
    probabilities = 0.9 * probabilities.astype(np.float64) + 0.1 / 5  # scikit-learn clips what is 0 otherwise
    losses = classification.log_losses(probabilities, labels)
    log_loss = sklearn.metrics.log_loss
    if multilabel:
        expected = np.mean([log_loss(labels[:, c], probabilities[:, c], labels=[0, 1]) for c in range(5)])
    else:
        even = probabilities / probabilities.sum(axis=1, keepdims=True)  # to the last bit, or scikit-learn warns
        expected = log_loss(labels, even, labels=range(5))
    assert losses.shape == (200,) and losses.mean() == pytest.approx(expected, rel=1e-5)


def test_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for seed, right in enumerate(rng.random((300, 150)) < 0.85):
        low, high = classification.interval(right, seed=seed, resamples=500)
        covered += low <= 0.85 <= high
    assert 0.90 <= covered / 300 <= 0.985


def test_interval_is_the_draws_own_and_the_seeds():
    losses = np.random.default_rng(0).exponential(size=400)
    low, high = classification.interval(losses)
    assert (low, high) == classification.interval(losses) != classification.interval(losses, seed=1)
    # Near the normal one, and leaning to the right as the losses do.
    width = 2 * 1.96 * losses.std() / 20
    assert high - low == pytest.approx(width, rel=0.1) and high - losses.mean() > losses.mean() - low
    narrow = classification.interval(losses, level=0.5)
    assert low < narrow[0] < losses.mean() < narrow[1] < high
    np.testing.assert_allclose(classification.interval(losses * 1e-150), (low * 1e-150, high * 1e-150))  # cubes are 0


def test_interval_of_many_values_joins_on():
    """BCa up to 10,000 values, percentiles beyond."""
    right = np.arange(10_001) % 10 > 0
    np.testing.assert_allclose(classification.interval(right[:-1]), classification.interval(right), atol=1e-3)


def test_all_right_is_not_certainty():
    low, high = classification.interval(np.ones(100, bool))
    assert low < 0.98 < high == 1 and low == pytest.approx(100 / (100 + 1.959964**2))  # Wilson's, by hand
    assert classification.interval(np.zeros(100)) == pytest.approx((0, 1 - low))
    low, high = classification.interval(np.ones(1))
    assert 0 < low < 0.5 and high == 1


@pytest.mark.parametrize("values", [[0.3], [0.3] * 5, [2.5, 2.5 * (1 + 1e-15)]])
def test_values_without_spread_tell_nothing_of_the_next(values):
    assert classification.interval(np.array(values)) == (-np.inf, np.inf)


@pytest.mark.parametrize("values", [[0, 1], [0, 0, 1], [0.1, 0.7], [0] * 99 + [1], [0] * 50 + [1e-300]])
def test_interval_of_little_is_a_number(values):
    low, high = classification.interval(np.array(values))
    assert low <= np.mean(values) <= high and low < high


def test_mcnemar_by_hand():
    right = np.repeat([True, True, False, False], [30, 10, 2, 5])
    other = np.repeat([True, False, True, False], [30, 10, 2, 5])
    p = 2 * (1 + 12 + 66) / 2**12  # twice the chance of 2 or fewer heads of 12
    assert classification.mcnemar(right, other) == classification.McNemar(10, 2, pytest.approx(p))
    assert classification.mcnemar(other, right) == classification.McNemar(2, 10, pytest.approx(p))
    assert classification.mcnemar(right, right) == classification.McNemar(0, 0, 1.0)
    even = np.array([True, False])
    assert classification.mcnemar(even, ~even) == classification.McNemar(1, 1, 1.0)


UNIFORM, LABELS = np.full((4, 3), 1 / 3), np.array([0, 1, 2, 2])


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda: classification.class_figures(UNIFORM, LABELS, ["ant", "bee"]), "2 class names for 3 classes"),
        (lambda: classification.confused_pairs(np.zeros((3, 3), int), ["ant"], 5), "1 class names for 3 classes"),
        (lambda: classification.confusion_matrix(UNIFORM, np.eye(3, dtype=int)[LABELS]), "use class_figures"),
        (lambda: classification.log_losses(UNIFORM, LABELS[:3]), r"\[4, 3\] and labels \[3\]"),
        (lambda: classification.log_losses(UNIFORM[:0], LABELS[:0]), "at least one image"),
        (lambda: classification.log_losses(UNIFORM, LABELS + 1), r"in 1\.\.3, .* 3 classes"),
        (lambda: classification.log_losses(UNIFORM, LABELS * 1.0), "whole numbers"),
        (lambda: classification.log_losses(UNIFORM, UNIFORM), "must be 0 or 1"),
        (lambda: classification.log_losses(UNIFORM * 12 - 6, LABELS), r"-2\.\.-2.*softmax or sigmoid"),
        (lambda: classification.log_losses(np.where(LABELS[:, None] < 2, UNIFORM, np.nan), LABELS), "2 of 4 rows"),
        (lambda: classification.interval(np.array([])), r"\[0\]"),
        (lambda: classification.interval(np.array([1, np.inf])), "1 not finite"),
        (lambda: classification.interval(np.ones(3), level=95), "level is 95"),
        (lambda: classification.mcnemar(np.ones(3, bool), np.ones(4, bool)), r"bool \[3\], the second bool \[4\]"),
        (lambda: classification.mcnemar(np.ones(3), np.ones(3, bool)), "first is float64"),
    ],
)
def test_what_does_not_fit_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()
