"""Weights that a user points at: what a file says of itself is doubted, and only a hash shows what it is."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest
import safetensors.numpy
import small_files

from jft.data.transforms import Preprocess
from jft.evaluation import open_model
from jft.models import create_model
from jft.utils.cache_dir import cache_dir
from jft.weights import catalog, hub, provenance, rules
from jft.weights.target import leaf_shapes


@pytest.fixture
def tiny(monkeypatch):
    small_files.shrink(monkeypatch)


def of_vgg11(path, classes=3, **about):
    """A file under jft's own names, which says of itself that it is a VGG-11, and what else it is told to say."""
    leaves = {
        "params/block1/conv1_1/kernel": np.zeros((3, 3, 3, 64), "f4"),
        "params/head/head/bias": np.zeros(classes, "f4"),
    }
    safetensors.numpy.save_file(leaves, path, {"model": '"vgg11"', **about})
    return str(path)


SPEC = Preprocess().to_dict()


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"model": '"vgg"'}, "unknown model 'vgg', did you mean 'vgg"),
        ({"model": "[1]"}, r"model is \[1\], which is no name"),
        ({"model": "{}"}, r"model is \{\}, which is no name"),
        ({"model": "null"}, "model is None"),
        ({"model": "[" * 200_000}, "RecursionError"),
        ({"model": '"vgg16"', "like": "vgg11.torchvision"}, "model is 'vgg16', and the weights are vgg11.torchvision"),
        ({"options": "[1]"}, r"options is \[1\]"),
        ({"options": "null"}, "options is None"),
        ({"options": '{"num_clases": 3}'}, "did you mean 'num_classes'"),
        ({"options": '{"num_classes": "__import__(1)"}'}, "option num_classes is"),
        ({"options": '{"num_classes": true}'}, "option num_classes is True"),
        ({"options": '{"convs": 3}'}, "unknown option 'convs'"),
        ({"options": '{"dtype": 1}'}, "unknown option 'dtype'"),
        ({"options": '{"name": 3}'}, "unknown option 'name'"),
        ({"options": '{"parent": 3}'}, "unknown option 'parent'"),
        ({"options": '{"axis_name": 3}'}, "unknown option 'axis_name'"),
        ({"options": '{"hidden": -3}'}, "option hidden is -3"),
        ({"options": '{"hidden": 0}'}, "option hidden is 0"),
        ({"options": '{"hidden": 1.5}'}, "option hidden is 1.5"),
        ({"options": '{"hidden": 1000000000000}'}, "option hidden is 1000000000000"),
        ({"options": '{"adaptive_pool": 1}'}, "option adaptive_pool is 1"),
        ({"options": '{"dropout": NaN}'}, "option dropout is nan"),
        ({"options": '{"dropout": 5}'}, "option dropout is 5, which is no share"),
        ({"options": '{"aux_heads": true}'}, "has no auxiliary heads"),
        ({"options": '{"adaptive_pool": false, "grid": 5}'}, "ValueError"),
        ({"model": '"resnet50"', "options": '{"blocks": 4}'}, "unknown option 'blocks'"),
        ({"model": '"squeezenet1_0"', "options": '{"pools": 1}'}, "unknown option 'pools'"),
        ({"model": '"squeezenet1_0"', "options": '{"head_padding": -1}'}, "option head_padding is -1"),
        ({"preprocess": '{"size": 12}'}, "preprocessing lacks"),
        ({"preprocess": "[]"}, r"preprocess is \[\]"),
        ({"preprocess": json.dumps({**SPEC, "size": 224.5})}, "preprocess size is 224.5"),
        ({"preprocess": json.dumps({**SPEC, "mean": [0.5, 0.5, None]})}, "preprocess mean is None"),
        ({"preprocess": json.dumps({**SPEC, "std": 0.5})}, "preprocess std is 0.5"),
        ({"preprocess": json.dumps({**SPEC, "channels": [1]})}, r"preprocess channels is \[1\]"),
        ({"preprocess": json.dumps({**SPEC, "size": 8}), "options": "{}"}, "8 x 8 is too small"),
        ({"fit": '"stretch"'}, "unknown fit 'stretch'"),
        ({"fit": "[]"}, "TypeError"),
        ({"class_names": "{"}, "JSONDecodeError"),
        ({"class_names": '"cat"'}, "class_names is 'cat', which is no list of names"),
        ({"class_names": "[1, 2, 3]"}, r"class_names is \[1, 2, 3\]"),
        ({"class_names": '["cat", "dog"]', "options": "{}"}, "class_names are 2, and the head has 3 classes"),
    ],
)
def test_what_a_file_says_of_itself_is_not_trusted(tmp_path, about, message):
    path = of_vgg11(tmp_path / "own.safetensors", **about)
    with pytest.raises(ValueError, match=f"says of itself what makes no sense: .*{message}") as error:
        open_model.open_source(path)
    assert len(str(error.value)) < 1000


def test_what_a_file_says_of_itself_is_believed_where_it_makes_sense(tmp_path):
    options = {"dropout": 0, "hidden": 16, "adaptive_pool": False}
    about = {"options": options, "class_names": ["a", "b", "c"], "preprocess": {**SPEC, "size": 32, "resize": 37}}
    path = of_vgg11(tmp_path / "own.safetensors", **{key: json.dumps(value) for key, value in about.items()})
    with pytest.raises(ValueError, match=r"makes no sense: .*fc6 reads a 7x7 map"):
        open_model.open_source(path)
    about["options"]["adaptive_pool"] = True
    path = of_vgg11(tmp_path / "own.safetensors", **{key: json.dumps(value) for key, value in about.items()})
    opened = open_model.open_source(path)
    assert opened.build() == create_model("vgg11", num_classes=3, hidden=16, dropout=0)
    assert (opened.class_names, opened.spec.size) == (("a", "b", "c"), 32)
    assert "like" not in opened.facts and "weights" not in opened.facts
    with pytest.raises(ValueError, match=r"^(?!.*says of itself).*8 x 8 is too small"):  # that is not the file's fault
        open_model.open_source(path, image_size=8)


SPEC_12 = Preprocess().at(12)  # what the tiny models read


def publish(monkeypatch, name, **fields):
    monkeypatch.setitem(catalog.CATALOG, name, dataclasses.replace(catalog.CATALOG[name], **fields))


@pytest.mark.parametrize(("dialect", "kind"), [("torchvision", "sha256"), ("keras", "md5")])
def test_only_the_hash_shows_what_a_file_is(tiny, tmp_path, monkeypatch, dialect, kind):
    source, own, again = (tmp_path / name for name in ("source", "own.safetensors", "again.safetensors"))
    name = f"vgg16.{dialect}"
    small_files.seeded_file(source, "vgg16", dialect, 12, classes=1000)
    published = hashlib.new(kind, source.read_bytes()).hexdigest()
    for known, claimed in (
        (published, {"weights": name, "license": catalog.CATALOG[name].license}),
        ("0" * len(published), {"like": name, "license": provenance.UNKNOWN}),
    ):
        publish(monkeypatch, name, **{kind: known, "preprocess": SPEC_12})
        opened = open_model.open_source(str(source), model="vgg16")
        kept = {key: value for key, value in opened.facts.items() if key in ("weights", "like", "license")}
        assert kept == claimed and opened.facts["dialect"] == dialect
        text = open_model.write_own(opened, own)
        assert text.endswith(f"use it with --model vgg16 --weights {dialect} --weights-path {own}")
        # What was written still knows its model and options, is no published file, and is taken for that set's.
        reopened = open_model.open_source(str(own))
        assert (reopened.model, reopened.build(), reopened.spec) == ("vgg16", opened.build(), opened.spec)
        assert reopened.facts["like"] == name and "weights" not in reopened.facts
        assert reopened.facts["license"] == provenance.UNKNOWN and "url" not in reopened.facts
        assert open_model.write_own(reopened, again).endswith(f"--weights-path {again}")
        row = catalog.find_row("vgg16", dialect)
        leaves, _ = hub.load(row, leaf_shapes(create_model("vgg16", **row.file_options), 12), weights_path=own)
        wanted = opened.read(False)
        assert leaves.keys() == wanted.keys()
        for leaf, value in wanted.items():
            np.testing.assert_array_equal(leaves[leaf], value)


def test_names_that_do_not_say_how_the_network_pads(tmp_path):
    """timm's own EfficientNet-Lite0 and Google's have the same names and other paddings and epsilons."""
    row = catalog.find_row("efficientnet_lite0", "ra")
    names = [source for rule in rules.rules_for(row, create_model(row.model)) for source in rule.sources]
    path = tmp_path / "mine.safetensors"
    safetensors.numpy.save_file(dict.fromkeys(names, np.zeros(1, "f4")), path)
    with pytest.raises(ValueError, match=r"which does not say how the network pads.*give --weights timm or ra"):
        open_model.open_source(str(path), model="efficientnet_lite0")
    opened = open_model.open_source(str(path), model="efficientnet_lite0", tag="ra")
    assert (opened.build().padding, opened.build().bn_epsilon) == ("torch", 1e-5)
    opened = open_model.open_source(str(path), model="efficientnet_lite0", tag="timm")
    assert (opened.build().padding, opened.build().bn_epsilon) == ("same", 1e-3)


def test_a_published_file_of_jfts_own(tmp_path):
    row = catalog.find_row("vgg_tiny", "digits04")
    opened = open_model.open_source(str(hub.locate(row)), model="vgg_tiny")
    assert opened.facts["weights"] == row.name and opened.facts["license"] == row.license
    assert (opened.build().num_classes, opened.spec) == (5, row.preprocess)


def test_a_cached_conversion_says_enough(tiny, tmp_path, monkeypatch):
    """The store's own files name the set alone; the user may have kept one."""
    source = tmp_path / "source.h5"
    small_files.seeded_file(source, "vgg16", "keras", 12, classes=1000)
    publish(monkeypatch, "vgg16.keras", preprocess=SPEC_12)
    row = catalog.find_row("vgg16", "keras")
    hub.load(row, leaf_shapes(create_model("vgg16", **row.file_options), 12), weights_path=source)
    (cached,) = (cache_dir() / "converted").iterdir()
    opened = open_model.open_source(str(cached))
    assert (opened.model, opened.build().adaptive_pool, opened.spec) == ("vgg16", False, SPEC_12)
    assert opened.read(False).keys() == leaf_shapes(opened.build(), 12).keys()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cut": 3}, "option cut is 3"),
        ({"cut": "block9"}, "unknown stage 'block9', did you mean 'block"),
        ({"cut": "head"}, "unknown stage 'head'"),
        ({"new_head": "mine"}, "option new_head is 'mine'"),
        ({"new_head": True}, "option new_head is True"),
        ({"head_hidden": 8}, "option head_hidden is 8"),
        ({"head_hidden": [8, 0]}, r"option head_hidden is \[8, 0\]"),
        ({"head_hidden": [True]}, r"option head_hidden is \[True\]"),
        ({"head_hidden": [2**20]}, r"option head_hidden is \[1048576\]"),
        ({"head_hidden": ["8"]}, r"option head_hidden is \['8'\]"),
        ({"head_dropout": 1.5}, "option head_dropout is 1.5, which is no share"),
        ({"head_dropout": "no"}, "option head_dropout is 'no'"),
    ],
)
def test_a_head_that_makes_no_sense_is_refused(tmp_path, options, message):
    path = of_vgg11(tmp_path / "own.safetensors", options=json.dumps(options))
    with pytest.raises(ValueError, match=f"says of itself what makes no sense: .*{message}"):
        open_model.open_source(path)


@pytest.mark.parametrize(("classes", "names", "fits"), [(1, 2, True), (1, 1, False), (1, 3, False), (2, 1, False)])
def test_one_logit_is_two_classes(tmp_path, classes, names, fits):
    about = {"class_names": json.dumps(["cat", "dog", "cow"][:names]), "options": "{}"}
    path = of_vgg11(tmp_path / "own.safetensors", classes=classes, **about)
    if fits:
        opened = open_model.open_source(path)
        assert (opened.build().num_classes, opened.class_names) == (1, ("cat", "dog"))
        return
    with pytest.raises(ValueError, match=f"class_names are {names}, and the head has {classes} classes"):
        open_model.open_source(path)
