"""One step of training, without a run: its state and its function, and a batch of noise for it."""

import jax.numpy as jnp
import numpy as np
import optax

from jft.config import default_config
from jft.metrics.losses import Objective
from jft.training import optim
from jft.training.freeze import make_plan
from jft.training.step import Input, TrainState, make_train_step


def make_state_and_step(model, variables, freeze, **changes):
    config = default_config()
    config.update({"weight_decay": 0.1, "clip_norm": 0.5, "learning_rate": 1e-2, **changes})
    plan = make_plan(model, variables, freeze, batch_norm=config.batch_norm)
    tx = optim.make_optimizer(config, plan.freeze_mask(variables["params"]))
    state = TrainState(step=jnp.int32(0), opt_state=tx.init(variables["params"]), **variables)
    step = make_train_step(
        model,
        plan,
        tx,
        schedule=optax.constant_schedule(config.learning_rate),
        objective=Objective("softmax", model.num_classes, config.label_smoothing),
        inputs=Input(lambda images, rng: images / 255.0 - 0.5),
        seed=0,
        accumulate=config.accumulate,
    )
    return plan, state, step


def make_batch(size=8):
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (8, size, size, 3), dtype=np.uint8),
        "label": rng.integers(0, 4, 8, dtype=np.int32),
        "mask": np.ones(8, bool),
    }
