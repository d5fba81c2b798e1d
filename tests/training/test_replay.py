"""Replays of a run of two phases, the first on cached features."""

import json
import shutil

import jax
import pytest
from small_vgg import SMALL, config_of

from jft.models import MODELS
from jft.training.loop import train
from jft.training.replay import format_replay, replay
from jft.utils import checksum

pytestmark = [pytest.mark.xdist_group("replay"), pytest.mark.usefixtures("one_device")]
PHASES = (
    {"name": "top", "steps": 14, "freeze": "block2"},
    {"name": "all", "steps": 6, "freeze": "", "optimizer": "sgd", "learning_rate": 1e-3},
)


@pytest.fixture(scope="module")
def whole(one_device, tmp_path_factory):
    folder = tmp_path_factory.mktemp("replay")
    often = {"checkpoint_every": 4, "keep_every": 4, "log_every": 3, "eval_batch_size": 24}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS._rows, "small", SMALL)
        train(config_of(phases=PHASES, features_dir=str(folder / "features"), **often), folder / "run")
    return folder / "run"


@pytest.fixture
def done(whole, tmp_path, monkeypatch):
    """A copy of the run."""
    monkeypatch.setitem(MODELS._rows, "small", SMALL)
    return shutil.copytree(whole, tmp_path / "run")


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("step", "start", "lines"),
    [
        # On cached features, of a window that began before the checkpoint; test_rollback.py replays such steps, too.
        pytest.param(6, 4, [(6, "train")], marks=pytest.mark.slow),
        pytest.param(20, 16, [(18, "train"), (20, "train"), (20, "validation")], marks=pytest.mark.slow),
        (3, 0, [(3, "train")]),  # from initial values
        (15, 12, [(14, "train"), (14, "validation"), (15, "train")]),  # from one phase into the next
    ],
)
def test_the_same_again(done, step, start, lines):
    before = contents(done)
    found = replay(done, step)
    assert (found.start, found.exact, found.same) == (start, True, True)
    assert [(line.step, line.kind) for line in found.lines] == lines
    assert contents(done) == before


def test_on_another_number_of_devices(done, monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: jax.local_devices()[:2])
    found = replay(done, 18)
    assert (found.exact, found.same) == (False, True)
    assert "compared to 1e-05, on another number of devices" in format_replay(found, done)


def test_what_differs_is_said(done):
    path = done / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    wrong = next(line for line in lines if line["step"] == 18)
    was = wrong["loss"], wrong["parameters"]
    wrong |= {"loss": 0.5, "parameters": "00000000"}
    path.write_text("".join(json.dumps(checksum.added(line)) + "\n" for line in lines))
    found = replay(done, 20)
    assert not found.same
    assert found.lines[0].differences == {"loss": (0.5, was[0]), "parameters": ("00000000", was[1])}
    assert not found.lines[1].differences
    told = format_replay(found, done)
    assert f"step 18 train: loss was 0.5 and is {was[0]}, parameters was 00000000 and is {was[1]}" in told
    assert "step 20 train: the same" in told


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (21, r"--step 21 is not a step of the run: give one of 1 \.\. 20"),
        (5, "at step 5, and its checkpoint before is 4: give --step 6"),
    ],
)
def test_steps_that_cannot_be_replayed(done, step, message):
    with pytest.raises(ValueError, match=message):
        replay(done, step)


def test_what_is_no_run_is_said(tmp_path, command):
    status, _, error = command("replay", tmp_path, "--step", 3)
    assert status == 1 and error.startswith(f"error: {tmp_path} holds no checkpoints")
