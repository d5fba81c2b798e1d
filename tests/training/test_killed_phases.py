"""A run of three phases with BatchNorm, one of which reads cached features, killed once in each and gone on with."""

import json
import math
import re
import signal
import subprocess
import sys
from pathlib import Path

import hasty
import numpy as np
import orbax.checkpoint as ocp
import pytest
from small_info import info_of
from small_vgg import records, write_config

from jft.utils import tree

ROOT = Path(__file__).parents[2]

# One worker runs for all. Shorter: the killed runs of test_rollback.py and the resumed ones of test_loop.py.
pytestmark = [pytest.mark.xdist_group("phases"), pytest.mark.slow]

# Of 200 images the first phase reads 192, which does not pay for extracting them, and the next one 224.
PHASES = (
    {"name": "shift", "steps": 12, "freeze": "block1", "batch_norm": "statistics"},
    {"name": "top", "steps": 14, "freeze": "block2", "batch_norm": "frozen", "schedule": "cosine", "layer_decay": 0.5},
    {"name": "all", "steps": 10, "freeze": "", "optimizer": "adam", "schedule": "inverse_time", "rate_decay": 0.5},
)
RATE = 1e-2
# Logged steps at which the run is killed, and the last phase's end.
KILLS, END = (11, 25, 35), 36


def saved(folder):
    """Step -> 'params/...' and 'batch_stats/...', of every whole checkpoint."""
    found = {}
    for path in folder.iterdir():
        if path.name.isdigit():
            with ocp.StandardCheckpointer() as reader:
                found[int(path.name)] = tree.flatten(reader.restore(path / "variables"))
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folder of the runs 'killed' and 'whole', what the latter printed, and the checkpoints at each of the kills."""
    folder = tmp_path_factory.mktemp("phases")
    write_config(folder, learning_rate=RATE, phases=PHASES, checkpoint_every=3, log_every=1, ema=0.9)
    done = subprocess.run(
        [sys.executable, "tests/kills.py", str(folder), *map(str, KILLS)],
        cwd=ROOT,
        env=hasty.environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    kill = -signal.SIGKILL
    assert [int(line.split()[-1]) for line in done.stdout.splitlines()] == [0, kill, kill, kill, 0], done.stderr
    whole, _, *resumed = [(folder / f"{i}.txt").read_text() for i in range(5)]
    for told, step in zip(resumed, (9, 24, 33), strict=True):
        found = int(re.search(r"from step (\d+),", told).group(1))
        assert step - 3 <= found <= step  # the last checkpoint may not have been whole yet
    return folder, whole, [saved(folder / f"at_{last}") for last in KILLS]


def test_killed_in_every_phase_equals_never_killed(runs):
    folder, _, _ = runs
    digests = {}
    for name in ("killed", "whole"):
        meta = json.loads((folder / name / "checkpoints" / str(END) / "meta" / "metadata").read_text())
        digests[name] = meta["digests"], meta["history"]
    assert digests["killed"] == digests["whole"]
    for part in ("params", "batch_stats", "opt_state"):
        assert any(part in name for name in digests["whole"][0]), part
    lines = {name: records(folder / name) for name in digests}
    assert lines["killed"] == lines["whole"]
    assert [line["step"] for line in lines["whole"] if line["kind"] == "train"] == list(range(1, END + 1))


def table(told):
    """Rows of the table of phases: name, first and last step, boundary, number of learning leaves, BatchNorm's mode."""
    rows = re.findall(r"^(shift|top|all) +(\d+) to (\d+) +(\S+) +([\d,]+) +(\w+) ", told, re.M)
    assert [(name, norm) for name, *_, norm in rows] == [("shift", "statistics"), ("top", "frozen"), ("all", "trained")]
    return [
        (name, int(first), int(last), boundary, int(learning.replace(",", "")), norm)
        for name, first, last, boundary, learning, norm in rows
    ]


def test_exactly_what_the_table_promises_moves(runs):
    _, told, found = runs
    stages = ["-", "block1", "block2", "block3", "fc6", "fc7", "head"]
    for (_, first, last, boundary, learning, norm), checkpoints in zip(table(told), found, strict=True):
        one, two = sorted(checkpoints)[-2:]
        assert first <= one == two - 3 < last
        moving = set()
        for name in checkpoints[one]:
            kind, stage, layer = name.split("/")[:3]
            if stage in stages[stages.index(boundary) + 1 :]:
                keeps = {"trained": (), "statistics": ("params",), "frozen": ("params", "batch_stats")}[norm]
                moving |= set() if layer.startswith("bn") and kind in keeps else {name}
        before, after = checkpoints[one], checkpoints[two]
        assert {name for name in before if not np.array_equal(before[name], after[name])} == moving
        assert sum(before[name].size for name in moving if name.startswith("params/")) == learning


def test_the_log_says_what_the_table_said(runs):
    folder, told, _ = runs
    lines = {line["step"]: line for line in records(folder / "whole") if line["kind"] == "train"}
    for name, first, last, boundary, learning, norm in table(told):
        for step in range(first + 1, last + 1):
            said = [lines[step][key] for key in ("phase", "boundary", "learning", "batch_norm")]
            assert said == [name, boundary.replace("-", ""), learning, norm]
    assert "Features of shift: not cached: the phase reads 192 images" in told
    assert "Features of top: cached after block2" in told
    assert "Features of all: not cached: no stage is frozen" in told


def test_the_best_checkpoint_is_named_with_its_phase(runs):
    folder, told, _ = runs
    step, name, number = re.search(r"Done: best .* at step (\d+), in phase (\w+) \((\d) of 3\)", told).groups()
    lines = records(folder / "whole")
    # A phase goes on to its last step, and the next begins after it.
    assert (
        name
        == PHASES[int(number) - 1]["name"]
        == next(line["phase"] for line in lines if line["kind"] == "train" and line["step"] == int(step))
    )
    said = json.loads((folder / "whole" / "checkpoints" / str(END) / "meta" / "metadata").read_text())
    info = info_of(phases=tuple(map(tuple, said["phases"])))
    assert [info.phase_of(step) for step in (1, 12, 13, 26, 27, END)] == [
        *["shift (1 of 3)"] * 2,
        *["top (2 of 3)"] * 2,
        *["all (3 of 3)"] * 2,
    ]


def test_the_rates_are_the_schedules(runs):
    folder, told, _ = runs
    found = [line["learning_rate"] for line in records(folder / "whole") if line["kind"] == "train"]
    cosine = [RATE * (1 + math.cos(math.pi * step / 14)) / 2 for step in range(14)]
    assert found == pytest.approx([RATE] * 12 + cosine + [RATE / (1 + 0.5 * step) for step in range(10)], rel=1e-5)
    rates = re.findall(r" (\S+) to (\S+) \(\w+\) +[\d.]+$", told, re.M)
    ends = [(0, 11), (12, 25), (26, 35)]
    assert rates == [tuple(f"{found[step]:.3g}" for step in span) for span in ends]
