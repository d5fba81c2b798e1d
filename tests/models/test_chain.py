"""The zoo's contract: exact parameter counts, pinned names, and any part of a chain run alone."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jft import tree
from jft.models import MODELS, between, create_model

COUNTS = {
    "vgg11": 132_863_336,
    "vgg13": 133_047_848,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "vgg11_bn": 132_868_840,
    "vgg13_bn": 133_053_736,
    "vgg16_bn": 138_365_992,
    "vgg19_bn": 143_678_248,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "squeezenet1_0": 1_248_424,
    "squeezenet1_1": 1_235_496,
    "vgg_tiny": 158_344,
}

SMALL = {"vgg_tiny": 32, "vgg11_bn": 32, "resnet18": 32, "resnet50": 32, "squeezenet1_0": 48, "squeezenet1_1": 48}


def shapes(model, size=224):
    images = jnp.zeros((1, size, size, 3))
    return jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))


def count(params):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def test_every_model_has_a_count():
    assert set(COUNTS) == set(MODELS)


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_count(name):
    model = create_model(name)
    variables = shapes(model, 32 if name == "vgg_tiny" else 224)
    assert count(variables["params"]) == COUNTS[name]
    # The stages are the top-level keys, and the last one is the head, whose classifying layer is called head too.
    stages = tuple(model.stages())
    assert set(variables["params"]) == set(stages)
    assert stages[-1] == "head"
    assert variables["params"]["head"]["head"]["bias"].shape == (1000,)


def test_vgg16_with_one_output_unit():
    params = shapes(create_model("vgg16", num_classes=1))["params"]
    assert count(params) == 134_264_641
    assert count(params["head"]) == 4_097


# Names are public API: weight rules, freeze patterns and checkpoints hold them.
NAMES = {
    "vgg_tiny": [
        "block1/conv1_1/bias",
        "block1/conv1_1/kernel",
        "block2/conv2_1/bias",
        "block2/conv2_1/kernel",
        "block3/conv3_1/bias",
        "block3/conv3_1/kernel",
        "fc6/dense/bias",
        "fc6/dense/kernel",
        "fc7/dense/bias",
        "fc7/dense/kernel",
        "head/head/bias",
        "head/head/kernel",
    ],
    "squeezenet1_1": [
        "conv1/conv1/bias",
        "conv1/conv1/kernel",
        *[
            f"fire{i}/{layer}/{leaf}"
            for i in range(2, 10)
            for layer in ("expand1x1", "expand3x3", "squeeze1x1")
            for leaf in ("bias", "kernel")
        ],
        "head/head/bias",
        "head/head/kernel",
    ],
    "resnet18": [
        "head/head/bias",
        "head/head/kernel",
        *[
            f"layer{i}/block{b}/{layer}"
            for i in range(1, 5)
            for b in range(2)
            for layer in [
                "bn1/bias",
                "bn1/scale",
                "bn2/bias",
                "bn2/scale",
                "conv1/kernel",
                "conv2/kernel",
                *(["downsample_bn/bias", "downsample_bn/scale", "downsample_conv/kernel"] if i > 1 and b == 0 else []),
            ]
        ],
        "stem/bn1/bias",
        "stem/bn1/scale",
        "stem/conv1/kernel",
    ],
}


@pytest.mark.parametrize("name", NAMES)
def test_leaf_names(name):
    params = shapes(create_model(name), 64)["params"]
    assert sorted(tree.flatten(params)) == NAMES[name]


@pytest.mark.parametrize("name", SMALL)
def test_stop_then_start_equals_the_whole(name):
    model = create_model(name, num_classes=7, **({"hidden": 16} if name == "vgg11_bn" else {}))
    images = jax.random.normal(jax.random.key(1), (2, SMALL[name], SMALL[name], 3))
    variables = jax.jit(lambda: model.init(jax.random.key(0), images, train=False))()

    @functools.partial(jax.jit, static_argnums=(2, 3))
    def apply(variables, x, start, stop):
        return model.apply(variables, x, train=False, start=start, stop=stop)

    run = functools.partial(apply, variables)
    whole = run(images, None, None)
    assert whole.shape == (2, 7)
    assert whole.dtype == jnp.float32
    for stage in list(model.stages())[:-1]:
        np.testing.assert_array_equal(run(run(images, None, stage), stage, None), whole, err_msg=stage)


def test_between_names_the_stages_it_knows():
    names = ("stem", "layer1", "head")
    assert between(names, None, None) == names
    assert between(names, "stem", "layer1") == ("layer1",)
    with pytest.raises(ValueError, match=r"unknown stage 'layer9', did you mean 'layer1'\?"):
        between(names, None, "layer9")
    with pytest.raises(ValueError, match="no stage lies after 'head' and up to 'stem'"):
        between(names, "head", "stem")


def test_vgg_other_sizes():
    images = jnp.zeros((1, 64, 64, 3))
    fixed = create_model("vgg11", adaptive_pool=False)
    with pytest.raises(ValueError, match="fc6 reads a 7x7 map, which 224-pixel images give, but got 2x2"):
        jax.eval_shape(lambda: fixed.init(jax.random.key(0), images, train=False))
    assert count(shapes(create_model("vgg11"), 64)["params"]) == COUNTS["vgg11"]


def test_images_too_small():
    with pytest.raises(ValueError, match="stage 'block5' has an empty output"):
        shapes(create_model("vgg11"), 16)


def test_unknown_model():
    with pytest.raises(ValueError, match=r"unknown model 'vgg17', did you mean 'vgg1\d'\?"):
        create_model("vgg17")


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_parameters():
    model = create_model("resnet18", num_classes=3, dtype=jnp.bfloat16)
    images = jnp.ones((2, 32, 32, 3))
    variables = jax.jit(lambda: model.init(jax.random.key(0), images, train=False))()
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert model.apply(variables, images, train=False, stop="layer1").dtype == jnp.bfloat16
    logits, updated = jax.jit(lambda v: model.apply(v, images, train=True, mutable=["batch_stats"]))(variables)
    assert logits.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(updated)} == {jnp.dtype("float32")}
