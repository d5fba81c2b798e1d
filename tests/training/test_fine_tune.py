"""preset = 'fine_tune': the head solved for, all trained from there, and the average of the two that validates best."""

import shutil

import jax
import numpy as np
import pytest
import small_chain
import small_digits

from jft.config import default_config
from jft.evaluation.evaluate import evaluate
from jft.features import cross_validation, linear
from jft.training import presets, wise_ft
from jft.training.batches import make_evaluator
from jft.training.loop import checked_run, train
from jft.training.state import initial_state
from jft.utils import registry, tree
from jft.utils.ranking import best_step

pytestmark = pytest.mark.xdist_group("fine-tuned")  # which one worker trains for all
MEASURED = ("time", "seconds", "images_per_second", "waiting", "images_per_second_per_device")


def make(folder, **changes):
    own = {"preset": "fine_tune", "freeze": "", "steps": 6, "batch_size": 32, "log_every": 2, "checkpoint_every": 2}
    return small_digits.make(folder / "features", **{**own, "learning_rate": 3e-4, "keep_last": 9, **changes})


def trained(folder, **changes):
    with small_digits.quick():
        return train(make(folder, **changes), folder / "run", brief=True)


def told(workdir):
    """What the log says but for times, by step and kind; of steps with the fingerprint of their parameters."""
    return {
        (line["step"], line["kind"]): {name: value for name, value in line.items() if name not in MEASURED}
        for line in small_digits.records(workdir)
        if line["kind"] in ("train", "validation", "average")
    }


def state_of(folder, **changes):
    with small_digits.quick():
        run = checked_run(make(folder, **changes), folder / "run")
        return run, initial_state(run)[0]


@pytest.fixture(scope="module", params=[pytest.param({}, marks=pytest.mark.slow), {"ema": 0.5}], ids=["plain", "ema"])
def run(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned")
    return folder, trained(folder, **request.param), request.param


def test_the_head_is_solved_for_by_cross_validation_and_then_all_is_trained(run):
    folder, result, changes = run
    log = told(folder / "run")
    assert (result["step"], [entry["step"] for entry in result["history"]]) == (7, [1, 7])
    assert [step for step, kind in log if kind == "train"] == [1, 2, 4, 6, 7]
    with small_digits.quick():
        own, held_out, _ = small_digits.examples(make(folder, **changes), folder / "another")
    choice = cross_validation.choose("lbfgs", own, outputs=3)
    assert log[1, "train"]["regularization"] == choice.regularization
    [head] = linear.logistic(own, 3, [choice.regularization])
    accuracy, loss = linear.measure(head, held_out)
    assert (result["history"][0]["accuracy"], result["history"][0]["loss"]) == pytest.approx((accuracy, loss), rel=1e-4)
    assert log[1, "train"]["learning"] == 64 * 3 + 3 < log[7, "train"]["learning"]
    assert evaluate(folder / "run")["count"] == 108


def test_the_average_is_the_best_on_the_line(run):
    folder, result, changes = run
    log = told(folder / "run")
    average = log[7, "average"]
    losses = {share: average[f"loss_{share:g}"] for share in wise_ft.SHARES}
    assert average["share"] == min(losses, key=losses.__getitem__)
    assert best_step(result["history"]) == 7  # though the smallest loss without a temperature may be another's

    found, state = state_of(folder, **changes)
    # The start of the phase is kept beside the average until the run ends.
    first, last = (tree.flatten(part["params"]) for part in (state.start, state.variables))
    assert first.keys() == last.keys()
    with small_digits.quick():
        start = state.replace(params=state.start["params"], ema=state.start["params"] if state.ema else {})
        evaluate_all = make_evaluator(found)
        beginning = evaluate_all(start.variables, found.validation_source)
        assert beginning.calibrated_loss() == losses[0.0] <= beginning.summary()["loss"]
        assert beginning.summary()["loss"] == pytest.approx(result["history"][0]["loss"], rel=1e-5)
        ended = evaluate_all(state.variables, found.validation_source)
        assert ended.calibrated_loss() == losses[average["share"]]


@pytest.mark.parametrize("share", [pytest.param(0.0, marks=pytest.mark.slow), 0.25])
def test_a_share_is_the_point_on_the_line(tmp_path, share):
    states = {}
    for tried in (1.0, share):
        own = {"preset": "", "steps": 0, "learning_rate": 1e-3, "features_dir": str(tmp_path / "features")}
        own["phases"] = ({"solver": "ridge", "freeze": "fc7"}, {"steps": 2, "wise_ft": tried})
        trained(tmp_path / f"{tried}", **own)
        states[tried] = state_of(tmp_path / f"{tried}", **own)[1]
    end, mixed = states[1.0], states[share]
    assert not end.start and "average" not in {kind for _, kind in told(tmp_path / "1.0" / "run")}
    for name, leaf in tree.flatten(mixed.params).items():
        first, last = tree.flatten(mixed.start["params"])[name], tree.flatten(end.params)[name]
        np.testing.assert_allclose(leaf, first + share * (last - first), rtol=1e-5, atol=1e-7, err_msg=name)


@pytest.mark.parametrize(("norms", "steps", "rate"), [(False, 149, 3e-4), (True, 149, 1e-4), (True, 150, 3e-4)])
def test_the_rate_follows_the_length_and_the_network(norms, steps, rate):
    config = default_config()
    about = {
        "stages": ("a", "b", "head"),
        "heads": ("head",),
        "norms": norms,
        "num_steps": steps,
        "steps_per_epoch": 10.0,
    }
    head, tuning = presets.PRESETS["fine_tune"](presets.Given(config, **about))
    assert (head["solver"], head["freeze"]) == ("lbfgs", "b")
    assert (tuning["steps"], tuning["learning_rate"], tuning["batch_norm"]) == (steps, rate, "frozen")
    config.update({"learning_rate": 0.5, "batch_norm": "statistics"})  # what the config says holds
    _, tuning = presets.PRESETS["fine_tune"](presets.Given(config, **about))
    assert not {"learning_rate", "batch_norm"} & tuning.keys()


@pytest.mark.parametrize("batch_norm", ["trained", pytest.param("frozen", marks=pytest.mark.slow)])
def test_statistics_are_averaged_where_they_move(tmp_path, batch_norm):
    """Both ends of the line stay what they are, and what is frozen keeps every bit."""
    ends = {}
    for share in (0.0, 0.25, 1.0):
        config = default_config()
        config.update({"model": "small_chain:Small", "weights": "", "image_size": 8, "flip": False, "batch_size": 16})
        config.update({"validation": 0.0, "batch_norm": batch_norm})
        config.phases = ({"steps": 2, "freeze": "b"}, {"steps": 2, "freeze": "a", "wise_ft": share})
        workdir = tmp_path / f"{share}"
        with small_digits.quick(), registry.code_allowed():
            train(config, workdir, small_chain.images())
            state = initial_state(checked_run(config, workdir, small_chain.images()))[0]
        ends[share] = tree.flatten(state.variables["batch_stats"])
    moved = {name.split("/")[0] for name, leaf in ends[1.0].items() if np.any(leaf != ends[0.0][name])}
    assert moved == ({"b", "c"} if batch_norm == "trained" else set())
    for name, leaf in ends[0.25].items():
        if name.split("/")[0] in moved:
            np.testing.assert_allclose(leaf, 0.75 * ends[0.0][name] + 0.25 * ends[1.0][name], rtol=1e-6)
        else:
            np.testing.assert_array_equal(leaf, ends[0.0][name])


@pytest.mark.parametrize(
    "kept",
    [
        pytest.param(0, marks=pytest.mark.slow),
        pytest.param(1, marks=pytest.mark.slow),
        3,
        pytest.param(6, marks=pytest.mark.slow),
    ],
    ids=["nothing", "head", "middle", "before the average"],
)
def test_a_killed_run_goes_on_bit_for_bit(run, tmp_path, kept):
    folder, _, changes = run
    shutil.copytree(folder / "run", tmp_path / "run")
    for checkpoint in (tmp_path / "run" / "checkpoints").rglob("[0-9]*"):
        if checkpoint.is_dir() and checkpoint.name.isdigit() and int(checkpoint.name) > kept:
            shutil.rmtree(checkpoint)
    with small_digits.quick():
        train(make(folder, **changes), tmp_path / "run", brief=True)
    assert told(tmp_path / "run") == told(folder / "run")
    whole = jax.tree.leaves(state_of(folder, **changes)[1])
    again = jax.tree.leaves(state_of(tmp_path, features_dir=str(folder / "features"), **changes)[1])
    for one, other in zip(whole, again, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"validation": 0},
            "wise_ft = 'auto' of phase 'fine-tuning' chooses a share by validation loss, and validation",
        ),
        ({"wise_ft": 1.5}, "wise_ft = 1.5: choose 'auto' or a number in 0 .. 1"),
        (
            {"cache_features": False},
            "phase 'linear probe': .* solver = 'lbfgs' reads cached features, and cache_features = False",
        ),
        ({"early_stopping": 2}, "early_stopping = 2 would end the run in the first phase"),
        (
            {"preset": "", "steps": 0, "phases": ({"solver": "ridge", "epochs": 2}, {"steps": 2})},
            "phase 1: solver = 'ridge' counts as one step: leave epochs out",
        ),
    ],
)
def test_what_is_wrong_is_said(tmp_path, changes, message):
    with small_digits.quick(), pytest.raises(ValueError, match=message.replace("(", r"\(")):
        checked_run(make(tmp_path, **changes), tmp_path / "run")
