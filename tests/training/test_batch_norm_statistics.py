"""Statistics of BatchNorms re-estimated over images."""

import numpy as np
import pytest
import small_chain

from jft.config import default_config
from jft.data.transforms import to_model_input
from jft.models import MODELS, initialize
from jft.training.batch_norm_statistics import over_training_images, re_estimate
from jft.training.run import create_run
from jft.training.state import fresh_state
from jft.utils import tree

BATCHES = ((0, 6), (6, 12), (12, 16))  # of 16 images; the last is filled up with what must not count


@pytest.fixture(scope="module")
def case():
    model = small_chain.Small(num_classes=3)
    images = np.random.default_rng(1).normal(1, 2, (16, 8, 8, 3)).astype(np.float32)
    return model, initialize(model, 8, 0), images


def batches(images):
    for first, last in BATCHES:
        part, filling = images[first:last], np.full((6 - (last - first), 8, 8, 3), 1e3, np.float32)
        yield {"image": np.concatenate([part, filling]), "mask": np.arange(6) < last - first}


def convolved(x, conv):
    kernel, bias = np.asarray(conv["kernel"], np.float64), np.asarray(conv["bias"], np.float64)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows = [padded[:, i : i + 8, j : j + 8] @ kernel[i, j] for i in range(3) for j in range(3)]
    return sum(rows) + bias


def by_hand(params, images):
    """The network in NumPy, batch by batch: mean and variance of all inputs of each BatchNorm together."""
    parts, found = [images[first:last].astype(np.float64) for first, last in BATCHES], {}
    for stage in "abc":
        parts = [convolved(x, params[stage]["conv"]) for x in parts]
        together = np.concatenate(parts).reshape(-1, 4)
        found[f"{stage}/bn/mean"], found[f"{stage}/bn/var"] = together.mean(0), together.var(0)
        scale, bias = (np.asarray(params[stage]["bn"][name]) for name in ("scale", "bias"))
        axes = (0, 1, 2)
        parts = [
            np.maximum((x - x.mean(axes)) / np.sqrt(x.var(axes) + 1e-5) * scale + bias, 0) for x in parts
        ]  # each by its own
    return found


def test_they_are_mean_and_variance_of_all_inputs_where_batches_normalize_by_their_own(case):
    model, variables, images = case
    found = tree.flatten(re_estimate(model, variables, batches(images)))
    expected = by_hand(variables["params"], images)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-5, atol=2e-5, err_msg=name)


def test_norms_that_are_not_named_keep_theirs_and_normalize_by_them(case):
    model, variables, images = case
    found = tree.flatten(re_estimate(model, variables, batches(images), norms=["b/bn"]))
    before = tree.flatten(variables["batch_stats"])
    assert {name for name, leaf in found.items() if np.any(leaf != before[name])} == {"b/bn/mean", "b/bn/var"}
    # The BatchNorm of stage a does nothing, with mean 0 and variance 1.
    params = variables["params"]
    x = np.maximum(convolved(images, params["a"]["conv"]) / np.sqrt(1 + 1e-5), 0)
    inputs = convolved(x, params["b"]["conv"]).reshape(-1, 4)
    np.testing.assert_allclose(found["b/bn/mean"], inputs.mean(0), rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(found["b/bn/var"], inputs.var(0), rtol=2e-5)


def test_without_images_there_is_nothing_to_estimate(case):
    model, variables, _ = case
    with pytest.raises(ValueError, match="there are none"):
        re_estimate(model, variables, [])


@pytest.mark.parametrize("parallel", ["jit", pytest.param("pmap", marks=pytest.mark.slow)])
@pytest.mark.usefixtures("quick")
def test_those_of_a_run_are_over_its_training_images(tmp_path, monkeypatch, parallel):
    monkeypatch.setitem(MODELS._rows, "small", small_chain.Small)
    config = default_config()
    config.update({"model": "small", "weights": "", "batch_size": 8, "eval_batch_size": 24, "parallel": parallel})
    run = create_run(config, tmp_path / "run", small_chain.images(40))
    state, _ = fresh_state(run)
    source = run.train_source
    images = np.asarray(to_model_input(source.in_memory, run.spec, fit="whole"))
    grouped = [{"image": part, "mask": np.ones(len(part), bool)} for part in (images[:24], images[24:])]
    expected = tree.flatten(re_estimate(run.model.clone(axis_name=None), state.variables, grouped))
    found = tree.flatten(over_training_images(run, state.variables))
    assert 24 < len(source) < 48  # so that the last batch is filled up
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
        assert found[name].sharding.is_fully_replicated
