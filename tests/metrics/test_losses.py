"""Objectives against Optax and scikit-learn, and what does not fit is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sklearn.metrics
from sklearn.utils.class_weight import compute_class_weight

from jft.metrics.losses import Objective, make_objective

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 2, (20, 5)).astype(np.float32)
LABELS = np.concatenate([np.arange(5), RNG.integers(0, 5, 15)]).astype(np.int32)
SEVERAL = RNG.integers(0, 2, (20, 5)).astype(np.uint8)
BINARY = LABELS % 2
NAMES = tuple("abcde")

# Compiled whole, which takes less time than operation by operation.
softmax_cross_entropy = jax.jit(optax.softmax_cross_entropy_with_integer_labels)
sigmoid_cross_entropy = jax.jit(optax.sigmoid_binary_cross_entropy)


@functools.partial(jax.jit, static_argnums=0)
def losses_and_probabilities(objective, logits, labels):
    return objective.losses(logits, objective.targets(labels)), objective.probabilities(logits)


def losses(objective, logits, labels):
    return np.asarray(losses_and_probabilities(objective, logits, labels)[0])


def probabilities_of(objective, logits, labels):
    return np.asarray(losses_and_probabilities(objective, logits, labels)[1])


def test_softmax():
    objective = make_objective("softmax", LABELS, NAMES)
    assert (objective.kind, objective.num_outputs) == ("softmax", 5)
    found = losses(objective, LOGITS, LABELS)
    np.testing.assert_allclose(found, softmax_cross_entropy(LOGITS, LABELS), rtol=1e-5)
    probabilities = probabilities_of(objective, LOGITS, LABELS)
    assert found.mean() == pytest.approx(sklearn.metrics.log_loss(LABELS, probabilities), rel=1e-5)


def test_one_sigmoid_unit_is_a_softmax_over_zero_and_it():
    objective = make_objective("sigmoid", BINARY, ("a", "b"), label_smoothing=0.2)
    assert (objective.kind, objective.num_outputs) == ("binary", 1)
    z = LOGITS[:, :1]
    both = np.concatenate([np.zeros_like(z), z], axis=1)
    softmax = Objective("softmax", 2, 0.2)
    np.testing.assert_array_equal(losses(objective, z, BINARY), losses(softmax, both, BINARY))
    hard = Objective("binary", 2)
    np.testing.assert_allclose(losses(hard, z, BINARY), sigmoid_cross_entropy(z[:, 0], BINARY), rtol=1e-4, atol=1e-6)
    probabilities = probabilities_of(hard, z, BINARY)
    np.testing.assert_allclose(probabilities[:, 1], 1 / (1 + np.exp(-z[:, 0])), rtol=1e-5)
    assert losses(hard, z, BINARY).mean() == pytest.approx(sklearn.metrics.log_loss(BINARY, probabilities), rel=1e-5)


def test_several_labels():
    objective = make_objective("sigmoid", SEVERAL, NAMES)
    assert (objective.kind, objective.num_outputs) == ("multilabel", 5)
    probabilities = probabilities_of(objective, LOGITS, SEVERAL)
    each = [sklearn.metrics.log_loss(SEVERAL[:, c], probabilities[:, c], labels=[0, 1]) for c in range(5)]
    found = losses(objective, LOGITS, SEVERAL)
    assert found.shape == (20,)
    assert found.mean() == pytest.approx(np.mean(each), rel=1e-5)


def test_smoothing_spreads_over_the_outcomes():
    np.testing.assert_allclose(
        Objective("softmax", 5, 0.1).targets(jnp.array([3])), [[0.02, 0.02, 0.02, 0.92, 0.02]], rtol=1e-6
    )
    np.testing.assert_allclose(Objective("binary", 2, 0.1).targets(jnp.array([1])), [[0.05, 0.95]], rtol=1e-6)
    several = Objective("multilabel", 3, 0.1).targets(jnp.array([[1, 0, 1]]))
    np.testing.assert_allclose(several, [[0.95, 0.05, 0.95]], rtol=1e-6)


def test_balanced_weights_are_scikit_learns():
    objective = make_objective("softmax", LABELS, NAMES, balance="weights")
    expected = compute_class_weight("balanced", classes=np.arange(5), y=LABELS)
    np.testing.assert_allclose(objective.class_weights, expected, rtol=1e-6)
    # Every class weighs alike: images of one add up to n / classes.
    np.testing.assert_allclose(expected * np.bincount(LABELS), 4)
    plain = losses(Objective("softmax", 5), LOGITS, LABELS)
    np.testing.assert_allclose(losses(objective, LOGITS, LABELS), expected[LABELS] * plain, rtol=1e-5)


def test_balanced_weights_of_several_labels():
    objective = make_objective("sigmoid", SEVERAL, NAMES, balance="weights")
    counts = SEVERAL.sum(axis=0)
    np.testing.assert_allclose(objective.class_weights, counts.sum() / (5 * counts), rtol=1e-6)


def test_a_class_without_images_has_a_finite_weight():
    objective = make_objective("softmax", LABELS[LABELS != 2], NAMES, balance="weights")
    assert np.isfinite(objective.class_weights).all()


def test_own_weights_on_one_sigmoid_unit():
    objective = make_objective("sigmoid", BINARY, ("a", "b"), class_weights=(1, 3))
    plain = losses(Objective("binary", 2), LOGITS[:, :1], BINARY)
    np.testing.assert_allclose(losses(objective, LOGITS[:, :1], BINARY), np.where(BINARY == 1, 3, 1) * plain, rtol=1e-5)


def test_own_weights_on_several_labels():
    objective = make_objective("sigmoid", SEVERAL, NAMES, class_weights=(0, 0, 5, 0, 0))
    third = sigmoid_cross_entropy(LOGITS[:, 2], SEVERAL[:, 2])
    np.testing.assert_allclose(losses(objective, LOGITS, SEVERAL), third, rtol=1e-5)


@pytest.mark.parametrize("kind", ["softmax", "binary", "multilabel"])
def test_huge_logits_give_no_nan(kind):
    objective = Objective(kind, 2)
    logits = np.float32([[1e4, -1e4], [-1e4, 1e4]])[:, : objective.num_outputs]
    labels = np.eye(2) if kind == "multilabel" else np.array([1, 0])
    value, gradient = jax.jit(jax.value_and_grad(lambda x: objective.losses(x, objective.targets(labels)).sum()))(
        logits
    )
    assert np.isfinite(value) and np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("loss", "labels", "names", "options", "message"),
    [
        ("softmax", SEVERAL, NAMES, {}, "several labels each, .* set loss = 'sigmoid'"),
        ("sigmoid", LABELS, NAMES, {}, "each has one of 5: set loss = 'softmax'"),
        (
            "softmax",
            LABELS,
            NAMES,
            {"class_weights": (1, 2)},
            "has 2 numbers for 5 classes: a, b, c, d, e",
        ),
        (
            "softmax",
            LABELS,
            NAMES,
            {"class_weights": (1,) * 5, "balance": "weights"},
            "both weight the loss",
        ),
        ("softmax", LABELS, NAMES, {"class_weights": (1, 1, 1, 1, -1)}, "must not be below 0"),
        ("softmax", LABELS, NAMES, {"class_weights": (0,) * 5}, "not all 0"),
    ],
)
def test_what_does_not_fit_is_refused(loss, labels, names, options, message):
    with pytest.raises(ValueError, match=message):
        make_objective(loss, labels, names, **options)
