"""Means and deviations of features, against NumPy in float64, and what they make of unusual columns."""

import numpy as np
import pytest

from jft.features import standard
from jft.features.standard import Standard


def features(dtype=np.float32):
    """Columns of scales from 0.03 to 30, each up to 5 away from 0."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(1000, 40)) * np.logspace(-1.5, 1.5, 40) + np.linspace(-5, 5, 40)).astype(dtype)


@pytest.mark.parametrize("block", [2**18, 600])  # in one piece, and in many, the last of which is shorter
@pytest.mark.parametrize(
    ("given", "asked", "tolerance"),
    [(np.float32, np.float32, 2e-6), (np.float32, np.float64, 1e-12), (np.float64, np.float32, 2e-6)],
)
def test_standardized_columns(monkeypatch, block, given, asked, tolerance):
    monkeypatch.setattr(standard, "_BLOCK", block)
    x = features(given)
    found = Standard.of(x, asked)
    mean, deviation = x.mean(0, dtype=np.float64), x.std(0, dtype=np.float64)
    assert (np.abs(found.mean - mean) <= tolerance * (deviation + np.abs(mean))).all()
    np.testing.assert_allclose(found.deviation, deviation, rtol=tolerance)
    z = found.apply(x, asked)
    assert z.dtype == asked and z.ctypes.data % 64 == 0
    np.testing.assert_allclose(
        z, (x - found.mean) / found.deviation, rtol=0, atol=1e-6 if asked == np.float32 else 1e-12
    )


def test_squares_that_float32_cannot_hold():
    x = features() * np.float32(1e20)
    np.testing.assert_allclose(Standard.of(x, np.float32).deviation, x.std(0, dtype=np.float64), rtol=1e-6)


def test_columns_of_no_spread_and_of_little():
    x = features()
    x[:, 3], x[:, 4] = 12345.678, 1e-6 * x[:, 4]
    found = Standard.of(x, np.float32)
    assert np.isinf(found.deviation[3]) and not found.apply(x, np.float32)[:, 3].any()
    usual = np.median(np.delete(x.std(0, dtype=np.float64), 3))
    assert found.deviation[4] == pytest.approx(0.01 * usual, rel=1e-5)


def test_a_first_row_unlike_all_others():
    x = features()
    x[0] = 1e4
    found = Standard.of(x, np.float32)
    np.testing.assert_allclose(found.deviation, x.std(0, dtype=np.float64), rtol=1e-5)
    np.testing.assert_allclose(found.mean, x.mean(0, dtype=np.float64), rtol=1e-6, atol=1e-4)
