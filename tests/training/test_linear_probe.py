"""A head solved for at once, in a run: what it equals, what it is told, and what cannot be solved for."""

import dataclasses

import numpy as np
import pytest
import small_digits
from small_digits import examples, records

from jft.evaluation.evaluate import evaluate
from jft.evaluation.restore import restore
from jft.features import linear
from jft.training import linear_probe
from jft.training.loop import checked_run, train
from jft.training.run import create_run
from jft.training.state import abstract_items
from jft.utils import tree
from jft.utils.checkpoint import CheckpointRefusedError
from jft.utils.mesh import make_parallel

# One worker trains for all of them.
pytestmark = [pytest.mark.xdist_group("solve"), pytest.mark.usefixtures("quick")]


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """One folder for all: what one run extracts the next one reads."""
    return tmp_path_factory.mktemp("features")


def make(features, **changes):
    return small_digits.make(features, **{"solver": "ridge", **changes})


def head(workdir):
    leaves = tree.flatten(restore(workdir, make_parallel("jit")).variables["params"]["head"])
    assert set(leaves) == {"head/kernel", "head/bias"}
    return np.asarray(leaves["head/kernel"]), np.asarray(leaves["head/bias"])


CASES = {
    "lbfgs": {"solver": "lbfgs", "regularization": (1e-2, 1e-1)},
    "lda": {"solver": "lda"},
    "few": {"examples_per_class": 5, "regularization": (1e-3, 1e-1)},
    "binary": {"classes": ("5", "8"), "loss": "sigmoid"},
    "layer": {"cut": "block3", "freeze": "", "head": "linear"},
}


@pytest.fixture(scope="module", params=CASES)
def solved(request, features, tmp_path_factory):
    """Config, folder and result of a run."""
    config = make(features, **CASES[request.param])
    workdir = tmp_path_factory.mktemp("solved") / request.param
    return config, workdir, train(config, workdir)


def test_the_head_is_what_the_probe_finds(solved):
    config, workdir, result = solved
    own, held_out, _ = examples(config, workdir)
    outputs = 1 if config.loss == "sigmoid" else 3
    assert own.features.shape[1] == 64
    found = linear.fit(config.solver, own, held_out, outputs=outputs, regularization=config.regularization)
    (line,) = records(workdir, "train")
    assert (line["step"], line["regularization"]) == (1, found.regularization)
    # What is kept has learnt from validation too, unless so many examples were asked for and no more.
    how = {"outputs": outputs, "regularization": config.regularization}
    joined = linear.fit(config.solver, own, held_out, **how, refit=True).linear
    wanted, other = (found.linear, joined) if config.examples_per_class else (joined, found.linear)
    kernel, bias = head(workdir)
    assert kernel.shape == (64, outputs)
    np.testing.assert_allclose(kernel, wanted.kernel, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(bias, wanted.bias, rtol=1e-4, atol=1e-6)
    assert not np.allclose(kernel, other.kernel, rtol=1e-3, atol=1e-5)
    # But the figure on validation is of the head that has not seen it.
    (entry,) = result["history"]
    accuracy, loss = linear.measure(found.linear, held_out)
    assert entry["step"] == 1 and entry["count"] == len(held_out)
    assert (entry["accuracy"], entry["loss"]) == pytest.approx((accuracy, loss), rel=1e-4)
    assert 0 < linear.measure(joined, held_out)[1] != pytest.approx(loss, rel=1e-4)


def test_the_run_is_whole_and_says_what_happened(solved):
    config, workdir, result = solved
    assert (result["finished"], result["step"], result["signal"]) == (True, 1, None)
    (line,) = records(workdir, "train")
    boundary, outputs = config.cut or "fc7", 1 if config.loss == "sigmoid" else 3
    assert (line["phase"], line["boundary"], line["learning"]) == ("linear probe", boundary, 65 * outputs)
    assert line["seconds"] > 0
    (extracted,) = records(workdir, "features")
    assert extracted["step"] == 0 and extracted["seconds"] > 0
    (told,) = records(workdir, "validation")
    assert {key: value for key, value in told.items() if key not in ("kind", "time", "seconds")} == result["history"][0]
    found = evaluate(workdir)
    assert found["step"] == 1 and found["accuracy"] > 0.75
    assert sum(of["count"] for of in found["per_class"].values()) == found["count"]
    if config.examples_per_class:
        assert evaluate(workdir, split="validation")["accuracy"] == result["history"][0]["accuracy"]
    else:  # which it has learnt from
        with pytest.raises(
            ValueError, match=r"head was refit on train \+ validation after choosing C.* use split='test'"
        ):
            evaluate(workdir, split="validation", dataset="digits")
        assert evaluate(workdir, split="train")["count"] > found["count"]


def test_a_solved_run_is_finished(solved, monkeypatch):
    config, workdir, result = solved
    monkeypatch.setattr(linear_probe, "solve", None)
    before = (workdir / "metrics.jsonl").read_text()
    assert train(config, workdir) == result
    assert (workdir / "metrics.jsonl").read_text() == before


def test_mirrored_images_are_examples_of_their_own(features, tmp_path):
    config = make(features, flip=True, regularization=(1e-2,), examples_per_class=20)
    own, held_out, _ = examples(config, tmp_path / "run")
    plain, *_ = examples(make(features, examples_per_class=20), tmp_path / "run")
    assert (len(plain), len(own)) == (60, 120)
    np.testing.assert_array_equal(own.labels, np.repeat(plain.labels, 2))
    np.testing.assert_array_equal(own.features[::2], plain.features)
    assert not np.allclose(own.features[1::2], plain.features)
    train(config, tmp_path / "run")
    wanted = linear.fit("ridge", own, held_out, outputs=3, regularization=(1e-2,)).linear
    np.testing.assert_allclose(head(tmp_path / "run")[0], wanted.kernel, rtol=1e-4, atol=1e-6)


def test_without_validation_the_strength_is_given_or_cross_validated(features, tmp_path):
    config = make(features, validation=0, regularization=(1e-2,))
    assert train(config, tmp_path / "run")["history"] == []
    assert evaluate(tmp_path / "run")["accuracy"] > 0.8
    config = make(features, validation=0, regularization=(1e-6, 1e-2))
    assert train(config, tmp_path / "several")["history"] == []
    (line,) = records(tmp_path / "several", "train")
    assert line["regularization"] == 1e-2
    np.testing.assert_array_equal(head(tmp_path / "several")[0], head(tmp_path / "run")[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ema": 0.9}, "ema = 0.9 has no effect where solver = 'ridge': it belongs to solver = 'steps', leave it out"),
        (
            {"label_smoothing": 0.1, "balance": "weights"},
            r"balance = 'weights' has no effect.*label_smoothing = 0\.1 has no effect",
        ),
        ({"balance": "sampling"}, "balance = 'sampling' has no effect where solver = 'ridge'"),
        ({"class_weights": (1.0, 2.0, 1.0)}, "class_weights = .* has no effect where solver"),
        ({"mixup": 0.2, "cutmix": 1.0}, "mixup = .* has no effect.*cutmix = .* has no effect"),
        (
            {"batch_norm": "frozen", "early_stopping": 2},
            "batch_norm = .* has no effect.*early_stopping = 2 has no effect",
        ),
        ({"head": "linear", "head_hidden": (8,)}, "head_hidden = .* has no effect where solver"),
        ({"head": "linear", "head_dropout": 0.5}, "head_dropout = .* has no effect where solver"),
        ({"head_init": 0.0}, "head_init = .* has no effect where solver"),
        ({"cache_features": False}, "solver = 'ridge' reads cached features, and cache_features = False"),
        ({"phases": ({"epochs": 1},)}, "phases = .* has no effect where solver"),
        ({"preset": "linear_probe"}, "preset = .* has no effect where solver"),
        ({"freeze": "fc6"}, "freezes everything before the head, and freeze = 'fc6': leave freeze out"),
        ({"solver": "lbgfs"}, "solver = 'lbgfs': choose steps, lbfgs, ridge, lda, class_means"),
        ({"regularization": (0.0,)}, r"regularization = \(0\.0,\): inverse strengths are above 0"),
        ({"regularization": (1.0, float("nan"))}, r"regularization = \(1\.0, nan\): inverse strengths are above 0"),
    ],
)
def test_what_a_solver_would_ignore_is_refused(features, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        create_run(make(features, **changes), tmp_path / "run")


def test_variants_that_cannot_be_counted_cannot_be_solved_for(features, tmp_path):
    message = r"solver = 'ridge', but the features are not cached: crop_padding = 0\.125 cuts"
    with pytest.raises(ValueError, match=message):
        checked_run(make(features, crop_padding=0.125), tmp_path / "run")


def test_a_run_s_own_squeezenet_head_has_no_relu_on_its_logits(features, tmp_path):
    config = make(features, model="squeezenet1_1", weights="", image_size=48, solver="steps", freeze="fire9")
    run = create_run(config, tmp_path / "run")
    assert run.model_options == {"clipped": False} and not run.model.clipped
    # One that was begun with it does not go on without.
    before = dataclasses.replace(run.info(), step=1, options={})
    with pytest.raises(
        CheckpointRefusedError, match=r"its options were \{\}, here \{'clipped': False\}.* give another"
    ):
        abstract_items(run, before)


def test_a_head_that_reads_a_map_is_replaced_by_a_linear_one(features, tmp_path):
    config = make(features, model="squeezenet1_1", weights="", image_size=48, freeze="")
    with pytest.raises(ValueError, match=r"squeezenet1_1's own head reads a map of .* x 512: set head = 'linear'"):
        checked_run(config, tmp_path / "run")
    with config.unlocked():
        config.head = "linear"
    checked_run(config, tmp_path / "run")
