"""A head on all stages, in runs: what it reads, what may be frozen, and that such runs are shown and exported."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_chain
import small_digits

import jft
from jft.config import default_config
from jft.data.augment import Augmentation
from jft.evaluation.evaluate import evaluate
from jft.evaluation.gradcam import default_stage, make_grad_cam
from jft.evaluation.load import load
from jft.evaluation.restore import restore
from jft.exporters.onnx import file as onnx_file
from jft.features import candidates
from jft.metrics.losses import Objective
from jft.models import create_model
from jft.models.chain import initialize
from jft.training.baselines import fields_of
from jft.training.freeze import apply_trainable, make_plan
from jft.training.loop import checked_run, train
from jft.training.probe_features import extract_stages, probe_run
from jft.utils import tree
from jft.utils.interrupt import Interrupt
from jft.utils.mesh import make_parallel

# One worker trains for all of them.
pytestmark = [pytest.mark.xdist_group("solve"), pytest.mark.usefixtures("quick")]
OWN = {"head": "linear", "pool": "stages", "solver": "lda", "freeze": ""}


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    """Config, folder and result of a run of shrinkage LDA on all stages."""
    folder = tmp_path_factory.mktemp("stages")
    config = small_digits.make(folder / "features", **OWN)
    with small_digits.quick():
        return config, folder / "run", train(config, folder / "run")


def network(name, size, **options):
    model = create_model(name, num_classes=4, new_head="linear", pool="stages", **options)
    return model, initialize(model, size, 0)


@pytest.mark.parametrize(("name", "pool"), [("vgg_tiny", "average"), ("vit_tiny_patch16", "token")])
def test_it_reads_every_stage_at_length_1(name, pool):
    model, variables = network(name, 32, **({"depth": 2} if "vit" in name else {}))
    assert type(model).pool == pool
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    expected = []
    for stage in [*model.stages()][:-2]:
        y = np.asarray(model.apply(variables, x, train=False, stop=stage))
        y = y[:, 0] if y.ndim == 3 else y.mean((1, 2)) if y.ndim == 4 else y
        expected.append(y / np.linalg.norm(y, axis=-1, keepdims=True))
    joined = model.apply(variables, x, train=False, stop="joined")
    np.testing.assert_allclose(joined, np.concatenate(expected, -1), rtol=1e-4, atol=1e-6)
    logits = model.apply(variables, x, train=False)
    np.testing.assert_array_equal(logits, model.apply(variables, joined, train=False, start="joined"))
    kernel, bias = (variables["params"]["head"]["head"][name] for name in ("kernel", "bias"))
    np.testing.assert_allclose(logits, joined @ kernel + bias, rtol=1e-4, atol=1e-5)


def test_it_cannot_run_from_the_middle():
    model, variables = network("vgg_tiny", 32)
    x = np.ones((1, 16, 16, 16), np.float32)
    with pytest.raises(ValueError, match="those before 'block1' are not known: run it from the images, or from 'join"):
        model.apply(variables, x, train=False, start="block1")
    assert model.apply(variables, x, train=False, start="block1", stop="block2").shape == (1, 8, 8, 32)
    with pytest.raises(ValueError, match="pool = 'stages' is of a linear head: give head = 'linear' too"):
        create_model("vgg_tiny", pool="stages")


def test_the_run_is_the_probe_of_all_stages(probe):
    config, workdir, _ = probe
    run, state, _ = probe_run(config)  # `jft probe` of the same config
    with Interrupt() as interrupt:
        features = extract_stages(run, state, run.train_source, Augmentation(), interrupt)
    model = load(workdir)
    pixels = np.stack([run.train_source.images[row] for row in range(20)])
    np.testing.assert_allclose(model.features(pixels, "joined"), features.normalized()[:20, 0], rtol=1e-3, atol=1e-5)
    assert evaluate(workdir)["accuracy"] > 0.9


def test_it_is_explained_and_exported(probe, tmp_path):
    _, workdir, _ = probe
    run = jft.load(workdir)
    files = {file.name: file for file in run.export(tmp_path / "out")}
    assert files["model.stablehlo"].error < 1e-5
    assert "pool='average' instead of 'stages'" in files["weights_torchvision.safetensors"].why
    if not onnx_file.missing():
        assert files["model.onnx"].error < 1e-5
    again = run.save(tmp_path / "own.safetensors")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(jft.load(again).predict(pixels), run.predict(pixels))


def test_a_map_counts_what_later_stages_make_of_it():
    model, variables = network("vgg_tiny", 32)
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    run = functools.partial(model.apply, variables, train=False)
    earlier = [run(x, stop=stage).mean((1, 2)) for stage in ("block1", "block2")]
    output, classes = run(x, stop="block3"), np.array([0, 2])

    def logit(features):
        dense = [run(features, start="block3", stop=stage) for stage in ("fc6", "fc7")]
        vectors = [*earlier, features.mean((1, 2)), *dense]
        joined = jnp.concatenate([v / jnp.linalg.norm(v, axis=-1, keepdims=True) for v in vectors], -1)
        return run(joined, start="joined")[np.arange(2), classes].sum()

    weights = jax.grad(logit)(output).mean((1, 2))
    wanted = jax.nn.relu((output * weights[:, None, None]).sum(-1))
    found = make_grad_cam(model, stage="block3", objective=Objective("softmax", 4))(variables, x, classes)
    assert wanted.max() > 1e-4
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3 * wanted.max())


def test_the_default_map_is_one_that_the_head_reads():
    model = create_model("vit_tiny_patch16", new_head="linear", pool="stages")
    assert default_stage(model, 224) == "block11"  # 'norm' is read by its class token alone


class Dropping(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        return nn.Dropout(0.5, deterministic=not train)(nn.Conv(4, (3, 3))(x))


class Dropped(small_chain.Small):
    def published(self):
        return {**super().published(), "a": Dropping}


def test_frozen_stages_run_in_inference_mode():
    model = Dropped(num_classes=3, new_head="linear", pool="stages")
    variables = initialize(model, 8, 0)
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)

    def logits(freeze, seed):
        plan = make_plan(model, variables, freeze)
        assert plan.boundary is None and plan.frozen_stages == (("a",) if freeze else ())
        rngs = {"dropout": jax.random.key(seed)}
        parts = plan.split(variables["params"])
        return np.asarray(apply_trainable(model, plan, *parts, variables["batch_stats"], x, rngs)[0])

    np.testing.assert_array_equal(logits("a", 0), logits("a", 1))
    assert np.abs(logits("", 0) - logits("", 1)).max() > 1e-3


def test_the_fields_of_a_probe_change_what_the_config_says_otherwise():
    def fields(features, pool):
        config = default_config()
        config.pool = pool
        one = candidates.Candidate("lda", features, "no", "", np.zeros(1), 1.0, 1.0, choice=object())
        return fields_of(one, config)

    assert fields("last", "") == fields("last", "token") == fields("all", "stages") == {"solver": "lda"}
    assert fields("last", "stages") == {"solver": "lda", "pool": ""}
    assert fields("all", "") == {"solver": "lda", "pool": "stages"}
    assert fields("last, networks", "") == {}


def test_what_is_frozen_stays_though_nothing_is_cached(tmp_path):
    own = {**OWN, "solver": "steps", "freeze": "block2", "steps": 3, "batch_size": 32}
    config = small_digits.make(tmp_path / "features", **own)
    [phase] = checked_run(config, tmp_path / "run").phases
    assert phase.plan.boundary is None and "block2/conv2_1/kernel" in phase.plan.frozen
    train(config, tmp_path / "run")
    before = tree.flatten(load("vgg_tiny.digits04").variables["params"])
    after = tree.flatten(restore(tmp_path / "run", make_parallel("jit")).variables["params"])
    moved = {name for name, leaf in after.items() if name in before and not np.array_equal(leaf, before[name])}
    assert {name.split("/")[0] for name in moved} == {"block3", "fc6", "fc7", "head"}
