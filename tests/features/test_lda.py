"""Heads made of class means, against scikit-learn, number by number."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.preprocessing import StandardScaler

from jft.features import blocks
from jft.features import lda as solvers
from jft.features.examples import Examples
from jft.features.lda import class_means, lda


def clouds(n, d, classes, seed=0):
    """Overlapping clouds, correlated, of unequal frequency; columns of different scale and offset."""
    rng = np.random.default_rng(seed)
    labels = (rng.permutation(n) % (classes + 1) % classes).astype(np.int32)
    mix = np.random.default_rng(7).normal(size=(d, d)) / np.sqrt(d)
    features = np.random.default_rng(8).normal(size=(classes, d))[labels] + rng.normal(size=(n, d)) @ mix
    return Examples(features * np.logspace(-1, 1, d) + np.linspace(-5, 5, d), labels)


def reference(examples, c, labels=None):
    z = StandardScaler().fit_transform(examples.features)
    labels = examples.labels if labels is None else labels
    return LinearDiscriminantAnalysis(solver="lsqr", shrinkage=1 / (1 + c)).fit(z, labels), z


@pytest.mark.parametrize(("n", "d"), [(120, 12), (40, 90)])
@pytest.mark.parametrize("block", [2**24, 200])  # in one piece, and in many
def test_lda_is_scikit_learns(monkeypatch, n, d, block):
    monkeypatch.setattr(blocks, "BLOCK", block)
    monkeypatch.setattr(solvers, "BLOCK", block)
    train, strengths = clouds(n, d, 4), [0.1, 1.0, 30.0]
    assert len(set(np.bincount(train.labels))) > 1
    for c, head in zip(strengths, lda(train, 4, strengths), strict=True):
        model, z = reference(train, c)
        deviation = train.features.std(0)[:, None]
        np.testing.assert_allclose(
            head.kernel * deviation, model.coef_.T, rtol=1e-6, atol=1e-6 * abs(model.coef_).max()
        )
        scores = train.features @ head.kernel.astype(np.float64) + head.bias
        wanted = model.decision_function(z)
        np.testing.assert_allclose(scores, wanted, rtol=0, atol=1e-6 * abs(wanted).max())


def test_the_eigen_solver_says_the_same():
    train = clouds(120, 12, 3)
    model = LinearDiscriminantAnalysis(solver="eigen", shrinkage=0.25).fit(
        StandardScaler().fit_transform(train.features), train.labels
    )
    [head] = lda(train, 3, [3.0])
    np.testing.assert_allclose(
        head.kernel * train.features.std(0)[:, None], model.coef_.T, rtol=1e-6, atol=1e-6 * abs(model.coef_).max()
    )


def test_one_sigmoid_unit_is_the_log_odds():
    train = clouds(100, 8, 2)
    [head], [both] = lda(train, 1, [2.0]), lda(train, 2, [2.0])
    assert head.kernel.shape == (8, 1)
    np.testing.assert_allclose(head.logits(train.features)[:, 0], np.diff(both.logits(train.features))[:, 0], atol=1e-4)
    model, z = reference(train, 2.0)
    np.testing.assert_allclose(head.logits(train.features)[:, 0], model.decision_function(z), atol=1e-4)


def test_class_means_are_the_nearest_by_cosine():
    train, test = clouds(60, 20, 4), clouds(50, 20, 4, seed=1)
    scaler = StandardScaler().fit(train.features)
    unit = [
        x / np.linalg.norm(x, axis=1, keepdims=True) for x in map(scaler.transform, (train.features, test.features))
    ]
    means = np.stack([unit[0][train.labels == label].mean(0) for label in range(4)])
    cosines = unit[1] @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
    mild, sure = class_means(train, 4, [1.0, 10.0])
    np.testing.assert_array_equal(mild.logits(test.features).argmax(1), cosines.argmax(1))
    lengths = np.linalg.norm(scaler.transform(test.features), axis=1, keepdims=True)
    usual = np.linalg.norm(scaler.transform(train.features), axis=1).mean()
    np.testing.assert_allclose(mild.logits(test.features), cosines * lengths / usual, atol=1e-5)
    np.testing.assert_allclose(sure.logits(test.features), 10 * mild.logits(test.features), atol=1e-4)


@pytest.mark.parametrize("solve", [lda, class_means])
def test_a_class_without_images_and_columns_without_variation_do_no_harm(solve):
    whole = clouds(60, 10, 4)
    features = np.concatenate([whole.features, np.full((60, 2), 3.0)], 1)
    train = Examples(features[whole.labels != 2], whole.labels[whole.labels != 2])
    [head] = solve(train, 4, [3.0])
    assert np.isfinite(head.kernel).all() and np.isfinite(head.bias).all() and not head.kernel[10:].any()
    assert (head.logits(train.features).argmax(1) == train.labels).mean() > 0.7


def test_one_image_a_class_is_the_nearest_mean():
    train = clouds(5, 8, 5)
    train.labels[:] = np.arange(5)
    [head] = lda(train, 5, [1.0])
    z = StandardScaler().fit(train.features)
    test = clouds(40, 8, 5, seed=3).features
    nearest = ((z.transform(test)[:, None] - z.transform(train.features)) ** 2).sum(-1).argmin(1)
    np.testing.assert_array_equal(head.logits(test).argmax(1), nearest)


@pytest.mark.parametrize("solve", [lda, class_means])
def test_several_labels_are_refused(solve):
    with pytest.raises(ValueError, match=r"an image may have several of 3 labels: use lbfgs or ridge"):
        solve(Examples(np.ones((4, 2)), np.ones((4, 3), np.uint8)), 3, [1.0])
    with pytest.raises(ValueError, match=r"regularization has -1"):
        solve(clouds(20, 4, 2), 2, [-1.0])
