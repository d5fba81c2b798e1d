"""Schedules and optimizers against what their names promise."""

import inspect

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jft.config import BELONGS_TO, default_config
from jft.models import abstract_variables, create_model
from jft.training import optim, optimizers
from jft.training.optimizers import OPTIMIZERS
from jft.utils import tree
from jft.utils.registry import GIVEN, code_allowed


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
    """What is taken away, at a learning rate of 1."""
    updates = one_update(**changes)
    np.testing.assert_allclose(updates["kernel"], -kernel, rtol=1e-5)
    np.testing.assert_allclose(updates["bias"], -bias, rtol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16", "deit3_small_patch16"])
def test_kernels_alone_decay(name):
    """Of a transformer positions and registers have two axes, as its kernels do."""
    model = create_model(name, **({} if name == "resnet18" else {"width": 8, "depth": 1, "heads": 1, "registers": 4}))
    params = abstract_variables(model, 32)["params"]
    decayed = {leaf for leaf, decays in tree.flatten(optimizers.kernels(params)).items() if decays}
    assert decayed == {leaf for leaf in tree.flatten(params) if leaf.endswith("/kernel")}
    spared = {leaf for leaf, value in tree.flatten(params).items() if value.ndim > 1} - decayed
    assert spared == (set() if name == "resnet18" else {"embed/tokens/position", "embed/tokens/registers"})


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name not in ("adam", "adamw", "sgd")])
def test_every_optimizer_of_optax_steps_as_by_itself(name):
    """Given the fields of the config that it has parameters of the same names for, under a rate that changes."""
    params = {"kernel": jnp.array([[1.0, 2.0], [-1.0, 0.5]]), "bias": jnp.array([1.0, -2.0])}
    config = make(optimizer=name, weight_decay=0.01)
    config.momentum = 0.7 if BELONGS_TO["momentum"][1].met(config) else 0.9
    given = {"momentum": 0.7, "weight_decay": 0.01, "mask": optimizers.kernels, "weight_decay_mask": optimizers.kernels}
    function = getattr(optax, name)
    known = inspect.signature(function).parameters
    assert ("momentum" in known) == BELONGS_TO["momentum"][1].met(config)
    wanted = function(learning_rate=0.1, **{key: value for key, value in given.items() if key in known})
    if "weight_decay" not in known:
        wanted = optax.chain(optax.add_decayed_weights(0.01, mask=optimizers.kernels), wanted)
    optimizers.check(config, None, params)
    tx = optim.make_optimizer(config, {"kernel": False, "bias": False})
    state, expected = tx.init(params), wanted.init(params)
    for scale in (1.0, -0.5):
        grads = {name: scale * jnp.cos(leaf) for name, leaf in params.items()}
        updates, state = tx.update(grads, state, params, learning_rate=jnp.float32(0.1))
        theirs, expected = wanted.update(grads, expected, params)
        for leaf, update in updates.items():
            np.testing.assert_allclose(update, theirs[leaf], rtol=1e-5, atol=1e-8, err_msg=leaf)


@pytest.mark.parametrize(
    ("own", "changes", "message"),
    [
        (
            lambda learning_rate, speed: optax.sgd(speed),
            {},
            r"needs speed, which jft does not give.* jft gives learning_rate, momentum",
        ),
        (lambda learning_rate: optax.sgd(float(learning_rate)), {}, r"optimizer = '.*' fails \(Concretization"),
        (lambda learning_rate: None, {}, r"fails \(AttributeError"),
        (3, {}, r"is 3: give a function \(learning_rate, ...\) -> optax"),
        (
            optax.sgd(0.1),
            {"learning_rate": 1e-3, "schedule": "cosine"},
            r"schedule = 'cosine' has no effect on .*: give a function \(learning_",
        ),
        (
            lambda learning_rate=0.1: optax.sgd(learning_rate),
            {},
            r"learning_rate = 0.1 has no effect .* without a default",
        ),
        (lambda learning_rate: optax.sgd(learning_rate), {"weight_decay": 0.1}, r"weight_decay = 0.1 has no effect"),
        (optax.lbfgs(0.1), {"learning_rate": 1e-3}, r"fails \(TypeError.*value"),
        (
            optax.GradientTransformation(lambda p: jnp.zeros(()), lambda g, s, p: (g, jnp.zeros(2))),
            {"learning_rate": 1e-3},
            r"the state after a step must have the shapes .* float32 \[\] and float32 \[2\]",
        ),
        (
            optax.GradientTransformation(lambda p: (), lambda g, s, p: (g["kernel"], s)),
            {"learning_rate": 1e-3},
            r"updates must have the shapes of the parameters, and differ in",
        ),
    ],
)
def test_a_wrong_optimizer_of_the_users_own_is_refused(own, changes, message):
    config = make(optimizer=GIVEN, **changes)
    with pytest.raises(ValueError, match=message):
        optimizers.check(config, own, {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)})


def test_what_optax_has_under_another_name_is_its_own():
    with code_allowed():
        named = optim.make_optimizer(make(optimizer="optax:lion", weight_decay=0.1), {"kernel": False})
    params = {"kernel": jnp.full((2, 2), 2.0)}
    updates, _ = named.update(params, named.init(params), params, learning_rate=0.5)
    np.testing.assert_allclose(updates["kernel"], -0.5 * (1 + 0.1 * 2), rtol=1e-6)
