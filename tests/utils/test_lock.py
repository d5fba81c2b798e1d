"""The lock on a run's folder."""

import fcntl
import subprocess
import sys

import pytest

from jft.config import default_config
from jft.training.loop import train
from jft.utils.lock import LOCK, claimed


def test_a_second_process_is_refused(tmp_path):
    workdir = tmp_path / "a" / "run"
    with claimed(workdir):
        (workdir / "config.json").write_text("{}")
        with (
            pytest.raises(ValueError, match=r"another process trains in .*run: wait for it, or give another workdir"),
            claimed(workdir),
        ):
            pass
    with claimed(workdir):  # which was let go of
        pass
    assert sorted(path.name for path in workdir.iterdir()) == [LOCK, "config.json"]


HOLD = """
import fcntl, sys, time
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


def test_a_process_that_is_killed_lets_go(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / LOCK)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(ValueError, match="another process trains"), claimed(tmp_path):
            pass
        holder.kill()
    with claimed(tmp_path):
        pass


def test_training_claims_its_folder(tmp_path):
    config = default_config()
    config.update({"dataset": "digits", "model": "vgg_tiny", "weights": "", "batch_size": 16, "steps": 1})
    with (
        claimed(tmp_path / "run"),
        pytest.raises(ValueError, match=r"another process trains in .*run: wait for it"),
    ):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_in_which_nothing_was_written_goes_again(tmp_path):
    with claimed(tmp_path / "a" / "b" / "run"):
        assert (tmp_path / "a" / "b" / "run").is_dir()
    assert not (tmp_path / "a").exists()
    (tmp_path / "mine").mkdir()
    with claimed(tmp_path / "mine"):
        pass
    assert (tmp_path / "mine").is_dir()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    workdir = tmp_path / "file" / "run"
    with pytest.raises(ValueError, match=r"/file is a file, not a folder: give another workdir\.$"), claimed(workdir):
        pass


def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch, caplog):
    def flock(descriptor, operation):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", flock)
    with claimed(tmp_path / "run"):
        pass
    assert "has no locks: nothing keeps a second process from training there" in caplog.text
