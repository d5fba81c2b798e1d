"""Tests of pairs: whether two models, measured on the same images or with the same seeds, differ."""

from collections.abc import Sequence

import numpy as np

from jft.metrics import classification

_RESAMPLES = 9_999


def difference_interval(differences: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of a mean of paired differences, see `classification.interval`.

    If no pair differs, plus and minus the upper end of Wilson's interval of the share of pairs that do.

    Args:
      differences: float [n], -1 to 1, one for each image.

    Returns:
      (low, high); (-inf, inf) where all differ by the same fraction.
    """
    differences = np.asarray(differences, np.float64)
    if (differences == -1).all():  # mirrors the case in which all are 1
        low, high = classification.interval(-differences)
        return -high, -low
    low, high = classification.interval(differences)
    return (low, high) if differences.any() else (-high, high)


def sign_flips(differences: np.ndarray) -> float:
    """p-value of a mean that is 0, by flipping the signs of paired differences (Fisher, 1935), two-sided.

    If two models were equally good, each image's difference might as well have the other sign. All flips are tried
    where there are at most 9,999, which for differences of -1, 0 and 1 is McNemar's exact test; else 9,999 are drawn,
    always the same.

    Args:
      differences: float [n], one for each image: of the second model minus the first.

    Returns:
      0 < p <= 1; 1 where at most one image differs.
    """
    from scipy import stats

    differ = np.asarray(differences, np.float64)
    differ = differ[differ != 0]
    if len(differ) < 2:
        return 1.0

    def mean(second: np.ndarray, first: np.ndarray, axis: int) -> np.ndarray:
        return np.mean(second - first, axis=axis)

    pairs, rng = (differ, np.zeros_like(differ)), np.random.default_rng(0)
    test = stats.permutation_test(
        pairs, mean, permutation_type="samples", vectorized=True, n_resamples=_RESAMPLES, batch=500, rng=rng
    )
    return float(min(test.pvalue, 1.0))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for as many tests as there are (Holm, 1979), in the same order.

    With a probability of 95 % or more, none of those below 0.05 belongs to a difference that is not there.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for done, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - done) * p_values[place]))
        adjusted[place] = largest
    return adjusted
