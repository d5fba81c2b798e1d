"""Metrics as sums: against scikit-learn, with ties and padding."""

import jax
import numpy as np
import pytest
import sklearn.metrics

from jft.metrics import masked_sums
from jft.utils.ranking import score

classification_sums = jax.jit(masked_sums.classification_sums)
label_sums = jax.jit(masked_sums.label_sums)


def test_sums_against_scikit_learn():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(50, 8)).astype(np.float32)
    labels = np.concatenate([np.arange(8), rng.integers(0, 8, 42)]).astype(np.int32)
    mask = np.arange(50) < 43
    parts = [classification_sums(logits[i : i + 25], labels[i : i + 25], mask[i : i + 25]) for i in (0, 25)]
    total = masked_sums.add(masked_sums.add(None, parts[0]), parts[1])
    summary = masked_sums.summarize(total)
    kept, true = logits[mask], labels[mask]
    probabilities = np.exp(kept) / np.exp(kept).sum(axis=1, keepdims=True)
    classes = np.arange(8)
    assert summary["count"] == 43
    assert summary["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(true, kept.argmax(axis=1)))
    assert summary["top5"] == pytest.approx(sklearn.metrics.top_k_accuracy_score(true, kept, k=5, labels=classes))
    assert summary["loss"] == pytest.approx(sklearn.metrics.log_loss(true, probabilities, labels=classes), rel=1e-5)


def test_constant_logits_are_not_right():
    """Ties go to the first class, as in argmax: a dead network scores chance, not 100 %."""
    sums = classification_sums(np.zeros((10, 10), np.float32), np.arange(10), np.ones(10, bool))
    assert sums["correct"] == 1
    assert sums["correct5"] == 5


@pytest.mark.parametrize(("classes", "told"), [(5, False), (6, True)])
def test_top_5_of_five_classes_says_nothing(classes, told):
    logits, labels = np.eye(classes, dtype=np.float32), np.arange(classes)
    sums = classification_sums(logits, labels, np.ones(classes, bool))
    found = masked_sums.of_probabilities(logits, labels)
    assert ("top5" in masked_sums.summarize(masked_sums.add(None, sums))) == ("top5" in found) == told


@pytest.mark.parametrize("where", [..., np.s_[:, 1], np.s_[:, 0]], ids=["all", "the label", "another class"])
def test_nan_is_never_right(where):
    values = np.tile(np.float32([0.1, 0.8, *[0.02] * 5]), (4, 1))
    values[where] = np.nan
    labels = np.ones(4, np.int32)
    sums = classification_sums(values, labels, np.ones(4, bool))
    assert sums["correct"] == sums["correct5"] == 0
    found = masked_sums.of_probabilities(values, labels)
    assert found["accuracy"] == found["top5"] == 0


def test_nan_is_neither_a_label_nor_none():
    probabilities = np.full((4, 3), np.nan, np.float32)
    labels = np.tile([1, 0, 0], (4, 1))
    sums = label_sums(np.zeros(4, np.float32), probabilities, labels, np.ones(4, bool))
    assert sums["correct"] == 0
    assert masked_sums.of_probabilities(probabilities, labels)["accuracy"] == 0


@pytest.mark.parametrize("ties", [False, True])
def test_average_precision_against_scikit_learn(ties):
    rng = np.random.default_rng(0)
    scores = rng.random((60, 4)).astype(np.float32)
    scores = np.round(scores, 1) if ties else scores
    labels = (rng.random((60, 4)) < [0.1, 0.5, 0.9, 0.0]).astype(np.uint8)
    found = masked_sums.average_precision(scores, labels)
    expected = [sklearn.metrics.average_precision_score(labels[:, c], scores[:, c]) for c in range(3)]
    np.testing.assert_allclose(found[:3], expected, rtol=1e-12)
    assert np.isnan(found[3])  # nobody has it


def test_sums_of_several_labels():
    rng = np.random.default_rng(0)
    probabilities, labels = rng.random((30, 3)).astype(np.float32), rng.integers(0, 2, (30, 3))
    losses, mask = rng.random(30).astype(np.float32), np.arange(30) < 23
    summary = masked_sums.summarize(label_sums(losses, probabilities, labels, mask))
    kept, said = labels[mask], probabilities[mask] >= 0.5
    assert summary == {
        "loss": pytest.approx(losses[mask].mean(), rel=1e-5),
        "accuracy": pytest.approx(1 - sklearn.metrics.hamming_loss(kept, said), rel=1e-6),
        "count": 23,
    }


def test_evaluations_are_ranked_by_average_precision_where_there_is_one():
    assert score({"accuracy": 0.9}) == 0.9
    assert score({"accuracy": 0.9, "mean_average_precision": 0.4}) == 0.4
