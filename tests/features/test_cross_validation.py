"""Cross-validation of heads: each image is tested once, by what has not seen it."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from jft.features import lbfgs, linear
from jft.features.cross_validation import choose, refit, standard_error
from jft.features.examples import Examples
from jft.features.lda import lda


def noisy(n=90, d=12, seed=0):
    rng = np.random.default_rng(seed)
    labels = (np.arange(n) % 3).astype(np.int32)
    return Examples((rng.normal(size=(3, d))[labels] + 2 * rng.normal(size=(n, d))).astype(np.float32), labels)


def test_logits_and_losses_are_those_of_scikit_learn():
    examples = noisy()
    fold_of = np.arange(90) // 3 % 5
    found = choose("lbfgs", examples, regularization=(0.003, 0.03, 0.3), folds=fold_of)
    assert list(found.losses) == list(found.errors) == [0.003, 0.03, 0.3]
    parts = [(np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)) for fold in range(5)]
    for c, loss in found.losses.items():
        model = make_pipeline(StandardScaler(), LogisticRegression(C=c, tol=1e-8, max_iter=2000))
        p = cross_val_predict(model, examples.features, examples.labels, cv=parts, method="predict_proba")
        nats = -np.log(p[np.arange(90), examples.labels])
        assert loss == pytest.approx(nats.mean(), abs=2e-3)
        assert found.errors[c] == pytest.approx(nats.std(ddof=1) / 90**0.5, rel=0.02)
        if c == found.regularization:
            own = np.exp(found.logits) / np.exp(found.logits).sum(1, keepdims=True)
            np.testing.assert_allclose(own, p, atol=5e-3)
    assert found.regularization == min(found.losses, key=found.losses.get)
    np.testing.assert_array_equal(found.folds, fold_of)


@pytest.mark.parametrize("method", linear.SOLVERS)
def test_heads_have_not_seen_what_they_are_tested_on(method):
    rng = np.random.default_rng(0)
    labels = (np.arange(100) % 2).astype(np.int32)
    groups = np.arange(100) // 4
    # Images of a group are alike; nothing else tells its labels.
    labels = labels[groups]
    twins = (rng.normal(size=(25, 40))[groups] + 0.01 * rng.normal(size=(100, 40))).astype(np.float32)
    found = choose(method, Examples(twins, labels), groups=groups, regularization=(1.0,))
    assert all(len(set(found.folds[groups == group])) == 1 for group in range(25))
    assert 0.2 < (found.logits.argmax(1) == labels).mean() < 0.75
    leaking = choose(method, Examples(twins, labels), regularization=(1.0,))
    assert (leaking.logits.argmax(1) == labels).mean() > 0.81


def test_lda_is_divided_by_the_temperature_of_images_it_has_not_seen():
    examples = noisy(d=60)  # nearly as many features as images: far too sure by itself
    found = choose("lda", examples, regularization=(3.0, 30.0))
    assert found.temperature > 1.5
    loss = lbfgs.nats(found.logits / found.temperature, examples.labels).mean()
    assert found.losses[found.regularization] == pytest.approx(float(loss), rel=1e-5) and loss < np.log(3)
    assert lbfgs.nats(found.logits, examples.labels).mean() > 1.1 * loss
    head, [plain] = refit(found, examples), lda(examples, 3, [found.regularization])
    np.testing.assert_allclose(head.kernel * found.temperature, plain.kernel, rtol=1e-5)
    np.testing.assert_allclose(head.bias * found.temperature, plain.bias, rtol=1e-5)


def test_variants_join_in_training_and_average_in_testing():
    examples, other = noisy(), noisy(seed=1)
    fold_of = np.arange(90) // 3 % 5
    variants = np.stack([other.features, -other.features], 1)
    how = {"regularization": (1e-3,), "folds": fold_of, "variants": variants}
    plain, averaged = (choose("ridge", examples, **how, average=average) for average in (False, True))
    for fold in range(5):
        seen, tested = fold_of != fold, fold_of == fold
        parts = [x[seen] for x in (examples.features, *variants.swapaxes(0, 1))]
        train = Examples(np.concatenate(parts), np.tile(examples.labels[seen], 3))
        [head] = linear.ridge(train, 3, [1e-3])
        np.testing.assert_allclose(plain.logits[tested], head.logits(examples.features[tested]), atol=1e-5)
        both = np.mean([head.logits(x[tested]) for x in (examples.features, *variants.swapaxes(0, 1))], 0)
        np.testing.assert_allclose(averaged.logits[tested], both, atol=1e-5)


def test_groups_count_together():
    values = np.random.default_rng(0).normal(size=50)
    assert standard_error(values) == pytest.approx(values.std(ddof=1) / 50**0.5)
    repeated, groups = np.repeat(values, 4), np.repeat(np.arange(50), 4)
    assert standard_error(repeated, groups) == pytest.approx(standard_error(values))
    assert standard_error(repeated) < 0.6 * standard_error(values)


def test_several_labels_and_one_unit():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(80, 6)).astype(np.float32)
    several = (features[:, :3] + 0.5 * rng.normal(size=(80, 3)) > 0).astype(np.uint8)
    found = choose("ridge", Examples(features, several), folds=4)
    assert found.logits.shape == (80, 3) and ((found.logits > 0) == several).mean() > 0.75
    one = choose("lda", Examples(features, several[:, 0].astype(np.int32)), outputs=1, folds=4)
    assert one.logits.shape == (80, 1) and ((one.logits[:, 0] > 0) == several[:, 0]).mean() > 0.75


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        ("svm", {}, "unknown probe 'svm'.* Known: lbfgs, ridge, lda, class_means"),
        ("lda", {"regularization": (0.0,)}, "regularization has 0"),
        ("lda", {"outputs": 2}, r"labels lie in 0\.\.2, but 2 outputs"),
        ("lda", {"folds": 100}, "100 folds of 90 images"),
    ],
)
def test_what_does_not_agree_is_refused(method, changes, message):
    with pytest.raises(ValueError, match=message):
        choose(method, noisy(), **changes)
