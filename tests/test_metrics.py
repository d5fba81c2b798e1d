"""Metrics as sums: against scikit-learn, with ties and padding."""

import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from jft import metrics


def test_sums_against_scikit_learn():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(50, 8)).astype(np.float32)
    labels = np.concatenate([np.arange(8), rng.integers(0, 8, 42)]).astype(np.int32)
    mask = np.arange(50) < 43
    parts = [
        metrics.classification_sums(jnp.asarray(logits[i : i + 25]), labels[i : i + 25], mask[i : i + 25])
        for i in (0, 25)
    ]
    total = metrics.add(metrics.add(None, parts[0]), parts[1])
    summary = metrics.summarise(total)
    kept, true = logits[mask], labels[mask]
    probabilities = np.exp(kept) / np.exp(kept).sum(axis=1, keepdims=True)
    classes = np.arange(8)
    assert summary["count"] == 43
    assert summary["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(true, kept.argmax(axis=1)))
    assert summary["top5"] == pytest.approx(sklearn.metrics.top_k_accuracy_score(true, kept, k=5, labels=classes))
    assert summary["loss"] == pytest.approx(sklearn.metrics.log_loss(true, probabilities, labels=classes), rel=1e-5)
    recall = sklearn.metrics.recall_score(true, kept.argmax(axis=1), average=None, labels=classes, zero_division=0)
    np.testing.assert_allclose(total["class_correct"] / total["class_count"], recall, rtol=1e-6)


def test_constant_logits_are_not_right():
    """Ties go to the first class, as in argmax: a dead network scores chance, not 100 %."""
    sums = metrics.classification_sums(jnp.zeros((10, 10)), jnp.arange(10), jnp.ones(10, bool))
    assert sums["correct"] == 1
    assert sums["correct5"] == 5


def test_nan_is_never_right():
    sums = metrics.classification_sums(jnp.full((4, 10), jnp.nan), jnp.arange(4), jnp.ones(4, bool))
    assert sums["correct"] == sums["correct5"] == 0
