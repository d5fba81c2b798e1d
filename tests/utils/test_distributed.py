"""Two processes of four devices each, joined over the loopback: the figures of one; stopped, killed, gone on with."""

import importlib.metadata
import json
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import hasty
import jax
import numpy as np
import pytest
from parallel_case import alone
from small_vgg import SMALL, records, write_config

from jft.evaluation.evaluate import evaluate
from jft.models import MODELS
from jft.utils import cluster, distributed, doctor
from jft.utils.cluster import Cluster

ROOT = Path(__file__).parents[2]
MESHES = (("jit", {"data": -1}), ("jit", {"data": 2, "fsdp": 4}))
TERMINATED, KILLED, END = 3, 9, 12
of_pairs = pytest.mark.xdist_group("pairs")  # which one worker starts for all; test_parallel.py compares with the same


def start(folder, meshes, scenarios):
    """[name, exit statuses, time of its end] of each pair."""
    done = subprocess.run(
        [sys.executable, "tests/pairs.py", str(folder), json.dumps(meshes), json.dumps(scenarios)],
        cwd=ROOT,
        env=hasty.environment(devices=4),
        capture_output=True,
        text=True,
        timeout=400,
    )
    found = [json.loads(line) for line in re.findall(r"^== (.*)$", done.stdout, re.M)]
    assert len(found) == len(scenarios) + bool(meshes), done.stderr
    return found


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Folder of what the pairs wrote; what `start` gives of the one with the figures, and of the run 'whole'."""
    folder = tmp_path_factory.mktemp("pairs")
    often = {"checkpoint_every": 4, "log_every": 2, "eval_batch_size": 24, "mesh": {"data": -1, "fsdp": 2}}
    # Features are extracted first; `figures` trains on images.
    write_config(
        folder, optimizer="sgd", heartbeat_timeout=10, steps=END, freeze="block2", cache_features=True, **often
    )
    return folder, start(folder, MESHES, [("whole", 0, 0)])


def told(folder, pair):
    return [(folder / f"{pair}-{process}.txt").read_text() for process in range(2)]


def check_figures(folder, pair, meshes):
    """That both processes found what one finds."""
    assert pair[1] == [0, 0], told(folder, "figures0")
    whole = alone()
    first, second = (json.loads((folder / f"figures-{process}.json").read_text())["figures"] for process in range(2))
    for (mode, mesh), ours, theirs in zip(meshes, first, second, strict=True):
        np.testing.assert_allclose(ours["losses"], whole["losses"], rtol=1e-5, err_msg=f"{mode} {mesh}")
        assert (ours["count"], ours["correct"]) == (100, whole["correct"])
        np.testing.assert_allclose(ours["probabilities"], whole["probabilities"], rtol=1e-3, atol=1e-5)
        assert {**ours, "bytes": 0} == {**theirs, "bytes": 0}
        assert (ours["bytes"] < ours["whole_bytes"] / 2) == ("fsdp" in mesh)
        # Of 100 images of 192 bytes, each of 8 devices holds 13.
        lives = ("ResidentFeed", 13 * 192) if mode == "jit" else ("HostFeed", 0)
        assert (ours["feed"], ours["images"]) == lives


@of_pairs
def test_two_processes_have_the_figures_of_one(pairs):
    folder, found = pairs
    check_figures(folder, found[0], MESHES)


@pytest.mark.slow
def test_two_processes_have_the_figures_of_one_under_pmap(tmp_path):
    meshes = [("pmap", {"data": -1})]
    check_figures(tmp_path, start(tmp_path, meshes, [])[0], meshes)


@of_pairs
def test_two_processes_train_one_run(pairs):
    folder, found = pairs
    first, second = told(folder, "whole0")
    assert found[1][1] == [0, 0], (first, second)
    lines = records(folder / "whole")
    assert [line["step"] for line in lines if line["kind"] == "train"] == list(range(2, END + 1, 2))
    # Only the first writes and speaks.
    assert "Done" in first and "Done" not in second


@pytest.mark.slow
@of_pairs
def test_stopped_killed_and_gone_on_with(pairs):
    folder, _ = pairs
    strikes = (signal.SIGTERM, TERMINATED), (signal.SIGKILL, KILLED), (0, 0)
    (_, stopped, _), (_, killed, end), (_, resumed, _) = start(folder, (), [("broken", *strike) for strike in strikes])
    outputs = [told(folder, f"broken{step}") for _, step in strikes]
    # A signal to one of them is saved by both, at one step, with a status that says 'start me again'.
    assert stopped == [128 + signal.SIGTERM] * 2, outputs[0]
    step = int(re.search(r"SIGTERM: saved at step (\d+) of 12", outputs[0][0]).group(1))
    assert TERMINATED <= step < KILLED
    # One that dies takes the other with it, in time, saying so.
    assert killed[1] == -signal.SIGKILL and killed[0] in (-signal.SIGABRT, cluster.TRY_AGAIN), outputs[1]
    assert end - float((folder / f"struck-{KILLED}").read_text()) < 60  # by default a process may be silent for 100 s
    assert re.search("another task died|process 0 of 2 failed", outputs[1][0]), outputs[1][0]
    assert resumed == [0, 0], outputs[2]
    assert records(folder / "broken") == records(folder / "whole")


@of_pairs
def test_what_two_processes_saved_one_evaluates(pairs, monkeypatch):
    folder, _ = pairs
    monkeypatch.setitem(MODELS._rows, "small", SMALL)
    last = records(folder / "whole")[-1]
    found = evaluate(folder / "whole", split="validation")
    assert last["kind"] == "validation" and found["count"] == last["count"] == 72
    assert found["accuracy"] == last["accuracy"]
    assert found["loss"] == pytest.approx(last["loss"], rel=1e-5)


@of_pairs
def test_the_doctor_of_two_processes(pairs):
    folder, _ = pairs
    first, second = (json.loads((folder / f"figures-{process}.json").read_text()) for process in range(2))
    assert first["together"][:2] == second["together"][:2]
    assert all(line.startswith("ok ") for line in first["together"])
    assert "2 processes with 4 x cpu (cpu) each, on 1 hosts" in first["together"][1]
    assert re.search(r"16 MiB over 8 devices in [\d.]+ ms", first["together"][2])
    # A folder that each has for itself.
    assert re.match(r"FAIL folder: .*: process 0 does not see what \[1\] wrote", first["apart"][-1])
    assert not [path for path in folder.rglob(".doctor*")]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Cluster("127.0.0.1:8476", 2, 0), r"is a loopback \(127.0.0.1\), which processes on other hosts cannot reach"),
        (Cluster("localhost:8476", 2, 0), "is a loopback"),
        (Cluster("[::1]:8476", 2, 1), "is a loopback"),
        (Cluster("nowhere.invalid:8476", 2, 0), "cannot be resolved .* give its IP address"),
        (Cluster("10.0.0.2", 2, 0), "is not HOST:PORT"),
        (Cluster("10.0.0.2:8476", 2), "--coordinator, --num-processes and --process-id go together"),
        (Cluster("10.0.0.2:8476", 2, 2), r"--process-id 2 is none of 0 .. 1"),
    ],
    ids=str,
)
def test_clusters_that_cannot_be_joined(given, message):
    with pytest.raises(ValueError, match=message):
        cluster.join(given)


def test_an_environment_without_a_cluster(monkeypatch):
    def initialize(**waiting):
        assert waiting["heartbeat_timeout_seconds"] == 100
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with pytest.raises(ValueError, match=r"the environment names no cluster .* or give --coordinator HOST:PORT"):
        cluster.join(Cluster())


def test_loopbacks_that_are_right():
    assert cluster.address_problem(Cluster("127.0.0.1:8476", 2, 1, one_machine=True)) is None
    assert cluster.address_problem(Cluster("127.0.0.1:8476", 1, 0)) is None


def test_a_coordinator_that_does_not_answer():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(OSError, match=f"nobody answers at {address} within 1 s"):
        cluster.join(Cluster(address, 2, 1, one_machine=True, initialization_timeout=1))


def test_processes_with_more_devices_than_others(monkeypatch):
    devices = [SimpleNamespace(process_index=process) for process in (0, 0, 0, 1)]
    monkeypatch.setattr(jax, "devices", lambda: devices)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert "have 3 on process 0, 1 on process 1 devices" in cluster.device_problem()


def test_flags_that_say_nothing():
    class Args:
        distributed, coordinator, num_processes, process_id, one_machine = False, "", 2, -1, False

    with pytest.raises(ValueError, match="--num-processes has no effect without --distributed or --coordinator"):
        cluster.join_as(Args())


@pytest.fixture
def three(monkeypatch):
    """Two more processes, which have what `others` maps this one's values to."""
    others = []
    monkeypatch.setattr(distributed, "gather", lambda value: [value, *(change(value) for change in others)])
    return others


def test_processes_that_differ_are_named(three):
    three += [lambda value: value, lambda value: {**value, "config.seed": 1}]
    with pytest.raises(ValueError, match=r"^config.seed is 0 on process 0, 1 and 1 on process 2: start .* alike\.$"):
        distributed.agree({"config.seed": 0, "jft": "1"}, remedy="start them alike.")


def test_the_doctor_sees_what_pip_took_back(monkeypatch):
    """As for the sake of a package that was installed later and asks for an older Orbax."""
    real = importlib.metadata.version
    asked = ["orbax-checkpoint<1,>=0.12", "numpy>=2", "jax[cuda12]>=99; extra == 'cuda'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: asked)
    assert not doctor._versions().wrong
    for version in ("0.11.36", "1.0.0"):
        found = {"orbax-checkpoint": version}
        monkeypatch.setattr(importlib.metadata, "version", lambda name, found=found: found.get(name) or real(name))
        assert str(doctor._versions()) == (
            f"FAIL versions: orbax-checkpoint is {version}, and jft asks for <1,>=0.12: "
            "pip install 'orbax-checkpoint<1,>=0.12'"
        )


@pytest.mark.parametrize(
    ("check", "change", "message"),
    [
        ("versions", lambda v: {**v, "jax": "0.0.1"}, r"FAIL versions: jax is .* and 0.0.1 on process 1: install"),
        ("devices", lambda v: ["4 x H100 (gpu)", "b"], r"FAIL devices: .* and 4 x H100 \(gpu\) on process 1"),
        ("all-reduce", lambda v: False, "FAIL all-reduce: .* the sum is wrong"),
        ("folder", lambda v: ["No space", [], False], r"FAIL folder: .* process 1 cannot write it \(No space\)"),
    ],
)
def test_what_the_doctor_finds_wrong(three, tmp_path, check, change, message):
    def changed(value):  # of this check alone
        wanted = {"versions": dict, "devices": list, "all-reduce": bool, "folder": list}[check]
        fits = isinstance(value, wanted) and not (wanted is list and len(value) != {"devices": 2}.get(check, 3))
        return change(value) if fits else value

    three.append(changed)
    findings = {finding.check: str(finding) for finding in doctor.examine(tmp_path)}
    assert re.match(message, findings.pop(check))
    assert all(line.startswith("ok ") for line in findings.values()), findings
