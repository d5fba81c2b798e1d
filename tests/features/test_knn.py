"""Nearest neighbors: they and what they say are scikit-learn's; the choice of k."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from jft.features import knn
from jft.features.examples import Examples
from jft.features.knn import choose_neighbors, nearest, nearest_neighbors


def clouds(n, classes, seed, spread=1.0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n).astype(np.int32)
    centers = np.random.default_rng(7).normal(size=(classes, 10))
    return Examples((centers[labels] + spread * rng.normal(size=(n, 10))).astype(np.float32), labels)


def scikit_learns(train, features, k):
    model = KNeighborsClassifier(n_neighbors=k, metric="cosine", algorithm="brute")
    return model.fit(train.features.astype(np.float64), train.labels).predict(features.astype(np.float64))


@pytest.mark.parametrize(
    "similarities", [2**26, 300 * 32]
)  # in one batch, and in several of which the last is filled up
def test_predictions_are_scikit_learns(monkeypatch, similarities):
    monkeypatch.setattr(knn, "_SIMILARITIES", similarities)
    train, test, ks = clouds(300, 5, 0), clouds(75, 5, 1), [7, 1, 2, 20]  # with 2, ties abound
    guesses = nearest_neighbors(train, test.features, outputs=5, ks=ks)
    assert guesses.shape == (4, 75) and guesses.dtype == np.int32
    for k, guess in zip(ks, guesses, strict=True):
        np.testing.assert_array_equal(guess, scikit_learns(train, test.features, k))


def test_several_labels_and_one_unit():
    single, test = clouds(300, 8, 0), clouds(50, 8, 1)
    train = Examples(single.features, (single.labels[:, None] >> np.arange(3) & 1).astype(np.uint8))
    for k, guess in zip((4, 5), nearest_neighbors(train, test.features, outputs=3, ks=(4, 5)), strict=True):
        np.testing.assert_array_equal(guess > 0.5, scikit_learns(train, test.features, k))
    two = clouds(100, 2, 0)
    guess = nearest_neighbors(two, test.features, outputs=1, ks=(4,))[0]
    np.testing.assert_array_equal(guess, scikit_learns(two, test.features, 4))


def test_length_does_not_matter_and_zeros_are_no_error():
    train = clouds(60, 3, 0)
    features = np.concatenate([train.features[:20] * 1000, np.zeros((1, 10), np.float32)])
    guess = nearest_neighbors(train, features, outputs=3, ks=(1,))[0]
    np.testing.assert_array_equal(guess[:20], train.labels[:20])


def test_k_is_chosen_on_validation():
    train, validation = clouds(400, 3, 0, spread=2.5), clouds(400, 3, 1, spread=2.5)
    found = choose_neighbors(train, validation, outputs=3)
    assert list(found.scores) == [1, 3, 5, 10, 20, 50]
    assert found.k > 5 and found.scores[found.k] == max(found.scores.values()) > found.scores[1] + 0.03
    best = (scikit_learns(train, validation.features, found.k) == validation.labels).mean()
    assert found.scores[found.k] == pytest.approx(best)


def test_of_equal_accuracies_the_largest_k_is_taken_and_few_examples_limit_it():
    train = clouds(30, 2, 0, spread=0.01)
    assert choose_neighbors(train, train, outputs=2, ks=(1, 5, 3)).k == 5
    assert list(choose_neighbors(train, train, outputs=2).scores) == [1, 3, 5, 10, 20]


def test_what_does_not_agree_is_refused():
    train = clouds(30, 3, 0)
    with pytest.raises(ValueError, match="k = 31 neighbors were asked for, but there are 30 examples"):
        nearest_neighbors(train, train.features, outputs=3, ks=(5, 31))
    with pytest.raises(ValueError, match=r"train has features \[30, 10\].* validation features \[30, 4\]"):
        nearest_neighbors(train, train.features[:, :4], outputs=3, ks=(5,))
    with pytest.raises(ValueError, match="30 of 30 rows hold NaN"):
        nearest_neighbors(train, train.features * np.nan, outputs=3, ks=(5,))
    with pytest.raises(ValueError, match=r"labels lie in 0\.\.2, but 2 outputs"):
        nearest_neighbors(train, train.features, outputs=2, ks=(1,))


@pytest.mark.parametrize("similarities", [2**26, 400 * 16])  # in one batch, and in several of which the last is filled
def test_nearest_are_scikit_learns(monkeypatch, similarities):
    monkeypatch.setattr(knn, "_SIMILARITIES", similarities)
    features = clouds(400, 4, 0).features
    rows, found = nearest(features, features[::8], 7)
    assert rows.dtype == np.int64 and found.dtype == np.float32 and rows.shape == found.shape == (50, 7)
    distances, wanted = (
        NearestNeighbors(n_neighbors=7, metric="cosine", algorithm="brute")
        .fit(features.astype(np.float64))
        .kneighbors(features[::8].astype(np.float64))
    )
    np.testing.assert_array_equal(rows, wanted)
    np.testing.assert_array_equal(rows[:, 0], np.arange(0, 400, 8))  # itself
    np.testing.assert_allclose(found, 1 - distances, atol=1e-5)


def test_neighbors_that_cannot_be_are_refused():
    x = np.ones((5, 3), np.float32)
    with pytest.raises(ValueError, match="k = 6 neighbors were asked for, but there are 5 examples: ask for fewer"):
        nearest(x, x, 6)
    with pytest.raises(ValueError, match=r"k = 0 .* ask for 1 or more"):
        nearest(x, x, 0)
    with pytest.raises(ValueError, match=r"features \[5, 2\] are sought among \[5, 3\]"):
        nearest(x, x[:, :2], 1)
