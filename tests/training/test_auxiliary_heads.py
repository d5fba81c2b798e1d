"""Auxiliary heads: they teach in training at their weights, are frozen with their stage, and are absent otherwise."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from on_demand import on_demand

from jft.config import default_config
from jft.evaluation.evaluate import evaluate
from jft.evaluation.restore import restore
from jft.metrics.losses import Objective
from jft.models import MODELS, create_model, initialize
from jft.models.chain import AuxiliaryHead, Chain
from jft.models.layers import BatchNorm
from jft.training import optim
from jft.training.freeze import make_plan
from jft.training.loop import train as train_a_run
from jft.training.step import Input, TrainState, make_train_step
from jft.utils import tree
from jft.utils.mesh import make_parallel


class Stage(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        return nn.relu(BatchNorm(name="bn")(nn.Conv(4, (3, 3), name="conv")(x), train=train))


class Classify(nn.Module):
    num_classes: int

    @nn.compact
    def __call__(self, x, *, train):
        return nn.Dense(self.num_classes, name="head")(jnp.mean(x, axis=(1, 2)))


class Side(Chain):
    """Three stages, with auxiliary heads after the first and the second."""

    def published(self):
        return {"a": Stage, "b": Stage, "c": Stage, "head": functools.partial(Classify, self.num_classes)}

    def auxiliary_heads(self):
        classify = functools.partial(Classify, self.num_classes)
        return {"aux1": AuxiliaryHead("a", classify, 0.3), "aux2": AuxiliaryHead("b", classify, 0.5)}


MODEL = Side(num_classes=3, aux_heads=True)
BATCH = {
    "image": np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), np.uint8),
    "label": np.arange(8, dtype=np.int32) % 3,
    "mask": np.arange(8) < 7,
}


@pytest.fixture(scope="module")
def variables():
    return initialize(MODEL, 8, seed=0)


def train(model, variables, freeze="", steps=1, accumulate=1):
    config = default_config()
    config.update({"learning_rate": 1e-2, "weight_decay": 0.1})
    plan = make_plan(model, variables, freeze)
    tx = optim.make_optimizer(config, plan.freeze_mask(variables["params"]))
    step = make_train_step(
        *(model, plan, tx),
        schedule=optax.constant_schedule(config.learning_rate),
        objective=Objective("softmax", model.num_classes),
        inputs=Input(lambda images, rng: images / 255.0 - 0.5),
        seed=0,
        accumulate=accumulate,
    )
    state = TrainState(step=jnp.int32(0), opt_state=tx.init(variables["params"]), **variables)
    for _ in range(steps):
        state, sums = jax.jit(step)(state, BATCH)
    return state, sums


def moved(before, after):
    before, after = tree.flatten(before), tree.flatten(after)
    return {name.split("/")[0] for name in before if not np.array_equal(before[name], after[name])}


def test_the_objective_is_the_weighted_sum_and_the_metrics_are_the_heads(variables):
    _, sums = train(MODEL, variables)
    images = BATCH["image"] / np.float32(255.0) - np.float32(0.5)
    logits, updated = MODEL.apply(variables, images, train=True, mutable=["auxiliary", "batch_stats"])
    assert {name: x.shape for name, x in updated["auxiliary"]["logits"].items()} == {"aux1": (8, 3), "aux2": (8, 3)}
    losses = {
        name: float(jnp.sum(BATCH["mask"] * optax.softmax_cross_entropy_with_integer_labels(x, BATCH["label"])))
        for name, x in {"head": logits, **updated["auxiliary"]["logits"]}.items()
    }
    assert sums["loss"] == pytest.approx(losses["head"], rel=1e-5)
    assert sums["objective"] == pytest.approx(losses["head"] + 0.3 * losses["aux1"] + 0.5 * losses["aux2"], rel=1e-5)


@on_demand("micro-batches are always run without them")
def test_micro_batches_have_them_too(variables):
    _, whole = train(MODEL, variables)
    _, folded = train(MODEL, variables, accumulate=2)
    assert float(folded["objective"]) > 1.5 * float(folded["loss"])
    assert folded["objective"] == pytest.approx(float(whole["objective"]), rel=0.2)  # BatchNorm sees halves


@pytest.mark.parametrize(
    ("freeze", "learns"),
    [
        ("", {"a", "b", "c", "head", "aux1", "aux2"}),
        ("a", {"b", "c", "head", "aux2"}),
        ("b", {"c", "head"}),
        ("a b/.*", {"c", "head"}),
        ("b/.* c/.* aux1/.*", {"a", "head", "aux2"}),
    ],
)
def test_a_head_is_frozen_with_its_stage(variables, freeze, learns):
    state, _ = train(MODEL, variables, freeze, steps=3)
    assert moved(variables["params"], state.params) == learns
    assert moved(variables["batch_stats"], state.batch_stats) == learns & {"a", "b", "c"}


def test_nothing_but_auxiliary_heads_to_learn_is_nothing(variables):
    with pytest.raises(ValueError, match="nothing is trainable"):
        make_plan(MODEL, variables, "head")


def test_absent_unless_asked_for_and_in_inference(variables):
    without = Side(num_classes=3)
    assert set(initialize(without, 8, seed=0)["params"]) == {"a", "b", "c", "head"}
    images = jnp.ones((2, 8, 8, 3))
    bare = {kind: {k: v for k, v in leaves.items() if "aux" not in k} for kind, leaves in variables.items()}
    inference = functools.partial(MODEL.apply, variables, images, train=False)
    np.testing.assert_array_equal(inference(), without.apply(bare, images, train=False))
    assert "auxiliary" not in inference(mutable=["auxiliary"])[1]


def test_images_too_small_for_an_auxiliary_head():
    class Picky(Side):
        def auxiliary_heads(self):
            pool = type("Pool", (nn.Module,), {"__call__": lambda self, x, train: x[:, :0]})
            return {"aux": AuxiliaryHead("a", pool, 1.0)}

    with pytest.raises(ValueError, match="stage 'aux' has an empty output"):
        initialize(Picky(num_classes=3, aux_heads=True), 8, seed=0)


def test_a_run_trains_saves_and_evaluates_with_them(tmp_path, monkeypatch, one_device):
    monkeypatch.setitem(MODELS._rows, "side", Side)
    config = default_config()
    config.update({"dataset": "digits", "model": "side", "weights": "", "image_size": 8, "steps": 2, "aux_heads": True})
    config.update({"examples_per_class": 8, "evaluate_every": 100.0})
    result = train_a_run(config, tmp_path / "run")
    trained = restore(tmp_path / "run", make_parallel("jit"))
    assert result["finished"] and trained.model.aux_heads
    assert {"aux1", "aux2"} < set(trained.variables["params"])
    assert evaluate(tmp_path / "run")["count"] == 359


def test_a_model_without_any_is_an_error(tmp_path):
    config = default_config()
    config.update({"dataset": "digits", "model": "vgg_tiny", "weights": "", "aux_heads": True})
    with pytest.raises(ValueError, match="vgg_tiny has no auxiliary heads"):
        train_a_run(config, tmp_path / "run")


def test_a_cut_before_an_auxiliary_head_is_an_error():
    assert create_model("googlenet", num_classes=3, aux_heads=True, cut="4d").aux_heads
    with pytest.raises(ValueError, match="cut = '4b' leaves out what aux2 read: set aux_heads = False"):
        create_model("googlenet", num_classes=3, aux_heads=True, cut="4b")
