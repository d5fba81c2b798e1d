"""Repositories of the Hugging Face hub: read from folders, caches and a server; hostile ones are refused."""

import copy
import os
import re
import threading

import numpy as np
import pytest
import small_files
import small_hub

from jft.data.preprocess import Preprocess
from jft.evaluation.open_model import open_source
from jft.models import abstract_variables, create_model
from jft.utils import tree
from jft.utils.cache_dir import cache_dir
from jft.weights import hf_config, hf_files, hub, provenance, rules, seeded
from jft.weights.catalog import CATALOG, choose_set, find_row, is_set
from jft.weights.target import leaf_shapes


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """Small networks, an empty cache of the hub, and no network."""
    small_files.shrink(monkeypatch)
    for name in ("HF_HUB_CACHE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def online(monkeypatch):
    server = small_hub.Hub()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def loaded(row):
    target = leaf_shapes(create_model(row.model, **row.file_options), row.preprocess.size)
    return hub.load(row, target)


def check_leaves(leaves):
    tensors = small_hub.tensors()
    np.testing.assert_array_equal(leaves["params/head/head/kernel"], tensors["head.fc.weight"].T)
    np.testing.assert_array_equal(leaves["params/stage3/block1/layer_scale/gamma"], tensors["stages.2.blocks.1.gamma"])


def test_a_folder_is_a_row_of_weights(tmp_path):
    folder = small_hub.write_folder(tmp_path / "trees")
    row = choose_set(f"hf:{folder}")
    assert (row.model, row.dialect, row.name, row.repository) == ("convnext_tiny", "timm", *2 * (f"hf:{folder}",))
    assert (row.license, row.class_names, row.fit, row.top) == ("MIT", ("ash", "beech", "cedar"), "crop", True)
    assert row.options == {"drop_path": 0.0, "num_classes": 3}
    half = (0.5, 0.5, 0.5)
    assert row.preprocess == Preprocess(  # floor(32 / 0.95); at its own size, not the larger one for tests
        size=32, resize=33, interpolation="bicubic", mean=half, std=(0.5, 0.25, 0.5)
    )
    leaves, manifest = loaded(row)
    check_leaves(leaves)
    assert row.num_params == sum(leaf.size for leaf in leaves.values())
    assert find_row("convnext_tiny", f"hf:{folder}") == row
    with pytest.raises(ValueError, match=r"hf:.*trees holds weights of convnext_tiny, not of vgg16: set model="):
        find_row("vgg16", f"hf:{folder}")
    known = provenance.of_manifest(manifest)
    assert (known.license, known.repository, known.row) == ("MIT", f"hf:{folder}", None)
    assert provenance.settled(manifest) == manifest
    assert str(known).startswith(f"hf:{folder}, SHA-256 {manifest['source_sha256'][:16]}..., license MIT as stated")
    assert known.facts()["Weights"] == f"hf:{folder}"


def test_relative_folders_and_names_that_are_none(tmp_path, monkeypatch):
    small_hub.write_folder(tmp_path / "trees")
    monkeypatch.chdir(tmp_path)
    assert choose_set("hf:./trees").name == f"hf:{tmp_path / 'trees'}"  # wherever it is resumed from
    assert is_set("hf:trees") and not is_set("trees")
    for name in ("hf:trees", "hf:a/b/c", "hf:a/..", "hf:../..b/x\n", "hf:a/b@../../x", "hf:", "hf:a/b@"):
        with pytest.raises(ValueError, match=r"name no repository|is no folder"):
            choose_set(name)
    with pytest.raises(ValueError, match=r"is no folder: give one with config.json and model.safetensors"):
        choose_set("hf:./shrubs")


def test_the_hubs_own_cache_and_its_digests(tmp_path, monkeypatch):
    root = small_hub.write_cache(tmp_path / "home" / "hub")
    row = choose_set("hf:you/trees")
    (blob,) = (path for path in (root / "blobs").iterdir() if len(path.name) == 64)
    assert (row.sha256, row.license) == (blob.name, "MIT")
    check_leaves(loaded(row)[0])
    assert choose_set(f"hf:you/trees@{small_hub.COMMIT}").sha256 == blob.name
    # A snapshot given as a folder is links to blobs beside it, too.
    assert choose_set(f"hf:{root / 'snapshots' / small_hub.COMMIT}").sha256 == blob.name
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "other"))
    with pytest.raises(ValueError, match=r"hf:you/trees is not on this machine, and HF_HUB_OFFLINE forbids"):
        choose_set("hf:you/trees")
    monkeypatch.delenv("HF_HUB_CACHE")

    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    with pytest.raises(ValueError, match=f"its SHA-256 is [0-9a-f]{{64}}, published is {blob.name}"):
        loaded(row)


def test_from_the_hub_config_first_and_the_file_when_it_is_needed(online, capsys, monkeypatch):
    row = choose_set("hf:you/trees")
    assert [asked.split()[0] for asked in online.asked] == ["HEAD", "GET", "GET"]
    assert (row.sha256, row.size) == (online.digest, len(online.files["model.safetensors"]) / 2**20)
    leaves, manifest = loaded(row)
    check_leaves(leaves)
    assert f"hf:you/trees: {row.size:.1f} MiB from {row.url}, license MIT" in capsys.readouterr().err
    assert row.url.endswith(f"/you/trees/resolve/{small_hub.COMMIT}/model.safetensors")
    held = sorted(path.name for path in (cache_dir() / "downloads").iterdir())
    assert held == ["you--trees.json", "you--trees.safetensors"]
    assert manifest["repository"] == "hf:you/trees"

    asked = len(online.asked)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert choose_set("hf:you/trees") == row
    check_leaves(loaded(row)[0])
    assert len(online.asked) == asked


def test_another_file_than_the_hub_announced(online):
    row = choose_set("hf:you/trees")
    online.files["model.safetensors"] = online.files["model.safetensors"][:-1] + b"\0"
    with pytest.raises(ValueError, match=f"could not be downloaded: its SHA-256 is .*, published is {online.digest}"):
        loaded(row)
    assert [path.name for path in (cache_dir() / "downloads").glob("you*.safetensors*")] == []


def test_repositories_that_are_not_there(online):
    with pytest.raises(ValueError, match=r"hf:you/shrubs could not be read .* it has no such file \(404, http"):
        choose_set("hf:you/shrubs")
    online.files["config.json"] = b" " * (hf_files._LARGEST + 1)
    with pytest.raises(ValueError, match="has more than 4,194,304 bytes, which no config of a model needs"):
        choose_set("hf:you/trees")


def changed(**fields):
    """The config with other fields; those of pretrained_cfg after '_'."""
    config = copy.deepcopy(small_hub.CONFIG)
    for name, value in fields.items():
        place = config["pretrained_cfg"] if name.startswith("_") else config
        place[name.lstrip("_")] = value
    return config


HOSTILE = {
    "code": (changed(auto_map={"AutoModel": "evil.Model"}), "auto_map asks for code or a format of its own"),
    "code of pipelines": (changed(custom_pipelines={"x": {"impl": "evil.P"}}), "custom_pipelines asks for code"),
    "a loader of its own": (changed(_custom_load="hf"), "custom_load asks for code"),
    "another file": (changed(_hf_hub_filename="../../secret"), "hf_hub_filename is '../../secret', where model.saf"),
    "another architecture": (changed(architecture="convnext_tiny_hnf"), "unknown architecture .*'convnext_tiny_hnf'"),
    "a path": (changed(architecture="../convnext_tiny"), "unknown architecture"),
    "no architecture": (
        {"model_type": "convnext", "architectures": ["ConvNextForImageClassification"]},
        "it names no architecture; it is of the transformers library, a 'convnext'",
    ),
    "other arguments": (changed(model_args={"act_layer": "relu"}), "model_args has act_layer = relu, which jft's conv"),
    "other channels": (changed(model_args={"in_chans": 1}), "model_args has in_chans = 1, against 3"),
    "another pool": (changed(global_pool="max"), "global_pool is 'max', where jft's convnext_tiny has 'avg'"),
    "many classes": (changed(num_classes=2**40), "num_classes is 1099511627776"),
    "negative classes": (changed(num_classes=-1), "num_classes is -1"),
    "other labels": (changed(label_names=["a"]), "label_names are 1, and num_classes is 3"),
    "labels of controls": (changed(label_names=["a", "b\x1b[2J", "c"]), r"a label is 'b\\x1b\[2J'"),
    "a large image": (changed(_input_size=[3, 10**6, 10**6]), r"input_size is \[3, 1000000, 1000000\]"),
    "gray images": (changed(_input_size=[1, 32, 32]), r"input_size is \[1, 32, 32\]"),
    "a tiny crop": (changed(_crop_pct=1e-9), "crop_pct is 1e-09"),
    "another fit": (changed(_crop_mode="border"), "crop_mode 'border'"),
    "another filter": (changed(_interpolation="lanczos"), "unknown interpolation 'lanczos'"),
    "no deviation": (changed(_std=[0, 1, 1]), r"std \[0, 1, 1\]"),
    "a list for a text": (changed(architecture=["convnext_tiny"]), "architecture is .*where text is expected"),
    "a label offset": (changed(_label_offset=1), "label_offset is 1"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_configs_that_are_refused(tmp_path, name):
    config, message = HOSTILE[name]
    folder = small_hub.write_folder(tmp_path / "trees")
    (folder / "config.json").write_text(hf_files.json.dumps(config))
    with pytest.raises(ValueError, match=message):
        choose_set(f"hf:{folder}")


def test_configs_that_are_no_json(tmp_path):
    folder = small_hub.write_folder(tmp_path / "trees")
    for text in (b"{", b"[" * 100_000, b"[]", b"\xff\xfe", b'{"architecture": NaN}'):
        (folder / "config.json").write_bytes(text)
        with pytest.raises(ValueError, match=re.escape(str(folder / "config.json"))):
            choose_set(f"hf:{folder}")


def replace(folder, name, make):
    (folder / name).unlink()
    make(folder / name)


def test_files_that_are_refused(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(small_hub.files()["model.safetensors"])
    faults = {
        "leads out of its repository, to ": ("model.safetensors", lambda path: path.symlink_to(secret)),
        "config.json leads out of": ("config.json", lambda path: path.symlink_to("/etc/hostname")),
        "README.md leads out of": ("README.md", lambda path: path.symlink_to("/etc/hostname")),
        "leads nowhere": ("model.safetensors", lambda path: path.symlink_to(path)),
        "has more than 4,194,304 bytes": ("config.json", lambda path: path.write_bytes(b" " * 2**23)),
        "config.json is a FIFO": ("config.json", os.mkfifo),
        "model.safetensors is a FIFO": ("model.safetensors", os.mkfifo),
        r"is no safetensors file, it starts with b'\\x80": (
            "model.safetensors",
            lambda p: p.write_bytes(b"\x80\x04cos"),
        ),
        "has pytorch_model.bin, which may be a pickle": (
            "model.safetensors",
            lambda path: path.with_name("pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n"),
        ),
    }
    for number, (message, fault) in enumerate(faults.items()):
        folder = small_hub.write_folder(tmp_path / f"trees{number}")
        replace(folder, *fault)
        with pytest.raises(ValueError, match=message):
            choose_set(f"hf:{folder}")


def test_a_cache_whose_links_lead_out_or_whose_commit_is_none(tmp_path):
    root = small_hub.write_cache(tmp_path / "home" / "hub")
    link = root / "snapshots" / small_hub.COMMIT / "model.safetensors"
    link.unlink()
    link.symlink_to("../../../models--other--repository/blobs/x")
    (tmp_path / "home" / "hub" / "models--other--repository" / "blobs").mkdir(parents=True)
    (tmp_path / "home" / "hub" / "models--other--repository" / "blobs" / "x").write_bytes(b"12345678{")
    with pytest.raises(ValueError, match="leads out of its repository"):
        choose_set("hf:you/trees")
    (root / "refs" / "main").write_text("../../../../etc")
    with pytest.raises(ValueError, match=r"holds '../../../../etc', which is no commit"):
        choose_set("hf:you/trees")


def test_tensors_of_another_shape(tmp_path):
    folder = small_hub.write_folder(tmp_path / "trees")
    (folder / "model.safetensors").write_bytes(small_hub.files(changed(num_classes=4))["model.safetensors"])
    with pytest.raises(ValueError, match=r"head.fc.weight float32 \[4, 64\] does not give \[64, 3\]"):
        loaded(choose_set(f"hf:{folder}"))


def test_labels_by_number_squashed_images_and_no_classes(tmp_path):
    config = changed(label_names={"2": "cedar", "0": "ash"}, _crop_mode="squash", _crop_pct=1.0)
    row = choose_set(f"hf:{small_hub.write_folder(tmp_path / 'a', config)}")
    assert (row.class_names, row.fit, row.preprocess.resize) == (("ash", "1", "cedar"), "whole", 32)
    folder = small_hub.write_folder(tmp_path / "b")
    config = changed(num_classes=0)
    del config["label_names"]
    (folder / "config.json").write_text(hf_files.json.dumps(config))
    row = choose_set(f"hf:{folder}")
    assert not row.top and row.class_names is None and row.num_params < choose_set(f"hf:{tmp_path / 'a'}").num_params


def test_configs_of_before_timm_had_two_levels(tmp_path):
    config = small_hub.CONFIG["pretrained_cfg"] | {"architecture": "convnext_tiny", "labels": ["a", "b", "c"]}
    row = choose_set(f"hf:{small_hub.write_folder(tmp_path / 'old', config)}")
    assert (row.model, row.preprocess.size, row.options["num_classes"]) == ("convnext_tiny", 32, 3)


@pytest.mark.parametrize(
    ("card", "license"),
    [
        ("---\nlicense: apache-2.0\n---\n", "apache-2.0"),
        ("---\ntags:\n- a\nlicense: 'cc-by-nc-4.0'\r\n---\n", "cc-by-nc-4.0"),
        ("---\nlicense: other\nlicense_name: dinov3-license\n---\n", "dinov3-license"),
        ("license: mit", ""),
        ("---\nlicense: [mit, gpl]\n---", ""),
        ("", ""),
    ],
)
def test_license_of_a_model_card(card, license):
    assert hf_files.stated_license(card.encode()) == license


@pytest.mark.parametrize(("size", "dynamic"), [(224, False), (384, False), (224, True)])
def test_a_transformers_grid_is_that_of_its_images_unless_it_resamples(tmp_path, monkeypatch, size, dynamic):
    small_files.shrink(monkeypatch)
    model = create_model("vit_base_patch32", num_classes=3, grid=4 if dynamic else 6)
    table = rules.rules_for(find_row("vit_base_patch32", "sam_in1k"), model)
    tensors = seeded.seeded_torch(rules.source_shapes(table, tree.flatten(abstract_variables(model, 48))))
    pretrained = {**small_hub.CONFIG["pretrained_cfg"], "input_size": [3, 48, 48]}
    config = small_hub.CONFIG | {"architecture": f"vit_base_patch32_{size}", "global_pool": "token"}
    config |= {"pretrained_cfg": pretrained, "model_args": {"dynamic_img_size": dynamic}}
    opened = open_source(f"hf:{small_hub.write_folder(tmp_path / 'trees', config, tensors)}")
    assert (opened.build().grid, opened.spec.size) == (4 if dynamic else 6, 48)
    np.testing.assert_array_equal(opened.read(False)["params/embed/tokens/position"], tensors["pos_embed"][0])


def test_every_architecture_has_one_meaning():
    """Rows of one architecture differ in their recipes alone, so that any of them stands for it."""
    known = hf_config.architectures()
    for row in CATALOG.values():
        if row.dialect == "timm":
            like = known[row.filename.split(".")[0]]
            assert (like.model, like.options) == (row.model, row.options)
    assert known["convnext_tiny"].model == "convnext_tiny" and known["resnet18"].model == "resnet18"


def test_the_catalog_knows_the_license_of_timms_own(tmp_path):
    small_hub.write_cache(tmp_path / "home" / "hub", "timm/convnextv2_tiny.fcmae_ft_in1k")
    assert choose_set("hf:timm/convnextv2_tiny.fcmae_ft_in1k").license == "CC-BY-NC-4.0"  # whatever its card says
