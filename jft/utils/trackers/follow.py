"""The process of one tracker: python -m jft.utils.trackers.follow TRACKER RUN SECONDS.

It reads the run's log, tells the tracker, and tries again later what fails. The first failure is a line on standard
output. Standard input says when the run has ended, and how; that it ends without a word is what a killed run leaves.
So many seconds later this process ends, whatever it does.
"""

import contextlib
import fcntl
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, TextIO

from jft.utils import json_file
from jft.utils.registry import code_allowed
from jft.utils.trackers.log_tail import Line, Tail, Told
from jft.utils.trackers.tracker import TRACKERS, About, State, Tracker

_PAUSE, _LONGEST = 0.5, 60.0  # seconds between two looks at the log, and after repeated failures


class Follower:
    """Tells one tracker what is in a run's log."""

    def __init__(self, name: str, workdir: Path) -> None:
        self._name, self._workdir = name, workdir
        self._kept = folder(workdir) / f"{file_name(name)}.json"
        self._told = Told.read(self._kept)
        self._tail = Tail(workdir / "metrics.jsonl")
        self._tracker: Tracker | None = None

    def catch_up(self) -> None:
        """Tells all that is new; raises what the tracker raises, and then the next call goes on with that line."""
        for line in self._tail:
            if not self._told.knows(line):
                self._told.state = ""
                _tell(self._open(), line, self._workdir)
                self._told.add(line)
                self._told.write(self._kept)

    def end(self, state: State) -> None:
        """Ends the tracker, unless it has ended before and there was nothing new."""
        if not self._told.id or self._told.state == state:
            return
        self._open().end(state)
        self._told.state = state
        self._told.write(self._kept)

    def forget(self) -> None:
        """After a failure: the tracker is opened anew."""
        self._tracker = None

    def _open(self) -> Tracker:
        if self._tracker is None:
            config = json_file.read(self._workdir / "config.json", dict[str, Any], "restore it")
            name = "/".join(self._workdir.resolve().parts[-2:])
            about = About(name, config, folder(self._workdir), self._told.id)
            with code_allowed():  # the run that this follows has imported what its config names
                tracker: Tracker = TRACKERS.resolve(self._name)(about)
            self._tracker, self._told.id = tracker, tracker.id
            self._told.write(self._kept)
        return self._tracker


def folder(workdir: Path) -> Path:
    """Where trackers keep their files."""
    return workdir / "trackers"


def file_name(name: str) -> str:
    """What files of a tracker are called."""
    return name.replace(":", ".")


def _tell(tracker: Tracker, line: Line, workdir: Path) -> None:
    step, kind = line["step"], line["kind"]
    if kind == "text":
        tracker.text(step, line["name"], line["text"])
    elif kind == "image":
        tracker.image(step, line["name"], workdir / line["file"])
    elif kind == "skipped":
        tracker.text(step, kind, line["fault"])
    else:
        tracker.scalars(step, scalars(line))


def scalars(line: Line) -> dict[str, float]:
    """The numbers of a line of the log, by the tags that trackers know them by."""
    return {
        f"{line['kind']}/{name}": value
        for name, value in line.items()
        if isinstance(value, int | float) and name not in ("step", "crc32")
    }


def follow(name: str, workdir: Path, ending: "Ending", problems: TextIO) -> int:
    """Tells a tracker of a run until that has ended; the status to exit with, 1 where something was not told."""
    follower, pause, failed = Follower(name, workdir), _PAUSE, False
    while True:
        last = ending.come(pause)  # before the log is read: all was written before
        try:
            follower.catch_up()
            if last:
                follower.end(ending.state)
                return 0
            pause = _PAUSE
        except Exception as error:  # whatever a tracker raises
            follower.forget()
            if not failed:
                _say(f"{type(error).__name__}: {error}", problems)
            if last:
                return 1
            failed, pause = True, min(2 * pause, _LONGEST)


class Ending:
    """The end of the run, as standard input tells it; this process ends some seconds later.

    Attributes:
      state: how the run ended, once it has.
    """

    def __init__(self, problems: TextIO, grace: float) -> None:
        self.state: State = "interrupted"
        self._problems, self._grace, self._come = problems, grace, threading.Event()
        threading.Thread(target=self._wait, daemon=True).start()

    def come(self, timeout: float) -> bool:
        """Waits for it; whether it has come."""
        return self._come.wait(timeout)

    def _wait(self) -> None:
        self.state = sys.stdin.readline().strip() or self.state  # type: ignore[assignment]
        self._come.set()
        time.sleep(self._grace)
        _say(f"still busy {self._grace:g} s after the run", self._problems)
        os._exit(1)


def _say(problem: str, problems: TextIO) -> None:
    """One line to the run, unless it was killed."""
    with contextlib.suppress(OSError):
        print(" ".join(problem.split()), file=problems, flush=True)


def main() -> int:
    """Follows the run of the command line."""
    name, workdir = sys.argv[1], Path(sys.argv[2])
    problems = os.fdopen(os.dup(1), "w")
    ending = Ending(problems, float(sys.argv[3]))
    while not (workdir / "config.json").exists():
        if ending.come(_PAUSE):
            return 0  # it failed before it began
    folder(workdir).mkdir(exist_ok=True)
    log = os.open(folder(workdir) / f"{file_name(name)}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    with contextlib.suppress(OSError):  # of a file system without locks
        fcntl.flock(log, fcntl.LOCK_EX)  # the process of an earlier part of the run may not have ended
    os.dup2(log, 1)
    os.dup2(log, 2)
    return follow(name, workdir, ending, problems)


if __name__ == "__main__":
    sys.exit(main())
