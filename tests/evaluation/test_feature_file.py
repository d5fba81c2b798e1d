import json

import numpy as np
import pytest
import safetensors

from jft.data import datasets, transforms
from jft.evaluation import feature_file
from jft.utils.cache_dir import cache_dir
from jft.utils.mesh import make_parallel


@pytest.fixture(scope="module")
def backbone():
    return feature_file.of_weights("vgg_tiny", "digits04", "block3", make_parallel("jit"))


@pytest.fixture(scope="module")
def digits():
    return datasets.load_source("digits", split="test", data_dir=None, validation=0, seed=0).take(np.arange(20))


def expected(backbone, source):
    x = transforms.to_model_input(source.images, backbone.spec, fit="whole")
    return np.asarray(backbone.model.apply(backbone.variables, x, train=False, stop="block3"))


def test_npz_holds_features_and_all_their_names(tmp_path, backbone, digits):
    out = tmp_path / "f.npz"
    assert feature_file.make_file(backbone, digits, out, stage="block3") == (20, 64)
    with np.load(out, allow_pickle=False) as held:
        np.testing.assert_allclose(held["features"], expected(backbone, digits).mean((1, 2)), atol=1e-5)
        assert held["labels"].tolist() == digits.labels.tolist()
        assert held["indices"].tolist() == digits.indices.tolist()
        assert held["names"].tolist() == [digits.image_name(row) for row in range(20)]
        assert held["class_names"].tolist() == list("0123456789")
        recipe = json.loads(str(held["recipe"]))
    assert recipe["boundary"] == "block3" and recipe["preprocess"] == backbone.spec.to_dict()
    assert len(list((cache_dir() / "features").glob("*/shard-*"))) == 1  # where a run will find them


def test_safetensors_of_maps(tmp_path, backbone, digits):
    out = tmp_path / "f.safetensors"
    assert feature_file.make_file(backbone, digits, out, stage="block3", pooled=False) == (20, 4, 4, 64)
    with safetensors.safe_open(out, "np") as held:
        np.testing.assert_allclose(held.get_tensor("features"), expected(backbone, digits), atol=1e-5)
        assert held.get_tensor("labels").tolist() == digits.labels.tolist()
        names, classes = (json.loads(held.metadata()[key]) for key in ("names", "class_names"))
    assert names == [digits.image_name(row) for row in range(20)] and classes == list("0123456789")


def test_what_the_file_lacks_behind_the_stage_is_not_missed(real_data):
    path = real_data / "weights" / "resnet18_without_layer4_convs.safetensors"
    parallel = make_parallel("jit")
    backbone = feature_file.of_weights("resnet18", "torchvision", "layer3", parallel, weights_path=path)
    assert set(backbone.variables["params"]) == {"stem", "layer1", "layer2", "layer3"}
    with pytest.raises(ValueError, match=r"layer4\.0\.conv1\.weight"):
        feature_file.of_weights("resnet18", "torchvision", "layer4", parallel, weights_path=path)


def test_out_is_checked_first(tmp_path):
    taken = tmp_path / "taken.npz"
    taken.touch()
    feature_file.check_out(taken, True)
    for out, message in [
        (taken, "exists: choose another name, or replace it with --force"),
        (tmp_path / "f.csv", "has the suffix '.csv': features are written as .npz or .safetensors"),
        (tmp_path / "no" / "f.npz", "is no folder: make it"),
    ]:
        with pytest.raises(ValueError, match=message.replace(".", r"\.")):
            feature_file.check_out(out, False)


def test_the_script(tmp_path, command):
    weights = ("--model", "vgg_tiny", "--weights", "digits04")
    arguments = (*weights, "--dataset", "digits", "--split", "test", "--out", tmp_path / "f.npz")
    status, printed, error = command("extract-features", *arguments, "--stage", "fc6")
    assert status == 0, error
    with np.load(tmp_path / "f.npz") as held:
        assert f"features {list(held['features'].shape)} of digits, test, at fc6" in printed
        assert held["features"].shape == (len(held["labels"]), 64)
    status, _, error = command("extract-features", *arguments, "--stage", "fc6")
    assert status == 1 and error.startswith("error: ") and "--force" in error
