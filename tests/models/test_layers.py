"""Pooling against XLA's own gradient and against torch's arithmetic of sizes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jft.models import layers


@pytest.mark.parametrize(
    ("size", "window", "stride", "padding", "ceil", "out"),
    [
        (8, 2, 2, 0, False, 4),
        (9, 2, 2, 0, False, 4),
        (9, 2, 2, 0, True, 5),
        (112, 3, 2, 1, False, 56),
        (111, 3, 2, 0, True, 55),
        (110, 3, 2, 0, True, 55),
        (56, 3, 2, 0, True, 28),
        (5, 2, 3, 1, True, 2),  # torch drops a last window that would begin in the padding
    ],
)
def test_max_pool_sizes_values_and_gradient(size, window, stride, padding, ceil, out):
    x = jnp.round(jax.random.normal(jax.random.key(0), (2, size, size, 3)) * 2)  # rounding makes ties
    y = layers.max_pool(x, window, stride, padding=padding, ceil=ceil)
    assert y.shape == (2, out, out, 3)
    end = (out - 1) * stride + window - size - padding
    pads = [(padding, max(end, 0))] * 2
    keep = size + min(end, 0)

    def reference(x):
        return nn.max_pool(x[:, :keep, :keep], (window, window), (stride, stride), pads)

    np.testing.assert_array_equal(y, reference(x))
    weights = jax.random.normal(jax.random.key(1), y.shape)
    ours = jax.grad(lambda x: jnp.sum(weights * layers.max_pool(x, window, stride, padding=padding, ceil=ceil)))(x)
    xla = jax.grad(lambda x: jnp.sum(weights * reference(x)))(x)
    np.testing.assert_allclose(ours, xla, atol=1e-6)


def test_adaptive_avg_pool_windows():
    x = jnp.arange(5.0).reshape(1, 5, 1, 1) * jnp.ones((1, 5, 5, 1))
    # torch: windows [0, 2), [1, 4), [3, 5) of five rows.
    np.testing.assert_allclose(layers.adaptive_avg_pool(x, 3)[0, :, 0, 0], [0.5, 2.0, 3.5])
    assert layers.adaptive_avg_pool(x, 5) is x
    np.testing.assert_allclose(layers.adaptive_avg_pool(x[:, 2:3, 2:3], 7), np.full((1, 7, 7, 1), 2.0))
