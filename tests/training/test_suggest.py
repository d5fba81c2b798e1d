"""Suggesting a model: probes that do not see what they are tested on, the rule of the pick, a config that trains."""

import dataclasses
import hashlib
import re
import signal

import jax
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from jft.cli.config_file import read_config
from jft.config import arm_config, default_config
from jft.data import datasets
from jft.training import probe_features, suggest_report
from jft.training.loop import checked_run
from jft.training.suggest import Probed, at_hand, make_config, pareto, pick, sample
from jft.training.suggest_report import config_text
from jft.weights import hub
from jft.weights.catalog import CATALOG, find_row

# One worker trains for all of them.
pytestmark = [pytest.mark.xdist_group("suggest"), pytest.mark.usefixtures("quick")]


def probed(model, correct, speed, count=100):
    config = default_config()
    config.update({"dataset": "folder", "data_dir": "somewhere", "model": model})
    return Probed(config, np.arange(count) < correct, speed, 10**6, 1000)


def test_the_pick_is_the_fastest_within_one_standard_error():
    # One standard error of 90 of 100 is 3.
    slow, near, far = probed("vgg19", 90, 1.0), probed("resnet50", 87, 5.0), probed("resnet18", 86, 9.0)
    worse = probed("vgg16", 80, 2.0)
    assert pick([slow, near, far, worse]) is near
    assert pick([slow, far]) is slow
    assert pareto([slow, near, far, worse]) == [slow, near, far]
    assert pareto([slow, dataclasses.replace(slow)]) == [slow, slow]


def test_a_sample_has_every_class_and_leaves_out_what_cannot_be_read(tmp_path):
    for name, count in (("a", 40), ("b", 20)):
        (tmp_path / name).mkdir()
        for number in range(count):
            Image.new("RGB", (8, 8)).save(tmp_path / name / f"{number}.png")
    source = datasets.load_source("folder", split="all", data_dir=tmp_path, validation=0, seed=0)
    chosen, broken = sample(source, 30)
    assert np.bincount(chosen.labels).tolist() == [20, 10] and broken == 0
    chosen.images[0].write_bytes(b"no image")
    assert [len(sample(source, 30)[0]), sample(source, 30)[1]] == [29, 1]
    with pytest.raises(ValueError, match="1 of 2 classes with 3 images or more: it needs at least two"):
        sample(source, 4)


def test_a_class_of_two_images_is_no_obstacle(tmp_path):
    labels = np.repeat([0, 1, 2], (30, 20, 2))
    source = datasets.from_arrays(np.zeros((52, 8, 8, 3), np.uint8), labels)
    assert sample(source, 52)[0].counts().tolist() == [30, 20, 2]


def test_sets_without_top_are_cut_where_their_weights_end():
    for model, tag, cut in ("vgg16", "keras_notop", "block5"), ("vgg16", "keras", ""), ("resnet50", "keras_notop", ""):
        assert make_config(default_config(), find_row(model, tag), "").cut == cut


def test_only_sets_of_imagenet_are_at_hand_unless_one_is_named(tmp_path):
    with pytest.raises(ValueError, match="`jft weights fetch NAME` downloads one"):
        at_hand()
    assert at_hand(["vgg_tiny.digits04"]) == [(find_row("vgg_tiny", "digits04"), "")]
    with pytest.raises(ValueError, match="no weights like vgg_t"):
        at_hand(["vgg_t*"])
    (tmp_path / find_row("squeezenet1_1", "caffe").filename).write_text("")
    assert at_hand(["squeeze*"], str(tmp_path)) == [
        (find_row("squeezenet1_1", "caffe"), str(tmp_path / "squeezenet_v1.1.npy"))
    ]
    assert at_hand(["squeezenet1_1"], str(tmp_path)) == at_hand(["squeeze*"], str(tmp_path))
    with pytest.raises(ValueError, match="is not a folder"):
        at_hand([], str(tmp_path / "nothing"))


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A folder of three sets of vgg_tiny with a head of ImageNet's classes: sound, shuffled, and not whole."""
    row = find_row("vgg_tiny", "digits04")
    leaves = safetensors.numpy.load_file(hub.locate(row))
    for name in leaves:
        if "head/head" in name:
            leaves[name] = np.zeros((*leaves[name].shape[:-1], 1000), np.float32)
    rng = np.random.default_rng(0)
    shuffled = {name: rng.permuted(leaf.ravel()).reshape(leaf.shape) for name, leaf in leaves.items()}
    lacking = {name: leaf for name, leaf in leaves.items() if "fc6" not in name}
    folder = tmp_path / "weights"
    folder.mkdir()
    for tag, held in (("sound", leaves), ("shuffled", shuffled), ("lacking", lacking)):
        own = dataclasses.replace(row, tag=tag, filename=f"{tag}.safetensors", sha256=None, options={})
        monkeypatch.setitem(CATALOG, own.name, own)
        safetensors.numpy.save_file(held, folder / own.filename)
        if tag == "sound":  # the only one that is known by its hash
            known = hashlib.sha256((folder / own.filename).read_bytes()).hexdigest()
            monkeypatch.setitem(CATALOG, own.name, dataclasses.replace(own, sha256=known))
    return folder


def test_what_does_not_fit_into_memory_is_left_out(command, tmp_path, monkeypatch, weights):
    def probe_one(config, source):
        if config.weights == "sound":
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory.\n\nand so on")
        return Probed(config, np.arange(len(source)) < 50, 1.0, 10**6, 1000)

    monkeypatch.setattr(suggest_report, "probe_one", probe_one)
    arguments = ["--dataset", "digits", "--weights_path", weights, "--images", "100", "--out", tmp_path]
    status, out, _ = command("suggest", *arguments)
    assert status == 0 and "\nWARNING: vgg_tiny.sound is skipped: RESOURCE_EXHAUSTED: Out of memory.\n" in out
    assert "Pick: vgg_tiny.shuffled" in out


def test_the_command_and_what_it_writes(command, tmp_path, monkeypatch, weights):
    arguments = ["--dataset", "digits", "--weights_path", weights, "--images", "200", "--out", tmp_path / "out"]

    def extract(*args, before=probe_features.extract, **options):
        signal.raise_signal(signal.SIGTERM)
        return before(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(probe_features, "extract", extract)
        status, _, error = command("suggest", *arguments)
    assert status == 128 + signal.SIGTERM and error.endswith("Interrupted. Run the same command to resume.\n")
    assert not (tmp_path / "out").exists()

    status, out, error = command("suggest", *arguments)
    assert status == 0, error
    assert re.search("^digits: 200 of 1,438 training images$", out, re.M)
    assert re.search("^WARNING: vgg_tiny.lacking is skipped: .*fc6", out, re.M)
    rows = re.findall(
        r"^(..)  (?:shuffled.safetensors, read as )?vgg_tiny\.(\w+) +([\d.]+)% +([\d.]+)% to ([\d.]+)% ", out, re.M
    )
    assert [name for _, name, *_ in rows] == ["sound", "shuffled"]
    assert "\nshuffled.safetensors, read as vgg_tiny.shuffled: " in out and "\nvgg_tiny.sound: " in out
    sound, shuffled = (list(map(float, figures)) for _, _, *figures in rows)
    assert sound[1] < sound[0] < sound[2] and sound[0] > 80 > shuffled[0]
    # The best of four probes is said, and is the probe of the config.
    best = re.search(r"vgg_tiny\.sound .* (?:lbfgs|lda), (last|all)$", out, re.M)[1]
    assert rows[0][0] == ">*" and "Pick: vgg_tiny.sound" in out
    with Image.open(tmp_path / "out" / "suggest.png") as image:
        assert image.format == "PNG" and min(image.size) > 100

    text = (tmp_path / "out" / "suggested.py").read_text()
    assert f"jft train {tmp_path}/out/suggested.py" in text and f"{sound[0]:.2f} %" in text
    assert len([line for line in text.splitlines() if line.startswith("    config.")]) <= 15
    fields = ["--config.examples_per_class=1", "--config.evaluate_every=100"]
    config = read_config(tmp_path / "out" / "suggested.py", fields)
    assert (config.model, config.weights, config.dataset) == ("vgg_tiny", "sound", "digits")
    assert config.weights_path == str(weights / "sound.safetensors")
    arms = {name: arm_config(config, name, changes) for name, changes in config.arms}
    assert list(arms) == ["probe", "fine-tuned"] and arms["probe"].solver in ("lbfgs", "lda")
    boundary = checked_run(arms["probe"], tmp_path / "probe").phases[0].plan.boundary
    assert boundary == {"last": "fc7", "all": "joined"}[best]
    phases = checked_run(arms["fine-tuned"], tmp_path / "run").phases  # test_fine_tune.py trains such runs
    assert [phase.plan.boundary for phase in phases] == ["fc7", None]

    status, _, error = command("suggest", *arguments)
    assert status == 1 and "suggest.png exist already: give another --out, or --force." in error
    status, _, error = command("suggest", *arguments, "--force", "--models", "*.lacking")
    assert status == 1 and "none of the weights could be probed" in error
    assert (tmp_path / "out" / "suggested.py").read_text() == text


def test_nothing_at_hand_is_one_line(command, tmp_path):
    status, out, error = command("suggest", "--dataset", "digits", "--out", tmp_path / "out")
    assert (status, out) == (1, "") and "`jft weights fetch NAME` downloads one" in error
    assert not (tmp_path / "out").exists()


def test_odd_names_make_a_config_all_the_same(tmp_path):
    odd = dataclasses.replace(probed("vgg16", 9, 1.0), fields={"solver": "lda", "pool": "stages"})
    odd.config.update({"data_dir": 'a "b" \\ c', "skip_unreadable": True})
    path = tmp_path / 'odd "name" \\.py'
    path.write_text(config_text(odd, path, 2))
    config = read_config(path)
    assert config.data_dir == 'a "b" \\ c' and config.skip_unreadable
    assert dict(config.arms)["probe"] == {"solver": "lda", "pool": "stages"}
