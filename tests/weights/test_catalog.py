"""The catalog against the zoo: every row names a model that exists, with as many parameters as the row says."""

import collections
import functools
import math
import re

import pytest

from jft import tree
from jft.models import MODELS, abstract_variables, create_model
from jft.weights import catalog, rules, store

ROWS = [row for row in catalog.CATALOG.values() if row.dialect != "jft"]  # published by others
NAMES = [row.name for row in ROWS]


@functools.cache
def target_of(model):
    return tree.flatten(abstract_variables(model, 224))


def tags(model):
    return [row.tag for row in ROWS if row.model == model]


def test_every_published_model_has_its_sets():
    assert {row.model for row in ROWS} == set(MODELS) - {"vgg_tiny"}
    for model in MODELS.keys() - {"vgg_tiny"}:
        assert "torchvision" in tags(model)
        assert ("timm" in tags(model)) is not model.startswith("squeezenet")
    assert tags("vgg19") == ["torchvision", "timm", "keras", "keras_notop"]
    assert tags("resnet152") == ["torchvision", "torchvision_v2", "timm", "timm_v2", "keras", "keras_notop"]
    assert tags("squeezenet1_1") == ["torchvision", "caffe"]
    assert len(ROWS) == 45


@pytest.mark.parametrize("name", NAMES)
def test_row(name):
    row = catalog.CATALOG[name]
    assert row.name == name == f"{row.model}.{row.tag}"
    model = create_model(row.model, **row.options)  # the options exist
    target = target_of(model)
    held = [leaf for leaf in target if row.top or leaf.split("/")[1] not in catalog.TOP]
    assert row.num_params == sum(math.prod(target[leaf].shape) for leaf in held if leaf.startswith("params/"))
    # One rule for each leaf, and no tensor is read twice.
    table = rules.rules_for(row, model)
    assert sorted(rule.target for rule in table) == sorted(target)
    read = collections.Counter(source for rule in table for source in rule.sources)
    assert set(read.values()) == {1}


@pytest.mark.parametrize("name", NAMES)
def test_provenance(name):
    row = catalog.CATALOG[name]
    assert row.url is None or re.fullmatch(r"https://\S+\.(pth|h5|safetensors)", row.url)
    assert row.sha256 is None or re.fullmatch(r"[0-9a-f]{8}|[0-9a-f]{64}", row.sha256)
    assert row.md5 is None or re.fullmatch(r"[0-9a-f]{32}", row.md5)
    assert (row.md5 is not None) is (row.dialect == "keras")
    assert row.licence
    if row.dialect != "caffe":  # whose pickles for Python 2 spend two bytes on every other one
        assert row.num_params * 4 / 2**20 == pytest.approx(row.size, rel=0.05)
    if row.top1 is None:
        assert row.top5 is None
        assert row.dialect == "caffe" or not row.top
    else:
        assert 50 < row.top1 < row.top5 < 100


def test_the_packaged_weights_are_whole_small_and_fit():
    row = catalog.find_row("vgg_tiny", "digits04")
    target = tree.flatten(abstract_variables(create_model(row.model, **row.options), row.preprocess.size))
    leaves, manifest = store.load(row, target)
    assert {name: leaf.shape for name, leaf in leaves.items()} == {name: leaf.shape for name, leaf in target.items()}
    assert sum(leaf.size for leaf in leaves.values()) == row.num_params
    assert manifest["source_sha256"] == row.sha256
    assert store.locate(row).stat().st_size <= 500_000


def test_files_and_addresses_are_distinct():
    for field in ("filename", "url", "md5"):
        values = [value for row in ROWS if (value := getattr(row, field)) is not None]
        assert len(values) == len(set(values)), field


@pytest.mark.parametrize(
    ("name", "resize", "channels", "scale", "mean"),
    [
        ("resnet50.torchvision", 256, "RGB", 1 / 255, (0.485, 0.456, 0.406)),
        ("resnet50.torchvision_v2", 232, "RGB", 1 / 255, (0.485, 0.456, 0.406)),
        ("resnet50.timm_v2", 232, "RGB", 1 / 255, (0.485, 0.456, 0.406)),
        ("vgg19.keras", 256, "BGR", 1.0, (103.939, 116.779, 123.68)),
        ("squeezenet1_1.caffe", 256, "BGR", 1.0, (104.0, 117.0, 123.0)),
    ],
)
def test_preprocessing(name, resize, channels, scale, mean):
    spec = catalog.CATALOG[name].preprocess
    assert (spec.size, spec.resize, spec.interpolation, spec.antialias) == (224, resize, "bilinear", True)
    assert (spec.channels, spec.scale, spec.mean) == (channels, scale, mean)


def test_find_row():
    assert catalog.find_row("vgg19", "torchvision") is catalog.CATALOG["vgg19.torchvision"]
    with pytest.raises(
        ValueError, match=r"unknown vgg16 weights 'kears', did you mean 'keras'\? Known: keras, keras_n"
    ):
        catalog.find_row("vgg16", "kears")
    with pytest.raises(ValueError, match=r"unknown model with published weights 'vgg17'"):
        catalog.find_row("vgg17", "torchvision")
