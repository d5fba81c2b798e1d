"""The lines of a run's log that a tracker has not been told yet, and the note of those that it has."""

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jft.utils import json_file
from jft.utils.files import written_whole

Line = dict[str, Any]


@dataclasses.dataclass
class Told:
    """What a tracker was told, kept in the run's folder so that it goes on there.

    A killed run repeats the steps after its newest checkpoint: each step is told once, as it was at first.

    Attributes:
      id: the tracker's own name of the run.
      step: the highest step of which it was told.
      keys: kinds of the lines of that step.
      state: with which it ended, '' while it has not.
    """

    id: str = ""
    step: int = -1
    keys: list[str] = dataclasses.field(default_factory=list)
    state: str = ""

    @classmethod
    def read(cls, path: Path) -> "Told":
        """As kept; nothing where there is no such file, or a damaged one."""
        try:
            return cls(**json_file.read(path, cls, "delete it"))
        except (OSError, ValueError, TypeError):
            return cls()

    def write(self, path: Path) -> None:
        """Keeps it."""
        with written_whole(path) as aside:
            aside.write_text(json.dumps(dataclasses.asdict(self)))

    def knows(self, line: Line) -> bool:
        """Whether a line was told."""
        return line["step"] < self.step or (line["step"] == self.step and _key(line) in self.keys)

    def add(self, line: Line) -> None:
        """Notes a line as told."""
        if line["step"] > self.step:
            self.step, self.keys = line["step"], []
        self.keys.append(_key(line))


def _key(line: Line) -> str:
    return "/".join(filter(None, (line["kind"], line.get("name"))))


class Tail:
    """Reads a growing log; from the beginning again when it is replaced, as by a run that goes back to a checkpoint."""

    def __init__(self, path: Path) -> None:
        self._path, self._inode, self._position = path, 0, 0

    def __iter__(self) -> Iterator[Line]:
        """The whole lines since the last one that was followed by another or by the end."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            opened = os.fstat(file.fileno())  # the path may name another file by now
            if opened.st_ino != self._inode or opened.st_size < self._position:
                self._inode, self._position = opened.st_ino, 0
            file.seek(self._position)
            for text in file:
                if not text.endswith(b"\n"):
                    return
                yield json.loads(text)
                self._position += len(text)
