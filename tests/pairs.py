"""Starts pairs of processes for test_distributed.py: python tests/pairs.py FOLDER MESHES SCENARIOS, the latter as JSON.

If there are meshes, the first pair runs `parallel_case` on each of them, and the doctor. Each of the others runs
scripts/train.py, until the second process sends itself a signal at a step: [name of the run, signal or 0, step];
`struck-<step>` then holds the time. They are forked from one process. What a process prints goes to
`<name><step>-<process>.txt`. For each pair a line of JSON is printed: [name, exit statuses, time of its end].
"""

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import forks
import hasty
import jax
import parallel_case

from jft.training.progress import Window
from jft.utils import doctor
from jft.utils import mesh as mesh_lib
from jft.utils.cluster import Cluster, join


def figures(folder, meshes, number, port):
    """What `parallel_case` and the doctor find, to `figures-<number>.json`."""
    join(Cluster(f"127.0.0.1:{port}", 2, number, one_machine=True))
    found = {
        "figures": [parallel_case.run(mode, mesh) for mode, mesh in meshes],
        "together": [str(finding) for finding in doctor.examine(folder / "together")],
        "apart": [str(finding) for finding in doctor.examine(folder / f"apart-{number}")],
    }
    (folder / f"figures-{number}.json").write_text(json.dumps(found))


def script(folder, name, sent, at, number, port):
    """scripts/train.py; the run 'whole' is joined as under SLURM, the others by flags. One device each is quicker."""
    os.environ["XLA_FLAGS"] = hasty.flags(devices=1)
    add = Window.add

    def striking(self, step, sums):
        add(self, step, sums)
        if number == 1 and step == at:
            (folder / f"struck-{at}").write_text(str(time.time()))
            os.kill(os.getpid(), sent)
            time.sleep(3)  # JAX looks for signals once a second; the other process waits for this one's next step

    Window.add = striking
    if name == "whole":
        # JAX makes the coordinator's port of the job's number.
        job = port - (65535 - 2**12 + 1)
        slurm = {"JOB_ID": job, "STEP_NODELIST": "localhost", "NTASKS": 2, "STEP_NUM_TASKS": 2}
        slurm |= {"PROCID": number, "LOCALID": number, "STEP_TASKS_PER_NODE": 2}
        os.environ.update({f"SLURM_{key}": str(value) for key, value in slurm.items()})
        flags = ["--distributed"]
    else:
        flags = [f"--coordinator=127.0.0.1:{port}", "--num_processes=2", f"--process_id={number}", "--one_machine"]
    forks.train_script(folder, name, *flags)


def free_port():
    """One of those that SLURM's jobs get."""
    while True:
        port = 65535 - 2**12 + 1 + int.from_bytes(os.urandom(2)) % 2**12
        with socket.socket() as free:
            try:
                free.bind(("", port))
            except OSError:
                continue
            return port


def run_pair(work, out):
    """Forks two processes that call `work(number, port)`; their exit statuses."""
    port = free_port()

    def join_in(number):
        try:
            work(number, port)
        finally:
            jax.distributed.shutdown()  # as at the end of any process: waits for the other

    return [forks.wait(child) for child in [forks.fork(lambda n=n: join_in(n), f"{out}-{n}.txt") for n in range(2)]]


def main():
    folder, (meshes, scenarios) = Path(sys.argv[1]), map(json.loads, sys.argv[2:])
    forks.prepare()
    mesh_lib.SMALLEST_CUT = 16  # so that the small network is cut
    pairs = [("figures", 0, lambda number, port: figures(folder, meshes, number, port))] if meshes else []
    pairs += [(name, at, lambda *who, of=(name, sent, at): script(folder, *of, *who)) for name, sent, at in scenarios]
    for name, at, work in pairs:
        status = run_pair(work, folder / f"{name}{at}")
        print(f"== {json.dumps([name, status, time.time()])}", flush=True)


if __name__ == "__main__":
    os.setpgrp()
    signal.signal(signal.SIGALRM, lambda *_: os.killpg(0, signal.SIGKILL))
    signal.alarm(390)  # whoever started it gives up soon after
    main()
