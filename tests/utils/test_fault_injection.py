"""A sample of scripts/fault_injection.py; that it notices what it is there for; and the faults that it found."""

import importlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from jft.utils import checksum
from jft.utils.logger import Logs, read_metrics

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPTS)
        return importlib.import_module("fault_injection")


@pytest.mark.parametrize("name", ["shards", "logs"])
def test_a_sample(script, tmp_path, name):
    artifact, good, rng = script.ARTIFACTS[name], tmp_path / "good", random.Random(0)
    good.mkdir()
    for number in range(script.THINGS):
        artifact.write(good, number)
    for how in script.HOW:
        for i in range(10):
            verdict, told = script.damage(artifact, good, tmp_path / f"{how}{i}", how, rng)
            assert verdict in ("found", "harmless", "cut"), told


@pytest.mark.slow
def test_the_script(tmp_path):
    """Kills too, for which it is a process that has not begun with JAX."""
    done = subprocess.run(
        [sys.executable, SCRIPTS / "fault_injection.py", "--kills", "5", "--damages", "15"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| shards | killed | 2 |" in done.stdout and "0 failures" in done.stdout


def test_what_is_missed_is_noticed(script, tmp_path, monkeypatch):
    """Without its checksum a log is believed with a flipped digit."""
    monkeypatch.setattr(checksum, "damage", lambda value: None)
    artifact = script.ARTIFACTS["logs"]
    for number in range(script.THINGS):
        artifact.write(tmp_path, number)
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text().replace('"learning": 85002', '"learning": 85003', 1))
    assert script.judged(artifact, tmp_path) == ("failed", "[0] are not what was written")


def test_a_line_whose_checksum_lost_its_name_is_refused(log):
    lines = log.read_text().splitlines(keepends=True)
    log.write_text(lines[0] + lines[1].replace("crc32", "crc33") + lines[2])
    with pytest.raises(ValueError, match=r"metrics.jsonl, line 2: it has no crc32, as the others have"):
        read_metrics(log.parent)


@pytest.fixture
def log(tmp_path):
    logs = Logs(tmp_path, 0)
    for step in (1, 2, 3):
        logs.write(step, "validation", {"loss": 1 / step})
    logs.close()
    return tmp_path / "metrics.jsonl"


def test_a_changed_line_of_the_log_is_refused_and_named(log):
    """A flipped bit of a digit is JSON all the same: silently another loss, once."""
    log.write_text(log.read_text().replace("0.5", "0.7"))
    with pytest.raises(ValueError, match=r"metrics.jsonl, line 2.* was changed or damaged"):
        read_metrics(log.parent)
    with pytest.raises(ValueError, match="line 2"):  # a run that goes on loses nothing in silence
        Logs(log.parent, 3)
    lines = log.read_text().splitlines(keepends=True)
    log.write_text(lines[0] + lines[2])  # the remedy
    assert [line["step"] for line in read_metrics(log.parent)] == [1, 3]


def test_a_line_that_is_no_json_is_refused_unless_it_is_a_torn_last_one(log):
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[:2]) + lines[2][:30])
    assert [line["step"] for line in read_metrics(log.parent)] == [1, 2]
    log.write_text(lines[0] + lines[1][:20] + "\n" + lines[2])
    with pytest.raises(ValueError, match=r"metrics.jsonl, line 2"):
        read_metrics(log.parent)
    log.write_text(
        "".join(json.dumps(checksum.removed(json.loads(line))) + "\n" for line in lines)
    )  # an earlier version's
    assert [line["step"] for line in read_metrics(log.parent)] == [1, 2, 3]


def test_a_checksum():
    value = {"b": [1.5, None, "é", float("nan")], "a": {"nested": (1, 2)}}
    sealed = json.loads(json.dumps(checksum.added(value)))
    assert checksum.damage(sealed) is None and checksum.removed(sealed)["a"] == {"nested": [1, 2]}
    assert checksum.added(sealed)[checksum.KEY] == sealed[checksum.KEY]
    assert checksum.damage(value) is None and checksum.damage([sealed]) is None  # files of earlier versions have none
    sealed["a"]["nested"][0] = 2
    assert "was changed or damaged" in checksum.damage(sealed)
