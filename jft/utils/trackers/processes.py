"""Starts the process of each tracker with a run, and ends it. Nothing that it does stops, slows or changes the run.

A process of its own, as a tracker's package takes seconds to import, handles signals and the end of Python in its own
way, and may wait for ever on a network that is gone.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from absl import logging

from jft.utils.trackers.follow import file_name, folder
from jft.utils.trackers.tracker import State

_MORE = 5.0  # seconds beyond its grace in which it may end itself


class Followed:
    """A run that trackers follow.

    Attributes:
      state: how it ends, 'failed' unless it is said.
    """

    state: State = "failed"


@contextlib.contextmanager
def following(workdir: Path, names: Sequence[str], grace: float = 30.0) -> Iterator[Followed]:
    """Within it, trackers follow the log of a run. What fails of one is a warning, told once.

    Args:
      workdir: folder of the run; a tracker begins once it holds a config.json.
      names: of trackers, of `TRACKERS` or "module:Class".
      grace: seconds that they have after the end of the run.
    """
    followed, processes = Followed(), [_Process(name, workdir, grace) for name in names]
    try:
        yield followed
    finally:
        for process in processes:
            process.tell(followed.state)
        for process in processes:
            process.wait()


class _Process:
    def __init__(self, name: str, workdir: Path, grace: float) -> None:
        self._name, self._grace, self._warned = name, grace, False
        self._log = folder(workdir) / f"{file_name(name)}.log"
        self._process: subprocess.Popen[str] | None = None
        # The same modules as here; -P: none of the working folder's that happen to be called alike.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-P", "-m", "jft.utils.trackers.follow", name, str(workdir.resolve()), str(grace)]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                text=True,
                errors="replace",
                start_new_session=True,  # Ctrl-C is for the run
            )
        except OSError as error:
            self._warn(str(error))
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def tell(self, state: State) -> None:
        """Says how the run has ended."""
        if self._process and self._process.stdin:
            with contextlib.suppress(OSError):  # it has ended before
                self._process.stdin.write(state + "\n")
                self._process.stdin.close()

    def wait(self) -> None:
        """Waits for its end, and ends it if it does not by itself."""
        if self._process is None:
            return
        try:
            self._process.wait(self._grace + _MORE)
        except subprocess.TimeoutExpired:
            self._warn(f"still busy {self._grace + _MORE:.0f} s after the run")
        finally:
            if self._process.poll() is None:  # also where Ctrl-C was pressed again
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
        self._watcher.join(timeout=1)

    def _watch(self) -> None:
        """Tells its first problem, as soon as it has one."""
        if self._process is None or self._process.stdout is None:
            return
        for problem in self._process.stdout:
            self._warn(problem.strip())
        if status := self._process.wait():
            self._warn(f"its process ended with status {status}")

    def _warn(self, problem: str) -> None:
        if not self._warned:
            self._warned = True
            logging.warning(
                "tracker %s fails (%s); the run goes on without it. What it has missed is sent when it works again, or "
                "when the same command runs again. See %s",
                self._name,
                problem.rstrip("."),
                self._log,
            )
