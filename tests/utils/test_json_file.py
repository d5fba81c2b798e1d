"""JSON that people edit: whatever stands for whatever key, it is taken, or refused in one line that names the file."""

import copy
import dataclasses
import json
import os
import re
from typing import Any, NotRequired, TypedDict

import numpy as np
import pytest
import small_digits

from jft.cli import config_file
from jft.config import as_json, default_config
from jft.data import imagenet
from jft.data.transforms import Preprocess
from jft.evaluation.checkpoint_info import CheckpointInfo
from jft.evaluation.restore import model_of, parallel_of
from jft.features.store import FeatureStore
from jft.training.replay import _logged
from jft.training.run import check_workdir, create_run
from jft.utils import checksum, json_file
from jft.utils.checkpoint import Checkpoints
from jft.utils.logger import Logs, read_metrics
from jft.utils.ranking import best_step

WRONG = (None, "text", [], [None], {}, {"a": []}, 1.5, 7, -1, True, 10**400, float("nan"))


class Inner(TypedDict):
    name: str
    size: NotRequired[int]


@pytest.mark.parametrize(
    ("found", "shape", "problem"),
    [
        (3, int, None),
        (3, float, None),
        (True, int, "it is True, where a whole number is expected"),
        (3.0, int, "it is 3.0, where a whole number is expected"),
        (10**400, float, "where a number is expected"),
        (None, int | None, None),
        ("x", int | None, "it is 'x', where a whole number or null is expected"),
        ([1, "2"], list[int], r"\[1\] is '2', where a whole number is expected"),
        ({"a": [1, None]}, dict[str, list[float]], r"a\[1\] is None, where a number is expected"),
        (["a", 1], tuple[str, int], None),
        (["a"], tuple[str, int], "it has 1 entries, where 2 are expected"),
        ({"name": "x", "other": 3}, Inner, None),
        ({"size": 3}, Inner, "it lacks name"),
        ({"name": "x", "size": "3"}, Inner, "size is '3', where a whole number is expected"),
        ([{"name": 3}], list[Inner], r"\[0\]\.name is 3, where text is expected"),
        ([3], list[Inner], r"\[0\] is 3, where an object is expected"),
        ({}, {"a": int}, None),
        ({"a": "b"}, {"a": int}, "a is 'b', where a whole number is expected"),
        (Preprocess().to_dict(), Preprocess, None),
        ([1, 2], tuple[int, int, int], "it has 2 entries, where 3 are expected"),
        (Preprocess().to_dict() | {"std": [1, "2"]}, Preprocess, r"std\[1\] is '2', where a number"),
        ([[{"deep": 1}]], Any, None),
    ],
)
def test_shapes(found, shape, problem):
    told = json_file.mismatch(found, shape)
    assert told is None if problem is None else re.search(problem, told), told


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b"9" * 5000, b"3", b"[]"])
def test_what_is_no_object_is_one_line(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=r"^\S+a\.json(:| is damaged) .*restore it\.$"):
        json_file.read(path, dict[str, Any], "restore it")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(ValueError, match=r"config\.json is a FIFO, not a regular file"):
        json_file.read(tmp_path / "config.json", dict[str, Any], "restore it")


def edits(value, wrongs=WRONG):
    """(where, the value with one key taken out or of another kind), of every key of an object and of those in it."""
    for key in value:
        yield f"without {key}", {name: held for name, held in value.items() if name != key}
        for wrong in wrongs:
            yield f"{key} = {wrong!r:.20}", {**value, key: wrong}
        inner = value[key][0] if isinstance(value[key], list) and value[key] else value[key]
        if isinstance(inner, dict):
            for where, edited in edits(inner, wrongs):
                yield f"{key}: {where}", {**value, key: edited if inner is value[key] else [edited, *value[key][1:]]}


def survives(path, edited, use):
    """Uses an edited file, and says whether it was refused; anything but a ValueError that names it fails the test."""
    path.write_text(json.dumps(edited))
    try:
        use()
    except ValueError as error:
        assert str(path) in str(error) and "\n" not in str(error), error
        return True
    return False


@pytest.fixture(scope="module")
def meta(tmp_path_factory):
    """What a checkpoint of a run holds."""
    folder = tmp_path_factory.mktemp("meta")
    with small_digits.quick():
        run = create_run(small_digits.make(folder / "features", solver="steps"), folder / "run")
    info = dataclasses.replace(
        run.info(),
        weights={"source": "a", "source_sha256": "ab"},
        pretrained=("params/a",),
        cached={0: True},
        history=({"step": 4, "loss": 1.0, "accuracy": 0.5, "top5": 1.0, "count": 108},),
        temperature=1.5,
        window={"count": 3.0},
        learnt_validation=True,
    )
    return {**info.to_json(), "step": 4, "format": 3, "digests": {"a": 1}}


def test_a_checkpoints_meta(meta):
    refused = 0
    for where, edited in edits(meta, (None, "text", [None], {"a": 3}, 1.5, 10**400)):
        try:
            found = CheckpointInfo.from_json(copy.deepcopy(edited))
        except ValueError as error:
            assert "\n" not in str(error), where
            refused += 1
            continue
        assert found.num_trained and found.phase_of() == ""
        for use in (CheckpointInfo.to_json, parallel_of, model_of):
            use(found)
        best_step(found.history)
    assert refused > 400


def test_a_config_that_is_too_old_for_a_field_has_its_default(meta):
    young = {name: value for name, value in meta["config"].items() if name != "ema"}
    assert CheckpointInfo.from_json({**meta, "config": young}).config == meta["config"]


def test_an_edited_checkpoint_is_named_and_not_used(tmp_path, meta):
    tree = {"params": {"a": np.zeros(3, np.float32)}, "batch_stats": {}}
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(4, tree, {"step": np.int32(4)}, meta)
    checkpoints.close()
    path = tmp_path / "checkpoints" / "4" / "meta" / "metadata"
    whole = checksum.removed(json.loads(path.read_text()))  # as of an earlier version, whose edits show by their types
    reader = Checkpoints(tmp_path, read_only=True, from_json=CheckpointInfo.from_json)
    for edited in ([], 3, {}, {**whole, "history": [3]}, {**whole, "step": 5}, {**whole, "format": "3"}):
        path.write_text(json.dumps(edited))
        with pytest.raises(ValueError, match=f"no checkpoint in {tmp_path}.* can be read; checkpoint 4: .*restore the"):
            reader.best(lambda meta: pytest.fail("used"))
    path.write_text(json.dumps({**whole, "format": 2}))
    with pytest.raises(ValueError, match="has format 2, this jft reads 3: train anew"):
        reader.best(lambda meta: pytest.fail("used"))
    reader.close()


def test_config_json(tmp_path):
    path, config = tmp_path / "config.json", default_config()
    whole = as_json(config)
    several = edits(whole, (None, [None], {"a": 3}))
    refused = sum(survives(path, edited, lambda: config_file.read_config(path)) for _, edited in several)
    assert refused > 2 * len(whole)
    for edited in ([], 3, None, "text"):
        assert survives(path, edited, lambda: config_file.read_config(path))
        assert survives(path, edited, lambda: check_workdir(config, tmp_path))
    for where, edited in edits(whole, (None,)):
        if "background" in edited:  # without it a run is an older one, of another config: test_config.py
            assert survives(path, edited, lambda: check_workdir(config, tmp_path)) == (" = " in where), where


LINE = {
    **{"step": 2, "kind": "train", "loss": 1.0, "accuracy": 0.5, "learning_rate": 0.1, "images_per_second": 3.0},
    **{"seconds": 1.0, "waiting": 0.1, "phase": "training", "boundary": "fc7", "learning": 5, "batch_norm": "none"},
}


def test_metrics(tmp_path):
    path = tmp_path / "metrics.jsonl"

    def used():
        path.write_text(f"{path.read_text()}\n{json.dumps(LINE)}\n")
        for line in read_metrics(tmp_path):
            assert {*line} >= {"step", "kind"}

    refused = sum(survives(path, edited, used) for _, edited in edits(LINE))
    assert refused > 90
    for text in ("3", "[]", "null", '"text"', "{}", '{"step": 3, "ki'):
        path.write_text(f"{json.dumps(LINE)}\n{text}\n{json.dumps(LINE)}\n")
        for use in (lambda: read_metrics(tmp_path), lambda: Logs(tmp_path, 2), lambda: _logged(tmp_path, 0, 2)):
            with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2.*mend the line, or delete it\.$"):
                use()
    path.write_text(f'{json.dumps(LINE)}\n{{"step": 3, "ki')  # cut off when the run was killed
    assert read_metrics(tmp_path) == [LINE]


def test_the_manifest_of_cached_features(tmp_path, caplog):
    store = FeatureStore(tmp_path, {}, (1, 3))
    digest = np.zeros((1, 16), np.uint8)
    store.write(digest, np.zeros((1, 1, 3), np.float32))
    [path] = store.folder.glob("shard-*/manifest.json")
    whole, shard = json.loads(path.read_text()), path.parent
    for where, edited in edits(whole):
        path.write_text(json.dumps(edited))
        caplog.clear()
        with caplog.at_level("WARNING", logger="absl"):
            lacks = len(FeatureStore(tmp_path, {}, (1, 3)).missing(digest))
        assert lacks == (not where.startswith(("pictures =", "without pictures"))), where
        assert not lacks or (str(shard) in caplog.text and "computed anew" in caplog.text), where
        for aside in store.folder.glob("damaged-*"):
            aside.rename(shard)


def test_the_index_of_imagenets_classes(tmp_path):
    path = tmp_path / imagenet.CLASS_INDEX
    for edited in (*WRONG, {"0": []}, {"0": [3]}, {"1": ["n01440764", "tench"]}):
        assert survives(path, edited, lambda: imagenet.class_ids(tmp_path))
