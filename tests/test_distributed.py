"""Two processes of four devices each, joined over the loopback: the figures of one; stopped, killed, gone on with."""

import functools
import json
import os
import re
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from parallel_case import run
from test_train_phases import ROOT

from jft.config import default_config
from jft.evaluate import evaluate
from jft.models import MODELS
from jft.models.vgg import VGG

pytestmark = pytest.mark.xdist_group("pairs")  # which one worker starts for all

MESHES = (("jit", {"data": -1}), ("jit", {"data": 2, "fsdp": 4}), ("pmap", {"data": -1}))
TERMINATED, KILLED, END = 6, 14, 24
SMALL = functools.partial(VGG, convs=(1, 1, 1), widths=(8, 8, 8), hidden=16, grid=2, default_size=16, batch_norm=True)

# Forked from one process that has imported everything, two at a time. The script itself runs in all but the first pair.
PAIRS = """
import json, os, runpy, signal, socket, sys, time
from jft import runtime
runtime.configure()
sys.path.insert(0, "tests")
import jft.arms, jft.caching, jft.distributed, parallel_case
from jft.data import lazy_tf
from jft.logs import Logs
from jft.models import MODELS
from jft.window import Window
lazy_tf.import_tensorflow()
from test_distributed import SMALL
MODELS["small"] = SMALL
folder, config, meshes, scenarios = sys.argv[1], sys.argv[2], *map(json.loads, sys.argv[3:])

def figures(number, port):
    jft.distributed.join(jft.distributed.Cluster(f"127.0.0.1:{port}", 2, number, one_machine=True))
    found = [parallel_case.run(mode, mesh) for mode, mesh in meshes]
    with open(f"{folder}/figures-{number}.json", "w") as file:
        json.dump(found, file)

def script(name, number, port, sent, at):
    add = Window.add
    def striking(self, step, sums):
        add(self, step, sums)
        if number == 1 and step == at:
            os.kill(os.getpid(), sent)
    Window.add = striking
    sys.argv = ["train.py", "--config", config, "--workdir", f"{folder}/{name}", "--one_machine"]
    sys.argv += [f"--config.features_dir={folder}/features-{name}", f"--coordinator=127.0.0.1:{port}"]
    sys.argv += ["--num_processes=2", f"--process_id={number}"]
    runpy.run_path("scripts/train.py", run_name="__main__")

for i, (name, sent, at) in enumerate([("figures", 0, 0), *scenarios]):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for number in range(2):
        child = os.fork()
        if not child:
            out = os.open(f"{folder}/{i}-{number}.txt", os.O_WRONLY | os.O_CREAT)
            os.dup2(out, 1)
            os.dup2(out, 2)
            try:
                figures(number, port) if name == "figures" else script(name, number, port, sent, at)
            except SystemExit as end:
                sys.stdout.flush()
                os._exit(end.code or 0)
            os._exit(0)
        children.append(child)
    start = time.monotonic()
    status = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children[::-1]][::-1]
    print(f"== {json.dumps([name, status, time.monotonic() - start])}", flush=True)
"""


def write_config(folder):
    config = default_config()
    config.update({"dataset": "digits", "classes": ("5", "6", "7", "8", "9"), "examples_per_class": 40})
    config.update({"model": "small", "weights": "", "flip": False, "batch_size": 16, "learning_rate": 1e-2})
    config.update({"evaluate_every": 1000.0, "checkpoint_every": 4, "log_every": 2, "eval_batch_size": 24})
    config.update({"optimizer": "sgd", "heartbeat_timeout": 10, "cache_features": "auto"})
    config.phases = (
        {"name": "top", "steps": 14, "freeze": "block2"},  # 224 pictures read of 200: extracted first
        {"name": "all", "steps": END - 14, "freeze": "", "learning_rate": 1e-3},
    )
    path = folder / "config.py"
    path.write_text(
        "from jft.config import default_config\n\n\ndef get_config():\n    config = default_config()\n"
        f"    config.update({config.to_dict()!r})\n    return config\n"
    )
    return path


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Folder of what the pairs wrote, and [name, exit statuses, seconds] of each."""
    folder = tmp_path_factory.mktemp("pairs")
    scenarios = [
        ("whole", 0, 0),
        ("broken", signal.SIGTERM, TERMINATED),
        ("broken", signal.SIGKILL, KILLED),
        ("broken", 0, 0),
    ]
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            PAIRS,
            str(folder),
            str(write_config(folder)),
            json.dumps(MESHES),
            json.dumps(scenarios),
        ],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=400,
    )
    found = [json.loads(line) for line in re.findall(r"^== (.*)$", done.stdout, re.M)]
    assert len(found) == 5, done.stderr
    return folder, found


def told(folder, pair, process):
    return (folder / f"{pair}-{process}.txt").read_text()


def test_two_processes_have_the_figures_of_one(pairs):
    folder, found = pairs
    assert found[0][1] == [0, 0], told(folder, 0, 0) + told(folder, 0, 1)
    alone = run("jit", {"data": 1}, jax.devices()[:1])
    first, second = (json.loads((folder / f"figures-{process}.json").read_text()) for process in range(2))
    for (mode, mesh), ours, theirs in zip(MESHES, first, second, strict=True):
        np.testing.assert_allclose(ours["losses"], alone["losses"], rtol=1e-5, err_msg=f"{mode} {mesh}")
        assert (ours["count"], ours["correct"]) == (100, alone["correct"])
        np.testing.assert_allclose(ours["probabilities"], alone["probabilities"], rtol=1e-3, atol=1e-5)
        assert {**ours, "bytes": 0} == {**theirs, "bytes": 0}
        assert (ours["bytes"] < ours["whole_bytes"] / 2) == ("fsdp" in mesh)


def records(workdir):
    measured = ("images_per_second", "waiting", "seconds")
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{key: line[key] for key in line if key not in measured} for line in lines if line["kind"] != "features"]


def test_stopped_killed_and_gone_on_with(pairs):
    folder, found = pairs
    outputs = [[told(folder, pair, process) for process in range(2)] for pair in range(5)]
    (_, whole, _), (_, stopped, _), (_, killed, seconds), (_, resumed, _) = found[1:]
    assert whole == [0, 0], outputs[1]
    # A signal to one of them is saved by both, at one step, with a status that says 'start me again'.
    assert stopped == [128 + signal.SIGTERM] * 2, outputs[2]
    step = int(re.search(r"SIGTERM: saved at step (\d+) of 24", outputs[2][0]).group(1))
    assert TERMINATED <= step < KILLED
    # One that dies takes the other with it, in time, saying so.
    assert killed[1] == -signal.SIGKILL and killed[0] not in (0, 143), outputs[3]
    assert seconds < 60
    assert re.search("another task died|process 0 of 2 failed", outputs[3][0]), outputs[3][0]
    assert resumed == [0, 0], outputs[4]
    assert records(folder / "broken") == records(folder / "whole")
    assert records(folder / "whole")[-1]["step"] == END
    # Only the first writes and speaks.
    assert "Done" in outputs[1][0] and "Done" not in outputs[1][1]
    assert [line["step"] for line in records(folder / "whole") if line["kind"] == "train"] == list(range(2, END + 1, 2))


def test_what_two_processes_saved_one_evaluates(pairs, monkeypatch):
    folder, _ = pairs
    monkeypatch.setitem(MODELS, "small", SMALL)
    last = records(folder / "whole")[-1]
    found = evaluate(folder / "whole", split="validation")
    assert last["kind"] == "validation" and found["count"] == last["count"] == 72
    assert found["accuracy"] == last["accuracy"]
    assert found["loss"] == pytest.approx(last["loss"], rel=1e-5)
