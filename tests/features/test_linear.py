"""Heads solved for at once: against scikit-learn, number by number; the choice of C; and input that cannot be right."""

import jax
import numpy as np
import pytest
from absl import logging
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.preprocessing import StandardScaler

from jft.features import blocks, lbfgs, linear
from jft.features.examples import Examples
from jft.features.linear import Linear, fit, logistic, ridge
from jft.features.standard import Standard


def clusters(n, d, classes, seed=0, spread=1.5):
    """Overlapping clouds around one center a class; columns of very different scale and offset."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(n) % classes).astype(np.int32)
    features = np.random.default_rng(7).normal(size=(classes, d))[labels] + spread * rng.normal(size=(n, d))
    return Examples((features * np.logspace(-1.5, 1.5, d) + np.linspace(-5, 5, d)).astype(np.float32), labels)


def several(n, d, seed=0):
    """Examples with three labels, each of which any image may have."""
    single = clusters(n, d, 8, seed)
    return Examples(single.features, (single.labels[:, None] >> np.arange(3) & 1).astype(np.uint8))


def reference(model, examples, labels=None):
    """scikit-learn's (kernel, bias) over raw features, solved for over standardized ones."""
    scaler = StandardScaler().fit(examples.features.astype(np.float64))
    z = scaler.transform(examples.features.astype(np.float64))
    model.fit(z, examples.labels if labels is None else labels)
    kernel = np.atleast_2d(model.coef_).T / scaler.scale_[:, None]
    return kernel, np.ravel(model.intercept_) - scaler.mean_ @ kernel


def exact(c):
    return LogisticRegression(C=c, tol=1e-10, max_iter=5000)


def assert_equal(head, kernel, bias, examples, tolerance):
    """Kernels in units of their columns' deviations, so that every column counts, and scores."""
    deviation = examples.features.std(0, dtype=np.float64)[:, None]
    np.testing.assert_allclose(head.kernel * deviation, kernel * deviation, rtol=0, atol=tolerance)
    scores = examples.features.astype(np.float64) @ kernel + bias
    np.testing.assert_allclose(head.logits(examples.features), scores, rtol=0, atol=max(1e-4, 20 * tolerance))


@pytest.mark.parametrize("c", [0.01, 1.0])
def test_softmax_is_scikit_learns(c):
    train = clusters(200, 12, 4)
    kernel, bias = reference(exact(c), train)
    with jax.enable_x64(True):
        assert_equal(logistic(train, 4, [c], tolerance=1e-10)[0], kernel, bias, train, 1e-6)
    assert_equal(logistic(train, 4, [c], tolerance=1e-6)[0], kernel, bias, train, 1e-3)


def test_one_sigmoid_unit_is_scikit_learns():
    train = clusters(150, 8, 2)
    kernel, bias = reference(exact(0.3), train)
    with jax.enable_x64(True):
        head = logistic(train, 1, [0.3], tolerance=1e-10)[0]
    assert head.kernel.shape == (8, 1) and head.bias.shape == (1,)
    assert_equal(head, kernel, bias, train, 1e-6)


def test_several_labels_are_scikit_learns_one_by_one():
    train = several(240, 8)
    with jax.enable_x64(True):
        head = logistic(train, 3, [0.1], tolerance=1e-10)[0]
    for label in range(3):
        kernel, bias = reference(exact(0.1), train, train.labels[:, label])
        own = Linear(head.kernel[:, label : label + 1], head.bias[label : label + 1])
        assert_equal(own, kernel, bias, train, 1e-6)


def test_a_warm_started_sweep_gives_what_each_alone_gives():
    train = clusters(200, 12, 4)
    strengths = [1.0, 0.001, 0.1]  # in this order they come back
    with jax.enable_x64(True):
        heads = logistic(train, 4, strengths, tolerance=1e-9)
        alone = [logistic(train, 4, [c], tolerance=1e-9)[0] for c in strengths]
    for head, single in zip(heads, alone, strict=True):
        assert_equal(head, single.kernel, single.bias, train, 1e-5)
    norms = [np.linalg.norm(head.kernel * train.features.std(0)[:, None]) for head in heads]
    assert norms[1] < norms[2] < norms[0]


def objective(head, examples, c):
    """What scikit-learn minimizes, an example, of the head over raw features."""
    logits = examples.features.astype(np.float64) @ head.kernel + head.bias
    scaled = head.kernel * examples.features.std(0, dtype=np.float64)[:, None]
    return float(lbfgs.nats(logits, examples.labels).mean() + (scaled**2).sum() / (2 * c * len(examples)))


@pytest.mark.parametrize("spread", [0.3, 1.5])  # apart, where the gradient is small long before the loss is; and not
def test_the_objective_is_within_a_ten_thousandth_of_its_minimum(spread):
    train = clusters(400, 24, 4, spread=spread)
    strengths = np.logspace(-4, 0, 9)
    with jax.enable_x64(True):
        path = logistic(train, 4, strengths)
        minima = [objective(Linear(*reference(exact(c), train)), train, c) for c in strengths]
        found = [objective(head, train, c) for head, c in zip(path, strengths, strict=True)]
    np.testing.assert_allclose(found, minima, rtol=1e-4)


def test_a_path_keeps_what_it_learned_of_the_curvature():
    train = clusters(400, 24, 4)
    z = Standard.of(train.features, np.float32).apply(train.features, np.float32)
    first, _, _ = lbfgs.solve(z, train.labels, 0.01, lbfgs.start(z, train.labels, 4), 1e-5, 100)
    forgotten = lbfgs.start(z, train.labels, 4)._replace(
        params=first.params, logits=first.logits, of_loss=first.of_loss
    )
    (_, kept, _), (_, without, _) = (lbfgs.solve(z, train.labels, 0.03, s, 1e-5, 100) for s in (first, forgotten))
    assert kept < without


def test_a_path_goes_on_along_its_line():
    train = clusters(400, 24, 4)
    z = Standard.of(train.features, np.float32).apply(train.features, np.float32)
    state = lbfgs.start(z, train.labels, 4)
    for c in (0.001, 0.003):
        state, _, _ = lbfgs.solve(z, train.labels, c, state, 1e-5, 100)
    staying = state._replace(moved=0 * state.moved)
    (_, onwards, _), (_, without, _) = (lbfgs.solve(z, train.labels, 0.01, s, 1e-5, 100) for s in (state, staying))
    assert onwards < without


def test_padding_changes_nothing():
    train = clusters(200, 12, 4)
    with jax.enable_x64(True):
        alone = logistic(train, 4, [0.1, 1.0], tolerance=1e-9)
        padded = logistic(train, 4, [0.1, 1.0], tolerance=1e-9, padded=231)
    for head, other in zip(padded, alone, strict=True):
        assert_equal(head, other.kernel, other.bias, train, 1e-6)


def test_solving_again_gives_the_same_bits():
    train = clusters(2000, 300, 4)
    first, second = (logistic(train, 4, [0.1])[0] for _ in range(2))
    np.testing.assert_array_equal(first.kernel, second.kernel)
    np.testing.assert_array_equal(first.bias, second.bias)


def wide(seed=0):
    """More features than examples, of three classes; every test in float32 uses this shape, which is compiled once."""
    return clusters(60, 80, 3, seed)


def test_softmax_in_single_precision_with_more_features_than_examples():
    train = wide()
    assert_equal(logistic(train, 3, [0.1], tolerance=1e-6)[0], *reference(exact(0.1), train), train, 1e-3)


@pytest.mark.parametrize(("n", "d"), [(120, 12), (40, 90)])
@pytest.mark.parametrize("block", [2**24, 200])  # in one piece, and in many
def test_ridge_is_scikit_learns(monkeypatch, n, d, block):
    monkeypatch.setattr(blocks, "BLOCK", block)
    train = clusters(n, d, 3)
    signs = 2.0 * np.eye(3)[train.labels] - 1
    strengths = [1e-3, 1.0, 1e3]
    for c, head in zip(strengths, ridge(train, 3, strengths), strict=True):
        assert_equal(head, *reference(Ridge(alpha=1 / c), train, signs), train, 1e-5)
    assert_equal(ridge(train, 3, [0.1])[0], *reference(RidgeClassifier(alpha=10), train), train, 1e-5)


def test_ridge_of_one_unit_and_of_several_labels():
    two, train = clusters(60, 6, 2), several(80, 6)
    assert_equal(ridge(two, 1, [0.1])[0], *reference(RidgeClassifier(alpha=10), two), two, 1e-5)
    signs = 2.0 * train.labels - 1
    assert_equal(ridge(train, 3, [0.1])[0], *reference(Ridge(alpha=10), train, signs), train, 1e-5)


@pytest.mark.parametrize("solve", [logistic, ridge])
def test_constant_columns_carry_nothing(solve):
    train = wide()
    train.features[:, [0, 30]] = 0.1, 12345.678  # means that are not exact in binary
    head = solve(train, 3, [0.1])[0]
    assert not head.kernel[[0, 30]].any()
    model = exact(0.1) if solve is logistic else RidgeClassifier(alpha=10)
    assert_equal(head, *reference(model, train), train, 5e-3)


@pytest.mark.parametrize("solve", [logistic, ridge])
def test_columns_of_almost_no_spread_leave_probabilities_sane(solve):
    """A unit that is all but silent in training and speaks in testing, as others do."""
    train, test = wide(), wide(seed=1)
    silent = np.s_[:, :8]
    train.features[silent] = 1e-6 * train.features[silent]
    head = solve(train, 3, [1.0])[0]
    _, loss = linear.measure(head, test)
    clean = solve(Examples(train.features[:, 8:], train.labels), 3, [1.0])[0]
    _, without = linear.measure(clean, Examples(test.features[:, 8:], test.labels))
    assert loss < without + 0.1
    assert np.abs(head.logits(test.features)).max() < 100


@pytest.mark.parametrize("solve", [logistic, ridge])
def test_standardization_is_folded_back(solve):
    """Scaled and shifted features give the same scores through another kernel."""
    train = wide()
    moved = Examples(train.features * 8 - 3, train.labels)
    before, after = solve(train, 3, [0.1])[0], solve(moved, 3, [0.1])[0]
    np.testing.assert_allclose(before.logits(train.features), after.logits(moved.features), atol=2e-3)
    deviation = train.features.std(0)[:, None]
    np.testing.assert_allclose(before.kernel * deviation, after.kernel * 8 * deviation, atol=1e-3)


def noisy(n, seed, wrong=0.0):
    """Two of three classes, one rarer, told apart by 4 of 80 columns, and a share of wrong labels to overfit to."""
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < 0.35
    features = rng.normal(size=(n, 80)).astype(np.float32)
    features[:, :4] += 2.5 * labels[:, None]
    return Examples(features, (labels ^ (rng.random(n) < wrong)).astype(np.int32))


@pytest.mark.parametrize(("method", "strengths"), [("lbfgs", (1e-7, 1e-2, 1e3)), ("ridge", (1e-9, 3e-3, 1e6))])
def test_the_best_c_is_chosen_on_validation(method, strengths):
    # Hardly any kernel leaves a bias that sees the more frequent class only; hardly any penalty learns what is wrong.
    validation = noisy(2000, 1)
    found = fit(method, noisy(60, 0, wrong=0.1), validation, outputs=3, regularization=strengths[::-1])
    assert found.regularization == strengths[1]
    assert tuple(found.scores) == tuple(found.losses) == strengths
    few, best, many = found.scores.values()
    assert best > max(few, many) + 0.1
    guessed = found.linear.logits(validation.features).argmax(-1)
    assert best == pytest.approx((guessed == validation.labels).mean())


def test_validation_chooses_the_temperature_of_a_scaled_solver():
    train, validation = noisy(60, 0, wrong=0.1), noisy(300, 1)
    found = fit("lda", train, validation, outputs=2, regularization=(10.0,), refit=True)
    [plain] = linear.lda(train, 2, [10.0])
    scale = linear.temperature(plain.logits(validation.features), validation.labels)
    assert scale > 1.5
    np.testing.assert_allclose(found.chosen.kernel * scale, plain.kernel, rtol=1e-5)
    [joined] = linear.lda(train.join(validation), 2, [10.0])
    np.testing.assert_allclose(found.linear.kernel * scale, joined.kernel, rtol=1e-5)
    assert found.losses[10.0] < linear.measure(plain, validation)[1]


def test_the_smallest_loss_decides_and_of_equals_the_stronger_penalty(monkeypatch):
    train = clusters(30, 4, 3)
    scores = {1e-3: (0.5, 0.8), 1e-2: (0.9, 0.7), 1e-1: (0.8, 0.6), 1.0: (0.9, 0.6)}
    rows = iter(scores.values())
    monkeypatch.setattr(linear, "measure", lambda head, examples, loss: next(rows))
    assert fit("ridge", train, train, outputs=3, regularization=tuple(scores)).regularization == 1e-1


def test_refitting_uses_train_and_validation():
    train, validation = clusters(60, 6, 3), clusters(60, 6, 3, seed=1)
    found = fit("ridge", train, validation, outputs=3, regularization=(0.1, 0.01), refit=True)
    both = Examples(
        np.concatenate([train.features, validation.features]), np.concatenate([train.labels, validation.labels])
    )
    expected = fit("ridge", both, None, outputs=3, regularization=(found.regularization,))
    np.testing.assert_array_equal(found.linear.kernel, expected.linear.kernel)
    assert expected.scores == expected.losses == {}


@pytest.mark.parametrize("method", ["lbfgs", "ridge"])
@pytest.mark.parametrize("absent", ["validation", "train"])
def test_a_class_absent_from_validation_or_from_training(method, absent):
    examples = {"train": wide(), "validation": wide(seed=1)}
    examples[absent].labels[examples[absent].labels == 2] = 0  # a class of two clouds: hard, but no reason to fail
    found = fit(method, **examples, outputs=3, regularization=(0.01,))
    guessed = found.linear.logits(examples["train"].features).argmax(-1)
    assert np.isfinite(found.linear.kernel).all() and np.isfinite(found.losses[0.01])
    assert (guessed == 2).any() == (absent == "validation")
    assert found.scores[0.01] > 0.5


def test_measures_of_several_labels():
    """Mean average precision, by which runs are ranked too, and not the share of right decisions, here 4/6."""
    head = Linear(np.eye(2, dtype=np.float32), np.zeros(2, np.float32))
    features, labels = np.array([[3.0, -3.0], [-1.0, 3.0], [1.0, 2.5]]), np.array([[1, 0], [1, 1], [0, 1]], np.uint8)
    # Of the first label the second of three is wrong, (1 + 2/3) / 2; the other is in order.
    loss = np.logaddexp(0, features * np.where(labels, -1, 1)).sum(axis=-1).mean()
    assert linear.measure(head, Examples(features, labels)) == pytest.approx(((5 / 6 + 1) / 2, loss), rel=1e-6)


def test_stopping_short_is_said(monkeypatch):
    said = []
    monkeypatch.setattr(logging, "warning", lambda message, *values: said.append(message % values))
    logistic(wide(), 3, [1.0], max_steps=2)
    assert len(said) == 1 and "C = 1 stopped after 2 steps" in said[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "svm"}, "unknown probe 'svm'.* Known: lbfgs, ridge"),
        ({"outputs": 2}, r"labels lie in 0\.\.2, but 2 outputs .* ask for 3 outputs"),
        ({"outputs": 1}, r"labels lie in 0\.\.2, but 1 output tell"),
        ({"regularization": (0.1, -1.0)}, "regularization has -1, but an inverse strength C is .* above 0"),
        ({"regularization": (float("nan"),)}, "regularization has nan"),
        ({"validation": None}, r"2 values to choose from \(0\.01, 0\.1\), but there is no validation"),
        ({"validation": clusters(20, 7, 3)}, r"train has features \[30, 6\].* validation features \[20, 7\]"),
        ({"validation": several(20, 6)}, r"labels \[30\], but validation .* labels \[20, 3\]"),
        (
            {"train": several(30, 6), "validation": several(9, 6), "outputs": 4},
            r"labels are \[9, 3\] in 0\.\.1, but 4 outputs",
        ),
    ],
)
def test_what_does_not_agree_is_refused(changes, message):
    given = {"method": "lbfgs", "train": clusters(30, 6, 3), "validation": clusters(20, 6, 3), "outputs": 3}
    given = {"regularization": (0.01, 0.1), **given, **changes}
    with pytest.raises(ValueError, match=message):
        fit(given.pop("method"), given.pop("train"), given.pop("validation"), **given)
