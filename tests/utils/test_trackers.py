"""Trackers: they are told what the log says, each step once, and whatever they do is a warning at most."""

import importlib
import json
import logging
import os
import subprocess
import sys
import types

import pytest
from PIL import Image

from jft.config import as_json, default_config
from jft.utils.logger import Logs, read_metrics, write_json
from jft.utils.trackers import follow
from jft.utils.trackers.follow import scalars
from jft.utils.trackers.log_tail import Tail, Told
from jft.utils.trackers.processes import following
from jft.utils.trackers.tracker import About

GOOD = "fake_trackers:Notes"


@pytest.fixture
def workdir(tmp_path):
    folder = tmp_path / "runs" / "small"
    folder.mkdir(parents=True)
    write_json(folder / "config.json", as_json(default_config()))
    return folder


def notes(workdir, name="Notes"):
    path = workdir / "trackers" / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def log(workdir, steps, resumed_at=0):
    logs = Logs(workdir, resumed_at)
    for step in steps:
        logs.write(step, "validation", {"loss": 1 / step})
    logs.close()


def told_of(caplog):
    return [record.getMessage() for record in caplog.records if "tracker" in record.getMessage()]


def test_a_tracker_is_told_the_numbers_texts_and_images_of_the_log(workdir, caplog):
    with caplog.at_level(logging.WARNING), following(workdir, [GOOD]) as followed:
        logs = Logs(workdir, 0)
        logs.text(0, "run", "of the\nsmall")
        logs.image(0, "training images", Image.new("RGB", (4, 3)))
        logs.write(2, "average", {"share": 0.1, "note": "no number"})
        logs.write(2, "skipped", {"fault": "the loss of step 2 is nan"})
        logs.write(2, "validation", {"loss": 0.3, "count": 12})
        logs.close()
        followed.state = "finished"
    assert notes(workdir) == [
        ["opened", "runs/small", 0, ""],
        ["text", 0, "run", "of the\nsmall"],
        ["image", 0, "training images", "PNG"],
        ["scalars", 2, {"average/share": 0.1}],
        ["text", 2, "skipped", "the loss of step 2 is nan"],
        ["scalars", 2, {"validation/loss": 0.3, "validation/count": 12}],
        ["end", "finished"],
    ]
    assert not told_of(caplog)


def test_a_resumed_run_goes_on_in_the_same_run_of_the_tracker_and_each_step_is_told_once(workdir):
    with following(workdir, [GOOD]) as followed:
        log(workdir, [2, 4, 6])
        followed.state = "interrupted"
    with following(workdir, [GOOD]) as followed:
        log(workdir, [4, 6, 8], resumed_at=2)  # as after a kill
        followed.state = "finished"
    with following(workdir, [GOOD]) as followed:  # the same command again, with nothing to do
        followed.state = "finished"
    told = notes(workdir)
    assert [line[1] for line in told if line[0] == "scalars"] == [2, 4, 6, 8]
    assert [line[1:] for line in told if line[0] == "opened"] == [["runs/small", 0, ""], ["runs/small", 0, "first"]]
    assert [line[1] for line in told if line[0] == "end"] == ["interrupted", "finished"]


FAILING = {
    "FailsAtStart": "ConnectionError: no network",
    "FailsAtEachCall": "ConnectionError: cut",
    "FailsAtEnd": "ConnectionError: cut",
    "Dies": "its process ended with status 9",
    "NotThere": "there is no 'NotThere' in fake_trackers",
}


def test_one_that_fails_is_one_warning_and_the_others_go_on(workdir, caplog):
    names = [GOOD, *(f"fake_trackers:{name}" for name in FAILING)]
    with caplog.at_level(logging.WARNING), following(workdir, names, 120) as followed:
        log(workdir, [2, 4, 6])
        followed.state = "finished"
    for name, says in FAILING.items():
        [warning] = [message for message in told_of(caplog) if f"tracker fake_trackers:{name} " in message]
        assert says in warning and "the run goes on without it" in warning
    assert len(told_of(caplog)) == len(FAILING)
    assert [line["step"] for line in read_metrics(workdir)] == [2, 4, 6]
    assert json.loads((workdir / "trackers" / "fake_trackers.Notes.json").read_text())["state"] == "finished"


def test_one_that_hangs_is_ended(workdir, caplog):
    log(workdir, [2])
    with caplog.at_level(logging.WARNING), following(workdir, ["fake_trackers:Hangs"], 0.5) as followed:
        followed.state = "finished"
    [warning] = told_of(caplog)
    assert "still busy" in warning  # by itself, or where this machine is slow by the run


def test_what_a_cut_network_kept_back_is_sent_later(workdir, monkeypatch, capsys):
    """In this process, as its pauses are long."""
    log(workdir, [2, 4])
    (workdir / "trackers").mkdir()

    class Ending:
        state, looks = "finished", 0

        def come(self, pause):
            pauses.append(pause)
            return len(pauses) == 5

    pauses = []
    assert follow.follow("fake_trackers:FailsAtFirst", workdir, Ending(), sys.stdout) == 0
    assert [line[:2] for line in notes(workdir, "FailsAtFirst") if line[0] != "opened"] == [
        ["scalars", 2],
        ["scalars", 4],
        ["end", "finished"],
    ]
    assert capsys.readouterr().out == "ConnectionError: cut\n"  # once
    assert pauses == [0.5, 1.0, 2.0, 0.5, 0.5]


def test_it_ends_before_the_run_begins_where_that_fails(tmp_path, caplog):
    with pytest.raises(ValueError, match="no such images"), following(tmp_path / "run", [GOOD]):
        raise ValueError("no such images")
    assert not (tmp_path / "run").exists() and not told_of(caplog)


def test_a_tracker_that_hangs_outlives_a_killed_run_by_its_grace_alone(workdir):
    log(workdir, [2])
    command = [sys.executable, "-m", "jft.utils.trackers.follow", "fake_trackers:Hangs", str(workdir), "0.5"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as follower:
        follower.stdout.close()  # as the end of the run's process closes both
        follower.stdin.close()
        try:
            assert follower.wait(60) == 1
        finally:
            follower.kill()


def test_a_damaged_note_is_forgotten(tmp_path):
    kept = Told("an id", 4, ["train"], "")
    kept.write(tmp_path / "note.json")
    assert Told.read(tmp_path / "note.json") == kept
    for damage in ("{", '{"id": 3}', '{"other": 1}', "[]"):
        (tmp_path / "note.json").write_text(damage)
        assert Told.read(tmp_path / "note.json") == Told()


def test_a_log_is_read_from_the_beginning_where_it_is_another_file_or_shorter(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n')
    tail = Tail(path)
    assert [line["step"] for line in tail] == [1, 2] and [*tail] == []
    path.write_text('{"step": 3}\n')  # in the same file
    assert [line["step"] for line in tail] == [3]
    (tmp_path / "aside").write_text('{"step": 4}\n{"step": 5}\n')
    (tmp_path / "aside").replace(path)
    assert [line["step"] for line in tail] == [4, 5]


def test_mlflow_keeps_no_run_whose_parameters_it_refused(tmp_path, monkeypatch):
    runs = []

    class Client:
        def get_experiment_by_name(self, name):
            return types.SimpleNamespace(experiment_id="1")

        def create_run(self, experiment, run_name):
            runs.append(run_name)
            return types.SimpleNamespace(info=types.SimpleNamespace(run_id=run_name))

        def log_batch(self, run, params):
            raise ConnectionError("cut")

        def delete_run(self, run):
            runs.remove(run)

    entities = types.SimpleNamespace(Param=lambda name, value: (name, value))
    monkeypatch.setitem(sys.modules, "mlflow", types.SimpleNamespace(MlflowClient=Client, entities=entities))
    name = "jft.utils.trackers.ml_flow"
    sys.modules.pop(name, None)  # as it holds the other
    tracker = importlib.import_module(name)
    del sys.modules[name]
    with pytest.raises(ConnectionError, match="cut"):
        tracker.MLflow(About("runs/small", {"model": "vgg19"}, tmp_path, ""))
    assert runs == []


def test_numbers_of_a_line():
    line = {"step": 3, "kind": "train", "time": "now", "loss": 0.5, "learning": 7, "phase": "all", "crc32": 9}
    assert scalars(line) == {"train/loss": 0.5, "train/learning": 7}
