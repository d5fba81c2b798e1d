"""BatchNorm in training mode: the running statistics against torch's, whose variance is unbiased, and live Keras'.

The golden is made by scripts/golden/make_batchnorm.py.
"""

import functools
import os
import pathlib

import jax
import numpy as np
import pytest
from batchnorm_case import MAPS, SIZES, STEPS, batch
from on_demand import on_demand

from jft.models import abstract_variables, create_model, layers
from jft.utils import tree
from jft.weights import catalog, rules, seeded


@functools.cache
def golden():
    return dict(np.load(pathlib.Path(__file__).parents[1] / "golden" / "batchnorm.npz"))


def train(module, variables, name, shape, **options):
    """The running statistics after two batches in training mode, and the last output."""
    apply = jax.jit(functools.partial(module.apply, train=True, mutable=["batch_stats"], **options))
    for step in range(STEPS):
        y, updated = apply(variables, batch(name, step, shape))
        variables = {**variables, **updated}
    return variables["batch_stats"], y


def unbiased(start, after, n, kept):
    """The running variance had every batch's been its unbiased one: n / (n - 1) times as large."""
    rest = kept**STEPS * start
    return rest + (after - rest) * n / (n - 1)


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, atol=1e-4 * np.max(np.abs(wanted)))


def documented(name, shape, momentum):
    """torch.nn.BatchNorm2d's rule in NumPy: mean and variance after two batches, from 0 and 1."""
    mean, var = np.zeros(shape[-1]), np.ones(shape[-1])
    for step in range(STEPS):
        x = batch(name, step, shape).astype(np.float64)
        mean = (1 - momentum) * mean + momentum * x.mean((0, 1, 2))
        var = (1 - momentum) * var + momentum * x.var((0, 1, 2), ddof=1)
    return mean, var


@pytest.mark.parametrize("shape", MAPS)
def test_one_layer_as_torch(shape):
    height, channels = shape[1], shape[-1]
    norm = layers.BatchNorm()
    stats, y = train(norm, norm.init(jax.random.key(0), np.zeros(shape), train=False), str(height), shape)
    n = shape[0] * shape[1] * shape[2]
    var = unbiased(np.ones(channels), stats["var"], n, kept=0.9)
    for mean_and_var in (
        documented(str(height), shape, momentum=0.1),
        (golden()[f"layer/{height}/mean"], golden()[f"layer/{height}/var"]),
    ):
        np.testing.assert_allclose(stats["mean"], mean_and_var[0], rtol=1e-5)
        np.testing.assert_allclose(var, mean_and_var[1], rtol=1e-5)
    # As they stand they differ by what the estimate of the variance does, and by nothing else.
    assert np.all(stats["var"] < mean_and_var[1])
    np.testing.assert_allclose(y, golden()[f"layer/{height}/y"], atol=1e-5)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras' tensors, NumPy 2
def test_one_layer_as_keras():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras

    shape = (2, 5, 5, 4)
    theirs = keras.layers.BatchNormalization()
    for step in range(STEPS):
        wanted = theirs(batch("keras", step, shape), training=True)
    assert theirs.momentum == 0.99
    ours = layers.BatchNorm(momentum=0.99, epsilon=theirs.epsilon)
    stats, y = train(ours, ours.init(jax.random.key(0), np.zeros(shape), train=False), "keras", shape)
    np.testing.assert_allclose(stats["mean"], theirs.moving_mean, rtol=1e-5)
    np.testing.assert_allclose(stats["var"], theirs.moving_variance, rtol=1e-5)
    np.testing.assert_allclose(y, wanted, atol=1e-5)


def loaded(name):
    """The model with torchvision's options, its seeded variables but fully connected ones, and the rules' sources."""
    row = catalog.find_row(name, "torchvision")
    model = create_model(name, **row.options, aux_heads=name == "googlenet")
    shapes = tree.flatten(abstract_variables(model, SIZES[name]))
    if name == "vgg11_bn":  # a hundred million numbers that no BatchNorm sees
        shapes = {leaf: x for leaf, x in shapes.items() if "/block" in leaf}
    table = [rule for rule in rules.rules_for(row, model) if rule.target in shapes]
    tensors = seeded.seeded_torch(rules.source_shapes(table, shapes))
    leaves = {rule.target: rule.transform.forward(*(tensors[s] for s in rule.sources)) for rule in table}
    assert set(leaves) == set(shapes)
    return model, leaves, {rule.sources[0]: rule.target for rule in table}


LONG = dict.fromkeys(("inception_v3", "googlenet"), on_demand("resnet18 and vgg11_bn have the same layer"))


@pytest.mark.parametrize("name", [pytest.param(name, marks=LONG.get(name, ())) for name in SIZES])
def test_models_as_torchvision(name):
    model, leaves, targets = loaded(name)
    options = {"stop": "block5"} if name == "vgg11_bn" else {"rngs": {"dropout": jax.random.key(0)}}
    size = SIZES[name]
    stats, _ = train(model, tree.unflatten(leaves), name, (4, size, size, 3), **options)
    after = {f"batch_stats/{leaf}": x for leaf, x in tree.flatten(stats).items()}
    norms = {
        key.removesuffix(".n"): int(n) for key, n in golden().items() if key.startswith(name) and key.endswith(".n")
    }
    assert len(norms) == (4 if name == "googlenet" else 2)
    for norm, n in norms.items():
        mean, var = (targets[f"{norm.partition('/')[2]}.running_{leaf}"] for leaf in ("mean", "var"))
        wanted_mean, wanted_var = (golden()[f"{norm}.running_{leaf}"] for leaf in ("mean", "var"))
        assert np.max(np.abs(wanted_mean - leaves[mean])) > 0.01 * np.max(np.abs(wanted_mean))
        close(after[mean], wanted_mean)
        close(unbiased(leaves[var], after[var], n, kept=0.9), wanted_var)


@pytest.mark.parametrize("name", ["resnet50", "inception_v3"])
@pytest.mark.parametrize(("dialect", "kept"), [("torchvision", 0.9), ("keras", 0.99)])
def test_rows_choose_the_momentum(name, dialect, kept):
    model = create_model(name, **catalog.find_row(name, dialect).options)
    images = batch(name, 0, (2, 32, 32, 3))
    init = functools.partial(model.init, jax.random.key(0), train=False, stop="stem")
    shapes = {leaf: x.shape for leaf, x in tree.flatten(jax.eval_shape(init, images)).items()}
    leaves = seeded.seeded_leaves(shapes)
    apply = functools.partial(model.apply, train=True, stop="stem", mutable=["batch_stats", "intermediates"])
    _, updated = jax.jit(functools.partial(apply, capture_intermediates=True))(tree.unflatten(leaves), images)
    seen = tree.flatten(updated["intermediates"])
    means = [leaf for leaf in leaves if leaf.endswith("/mean")]
    assert len(means) == (1 if name == "resnet50" else 5)
    for leaf in means:
        conv = leaf.removeprefix("batch_stats/").removesuffix("/mean").replace("bn", "conv")
        moved = tree.flatten(updated)[leaf] - kept * leaves[leaf]
        close(moved / (1 - kept), np.mean(seen[f"{conv}/__call__"][0], axis=(0, 1, 2)))
