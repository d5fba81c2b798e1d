"""Plans: what a freeze string means, and that frozen leaves and statistics cannot move."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from plain_step import make_batch, make_state_and_step
from small_chain import Small

from jft.config import default_config
from jft.models import abstract_variables, initialize
from jft.models.resnet import ResNet
from jft.training import optim
from jft.training.freeze import make_plan
from jft.utils import tree

TINY = ResNet(blocks=(1, 1, 1, 1), bottleneck=False, num_classes=4)
SHAPES = abstract_variables(TINY, 32)
STAGES = ("stem", "layer1", "layer2", "layer3", "layer4", "head")
# What is stepped has two layers, at 16 pixels, or is smaller still: less to compile.
SHORT = ResNet(blocks=(1, 1), bottleneck=False, num_classes=4)
SMALL = Small(num_classes=4)


@pytest.fixture(scope="module")
def variables():
    return initialize(SMALL, 8, seed=0)


@pytest.mark.parametrize(
    ("freeze", "boundary", "learning"),
    [
        ("", None, set(STAGES)),
        ("layer3", "layer3", {"layer4", "head"}),
        ("stem layer[12]", "layer2", {"layer3", "layer4", "head"}),
        ("layer4", "layer4", {"head"}),
        ("layer[34]/.*", None, {"stem", "layer1", "layer2", "head"}),
        ("stem/.* layer1/block0/conv1", "stem", {"layer1", "layer2", "layer3", "layer4", "head"}),
    ],
)
def test_boundary_and_learning_stages(freeze, boundary, learning):
    plan = make_plan(TINY, SHAPES, freeze)
    assert plan.boundary == boundary
    learns, frozen = plan.split(SHAPES["params"])
    assert set(learns) == learning
    merged = tree.flatten(plan.merge(learns, frozen))
    assert merged.keys() == tree.flatten(SHAPES["params"]).keys()
    assert all(merged[name] is leaf for name, leaf in tree.flatten(SHAPES["params"]).items())


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        ("layer9", r"pattern 'layer9' matches none of \d+ names, did you mean 'layer\d'\?"),
        ("layer[", "freeze: 'layer\\[' is no regular expression"),
        ("layer1 conv1/.*", r"pattern 'conv1/\.\*' matches none"),
        ("head", "freeze all .* nothing is trainable"),
        (".*", "freeze all"),
    ],
)
def test_plans_that_mean_nothing(freeze, message):
    with pytest.raises(ValueError, match=message):
        make_plan(TINY, SHAPES, freeze)


def test_a_bias_before_a_moving_batch_norm_may_have_no_gradient():
    shapes = abstract_variables(SMALL, 8)  # each convolution has one
    plan = make_plan(SMALL, shapes, "a")
    away = {name for name in tree.flatten(shapes["params"]) if plan.normalized_away(name)}
    assert away == {"b/conv/bias", "c/conv/bias"}
    assert not make_plan(SMALL, shapes, "a", batch_norm="frozen").normalized_away("b/conv/bias")


@pytest.fixture(scope="module")
def with_minus_zeros():
    """x + 0 turns -0.0 into 0.0, so frozen leaves must not even get a zero added."""
    variables = initialize(SHORT, 16, seed=0)
    norm = variables["params"]["layer1"]["block0"]["bn1"]
    norm["bias"] = np.full(norm["bias"].shape, -0.0, np.float32)
    return variables


@pytest.mark.parametrize(
    ("optimizer", "freeze"),
    [("adamw", "layer1"), ("adam", "layer1/.* layer2/block0/bn1 .*/downsample.*"), ("sgd", "layer1")],
)
def test_frozen_leaves_and_statistics_are_bit_identical(with_minus_zeros, freeze, optimizer):
    plan, state, step = make_state_and_step(SHORT, with_minus_zeros, freeze, optimizer=optimizer)
    step = jax.jit(step)
    for _ in range(8):
        state, _ = step(state, make_batch(size=16))

    def moved(kind, after):
        before, after = tree.flatten(with_minus_zeros[kind]), tree.flatten(after)
        return {
            name for name, leaf in before.items() if np.asarray(leaf).tobytes() != np.asarray(after[name]).tobytes()
        }

    params = tree.flatten(state.params)
    assert np.signbit(params["layer1/block0/bn1/bias"]).all()
    assert moved("params", state.params) == params.keys() - plan.frozen
    norms = {name.rsplit("/", 1)[0] for name in params.keys() - plan.frozen if name.endswith("/scale")}
    assert moved("batch_stats", state.batch_stats) == {f"{norm}/{leaf}" for norm in norms for leaf in ("mean", "var")}


def test_optimizer_holds_nothing_for_frozen_leaves(variables):
    plan, state, _ = make_state_and_step(SMALL, variables, "c")
    learning = sum(leaf.size for leaf in jax.tree.leaves(plan.split(variables["params"])[0]))
    moments = sum(leaf.size for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim)
    assert moments == 2 * learning == 2 * (4 * 4 + 4)


def flops(function, *args):
    return jax.jit(function).lower(*args).compile().cost_analysis()["flops"]


def test_a_frozen_backbone_costs_a_forward_pass():
    variables = initialize(SMALL, 32, seed=0)
    _, state, step = make_state_and_step(SMALL, variables, "c")
    batch = make_batch(size=32)
    frozen = flops(step, state, batch)
    images = batch["image"].astype(np.float32)
    forward = flops(lambda v, x: SMALL.apply(v, x, train=False), variables, images)
    assert frozen <= 1.05 * forward  # the head is a hundredth of it
    _, state, step = make_state_and_step(SMALL, variables, "")
    assert flops(step, state, batch) > 2.5 * forward


def test_accumulation_equals_one_large_batch():
    """With BatchNorm frozen nothing but the order of sums differs; and of gradients there is one at a time."""
    model = Small(num_classes=4, new_head="linear", head_hidden=(4096,))
    variables, results = initialize(model, 8, seed=0), []
    options = {"optimizer": "sgd", "learning_rate": 1.0, "clip_norm": 0.0}
    for accumulate in (1, 4):
        _, state, step = make_state_and_step(model, variables, "c", accumulate=accumulate, **options)
        step = jax.jit(step).lower(state, make_batch()).compile()
        state, sums = step(state, make_batch())
        results.append((state.params["head"], sums))
    (one, one_sums), (four, four_sums) = results
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), one, four)
    assert one_sums["count"] == four_sums["count"] == 8
    np.testing.assert_allclose(one_sums["loss"], four_sums["loss"], rtol=1e-5)
    gradient = sum(leaf.nbytes for leaf in jax.tree.leaves(four))
    assert step.memory_analysis().temp_size_in_bytes < 2 * gradient


def test_clipping_reads_learning_leaves_alone(variables):
    """Infinite frozen gradients must not shrink the update, as they would through a global norm over all of them."""
    plan, _, _ = make_state_and_step(SMALL, variables, "c")
    config = default_config()
    config.update({"optimizer": "sgd", "momentum": 0.0, "clip_norm": 1.0})
    tx = optim.make_optimizer(config, plan.freeze_mask(variables["params"]))
    gradients = jax.tree.map(lambda p: jnp.full_like(p, jnp.inf), variables["params"])
    gradients["head"] = jax.tree.map(lambda p: jnp.full_like(p, 3.0), variables["params"]["head"])
    updates, _ = tx.update(gradients, tx.init(variables["params"]), variables["params"])
    assert float(optax.tree.norm(updates["head"])) == pytest.approx(1.0)
    assert all(not leaf.any() for leaf in jax.tree.leaves({k: v for k, v in updates.items() if k != "head"}))


def test_label_smoothing(variables):
    batch, losses = make_batch(), []
    for smoothing in (0.0, 0.4):
        _, state, step = make_state_and_step(SMALL, variables, "c", label_smoothing=smoothing)
        _, sums = jax.jit(step)(state, batch)
        losses.append(float(sums["objective"]))
        hard = float(sums["loss"])

    @jax.jit
    def log_probabilities(variables, images):
        return jax.nn.log_softmax(SMALL.apply(variables, images / 255.0 - 0.5, train=False))

    uniform = -np.mean(log_probabilities(variables, batch["image"]), axis=-1).sum()
    assert losses[0] == pytest.approx(hard, rel=1e-5)
    assert losses[1] == pytest.approx(0.6 * hard + 0.4 * uniform, rel=1e-4)
