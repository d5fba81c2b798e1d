"""CIFAR-10 from its author's files: a folder, an archive, whole, cut short, broken and hostile."""

import gzip
import io
import os
import pickle
import tarfile
import tracemalloc

import numpy as np
import pytest
from absl import logging

from jft.data import datasets, tar
from jft.utils import safe_pickle

NAMES = b"airplane automobile bird cat deer dog frog horse ship truck".split()
FILES = ("batches.meta", *(f"data_batch_{i}" for i in range(1, 6)), "test_batch")


def load(data_dir, split, **options):
    return datasets.load_source(
        "cifar10", split=split, data_dir=str(data_dir), seed=0, **{"validation": 0.2, **options}
    )


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
    assert test.images.shape == (20, 32, 32, 3) and test.images.dtype == np.uint8
    assert test.images[3, 5, 7].tolist() == [red[5 * 32 + 7], green[5 * 32 + 7], blue[5 * 32 + 7]]
    assert test.labels.tolist() == [i % 10 for i in range(20)]


def test_a_set_cut_short_has_as_many_examples_as_images(tmp_path):
    write_folder(tmp_path / "cifar-10-batches-py", official(rows=13, labels=10_000))
    assert len(load(tmp_path, "test")) == 13 and len(load(tmp_path, "all")) == 6 * 13


def test_another_md5_is_a_warning(tmp_path, monkeypatch):
    warnings = []
    monkeypatch.setattr(logging, "warning", lambda message, *args: warnings.append(message % args))
    write_archive(tmp_path / "cifar-10-python.tar.gz", official())
    load(tmp_path, "test")
    load(tmp_path, "train")
    assert len(warnings) == 1 and "the official one c58f30108f718f92721af3b95e74349a" in warnings[0]


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


DOUBLED = []  # and so on, forty times: 2^40 elements to whatever makes an array or a text of it
for _ in range(40):
    DOUBLED = [DOUBLED, DOUBLED]


def batch(**entries):
    whole = {"data": np.zeros((20, 3072), np.uint8), "labels": [0] * 20}
    return pickle.dumps(whole | entries, 2)


def without(name):
    return {key: value for key, value in official().items() if key != name}


@pytest.mark.parametrize(
    "files,message",
    [
        (without("data_batch_3"), r"lacks .*data_batch_3.*https://www.cs.toronto.edu"),
        (official() | {"data_batch_2": official()["data_batch_2"][:500]}, "data_batch_2 is not a batch of CIFAR-10"),
        (official() | {"data_batch_2": pickle.dumps([1, 2])}, "data_batch_2 is not a batch of CIFAR-10"),
        (official() | {"data_batch_2": pickle.dumps({b"labels": [1]})}, "holds NoneType data"),
        (official(rows=20, labels=19), "20 images and 19 labels"),
        (official(labels=1000) | {"data_batch_2": batch(labels=[10] * 20)}, "20 images and 0 labels of 0 to 9"),
        (official() | {"data_batch_2": batch(labels=[2**70] * 20)}, "20 images and 0 labels of 0 to 9"),
        (official() | {"data_batch_2": batch(labels=DOUBLED)}, "20 images and 0 labels of 0 to 9"),
        (official() | {"data_batch_2": batch(data=DOUBLED)}, "holds list data"),
        (official() | {"data_batch_2": batch(data=np.zeros((20, 3071), np.uint8))}, r"uint8 \[20, 3071\] data"),
        (official() | {"batches.meta": pickle.dumps({b"label_names": NAMES[:9]})}, "does not name CIFAR-10's 10"),
        (official() | {"batches.meta": pickle.dumps({b"label_names": [DOUBLED] * 10})}, "does not name CIFAR-10's 10"),
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


def member(name="cifar-10-batches-py/batches.meta", type=tarfile.REGTYPE, size=0, content=b"", **facts) -> bytes:
    """A member of a tar as it stands there, whatever it claims."""
    header = tarfile.TarInfo(name)
    header.type, header.size = type, size
    for fact, value in facts.items():
        setattr(header, fact, value)
    return header.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


def sparse_giant() -> bytes:
    """GNU's old way to say that a file of nothing has eight gigabytes, after a hole."""
    text = bytearray(member(type=tarfile.GNUTYPE_SPARSE))
    text[386:410] = b"00000000000\0" * 2
    text[483:495] = b"%011o\0" % (2**33 - 1)
    text[148:156] = b" " * 8
    text[148:156] = b"%06o\0 " % sum(text[:512])
    return bytes(text)


PAX = (b"%d comment=" % 7_000_000).ljust(7_000_000, b"a")
HOSTILE = {
    "pax header of megabytes": (member(type=tarfile.XHDTYPE, size=7_000_000, content=PAX), "claims 7000000 bytes"),
    "pax header of the whole archive": (member(type=tarfile.XGLTYPE, size=2**20), "claims 1048576 bytes"),
    "pax header of terabytes": (member(type=tarfile.XHDTYPE, size=2**42), "claims 4398046511104 bytes"),
    "long name of megabytes": (member(type=tarfile.GNUTYPE_LONGNAME, size=2**20), "claims 1048576 bytes"),
    "long link of megabytes": (member(type=tarfile.GNUTYPE_LONGLINK, size=2**20), "claims 1048576 bytes"),
    "file of gigabytes": (member(size=2**33), "batches.meta' in it claims 8589934592 bytes"),
    "file of negative size": (member(size=-512), "claims -512 bytes"),
    "sparse giant": (sparse_giant(), "batches.meta' in it is a file with holes"),
    "hard link": (member(type=tarfile.LNKTYPE, linkname="/etc/passwd"), "batches.meta' in it is a hard link"),
    "symbolic link": (member(type=tarfile.SYMTYPE, linkname="/etc/passwd"), "batches.meta' in it is a symbolic link"),
    "character device": (member(type=tarfile.CHRTYPE, devmajor=1, devminor=5), "batches.meta' in it is a device"),
    "block device": (member(type=tarfile.BLKTYPE, devmajor=8), "batches.meta' in it is a device"),
    "FIFO": (member(type=tarfile.FIFOTYPE), "batches.meta' in it is a FIFO"),
    "unknown type": (member(type=b"Z"), "of the unknown type b'Z'"),
    "parent folder": (member("cifar-10-batches-py/../../batches.meta"), "a place outside of the archive"),
    "absolute path": (member("/etc/batches.meta"), "a place outside of the archive"),
    "cut off in a file": (member(size=1000, content=b"abc"), "it ends in the middle of a file"),
    "wrong sum": (member().replace(b"batches", b"catches"), "bad checksum"),
}  # fmt: skip


@pytest.mark.parametrize("packed", [False, True], ids=["tar", "tar.gz"])
@pytest.mark.parametrize(("text", "message"), HOSTILE.values(), ids=HOSTILE)
def test_archives_of_strangers(tmp_path, text, message, packed):
    path = tmp_path / "cifar-10-python.tar.gz"
    path.write_bytes(gzip.compress(text, 1) if packed else text)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"cannot read .*cifar-10-python\.tar\.gz \(.*Download https") as error:
            load(path, "train")
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()
    assert message in str(error.value)


def test_a_gzip_bomb_is_given_up(tmp_path, monkeypatch):
    """Zeros a thousandfold, in members that nobody asked for."""
    monkeypatch.setattr(tar, "_MAX_TOTAL", 2**22)
    path = tmp_path / "cifar-10-python.tar.gz"
    text = b"".join(member(f"{i}", size=2**20, content=bytes(2**20)) for i in range(5))
    path.write_bytes(gzip.compress(text))
    with pytest.raises(ValueError, match="it unpacks to more than 4194304 bytes"):
        load(path, "train")


def test_archives_made_anew_are_read(tmp_path):
    """By Python, which writes times in pax headers; with a file beside the batches, and folders."""
    files = {"readme.html": b"x" * 700, **official()}
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        folder = tarfile.TarInfo("cifar-10-batches-py")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in files.items():
            header = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            header.size, header.mtime, header.pax_headers = len(content), 1234.5, {"comment": "é" * 100}
            archive.addfile(header, io.BytesIO(content))
    assert len(load(tmp_path / "a.tar.gz", "all")) == 120


def test_a_batch_that_is_too_large_is_not_read(tmp_path):
    folder = write_folder(tmp_path / "cifar-10-batches-py", official())
    with (folder / "data_batch_3").open("r+b") as file:
        file.truncate(2**33)  # a hole
    with pytest.raises(ValueError, match=r"data_batch_3 has 8589934592 bytes; the official files have 31 million"):
        load(tmp_path, "train")


def test_real_cifar(real_data):
    parts = {split: load(real_data / "cifar10", split, validation=0.1) for split in ("train", "validation", "test")}
    assert {split: len(part) for split, part in parts.items()} == {"train": 4577, "validation": 508, "test": 1017}
    assert parts["test"].class_names[3] == "cat"
    assert parts["test"].labels[:4].tolist() == [3, 8, 8, 0]  # a cat, two ships and an airplane, as everybody knows
    shares = [np.bincount(part.labels) / len(part) for part in parts.values()]
    assert np.abs(shares[0] - shares[1]).max() < 0.003
