"""scripts/weights.py as a user calls it: what it prints, its exit status, and what it leaves behind."""

import dataclasses
import functools
import hashlib
import re

import numpy as np
import pytest
import safetensors.numpy
import small_digits

from jft.evaluation import open_model
from jft.evaluation.restore import restore
from jft.models import abstract_variables, create_model
from jft.training.loop import train
from jft.utils import tree
from jft.utils.cache_dir import cache_dir
from jft.utils.mesh import make_parallel
from jft.weights import catalog, hub, rules, seeded

SQUEEZENET = catalog.find_row("squeezenet1_1", "torchvision")
DIGITS = catalog.find_row("vgg_tiny", "digits04")


@pytest.fixture
def script(command):
    return functools.partial(command, "weights")


def seeded_tensors(model, classes=1000, aux_heads=False):
    """What a file of torchvision's holds."""
    row = catalog.find_row(model, "torchvision")
    chain = create_model(model, num_classes=classes, aux_heads=aux_heads)
    target = tree.flatten(abstract_variables(chain, chain.default_size))
    return seeded.seeded_torch(rules.source_shapes(rules.rules_for(row, chain), target))


@pytest.fixture
def source(tmp_path):
    """A file of SqueezeNet 1.1."""
    path = tmp_path / "source.safetensors"
    safetensors.numpy.save_file(seeded_tensors("squeezenet1_1"), path)
    return path


def test_list(script):
    status, printed, _ = script("list", "vgg16")
    assert status == 0
    header, *lines = printed.splitlines()
    assert header.split() == ["set", "dialect", "parameters", "top-1", "top-5", "MiB", "license", "here"]
    assert [line.split()[0] for line in lines] == [name for name in catalog.CATALOG if "vgg16" in name]
    row = next(line for line in lines if line.startswith("vgg16.keras "))
    assert row.split() == ["vgg16.keras", "keras", "138,357,544", "71.3", "90.1", "527.8", "CC-BY-4.0", "-"]
    assert len(script("list")[1].splitlines()) == len(catalog.CATALOG) + 1
    assert [line.split()[0] for line in script("list", "resnet*.keras")[1].splitlines()[1:]] == [
        f"resnet{depth}.keras" for depth in (50, 101, 152)
    ]
    for name, file, address, digest in (
        ("squeezenet1_1.torchvision", SQUEEZENET.filename, SQUEEZENET.url, f"SHA-256 {SQUEEZENET.sha256}..."),
        ("squeezenet1_0.caffe", "squeezenet_v1.0.npy", "none is published", "none is published"),
    ):
        last = script("list", name)[1].splitlines()[2:]
        assert last == [f"file: {file}", f"address: {address}", f"hash: {digest}"]
    assert script("list", "wide_resnet50_2.torchvision")[1].splitlines()[-1] == "numbers: float16"
    status, printed, error = script("list", "vgg16.kerras")
    assert (status, printed) == (1, "")
    assert error == "error: no weight set is called 'vgg16.kerras', did you mean 'vgg16.keras'?\n"


def test_list_says_what_is_here(script):
    def here(name):
        return script("list", name)[1].splitlines()[1].split()[-1]

    assert here("vgg_tiny.digits04") == "packaged"
    assert here("squeezenet1_1.torchvision") == "-"
    downloads, converted = (cache_dir() / name for name in ("downloads", "converted"))
    downloads.mkdir(parents=True)
    converted.mkdir()
    (downloads / SQUEEZENET.filename).touch()
    assert here("squeezenet1_1.torchvision") == "downloaded"
    for sha256, word in (("0" * 64, "downloaded"), (SQUEEZENET.sha256 + "0" * 56, "converted")):  # of a file, the set
        about = {"source": "a.pth", "source_sha256": sha256}
        path = converted / f"squeezenet1_1.torchvision-{sha256[:16]}-v1.safetensors"
        safetensors.numpy.save_file({"x": np.zeros(1)}, path, about)
        assert here("squeezenet1_1.torchvision") == word
    assert here("squeezenet1_0.caffe") == "-"
    (downloads / "squeezenet_v1.0.npy").touch()
    assert here("squeezenet1_0.caffe") == "unverified"  # nobody has published a hash


def test_fetch(script):
    status, printed, _ = script("fetch", "vgg_tiny.digits04")
    assert status == 0
    assert printed == f"vgg_tiny.digits04: {hub.locate(DIGITS)}\n  SHA-256 {DIGITS.sha256}\n"
    status, _, error = script("fetch", "vgg_tiny.digit04")
    assert status == 1 and error.startswith("error: unknown weight set 'vgg_tiny.digit04', did you mean")
    status, _, error = script("fetch", "googlenet_caffe.caffe")
    assert status == 1 and "has no official download" in error


def test_fetch_downloads_and_verifies(script, source, monkeypatch):
    sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
    for known, status in ((sha256[:8], 0), ("0" * 8, 1)):
        row = dataclasses.replace(SQUEEZENET, url=source.as_uri(), sha256=known, filename=f"{known}.pth")
        monkeypatch.setitem(catalog.CATALOG, row.name, row)
        place = cache_dir() / "downloads" / row.filename
        found, printed, error = script("fetch", row.name)
        assert found == status and place.exists() == (status == 0)
        if status == 0:
            assert printed == f"{row.name}: {place}\n  SHA-256 {sha256}\n"
        else:
            assert f"its SHA-256 is {sha256}, published is 00000000" in error


def test_verify(script, tmp_path):
    status, printed, error = script("verify")
    assert (status, error) == (0, "")
    lines = printed.splitlines()
    assert lines[0] == "vgg_tiny.digits04"
    assert [line[2:27].rstrip().split(maxsplit=1) for line in lines if line[2] != " " and line[0] == " "] == [
        ["file", "ok"],
        ["conversion", "ok"],
        ["checksums", "ok"],
        ["cache", "no verdict"],
        ["activations", "ok"],
        ["architecture", "ok"],
    ]
    broken = tmp_path / DIGITS.filename
    broken.write_bytes(hub.locate(DIGITS).read_bytes()[:-1])
    status, printed, error = script("verify", DIGITS.name, "--weights_path", broken)
    assert status == 1
    assert error == "error: not verified: vgg_tiny.digits04 (file), vgg_tiny.digits04 (conversion).\n"
    assert "  architecture  ok " in printed
    status, printed, error = script("verify", "--imagenet", tmp_path)
    assert (status, printed) == (1, "") and "holds no images" in error


def test_convert(script, source, tmp_path):
    out, again = tmp_path / "out.safetensors", tmp_path / "again.safetensors"
    tensors = safetensors.numpy.load_file(source)
    status, printed, _ = script("convert", source, "--model", "squeezenet1_1", "--out", out)
    assert status == 0
    for line in ("dialect: torchvision", "parameters: 1,235,496 in 52 tensors", "source_sha256: "):
        assert line in printed
    assert "use it with --model squeezenet1_1 --weights torchvision --weights-path " in printed
    leaves = safetensors.numpy.load_file(out)
    kernel = tensors["features.0.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(leaves["params/conv1/conv1/kernel"], kernel)
    # A file of jft's own is a source too, and says which model it is.
    assert script("convert", out, "--out", again)[0] == 0
    for name, leaf in safetensors.numpy.load_file(again).items():
        np.testing.assert_array_equal(leaf, leaves[name])
    before = out.read_bytes()
    status, _, error = script("convert", source, "--model", "squeezenet1_1", "--out", out)
    assert (status, error) == (1, f"error: {out} exists: choose another name, or replace it with --force.\n")
    assert out.read_bytes() == before
    assert script("convert", again, "--model", "squeezenet1_1", "--out", out, "--force")[0] == 0


@pytest.mark.parametrize("aux_heads", [True, False])
def test_convert_takes_auxiliary_heads_where_the_file_has_them(script, tmp_path, aux_heads):
    source, out = tmp_path / "source.safetensors", tmp_path / "out.safetensors"
    tensors = seeded_tensors("googlenet", classes=4, aux_heads=aux_heads)
    safetensors.numpy.save_file(tensors, source)
    status, printed, error = script("convert", source, "--model", "googlenet", "--out", out)
    assert status == 0, error
    chain = create_model("googlenet", num_classes=4, aux_heads=aux_heads)
    target = tree.flatten(abstract_variables(chain, 224))
    parameters = sum(leaf.size for name, leaf in target.items() if name.startswith("params/"))
    assert f"parameters: {parameters:,} in {len(target)} tensors" in printed
    with safetensors.safe_open(out, "np") as file:
        assert set(file.keys()) == target.keys()
    if aux_heads:
        tensors.pop("aux1.fc1.bias")
        safetensors.numpy.save_file(tensors, source)
        status, _, error = script("convert", source, "--model", "googlenet", "--out", out, "--force")
        assert status == 1 and "missing (1):\n      aux1.fc1.bias [params/aux1/fc/bias]" in error


def test_convert_takes_what_is_not_finite_only_when_told(script, source, tmp_path):
    out = tmp_path / "out.safetensors"
    tensors = dict(safetensors.numpy.load_file(source))
    tensors["features.0.bias"][3] = np.nan
    safetensors.numpy.save_file(tensors, source)
    arguments = ("convert", source, "--model", "squeezenet1_1", "--out", out)
    status, _, error = script(*arguments)
    assert status == 1 and "holding NaN or infinity (1):\n      features.0.bias" in error
    assert not out.exists()
    status, printed, _ = script(*arguments, "--allow_nonfinite")
    assert status == 0 and "holding NaN or infinity: params/conv1/conv1/bias" in printed
    assert np.isnan(safetensors.numpy.load_file(out)["params/conv1/conv1/bias"][3])


@pytest.mark.parametrize(
    ("model", "extra", "message"),
    [
        ("squeezenet1_0", (), "does not look like weights of squeezenet1_0, but like squeezenet1_1.torchvision"),
        ("squeezenet1_1", ("--weights", "caffe"), "does not hold the weights squeezenet1_1.caffe"),
        ("squeezenet1_1", ("--weights", "cafe"), "did you mean 'caffe'?"),
        ("squeznet1_1", (), "did you mean 'squeezenet1_1'?"),
        ("vgg_tiny", (), "Sets of vgg_tiny: digits04"),
        (None, (), "does not say which model it is for: give --model."),
        ("squeezenet1_1", ("--out", "absent/out.safetensors"), "absent is no folder: make it, or choose another."),
    ],
)
def test_convert_refuses_and_leaves_nothing(script, source, tmp_path, model, extra, message):
    named = ("--model", model) if model else ()
    status, printed, error = script("convert", source, *named, "--out", tmp_path / "out.safetensors", *extra)
    assert (status, printed) == (1, "")
    assert error.startswith("error: ")
    assert message in error
    assert list(tmp_path.iterdir()) == [source]


def test_export(script, source, tmp_path):
    out = tmp_path / "out.safetensors"
    arguments = ("export", source, "--model", "squeezenet1_1", "--image_size", "64", "--out", out)
    status, printed, error = script(*arguments)
    assert status == 0, error
    assert "relative error 0.0e+00" in printed and "52 leaves, bit-identical" in printed
    assert "torchvision.models.squeezenet1_1(num_classes=1000)" in printed
    found = safetensors.numpy.load_file(out)
    for name, tensor in safetensors.numpy.load_file(source).items():
        np.testing.assert_array_equal(found[name], tensor)
    status, _, error = script(*arguments)
    assert (status, error) == (1, f"error: {out} exists: choose another name, or replace it with --force.\n")
    status, _, error = script(
        "export", source, "--model", "squeezenet1_1", "--format", "keras", "--out", tmp_path / "o.h5"
    )
    assert (status, error) == (1, "error: keras has no model like squeezenet1_1. Use --format torchvision.\n")
    status, _, error = script("export", "vgg_tiny.digits04", "--out", tmp_path / "other.safetensors")
    assert status == 1 and error.startswith("error: torchvision has no such vgg_tiny: ")
    assert sorted(tmp_path.iterdir()) == [out, source]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "the following arguments are required: VERB"),
        (("lst",), "invalid choice: 'lst'"),
        (("fetch",), "the following arguments are required: name"),
        (("fetch", "vgg16.keras", "--weights_path", "."), "unexpected arguments ['--weights_path', '.']"),
        (("export", "vgg16.keras"), "the following arguments are required: --out"),
        (("export", "vgg16.keras", "--out", "x", "--format", "onnx"), "invalid choice: 'onnx'"),
    ],
)
def test_a_wrong_command_line_is_one_line(script, arguments, message):
    status, printed, error = script(*arguments)
    assert (status, printed) == (1, "")
    assert error.startswith("error: ") and error.count("\n") == 1
    assert message in error


@pytest.mark.parametrize(
    ("changes", "options", "classes"),
    [
        (
            {
                "cut": "block3",
                "freeze": "block3",
                "head": "linear",
                "head_hidden": (8,),
                "head_dropout": 0.25,
                "steps": 1,
            },
            {"cut": "block3", "new_head": "linear", "head_hidden": [8], "head_dropout": 0.25, "num_classes": 3},
            ("5", "6", "7"),
        ),
        ({"classes": ("5", "8"), "loss": "sigmoid", "solver": "ridge"}, {"num_classes": 1}, ("5", "8")),
    ],
    ids=["linear", "binary"],
)
def test_convert_takes_a_run_with_another_head(script, tmp_path, changes, options, classes):
    run, out, again = tmp_path / "run", tmp_path / "out.safetensors", tmp_path / "again.safetensors"
    with small_digits.quick():
        train(small_digits.make(tmp_path / "features", **changes), run)
        trained = restore(run, make_parallel("jit"))
        status, _, error = script("export", run, "--out", out)
        assert status == 1 and not out.exists()
        for source, target in ((run, out), (out, again)):  # as the error says
            told = re.search("own format with `jft weights (.*)`", error)[1]
            given = told.replace("SOURCE", str(source)).replace("FILE", str(target.with_suffix("")))
            status, _, problem = script(*given.split())
            assert status == 0, problem
    for path in (out, again):
        opened = open_model.open_source(str(path))
        assert {key: list(v) if isinstance(v, tuple) else v for key, v in opened.options.items()} == options
        assert (opened.model, opened.class_names, opened.spec) == ("vgg_tiny", classes, trained.spec)
        leaves = opened.read(False)
        assert leaves.keys() == tree.flatten(trained.variables).keys()
        for name, leaf in tree.flatten(trained.variables).items():
            np.testing.assert_array_equal(leaves[name], leaf)
        images = seeded.seeded_images(32)
        found = opened.build().apply(tree.unflatten(leaves), images, train=False)
        np.testing.assert_allclose(found, trained.model.apply(trained.variables, images, train=False), atol=1e-6)
    status, _, error = script("convert", out, "--model", "vgg11", "--out", again, "--force")
    assert status == 1 and "holds weights of vgg_tiny, not of vgg11" in error
