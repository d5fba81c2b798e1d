"""Cached features: when a run takes them, and that a run which does learns what one that does not would."""

import dataclasses
import json
import re
import shutil
import signal

import jax
import numpy as np
import pytest
from on_demand import on_demand
from small_chain import Small
from small_chain import images as some_images

from jft.config import default_config
from jft.evaluation.evaluate import evaluate
from jft.evaluation.restore import restore
from jft.models import MODELS
from jft.training import feature_cache
from jft.training.loop import checked_run, train
from jft.training.run import create_run
from jft.training.state import initial_state
from jft.utils import tree
from jft.utils.logger import Logs
from jft.utils.mesh import make_parallel

DISK_USAGE, WRITE = shutil.disk_usage, Logs.write
# All learn, and then what is behind b, on its features.
TWO = {
    **{"phases": ({"steps": 4, "freeze": "", "learning_rate": 0.5}, {"steps": 6, "freeze": "b"}), "freeze": ""},
    **{"steps": 0, "cache_features": "auto", "validation": 0},
}
of_two = pytest.mark.xdist_group("two phases")  # which one worker compiles for all


@pytest.fixture(scope="module", autouse=True)
def small():
    """The model by its name, and two devices, for which XLA compiles faster than for eight."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS._rows, "small", Small)
        patch.setattr(jax, "devices", lambda *a: jax.local_devices()[:2])
        yield


def images(classes=3):
    """36 to train, 12 to validate, 12 to test."""
    return some_images(60, classes)


def make(tmp_path, **changes):
    config = default_config()
    config.update(
        {
            **{"model": "small", "weights": "", "batch_size": 12, "validation": 0.25, "flip": False, "freeze": "c"},
            # Not Adam, which blows rounding up where there is no gradient, as of a bias before BatchNorm.
            **{"optimizer": "sgd", "learning_rate": 0.05, "steps": 8, "evaluate_every": 1000.0, "log_every": 1},
            **{"features_dir": str(tmp_path / "features"), "cache_features": True, "eval_batch_size": 16, **changes},
        }
    )
    return config


def decisions(tmp_path, with_state=False, **changes):
    """Of each phase, in order."""
    run = create_run(make(tmp_path, **changes), tmp_path / "run", images())
    found = feature_cache.decide(run, initial_state(run)[0] if with_state else None, {})
    assert [one.phase for one in found] == list(run.phases)
    return found


def decision(tmp_path, with_state=False, **changes):
    (found,) = decisions(tmp_path, with_state, **changes)
    return found


def free(monkeypatch, size):
    """Leaves so many bytes on every disk."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: DISK_USAGE(path)._replace(free=size))


OBSTACLES = [
    ({"freeze": ""}, "no stage is frozen"),
    ({"freeze": "b/.*"}, "no stage is frozen"),
    ({"crop_padding": 0.125}, "crop_padding = 0.125 cuts every image at a random place, so an image has no fixed"),
    ({"auto_augment": "trivial"}, "auto_augment = 'trivial' changes every image anew"),
    ({"fit": "crop"}, "crop = 'random' cuts 8 pixels"),
    ({"mixup": 0.2}, "mixup and cutmix mix images at random at every step"),
    ({"cutmix": 1.0}, "mixup and cutmix mix images at random at every step"),
]


@pytest.mark.parametrize(("changes", "why"), OBSTACLES)
def test_what_cannot_be_cached_is_computed_or_refused(tmp_path, changes, why):
    found = decision(tmp_path, cache_features="auto", **changes)
    assert not found.cached and found.why.startswith(f"not cached: {why}")
    with pytest.raises(ValueError, match=f"cache_features = True, but the features are not cached: {why}"):
        decision(tmp_path, **changes)


def test_a_disk_without_room_names_the_bytes(tmp_path, monkeypatch):
    free(monkeypatch, 1000)
    found = decision(tmp_path, cache_features="auto", freeze="b", with_state=True)
    assert not found.cached
    said, _, left = found.why.partition(" bytes and ")
    assert said.startswith("not cached: the features of 48 images take ")
    # 8 x 8 maps of 4 channels in float32, and little else.
    assert 48 * 1024 < int(said.split()[-1].replace(",", "")) < 2 * 48 * 1024
    assert left == f"{tmp_path / 'features'} has 1,000 left; fix that, or set features_dir"
    with pytest.raises(ValueError, match="has 1,000 left; fix that"):
        decision(tmp_path, freeze="b", with_state=True)


def test_what_would_not_pay_is_computed_unless_asked_for(tmp_path):
    # 36 images to train, mirrored or not; six steps read as many.
    found = decision(tmp_path, cache_features="auto", flip=True, steps=6)
    assert not found.cached
    assert found.why == "not cached: the phase reads 72 images, and 72 would be extracted first"
    assert decision(tmp_path, cache_features="auto", flip=True, steps=7).cached
    assert decision(tmp_path, flip=True, steps=6).cached
    assert not decision(tmp_path, cache_features=False, flip=True, steps=1000).cached


def test_it_says_what_is_cached_and_where(tmp_path):
    assert decision(tmp_path).why == f"cached after c, averaged, 48 x 4 (0.0 MB) in {tmp_path / 'features'}"
    # The head does not average first where it does not come next; 2 x 36 variants, and 12 to validate.
    found = decision(tmp_path, freeze="b", flip=True, features_dtype="bfloat16")
    assert found.why == f"cached after b, 84 x 8 x 8 x 4 (0.0 MB) in {tmp_path / 'features'}"


def test_room_is_enough_for_one_of_two_phases(tmp_path, monkeypatch):
    phases = ({"steps": 6, "freeze": "a"}, {"steps": 6, "freeze": "b"})
    config = make(tmp_path, cache_features="auto", freeze="", steps=0, phases=phases)
    run = create_run(config, tmp_path / "run", images())
    state, _ = initial_state(run)
    free(monkeypatch, 0)
    found = feature_cache.decide(run, state, {})
    # One stage's output is as large as another's.
    taken = [re.search(r"take ([\d,]+) bytes", one.why).group(1) for one in found]
    assert taken[0] == taken[1]
    needed = int(taken[0].replace(",", ""))
    free(monkeypatch, int(needed / 0.6))
    first, second = feature_cache.decide(run, state, {})
    assert first.cached and not second.cached
    assert f"take {needed:,} bytes and" in second.why and f"has {int(needed / 0.6) - needed:,} left" in second.why
    free(monkeypatch, 2 * needed)
    assert all(one.cached for one in feature_cache.decide(run, state, {}))


def test_phases_of_one_boundary_take_room_once(tmp_path, monkeypatch):
    phases = ({"steps": 6, "freeze": "b"}, {"steps": 6, "freeze": "b", "learning_rate": 1e-4})
    run = create_run(make(tmp_path, freeze="", steps=0, phases=phases), tmp_path / "run", images())
    state, _ = initial_state(run)
    free(monkeypatch, 60_000)  # for one of 48 KiB
    assert all(one.cached for one in feature_cache.decide(run, state, {}))


def test_a_preset_is_cached_where_it_can_be(tmp_path):
    probe, tuning = decisions(tmp_path, preset="lp_ft", freeze="", flip=True)
    assert probe.cached and probe.why.startswith("cached after c")
    assert not tuning.cached and tuning.why == "not cached: no stage is frozen (set freeze = STAGE)"


def test_a_run_that_is_past_what_is_cached_can_be_resumed(tmp_path):
    run = create_run(make(tmp_path, preset="lp_ft", freeze=""), tmp_path / "run", images())
    state, _ = initial_state(run)
    later = run.phases[1].first
    [found] = feature_cache.decide(run, state.replace(step=later + 1), {0: True, later: False})
    assert found.phase is run.phases[1] and not found.cached
    assert found.why == "not cached, as when the run began"


def final(workdir):
    restored = restore(workdir, make_parallel("jit")).variables
    return tree.flatten(jax.tree.map(np.asarray, restored))


def both(tmp_path, **changes):
    """Trains with features and without; returns both results and the parameters of the first."""
    results = {}
    for cache in (True, False):
        config = make(tmp_path, **{**changes, "cache_features": cache})
        results[cache] = train(config, tmp_path / f"{cache}", images())["history"]
    cached, live = final(tmp_path / "True"), final(tmp_path / "False")
    assert cached.keys() == live.keys()
    for name, leaf in live.items():
        np.testing.assert_allclose(cached[name], leaf, rtol=1e-5, atol=1e-5, err_msg=name)
    for one, two in zip(results[True], results[False], strict=True):
        assert one == {**two, "loss": pytest.approx(two["loss"], abs=1e-5)}
    return results[True], live


def test_a_cached_run_learns_what_a_live_one_does_and_the_next_computes_nothing(tmp_path, monkeypatch):
    history, _ = both(tmp_path)
    assert history[-1]["count"] == 12

    def written():
        return {path: path.stat().st_mtime_ns for path in (tmp_path / "features").rglob("*") if path.is_file()}

    before = written()
    assert before
    other = train(make(tmp_path, learning_rate=0.2), tmp_path / "other", images())
    assert written() == before
    assert other["history"][-1]["loss"] != history[-1]["loss"]
    # What is there already needs no room.
    free(monkeypatch, 0)
    assert decision(tmp_path, with_state=True).cached
    checked_run(make(tmp_path), tmp_path / "full", images())


def test_variants_dropout_and_another_head(tmp_path):
    """Ten variants of each image, and a head that drops half of what it reads and has a hidden layer."""
    head = {"cut": "b", "freeze": "b", "head": "linear", "head_hidden": (8,), "head_dropout": 0.5}
    _, params = both(tmp_path, fit="crop", crop="five", flip=True, steps=12, **head)
    assert {name.split("/")[1] for name in params if name.startswith("params")} == {"a", "b", "head"}
    assert params["params/head/hidden1/kernel"].shape == (4, 8)
    (folder,) = [path for path in (tmp_path / "features").glob("*") if '"crop": "five"' in recipe_of(path)]
    assert folder.is_dir()
    found = [evaluate(tmp_path / name, dataset=images(), split="all") for name in ("True", "False")]
    assert found[0]["count"] == 60
    assert found[0]["accuracy"] == found[1]["accuracy"]


def recipe_of(folder):
    return json.dumps(json.loads((folder / "recipe.json").read_text()))


@on_demand("test_parallel has pmap without the cache")
def test_under_pmap(tmp_path):
    """BatchNorm behind the boundary learns by the batch of all devices, and each draws its own variants."""
    both(tmp_path, parallel="pmap", flip=True, freeze="b")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, compile_once):
    """Folder of the runs 'cached' and 'live', of two phases, and of the features of the former."""
    folder = tmp_path_factory.mktemp("two")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jft.training.programs.compile_train_step", compile_once)
        train(make(folder, **TWO), folder / "cached", images())
        train(make(folder, **{**TWO, "cache_features": False}), folder / "live", images())
    return folder


@of_two
def test_features_are_of_the_weights_that_the_phases_before_have_trained(whole, tmp_path):
    assert (whole / "features").is_dir()
    cached, live = final(whole / "cached"), final(whole / "live")
    for name, leaf in live.items():
        np.testing.assert_allclose(cached[name], leaf, rtol=1e-4, atol=1e-5, err_msg=name)
    untrained, _ = initial_state(create_run(make(tmp_path, **TWO), tmp_path / "untrained", images()))
    assert not np.allclose(untrained.params["b"]["conv"]["kernel"], live["params/b/conv/kernel"])


def stop_at(monkeypatch, last):
    """A signal comes as this step is logged; 0: none."""

    def stopping(self, step, kind, values):
        WRITE(self, step, kind, values)
        if kind == "train" and step == last:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Logs, "write", stopping)


@of_two
@pytest.mark.parametrize("last", [2, 4])
def test_a_run_that_is_stopped_extracts_nothing_for_the_next_phase(tmp_path, monkeypatch, compiled_once, last):
    stop_at(monkeypatch, last)
    assert train(make(tmp_path, **TWO), tmp_path / "run", images())["step"] == last
    assert not (tmp_path / "features").exists()


@of_two
@pytest.mark.parametrize("cached", [True, False], ids=["cached", "live"])
def test_a_resumed_run_computes_as_it_began(whole, tmp_path, monkeypatch, capsys, compiled_once, cached):
    """Whatever room the disk has by then, one that read features goes on with them, and another without.

    20,000 bytes are enough for checkpoints, and not for the features, of 49,152.
    """
    config = make(tmp_path, **TWO)
    free(monkeypatch, 10**9 if cached else 20_000)
    stop_at(monkeypatch, 6)
    assert train(config, tmp_path / "run", images())["step"] == 6
    features = sorted(path for path in (tmp_path / "features").rglob("*") if path.is_file())
    assert bool(features) == cached
    free(monkeypatch, 20_000 if cached else 10**9)
    stop_at(monkeypatch, 0)
    capsys.readouterr()
    assert train(config, tmp_path / "run", images())["finished"]
    said = "cached after b" if cached else "not cached, as when the run began"
    assert f"Features of phase 2: {said}" in capsys.readouterr().out
    assert sorted(path for path in (tmp_path / "features").rglob("*") if path.is_file()) == features
    resumed = final(tmp_path / "run")
    for name, leaf in final(whole / ("cached" if cached else "live")).items():
        np.testing.assert_array_equal(resumed[name], leaf, err_msg=name)


@pytest.mark.parametrize("several", [False, True], ids=["binary", "several labels"])
def test_sigmoid_losses(tmp_path, several):
    source = images(classes=2)
    if several:
        both_labels = np.stack([source.labels, 1 - source.labels, np.arange(60) % 2], axis=1).astype(np.uint8)
        source = dataclasses.replace(source, labels=both_labels, class_names=("a", "b", "c"))
    result = train(make(tmp_path, loss="sigmoid", learning_rate=1.0, steps=60), tmp_path / "run", source)
    assert final(tmp_path / "run")["params/head/head/kernel"].shape == (4, 3 if several else 1)
    found = evaluate(tmp_path / "run", dataset=source, split="all")
    assert found["count"] == 60 and found["accuracy"] > 0.9
    assert ("mean_average_precision" in found) == ("mean_average_precision" in result["history"][-1]) == several
    assert found["per_class"]["b"]["count"] == 30
