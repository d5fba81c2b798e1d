"""A run of three phases, two of which read cached features, killed once in each and gone on with."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
import pytest

from jft import tree
from jft.config import default_config

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.xdist_group("phases")  # which one worker runs for all

PHASES = (
    {"name": "head", "steps": 12, "freeze": "fc7", "learning_rate": 1e-2},
    {"name": "top", "steps": 12, "freeze": "block2", "learning_rate": 2e-3, "schedule": "cosine", "layer_decay": 0.5},
    {"name": "all", "steps": 12, "freeze": "", "learning_rate": 1e-4, "optimizer": "sgd"},
)

# scripts/train.py as it is, in a process of its own for each start; what they import is imported once, before they are
# forked. One is killed as it logs a step, so neither in time by chance nor too late, and its checkpoints copied.
STARTS = """
import os, runpy, shutil, signal, sys
from jft import runtime
runtime.configure()
import jft.arms, jft.caching
from jft.data import lazy_tf
from jft.logs import Logs
lazy_tf.import_tensorflow()

def start(last):
    write = Logs.write

    def killing(self, step, kind, values):
        write(self, step, kind, values)
        if kind == "train" and step == last:
            os.kill(os.getpid(), signal.SIGKILL)

    Logs.write = killing
    runpy.run_path("scripts/train.py", run_name="__main__")

folder, config = sys.argv[1:]
for name, last in (("whole", 0), ("killed", 11), ("killed", 23), ("killed", 35), ("killed", 0)):
    sys.argv = ["train.py", "--config", config, "--workdir", f"{folder}/{name}"]
    sys.argv.append(f"--config.features_dir={folder}/features-{name}")
    child = os.fork()
    if not child:
        start(last)
        os._exit(1)  # the script exits by itself
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(f"== {name} {last}: {status}", flush=True)
    if last:
        shutil.copytree(f"{folder}/{name}/checkpoints", f"{folder}/at_{last}")
"""


def write_config(folder):
    config = default_config()
    config.update({"dataset": "digits", "classes": ("5", "6", "7", "8", "9"), "examples_per_class": 10})
    config.update({"model": "vgg_tiny", "weights": "digits04", "image_size": 32, "flip": False, "batch_size": 16})
    config.update({"phases": PHASES, "evaluate_every": 1000.0, "checkpoint_every": 3, "log_every": 1, "ema": 0.9})
    path = folder / "config.py"
    path.write_text(
        "from jft.config import default_config\n\n\ndef get_config():\n    config = default_config()\n"
        f"    config.update({config.to_dict()!r})\n    return config\n"
    )
    return path


def saved(folder):
    """Step -> parameters, of every whole checkpoint."""
    found = {}
    for path in folder.iterdir():
        if path.name.isdigit():
            with ocp.StandardCheckpointer() as reader:
                found[int(path.name)] = tree.flatten(reader.restore(path / "variables")["params"])
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folder of the runs 'killed' and 'whole', what the latter printed, and the checkpoints at each of the kills."""
    folder = tmp_path_factory.mktemp("phases")
    done = subprocess.run(
        [sys.executable, "-c", STARTS, str(folder), str(write_config(folder))],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    kill = -signal.SIGKILL
    statuses = re.findall(r"^== (\w+) (\d+): (-?\d+)$", done.stdout, re.M)
    assert [int(status) for _, _, status in statuses] == [0, kill, kill, kill, 0], done.stderr
    whole, _, *resumed = re.split(r"^==.*\n", done.stdout, flags=re.M)
    for told, step in zip(resumed, (9, 21, 33), strict=False):
        found = int(re.search(r"from step (\d+),", told).group(1))
        assert step - 3 <= found <= step  # the last checkpoint may not have been whole yet
    return folder, whole, [saved(folder / f"at_{last}") for last in (11, 23, 35)]


def records(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_killed_in_every_phase_equals_never_killed(runs):
    folder, _, _ = runs
    digests = {}
    for name in ("killed", "whole"):
        meta = json.loads((folder / name / "checkpoints" / "36" / "meta" / "metadata").read_text())
        digests[name] = meta["digests"], meta["history"]
    assert digests["killed"] == digests["whole"]
    assert any("opt_state" in name for name in digests["whole"][0])
    measured = ("images_per_second", "waiting", "seconds")
    lines = {
        name: [
            {key: value for key, value in line.items() if key not in measured}
            for line in records(folder / name)
            if line["kind"] in ("train", "validation")
        ]
        for name in digests
    }
    assert lines["killed"] == lines["whole"]
    assert [line["step"] for line in lines["whole"] if line["kind"] == "train"] == list(range(1, 37))


def test_frozen_leaves_do_not_move_within_a_phase(runs):
    _, _, (head, top, everything) = runs
    for checkpoints, learning in ((head, "head"), (top, "block3 fc6 fc7 head"), (everything, "")):
        one, two = sorted(checkpoints)[-2:]
        assert two - one == 3
        for name, leaf in checkpoints[one].items():
            learns = checkpoints is everything or name.split("/")[0] in learning.split()
            assert np.array_equal(leaf, checkpoints[two][name]) != learns, name


def test_the_log_says_what_the_table_said(runs):
    folder, told, _ = runs
    lines = {line["step"]: line for line in records(folder / "whole") if line["kind"] == "train"}
    rows = re.findall(
        r"^(head|top|all) +(\d+) to (\d+) +(\S+) +([\d,]+) +(\w+) +\w+ +(\S+) to (\S+) \((\w+)\) +([\d.]+)$", told, re.M
    )
    assert [row[0] for row in rows] == ["head", "top", "all"]
    for name, first, last, boundary, learning, norm, rate, final, _, _ in rows:
        for step in range(int(first) + 1, int(last) + 1):
            line = lines[step]
            assert line["phase"] == name and line["boundary"] == boundary.replace("-", "")
            assert line["learning"] == int(learning.replace(",", "")) and line["batch_norm"] == norm == "none"
        assert [f"{lines[step]['learning_rate']:.3g}" for step in (int(first) + 1, int(last))] == [rate, final]
    assert "Features of head: cached after fc7" in told and "Features of top: cached after block2" in told
    assert "Features of all: computed at each step: no stage is frozen" in told
