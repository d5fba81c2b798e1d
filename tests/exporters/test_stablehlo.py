"""A StableHLO file stands alone: JAX and NumPy run it in a process without jft, for batches of any size."""

import subprocess
import sys

import numpy as np
import pytest

from jft.data import transforms
from jft.evaluation.open_model import open_source
from jft.exporters import stablehlo
from jft.metrics.losses import Objective
from jft.utils import tree

RUN = """
import sys
sys.modules["jft"] = None  # whoever imports it fails
import jax, numpy
from jax import export
folder = sys.argv[1]
for name in sys.argv[2:]:
    with open(f"{folder}/{name}.stablehlo", "rb") as file:
        exported = export.deserialize(bytearray(file.read()))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    for batch in (1, 5):
        images = numpy.load(f"{folder}/{name}.npy")[:batch]
        numpy.save(f"{folder}/{name}{batch}.npy", jax.jit(exported.call)(images))
"""

CASES = {"whole": ("softmax", 1.0), "crop": ("multilabel", 1.7)}


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


@pytest.fixture(scope="module")
def weights():
    return open_source("vgg_tiny.digits04")


@pytest.fixture(scope="module")
def variables(weights):
    return tree.unflatten(weights.read(False))


def predict_of(weights, variables, fit, kind="softmax", temperature=1.0):
    return stablehlo.make_predict(weights.build(), variables, weights.spec, Objective(kind, 5), fit, temperature)


def test_a_file_gives_the_checkpoint_back_without_jft(weights, variables, tmp_path):
    rng, wanted = np.random.default_rng(0), {}
    for fit, (kind, temperature) in CASES.items():
        side = transforms.stored_size(weights.spec, fit)
        images = rng.integers(0, 256, (5, side, side, 3), np.uint8)
        np.save(tmp_path / f"{fit}.npy", images)
        predict = predict_of(weights, variables, fit, kind, temperature)
        (tmp_path / f"{fit}.stablehlo").write_bytes(stablehlo.serialize(predict, side))
        x_images = transforms.to_model_input(images, weights.spec, fit=fit)
        logits = np.asarray(weights.build().apply(variables, x_images, train=False), np.float64)
        wanted[fit] = (softmax if kind == "softmax" else sigmoid)(logits / temperature)
    subprocess.run([sys.executable, "-c", RUN, tmp_path, *CASES], check=True, cwd=tmp_path)
    for fit, expected in wanted.items():
        for batch in (1, 5):
            np.testing.assert_allclose(np.load(tmp_path / f"{fit}{batch}.npy"), expected[:batch], atol=1e-6)


def test_what_is_read_takes_images_as_they_were_exported(weights, variables, tmp_path):
    path = tmp_path / "model.stablehlo"
    path.write_bytes(stablehlo.serialize(predict_of(weights, variables, "whole"), 32))
    predict = stablehlo.read(path)
    assert predict(np.zeros((2, 32, 32, 3), np.uint8)).shape == (2, 5)
    for wrong in (np.zeros((2, 33, 33, 3), np.uint8), np.zeros((2, 32, 32, 3), np.float32)):
        with pytest.raises(ValueError):
            predict(wrong)


@pytest.mark.parametrize("held", [b"", b"no flat buffer"])
def test_a_file_that_is_none_is_refused(tmp_path, held):
    path = tmp_path / "model.stablehlo"
    path.write_bytes(held)
    with pytest.raises(
        ValueError, match=r"model\.stablehlo is not a StableHLO export that JAX .* export the run again"
    ):
        stablehlo.read(path)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_is_positive(weights, variables, temperature):
    with pytest.raises(ValueError, match="temperature"):
        predict_of(weights, variables, "whole", temperature=temperature)
