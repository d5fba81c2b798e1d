"""Tests of pairs: against McNemar's exact test, by hand, and by simulation."""

import numpy as np
import pytest

from jft.metrics import classification, paired


@pytest.mark.parametrize(("gained", "lost"), [(10, 2), (1, 1), (0, 5), (0, 0)])
def test_flips_of_one_seed_are_mcnemars_exact_test(gained, lost):
    second = np.repeat([True, False, True], [gained, lost, 30])
    first = np.repeat([False, True, True], [gained, lost, 30])
    expected = classification.mcnemar(first, second).p_value
    assert paired.sign_flips(second.astype(float) - first) == pytest.approx(expected)


def test_one_image_that_differs_says_nothing():
    assert paired.sign_flips(np.array([0.0, 1.0, 0.0])) == paired.sign_flips(np.zeros(3)) == 1


def test_flips_that_are_drawn_are_rarely_significant_without_a_difference():
    rng = np.random.default_rng(0)
    p_values = [paired.sign_flips(rng.choice([-1, -0.5, 0, 0.5, 1], 100)) for _ in range(40)]
    assert np.mean(np.array(p_values) < 0.2) < 0.4 and len(set(p_values)) > 20
    assert paired.sign_flips(rng.choice([-0.5, 0, 0.5, 1], 100)) < 0.05


def test_holm_by_hand():
    assert paired.holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert paired.holm([0.6, 0.7]) == [1.0, 1.0] and paired.holm([]) == []


def test_intervals_hold_the_difference():
    low, high = paired.difference_interval(np.repeat([1.0, 0.0, -1.0], [8, 90, 2]))
    assert 0 < low < 0.06 < high
    low, high = paired.difference_interval(np.zeros(100))
    assert low == -high < 0
    low, high = paired.difference_interval(-np.ones(100))
    assert low == -1 and -1 < high < -0.9
    assert paired.difference_interval(np.full(5, 0.5)) == (-np.inf, np.inf)
