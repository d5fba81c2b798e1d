"""Conversion: each transform by hand, strictness both ways, and the script."""

import functools
import importlib.util
import pathlib
import sys

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import seeded

from jft import tree
from jft.models import abstract_variables, create_model
from jft.models.vgg import VGG
from jft.weights import catalog, convert, readers, rules

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "convert_weights.py"
SQUEEZENET = catalog.find_row("squeezenet1_1", "torchvision")
RESNET = catalog.find_row("resnet18", "torchvision")


@functools.cache
def target_of(row):
    return tree.flatten(abstract_variables(create_model(row.model, **row.options), 224))


@functools.cache
def source_of(row):
    """Seeded tensors of the row's dialect, for kernels that are stored as torch does."""
    shapes = {}
    for rule in rules.rules_for(row, create_model(row.model, **row.options)):
        shape = target_of(row)[rule.target].shape
        permuted = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[len(shape)]
        shapes[rule.sources[0]] = tuple(shape[i] for i in permuted)
    return seeded.seeded_torch(shapes)


def test_torch_layouts():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(5, 4, 3, 2))
    assert rules.hwio(kernel)[2, 1, 3, 4] == kernel[4, 3, 2, 1]
    assert rules.dense(kernel[0, 0])[1, 2] == kernel[0, 0, 2, 1]


def test_fc6_reads_the_map_in_torchs_order():
    rng = np.random.default_rng(0)
    feature_map = rng.normal(size=(2, 3, 3, 4))  # [batch, height, width, channels]
    weight = rng.normal(size=(5, 4 * 3 * 3))
    torch = feature_map.transpose(0, 3, 1, 2).reshape(2, -1) @ weight.T
    ours = feature_map.reshape(2, -1) @ rules.dense_of_map(weight, grid=3)
    np.testing.assert_allclose(ours, torch)
    assert not np.allclose(feature_map.reshape(2, -1) @ weight.T, torch)  # unpermuted: another network
    np.testing.assert_array_equal(rules.dense_of_conv(weight.reshape(5, 4, 3, 3)), rules.dense_of_map(weight, grid=3))


def test_timm_equals_torchvision():
    """timm renames the classifier and makes convolutions of it; the leaves must be the same."""
    model = VGG(convs=(1, 1), widths=(4, 8), hidden=16, grid=3, num_classes=5, batch_norm=True)
    as_torchvision = rules.rules_for(catalog.find_row("vgg16", "torchvision"), model)
    as_timm = rules.rules_for(catalog.find_row("vgg16", "timm"), model)
    target = tree.flatten(abstract_variables(model, 12))
    renamed = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2", "classifier.6": "head.fc"}
    conv = {"classifier.0.weight": (16, 8, 3, 3), "classifier.3.weight": (16, 16, 1, 1)}
    assert [rule.target for rule in as_timm] == [rule.target for rule in as_torchvision]
    for ours, theirs in zip(as_torchvision, as_timm, strict=True):
        (name,) = ours.sources
        stem, leaf = name.rsplit(".", 1)
        assert theirs.sources == (f"{renamed.get(stem, stem)}.{leaf}",)
        shape = target[ours.target].shape
        array = seeded.seeded_tensor(name, {4: shape[:1:-1] + shape[:2], 2: shape[::-1], 1: shape}[len(shape)], "oihw")
        leaf = ours.transform(array)
        assert leaf.shape == shape
        np.testing.assert_array_equal(theirs.transform(array.reshape(conv.get(name, array.shape))), leaf)


def test_keras_bias_and_epsilon_are_absorbed():
    rng = np.random.default_rng(0)
    x, bias, mean, gamma, beta = rng.normal(size=(5, 7)).astype("f4")
    var = np.float32([1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1, 10])  # small enough for epsilon to matter
    keras = gamma * (x + bias - mean) / np.sqrt(var + np.float32(1.001e-5)) + beta
    ours = gamma * (x - rules.centre(bias, mean)) / np.sqrt(rules.keras_variance(var) + np.float32(1e-5)) + beta
    np.testing.assert_allclose(ours, keras, rtol=1e-5)
    wrong = gamma * (x - rules.centre(bias, mean)) / np.sqrt(var + np.float32(1e-5)) + beta
    assert np.max(np.abs(wrong - keras)) > 10 * np.max(np.abs(ours - keras))


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
    assert not head & set(conversion.leaves)
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


def keras_source(row, rename=None):
    rows = rules.rules_for(row, create_model(row.model, **row.options))
    shapes = {}
    for rule in rows:
        for name in rule.sources:
            shapes[name] = target_of(row)[rule.target].shape
    tensors = seeded.seeded_keras(shapes)
    return {(rename or {}).get(name, name): array for name, array in tensors.items()}


def test_keras_bias_folds_into_the_mean_it_belongs_to():
    row = catalog.find_row("resnet50", "keras")
    source = keras_source(row)
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
    old = keras_source(row, {"predictions/0": "probs/0", "predictions/1": "probs/1"})
    conversion = convert.convert(old, row, target_of(row))
    conversion.check("f")
    np.testing.assert_array_equal(conversion.leaves["params/head/head/kernel"], old["probs/0"])
    both = {**old, "predictions/0": old["probs/0"]}
    with pytest.raises(ValueError, match=r"unexpected \(1\):\n    probs/0"):
        convert.convert(both, row, target_of(row)).check("f")


@pytest.mark.parametrize(
    "name", [n for n, row in catalog.CATALOG.items() if row.tag in ("torchvision", "keras", "caffe")]
)
def test_a_file_is_known_by_its_names(name):
    row = catalog.CATALOG[name]
    table = rules.rules_for(row, create_model(row.model, **row.options))
    names = [source for rule in table for source in rule.sources]
    guess = convert.guess_row(names, catalog.CATALOG.values())
    assert guess.name == name
    wrong = catalog.CATALOG["vgg11.torchvision" if name != "vgg11.torchvision" else "resnet34.torchvision"]
    with pytest.raises(ValueError, match=f"It looks like weights of another kind: {name}"):
        convert.convert(dict.fromkeys(names, np.ones(1, "f4")), wrong, target_of(wrong)).check("f")


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


@pytest.fixture
def script(monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("convert_weights", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["convert_weights.py", *map(str, arguments)])
        status = module.main()
        return status, "".join(capsys.readouterr())

    return run


def test_script(script, tmp_path):
    source, out, again = (tmp_path / f"{name}.safetensors" for name in ("source", "out", "again"))
    tensors = source_of(SQUEEZENET)
    safetensors.numpy.save_file(tensors, source)
    status, printed = script(source, "--model", "squeezenet1_1", "--out", out)
    assert status == 0
    assert "dialect: torchvision" in printed
    assert "parameters: 1,235,496 in 52 tensors" in printed
    assert "source_sha256: " in printed
    leaves = safetensors.numpy.load_file(out)
    assert leaves.keys() == target_of(SQUEEZENET).keys()
    np.testing.assert_array_equal(leaves["params/conv1/conv1/kernel"], rules.hwio(tensors["features.0.weight"]))
    # A file of jft's own is a source too.
    assert script(out, "--model", "squeezenet1_1", "--out", again)[0] == 0
    for name, leaf in safetensors.numpy.load_file(again).items():
        np.testing.assert_array_equal(leaf, leaves[name])
    before = out.read_bytes()
    status, printed = script(source, "--model", "squeezenet1_1", "--out", out)
    assert (status, "exists already" in printed) == (1, True)
    assert out.read_bytes() == before
    assert script(source, "--model", "squeezenet1_1", "--out", out, "--force")[0] == 0


@pytest.mark.parametrize(
    ("model", "extra", "message"),
    [
        ("squeezenet1_0", (), "does not look like weights of squeezenet1_0 but like squeezenet1_1.torchvision"),
        ("squeezenet1_1", ("--weights", "caffe"), "does not hold the weights squeezenet1_1.caffe"),
        ("squeezenet1_1", ("--weights", "cafe"), "did you mean 'caffe'?"),
        ("squeznet1_1", (), "did you mean 'squeezenet1_1'?"),
        ("vgg_tiny", (), "Sets of vgg_tiny: digits04"),
    ],
)
def test_script_refuses_and_leaves_nothing(script, tmp_path, model, extra, message):
    source = tmp_path / "source.safetensors"
    safetensors.numpy.save_file(source_of(SQUEEZENET), source)
    status, printed = script(source, "--model", model, "--out", tmp_path / "out.safetensors", *extra)
    assert status == 1
    assert printed.startswith("error: ")
    assert message in printed
    assert list(tmp_path.iterdir()) == [source]
