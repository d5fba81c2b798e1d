"""Class weights: one step's gradient is torch's, however the batch is padded, parted or spread."""

import functools

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest

from jft.metrics.losses import Objective
from jft.models.chain import Chain
from jft.models.layers import Head
from jft.training.freeze import make_plan
from jft.training.step import Input, TrainState, make_train_step
from jft.utils.mesh import make_parallel

# Images of one pixel, the last two of which are padding.
IMAGES = np.uint8(
    [
        *([207, 21, 45], [60, 46, 205], [222, 149, 10], [24, 85, 110], [159, 122, 67], [40, 177, 188]),
        *([8, 29, 115], [100, 227, 132]),
    ]
)[:, None, None]
BATCH = {"image": IMAGES, "label": np.int32([0, 0, 1, 2, 1, 0, 2, 2]), "mask": np.arange(8) < 6}
KERNEL = np.float32([[0.5, -1, 0.25], [1, 0.5, -0.5], [-0.75, 0.25, 1]])
WEIGHTS = (1.0, 2.0, 5.0)

# torch 2.13, float64: label smoothing -> CrossEntropyLoss(weight=WEIGHTS, label_smoothing=...) of the six images, and
# its gradient by the bias and by the kernel's first row.
GOLDEN = {
    0.0: (
        1.3323052180046637,
        (0.13577364234995293, -0.07650237046749125, -0.0592712718824617),
        (0.090722589709688, -0.17664388544751367, 0.08592129573782567),
    ),
    0.1: (
        1.3509217934470925,
        (0.15726059766148232, -0.07065787154107425, -0.08660272612040806),
        (0.10332739393744104, -0.16327503763054677, 0.05994764369310571),
    ),
}


class Same(nn.Module):
    def __call__(self, x, *, train):
        return x


class Linear(Chain):
    """A head on the image."""

    def published(self):
        return {"same": Same, "head": functools.partial(Head, self.num_classes, self.dtype)}


def step(objective, *, mode="jit", devices=1, accumulate=1):
    """(loss, gradient of the bias, of the kernel) of one step."""
    parallel = make_parallel(mode, {"data": -1}, jax.devices()[:devices])
    model = Linear(num_classes=objective.num_outputs, axis_name=parallel.axis_name)
    kernel = np.resize(KERNEL, (3, objective.num_outputs))
    params = {"head": {"head": {"kernel": kernel, "bias": np.zeros(objective.num_outputs, np.float32)}}}
    plan = make_plan(model, {"params": params, "batch_stats": {}}, "")
    tx = optax.selective_transform(optax.sgd(1.0), freeze_mask=plan.freeze_mask(params))
    train_step = make_train_step(
        *(model, plan, tx),
        schedule=None,
        objective=objective,
        inputs=Input(lambda images, rng: images / 255.0),
        seed=0,
        accumulate=accumulate,
        axis_name=parallel.axis_name,
    )
    state = parallel.place_state(TrainState(np.int32(0), params, {}, tx.init(params)))
    batch = parallel.place_batch(BATCH)
    after, sums = parallel.compile(train_step, state, batch, donate=False)(state, batch)
    moved = jax.tree.map(lambda old, new: old - np.asarray(new), params, after.params)["head"]["head"]
    return float(sums["objective"]) / float(sums["count"]), moved["bias"], moved["kernel"]


@pytest.mark.parametrize(
    ("smoothing", "how"),
    [
        (0.0, {}),
        (0.1, {}),
        (0.1, {"accumulate": 2}),
        (0.1, {"devices": 8}),
        (0.1, {"devices": 4, "mode": "pmap", "accumulate": 2}),
    ],
)
def test_a_step_is_torchs(smoothing, how):
    loss, bias, kernel = GOLDEN[smoothing]
    found = step(Objective("softmax", 3, smoothing, WEIGHTS), **how)
    assert found[0] == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(found[1], bias, atol=1e-6)
    np.testing.assert_allclose(found[2][0], kernel, atol=1e-6)


def test_weights_that_are_alike_change_nothing():
    """As with torch, whatever they are; where images have several labels they multiply."""
    one, three = (step(Objective("softmax", 3, 0.1, (weight,) * 3)) for weight in (1.0, 3.0))
    plain = step(Objective("softmax", 3, 0.1))
    for found in (one, three):
        for value, wanted in zip(found, plain, strict=True):
            np.testing.assert_allclose(value, wanted, atol=1e-6)


def test_mixed_targets_weigh_by_their_shares():
    objective = Objective("softmax", 3, 0.1, WEIGHTS)
    first, second = objective.targets(np.array([0, 2]))
    mixed = np.stack([0.75 * first + 0.25 * second, second])
    assert float(objective.divisor(mixed, np.array([True, False]))) == pytest.approx(0.75 * 1 + 0.25 * 5)


def test_a_batch_that_weighs_nothing_teaches_nothing():
    nothing = Objective("softmax", 4, 0.0, (0.0, 0.0, 0.0, 1.0))
    loss, bias, moved = step(nothing)
    assert loss == 0 and not bias.any() and not moved.any()
