"""CIFAR-10 from its author's files: a folder, an archive, whole, cut short, broken and hostile."""

import io
import os
import pickle
import tarfile

import numpy as np
import pytest
from absl import logging

from jft import safe_pickle
from jft.data import sources

NAMES = b"airplane automobile bird cat deer dog frog horse ship truck".split()
FILES = ("batches.meta", *(f"data_batch_{i}" for i in range(1, 6)), "test_batch")


def load(data_dir, split, **options):
    return sources.load_source("cifar10", split=split, data_dir=str(data_dir), seed=0, **{"validation": 0.2, **options})


def official(rows=20, labels=20):
    """{file name: pickled bytes} in the official layout, from a seed."""
    rng = np.random.default_rng(0)
    files = {"batches.meta": {b"num_cases_per_batch": rows, b"label_names": NAMES, b"num_vis": 3072}}
    for name in FILES[1:]:
        data = rng.integers(0, 256, (rows, 3072), dtype=np.uint8)
        files[name] = {b"batch_label": b"", b"labels": [i % 10 for i in range(labels)], b"data": data, b"filenames": []}
    return {name: pickle.dumps(content, protocol=2) for name, content in files.items()}


def write_folder(root, files):
    root.mkdir(parents=True)
    for name, content in files.items():
        (root / name).write_bytes(content)
    return root


def write_archive(path, files, prefix="cifar-10-batches-py/"):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(prefix + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("layout", ["folder", "folder itself", "archive", "archive itself"])
def test_every_place_gives_the_same(tmp_path, layout):
    files = official()
    if layout.startswith("folder"):
        write_folder(tmp_path / "cifar-10-batches-py", files)
        data_dir = tmp_path / "cifar-10-batches-py" if "itself" in layout else tmp_path
    else:
        path = write_archive(tmp_path / "cifar-10-python.tar.gz", files)
        data_dir = path if "itself" in layout else tmp_path
    before = sorted(os.walk(tmp_path))
    train, validation, test = (load(data_dir, split) for split in ("train", "validation", "test"))
    assert sorted(os.walk(tmp_path)) == before  # nothing is unpacked
    assert [len(s) for s in (train, validation, test)] == [80, 20, 20]
    assert train.class_names == tuple(name.decode() for name in NAMES)
    assert sorted([*train.indices, *validation.indices]) == list(range(100))
    planes = pickle.loads(files["test_batch"], encoding="bytes")[b"data"][3]
    red, green, blue = planes[:1024], planes[1024:2048], planes[2048:]
    assert test.pictures.shape == (20, 32, 32, 3) and test.pictures.dtype == np.uint8
    assert test.pictures[3, 5, 7].tolist() == [red[5 * 32 + 7], green[5 * 32 + 7], blue[5 * 32 + 7]]
    assert test.labels.tolist() == [i % 10 for i in range(20)]


def test_a_set_cut_short_has_as_many_examples_as_pictures(tmp_path):
    write_folder(tmp_path / "cifar-10-batches-py", official(rows=13, labels=10_000))
    assert len(load(tmp_path, "test")) == 13 and len(load(tmp_path, "all")) == 6 * 13


def test_another_md5_is_a_warning(tmp_path, monkeypatch):
    warnings = []
    monkeypatch.setattr(logging, "warning", lambda message, *args: warnings.append(message % args))
    write_archive(tmp_path / "cifar-10-python.tar.gz", official())
    load(tmp_path, "test")
    load(tmp_path, "train")
    assert len(warnings) == 1 and "not c58f30108f718f92721af3b95e74349a" in warnings[0]


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["batches.meta", "data_batch_4"])
@pytest.mark.parametrize("write", [write_folder, write_archive])
def test_a_pickle_that_would_run_code_is_refused(tmp_path, name, write):
    files = official()
    files[name] = pickle.dumps({b"labels": [Evil(tmp_path / "evil")], b"label_names": []}, protocol=2)
    write(tmp_path / ("cifar-10-batches-py" if write is write_folder else "cifar-10-python.tar.gz"), files)
    with pytest.raises(safe_pickle.UnsafePickleError, match=rf"{name}: the pickle names '(posix|nt).mkdir'"):
        load(tmp_path, "train")
    assert not (tmp_path / "evil").exists()


def without(name):
    return {key: value for key, value in official().items() if key != name}


@pytest.mark.parametrize(
    "files,message",
    [
        (without("data_batch_3"), r"lacks .*data_batch_3.*https://www.cs.toronto.edu"),
        (official() | {"data_batch_2": official()["data_batch_2"][:500]}, "data_batch_2 is not a batch of CIFAR-10"),
        (official() | {"data_batch_2": pickle.dumps([1, 2])}, "data_batch_2 is not a batch of CIFAR-10"),
        (official() | {"data_batch_2": pickle.dumps({b"labels": [1]})}, r"float64 \[0\] and 1 labels"),
        (official(rows=20, labels=19), r"uint8 \[20, 3072\] and 19 labels"),
        (official() | {"batches.meta": pickle.dumps({b"label_names": NAMES[:9]})}, "does not name CIFAR-10's 10"),
    ],
)
@pytest.mark.parametrize("write", [write_folder, write_archive])
def test_broken_files_are_named(tmp_path, files, message, write):
    write(tmp_path / ("cifar-10-batches-py" if write is write_folder else "cifar-10-python.tar.gz"), files)
    with pytest.raises(ValueError, match=message):
        load(tmp_path, "train")


@pytest.mark.parametrize("cut", [0, 10, 30_000, 200_000])
def test_broken_archives_are_named(tmp_path, cut):
    path = write_archive(tmp_path / "cifar-10-python.tar.gz", official())
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"(cannot read|tar.gz lacks).*MD5 c58f30108f718f92721af3b95e74349a"):
        load(tmp_path, "train")


def test_members_that_are_no_files_or_too_large_are_not_read(tmp_path):
    path = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        link = tarfile.TarInfo("cifar-10-batches-py/batches.meta")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(ValueError, match=r"lacks cifar-10-batches-py/batches.meta"):
        load(path, "train")


def test_real_cifar(real_data):
    parts = {split: load(real_data / "cifar10", split, validation=0.1) for split in ("train", "validation", "test")}
    assert {split: len(part) for split, part in parts.items()} == {"train": 4577, "validation": 508, "test": 1017}
    assert parts["test"].class_names[3] == "cat"
    assert parts["test"].labels[:4].tolist() == [3, 8, 8, 0]  # a cat, two ships and an airplane, as everybody knows
    shares = [np.bincount(part.labels) / len(part) for part in parts.values()]
    assert np.abs(shares[0] - shares[1]).max() < 0.003
