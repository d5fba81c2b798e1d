"""What a checkpoint says: the JSON of files that are there is read, and written again as it was."""

import dataclasses
import json
import tarfile

import pytest
from small_info import GOLDEN, info_of

from jft.evaluation.checkpoint_info import CheckpointInfo

OF_SAVE = ("format", "step", "digests", "crc32")  # which `Checkpoints.save` adds


def stored():
    """(name, JSON) of a run whose head was solved for, and of runs in steps of an earlier version."""
    yield GOLDEN.name, json.loads(GOLDEN.read_text())
    with tarfile.open(GOLDEN.parent / "older_runs.tar.xz") as archive:
        for member in archive:
            if member.name.endswith("/meta/metadata"):
                yield member.name, json.load(archive.extractfile(member))


@pytest.mark.parametrize(("name", "said"), list(stored()), ids=lambda value: value if isinstance(value, str) else "")
def test_what_was_written_is_written_again(name, said):
    found = CheckpointInfo.from_json(said)
    assert found.step == said["step"]
    again = json.loads(json.dumps(found.to_json()))
    assert list(again) == [key for key in said if key not in OF_SAVE]  # in the same order
    renewed = ("config", "weights")  # newer fields have their defaults, and only what the hash proves is claimed
    assert {key: again[key] for key in again if key not in renewed} == {
        key: said[key] for key in again if key not in renewed
    }
    assert CheckpointInfo.from_json({**said, **again}) == found


def test_an_older_one_lacks_what_it_did_not_know():
    said = json.loads(GOLDEN.read_text())
    for key in ("accumulate", "phases", "temperature", "test_digest", "learnt_validation", "data"):
        del said[key]
    said["config"]["accumulate"] = 4
    found = CheckpointInfo.from_json(said)
    assert (found.accumulate, found.phases, found.phase_of(), found.temperature) == (4, (), "", None)
    assert (found.test_digest, found.learnt_validation, found.data, found.stopped) == (None, None, {}, None)
    assert found.num_trained == found.trained_on.count == 200
    said["config"]["accumulate"] = "auto"
    assert CheckpointInfo.from_json(said).accumulate is None


def test_unknown_keys_are_ignored():
    said = json.loads(GOLDEN.read_text())
    newer = {**said, "color": "blue", "cached": {**said["cached"], "all": True}}
    assert CheckpointInfo.from_json(newer) == CheckpointInfo.from_json(said)


def test_what_is_not_known_is_not_written():
    optional = ("test_digest", "skipped", "stopped", "learnt_validation")
    known = info_of(test_digest="ab", skipped=(3,), stopped="enough", learnt_validation=False).to_json()
    assert [known[key] for key in optional] == ["ab", [3], "enough", False]
    assert not {*optional} & {*info_of(**dict.fromkeys(optional)).to_json()}


def test_its_figures():
    info = info_of(history=({"step": 1, "count": 7}, {"step": 2, "count": 88}), learnt_validation=True)
    assert (info.num_validated, info.num_trained) == (88, 288)
    assert dataclasses.replace(info, learnt_validation=False).num_trained == 200
    assert info_of(history=()).num_validated == 0
    two = info_of(step=12, phases=(("probe", 12), ("tune", 30)))
    assert [two.phase_of(), two.phase_of(13), two.phase_of(99)] == ["probe (1 of 2)", *["tune (2 of 2)"] * 2]
    assert two.provenance.row.name == "squeezenet1_1.caffe" and info_of(weights={}).provenance is None
