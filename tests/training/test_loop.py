"""The whole loop on real handwritten digits: training, resuming, refusing, evaluating."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import hasty
import jax
import numpy as np
import pytest
from on_demand import on_demand
from small_digits import records, write_config

from jft.config import default_config
from jft.data import datasets
from jft.evaluation.evaluate import evaluate
from jft.evaluation.restore import restore
from jft.training.loop import train
from jft.training.progress import NonFiniteLossError
from jft.training.run import create_run
from jft.utils import tree
from jft.utils.checkpoint import Checkpoints, CheckpointWriteError
from jft.utils.fingerprint import fingerprints
from jft.utils.mesh import make_parallel

ROOT = Path(__file__).parents[2]
WHOLE = {"crop_padding": 0.1, "evaluate_every": 100.0, "checkpoint_every": 5}

pytestmark = pytest.mark.usefixtures("one_device")  # a test of several takes them all back
of_whole = pytest.mark.xdist_group("train")  # which one worker trains for all


def digits(**changes):
    config = default_config()
    config.update(
        {
            "dataset": "digits",
            "model": "vgg_tiny",
            "weights": "",
            "image_size": 32,
            "flip": False,
            "batch_size": 32,
            "steps": 12,
            "evaluate_every": 0.1,
            "log_every": 3,
            "learning_rate": 2e-3,
            **changes,
        }
    )
    return config


def params(workdir):
    return tree.flatten(restore(workdir, make_parallel("jit")).variables["params"])


@pytest.fixture(scope="module")
def whole(one_device, tmp_path_factory):
    """A run of 12 steps to its end."""
    folder = tmp_path_factory.mktemp("train") / "whole"
    train(digits(**WHOLE), folder)
    return folder


def test_train_then_evaluate(tmp_path, capsys):
    result = train(digits(steps=90, evaluate_every=1.0), tmp_path / "run")
    assert result["finished"] and result["step"] == 90
    train_lines, validation = records(tmp_path / "run", "train"), records(tmp_path / "run", "validation")
    assert [line["step"] for line in train_lines] == list(range(3, 91, 3))
    # 1,438 images are not test; a tenth of them validates; an epoch is 40.4 steps.
    assert [(line["step"], line["count"]) for line in validation] == [(41, 144), (81, 144), (90, 144)]
    assert validation[-1]["accuracy"] > 0.7
    out = capsys.readouterr().out
    assert "1,294 training images, 144 validation images, 10 classes" in out
    assert "93,994 trainable" in out
    tested = evaluate(tmp_path / "run")
    assert tested == json.loads((tmp_path / "run" / "eval.json").read_text())
    assert tested["count"] == 359 == sum(values["count"] for values in tested["per_class"].values())
    assert tested["accuracy"] > 0.7
    assert list((tmp_path / "run" / "tensorboard").glob("events.out.tfevents.*"))


def test_one_compilation_for_training_and_one_for_evaluation(tmp_path, compilations):
    """144 images by 64 leave a ragged batch of 16; three evaluations and twelve steps compile two programs."""
    train(digits(steps=12, evaluate_every=0.1), tmp_path / "run")
    assert len(records(tmp_path / "run", "validation")) == 3
    assert compilations == ["train_step", "eval_step"]
    # A compiled program refuses other shapes, so nothing compiles behind its back.


@of_whole
def test_same_config_and_seed_give_the_same_bits(whole, tmp_path):
    train(digits(**WHOLE), tmp_path / "two")
    train(digits(**WHOLE, seed=1), tmp_path / "other")
    one, two, other = (fingerprints(params(folder)) for folder in (whole, tmp_path / "two", tmp_path / "other"))
    assert one == two
    assert one != other


@on_demand("test_parallel has the steps without the loop")
def test_devices_and_pmap_do_not_change_the_result(tmp_path, monkeypatch):
    """Frozen up to fc7, so that dropout, which is drawn per device under pmap, plays no part."""
    monkeypatch.setattr(jax, "devices", jax.local_devices)
    config = digits(freeze="fc7", steps=10, optimizer="sgd", parallel="pmap")
    train(config, tmp_path / "eight")
    monkeypatch.setattr(jax, "devices", lambda: jax.local_devices()[:1])
    train(digits(freeze="fc7", steps=10, optimizer="sgd"), tmp_path / "one")
    eight, one = params(tmp_path / "eight"), params(tmp_path / "one")
    for name in one:
        np.testing.assert_allclose(eight[name], one[name], rtol=1e-5, atol=1e-6, err_msg=name)
    eight, one = records(tmp_path / "eight", "validation")[-1], records(tmp_path / "one", "validation")[-1]
    assert (eight["count"], eight["accuracy"]) == (one["count"], one["accuracy"])


def command(workdir, *fields):
    config = workdir.parent / f"{workdir.name}.py"
    write_config(config, digits(steps=110, checkpoint_every=7, evaluate_every=2.0, crop_padding=0.1))
    script = [sys.executable, "scripts/train.py", "--config", str(config), "--workdir", str(workdir), "--no_report"]
    return [*script, *(f"--config.{field}" for field in fields)]


def start(workdir, *fields):
    return subprocess.Popen(
        command(workdir, *fields), cwd=ROOT, env=hasty.environment(), stdout=-1, stderr=-2, text=True, bufsize=1
    )


def wait_for_step(process, workdir, step):
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        path = workdir / "metrics.jsonl"
        if path.exists() and any(json.loads(line)["step"] >= step for line in path.read_text().split("\n")[:-1]):
            return
        time.sleep(0.01)
    raise AssertionError(f"the run never came to step {step}: {process.communicate()[0]}")


@of_whole
def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(whole, tmp_path, caplog):
    damaged = shutil.copytree(whole, tmp_path / "damaged")
    newest = damaged / "checkpoints" / "12"
    files = (path for path in (newest / "optimizer").rglob("*") if path.is_file())
    array = max(files, key=lambda path: path.stat().st_size)
    array.write_bytes(array.read_bytes()[: array.stat().st_size // 2])
    assert train(digits(**WHOLE), damaged)["step"] == 12
    assert "Falling back to checkpoint 10" in caplog.text
    assert fingerprints(params(damaged)) == fingerprints(params(whole))


@on_demand("test_distributed signals a pair")
def test_a_signal_saves_and_says_how_to_go_on(tmp_path):
    number = signal.SIGTERM  # SIGINT goes the same way, see below
    process = start(tmp_path / "run", "steps=100000")
    wait_for_step(process, tmp_path / "run", 9)
    process.send_signal(number)
    out, _ = process.communicate(timeout=180)
    assert process.returncode == 128 + number, out
    assert f"{number.name}: saved at step" in out
    assert "Run the same command again to resume" in out
    saved = Checkpoints(tmp_path / "run", read_only=True)
    step = int(out.split("saved at step ")[1].split(" of")[0].replace(",", ""))
    assert (tmp_path / "run" / "checkpoints" / str(step)).is_dir()
    saved.close()


@of_whole
def test_finished_runs_stay_finished(whole, tmp_path):
    again = train(digits(**WHOLE), shutil.copytree(whole, tmp_path / "run"))
    assert again["finished"] and again["step"] == 12
    assert fingerprints(params(tmp_path / "run")) == fingerprints(params(whole))


@of_whole
def test_another_feed_resumes_to_the_same_bits(whole, tmp_path, capsys):
    """The images of the first ten steps live on the device, tf.data reads those of the last two."""
    again = shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(again / "checkpoints" / "12")
    assert train(digits(**WHOLE, input="tf.data"), again)["finished"]
    assert "Input: tf.data, as asked for." in capsys.readouterr().out
    assert fingerprints(params(again)) == fingerprints(params(whole))


@of_whole
def test_another_config_is_refused_with_the_difference(whole, tmp_path):
    with pytest.raises(ValueError, match=r"another config \(there -> here\): learning_rate: 0.002 -> 0.5"):
        create_run(digits(**WHOLE, learning_rate=0.5), whole)
    create_run(digits(**WHOLE, log_every=1), whole)  # how often one looks may change
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match="is not a run"):
        create_run(digits(), tmp_path / "mine")


def test_non_finite_loss_names_the_step_and_saves_nothing_after_it(tmp_path):
    config = digits(learning_rate=1e30, optimizer="sgd", evaluate_every=100.0, checkpoint_every=1, log_every=1)
    with pytest.raises(NonFiniteLossError, match=r"the loss of step \d+ is (nan|inf)"):
        train(config, tmp_path / "run")
    for leaf in params(tmp_path / "run").values():
        assert np.isfinite(leaf).all()


def test_early_stopping_is_resumed_as_stopped(tmp_path):
    # With a learning rate of almost nothing the validation accuracy never gets better.
    config = digits(learning_rate=1e-12, steps=400, early_stopping=2, evaluate_every=0.2)
    result = train(config, tmp_path / "run")
    assert result["finished"] and len(result["history"]) == 3 and result["step"] < 400
    assert train(config, tmp_path / "run")["step"] == result["step"]


def write_folder(folder, names, size=8):
    from PIL import Image

    rng = np.random.default_rng(0)
    for name in names:
        (folder / name).mkdir(parents=True)
        for i in range(5):
            Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(folder / name / f"{i}.png")


def test_a_broken_image_is_named_and_leaves_nothing(tmp_path):
    write_folder(tmp_path / "data", ["cat", "dog"])
    (tmp_path / "data" / "cat" / "4.png").write_bytes(b"no image")
    (tmp_path / "data" / "cat" / "3.png").write_bytes((tmp_path / "data" / "dog" / "3.png").read_bytes()[:100])
    config = digits(dataset="folder", data_dir=str(tmp_path / "data"), batch_size=8, validation=0.25, steps=2)
    with pytest.raises(ValueError, match=r"cat/[34]\.png"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_resuming_on_other_data_is_refused(tmp_path):
    write_folder(tmp_path / "data", ["cat", "dog"])
    config = digits(dataset="folder", data_dir=str(tmp_path / "data"), batch_size=8, validation=0.25, steps=2)
    train(config, tmp_path / "run")
    write_folder(tmp_path / "other", ["ant", "cat"])
    config.data_dir = str(tmp_path / "other")
    with pytest.raises(ValueError, match=r"class_names was \['cat', 'dog'\] and is \['ant', 'cat'\]"):
        train(config, tmp_path / "run")
    # Nor where the head has another shape, which is no damage.
    write_folder(tmp_path / "more", ["ant", "cat", "dog"])
    config.data_dir = str(tmp_path / "more")
    with pytest.raises(ValueError, match=r"class_names was \['cat', 'dog'\] and is \['ant', 'cat', 'dog'\]"):
        train(config, tmp_path / "run")


def test_images_in_memory_without_validation(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (80, 8, 8, 3), dtype=np.uint8)
    source = datasets.from_arrays(images, np.arange(80) % 2, ("a", "b"))
    config = digits(validation=0.0, steps=3, resize_on="host", dtype="bfloat16", label_smoothing=0.1, accumulate=2)
    result = train(config, tmp_path / "run", source)
    assert result["finished"] and result["history"] == []
    assert evaluate(tmp_path / "run", dataset=source, split="all")["count"] == 80


def test_evaluate_on_other_data_of_the_same_classes(tmp_path):
    write_folder(tmp_path / "data", ["cat", "dog"])
    config = digits(dataset="folder", data_dir=str(tmp_path / "data"), batch_size=8, validation=0.25, steps=2)
    train(config, tmp_path / "run")
    for path in (tmp_path / "data").rglob("*.png"):
        path.unlink()  # the training data are gone
    write_folder(tmp_path / "other", ["cat", "dog"])
    assert evaluate(tmp_path / "run", split="all", data_dir=str(tmp_path / "other"))["count"] == 10
    write_folder(tmp_path / "birds", ["cat", "eagle"])
    with pytest.raises(ValueError, match=r"checkpoint has \['cat', 'dog'\], .* has \['cat', 'eagle'\]"):
        evaluate(tmp_path / "run", split="all", data_dir=str(tmp_path / "birds"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "vgg_tinny"}, "unknown model 'vgg_tinny', did you mean 'vgg_tiny'"),
        ({"weights": "imagenet21k"}, "imagenet21k"),
        ({"freeze": "fc9"}, "did you mean 'fc[67]'"),
        ({"dataset": "digitz"}, "did you mean 'digits'"),
        ({"batch_size": 30}, "batch_size = 30 does not divide over 8 devices x 1: use 24 or 32"),
        ({"classes": ("1", "eleven")}, "eleven"),
        ({"examples_per_class": 5000}, "5,?000"),
    ],
)
def test_wrong_configs_make_no_folder(tmp_path, changes, message, monkeypatch):
    monkeypatch.setattr(jax, "devices", jax.local_devices)
    with pytest.raises(ValueError, match=message):
        train(digits(**changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@of_whole
def test_a_full_disk_is_one_error_and_keeps_the_last_checkpoint(whole, tmp_path, monkeypatch):
    config = digits(**WHOLE)
    usage, calls = shutil.disk_usage, []

    def disk_usage(path):  # room for the first checkpoint alone
        calls.append(path)
        return usage(path)._replace(free=10**9 if len(calls) == 1 else 1000)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    with pytest.raises(CheckpointWriteError, match=r"takes [\d,]+ bytes and .* has 1,000 left: .* run the same"):
        train(config, tmp_path / "run")
    monkeypatch.setattr(shutil, "disk_usage", usage)
    assert train(config, tmp_path / "run")["finished"]
    assert fingerprints(params(tmp_path / "run")) == fingerprints(params(whole))


@on_demand("a full disk fails alike")
def test_files_that_cannot_grow_are_one_error(tmp_path):
    """A quota, which no look at the free space foresees."""
    limit = 200_000
    process = subprocess.run(
        ["bash", "-c", f'ulimit -f {limit // 1024}; exec "$@"', "-", *command(tmp_path / "run")],
        cwd=ROOT,
        env=hasty.environment(),
        capture_output=True,
        text=True,
    )
    assert process.returncode == 1
    (line,) = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
    assert "File too large" in line or "os_error_code='27'" in line  # EFBIG, as TensorStore tells it


def test_a_folder_that_cannot_be_made_is_one_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"/file is a file, not a folder: give another workdir\.$"):
        train(digits(), tmp_path / "file" / "run")


@of_whole
def test_a_read_only_run_is_one_error_and_can_be_evaluated(whole, monkeypatch, caplog):
    before = sorted(whole.rglob("*"))
    monkeypatch.setattr("jft.utils.lock._lock", read_only)  # root may write where others may not
    with pytest.raises(ValueError, match=r"whole cannot be written \(.*Read-only file system.*: give another workdir"):
        train(digits(**WHOLE), whole)
    monkeypatch.setattr("jft.evaluation.evaluate.write_json", read_only)
    assert evaluate(whole, split="validation")["step"] == 12
    assert "eval-validation.json was not written" in caplog.text
    assert sorted(whole.rglob("*")) == before


def read_only(path, *value):
    raise OSError(30, "Read-only file system", str(path))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_first_step_writes_nothing(tmp_path, monkeypatch, capsys, number):
    import jft.training.loop

    describe = jft.training.loop.describe
    monkeypatch.setattr(jft.training.loop, "describe", lambda *args: signal.raise_signal(number) or describe(*args))
    result = train(digits(), tmp_path / "run")
    assert (result["step"], result["finished"], result["signal"]) == (0, False, number)
    assert f"{number.name}: stopped before the first step. Run the same command again." in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_one_class_is_refused(tmp_path):
    write_folder(tmp_path / "data", ["flower_photos"])
    config = digits(dataset="folder", data_dir=str(tmp_path / "data"), validation=0.25)
    with pytest.raises(ValueError, match="has only one class, 'flower_photos', and training needs"):
        train(config, tmp_path / "run")
