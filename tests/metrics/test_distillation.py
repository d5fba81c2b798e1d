"""Distillation: the loss is Hinton's, by hand, and so is a step's gradient, however the batch is parted or spread."""

import functools
import math

import jax
import numpy as np
import optax
import pytest
from test_class_weights import BATCH, KERNEL, WEIGHTS, Linear

from jft.metrics import distillation
from jft.metrics.losses import Objective
from jft.training.freeze import make_plan
from jft.training.step import Input, Teaching, TrainState, make_train_step
from jft.utils.mesh import make_parallel

# Divided by a temperature of 2, these logits give probabilities of 3/4 and 1/4.
LOGIT = 2 * math.log(3)
DIVERGENCE = 3 / 4 * math.log(3 / 2) + 1 / 4 * math.log(1 / 2)  # from 1/2 and 1/2

WEIGHT, TEMPERATURE = 0.75, 3.0
TEACHER = np.float32([[1, 0.5, -2], [-0.5, 2, 0.5], [0.25, -1, 1.5]])


@pytest.mark.parametrize(
    ("kind", "taught", "student", "wanted"),
    [
        ("softmax", [LOGIT, 0], [5, 5], DIVERGENCE),
        ("softmax", [LOGIT, 0], [LOGIT + 1, 1], 0),
        ("binary", [LOGIT], [0], DIVERGENCE),
        ("multilabel", [LOGIT, -1], [0, -1], DIVERGENCE / 2),
    ],
)
def test_the_loss_by_hand(kind, taught, student, wanted):
    losses = distillation.losses(Objective(kind, 2), np.float32([student] * 3), np.float32([taught] * 3), 2.0)
    assert losses.shape == (3,)
    np.testing.assert_allclose(losses, 4 * wanted, atol=1e-6)


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def by_hand():
    """(loss, gradient of the bias) of the six images that are no padding, in float64."""
    x, y = BATCH["image"][:6, 0, 0] / 255.0, BATCH["label"][:6]
    z, t = x @ KERNEL.astype(float), x @ TEACHER.astype(float)
    counts = np.array(WEIGHTS)[y]
    p, q, taught = softmax(z), softmax(z / TEMPERATURE), softmax(t / TEMPERATURE)
    losses = -(1 - WEIGHT) * np.log(p[np.arange(6), y])
    losses += WEIGHT * TEMPERATURE**2 * (taught * np.log(taught / q)).sum(-1)
    gradient = (1 - WEIGHT) * (p - np.eye(3)[y]) + WEIGHT * TEMPERATURE * (q - taught)
    return counts @ losses / counts.sum(), counts @ gradient / counts.sum()


@pytest.mark.parametrize(
    ("how", "cached"),
    [({"accumulate": 2}, False), ({"devices": 4, "mode": "pmap"}, True)],
)
def test_a_step_by_hand(how, cached):
    parallel = make_parallel(how.get("mode", "jit"), {"data": -1}, jax.devices()[: how.get("devices", 1)])
    objective = Objective("softmax", 3, class_weights=WEIGHTS)
    model = Linear(num_classes=3, axis_name=parallel.axis_name)
    params, teacher = ({"head": {"head": {"kernel": k, "bias": np.zeros(3, np.float32)}}} for k in (KERNEL, TEACHER))
    plan = make_plan(model, {"params": params, "batch_stats": {}}, "")
    tx = optax.selective_transform(optax.sgd(1.0), freeze_mask=plan.freeze_mask(params))
    losses = functools.partial(distillation.losses, objective, temperature=TEMPERATURE)
    train_step = make_train_step(
        *(model, plan, tx),
        schedule=None,
        objective=objective,
        # Of two variants the second is drawn.
        inputs=Input(lambda images, rng: images / 255.0, lambda rng, batch: np.ones(batch, np.int32)),
        seed=0,
        teaching=Teaching(WEIGHT, losses, lambda variables, x: model.apply(variables, x, train=False)),
        accumulate=how.get("accumulate", 1),
        axis_name=parallel.axis_name,
    )
    batch, variables = BATCH, {"params": teacher}
    if cached:
        logits = BATCH["image"][:, 0, 0] / np.float32(255) @ TEACHER
        batch, variables = {**BATCH, "taught": np.stack([0 * logits, logits], axis=1)}, {}
    state = parallel.place_state(TrainState(np.int32(0), params, {}, tx.init(params), teacher=variables))
    batch = parallel.place_batch(batch)
    after, sums = parallel.compile(train_step, state, batch, donate=False)(state, batch)
    loss, gradient = by_hand()
    assert float(sums["objective"]) / float(sums["count"]) == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(-np.asarray(after.params["head"]["head"]["bias"]), gradient, atol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, after.teacher, state.teacher)
