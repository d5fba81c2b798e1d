"""Runs side by side: a process for each device, which performs one run after another, each on its device alone."""

import collections
import contextlib
import json
import multiprocessing
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import connection
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import jax

from jft.config import default_config
from jft.training.comparison import trial as trial_lib
from jft.training.comparison.trial import Outcome, Trial
from jft.utils import runtime
from jft.utils.interrupt import Interrupt
from jft.utils.registry import code_allowed
from jft.utils.stopped import Stopped
from jft.utils.text import human_seconds, one_line, terminal_stream

# Asked in a process that ends, as one that has looked at a GPU keeps most of its memory.
_ASK = "import jax, json; print(json.dumps([jax.default_backend(), jax.local_device_count()]))"


def perform_all(trials: Sequence[Trial], workers: int) -> Iterator[tuple[Trial, Outcome]]:
    """Performs the runs, several at a time; what each prints goes to `<folder of the run>.log`.

    This process uses no device, so that it takes none of their memory.

    Args:
      trials: the runs. They begin in this order.
      workers: processes, each with one device.

    Yields:
      Each run as it ends.

    Raises:
      ValueError: there are fewer devices than workers; a run is wrong, which is said before any begins; or one failed,
        after which the others are stopped.
      Stopped: a signal came. Runs save where they are and end; the same call resumes.
    """
    jax.config.update("jax_platforms", "cpu")
    team = [_Worker(environment) for environment in environments(*devices(), workers)]
    try:
        _check_all(trials, team[0])
        with Interrupt() as interrupt:
            waiting = collections.deque(trials)
            while waiting or any(worker.trial for worker in team):
                for worker in team:
                    if waiting and worker.trial is None:
                        worker.begin(waiting.popleft())
                for worker in _heard(team):
                    trial = worker.trial
                    assert trial is not None  # it has been heard of
                    yield trial, worker.result()
                if interrupt.check():
                    raise interrupt.stopped()
    finally:
        for worker in team:
            worker.end()
        for worker in team:
            worker.process.join()


def devices() -> tuple[str, int]:
    """JAX's platform here, such as 'gpu', and the number of devices."""
    asked = subprocess.run([sys.executable, "-c", _ASK], capture_output=True, text=True)
    if asked.returncode:
        raise ValueError(f"JAX finds no devices: {asked.stderr.strip().splitlines()[-1]}")
    platform, count = json.loads(asked.stdout)
    return platform, count


def environments(platform: str, count: int, workers: int) -> list[dict[str, str]]:
    """Environment variables with which each worker's process sees one device.

    Args:
      platform, count: as of `devices`.
      workers: number of processes.

    Raises:
      ValueError: there are fewer devices, or their platform does not let several processes share them.
    """
    if workers > count:
        more = "; XLA_FLAGS=--xla_force_host_platform_device_count=N makes N of a CPU" if platform == "cpu" else ""
        raise ValueError(f"{workers} workers need as many devices, and JAX finds {count} here ({platform}){more}.")
    if platform == "cpu":
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=1"
        return [{"XLA_FLAGS": flags.strip()}] * workers
    if platform == "gpu":
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = visible.split(",") if visible else list(map(str, range(count)))
        return [{"CUDA_VISIBLE_DEVICES": name} for name in names[:workers]]
    raise ValueError(f"runs side by side need GPUs or CPUs, and this machine has {count} x {platform}: use one worker.")


def _check_all(trials: Sequence[Trial], worker: "_Worker") -> None:
    for trial in trials:
        if not trial.brief:  # the others differ in their seeds
            worker.ask("check", trial)
            _heard([worker])
            worker.result()


def _heard(team: Sequence["_Worker"]) -> list["_Worker"]:
    """The workers that have answered, or died; [] after a second of silence."""
    ready = connection.wait([worker.answers for worker in team if worker.trial], timeout=None if len(team) == 1 else 1)
    return [worker for worker in team if worker.answers in ready]


class _Worker:
    """A process that performs runs.

    Attributes:
      trial: the run at which it is; None: it waits for one.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        # Not forked: JAX's threads would be missing.
        context = multiprocessing.get_context("spawn")
        self.answers, other = context.Pipe()
        self.process = context.Process(target=_work, args=(other, dict(environment)))
        self.process.start()
        other.close()
        self.trial: Trial | None = None

    def ask(self, what: str, trial: Trial) -> None:
        """Sends a task: the name of a function of `trial`, and its argument."""
        self.trial, self._since = trial, time.monotonic()
        self.answers.send((what, trial.name, trial.config.to_dict(), str(trial.place), trial.brief))

    def begin(self, trial: Trial) -> None:
        """Sends a run to perform."""
        self.ask("perform", trial)
        print(f"== {trial}: begun, see {_log(trial.place)}", flush=True)

    def result(self) -> Any:
        """The answer to its task, which must have come; raises what went wrong."""
        trial, self.trial = self.trial, None
        assert trial is not None  # there is no answer without a task
        try:
            kind, value = self.answers.recv()
        except EOFError:
            self.process.join()
            status = self.process.exitcode
            raise ValueError(f"{trial}: its process died with status {status}, see {_log(trial.place)}.") from None
        if kind == "stopped":
            raise Stopped(value)
        if kind == "failed":
            raise ValueError(f"{trial}: {value}")
        if isinstance(value, Outcome):
            took = human_seconds(time.monotonic() - self._since)
            print(f"== {trial}: accuracy {value.values['accuracy']:.2%} after {took}", flush=True)
        return value

    def end(self) -> None:
        """Asks the process to save where it is, and to end."""
        self.answers.close()
        if self.trial:
            self.process.terminate()


def _log(place: Path) -> Path:
    return place.with_name(f"{place.name}.log")


def _work(tasks: Connection, environment: Mapping[str, str]) -> None:
    """What a worker's process does: performs tasks until the pipe is closed."""
    os.setsid()  # Ctrl-C reaches the first process alone, which passes it on once
    os.environ.update(environment)  # JAX reads it when it first looks for devices
    runtime.configure()
    with contextlib.suppress(EOFError, BrokenPipeError):  # nobody asks or listens any more
        while True:
            what, name, fields, place, brief = tasks.recv()
            config = default_config()
            config.update(fields)
            tasks.send(_answer(what, Trial(name, config, Path(place), brief)))


def _answer(what: str, trial: Trial) -> tuple[str, Any]:
    """(kind, value) of a task's result: 'done', 'stopped' by a signal, or 'failed' and why."""
    try:
        if what == "check":
            return "done", trial_lib.check(trial)
        trial.place.parent.mkdir(parents=True, exist_ok=True)
        with _log(trial.place).open("a") as file:
            log = terminal_stream(file)
            with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log), code_allowed():
                try:
                    return "done", trial_lib.perform(trial)
                except Exception:
                    traceback.print_exc()
                    raise
    except Stopped as stopped:
        return "stopped", stopped.signal
    except Exception as error:
        return "failed", one_line(error)
