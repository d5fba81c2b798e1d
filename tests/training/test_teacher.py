"""teacher = RUN: its logits enter the loss, cached or computed, of the images that the student sees."""

import dataclasses
import re
import shutil

import jax
import numpy as np
import pytest
import small_chain
import small_digits

from jft.config import default_config
from jft.data import transforms
from jft.data.preprocess import Preprocess
from jft.metrics import distillation
from jft.models import MODELS
from jft.training import noted_images, taught
from jft.training.cut import cut
from jft.training.loop import checked_run, train
from jft.training.state import initial_state

pytestmark = pytest.mark.xdist_group("taught")  # which one worker trains for all

WAYS = {
    "cached": {"freeze": "c", "cache_features": True},
    "computed": {"freeze": "c", "cache_features": False},
    "mixed": {"freeze": "", "mixup": 0.5, "crop_padding": 0.25},
}


@pytest.fixture(scope="module", autouse=True)
def small():
    """The small network by name, and one device."""
    with pytest.MonkeyPatch.context() as patch, small_digits.quick():
        patch.setitem(MODELS._rows, "small", small_chain.Small)
        yield


def make(folder, **changes):
    own = {"model": "small", "weights": "", "steps": 6, "batch_size": 12, "eval_batch_size": 16, "checkpoint_every": 2}
    config = default_config()
    config.update({**own, "validation": 12, "log_every": 1, "evaluate_every": 100.0, "keep_last": 9})
    config.update({"features_dir": str(folder / "features"), **changes})
    return config


def trained(folder, **changes):
    """What the log says of each step, but for times."""
    train(make(folder, **changes), folder / "run", small_chain.images(), brief=True)
    known = ("step", "loss", "grad_norm", "parameters")
    return [{name: line[name] for name in known} for line in small_digits.records(folder / "run", "train")]


def state_of(folder, **changes):
    return initial_state(checked_run(make(folder, **changes), folder / "run", small_chain.images()))[0]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    trained(folder, learning_rate=1e-2, seed=7)
    return str(folder / "run")


@pytest.fixture(scope="module")
def runs(tmp_path_factory, teacher):
    """The folder and the log of a run for each way to come by the logits."""
    folders = {name: tmp_path_factory.mktemp(name) for name in WAYS}
    return {name: (folders[name], trained(folders[name], teacher=teacher, **how)) for name, how in WAYS.items()}


def test_cached_logits_are_the_computed_ones(runs):
    (_, cached), (_, computed) = runs["cached"], runs["computed"]
    assert [line["step"] for line in cached] == list(range(1, 7))
    for name in ("loss", "grad_norm"):
        np.testing.assert_allclose([line[name] for line in cached], [line[name] for line in computed], rtol=1e-4)


def test_fields_say_how_the_teacher_enters_the_loss(tmp_path, teacher):
    fields = {"teacher": teacher, "teacher_weight": 0.25, "teacher_temperature": 2.0}
    run = checked_run(make(tmp_path, **fields), tmp_path / "run", small_chain.images())
    teaching = taught.teaching(run, run.phases[0])
    own, other = np.float32([[1, 0, -1]]), np.float32([[0, 2, 1]])
    assert teaching.weight == 0.25
    assert teaching.losses(own, other) == distillation.losses(run.objective, own, other, 2.0)


@pytest.mark.parametrize("way", [pytest.param("cached", marks=pytest.mark.slow), "mixed"])
def test_a_killed_run_goes_on_bit_for_bit(runs, teacher, tmp_path, way):
    folder, log = runs[way]
    shutil.copytree(folder / "run", tmp_path / "run")
    for step in (4, 6):
        shutil.rmtree(tmp_path / "run" / "checkpoints" / str(step))
    assert trained(tmp_path, teacher=teacher, **WAYS[way]) == log
    whole, again = (jax.tree.leaves(state_of(one, teacher=teacher, **WAYS[way])) for one in (folder, tmp_path))
    for one, other in zip(whole, again, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def test_a_part_of_a_run_comes_by_its_logits_as_the_whole_does(tmp_path, teacher):
    run = checked_run(make(tmp_path, teacher=teacher, steps=60), tmp_path / "run", small_chain.images())
    [whole], [part] = run.phases, cut(run, 1).phases
    assert taught.cached(run, whole) and taught.cached(cut(run, 1), part)


def test_another_teacher_is_refused(runs):
    folder, _ = runs["computed"]
    with pytest.raises(ValueError, match=r"begun with another teacher, which had the variables \w{8}; here had"):
        state_of(folder, teacher=str(runs["mixed"][0] / "run"), **WAYS["computed"])
    with pytest.raises(ValueError, match=r"which had the variables \w{8}; here was none"):
        state_of(folder, **WAYS["computed"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ("a", "c")}, "has the classes a, b, c, and .* has a, c: a teacher knows the same"),
        ({"teacher": "nowhere"}, "teacher = 'nowhere': .*nowhere"),
        ({"teacher_weight": 1.5}, r"must be in 0 \.\. 1"),
        ({"solver": "ridge", "freeze": "c"}, "teacher = "),
        ({"freeze": "c", "cache_features": True, "image_size": 12}, "the teacher reads images of 8 pixels"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, teacher, changes, message):
    with pytest.raises(ValueError, match=message):
        checked_run(make(tmp_path, **{"teacher": teacher, **changes}), tmp_path / "run", small_chain.images())


def test_it_is_said_that_a_teacher_has_learned_what_is_held_out(tmp_path, teacher):
    def lines(seed):
        run = checked_run(make(tmp_path, teacher=teacher, seed=seed), tmp_path / "run", small_chain.images())
        return noted_images.given_away(run.teacher, {"train": run.train_source, "validation": run.validation_source})

    assert lines(seed=7) == []
    [line] = lines(seed=0)
    assert re.search(r"was trained on \d+ of the 12 validation images, .*by the same seed and a share", line)


def test_the_teacher_sees_what_the_student_sees(teacher, tmp_path):
    """Normalized as its own weights expect, and resized to the size that it reads."""
    run = checked_run(make(tmp_path, teacher=teacher, **WAYS["cached"]), tmp_path / "run", small_chain.images())
    assert run.teacher is not None and taught.cached(run, run.phases[0])
    levels = np.random.default_rng(0).integers(0, 256, (2, 12, 12, 3)).astype(np.float32)
    student = Preprocess(size=12, resize=12, channels="BGR", scale=1.0, mean=(103.9, 116.8, 123.7), std=(1, 2, 3))
    variables, _ = run.teacher.read(run.parallel)
    own = transforms.to_model_input(levels, run.teacher.info.preprocess, fit="whole")
    wanted = run.teacher.model.apply(variables, own, train=False)
    found = run.teacher.make_logits(student)(variables, transforms.normalize(levels, student))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    phase = dataclasses.replace(run.phases[0], spec=student)
    assert not taught.cached(run, phase)  # as its logits would be of sharper images
