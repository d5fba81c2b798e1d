"""The tables of rules: each transform by hand, both ways; timm against torchvision; Keras' order against Keras."""

import dataclasses
import os
import re
from pathlib import Path

import numpy as np
import pytest

from jft.models import abstract_variables, create_model
from jft.models.vgg import VGG
from jft.utils import tree
from jft.weights import catalog, convert, proofs, readers, rules, seeded
from jft.weights.rules import inception, transforms


def test_torch_layouts():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(5, 4, 3, 2))
    assert rules.hwio.forward(kernel)[2, 1, 3, 4] == kernel[4, 3, 2, 1]
    assert rules.dense.forward(kernel[0, 0])[1, 2] == kernel[0, 0, 2, 1]


def test_fc6_reads_the_map_in_torchs_order():
    rng = np.random.default_rng(0)
    feature_map = rng.normal(size=(2, 3, 3, 4))  # [batch, height, width, channels]
    weight = rng.normal(size=(5, 4 * 3 * 3))
    torch = feature_map.transpose(0, 3, 1, 2).reshape(2, -1) @ weight.T
    leaf = rules.dense_of_map(3).forward(weight)
    np.testing.assert_allclose(feature_map.reshape(2, -1) @ leaf, torch)
    assert not np.allclose(feature_map.reshape(2, -1) @ weight.T, torch)  # unpermuted: another network
    np.testing.assert_array_equal(rules.dense_of_conv(3).forward(weight.reshape(5, 4, 3, 3)), leaf)


@pytest.mark.parametrize(
    ("transform", "shape"),
    [
        (rules.hwio, (5, 4)),
        (rules.dense, (5,)),
        (rules.dense_of_map(3), ()),
        (rules.dense_of_map(3), (5, 4, 3, 3)),
        (rules.dense_of_map(3), (5, 35)),
        (rules.dense_of_conv(3), (5, 4, 2, 2)),
        (rules.dense_of_conv(3), (5, 36)),
    ],
)
def test_shapes_that_a_transform_cannot_take(transform, shape):
    with pytest.raises(ValueError):
        transform.forward(np.ones(shape))


def test_keras_bias_and_epsilon_are_absorbed():
    rng = np.random.default_rng(0)
    x, bias, mean, gamma, beta = rng.normal(size=(5, 7)).astype("f4")
    var = np.float32([1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1, 10])  # small enough for epsilon to matter
    keras = gamma * (x + bias - mean) / np.sqrt(var + np.float32(1.001e-5)) + beta
    our_mean, our_var = transforms.center.forward(bias, mean), transforms.keras_variance.forward(var)
    ours = gamma * (x - our_mean) / np.sqrt(our_var + np.float32(1e-5)) + beta
    np.testing.assert_allclose(ours, keras, rtol=1e-5)
    wrong = gamma * (x - our_mean) / np.sqrt(var + np.float32(1e-5)) + beta
    assert np.max(np.abs(wrong - keras)) > 10 * np.max(np.abs(ours - keras))


def test_keras_variance_is_exact_from_leaf_to_leaf():
    """By way of a file; from file to file, by way of a leaf, within one rounding."""
    var = np.float32(10) ** np.random.default_rng(0).uniform(-7, 3, 100_000).astype(np.float32)
    (back,) = transforms.keras_variance.backward(var)
    np.testing.assert_array_equal(transforms.keras_variance.forward(back), var)
    assert np.count_nonzero(back != var) > 10_000  # those small enough for it to do anything
    again = transforms.keras_variance.backward(transforms.keras_variance.forward(var))[0]
    np.testing.assert_array_max_ulp(again, var, maxulp=1)
    assert np.any(again != var)


def test_a_learnt_scale_goes_back_into_the_kernel():
    """Keras' Inception has no scale; after training, what its file would compute is what the leaves compute."""
    row = catalog.find_row("inception_v3", "keras")
    table = rules.rules_for(row, create_model("inception_v3"))
    rng = np.random.default_rng(0)
    names = ("conv/kernel", "bn/scale", "bn/bias", "bn/mean", "bn/var")
    values = [rng.normal(size=(27, 8)).astype("f4"), *rng.uniform(0.5, 2, (4, 8)).astype("f4")]
    kernel, scale, bias, mean, var = values
    scale[3] = -1.5
    unit = {("params/" if i < 3 else "batch_stats/") + f"stem/conv1a/{name}": values[i] for i, name in enumerate(names)}
    source = rules.sources_of(table, unit)
    assert source.keys() == {"conv1/0", "bn1/0", "bn1/1", "bn1/2"}
    x = rng.normal(size=(4, 27)).astype("f4")
    wanted = (x @ kernel - mean) / np.sqrt(var + 1e-3) * scale + bias
    keras = (x @ source["conv1/0"] - source["bn1/1"]) / np.sqrt(source["bn1/2"] + 1e-3) + source["bn1/0"]
    np.testing.assert_allclose(keras, wanted, rtol=1e-5, atol=1e-6)
    unit["params/stem/conv1a/bn/scale"] = np.ones(8, "f4")
    untouched = rules.sources_of(table, unit)
    assert np.shares_memory(untouched["conv1/0"], kernel)
    np.testing.assert_array_equal(untouched["bn1/1"], mean)


def test_timm_equals_torchvision():
    """timm renames the classifier and makes convolutions of it; the leaves must be the same."""
    model = VGG(convs=(1, 1), widths=(4, 8), hidden=16, grid=3, num_classes=5, batch_norm=True)
    as_torchvision = rules.rules_for(catalog.find_row("vgg16", "torchvision"), model)
    as_timm = rules.rules_for(catalog.find_row("vgg16", "timm"), model)
    shapes = rules.source_shapes(as_torchvision, tree.flatten(abstract_variables(model, 12)))
    tensors = seeded.seeded_torch(shapes)
    renamed = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2", "classifier.6": "head.fc"}
    conv = {"classifier.0.weight": (16, 8, 3, 3), "classifier.3.weight": (16, 16, 1, 1)}
    assert [rule.target for rule in as_timm] == [rule.target for rule in as_torchvision]
    for ours, theirs in zip(as_torchvision, as_timm, strict=True):
        (name,) = ours.sources
        stem, leaf = name.rsplit(".", 1)
        assert theirs.sources == (f"{renamed.get(stem, stem)}.{leaf}",)
        array = tensors[name]
        leaf = ours.transform.forward(array)
        np.testing.assert_array_equal(theirs.transform.forward(array.reshape(conv.get(name, array.shape))), leaf)
        np.testing.assert_array_equal(ours.transform.backward(leaf)[0], array)
        np.testing.assert_array_equal(theirs.transform.backward(leaf)[0].reshape(array.shape), array)


@pytest.mark.parametrize(
    ("model", "dialects", "block", "names"),
    [
        (
            "efficientnet_lite1",
            {"efficientnet_lite": "_blocks.3._{}_conv.weight", "timm": "blocks.1.2.conv_{}.weight"},
            "stage2/block2",
            {"efficientnet_lite": ("expand", "depthwise", "project"), "timm": ("pw", "dw", "pwl")},
        ),
        (
            "efficientnet_b1",
            {"torchvision": "features.2.2.block.{}.weight", "timm": "blocks.1.2.{}.weight"},
            "stage2/block2",
            {
                "torchvision": ("0.0", "1.0", "2.fc1", "2.fc2", "3.0"),
                "timm": ("conv_pw", "conv_dw", "se.conv_reduce", "se.conv_expand", "conv_pwl"),
            },
        ),
    ],
)
def test_timm_has_the_same_tensors_in_the_same_order(model, dialects, block, names):
    """As torchvision, and as efficientnet_lite_pytorch: see scripts/golden/make_efficientnet_lite.py."""
    row = catalog.find_row("efficientnet_lite0", "timm")
    tables = {
        dialect: list(rules.rules_for(dataclasses.replace(row, dialect=dialect), create_model(model)))
        for dialect in dialects
    }
    first, second = ([(rule.target, rule.transform) for rule in table] for table in tables.values())
    assert first == second
    for dialect, pattern in dialects.items():
        kernels = [rule for rule in tables[dialect] if rule.target.endswith("kernel") and f"/{block}/" in rule.target]
        assert [rule.sources[0] for rule in kernels] == [pattern.format(name) for name in names[dialect]]


def test_timm_and_the_package_of_efficientnet_lite_have_the_same_tensors_in_the_same_order():
    """Which they have; see scripts/golden/make_efficientnet_lite.py."""
    tables = [
        rules.rules_for(catalog.find_row("efficientnet_lite1", dialect), create_model("efficientnet_lite1"))
        for dialect in ("efficientnet_lite", "timm")
    ]
    package, timm = ([(rule.target, rule.transform) for rule in table] for table in tables)
    assert package == timm
    names = [[rule.sources[0] for rule in table if rule.target.startswith("params/stage2/block2/")] for table in tables]
    assert names[0][::3] == [f"_blocks.3._{name}_conv.weight" for name in ("expand", "depthwise", "project")]
    assert names[1][::3] == [f"blocks.1.2.conv_{name}.weight" for name in ("pw", "dw", "pwl")]


@pytest.mark.parametrize("model", ["resnet18", "resnet50", "wide_resnet50_2"])
def test_the_robustness_library_has_torchvisions_names_behind_a_prefix(model):
    ours, theirs = (
        rules.rules_for(catalog.find_row(model, tag), create_model(model)) for tag in ("torchvision", "l2_eps3")
    )
    assert [(rule.target, rule.transform) for rule in ours] == [(rule.target, rule.transform) for rule in theirs]
    assert [[f"model.{name}" for name in rule.sources] for rule in ours] == [[*rule.sources] for rule in theirs]


def test_the_network_is_taken_out_of_a_checkpoint_of_the_robustness_library():
    """tests/golden/torch_robustness.pth has what the library adds to a network, saved with dill."""
    saved = readers.read_tensors(Path(__file__).parents[1] / "golden" / "torch_robustness.pth")
    beside = {name: x for name, x in saved.items() if not name.startswith("model.")}
    np.testing.assert_allclose(beside["normalizer.new_mean"].ravel(), (0.485, 0.456, 0.406), rtol=1e-6)
    np.testing.assert_allclose(beside["attacker.normalize.new_std"].ravel(), (0.229, 0.224, 0.225), rtol=1e-6)
    own = {name.removeprefix("model."): x for name, x in saved.items() if name not in beside}
    assert own.keys() == {name.removeprefix("attacker.model.") for name in beside if name.startswith("attacker.model.")}
    for name, x in own.items():
        np.testing.assert_array_equal(beside[f"attacker.model.{name}"], x)

    row = catalog.find_row("resnet18", "l2_eps3")
    target = tree.flatten(abstract_variables(create_model("resnet18"), 32))
    sources = proofs.seeded_sources(row)
    conversion = convert.convert({**beside, **sources}, row, target)
    conversion.check("the checkpoint")
    np.testing.assert_array_equal(
        conversion.leaves["params/layer1/block0/conv1/kernel"],
        sources["model.layer1.0.conv1.weight"].transpose(2, 3, 1, 0),
    )
    assert convert.guess_row({**beside, **sources}, catalog.CATALOG.values()).dialect == "robustness"


def test_timms_transformer_equals_torchvisions():
    """The proofs of one are those of the other: the same leaves are made in the same way."""
    row = catalog.find_row("vit_base_patch16", "torchvision")
    model = create_model(row.model, depth=2)
    ours, theirs = (
        {rule.target: rule for rule in rules.rules_for(catalog.find_row(row.model, tag), model)}
        for tag in ("torchvision", "deit")
    )
    assert ours.keys() == theirs.keys() == tree.flatten(abstract_variables(model, 224)).keys()
    assert all(ours[leaf].transform is theirs[leaf].transform for leaf in ours)
    named = {rule.sources: theirs[leaf].sources for leaf, rule in ours.items()}
    assert len(set(named.values())) == len(named) == len(ours)
    source = "encoder.layers.encoder_layer_1"
    for one, other in {
        f"{source}.self_attention.in_proj_weight": "blocks.1.attn.qkv.weight",
        f"{source}.self_attention.in_proj_bias": "blocks.1.attn.qkv.bias",
        f"{source}.self_attention.out_proj.weight": "blocks.1.attn.proj.weight",
        f"{source}.ln_2.bias": "blocks.1.norm2.bias",
        f"{source}.mlp.3.weight": "blocks.1.mlp.fc2.weight",
        "encoder.pos_embedding": "pos_embed",
    }.items():
        assert named[one,] == (other,)


def test_the_token_of_masked_patches_is_ignored():
    row = catalog.find_row("vit_small_patch14_reg4_dinov2", "dinov2")
    table = rules.rules_for(row, model := create_model(row.model, **row.options, depth=1))
    assert rules.is_ignored("mask_token")
    # Its positions begin with the class token's, which timm has added to the token.
    shapes = rules.source_shapes(table, tree.flatten(abstract_variables(model, 224)))
    assert shapes["pos_embed"] == (1, 1 + 37 * 37, 384) and shapes["register_tokens"] == (1, 4, 384)


def test_torchvisions_older_names_of_the_perceptron():
    row = catalog.find_row("vit_base_patch32", "torchvision")
    layer = "encoder.layers.encoder_layer_3.mlp"
    names = [f"{layer}.linear_1.weight", f"{layer}.linear_2.bias", "encoder.ln.weight"]
    found = rules.canonical(row, names)
    assert found == {f"{layer}.0.weight": names[0], f"{layer}.3.bias": names[1], names[2]: names[2]}


def test_the_way_back_takes_no_memory_but_for_shapes():
    row = catalog.find_row("vgg16", "torchvision")
    target = tree.flatten(abstract_variables(create_model("vgg16"), 224))
    table = rules.rules_for(row, create_model("vgg16"))
    leaves = {name: np.broadcast_to(np.float32(0), leaf.shape) for name, leaf in target.items()}
    source = rules.sources_of(table, leaves)
    assert source["classifier.0.weight"].shape == (4096, 25088)
    assert all(not any(array.strides) for array in source.values())
    assert {name: array.shape for name, array in source.items()} == rules.source_shapes(table, target)


def test_leaves_that_a_dialect_lacks():
    model = create_model("inception_v3", aux_heads=True)
    target = tree.flatten(abstract_variables(model, 299))
    with pytest.raises(ValueError, match=r"12 leaves have no tensor in this dialect, such as params/aux/\S+, \S+, "):
        rules.source_shapes(rules.rules_for(catalog.find_row("inception_v3", "timm"), model), target)


def test_dialects_that_nobody_has_published():
    row = catalog.find_row("vgg16", "keras")
    with pytest.raises(ValueError, match=r"unknown keras family 'SqueezeNet'.*Known: .*InceptionV3, .*ResNet"):
        rules.rules_for(row, create_model("squeezenet1_1"))
    jft = catalog.find_row("vgg_tiny", "digits04")
    with pytest.raises(ValueError, match=r"unknown dialect 'jft'.*Known: torchvision, caffe, timm, .*keras"):
        rules.rules_for(jft, create_model("vgg_tiny"))


def test_caffe_names_with_underscores():
    row = catalog.find_row("googlenet_caffe", "caffe")
    names = ["conv1_7x7_s2/0", "inception_3a_5x5_reduce/1", "inception_3a/1x1/0", "loss3_classifier/0", "other/0"]
    assert rules.canonical(row, names) == {
        "conv1/7x7_s2/0": "conv1_7x7_s2/0",
        "inception_3a/5x5_reduce/1": "inception_3a_5x5_reduce/1",
        "inception_3a/1x1/0": "inception_3a/1x1/0",
        "loss3/classifier/0": "loss3_classifier/0",
        "other/0": "other/0",
    }
    both = ["conv2/3x3/0", "conv2_3x3/0"]
    assert rules.canonical(row, both) == {name: name for name in both}
    fire = rules.canonical(catalog.find_row("squeezenet1_0", "caffe"), ["fire2_squeeze1x1/0"])
    assert fire == {"fire2/squeeze1x1/0": "fire2_squeeze1x1/0"}


def test_regnet_of_timm_has_other_names():
    model = create_model("regnet_y_400mf")
    rows = [catalog.find_row("regnet_y_400mf", tag) for tag in ("torchvision", "timm_v2")]
    torchvision, timm = (rules.rules_for(row, model) for row in rows)
    parts = {"0": "conv", "1": "bn", "a": "conv1", "b": "conv2", "c": "conv3"}

    def renamed(name):
        name = re.sub(r"trunk_output\.block\d\.block(\d)-(\d+)", lambda m: f"s{m[1]}.b{int(m[2]) + 1}", name)
        name = re.sub(r"\.f\.([abc])\.([01])", lambda m: f".{parts[m[1]]}.{parts[m[2]]}", name).replace(".f.se", ".se")
        name = re.sub(r"\.proj\.([01])", lambda m: f".downsample.{parts[m[1]]}", name)
        return re.sub(r"^fc", "head.fc", re.sub(r"^stem\.([01])", lambda m: f"stem.{parts[m[1]]}", name))

    for ours, theirs in zip(torchvision, timm, strict=True):
        assert (theirs.target, theirs.transform) == (ours.target, ours.transform)
        assert theirs.sources == tuple(map(renamed, ours.sources)) != ours.sources


def test_densenets_older_names():
    """Of the published files, which torchvision renames and Keras reads by order."""
    torch = {
        "norm1.weight": "norm.1.weight",
        "conv2.weight": "conv.2.weight",
        "norm2.running_var": "norm.2.running_var",
    }
    layer = "features.denseblock4.denselayer16"
    names = {f"{layer}.{new}": f"{layer}.{old}" for new, old in torch.items()} | {"features.norm5.bias": ""}
    file = [old or new for new, old in names.items()]
    for dialect in ("torchvision", "timm"):
        found = rules.canonical(catalog.find_row("densenet121", dialect), file)
        assert found == {new: old or new for new, old in names.items()}
    keras = {"conv1_conv/0": "conv1/conv/0", "conv1_bn/3": "conv1/bn/3", "predictions/1": "fc1000/1", "bn/0": "bn/0"}
    assert rules.canonical(catalog.find_row("densenet121", "keras"), [*keras.values()]) == keras


def test_by_order():
    names = ["c7/0", "b7/0", "b7/1", "b7/2", "c2/0", "conv1/0", "conv1/1", "conv1/2", "conv1/3", "d/0", "d/1", "e/0"]
    assert inception.by_order([*names, "e/1"]) == {
        "conv1/0": "c7/0",
        "bn1/0": "b7/0",
        "bn1/1": "b7/1",
        "bn1/2": "b7/2",
        "conv2/0": "c2/0",
        **{f"?conv1/{i}": f"conv1/{i}" for i in range(4)},
        "predictions/0": "d/0",
        "predictions/1": "d/1",
        "?e/0": "e/0",
        "?e/1": "e/1",
    }


MODULES = [f"mixed_{i}{letter}" for i, letters in {5: "bcd", 6: "abcde", 7: "abc"}.items() for letter in letters]


def keras_units(model):
    """{Keras' convolution: its first place (stage, branch, depth)}, read off the graph from each module's end.

    A branch is the position among a concatenation's inputs, of the outermost first; depth counts the convolutions
    that come after.
    """

    def before(layer):
        return [node.operation for node in layer._inbound_nodes[0].parent_nodes]

    ends = {model.get_layer(f"mixed{i}") for i in range(11)}
    units = {}

    def walk(layer, stage, branch, depth):
        if layer in ends or not layer._inbound_nodes[0].parent_nodes:
            return
        if type(layer).__name__ == "Concatenate":
            for i, inner in enumerate(before(layer)):
                walk(inner, stage, (*branch, i), depth)
            return
        if type(layer).__name__ == "Conv2D":
            units.setdefault(layer.name, (stage, branch, depth))
            depth += 1
        for inner in before(layer):
            walk(inner, stage, branch, depth)

    for i in range(11):
        for branch, layer in enumerate(before(model.get_layer(f"mixed{i}"))):
            walk(layer, MODULES[i], (branch,), 0)
    return units


def jft_place(unit):
    """(stage, branch, number within it from 1 or None, 'a' or 'b' where it splits), by the name of jft's unit alone."""
    stage, name = unit.split("/")
    branches = {
        "5": ["branch1x1", "branch5x5", "branch3x3dbl", "branch_pool"],
        "6": ["branch1x1", "branch7x7", "branch7x7dbl", "branch_pool"],
        "6a": ["branch3x3", "branch3x3dbl"],
        "7a": ["branch3x3", "branch7x7x3"],
        "7": ["branch1x1", "branch3x3", "branch3x3dbl", "branch_pool"],
    }
    order = branches.get(stage[-2:]) or branches[stage[-2]]
    name, number, half = re.fullmatch(r"(\w+?)(?:_(\d)([ab]?))?", name).groups()
    return stage, order.index(name), number and int(number), half


def test_keras_order_is_that_of_keras():
    """The k-th convolution in `model.layers` is the unit that the rules call conv{k}, by the graph and by its shape."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras

    model = keras.applications.InceptionV3(weights=None)
    layers = {layer.name: layer for layer in model.layers}
    names = [f"{layer.name}/{i}" for layer in model.layers for i, _ in enumerate(layer.weights)]
    row = catalog.find_row("inception_v3", "keras")
    found = rules.canonical(row, names)
    table = rules.rules_for(row, create_model("inception_v3", **row.options))
    sources = {rule.target: found[rule.sources[0]].split("/")[0] for rule in table}
    assert sorted(found.values()) == sorted(names)

    target = tree.flatten(abstract_variables(create_model("inception_v3", **row.options), 299))
    units = [leaf.removesuffix("/conv/kernel") for leaf in target if leaf.endswith("/conv/kernel")]
    assert len(units) == 94
    graph = keras_units(model)
    for unit in units:
        conv = layers[sources[f"{unit}/conv/kernel"]]
        assert tuple(conv.kernel.shape) == target[f"{unit}/conv/kernel"].shape, unit
        # Its BatchNorm is the one that reads it.
        norm = conv._outbound_nodes[0].operation
        assert {sources[f"{unit}/bn/{leaf}"] for leaf in ("scale", "bias")} == {norm.name}
        stats = unit.replace("params/", "batch_stats/")
        assert {sources[f"{stats}/bn/{leaf}"] for leaf in ("mean", "var")} == {norm.name}
    # The stem is a line: by depth.
    stem = [sources[f"params/stem/{unit}/conv/kernel"] for unit in ("conv1a", "conv2a", "conv2b", "conv3b", "conv4a")]
    assert stem == [layer.name for layer in model.layers if type(layer).__name__ == "Conv2D"][:5]
    for stage in MODULES:
        inside = [unit.removeprefix("params/") for unit in units if unit.startswith(f"params/{stage}/")]
        places = {unit: jft_place(unit) for unit in inside}
        longest = {}
        for _, branch, number, _ in places.values():
            longest[branch] = max(longest.get(branch, 0), number or 1)
        for unit, (_, branch, number, half) in places.items():
            depth = longest[branch] - (number or 1)
            inner = ((branch, "ab".index(half)),) if half else ((branch,), (branch, 0), (branch, 1))
            conv = sources[f"params/{unit}/conv/kernel"]
            assert graph[conv] in [(stage, place, depth) for place in inner], unit
