"""Conversion: strictness both ways, auxiliary heads, and numbers that are none."""

import functools
import zlib

import jax
import kinds
import ml_dtypes
import numpy as np
import pytest

from jft.models import abstract_variables, create_model
from jft.utils import tree
from jft.weights import catalog, convert, readers, rules, seeded

SQUEEZENET = catalog.find_row("squeezenet1_1", "torchvision")
RESNET = catalog.find_row("resnet18", "torchvision")


@functools.cache
def target_of(row):
    return tree.flatten(abstract_variables(create_model(row.model, **row.options), 224))


@functools.cache
def source_of(row):
    """Seeded tensors of the row's dialect."""
    table = rules.rules_for(row, create_model(row.model, **row.options))
    return seeded.SEEDED[row.dialect](rules.source_shapes(table, target_of(row)))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_floats_become_contiguous_float32(dtype):
    source = {name: array.astype(dtype) for name, array in source_of(SQUEEZENET).items()}
    conversion = convert.convert(source, SQUEEZENET, target_of(SQUEEZENET))
    conversion.check("f")
    assert all(leaf.dtype == np.float32 and leaf.flags.c_contiguous for leaf in conversion.leaves.values())
    np.testing.assert_array_equal(
        conversion.leaves["params/head/head/kernel"],
        source["classifier.1.weight"].astype("f4").transpose(2, 3, 1, 0),
    )


def with_(changes):
    """A complete source with tensors replaced, added, or (None) removed."""
    tensors = {**source_of(RESNET), **changes}
    return {name: array for name, array in tensors.items() if array is not None}


BAD = {
    "missing": ({"bn1.running_var": None}, r"missing \(1\):\n    bn1.running_var \[batch_stats/stem/bn1/var\]"),
    "unexpected": ({"layer1.0.se.weight": np.ones(3, "f4")}, r"unexpected \(1\):\n    layer1.0.se.weight"),
    "misshaped": (
        {"fc.weight": np.ones((10, 512), "f4")},
        r"type \(1\):\n    fc.weight float32 \[10, 512\] does not give \[512, 1000\] \[params/head/head/kernel\]",
    ),
    "transposed": (
        {"conv1.weight": np.ones((7, 7, 3, 64), "f4")},
        r"conv1.weight float32 \[7, 7, 3, 64\] does not give",
    ),
    "scalar": ({"conv1.weight": np.float32(1)}, r"conv1.weight float32 \[\] does not give \[7, 7, 3, 64\]"),
    "integers": ({"bn1.bias": np.ones(64, np.int32)}, r"bn1.bias int32 \[64\] does not give \[64\]"),
    "NaN": ({"bn1.bias": np.full(64, np.nan, "f4")}, r"NaN or infinity \(1\):\n    bn1.bias \[params/stem/bn1/bias\]"),
    "overflow": ({"bn1.bias": np.full(64, 1e300)}, r"NaN or infinity \(1\):\n    bn1.bias \[params/stem/bn1/bias\]"),
}


@pytest.mark.parametrize("name", BAD)
def test_one_fault_is_named(name):
    changes, message = BAD[name]
    conversion = convert.convert(with_(changes), RESNET, target_of(RESNET))
    with pytest.raises(ValueError, match=message):
        conversion.check("weights.pth")


def test_all_faults_are_in_one_error_and_fresh_forgives_its_leaves():
    changes = {"fc.weight": np.ones((10, 512), "f4"), "fc.bias": np.full(1000, np.inf, "f4"), "conv1.weight": None}
    conversion = convert.convert(with_(changes), RESNET, target_of(RESNET))
    with pytest.raises(ValueError, match=r"(?s)weights.pth does not.*resnet18.torchvision.*conv1.*fc.weight.*fc.bias"):
        conversion.check("weights.pth")
    head = {"params/head/head/kernel", "params/head/head/bias"}
    assert "params/head/head/kernel" not in conversion.leaves
    with pytest.raises(ValueError, match=r"missing \(1\)") as caught:
        conversion.check("weights.pth", fresh=head)
    assert "fc." not in str(caught.value)
    conversion.check("weights.pth", fresh=head | {"params/stem/conv1/kernel"})


def test_long_lists_are_cut():
    with pytest.raises(ValueError, match=r"missing \(102\):\n(    \S+ \[\S+\]\n){5}    and 97 more\n") as e:
        convert.convert({"w": np.ones(1, "f4")}, RESNET, target_of(RESNET)).check("f")
    assert str(e.value).endswith("    w\nIt looks like no weights of the catalog.")
    with pytest.raises(ValueError, match=r"unexpected \(30\):\n(    extra\d+\n){20}    and 10 more\n"):
        extra = {f"extra{i}": np.ones(1, "f4") for i in range(30)}
        convert.convert(with_(extra), RESNET, target_of(RESNET)).check("f")


def test_batch_counts_are_ignored():
    conversion = convert.convert(with_({"bn1.num_batches_tracked": np.array(7)}), RESNET, target_of(RESNET))
    conversion.check("f")
    assert len(conversion.leaves) == len(target_of(RESNET))


def test_keras_bias_folds_into_the_mean_it_belongs_to():
    row = catalog.find_row("resnet50", "keras")
    source = dict(source_of(row))
    assert len(source) == len(target_of(row)) + 53  # biases of convolutions
    leaves = convert.convert(source, row, target_of(row)).leaves
    np.testing.assert_array_equal(
        leaves["batch_stats/layer2/block0/downsample_bn/mean"],
        source["conv3_block1_0_bn/2"] - source["conv3_block1_0_conv/1"],
    )
    source["conv1_conv/1"] = np.ones(1, "f4")  # would broadcast
    with pytest.raises(
        ValueError, match=r"conv1_conv/1 float32 \[1\] and conv1_bn/2 float32 \[64\] does not give \[64\]"
    ):
        convert.convert(source, row, target_of(row)).check("f")


def test_old_name_of_keras_classifier():
    row = catalog.find_row("resnet50", "keras")
    old = {name.replace("predictions", "probs"): array for name, array in source_of(row).items()}
    conversion = convert.convert(old, row, target_of(row))
    conversion.check("f")
    np.testing.assert_array_equal(conversion.leaves["params/head/head/kernel"], old["probs/0"])
    both = {**old, "predictions/0": old["probs/0"]}
    with pytest.raises(ValueError, match=r"unexpected \(1\):\n    probs/0"):
        convert.convert(both, row, target_of(row)).check("f")


def names_of(row):
    """The names of the tensors of the row's file."""
    model = create_model(row.model, **row.options)
    lacking = set() if row.aux else set(model.auxiliary_heads())
    table = [rule for rule in rules.rules_for(row, model) if rule.target.split("/")[1] not in lacking]
    return list(dict.fromkeys(source for rule in table for source in rule.sources))


# Models that share their names, as SqueezeNet 1.1 and 1.0 do in Caffe: the first is taken for the others.
SHARED = {
    "squeezenet1_1.caffe": "squeezenet1_0.caffe",
    "resnext50_32x4d.torchvision": "resnet50.torchvision",
    "resnext101_32x8d.torchvision": "resnet101.torchvision",
    "resnext101_64x4d.torchvision": "resnet101.torchvision",
    "wide_resnet50_2.torchvision": "resnet50.torchvision",
    "wide_resnet101_2.torchvision": "resnet101.torchvision",
    **{f"mobilenet_v1_{width:03}.keras": "mobilenet_v1.keras" for width in (75, 50, 25)},
    **{f"mobilenet_v2_{width:03}.keras": "mobilenet_v2.keras" for width in (140, 130, 75, 50, 35)},
    "efficientnet_b2.torchvision": "efficientnet_b1.torchvision",
    "efficientnet_b2.keras": "efficientnet_b1.keras",
    "convnext_base.torchvision": "convnext_small.torchvision",
    "convnext_large.torchvision": "convnext_small.torchvision",
    "vit_base_patch32.torchvision": "vit_base_patch16.torchvision",
}


@pytest.mark.parametrize(
    "name",
    kinds.each_set(
        n
        for n, row in catalog.CATALOG.items()
        if row.tag in ("torchvision", "keras", "caffe") or n == "inception_v3.timm"
    ),
)
def test_a_file_is_known_by_its_names(name):
    row = catalog.CATALOG[name]
    names = names_of(row)
    guess = convert.guess_row(names, catalog.CATALOG.values())
    assert guess.name == SHARED.get(name, name)
    wrong = catalog.CATALOG["vgg11.torchvision" if name != "vgg11.torchvision" else "resnet34.torchvision"]
    with pytest.raises(ValueError, match=f"It looks like weights of another kind: {guess.name}"):
        convert.convert(dict.fromkeys(names, np.ones(1, "f4")), wrong, target_of(wrong)).check("f")


def test_models_that_share_their_names_are_told_apart_by_shapes():
    """Whatever the number of classes."""
    resnet50, wide = catalog.find_row("resnet50", "torchvision"), catalog.find_row("wide_resnet50_2", "timm_v2")
    table = rules.rules_for(wide, create_model(wide.model))
    shapes = rules.source_shapes(table, target_of(wide))
    shapes |= {"fc.weight": (10, 2048), "fc.bias": (10,)}
    file = {name: np.broadcast_to(np.float32(1), shape) for name, shape in shapes.items()}
    assert convert.guess_row(file, catalog.CATALOG.values()).name == "wide_resnet50_2.torchvision"
    with pytest.raises(ValueError, match=r"It looks like weights of another kind: wide_resnet50_2\.torchvision"):
        convert.convert(file, resnet50, target_of(resnet50)).check("f", fresh=["params/head/head/kernel"])
    # Of none of them: the first.
    file["conv1.weight"] = np.ones((64, 3, 5, 5), "f4")
    assert convert.guess_row(file, catalog.CATALOG.values()) is resnet50


def test_a_file_is_known_by_order_and_by_caffes_other_names():
    keras = catalog.find_row("inception_v3", "keras")
    # conv2d_95/0, batch_normalization_95/0 …: in the file's order, which is that of the rules.
    kinds = {"conv": "conv2d", "bn": "batch_normalization", "predictions": "predictions"}
    layers = {layer: layer.rstrip("0123456789") for layer in (name.split("/")[0] for name in names_of(keras))}
    renamed = {layer: f"{kinds[kind]}_{200 - i}" for i, (layer, kind) in enumerate(layers.items())}
    names = [f"{renamed[layer]}/{i}" for layer, i in (name.split("/") for name in names_of(keras))]
    assert convert.guess_row(names, catalog.CATALOG.values()) is keras
    assert rules.canonical(keras, names) == dict(zip(names_of(keras), names, strict=True))
    googlenet = catalog.find_row("googlenet_caffe", "caffe")
    names = [name.replace("/", "_", name.count("/") - 1) for name in names_of(googlenet)]
    assert "inception_3a_1x1/0" in names
    assert convert.guess_row(names, catalog.CATALOG.values()) is googlenet


# Auxiliary heads


def few(target):
    """The leaves with at most four channels, but for what flattens a map."""
    shapes = {name: (*leaf.shape[:-1], min(leaf.shape[-1], 4)) for name, leaf in target.items()}
    return {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in shapes.items()}


@functools.cache
def googlenet(aux_heads):
    model = create_model("googlenet", aux_heads=aux_heads)
    return few(tree.flatten(abstract_variables(model, 224)))


def googlenet_file(dialect, aux):
    """(row, tensors) of a file with or without the auxiliary heads."""
    row = catalog.find_row("googlenet", "torchvision")
    shapes = {name: leaf.shape for name, leaf in googlenet(aux).items()}
    if dialect == "jft":
        return row, seeded.seeded_leaves(shapes)
    return row, seeded.seeded_torch(
        rules.source_shapes(rules.rules_for(row, create_model("googlenet")), googlenet(aux))
    )


@pytest.mark.parametrize("dialect", ["torchvision", "jft"])
@pytest.mark.parametrize("file", [True, False], ids=["file with", "file without"])
@pytest.mark.parametrize("wanted", [True, False], ids=["model with", "model without"])
def test_auxiliary_heads(dialect, file, wanted):
    row, tensors = googlenet_file(dialect, file)
    conversion = convert.convert(tensors, row, googlenet(wanted))
    assert conversion.unexpected == ()
    side = {leaf for leaf in googlenet(wanted) if leaf.split("/")[1].startswith("aux")}
    assert len(side) == (18 if wanted else 0)
    if wanted and not file:
        assert conversion.missing.keys() == side
        with pytest.raises(ValueError, match=r"missing \(18\):(.|\n)*train with fresh='aux1 aux2'"):
            conversion.check("f")
    else:
        assert set(conversion.leaves) == set(googlenet(wanted))
    conversion.check("f", fresh=side)


def test_an_auxiliary_head_of_another_model_is_unexpected():
    row, tensors = googlenet_file("jft", False)
    tensors["params/aux3/fc/kernel"] = np.ones((2, 2), "f4")
    assert convert.convert(tensors, row, googlenet(False)).unexpected == ("params/aux3/fc/kernel",)


def test_inception_of_keras_is_converted_by_order():
    row = catalog.find_row("inception_v3", "keras")
    target = few(tree.flatten(abstract_variables(create_model(row.model, **row.options), 299)))
    table = rules.rules_for(row, create_model(row.model, **row.options))
    shapes = rules.source_shapes(table, target)
    assert len(shapes) == 94 * 4 + 2
    tensors = seeded.seeded_keras(shapes)
    # Names that sort and count otherwise; the file's order is that of the rules.
    renamed = {f"layer_{zlib.crc32(name.split('/')[0].encode())}/{name[-1]}": array for name, array in tensors.items()}
    conversion = convert.convert(renamed, row, target)
    conversion.check("f")
    for name, leaf in (("conv6/0", "mixed_5b/branch3x3dbl_1/conv/kernel"), ("bn9/0", "mixed_5b/branch1x1/bn/bias")):
        np.testing.assert_array_equal(conversion.leaves[f"params/{leaf}"], tensors[name])
    np.testing.assert_array_equal(conversion.leaves["batch_stats/mixed_7c/branch_pool/bn/var"], tensors["bn94/2"])
    np.testing.assert_array_equal(conversion.leaves["params/mixed_7c/branch_pool/bn/scale"], np.ones(4))
    with pytest.raises(ValueError, match=r"unexpected \(4\):\n    extra/0\n"):
        convert.convert({**renamed, **{f"extra/{i}": np.ones(4, "f4") for i in range(4)}}, row, target).check("f")


# Numbers that are none


def test_nan_is_refused_unless_allowed():
    bias = source_of(RESNET)["bn1.bias"].copy()
    bias[5] = np.nan
    conversion = convert.convert(with_({"bn1.bias": bias}), RESNET, target_of(RESNET))
    assert conversion.nonfinite == {"params/stem/bn1/bias": ("bn1.bias",)}
    with pytest.raises(ValueError, match="NaN or infinity"):
        conversion.check("f")
    conversion.check("f", allow_nonfinite=True)
    np.testing.assert_array_equal(conversion.leaves["params/stem/bn1/bias"], bias)
    incomplete = convert.convert(with_({"bn1.bias": bias, "bn1.weight": None}), RESNET, target_of(RESNET))
    with pytest.raises(ValueError, match=r"missing \(1\):\n    bn1.weight") as caught:
        incomplete.check("f", allow_nonfinite=True)
    assert "NaN" not in str(caught.value)


def test_jft_names_are_taken_as_they_are():
    target = target_of(RESNET)
    leaves = {name: np.full(leaf.shape, 0.5, "f4") for name, leaf in target.items()}
    for row in (RESNET, catalog.find_row("resnet18", "timm")):
        conversion = convert.convert(leaves, row, target)
        conversion.check("f")
        assert conversion.leaves.keys() == target.keys()
    with pytest.raises(ValueError, match="jft wrote this file for another model"):
        convert.convert(leaves, SQUEEZENET, target_of(SQUEEZENET)).check("f")


def test_resnet18_without_layer4_convolutions(real_data):
    tensors = readers.read_tensors(real_data / "weights" / "resnet18_without_layer4_convs.safetensors")
    target = target_of(RESNET)
    conversion = convert.convert(tensors, RESNET, target)
    absent = {f"layer4.{block}.conv{i}.weight" for block in (0, 1) for i in (1, 2)}
    assert {name for names in conversion.missing.values() for name in names} == absent
    assert not (conversion.unexpected or conversion.misshaped or conversion.nonfinite)
    with pytest.raises(ValueError, match=r"missing \(4\)") as caught:
        conversion.check("resnet18.safetensors")
    assert all(f"    {name} [params/layer4/" in str(caught.value) for name in absent)
    assert str(caught.value).count("\n    ") == 4
    conversion.check("resnet18.safetensors", [leaf for leaf in target if leaf.split("/")[1] in ("layer4", "head")])
