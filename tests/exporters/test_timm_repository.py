"""Folders that timm opens: written, read again by jft, opened by timm itself, uploaded to a hub that only listens."""

import importlib
import importlib.util
import json
import math
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import small_files
import small_hub
from on_demand import on_demand

from jft.cli import main
from jft.data.preprocess import Preprocess
from jft.evaluation.open_model import open_source
from jft.exporters import timm_repository
from jft.models import abstract_variables, create_model
from jft.utils import tree
from jft.weights import rules, seeded
from jft.weights.catalog import CATALOG, choose_set


@pytest.fixture
def tiny(monkeypatch):
    small_files.shrink(monkeypatch)


def test_what_was_read_from_a_repository_is_written_again(tiny, tmp_path):
    source = open_source(f"hf:{small_hub.write_folder(tmp_path / 'trees')}")
    done = timm_repository.write(source, tmp_path / "again", "you/trees")
    assert (done.error, done.rounded, done.name) == (0, 0, "convnext_tiny")
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    wanted = small_hub.CONFIG
    for key in ("architecture", "num_classes", "num_features", "global_pool", "label_names"):
        assert config[key] == wanted[key]
    for key in ("input_size", "interpolation", "crop_pct", "mean", "std", "num_classes", "first_conv", "classifier"):
        assert config["pretrained_cfg"][key] == wanted["pretrained_cfg"][key], key
    again = open_source(f"hf:{tmp_path / 'again'}")
    assert (again.spec, again.class_names, again.fit) == (source.spec, source.class_names, source.fit)
    for name, leaf in source.read(False).items():
        np.testing.assert_array_equal(again.read(False)[name], leaf)
    card = (tmp_path / "again" / "README.md").read_text()
    assert card.startswith("---\ntags:\n- image-classification\n") and "\nlicense: mit\n---\n# trees\n" in card
    assert 'timm.create_model("hf-hub:you/trees", pretrained=True)' in card
    assert str(tmp_path) not in card  # nobody else has it
    assert "- License of the pretrained weights: MIT\n" in card and "- Output 1: beech\n" in card


def test_a_run_is_pushed_as_a_folder(tiny, tmp_path, one_device, capsys, monkeypatch):
    small_files.make_run(tmp_path / "flowers", "vgg13_bn", ["rose", "tulip", "Löwenzahn"])
    monkeypatch.chdir(tmp_path)

    def push(*flags):
        with pytest.raises(SystemExit) as ended:
            main.run("weights", ["push", "flowers", "--repo", "you/blooms", *flags])
        streams = capsys.readouterr()
        return ended.value.code, streams.out, streams.err

    status, printed, error = push("--dry-run")
    assert (status, error) == (0, "")
    assert "not uploaded to you/blooms, for --dry-run" in printed and "license BSD-3-Clause" in printed
    assert sorted(path.name for path in (tmp_path / "blooms").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    row = choose_set("hf:./blooms")
    assert (row.model, row.fit, row.class_names[2], row.license) == ("vgg13_bn", "whole", "Löwenzahn", "BSD-3-Clause")
    status, _, error = push("--dry-run")
    assert status == 1 and "blooms/config.json exists: choose another name, or replace it with --force" in error
    assert push("--dry-run", "--force")[0] == 0
    (tmp_path / "flowers" / "config.json").write_text("the run's")
    for flags in ((), ("--force",)):  # a repository that is called as the run is
        with pytest.raises(SystemExit):
            main.run("weights", ["push", "flowers", "--repo", "you/flowers", "--dry-run", *flags])
        wanted = "flowers is the folder of a run, whose config.json would be lost: give another --out"
        assert wanted in capsys.readouterr().err
    assert (tmp_path / "flowers" / "config.json").read_text() == "the run's"
    with pytest.raises(SystemExit):
        main.run("weights", ["push", "flowers", "--repo", "blooms", "--dry-run"])
    assert "'blooms' is no name of a repository: give owner/name" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    status, _, error = push("--out", "other")
    assert status == 1 and "an upload needs huggingface_hub" in error and "pip install 'jft[hub]'" in error


def test_upload_sends_three_files(tmp_path, monkeypatch):
    heard = []
    api = SimpleNamespace(
        create_repo=lambda *names, **options: heard.append((names, options)),
        upload_folder=lambda **options: heard.append(options) or "https://huggingface.co/you/trees/commit/1",
    )
    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(HfApi=lambda **_: api))
    assert timm_repository.upload(tmp_path, "you/trees", private=True) == "https://huggingface.co/you/trees/commit/1"
    assert heard[0] == (("you/trees",), {"private": True, "exist_ok": True})
    assert heard[1]["folder_path"] == str(tmp_path) and heard[1]["repo_id"] == "you/trees"
    assert heard[1]["allow_patterns"] == ["config.json", "model.safetensors", "README.md"]

    def refuse(*_, **__):
        raise RuntimeError("401: log in")

    api.create_repo = refuse
    with pytest.raises(ValueError, match="you/trees was not uploaded: RuntimeError: 401: log in"):
        timm_repository.upload(tmp_path, "you/trees")


@pytest.mark.parametrize(("size", "resize"), [(224, 256), (224, 235), (224, 236), (224, 232), (299, 342), (240, 272)])
def test_timm_resizes_as_much(size, resize):
    share = timm_repository._share(Preprocess(size=size, resize=resize))
    assert math.floor(size / share) == resize


def test_gray_levels_without_a_scale_and_orders_that_timm_lacks():
    told = timm_repository._preprocessing(
        Preprocess(scale=1.0, mean=(51.0, 102.0, 0.0), std=(255.0, 51.0, 1.0)), "crop"
    )
    assert told["mean"] == [0.2, 0.4, 0.0] and told["std"] == [1.0, 0.2, 1 / 255]
    with pytest.raises(ValueError, match="timm has no preprocessing of BGR images"):
        timm_repository._preprocessing(Preprocess(channels="BGR"), "crop")


# Opens a repository as users of timm do; saves the logits of images, the label names and the preprocessing.
OPEN = """
import json, sys
import numpy as np
import torch
try:
    import timm
except RuntimeError as error:  # some builds of torchvision lack the compiled operators that it asks for
    assert "torchvision::nms" in str(error), error
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    for name in [name for name in sys.modules if name.split(".")[0] in ("timm", "torchvision")]:
        del sys.modules[name]
    import timm
name, images, out = sys.argv[1:]
model = timm.create_model(name, pretrained=True).eval()
with torch.no_grad():
    logits = model(torch.from_numpy(np.load(images)).permute(0, 3, 1, 2)).numpy()
np.save(out, logits)
told = timm.data.resolve_model_data_config(model)
print(json.dumps([model.pretrained_cfg["label_names"], *(told[k] for k in ("input_size", "crop_pct", "mean", "std"))]))
"""


def works(module):
    """Whether a package is here and complete."""
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="no timm: pip install timm")
@pytest.mark.parametrize(
    ("set_name", "from_hub"),
    [
        ("convnext_atto.d2", True),
        pytest.param("vit_tiny_patch16.deit", False, marks=on_demand("long; its file is test_state_dict's")),
        pytest.param("resnet18.a1", False, marks=on_demand("ConvNeXt is opened alike")),
        pytest.param("efficientnet_lite0.timm", False, marks=on_demand("ConvNeXt is opened alike")),
    ],
)
def test_timm_opens_what_was_written(tmp_path, monkeypatch, set_name, from_hub):
    row = CATALOG[set_name]
    model = create_model(row.model, num_classes=3, **row.options)
    shapes = tree.flatten(abstract_variables(model, 64))
    tensors = seeded.seeded_torch(rules.source_shapes(rules.rules_for(row, model), shapes))
    config = small_hub.CONFIG | {"architecture": row.filename.split(".")[0]}
    config["pretrained_cfg"] = config["pretrained_cfg"] | {"input_size": [3, 64, 64]}
    if row.model.startswith("vit"):  # of 224 pixels
        config |= {"model_args": {"dynamic_img_size": True}, "global_pool": "token"}
    source = open_source(f"hf:{small_hub.write_folder(tmp_path / 'source', config, tensors)}")
    timm_repository.write(source, tmp_path / "out", "you/trees")

    name = f"local-dir:{tmp_path / 'out'}"
    if from_hub and works("huggingface_hub.hf_api"):
        held = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
        small_hub.write_cache(tmp_path / "home" / "hub", held=held)
        name = "hf-hub:you/trees"
    images = seeded.seeded_images(64)
    np.save(tmp_path / "images.npy", images)
    done = subprocess.run(
        [sys.executable, "-c", OPEN, name, tmp_path / "images.npy", tmp_path / "logits.npy"],
        env={**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    half = [0.5, 0.5, 0.5]
    told = done.stdout.splitlines()[-1]  # an incomplete huggingface_hub says so first
    assert json.loads(told) == [["ash", "beech", "cedar"], [3, 64, 64], 0.95, half, [0.5, 0.25, 0.5]]
    wanted = np.asarray(source.build().apply(tree.unflatten(source.read(False)), images, train=False))
    assert np.max(np.abs(np.load(tmp_path / "logits.npy") - wanted)) < 1e-4 * np.max(np.abs(wanted))
