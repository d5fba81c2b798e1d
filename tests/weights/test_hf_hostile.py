"""Files and answers of a repository that lie: about sizes, names and keys. See test_hf.py for configs and links."""

import dataclasses
import json
import struct
import threading

import numpy as np
import pytest
import safetensors.numpy
import small_files
import small_hub

from jft.models import create_model
from jft.utils.cache_dir import cache_dir
from jft.weights import hub
from jft.weights.catalog import choose_set
from jft.weights.target import leaf_shapes

NAME = "head.fc.weight"


@pytest.fixture(autouse=True)
def small(monkeypatch):
    small_files.shrink(monkeypatch)


def loaded(row):
    return hub.load(row, leaf_shapes(create_model(row.model, **row.file_options), row.preprocess.size))


def told(**fields):
    """The file, whose header says something else of one tensor."""
    file = small_hub.files()["model.safetensors"]
    end = 8 + struct.unpack("<Q", file[:8])[0]
    header = json.loads(file[8:end])
    header[NAME] |= {key: header[value][key] if key == "data_offsets" else value for key, value in fields.items()}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + file[end:]


def held(**tensors):
    return safetensors.numpy.save(small_hub.tensors() | tensors)


LIES = {
    "a header of an exabyte": (lambda: struct.pack("<Q", 2**60) + held()[8:], "its header claims 1152921504606846976"),
    "half a file": (lambda: held()[:-1000], "file not fully covered"),
    "more behind it": (lambda: held() + b"more", "file not fully covered"),
    "another shape": (lambda: told(shape=[3, 65]), "invalid shape, data type, or offset"),
    "an endless shape": (lambda: told(shape=[2**40, 2**40]), "overflow computing buffer size"),
    "a negative shape": (lambda: told(shape=[-3, -64]), "invalid JSON in header"),
    "a type that runs": (lambda: told(dtype="PICKLE"), "unknown variant `PICKLE`"),
    "the place of another tensor": (lambda: told(data_offsets="head.fc.bias"), "header: invalid .*offset"),
    "whole numbers": (lambda: held(**{NAME: np.zeros((3, 64), "i4")}), r"head.fc.weight int32 \[3, 64\] does not give"),
    "no numbers": (lambda: held(**{NAME: np.full((3, 64), np.nan, "f4")}), r"holding NaN or infinity \(1\)"),
    "a name that climbs": (lambda: held(**{"../../x": np.zeros(3, "f4")}), r"unexpected \(1\):\s+\.\./\.\./x"),
}


@pytest.mark.parametrize("name", LIES)
def test_files_that_lie(tmp_path, name):
    make, message = LIES[name]
    folder = small_hub.write_folder(tmp_path / "trees")
    (folder / "model.safetensors").write_bytes(make())
    with pytest.raises(ValueError, match=message):
        loaded(choose_set(f"hf:{folder}"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trees"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"auto_map": "evil.Model"}, "model_args has auto_map = evil.Model, which jft's convnext_tiny has not"),
        ({"in_chans": [3]}, r"model_args has in_chans = \[3\], against 3 elsewhere"),
        ({"img_size": {"__reduce__": 1}}, "model_args has img_size = .*, against 32 elsewhere"),
        ({"img_size": 10**9}, "model_args has img_size = 1000000000, against 32 elsewhere"),
        ({"global_pool": ["avg"]}, "global_pool is "),
    ],
)
def test_arguments_that_lie(tmp_path, arguments, message):
    folder = small_hub.write_folder(tmp_path / "trees", small_hub.CONFIG | {"model_args": arguments})
    with pytest.raises(ValueError, match=message):
        choose_set(f"hf:{folder}")


def test_a_key_that_is_said_twice(tmp_path):
    """One program reads the first, another the last."""
    folder = small_hub.write_folder(tmp_path / "trees")
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config[:-1] + ', "architecture": "vgg16"}')
    with pytest.raises(ValueError, match=r"config.json is damaged \(it says 'architecture' twice\)"):
        choose_set(f"hf:{folder}")


@pytest.fixture
def answer(monkeypatch):
    """A hub, of whose answers one header can be changed."""
    server = small_hub.Hub()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    send = small_hub._Handler.send_header

    def change(name, value):
        monkeypatch.setattr(
            small_hub._Handler, "send_header", lambda self, key, own: send(self, key, value if key == name else own)
        )
        return choose_set("hf:you/trees")

    yield change
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("size", ["many", "-5", "9" * 30])
def test_a_size_that_is_none(answer, size):
    with pytest.raises(ValueError, match=f"the hub gives model.safetensors a size of '{size}' bytes. Download config"):
        answer("X-Linked-Size", size)
    assert not list(cache_dir().glob("downloads/*"))


def test_a_commit_that_climbs_is_not_followed(answer):
    assert answer("X-Repo-Commit", "../../../etc").url.endswith("/you/trees/resolve/main/model.safetensors")


def test_a_redirection_to_this_machine_is_not_followed(answer):
    row = answer("Location", "file:///etc/hostname")
    with pytest.raises(ValueError, match=r"could not be downloaded: .*file:///etc/hostname' is not allowed"):
        loaded(row)
    assert not list(cache_dir().glob("downloads/you*.safetensors*"))


def test_a_file_of_another_size_than_the_hub_said(answer):
    row = answer("X-Linked-ETag", '"no digest"')
    assert row.sha256 is None
    with pytest.raises(ValueError, match=r"it has 0\.3 MiB, the published file has 9\.3"):
        loaded(dataclasses.replace(row, size=row.size + 9))
