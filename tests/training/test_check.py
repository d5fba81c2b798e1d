"""The pre-flight: a config that trains passes, each thing that is wrong has its line, and nothing is written."""

import functools
import re
import shutil

import flax.linen as nn
import jax
import numpy as np
import pytest
import small_chain
from PIL import Image
from small_digits import examples, make
from unwritable import refuse_to_write

from jft.config import default_config
from jft.data import datasets
from jft.models import MODELS, initialize
from jft.models.chain import Chain
from jft.models.layers import Head
from jft.training import batches, feature_cache, forecast, preflight
from jft.training.check import check
from jft.training.overfit import overfit
from jft.training.phase_run import PhaseRun
from jft.training.preflight import Preflight
from jft.training.run import create_run
from jft.training.state import fresh_state, optimizer_items

# One worker trains for all of them.
pytestmark = [pytest.mark.xdist_group("check"), pytest.mark.usefixtures("quick")]

NAMES = ["folder", "config", "data", "images", "repeats", "weights", "input", "trainable", "features"]
NAMES += ["disk", "evaluation"]


def told(config, workdir, data=None, **options):
    """Name of a finding -> (wrong, what it tells)."""
    return {found.check: (found.wrong, found.told) for found in check(config, workdir, data, **options)}


def test_digits_pass_and_nothing_is_written(tmp_path):
    config = make(tmp_path / "features", epochs=2.0, cache_features=False)
    found = told(config, tmp_path / "runs" / "one")
    assert list(found) == [*NAMES, "step", "duration", "overfit", "gradients"]
    assert not any(wrong for wrong, _ in found.values())
    assert list(tmp_path.iterdir()) == []
    for name, figures in {
        "config": "20 steps of 32 images",
        "data": "326 training and 108 validation images; 3 classes, from 107 (7) to 110 (5)",
        "weights": "vgg_tiny-digits04.safetensors: 10 leaves pretrained, 2 initialized (in head)",
        "trainable": "93,539 parameters: 195 trainable, 93,344 frozen (up to fc7)",
        "features": "cache_features = False",
        "gradients": "2 of 2 trainable leaves got a gradient",
    }.items():
        assert figures in found[name][1]
    for name, images in (("step", 32), ("evaluation", 128)):
        figures = re.fullmatch(
            r"([\d.]+) MB on the device; .*FLOPs per device; .* s for (\d+) images .*", found[name][1]
        )
        assert float(figures[1]) > 4 * 93_539 / 1e6 and int(figures[2]) == images
    first, last, guessing = map(
        float, re.search(r"loss (\S+) to (\S+) \(guessing gives (\S+)\)", found["overfit"][1]).groups()
    )
    assert guessing == pytest.approx(np.log(3), abs=0.05) and last < guessing / 2 < first


def solver(features, **changes):
    """A config whose check compiles no step."""
    return make(features, freeze="", solver="ridge", head="linear", **changes)


def test_a_solver_has_no_steps(tmp_path):
    found = told(solver(tmp_path / "features"), tmp_path / "run")
    assert list(found) == [*NAMES, "duration", "overfit", "gradients"] and not any(wrong for wrong, _ in found.values())
    assert "no steps: ridge fits the head" in found["config"][1]
    assert "cached after fc7" in found["features"][1] and "time to fit the head" in found["duration"][1]


@pytest.mark.parametrize(
    ("changes", "name", "message"),
    [
        ({"classes": ("5",)}, "config", "has only one class, '5'"),
        ({"freeze": "fc9"}, "config", "did you mean 'fc"),
        ({"epochs": 0.0}, "config", "epochs and steps are both 0"),
        ({"weights_path": "nowhere.safetensors"}, "weights", "weights_path nowhere.safetensors does not exist"),
        ({"learning_rate": 1e38, "cache_features": False}, "step", "not finite: lower the learning rate (1e+38)"),
    ],
)
def test_what_is_wrong_has_its_line(tmp_path, changes, name, message):
    found = told(make(tmp_path / "features", **changes), tmp_path / "run")
    assert [key for key, (wrong, _) in found.items() if wrong] == [name]
    assert message in found[name][1]
    assert "overfit" not in found


@pytest.mark.parametrize(
    ("kind", "message"), [("file", "is a file"), ("other", "seed: 7 -> 0"), ("locked", "(Read-only file system)")]
)
def test_a_folder_that_cannot_be_had(tmp_path, monkeypatch, kind, message):
    place = tmp_path / "place"
    if kind == "file":
        place.write_text("")
    else:
        place.mkdir()
    if kind == "other":
        (place / "config.json").write_text('{"seed": 7}')
    elif kind == "locked":
        refuse_to_write(monkeypatch, place)
    before = place.stat().st_mtime_ns
    workdir = place if kind == "other" else place / "run"
    first, *others = check(make(tmp_path / "features", weights_path="nowhere"), workdir)
    assert [found.check for found in others if found.wrong] == ["weights"]  # the rest is looked at all the same
    assert (first.check, first.wrong) == ("folder", True) and message in first.told
    assert str(first).startswith("FAIL folder: ")
    assert place.stat().st_mtime_ns == before


def test_images_that_are_alike_under_other_labels_cannot_be_learnt(tmp_path):
    labels = np.random.default_rng(0).integers(0, 3, 90)
    alike = datasets.from_arrays(np.full((90, 8, 8, 3), 99, np.uint8), labels)
    found = told(solver(tmp_path / "features", classes=()), tmp_path / "run", alike, overfit_steps=8)
    assert [key for key, (wrong, _) in found.items() if wrong] == ["overfit"]
    assert "in 8 steps of Adam" in found["overfit"][1] and "similar images with different labels" in found["overfit"][1]


def test_images_without_contrast_are_counted_and_the_first_named(tmp_path):
    for name in "ab":
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(20):
            shades = np.random.default_rng(number).integers(0, 16 if number % 2 else 256, (9, 9), np.uint8)
            Image.fromarray(shades).save(tmp_path / "data" / name / f"{number}.png")
    config = make(tmp_path / "features", dataset="folder", data_dir=str(tmp_path / "data"), classes=())
    run = create_run(config, tmp_path / "run")
    found = Preflight(run, None, overfit_steps=1)._input()
    assert not found.wrong
    assert re.search(
        r"; [4-8]\d of 128 images have almost no contrast, the first is \S+/[ab]/\d*[13579].png: look", found.told
    )


def test_an_image_that_cannot_be_read_fails_before_it_is_reached(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(10):
            Image.fromarray(np.full((9, 9), 20 * number, np.uint8)).save(tmp_path / name / f"{number}.png")
    (tmp_path / "a" / "3.png").write_bytes(b"no image")
    fields = {"dataset": "folder", "data_dir": str(tmp_path), "classes": ()}
    found = Preflight(create_run(make(tmp_path / "features", **fields), tmp_path / "run"), None, overfit_steps=1)
    images = found._images()
    assert images.wrong and "1 image cannot be read: a/3.png (its content is none of JPEG" in images.told
    assert "tiny" not in images.told  # all are


def test_training_files_are_stored_larger_for_resized_crops(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(20):
            Image.fromarray(np.full((9, 9), number, np.uint8)).save(tmp_path / name / f"{number}.png")
    fields = {"dataset": "folder", "data_dir": str(tmp_path), "classes": (), "resized_crop": (0.4, 1.0)}
    run = create_run(make(tmp_path / "features", stored_scale=1.5, **fields), tmp_path / "run")
    side = run.spec.size
    assert next(batches.image_batches(run, 0, 1))["image"].shape[1:3] == (round(1.5 * side),) * 2
    assert batches.images_of(run, run.validation_source).reading.spec == run.spec


class Layer(nn.Module):
    """A convolution and ReLU; dead where it starts with zeros and a bias below them."""

    dead: bool

    @nn.compact
    def __call__(self, x, *, train):
        zeros = {"kernel_init": nn.initializers.zeros, "bias_init": nn.initializers.constant(-1.0)}
        return nn.relu(nn.Conv(4, (3, 3), name="conv", **(zeros if self.dead else {}))(x))


class Clipped(Head):
    """A head whose logits go through a ReLU, as SqueezeNet's published one."""

    @nn.compact
    def __call__(self, x, *, train):
        return nn.relu(super().__call__(x, train=train))


class Net(Chain):
    """a, b, head."""

    default_size: int = 8
    dead: bool = False
    head: type = Head

    def published(self):
        stages = {"a": functools.partial(Layer, False), "b": functools.partial(Layer, self.dead)}
        return {**stages, "head": functools.partial(self.head, self.num_classes, self.dtype)}


@pytest.mark.parametrize(
    ("model", "head_init", "dead", "told_of"),
    [
        (
            Net,
            0.0,
            (),
            "6 of 6 trainable leaves got a gradient",
        ),  # what is before the head learns from the second step on
        (
            functools.partial(Net, dead=True),
            1.0,
            ("a/conv/bias", "a/conv/kernel", "b/conv/bias", "b/conv/kernel", "head/head/kernel"),
            "5 of 6 .* exactly 0 in every step: a/conv/bias, .*no gradient passes b: a kernel of zeros",
        ),
        (
            functools.partial(Net, head=Clipped),
            0.0,
            ("a/conv/bias", "a/conv/kernel", "b/conv/bias", "b/conv/kernel", "head/head/bias", "head/head/kernel"),
            "6 of 6 .*no gradient passes head: .* Use other weights, another seed or head_init",
        ),
    ],
)
def test_dead_gradients_are_found(tmp_path, monkeypatch, model, head_init, dead, told_of):
    monkeypatch.setitem(MODELS._rows, "net", model)
    monkeypatch.setattr("jft.training.state.initialize", initialize)
    config = default_config()
    config.update({"model": "net", "weights": "", "batch_size": 16, "head_init": head_init, "validation": 0.0})
    run = create_run(config, tmp_path / "run", small_chain.images(24))
    state = jax.tree.map(np.array, fresh_state(run)[0])
    images = np.stack([run.train_source.pixels(row, run.spec) for row in range(16)])
    batch = {"image": images, "label": run.train_source.labels[:16], "mask": np.ones(16, bool)}
    found = overfit(run, run.phases[0], state, batch, steps=2)
    assert tuple(sorted(found.unchanged)) == dead
    finding = preflight.gradients(found, run.phases[0])
    assert finding.wrong == bool(dead) and re.search(told_of, finding.told)


def test_a_image_that_cannot_be_read_is_named(tmp_path):
    for name in "ab":
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(20):
            (tmp_path / "data" / name / f"{number}.png").write_bytes(b"no image")
    config = make(tmp_path / "features", dataset="folder", data_dir=str(tmp_path / "data"), classes=())
    found = told(config, tmp_path / "run")
    assert found["input"][0] and re.search(r"data/[ab]/\d+\.png", found["input"][1])


def test_what_is_said_of_the_data_is_a_finding(tmp_path, caplog):
    for name, count in (("a", 20), ("a ", 20), ("b", 1)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(count):
            (tmp_path / "data" / name / f"{number}.png").write_bytes(b"no image")
    (tmp_path / "data" / "notes.txt").write_text("")
    config = make(tmp_path / "features", dataset="folder", data_dir=str(tmp_path / "data"), classes=(), freeze="fc9")
    found = list(check(config, tmp_path / "run"))
    assert [(one.check, one.wrong) for one in found] == [
        ("folder", False),
        *[("note", False)] * 4,
        ("config", True),
    ]
    for one, part in zip(
        found[1:],
        ("'a' and 'a '", ".txt: 1", "test has no image of some classes ('b' has 1)", "validation has no"),
        strict=False,
    ):
        assert part in one.told
    assert not caplog.records  # said once


def test_a_disk_that_is_too_small(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 10**6, 10**6))
    found = told(solver(tmp_path / "features"), tmp_path / "run")
    assert [key for key, (wrong, _) in found.items() if wrong] == ["disk"]
    assert re.match(
        "at most 4 checkpoints of 0.4 MB and 0.1 MB of features, 1.0 MB free .*: free space", found["disk"][1]
    )


def test_bytes_are_those_that_are_written(tmp_path):
    config = make(tmp_path / "features", keep_every=3, steps=7, cache_features=True)
    run = create_run(config, tmp_path / "run")
    state, _ = fresh_state(run)
    leaves = jax.tree.leaves((state.variables, optimizer_items(state)))
    assert forecast.checkpoint_bytes(run) == (sum(leaf.nbytes for leaf in leaves), 2 + 2 + 2)
    phases = feature_cache.decide(run, state, {})
    needed = forecast.feature_bytes(run, phases, state.variables)
    assert needed == 4 * 64 * (326 + 108) + 16 * (326 + 108) + 2 * 4096
    examples(config, tmp_path / "run")  # fills the cache
    assert forecast.feature_bytes(run, phases, state.variables) == 0


@pytest.mark.parametrize("every", [0.2, 1.0, 3.0])
def test_seconds_are_counted_from_what_a_run_does(tmp_path, every):
    phases = ({"steps": 7, "freeze": "fc7"}, {"steps": 21, "freeze": "fc6"})
    run = create_run(
        make(tmp_path, phases=phases, freeze="", evaluate_every=every, cache_features=False, checkpoint_every=9),
        tmp_path / "run",
    )
    phases = [
        PhaseRun(phase, False, "", step_seconds=seconds) for phase, seconds in zip(run.phases, (1.0, 2.0), strict=True)
    ]
    costs = {"forward": 0.5, "reading": 0.25, "saving": 0.125}
    seconds = forecast.run_seconds(run, phases, **costs)
    due = {step for step in range(1, 29) if run.is_due(step, every * run.steps_per_epoch) or step == 7}
    saved = {"checkpoints": 0.125 * len(due | {9, 18, 27})}
    assert seconds == {"decoding": 0.25 * 434, "steps": 7 + 42, "evaluations": len(due) * 108 * 0.5, **saved}
    found = forecast.run_seconds(run, [phases[0].replace(cached=True), phases[1]], **costs)
    assert 434 * 0.25 < found["features"] <= 434 * 0.75
    assert found["evaluations"] < seconds["evaluations"] and saved.items() <= found.items()


FILE = """from jft.config import default_config


def get_config():
    config = default_config()
    config.update({"dataset": "digits", "classes": ("5", "6", "7"), "model": "vgg_tiny", "weights": "digits04"})
    config.update({"image_size": 32, "steps": 2, "flip": False, "freeze": "fc7", "cache_features": False})
    config.update({"validation": 0.25, "eval_batch_size": 128})
    config.arms = (("one", {}), ("other one", {"solver": "ridge", "head": "linear", "cache_features": "auto"}))
    return config
"""


def test_the_command_checks_every_arm(command, tmp_path):
    (tmp_path / "small.py").write_text(FILE)
    arguments = ("--workdir", tmp_path / "run", "--config.keep_last=1")
    status, out, _ = command("check", tmp_path / "small.py", *arguments)
    assert status == 0 and out.endswith("All checks passed.\n")
    assert re.findall("^== (.*)$", out, re.M) == [f"{tmp_path}/run/one", f"{tmp_path}/run/other_one"]
    assert [found for found in re.findall(r"^ok   (\w+): ", out, re.M)] == [
        *(*NAMES, "step", "duration", "overfit", "gradients"),
        *(*NAMES, "duration", "overfit", "gradients"),
    ]
    assert {path.name for path in tmp_path.iterdir()} == {"small.py"}
    (tmp_path / "run").write_text("in the way")
    status, out, _ = command("check", tmp_path / "small.py", *arguments, "--config.weights_path=nowhere")
    assert status == 1 and out.endswith("4 failed.\n") and len(re.findall("^FAIL (?:folder|weights): ", out, re.M)) == 4


def test_an_unknown_field_is_one_line(command, tmp_path):
    (tmp_path / "small.py").write_text(FILE)
    status, out, error = command("check", tmp_path / "small.py", "--config.learning_rat=1")
    assert (status, out) == (1, "") and "did you mean 'learning_rate'?" in error
