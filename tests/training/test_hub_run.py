"""A run that begins with a repository of the hub: its weights, and its license in what the checkpoint says."""

import json

import numpy as np
import pytest
import small_files
import small_hub

import jft
from jft.config import default_config
from jft.data import datasets
from jft.training import loop
from jft.training.run import create_run
from jft.training.state import check_weights, fresh_state
from jft.utils import tree
from jft.weights import provenance


@pytest.fixture
def config(monkeypatch, tmp_path, one_device):
    small_files.shrink(monkeypatch)
    folder = small_hub.write_folder(tmp_path / "trees")
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    config = default_config()
    config.update(
        {"model": "convnext_tiny", "weights": f"hf:{folder}", "batch_size": 4, "steps": 1, "dtype": "float32"}
    )
    return config


def images():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 40, 40, 3), dtype=np.uint8)
    return datasets.from_arrays(pixels, np.arange(8) % 2, ("oak", "pine"))


def test_weights_and_license_of_a_repository(config, tmp_path):
    run = create_run(config, tmp_path / "run", images())
    assert run.spec.size == 32 and run.spec.std == (0.5, 0.25, 0.5)
    for use in (check_weights, fresh_state):
        with pytest.raises(ValueError, match=r"license CC-BY-NC-4.0, which forbids .* add accept_license=True"):
            use(run)
    config.accept_license = True
    run = create_run(config, tmp_path / "run", images())
    check_weights(run)
    state, info = fresh_state(run)
    leaves = tree.flatten(state.params)
    np.testing.assert_array_equal(leaves["norm/norm/scale"], small_hub.tensors()["head.norm.weight"])
    assert leaves["head/head/kernel"].shape == (64, 2) and "params/head/head/kernel" not in info.pretrained
    assert (info.provenance.license, info.provenance.repository) == ("CC-BY-NC-4.0", config.weights)
    again = provenance.of_manifest(json.loads(json.dumps(info.weights)))  # as a checkpoint keeps it
    told = again.facts("pretrained weights")  # as reports and model cards show it
    assert told["Pretrained weights"] == config.weights
    assert told["License of the pretrained weights"] == "CC-BY-NC-4.0"


def test_jft_train_takes_the_model_of_the_repository(config, monkeypatch):
    seen = []

    def note(config, *_, **__):
        seen.append((config.model, config.weights))
        raise InterruptedError

    monkeypatch.setattr(loop, "train", note)
    for fields in ({}, {"model": "vgg16"}, {"config": {"model": "vgg16"}}):
        with pytest.raises(InterruptedError):
            jft.train(data=images(), weights=config.weights, workdir="none", **fields)
    assert seen == [(model, config.weights) for model in ("convnext_tiny", "vgg16", "vgg16")]
