"""Micro-batches: the figures of the whole batch, and how many of them `accumulate = 'auto'` takes."""

import functools
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_chain import Small, images
from small_vgg import config_of, killing, saved_meta

from jft.config import default_config
from jft.data.augment import Augmentation, make_train_transform
from jft.data.feeds import resident
from jft.data.transforms import Preprocess
from jft.evaluation.restore import restore
from jft.metrics.losses import Objective
from jft.models import MODELS, initialize, layers
from jft.training import optim, programs
from jft.training.freeze import make_plan
from jft.training.loop import train
from jft.training.phase_run import PhaseRun
from jft.training.progress import Window
from jft.training.run import create_run
from jft.training.step import Input, TrainState, make_train_step
from jft.utils import memory, tree
from jft.utils.mesh import make_parallel

HEAD = {"num_classes": 4, "new_head": "linear", "head_hidden": (16,), "head_dropout": 0.5}


class Branch(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        return x + layers.DropPath(0.5)(nn.Conv(4, (3, 3), name="conv")(x), train=train)


class Residual(Small):
    """Small, whose last stage has a branch with stochastic depth."""

    def published(self):
        return {**super().published(), "c": Branch}


def one_step(model, accumulate, images):
    """Gradient descent at rate 1 with random augmentation, mixing and dropout: what learns afterwards, and sums."""
    variables = initialize(model, 8, seed=0)
    plan = make_plan(model, variables, "a", batch_norm="frozen")
    config = default_config()
    config.update({"optimizer": "sgd", "momentum": 0.0})
    tx = optim.make_optimizer(config, plan.freeze_mask(variables["params"]))
    augmentation = Augmentation(flip=True, crop_padding=0.25)
    step = make_train_step(
        model,
        plan,
        tx,
        schedule=optax.constant_schedule(1.0),
        objective=Objective("softmax", 4),
        inputs=Input(
            make_train_transform(Preprocess().at(8), fit="whole", augmentation=augmentation),
            functools.partial(augmentation.draw, fit="whole"),
            lambda images, targets, key: ((images + images[::-1]) / 2, (targets + targets[::-1]) / 2),
        ),
        seed=0,
        accumulate=accumulate,
    )
    state = TrainState(step=jnp.int32(3), opt_state=tx.init(variables["params"]), **variables)
    batch = {"image": images, "label": np.arange(12, dtype=np.int32) % 4, "mask": np.ones(12, bool)}
    state, sums = jax.jit(step)(state, batch)
    return plan.split(state.params)[0], sums


@pytest.mark.parametrize("model", [Small(**HEAD), Residual(**HEAD)], ids=["dropout", "stochastic depth"])
def test_what_is_random_is_that_of_the_whole_batch(model):
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    whole, sums = one_step(model, 1, images)
    parts, told = one_step(model, 3, images)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), whole, parts)
    for name in sums:
        np.testing.assert_allclose(told[name], sums[name], rtol=1e-5, err_msg=name)


CHAIN = {"model": "chain", "image_size": 16, "classes": (), "examples_per_class": 0, "validation": 0.0, "steps": 3}


@pytest.fixture(autouse=True)
def nothing_on_the_devices(monkeypatch):
    """What earlier tests placed there, and still hold, would count."""
    monkeypatch.setattr(resident, "nbytes_held", lambda parallel: 0)


@pytest.fixture
def config(one_device, monkeypatch, tmp_path):
    """Of 16 images in a step, whose BatchNorms stay, with micro-batches chosen."""
    monkeypatch.setitem(MODELS._rows, "chain", functools.partial(Small, new_head="linear", head_dropout=0.5))
    return config_of(**CHAIN, accumulate="auto", batch_norm="frozen", checkpoint_every=1, log_every=1)


@pytest.fixture
def measured(monkeypatch):
    """Programs are not compiled, and take as many bytes as their micro-batches have images, and 100; those compiled."""
    tried = []

    def compiled(run, phase, batch):
        tried.append(run.accumulate)
        return run.config.batch_size // run.accumulate + 100

    monkeypatch.setattr(programs, "compile_train_step", compiled)
    monkeypatch.setattr(memory, "program_bytes", int)
    return tried


def fitted(run):
    """Of a run of one phase, whose example the patched compilers do not look at."""
    return programs.fitted(run, [PhaseRun(run.phases[0], False, "", example={})])


@pytest.mark.parametrize(("limit", "parts"), [(None, 1), (388, 1), (387, 2), (148, 6), (147, 8), (101, 288)])
def test_the_fewest_that_fit(config, tmp_path, monkeypatch, measured, limit, parts):
    """Of the 18 divisors of 288 seven are tried at most; None: nobody says how much there is."""
    monkeypatch.setattr(memory, "usable", lambda parallel: limit)
    config.batch_size = 288
    chosen, [one], told = fitted(create_run(config, tmp_path / "run", images()))
    assert (chosen.accumulate, one.train_step) == (parts, 288 // parts + 100)
    assert f"accumulate = 'auto' uses {parts}: {288 // parts} images at a time" in told
    assert len(measured) <= 7


def test_images_that_live_on_the_device_leave_less(config, tmp_path, monkeypatch, measured):
    monkeypatch.setattr(memory, "usable", lambda parallel: 388)
    monkeypatch.setattr(resident, "nbytes_held", lambda parallel: 1)
    config.batch_size = 288
    assert fitted(create_run(config, tmp_path / "run", images()))[0].accumulate == 2


def test_what_cannot_fit_or_would_change_the_figures_is_refused(config, tmp_path, monkeypatch, measured):
    monkeypatch.setattr(memory, "usable", lambda parallel: 100)
    with pytest.raises(ValueError, match=r"a step of batch_size = 16 does not fit in memory: with one image at a time"):
        fitted(create_run(config, tmp_path / "run", images()))
    config.batch_norm = "statistics"
    monkeypatch.setattr(memory, "usable", lambda parallel: 104)
    with pytest.raises(
        ValueError, match=r"needs 4 micro-batches .* normalize by 4 images instead of 16, which changes"
    ):
        fitted(create_run(config, tmp_path / "run", images()))
    monkeypatch.setattr(memory, "usable", lambda parallel: 116)
    assert fitted(create_run(config, tmp_path / "run", images()))[0].accumulate == 1


def test_a_device_that_does_not_say_how_much_it_has_refuses_in_words(config, tmp_path, monkeypatch):
    def refuse(run, phase, batch):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    monkeypatch.setattr(programs, "compile_train_step", refuse)
    monkeypatch.setattr(memory, "usable", lambda parallel: None)
    with pytest.raises(ValueError, match=r"it takes more than the device has\. Freeze more stages"):
        fitted(create_run(config, tmp_path / "run", images()))


def test_a_run_keeps_what_it_chose_and_its_figures_are_the_whole_batchs(config, tmp_path, monkeypatch, capsys):
    parallel, compiled, compile_ = make_parallel("jit"), {}, programs.compile_train_step
    config.update({"steps": 2, "batch_size": 4, "input": "threads"})  # the limits below are those of the step alone

    def compile_or_recall(run, phase, batch):
        if run.accumulate not in compiled:
            compiled[run.accumulate] = compile_(run, phase, batch)
        return compiled[run.accumulate]

    monkeypatch.setattr(programs, "compile_train_step", compile_or_recall)
    monkeypatch.setattr(memory, "usable", lambda parallel: 1)
    with pytest.raises(ValueError, match="does not fit"):
        train(config, tmp_path / "run", images())
    assert not (tmp_path / "run").exists()
    needs = {parts: memory.program_bytes(program) for parts, program in compiled.items()}
    assert needs[4] < needs[1]
    monkeypatch.setattr(memory, "usable", lambda parallel: needs[4])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Window, "add", killing(Window.add, 2))
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "run", images())
    assert "accumulate = 'auto' uses 4: 1 images at a time" in capsys.readouterr().out
    monkeypatch.setattr(memory, "usable", lambda parallel: 10**9)  # for the whole batch, and a resumed run keeps to 4
    assert train(config, tmp_path / "run", images())["finished"]
    assert saved_meta(tmp_path / "run")["accumulate"] == 4
    assert json.loads((tmp_path / "run" / "config.json").read_text())["accumulate"] == "auto"
    train(config, tmp_path / "whole", images())
    assert saved_meta(tmp_path / "whole")["accumulate"] == 1
    parts, whole = (tree.flatten(restore(tmp_path / name, parallel).variables) for name in ("run", "whole"))
    for name, leaf in whole.items():
        np.testing.assert_allclose(parts[name], leaf, rtol=1e-4, atol=1e-5, err_msg=name)


def test_what_a_host_has_left(tmp_path, monkeypatch, one_device):
    """The least of what the host and the container have; CPU devices share it."""
    (tmp_path / "meminfo").write_text("MemTotal:  24684084 kB\nMemAvailable:   2000 kB\nHugePages_Total:       0\n")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert memory.host_available() == 2000 * 1024
    (tmp_path / "memory.max").write_text("1500000\n")
    (tmp_path / "memory.current").write_text("500000\n")
    assert memory.host_available() == 10**6
    assert memory.usable(make_parallel("jit")) == 900_000
    assert memory.usable(make_parallel("jit", None, jax.local_devices()[:2])) == 450_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.host_available() == 2000 * 1024
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "none")
    assert memory.host_available() is None and memory.usable(make_parallel("jit")) is None
