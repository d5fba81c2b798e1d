"""Trackers of the tests' own: one that writes down what it is told, and those that fail in each way."""

import json
import os
import time


class Notes:
    """Appends what it is told to `Notes.jsonl` in its folder."""

    def __init__(self, about):
        self._path = about.folder / f"{type(self).__name__}.jsonl"
        self.id = about.id or "first"
        self._note("opened", about.name, about.config["seed"], about.id)

    def _note(self, *told):
        with self._path.open("a") as file:
            file.write(json.dumps(told) + "\n")

    def scalars(self, step, values):
        self._note("scalars", step, values)

    def text(self, step, name, text):
        self._note("text", step, name, text)

    def image(self, step, name, path):
        self._note("image", step, name, path.read_bytes()[1:4].decode())

    def end(self, state):
        self._note("end", state)


class FailsAtStart(Notes):
    def __init__(self, about):
        raise ConnectionError("no network")


class FailsAtFirst(Notes):
    """Each line is taken at the second try, as where a network comes and goes."""

    def scalars(self, step, values):
        failed = self._path.with_name(f"failed{step}")
        if not failed.exists():
            failed.touch()
            raise ConnectionError("cut")
        super().scalars(step, values)


class FailsAtEachCall(Notes):
    def scalars(self, step, values):
        raise ConnectionError("cut")

    text = image = scalars


class FailsAtEnd(Notes):
    def end(self, state):
        raise ConnectionError("cut")


class Hangs(Notes):
    def scalars(self, step, values):
        time.sleep(1000)


class Dies(Notes):
    def scalars(self, step, values):
        os._exit(9)
