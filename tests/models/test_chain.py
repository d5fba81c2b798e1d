"""The zoo's contract: exact parameter counts, pinned names, and any part of a chain run alone."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import kinds
import numpy as np
import pytest
from on_demand import on_demand

from jft.models import MODELS, abstract_variables, between, create_model
from jft.models.resnet import ResNet
from jft.utils import tree
from jft.weights import seeded
from jft.weights.catalog import CATALOG

COUNTS = {
    "alexnet": 61_100_840,
    "alexnet_caffe": 60_965_224,
    "vgg11": 132_863_336,
    "vgg13": 133_047_848,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "vgg11_bn": 132_868_840,
    "vgg13_bn": 133_053_736,
    "vgg16_bn": 138_365_992,
    "vgg19_bn": 143_678_248,
    "googlenet": 6_624_904,
    "googlenet_caffe": 6_998_552,
    "inception_v3": 23_834_568,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "squeezenet1_0": 1_248_424,
    "squeezenet1_1": 1_235_496,
    "efficientnet_b0": 5_288_548,
    "efficientnet_b1": 7_794_184,
    "efficientnet_b2": 9_109_994,
    "efficientnet_b3": 12_233_232,
    "efficientnet_b4": 19_341_616,
    "efficientnet_b5": 30_389_784,
    "efficientnet_b6": 43_040_704,
    "efficientnet_b7": 66_347_960,
    "efficientnet_v2_b0": 7_139_704,
    "efficientnet_v2_b1": 8_141_052,
    "efficientnet_v2_b2": 10_096_086,
    "efficientnet_v2_b3": 14_358_406,
    "efficientnet_v2_s": 21_458_488,
    "efficientnet_v2_m": 54_139_356,
    "efficientnet_v2_l": 118_515_272,
    "mobilenet_v1": 4_231_976,
    "mobilenet_v1_075": 2_585_560,
    "mobilenet_v1_050": 1_331_592,
    "mobilenet_v1_025": 470_072,
    "mobilenet_v2": 3_504_872,
    "mobilenet_v2_140": 6_108_776,
    "mobilenet_v2_130": 5_386_792,
    "mobilenet_v2_075": 2_636_424,
    "mobilenet_v2_050": 1_968_680,
    "mobilenet_v2_035": 1_677_128,
    "mobilenet_v3_large": 5_483_032,
    "mobilenet_v3_small": 2_542_856,
    "mobilenet_v4_conv_medium": 9_715_512,
    "mobilenet_v4_conv_small": 3_774_024,
    "efficientnet_lite0": 4_652_008,
    "efficientnet_lite1": 5_416_680,
    "efficientnet_lite2": 6_092_072,
    "efficientnet_lite3": 8_197_096,
    "efficientnet_lite4": 13_006_568,
    "vgg_tiny": 158_344,
    "cnn": 24_092_648,
}
WITH_AUXILIARY_HEADS = {"googlenet": 13_004_888, "googlenet_caffe": 13_378_280, "inception_v3": 27_161_264}

# Sides in pixels at which every stage has something to do, and options that keep the large layers small.
SMALL = {
    "alexnet": (64, {"hidden": 16}),
    "alexnet_caffe": (227, {"hidden": 16}),
    "cnn": (32, {}),
    "convnext_atto": (32, {"blocks": (1, 2, 1, 1), "width": 8}),
    "densenet121": (32, {"blocks": (2, 1), "growth": 8}),
    "googlenet": (48, {}),
    "googlenet_caffe": (48, {}),
    "inception_v3": (75, {}),
    "regnet_y_400mf": (32, {"depths": (1, 2), "widths": (16, 24)}),
    "resnet18": (32, {}),
    "resnet50": (32, {}),
    "squeezenet1_0": (48, {}),
    "squeezenet1_1": (48, {}),
    "vgg11_bn": (32, {"hidden": 16}),
    "vgg_tiny": (32, {}),
    "vit_tiny_patch16": (48, {"width": 32, "depth": 2, "heads": 2}),
}


def shapes(model, size=None):
    return abstract_variables(model, size or model.default_size)


def filled(model, size):
    """Variables drawn by their names, which takes no compiler."""
    kinds = {"kernel": "hwio", "scale": "scale", "var": "var"}
    return tree.unflatten(
        {
            name: seeded.seeded_tensor(name, leaf.shape, kinds.get(name.split("/")[-1], "bias"))
            for name, leaf in tree.flatten(shapes(model, size)).items()
        }
    )


def count(params):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def test_every_model_has_a_count():
    """`tests/weights/test_catalog.py` counts what is published with its weight sets."""
    assert set(COUNTS) | {row.model for row in CATALOG.values()} == set(MODELS)


@pytest.mark.parametrize("name", kinds.each_model(COUNTS))  # to trace a large model takes a second
def test_parameter_count(name):
    model = create_model(name)
    variables = shapes(model)
    assert count(variables["params"]) == COUNTS[name]
    # The stages are the top-level keys, and the last one is the head, whose classifying layer is called head too.
    stages = tuple(model.stages())
    assert set(variables["params"]) == set(stages)
    assert stages[-1] == "head"
    assert variables["params"]["head"]["head"]["bias"].shape == (1000,)


@pytest.mark.parametrize("name", WITH_AUXILIARY_HEADS)
def test_parameter_count_with_auxiliary_heads(name):
    model = create_model(name, aux_heads=True)
    params = shapes(model)["params"]
    assert count(params) == WITH_AUXILIARY_HEADS[name]
    assert set(params) == {*model.stages(), *model.auxiliary_heads()}


@pytest.mark.parametrize(
    ("name", "everything", "head"),
    [("vgg16", 134_264_641, 4_097), ("cnn", 23_963_777, 129), ("googlenet", 5_600_929, 1_025)],
)
def test_one_output_unit(name, everything, head):
    params = shapes(create_model(name, num_classes=1))["params"]
    assert count(params) == everything
    assert count(params["head"]) == head


# Names are public API: weight rules, freeze patterns and checkpoints hold them.
NAMES = {
    "alexnet": [
        *[f"conv{i}/conv{i}/{leaf}" for i in range(1, 6) for leaf in ("bias", "kernel")],
        *[f"{layer}/{leaf}" for layer in ("fc6/dense", "fc7/dense", "head/head") for leaf in ("bias", "kernel")],
    ],
    "convnext_atto": [
        "head/head/bias",
        "head/head/kernel",
        "norm/norm/bias",
        "norm/norm/scale",
        *[
            f"stage{i}/{layer}"
            for i, blocks in ((1, 2), (2, 2), (3, 6), (4, 2))
            for layer in [
                *(
                    f"block{b}/{layer}"
                    for b in range(blocks)
                    for layer in [
                        *("dwconv/bias", "dwconv/kernel", "layer_scale/gamma", "norm/bias", "norm/scale"),
                        *("pwconv1/bias", "pwconv1/kernel", "pwconv2/bias", "pwconv2/kernel"),
                    ]
                ),
                *(f"downsample_{layer}" for layer in ("conv/bias", "conv/kernel", "norm/bias", "norm/scale") if i > 1),
            ]
        ],
        "stem/conv/bias",
        "stem/conv/kernel",
        "stem/norm/bias",
        "stem/norm/scale",
    ],
    "cnn": [
        *[f"conv{i}/conv{i}/{leaf}" for i in range(1, 4) for leaf in ("bias", "kernel")],
        *[f"{layer}/{leaf}" for layer in ("fc4/dense", "head/head") for leaf in ("bias", "kernel")],
    ],
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
    "vit_tiny_patch16": sorted(
        [
            *[f"embed/patch/{leaf}" for leaf in ("bias", "kernel")],
            *[f"embed/tokens/{leaf}" for leaf in ("cls", "position")],
            *[
                f"block{i}/{layer}/{leaf}"
                for i in range(1, 13)
                for layer, leaves in {
                    **dict.fromkeys(("norm1", "norm2"), ("bias", "scale")),
                    **dict.fromkeys(("attention/qkv", "attention/proj", "fc1", "fc2"), ("bias", "kernel")),
                }.items()
                for leaf in leaves
            ],
            *[f"norm/norm/{leaf}" for leaf in ("bias", "scale")],
            *[f"head/head/{leaf}" for leaf in ("bias", "kernel")],
        ]
    ),
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


# Units of one stage, which differ in nothing but their widths from those of the stages like it.
UNITS = {
    ("googlenet", "stem"): ["conv1", "conv2", "conv2_reduce"],
    ("googlenet", "3a"): ["1x1", "3x3", "3x3_reduce", "5x5", "5x5_reduce", "pool_proj"],
    ("googlenet_caffe", "5b"): ["1x1", "3x3", "3x3_reduce", "5x5", "5x5_reduce", "pool_proj"],
    ("inception_v3", "stem"): ["conv1a", "conv2a", "conv2b", "conv3b", "conv4a"],
    ("inception_v3", "mixed_5b"): [
        "branch1x1",
        *[f"branch3x3dbl_{i}" for i in (1, 2, 3)],
        *[f"branch5x5_{i}" for i in (1, 2)],
        "branch_pool",
    ],
    ("inception_v3", "mixed_6a"): ["branch3x3", *[f"branch3x3dbl_{i}" for i in (1, 2, 3)]],
    ("inception_v3", "mixed_6e"): [
        "branch1x1",
        *[f"branch7x7_{i}" for i in (1, 2, 3)],
        *[f"branch7x7dbl_{i}" for i in (1, 2, 3, 4, 5)],
        "branch_pool",
    ],
    ("inception_v3", "mixed_7a"): ["branch3x3_1", "branch3x3_2", *[f"branch7x7x3_{i}" for i in (1, 2, 3, 4)]],
    ("inception_v3", "mixed_7c"): [
        "branch1x1",
        *[f"branch3x3_{i}" for i in ("1", "2a", "2b")],
        *[f"branch3x3dbl_{i}" for i in ("1", "2", "3a", "3b")],
        "branch_pool",
    ],
}


@pytest.mark.parametrize(("name", "stage"), UNITS)
def test_unit_names(name, stage):
    variables = shapes(create_model(name), 96)
    units = UNITS[name, stage]
    biased = name == "googlenet_caffe"
    leaves = ["conv/bias", "conv/kernel"] if biased else ["bn/bias", "bn/scale", "conv/kernel"]
    assert sorted(tree.flatten(variables["params"][stage])) == [f"{unit}/{leaf}" for unit in units for leaf in leaves]
    if not biased:
        stats = sorted(tree.flatten(variables["batch_stats"][stage]))
        assert stats == [f"{unit}/bn/{leaf}" for unit in units for leaf in ("mean", "var")]


@pytest.mark.parametrize(
    ("name", "after", "units", "dense"),
    [
        ("googlenet", {"aux1": "4a", "aux2": "4d"}, ["reduce"], ["fc", "head"]),
        ("googlenet_caffe", {"aux1": "4a", "aux2": "4d"}, ["reduce"], ["fc", "head"]),
        ("inception_v3", {"aux": "mixed_6e"}, ["conv0", "conv1"], ["head"]),
    ],
)
def test_auxiliary_heads(name, after, units, dense):
    model = create_model(name, aux_heads=True)
    assert {aux: head.after for aux, head in model.auxiliary_heads().items()} == after
    weight = 0.4 if name == "inception_v3" else 0.3
    assert {head.weight for head in model.auxiliary_heads().values()} == {weight}
    biased = name == "googlenet_caffe"
    leaves = ["conv/bias", "conv/kernel"] if biased else ["bn/bias", "bn/scale", "conv/kernel"]
    names = [f"{unit}/{leaf}" for unit in units for leaf in leaves]
    names += [f"{layer}/{leaf}" for layer in dense for leaf in ("bias", "kernel")]
    variables = shapes(model)
    for aux in after:
        assert sorted(tree.flatten(variables["params"][aux])) == sorted(names)
        assert (aux in variables["batch_stats"]) == (not biased)


@pytest.mark.parametrize("name", WITH_AUXILIARY_HEADS)
@pytest.mark.parametrize("dtype", [jnp.float32, pytest.param(jnp.bfloat16, marks=on_demand("as float32"))])
def test_auxiliary_logits_in_training(name, dtype):
    model = create_model(name, aux_heads=True, num_classes=7, dtype=dtype)
    images = jax.ShapeDtypeStruct((2, model.default_size, model.default_size, 3), jnp.float32)

    def train(variables, images):
        mutable, rngs = ["batch_stats", "auxiliary"], {"dropout": jax.random.key(0)}
        return model.apply(variables, images, train=True, mutable=mutable, rngs=rngs)

    logits, updated = jax.eval_shape(train, shapes(model), images)
    found = updated["auxiliary"]["logits"]
    assert set(found) == set(model.auxiliary_heads())
    for x in (logits, *found.values()):
        assert (x.shape, x.dtype) == ((2, 7), jnp.float32)
    # The heads' own BatchNorm learns its averages with the others.
    assert set(updated.get("batch_stats", {})) == set(shapes(model)["batch_stats"])
    assert {leaf.dtype for leaf in jax.tree.leaves(updated)} == {jnp.dtype("float32")}


@on_demand("that training alone runs them shows in test_auxiliary_heads' smaller chain")
def test_inference_does_not_run_auxiliary_heads():
    model = create_model("googlenet", aux_heads=True, num_classes=7)
    variables = filled(model, 48)
    images = seeded.seeded_images(48)
    logits, updated = model.apply(variables, images, train=False, mutable=["auxiliary"])
    assert not updated
    bare = create_model("googlenet", num_classes=7)
    kept = {kind: {k: v for k, v in leaves.items() if "aux" not in k} for kind, leaves in variables.items()}
    np.testing.assert_array_equal(logits, bare.apply(kept, images, train=False))


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("inception_v3", 298, "reads a map from 17x17 on, which 299-pixel images give, but got 16x16"),
        ("googlenet_caffe", 256, "reads a 14x14 map, which 224-pixel images give, but got 16x16"),
    ],
)
def test_auxiliary_heads_of_one_size(name, size, message):
    with pytest.raises(ValueError, match=message):
        shapes(create_model(name, aux_heads=True), size)
    shapes(create_model(name), size)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("alexnet", {"fc6": 0.5, "fc7": 0.5}),
        ("alexnet_caffe", {"fc6": 0.5, "fc7": 0.5}),
        ("vgg16", {"fc6": 0.5, "fc7": 0.5}),
        ("googlenet", {"head": 0.2, "aux1": 0.7, "aux2": 0.7}),
        ("googlenet_caffe", {"head": 0.4, "aux1": 0.7, "aux2": 0.7}),
        ("inception_v3", {"head": 0.5}),
        ("squeezenet1_1", {"head": 0.5}),
        ("resnet18", {}),
        ("cnn", {"conv2": 0.25}),
        # Of a stage the last block's branch, of 18 in all: linear in depth.
        ("convnext_tiny", {f"stage{i}": 0.1 * n / 17 for i, n in ((1, 2), (2, 5), (3, 14), (4, 17))}),
    ],
)
def test_what_training_drops(name, wanted):
    found = {}

    def note(call, args, kwargs, context):
        layer = context.module
        if isinstance(layer, nn.Dropout) and layer.rate and not layer.deterministic:
            found[layer.path[0]] = layer.rate
        return call(*args, **kwargs)

    model = create_model(name)
    model = model.clone(aux_heads=bool(model.auxiliary_heads()))
    images = jax.ShapeDtypeStruct((1, model.default_size, model.default_size, 3), jnp.float32)
    with nn.intercept_methods(note):
        rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
        jax.eval_shape(lambda x: model.init(rngs, x, train=True), images)
    assert found == wanted


def test_models_without_auxiliary_heads_refuse_them():
    wanted = "resnet18 has no auxiliary heads.*; googlenet, googlenet_caffe, inception_v3 have them"
    with pytest.raises(ValueError, match=wanted):
        create_model("resnet18", aux_heads=True)


# A replay gives each stage what the one before it gave, and ends with the whole network's logits.
MOBILENETS = ("mobilenet_v1_025", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v4_conv_small")
REPLAYED = (
    *("googlenet", "googlenet_caffe", "inception_v3", "efficientnet_lite0", "densenet121", "regnet_y_400mf"),
    *MOBILENETS,
    "efficientnet_v2_b0",
)
LONG = {
    **dict.fromkeys(REPLAYED, on_demand("test_proofs replays it stage by stage")),
    "resnet50": on_demand("as resnet18"),
    **dict.fromkeys(
        ("alexnet_caffe", "squeezenet1_1", "vgg11_bn"), pytest.mark.slow
    ),  # others of their families are quick
}


def families(names):
    return {type(create_model(name)) for name in names}


def test_every_family_is_run_in_parts_or_replayed():
    assert families(SMALL.keys() - LONG.keys()) == families(MODELS) - families(REPLAYED)


@pytest.mark.parametrize("name", [pytest.param(k, marks=LONG.get(k, ())) for k in SMALL])
def test_stop_then_start_equals_the_whole(name):
    size, options = SMALL[name]
    model = create_model(name, num_classes=7, **options)
    variables = filled(model, size)

    def run(x, start, stop):
        return model.apply(variables, x, train=False, start=start, stop=stop)

    images = seeded.seeded_images(size)
    whole = run(images, None, None)
    assert whole.shape == (2, 7)
    assert whole.dtype == jnp.float32
    assert float(jnp.max(jnp.abs(whole[0] - whole[1]))) > 0
    stages = list(model.stages())
    x, before = images, None
    for stage in stages:  # one by one
        x, before = run(x, before, stage), stage
    np.testing.assert_array_equal(x, whole)
    for stage in (stages[0], stages[len(stages) // 2], stages[-2]):
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


@pytest.mark.parametrize(
    ("name", "smallest", "stage"), [("vgg11", 32, "block5"), ("inception_v3", 75, "mixed_7a"), ("alexnet", 63, "conv5")]
)
def test_images_too_small(name, smallest, stage):
    shapes(create_model(name), smallest)
    with pytest.raises(ValueError, match=f"stage '{stage}' has an empty output"):
        shapes(create_model(name), smallest - 1)


def test_alexnet_of_2012_reads_one_map():
    with pytest.raises(ValueError, match="fc6 reads a 6x6 map, which 227-pixel images give, but got 7x7"):
        shapes(create_model("alexnet_caffe"), 256)


def test_unknown_model():
    with pytest.raises(ValueError, match=r"unknown model 'vgg17', did you mean 'vgg1\d'\?"):
        create_model("vgg17")


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_parameters():
    model = ResNet(blocks=(1, 1), bottleneck=False, num_classes=3, dtype=jnp.bfloat16)
    images = jnp.ones((2, 32, 32, 3))
    variables = jax.jit(lambda: model.init(jax.random.key(0), images, train=False))()
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert model.apply(variables, images, train=False, stop="layer1").dtype == jnp.bfloat16
    logits, updated = jax.jit(lambda v: model.apply(v, images, train=True, mutable=["batch_stats"]))(variables)
    assert logits.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(updated)} == {jnp.dtype("float32")}
