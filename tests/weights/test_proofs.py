"""Every weight set of the catalog against its framework, replayed from its proof; and that a proof notices mistakes.

The proofs are made by scripts/golden.
"""

import dataclasses
import functools
import itertools
import os

import flax.linen as nn
import kinds
import numpy as np
import pytest
from on_demand import on_demand

from jft.models import Chain, abstract_variables, create_model, layers
from jft.utils import tree
from jft.weights import catalog, hub, proofs, rules, seeded
from jft.weights.target import absent

ROWS = list(catalog.CATALOG.values())
# Rows that share model and dialect share the proof, and so a replay.
REPLAYED = {row.proof: row for row in reversed(ROWS)}
# Models of these families share compiled operations, so one worker takes all of a family.
FAMILIES = (
    "resnet",
    "resnext",
    "densenet",
    "regnet",
    "inception",
    "googlenet",
    "squeezenet",
    "efficientnet",
    "mobilenet",
    "convnext",
)

# Two to nine seconds each; the first stages of several are compared below.
LONG = (
    "googlenet.torchvision",
    "inception_v3.torchvision",
    "resnet50.keras",
    "vgg16.caffe",
    "vgg11_bn.torchvision",
    "regnet_y_400mf.torchvision",
    "inception_v3.keras",
    "googlenet_caffe.caffe",
    "convnext_tiny.torchvision",
    "convnext_tiny.keras",
    "resnext50_32x4d.torchvision",
    "densenet121.torchvision",
    "densenet121.keras",
    "regnet_x_400mf.torchvision",
    "vit_base_patch16.torchvision",
    "deit3_small_patch16.timm",
    "vit_small_patch14_dinov2.timm",
    "vit_small_patch14_reg4_dinov2.timm",
    "vit_small_patch14_dinov2.dinov2",
    "vit_small_patch14_reg4_dinov2.dinov2",
)

# The smallest of each kin.
SMALLEST = {kinds.kin(row): name for name, row in sorted(REPLAYED.items(), key=lambda item: -item[1].num_params)}


def marked(name):
    row = REPLAYED[name]
    family = next((family for family in FAMILIES if name.startswith(family)), None)
    marks = [pytest.mark.xdist_group(f"proofs of {family}")] if family else []
    if row.dialect in ("timm", "robustness") and f"{row.model}.torchvision" in REPLAYED:
        marks.append(on_demand(f"test_rules makes the same leaves of {row.dialect}'s tensors and of torchvision's"))
    elif name != SMALLEST[kinds.kin(row)]:
        marks.append(on_demand(f"{SMALLEST[kinds.kin(row)]} has the same layers"))
    elif name in LONG or name.startswith(("efficientnet", "mobilenet")):
        marks.append(pytest.mark.slow)
    return pytest.param(name, marks=marks)


@pytest.mark.parametrize("name", [row.name for row in ROWS])
def test_every_weight_set_has_a_proof(name):
    row = catalog.CATALOG[name]
    proof = proofs.load(row)
    assert proof is not None, (
        f"{name} has no proof. Make jft/weights/proven/{row.proof}.npz as scripts/golden does: run the "
        "reference framework's own model with the tensors of `seeded.SEEDED` on `seeded_images` of two sizes or more, "
        "and keep a digest of every stage."
    )
    assert row.options == REPLAYED[row.proof].options
    model = proofs.whole_model(row)
    stages, heads = list(model.stages()), model.auxiliary_heads() if model.aux_heads else {}
    sizes = proof.seeded.sizes()
    assert row.preprocess.size in sizes
    assert len(sizes) >= 2
    for size in sizes:
        held = [stage for stage in proof.seeded.at(size) if stage not in heads]
        assert held == stages[: len(held)]
        assert len(held) >= 3
    assert set(proof.seeded.at(row.preprocess.size)) == {*stages, *heads}
    # Of a stage that gives the same everywhere a digest says little.
    for x in proof.seeded.stages.values():
        assert np.isfinite(x).all()
        assert np.std(x) > 0.05 * np.max(np.abs(x))


def test_published_files_that_were_at_hand():
    known = [row for row in ROWS if proofs.check_leaves(row, {}) is not None]
    assert {row.name for row in known} == {
        "squeezenet1_1.caffe",
        "efficientnet_lite0.efficientnet_lite",
        "efficientnet_lite1.efficientnet_lite",
        "mobilenet_v1_025.keras_notop",
        "vgg_tiny.digits04",
    }
    for row in known:
        proof, model = proofs.load(row), create_model(row.model, **row.options)
        leaves = tree.flatten(abstract_variables(model, model.default_size))
        assert proof.crc32.keys() == leaves.keys() - set(absent(row, leaves))
        assert proof.real.at(row.preprocess.size) == [stage for stage in model.stages() if row.top or stage != "head"]


def test_no_proof_is_left_over():
    names = {path.stem for path in proofs.FOLDER.glob("*")}
    assert names == REPLAYED.keys()
    assert sum(path.stat().st_size for path in proofs.FOLDER.glob("*")) < 12e6  # they travel in the package


def digests_of(row):
    """All of its proof where JFT_TEST_ALL is set, else those of the smallest size that has all of the set's own."""
    digests = proofs.load(row).seeded
    if os.environ.get("JFT_TEST_ALL"):
        return digests
    whole = set(digests.at(row.preprocess.size))
    size = next(size for size in digests.sizes() if set(digests.at(size)) == whole)
    return only(digests, [f"{size}/{stage}" for stage in digests.at(size)])


def only(digests, keys):
    return dataclasses.replace(digests, stages={key: digests.stages[key] for key in keys})


@dataclasses.dataclass(frozen=True)
class Evidence:
    """All that a replay depends on: timm's ResNets have torchvision's names and digests, and need none of their own."""

    row: catalog.WeightSet = dataclasses.field(compare=False)
    model: Chain
    rules: tuple[rules.Rule, ...]
    digests: tuple[bytes, ...]


@functools.cache
def replay(evidence):
    return proofs.errors(*proofs.seeded_model(evidence.row), digests_of(evidence.row))


@pytest.mark.parametrize("name", [marked(name) for name in REPLAYED])
def test_replay(name):
    row = REPLAYED[name]
    model = proofs.whole_model(row)
    table = () if row.dialect == "jft" else tuple(rules.rules_for(row, model))
    digests = digests_of(row).stages
    errors = replay(Evidence(row, model, table, tuple(x.tobytes() for x in digests.values())))
    assert errors.keys() == digests.keys()
    assert all(error < proofs.LIMIT for error in errors.values()), errors


def test_replay_of_everything_that_a_proof_holds():
    row = catalog.find_row("vgg_tiny", "digits04")
    errors = proofs.replay(row)
    assert errors.keys() == proofs.load(row).seeded.stages.keys()
    assert all(error < proofs.LIMIT for error in errors.values()), errors


@functools.cache
def leaves_of(name):
    """A complete model of the row, with seeded weights."""
    return proofs.seeded_model(catalog.CATALOG[name])


def errors_of(name, keys, *, model=None, **changed):
    """Errors of some stages with another model or other leaves."""
    right, leaves = leaves_of(name)
    assert not changed.keys() - leaves.keys()
    digests = only(proofs.load(catalog.CATALOG[name]).seeded, keys)
    found = proofs.errors(model or right, {**leaves, **changed}, digests)
    return [found[key] for key in keys]


# An error of the order of the values themselves, or, of what changes all values a little, still far above the limit.
WRONG = 100 * proofs.LIMIT


FIRST = {
    "googlenet.torchvision": ["112/stem", "112/3a"],
    "inception_v3.torchvision": ["75/stem", "75/mixed_5b"],
    "resnet50.keras": ["96/stem", "96/layer1"],
    "densenet121.torchvision": ["64/stem", "64/denseblock1", "64/transition1"],
    "densenet121.keras": ["64/stem", "64/denseblock1", "64/transition1"],
    "resnext50_32x4d.torchvision": ["96/stem", "96/layer1"],
    "regnet_y_400mf.torchvision": ["64/stem", "64/stage1"],
    "efficientnet_lite0.efficientnet_lite": ["72/stem", "72/stage1", "72/stage2"],
    "mobilenet_v3_small.torchvision": ["72/stem", "72/stage1", "72/stage2"],
}


@pytest.mark.parametrize(("name", "stages"), FIRST.items())
def test_the_first_stages_of_a_network_whose_replay_is_long(name, stages):
    assert max(errors_of(name, stages)) < proofs.LIMIT


def test_another_flatten_order_is_noticed():
    leaf = "params/fc6/dense/kernel"
    _, leaves = leaves_of("alexnet.torchvision")
    channels_first = leaves[leaf].reshape(6, 6, 256, -1).transpose(2, 0, 1, 3).reshape(leaves[leaf].shape)
    before, after = errors_of("alexnet.torchvision", ["160/conv5", "160/fc6"], **{leaf: channels_first})
    assert before < proofs.LIMIT
    assert after > WRONG


@pytest.mark.parametrize(("padding", "right"), [(3, True), ("SAME", False)])
def test_another_padding_is_noticed(padding, right):
    _, leaves = leaves_of("resnet18.torchvision")
    stem = {name.split("stem/")[1]: leaf for name, leaf in leaves.items() if "/stem/" in name}
    conv = nn.Conv(64, (7, 7), (2, 2), padding=padding, use_bias=False)
    x = conv.apply({"params": {"kernel": stem["conv1/kernel"]}}, seeded.seeded_images(224))
    x = (x - stem["bn1/mean"]) / np.sqrt(stem["bn1/var"] + 1e-5) * stem["bn1/scale"] + stem["bn1/bias"]
    x = nn.max_pool(nn.relu(x), (3, 3), (2, 2), ((1, 1), (1, 1)))
    digests = proofs.load(catalog.CATALOG["resnet18.torchvision"]).seeded
    error = proofs.difference(seeded.digest("224/stem", x), digests.stages["224/stem"])
    assert error < proofs.LIMIT if right else error > WRONG


def test_a_missing_relu_is_noticed(monkeypatch):
    leaves_of("alexnet.torchvision")  # its shapes are traced before relus are counted
    relu, calls = nn.relu, itertools.count(1)
    monkeypatch.setattr(nn, "relu", lambda x: x if next(calls) == 3 else relu(x))
    before, after = errors_of("alexnet.torchvision", ["160/conv2", "160/conv3"])
    assert before < proofs.LIMIT
    assert after > WRONG


@pytest.mark.xdist_group("proofs of inception")
@pytest.mark.parametrize("name", ["inception_v3.torchvision", "inception_v3.keras"])
def test_padding_that_is_counted_or_not_is_noticed(name):
    model, _ = leaves_of(name)
    flipped = model.clone(count_include_pad=not model.count_include_pad)
    stem, mixed = errors_of(name, ["75/stem", "75/mixed_5b"], model=flipped)
    assert stem < proofs.LIMIT
    assert mixed > WRONG


def test_a_missing_local_response_norm_is_noticed(monkeypatch):
    keys = ["127/conv1", "127/conv2"]
    assert max(errors_of("alexnet_caffe.caffe", keys)) < proofs.LIMIT
    monkeypatch.setattr(layers, "local_response_norm", lambda x, **_: x)
    assert min(errors_of("alexnet_caffe.caffe", keys)) > WRONG


def test_swapped_groups_are_noticed():
    _, leaves = leaves_of("alexnet_caffe.caffe")
    swapped = {
        name: np.roll(leaves[name], leaves[name].shape[-1] // 2, axis=-1)
        for name in ("params/conv2/conv2/kernel", "params/conv2/conv2/bias")
    }
    first, second = errors_of("alexnet_caffe.caffe", ["127/conv1", "127/conv2"], **swapped)
    assert first < proofs.LIMIT
    assert second > WRONG


@pytest.mark.parametrize(("blocks", "strongest"), [(18, 0.6), (19, 0.3)])
def test_the_branches_of_a_long_stage_are_drawn_weaker(blocks, strongest):
    """Else rounding grows from block to block; EfficientNetV2-L has 19 and 25."""
    names = [f"blocks.3.{i}.bn3.weight" for i in range(blocks)]
    names += [f"features.5.{i}.block.3.1.weight" for i in range(blocks)]
    scales = seeded.seeded_torch(dict.fromkeys(names, (64,)))
    letters = "abcdefghijklmnopqrs"[:blocks]
    scales |= seeded.seeded_keras({f"block5{letter}_project_bn/0": (64,) for letter in letters})
    for scale in scales.values():
        assert strongest / 2 < scale.max() < strongest


def test_what_cannot_be_compared_is_infinitely_wrong():
    golden = np.arange(258, dtype=np.float32)
    assert proofs.difference(golden, golden) == 0
    assert proofs.difference(golden + 1, golden) == pytest.approx(1 / 257)
    assert proofs.difference(golden[:-1], golden) == np.inf
    assert proofs.difference(np.where(golden == 3, np.nan, golden), golden) == np.inf
    digests = proofs.Digests({"32/block9": golden}, spread=1.0)
    row = catalog.find_row("vgg_tiny", "digits04")
    leaves = leaves_of(row.name)[1]
    assert proofs.errors(create_model("vgg_tiny", num_classes=5), leaves, digests) == {"32/block9": np.inf}


def test_nothing_is_known_of_a_set_without_a_proof():
    row = dataclasses.replace(catalog.find_row("vgg11", "torchvision"), dialect="caffe")
    assert proofs.load(row) is None
    assert proofs.check_leaves(row, {}) is None
    assert proofs.check_activations(row, {}) is None
    with pytest.raises(ValueError, match=r"vgg11.torchvision has no proof vgg11.caffe.npz"):
        proofs.replay(row)


def test_checksums_and_activations_of_published_weights():
    row = catalog.find_row("vgg_tiny", "digits04")
    model = create_model(row.model, **row.options)
    leaves, _ = hub.load(row, tree.flatten(abstract_variables(model, row.preprocess.size)))
    assert proofs.check_leaves(row, leaves) == []
    errors = proofs.check_activations(row, leaves)
    assert list(errors) == [f"32/{stage}" for stage in model.stages()]
    assert all(error < proofs.LIMIT for error in errors.values())

    changed = leaves["params/fc7/dense/kernel"] * np.float32(1.01)
    wrong = {**leaves, "params/fc7/dense/kernel": changed, "params/new/bias": changed}
    del wrong["params/block1/conv1_1/bias"]
    names = ["params/block1/conv1_1/bias", "params/fc7/dense/kernel", "params/new/bias"]
    assert proofs.check_leaves(row, wrong) == names
    errors = proofs.check_activations(row, {**leaves, "params/fc7/dense/kernel": changed})
    assert [key for key, error in errors.items() if error > proofs.LIMIT] == ["32/fc7", "32/head"]
    # Of this model in other dialects, or of other sets, these checksums say nothing.
    other = dataclasses.replace(row, tag="mine")
    assert proofs.check_leaves(other, leaves) is None
    assert proofs.check_activations(other, leaves) is None
