"""Features and labels: what is kept as it is, what is refused."""

import jax.numpy as jnp
import numpy as np
import pytest

from jft.features.examples import Examples

X = np.arange(12, dtype=np.float32).reshape(4, 3)
Y = np.array([0, 1, 2, 1], np.int32)


def test_features_are_not_copied_and_half_precision_becomes_single():
    assert Examples(X, Y).features is X
    short = Examples(jnp.asarray(X, jnp.bfloat16), Y)
    assert short.features.dtype == np.float32 and (short.features == X).all()


def test_targets_of_each_kind():
    np.testing.assert_array_equal(Examples(X, Y).targets(3), Y)
    np.testing.assert_array_equal(Examples(X, Y % 2).targets(1), [[0], [1], [0], [1]])
    several = np.array([[0, 1], [1, 1], [0, 0], [1, 0]], bool)
    np.testing.assert_array_equal(Examples(X, several).targets(2), several)


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (np.where(X == 7, np.nan, X), Y, "1 of 4 rows hold NaN or infinity, first row 2"),
        (np.where(X == 0, np.inf, X), Y, "1 of 4 rows hold NaN or infinity, first row 0"),
        (X[:3], Y, r"labels are int32 \[4\], but features are \[3, 3\]"),
        (X, Y.astype(float), r"labels are float64 \[4\]"),
        (X.reshape(4, 1, 1, 3), Y, r"features are float32 \[4, 1, 1, 3\], but floats \[n, d\].*average maps"),
        (X.astype(int), Y, r"features are int64"),
        (X[:0], Y[:0], r"features are float32 \[0, 3\]"),
    ],
)
def test_what_cannot_be_right_is_refused(features, labels, message):
    with pytest.raises(ValueError, match=message):
        Examples(features, labels)


def test_labels_that_the_outputs_cannot_give_are_refused():
    with pytest.raises(ValueError, match=r"labels lie in -1\.\.1, but 2 outputs"):
        Examples(X, np.array([0, 1, -1, 1])).targets(2)
    with pytest.raises(ValueError, match=r"labels are \[4, 2\] in 0\.\.2, but 2 outputs"):
        Examples(X, np.array([[0, 1], [1, 2], [0, 0], [1, 0]])).targets(2)


def test_large_finite_features_are_not_taken_for_infinite():
    Examples(np.full((3, 2), 1e308), Y[:3])
