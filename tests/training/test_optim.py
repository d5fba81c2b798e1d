"""Schedules and optimizers against what their names promise."""

import jax.numpy as jnp
import numpy as np
import pytest

from jft.config import default_config
from jft.training import optim


def make(**changes):
    config = default_config()
    config.update({"learning_rate": 0.1, **changes})
    return config


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {0: 0.1, 50: 0.1, 100: 0.1}),
        ({"schedule": "cosine"}, {0: 0.1, 50: 0.05, 100: 0.0}),
        ({"schedule": "cosine", "warmup_epochs": 2.0}, {0: 0.0, 10: 0.05, 20: 0.1, 60: 0.05, 100: 0.0}),
        ({"schedule": "step", "step_epochs": (5, 8)}, {0: 0.1, 49: 0.1, 51: 0.01, 81: 0.001}),
        (
            {"schedule": "step", "step_epochs": (5,), "step_factor": 0.5, "warmup_epochs": 1.0},
            {5: 0.05, 10: 0.1, 49: 0.1, 51: 0.05},
        ),
        ({"warmup_epochs": 1.0}, {0: 0.0, 5: 0.05, 10: 0.1, 90: 0.1}),
        # Keras' SGD(decay=0.05): lr / (1 + decay * iterations)
        ({"schedule": "inverse_time", "rate_decay": 0.05}, {0: 0.1, 1: 0.1 / 1.05, 20: 0.05, 100: 0.1 / 6}),
    ],
)
def test_schedules(changes, expected):
    schedule = optim.make_schedule(make(**changes), num_steps=100, steps_per_epoch=10.0)
    assert {step: pytest.approx(float(schedule(step)), abs=1e-7) for step in expected} == expected


def one_update(**changes):
    params = {"kernel": jnp.full((2, 2), 2.0), "bias": jnp.full(2, 2.0)}
    tx = optim.make_optimizer(make(**changes), {"kernel": False, "bias": False})
    grads = {"kernel": jnp.full((2, 2), 3.0), "bias": jnp.full(2, 3.0)}
    return tx.update(grads, tx.init(params), params)[0]


@pytest.mark.parametrize(
    ("changes", "kernel", "bias"),
    [
        ({"optimizer": "sgd", "momentum": 0.5}, 3 * 1.5, 3 * 1.5),  # Nesterov: g + m g
        ({"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.5}, 3 + 1, 3),
        ({"optimizer": "adam"}, 1, 1),
        ({"optimizer": "adamw", "weight_decay": 0.5}, 1 + 0.5 * 2, 1),
        ({"optimizer": "sgd", "momentum": 0.0, "clip_norm": 1.0}, 1 / np.sqrt(6), 1 / np.sqrt(6)),
    ],
)
def test_first_direction(changes, kernel, bias):
    """The step multiplies it by minus the learning rate."""
    updates = one_update(**changes)
    np.testing.assert_allclose(updates["kernel"], kernel, rtol=1e-5)
    np.testing.assert_allclose(updates["bias"], bias, rtol=1e-5)
