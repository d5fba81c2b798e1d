"""Weights & Biases (offline) and MLflow (a store of files): what lies in their folders is what the log says.

They are in no extra of the tests': `pip install ".[wandb]" ".[mlflow]"` to run these.
"""

import importlib.util
import json
import logging
import struct

import pytest
from PIL import Image

from jft.config import as_json, default_config
from jft.utils.logger import Logs, read_metrics, write_json
from jft.utils.trackers.follow import scalars
from jft.utils.trackers.log_tail import Told
from jft.utils.trackers.processes import following


def followed_twice(tracker, workdir):
    """Of a run that was killed after step 6 and resumed at 4: the lines of its log with numbers."""
    if importlib.util.find_spec(tracker) is None:
        pytest.skip(f"{tracker} is not installed: pip install 'jft[{tracker}]'")
    workdir.mkdir()
    write_json(workdir / "config.json", as_json(default_config()))
    for steps, resumed_at, state in (((2, 4, 6), 0, "interrupted"), ((6, 8), 4, "finished")):
        with following(workdir, [tracker], grace=60) as followed:
            logs = Logs(workdir, resumed_at)
            if not resumed_at:
                logs.text(0, "run", "a < b\n  c")
                logs.image(0, "training images", Image.new("RGB", (4, 3)))
            for step in steps:
                logs.write(step, "validation", {"loss": 1 / step, "count": step})
                logs.write(step, "checkpoint", {"seconds": 0.1 * step})
            logs.close()
            followed.state = state
    return [line for line in read_metrics(workdir) if line["kind"] not in ("text", "image")]


def test_weights_and_biases_holds_the_numbers_of_the_log(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("WANDB_MODE", "offline")
    with caplog.at_level(logging.WARNING):
        lines = followed_twice("wandb", tmp_path / "run")
    assert not [record for record in caplog.records if "tracker" in record.getMessage()]
    folders = sorted((tmp_path / "run" / "trackers" / "wandb").glob("offline-run-*"))
    rows = [row for folder in folders for row in history(next(folder.glob("*.wandb")))]
    told = [(row.pop("step"), row) for row in rows if any("/" in name for name in row)]
    assert told == [(line["step"], scalars(line)) for line in lines]
    assert {folder.name.rpartition("-")[2] for folder in folders} == {Told.read(note(tmp_path, "wandb")).id}
    assert list(folders[0].rglob("*.png")) and list(folders[0].rglob("*.html"))


def history(path):
    """Rows of a file that Weights & Biases wrote, without its own columns."""
    from wandb.proto.wandb_internal_pb2 import Record

    for data in records(path.read_bytes()):
        record = Record.FromString(data)
        if record.WhichOneof("record_type") == "history":
            items = {item.key or ".".join(item.nested_key): item.value_json for item in record.history.item}
            yield {key: json.loads(value) for key, value in items.items() if not key.startswith("_")}


def records(content):
    """Of a log in LevelDB's format: blocks of 32 KiB; pieces of checksum, length and type: whole, first, middle, last.

    See https://github.com/google/leveldb/blob/main/doc/log_format.md; the file has a header of 7 bytes.
    """
    place, parts = 7, []
    while len(content) - place >= 7:
        length, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        parts.append(content[place + 7 : place + 7 + length])
        place += 7 + length
        place += left if (left := -place % 32768) < 7 else 0
        if kind in (1, 4):
            yield b"".join(parts)
            parts = []


def test_mlflow_holds_the_numbers_of_the_log(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    with caplog.at_level(logging.WARNING):
        lines = followed_twice("mlflow", tmp_path / "run")
    assert not [record for record in caplog.records if "tracker" in record.getMessage()]
    from mlflow import MlflowClient

    client = MlflowClient((tmp_path / "store").as_uri())
    [experiment] = [one for one in client.search_experiments() if one.name == "jft"]
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.run_id == Told.read(note(tmp_path, "mlflow")).id and run.info.status == "FINISHED"
    for tag in ("validation/loss", "validation/count", "checkpoint/seconds"):
        wanted = [(line["step"], scalars(line)[tag]) for line in lines if tag in scalars(line)]
        assert [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, tag)] == wanted
    assert run.data.params["model"] == "vgg19" and len(run.data.params) == len(default_config())
    assert {one.path for one in client.list_artifacts(run.info.run_id)} == {"run_0.txt", "images"}


def note(tmp_path, tracker):
    return tmp_path / "run" / "trackers" / f"{tracker}.json"
