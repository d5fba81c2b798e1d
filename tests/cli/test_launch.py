"""The recipes of scripts/launch, as far as they run without a cluster: fakes in place of srun, scontrol and gcloud."""

import argparse
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from jft.cli import train
from jft.utils import cluster

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "scripts" / "launch"
# Note what they are called with; `srun` runs what it is given, `python` ends as it is told to.
FAKES = {
    "srun": 'echo "srun $*" >> "$CALLS"; shift; exec "$@"',
    "python": 'echo "python $*" >> "$CALLS"; case "$*" in *train.py*) exit "$TRAIN";; *) exit "$DOCTOR";; esac',
    "scontrol": 'echo "scontrol $*" >> "$CALLS"',
    "gcloud": 'echo "gcloud $*" >> "$CALLS"; case "$*" in *describe*) [ -n "$STATE" ] && echo "$STATE";; esac; exit 0',
}


@pytest.fixture
def launch(tmp_path):
    """Runs a recipe among the fakes; its exit status and the calls, one a line."""
    for name, body in FAKES.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/usr/bin/env bash\n{body}\n")
        path.chmod(0o755)

    def run(recipe, *args, **variables):
        environment = {"DOCTOR": "0", "TRAIN": "0", "STATE": "", "CALLS": str(tmp_path / "calls"), **variables}
        environment["PATH"] = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
        command = ["bash", LAUNCH / recipe, *args]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        calls = tmp_path / "calls"
        return done.returncode, calls.read_text() if calls.exists() else done.stderr

    return run


@pytest.mark.parametrize("recipe", ["slurm.sbatch", "tpu_vm.sh"])
def test_bash_can_parse_it(recipe):
    subprocess.run(["bash", "-n", LAUNCH / recipe], check=True)


SLURM = {"CONFIG": "configs/vgg19_cifar10.py", "WORKDIR": "/shared/run", "SLURM_JOB_ID": "7"}


@pytest.mark.parametrize(("status", "requeued"), [(0, False), (1, False), (143, True)])
def test_slurm_starts_again_what_was_stopped(launch, status, requeued):
    found, calls = launch("slurm.sbatch", "--config.seed=1", **SLURM, TRAIN=str(status))
    assert found == status
    doctor, train = (line for line in calls.splitlines() if line.startswith("srun"))
    assert doctor == "srun --kill-on-bad-exit=1 python scripts/doctor.py --distributed --workdir=/shared/run"
    config = "--config=configs/vgg19_cifar10.py --config.seed=1"
    assert train == f"srun --kill-on-bad-exit=1 python scripts/train.py {config} --distributed --workdir=/shared/run"
    assert ("scontrol requeue 7" in calls) == requeued


def test_slurm_does_not_train_where_the_doctor_finds_fault(launch):
    status, calls = launch("slurm.sbatch", **SLURM, DOCTOR="1")
    assert status == 1 and "train.py" not in calls


def test_slurm_says_what_it_needs(launch):
    status, told = launch("slurm.sbatch")
    assert status != 0 and "set CONFIG to a config file" in told


TPU = {"NAME": "one", "ZONE": "us-central2-b", "TYPE": "v4-16", "CONFIG": "configs/vgg19_cifar10.py"}
TPU |= {"REPOSITORY": "https://example.org/jft.git", "COMMIT": "abc"}


def test_tpu_makes_what_is_not_there(launch):
    status, calls = launch("tpu_vm.sh", "--config.seed=1", **TPU, SPOT="1")
    assert status == 0
    assert (
        "tpu-vm create one --zone=us-central2-b --accelerator-type=v4-16 --version=tpu-ubuntu2204-base --spot" in calls
    )
    on_all = re.findall(r"ssh one --zone=us-central2-b --worker=all --command=(.*?)(?=^gcloud|\Z)", calls, re.M | re.S)
    assert len(on_all) == 3 and "git checkout -q 'abc'" in on_all[0]
    trained = "scripts/train.py --config=configs/vgg19_cifar10.py --config.seed=1 --distributed"
    assert f"{trained} --workdir=/share/runs/vgg19_cifar10" in on_all[2]
    for script in on_all:
        subprocess.run(["bash", "-n", "-c", script], check=True)


@pytest.mark.parametrize(("state", "deleted", "made"), [("READY", False, False), ("PREEMPTED", True, True)])
def test_tpu_goes_on_with_what_there_is(launch, state, deleted, made):
    status, calls = launch("tpu_vm.sh", **TPU, STATE=state)
    assert (status, "tpu-vm delete" in calls, "tpu-vm create" in calls) == (0, deleted, made)


def known_flags():
    parser = argparse.ArgumentParser()
    train.arguments(parser)
    return {action.dest for action in parser._actions}


def test_the_job_set_calls_what_there_is():
    spec = yaml.safe_load((LAUNCH / "gke_jobset.yaml").read_text())["spec"]
    [workers] = spec["replicatedJobs"]
    job = workers["template"]["spec"]
    assert job["parallelism"] == job["completions"] and job["completionMode"] == "Indexed"
    [container] = job["template"]["spec"]["containers"]
    assert (ROOT / container["command"][1]).is_file()
    flags = dict(arg.removeprefix("--").partition("=")[::2] for arg in container["args"])
    assert set(flags) <= known_flags() and (ROOT / flags["config"]).is_file()
    # A wrong config ends it; what was stopped (143) or lost another host (75, 134) starts again.
    [rule] = job["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob" and rule["onExitCodes"] == {
        "containerName": container["name"],
        "operator": "In",
        "values": [1],
    }
    [mount] = container["volumeMounts"]
    assert flags["workdir"].startswith(mount["mountPath"])


def test_skypilot_calls_what_there_is():
    task = yaml.safe_load((LAUNCH / "skypilot.yaml").read_text())
    assert (ROOT / task["envs"]["CONFIG"]).is_file()
    assert set(task["resources"]["job_recovery"]["recover_on_exit_codes"]) == {143, cluster.TRY_AGAIN}
    for name in ("setup", "run"):
        subprocess.run(["bash", "-n", "-c", task[name]], check=True)
    words = shlex.split(task["run"].replace("$(", "(").replace('"', ""))
    scripts = [word for word in words if word.startswith("scripts/")]
    assert scripts == ["scripts/doctor.py", "scripts/train.py"] and all((ROOT / path).is_file() for path in scripts)
    assert {word[2:].partition("=")[0] for word in words if re.match(r"--\w+=", word)} <= known_flags()
