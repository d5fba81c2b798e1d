"""One step on one device and on eight, under jit and pmap: BatchNorm sees the global batch in all of them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_chain import Small

from jft import tree
from jft.losses import Objective
from jft.models import initialise
from jft.parallel import make_parallel
from jft.steps import Input, TrainState, make_eval_step, make_train_step
from jft.transfer.plan import make_plan

OBJECTIVE = Objective("softmax", 4)


def run(mode, devices, accumulate=1):
    """Three steps and an evaluation with a ragged mask; returns variables, the losses and the sums."""
    parallel = make_parallel(mode, jax.devices()[:devices])
    model = Small(num_classes=4, axis_name=parallel.axis_name)
    variables = initialise(model, 8, seed=0)
    plan = make_plan(model, variables, "a")
    tx = optax.selective_transform(optax.identity(), freeze_mask=plan.freeze_mask(variables["params"]))
    state = TrainState(step=jnp.int32(0), opt_state=tx.init(variables["params"]), **variables)
    state = parallel.place_state(state)
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (16, 8, 8, 3), dtype=np.uint8),
        "label": rng.integers(0, 4, 16, dtype=np.int32),
        "mask": np.ones(16, bool),
    }
    step = make_train_step(
        model,
        plan,
        tx,
        schedule=optax.constant_schedule(0.01),
        objective=OBJECTIVE,
        inputs=Input(lambda images, rng: images / 255.0 - 0.5),
        seed=0,
        accumulate=accumulate,
        axis_name=parallel.axis_name,
    )
    placed = parallel.place_batch(batch)
    compiled = parallel.compile(step, state, placed, donate=True)
    losses = []
    for _ in range(3):
        state, sums = compiled(state, placed)
        losses.append(float(sums["objective"]))
    ragged = parallel.place_batch({**batch, "mask": np.arange(16) < 11})
    evaluate = make_eval_step(
        model,
        objective=OBJECTIVE,
        transform=lambda images: images / 255.0 - 0.5,
        probabilities=True,
        axis_name=parallel.axis_name,
    )
    sums = parallel.compile(evaluate, state.variables, ragged, donate=False)(state.variables, ragged)
    return tree.flatten(state.variables), losses, sums


@pytest.fixture(scope="module")
def alone():
    return run("jit", 1)


@pytest.mark.parametrize(("mode", "devices"), [("jit", 8), ("pmap", 8), ("pmap", 1)])
def test_devices_do_not_change_the_step(alone, mode, devices):
    variables, losses, sums = run(mode, devices)
    np.testing.assert_allclose(losses, alone[1], rtol=1e-5)
    for name, leaf in alone[0].items():
        np.testing.assert_allclose(variables[name], leaf, rtol=1e-4, atol=1e-5, err_msg=name)
    assert float(sums["count"]) == 11
    assert float(sums["correct"]) == float(alone[2]["correct"])
    # On every device those of the whole batch, in its order.
    np.testing.assert_allclose(sums["probabilities"], alone[2]["probabilities"], rtol=1e-3, atol=1e-5)


def test_batch_sizes_that_do_not_divide():
    parallel = make_parallel("jit")
    parallel.check_batch_size(32, what="batch_size", parts=2)
    with pytest.raises(ValueError, match="batch_size = 24 does not divide over 8 devices x 2: use 16 or 32"):
        parallel.check_batch_size(24, what="batch_size", parts=2)
    with pytest.raises(ValueError, match="eval_batch_size = 3 does not divide over 8 devices x 1: use 8"):
        parallel.check_batch_size(3, what="eval_batch_size")
