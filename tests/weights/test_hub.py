"""The store against a local server: what is fetched is whole, checked, kept, and converted once."""

import errno
import hashlib
import http.server
import os
import re
import shutil
import stat
import threading
from concurrent import futures
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import safetensors.numpy

from jft.data.transforms import Preprocess
from jft.utils import files
from jft.utils.cache_dir import cache_dir
from jft.weights import download, hub, provenance, readers
from jft.weights.catalog import WeightSet

RNG = np.random.default_rng(0)
LEAVES = {
    "params/conv1/kernel": RNG.standard_normal((3, 3, 3, 8), np.float32),
    "params/head/kernel": RNG.standard_normal((400, 1000), np.float32),
    "params/head/bias": RNG.standard_normal(1000, np.float32),
}
TARGET = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in LEAVES.items()}
FILE = safetensors.numpy.save(LEAVES)
SHA256 = hashlib.sha256(FILE).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves `content`; notes the Range of each request; misbehaves as told."""

    content, cut, status, ranges_work, announced, shift = FILE, None, 200, True, True, 0

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[str | None] = []
        self.gate = threading.Event()
        self.gate.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/weights.safetensors"

    def handle_error(self, *_):
        """Says nothing of a client that hung up: some are meant to."""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, asked = self.server, self.headers["Range"]
        server.requests.append(asked)
        server.gate.wait(20)
        if server.status != 200:
            return self.send_error(server.status)
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and server.ranges_work else 0
        if start >= len(server.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
            return self.end_headers()
        self.send_response(206 if start else 200)
        if start:
            end = len(server.content)
            self.send_header("Content-Range", f"bytes {start + server.shift}-{end - 1}/{end}")
        if server.announced:
            self.send_header("Content-Length", str(len(server.content) - start))
        self.end_headers()
        self.wfile.write(server.content[start : server.cut])  # and closes the connection

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


def make_row(url: str) -> WeightSet:
    return WeightSet(
        model="squeezenet1_1",
        tag="test",
        dialect="jft",
        filename="weights.safetensors",
        url=url,
        sha256=SHA256[:8],
        md5=hashlib.md5(FILE).hexdigest(),
        size=len(FILE) / 2**20,
        license="Apache-2.0",
        num_params=1,
        top1=None,
        top5=None,
        preprocess=Preprocess(),
    )


@pytest.fixture
def row(server):
    return make_row(server.url)


def change(row, **fields) -> WeightSet:
    return WeightSet(**{**row.__dict__, **fields})


def downloads() -> dict[str, bytes]:
    """What lies in the cache's folder of downloads; an empty lock may."""
    folder = cache_dir() / "downloads"
    files = folder.iterdir() if folder.exists() else ()
    return {path.name: path.read_bytes() for path in files if not path.name.endswith(".lock")}


def put_part(text: bytes) -> None:
    folder = cache_dir() / "downloads"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.safetensors.part").write_bytes(text)


def refused(row, message: str, **options) -> str:
    """The one error, which must say what to do by hand."""
    with pytest.raises(ValueError, match=message) as error:
        hub.fetch(row, **options)
    text = str(error.value)
    assert text.count("Get weights.safetensors (2 MiB, ") == 1 and "\n" not in text
    assert (
        f"put it at {cache_dir() / 'downloads' / row.filename}; or give its path as weights_path to what needs it."
        in text
    )
    assert row.url is None or f"from {row.url}" in text
    return text


# Finding


@pytest.mark.parametrize(
    ("mode", "owner", "group", "problem"),
    [
        (0o755, 1000, 100, None),
        (0o775, 1000, 1000, None),  # a group of the user's own
        (0o775, 1000, 100, "may be written by the group staff"),
        (0o777, 1000, 1000, "may be written by all users"),
        (0o1777, 0, 0, "may be written by all users"),  # as /tmp
        (0o755, 0, 0, None),
        (0o775, 0, 0, None),
        (0o755, 1001, 1001, "belongs to another user (1001)"),
    ],
)
def test_who_else_may_write_into_a_folder(monkeypatch, mode, owner, group, problem):
    names = {100: "staff", 1000: "me"}
    monkeypatch.setattr(files.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(files.pwd, "getpwuid", lambda n: SimpleNamespace(pw_name=names[n]))
    monkeypatch.setattr(files.grp, "getgrgid", lambda n: SimpleNamespace(gr_name=names[n]))
    status = os.stat_result((stat.S_IFDIR | mode, 1, 1, 2, owner, group, 0, 0, 0, 0))
    assert files.other_writers(SimpleNamespace(stat=lambda: status)) == problem


def test_a_cache_that_others_may_write_is_refused(row, tmp_path, monkeypatch):
    monkeypatch.setenv("JFT_CACHE", str(tmp_path))
    tmp_path.chmod(0o777)
    with pytest.raises(ValueError, match=f"the cache {tmp_path} may be written by all users, .* or set JFT_CACHE to a"):
        hub.locate(row)
    tmp_path.chmod(0o755)
    assert hub.locate(row) is None


def test_a_weight_file_that_is_no_file_is_not_waited_for(row, tmp_path):
    os.mkfifo(tmp_path / row.filename)
    with pytest.raises(ValueError, match=f"{tmp_path / row.filename} is a FIFO, not a regular file"):
        hub.fetch(row, tmp_path)


def test_locate(row, tmp_path):
    assert hub.locate(row) is None
    other = tmp_path / "renamed.bin"
    other.write_bytes(FILE)
    assert hub.locate(row, other) == other
    with pytest.raises(ValueError, match=r"has no weights\.safetensors.*holds renamed\.bin"):
        hub.locate(row, tmp_path)
    with pytest.raises(ValueError, match=r"nowhere does not exist"):
        hub.locate(row, tmp_path / "nowhere")
    shutil.copy(other, tmp_path / row.filename)
    assert hub.locate(row, str(tmp_path)) == tmp_path / row.filename


def test_weights_path_goes_before_the_cache_and_the_network(row, server, tmp_path):
    path, _ = hub.fetch(row)
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(safetensors.numpy.save({"params/x": np.zeros(1)}))
    assert hub.fetch(row, mine) == (mine, hashlib.sha256(mine.read_bytes()).hexdigest())
    assert hub.fetch(row) == (path, SHA256)
    assert server.requests == [None]  # the second time it was in the cache


# Fetching


def test_download(row, server):
    assert hub.fetch(row) == (cache_dir() / "downloads" / row.filename, SHA256)
    assert downloads() == {row.filename: FILE}
    assert not list((cache_dir() / "downloads").glob(".*"))


@pytest.mark.parametrize("announced", [True, False])
def test_broken_download_goes_on_where_it_stopped(row, server, announced):
    server.cut, server.announced = 1_000_001, announced
    if announced:
        refused(row, r"1,000,001 of 1,605,\d+ bytes came")
    else:  # its end looks like any other, but for the hash
        put_part(FILE[: server.cut])
    assert downloads() == {"weights.safetensors.part": FILE[:1_000_001]}
    server.cut, server.requests = None, []
    hub.fetch(row)
    assert server.requests == ["bytes=1000001-"]
    assert downloads() == {row.filename: FILE}


def test_server_that_knows_no_ranges(row, server):
    put_part(FILE[:5000])
    server.ranges_work = False
    hub.fetch(row)
    assert server.requests == ["bytes=5000-"] and downloads() == {row.filename: FILE}


def test_part_that_is_whole(row, server):
    """Killed between the last byte and the renaming."""
    put_part(FILE)
    hub.fetch(row)
    assert server.requests == [f"bytes={len(FILE)}-"] and downloads() == {row.filename: FILE}


def test_part_that_is_too_long(row, server):
    put_part(FILE + b"more")
    hub.fetch(row)
    assert server.requests == [f"bytes={len(FILE) + 4}-", None] and downloads() == {row.filename: FILE}


def test_part_of_another_file(row, server):
    """Only the hash shows it; then nothing of it may stay, so that the next try is clean."""
    put_part(b"other" * 100)
    refused(row, "its SHA-256 is")
    assert downloads() == {}
    hub.fetch(row)
    assert downloads() == {row.filename: FILE}


def test_server_that_goes_on_elsewhere(row, server):
    put_part(FILE[:5000])
    server.shift = 7
    refused(row, "not at byte 5000")
    assert downloads() == {"weights.safetensors.part": FILE[:5000]}


@pytest.mark.parametrize("fields", [{"sha256": "0" * 8}, {"sha256": "0" * 64}, {"sha256": None, "md5": "0" * 32}])
def test_wrong_hash(row, server, fields):
    row = change(row, **fields)
    found, published = (row.md5, hashlib.md5(FILE).hexdigest()) if not row.sha256 else (row.sha256, SHA256)
    text = refused(row, "could not be downloaded: its (MD5|SHA-256) is")
    assert found in text and published in text
    assert downloads() == {}


def test_file_without_published_hash(row, server):
    row = change(row, sha256=None, md5=None)
    assert "no published hash" in refused(change(row, url=None), "no official download")
    server.content = b"<html>log in first</html>"
    refused(row, r"it has 0.0 MiB, the published file has 1.5")
    assert downloads() == {}
    server.content = FILE
    assert hub.fetch(row)[1] == SHA256


def test_checkpoint_without_published_hash_may_lack_the_momentum(row, server):
    row = change(row, sha256=None, md5=None, size=2 * row.size)
    with pytest.raises(ValueError, match=r"it has 1\.5 MiB, the published file has 3\.1"):
        hub.fetch(row)
    assert hub.fetch(change(row, filename="weights.ckpt"))[1] == SHA256


@pytest.mark.parametrize(("status", "message"), [(404, "HTTP Error 404"), (503, "HTTP Error 503")])
def test_http_errors(row, server, status, message):
    server.status = status
    refused(row, message)
    assert downloads() == {}


def test_no_network(row, server):
    server.shutdown()
    server.server_close()
    text = refused(row, "refused")
    assert SHA256[:8] in text and row.md5 in text


def test_server_that_says_nothing(row, server, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    server.gate.clear()
    refused(row, "timed out")
    server.gate.set()


def test_no_official_download(row):
    refused(change(row, url=None), "has no official download")


def full_disk(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_full_disk(row, server, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(download.os, "fsync", full_disk)
        refused(row, "No space left on device")
    assert row.filename not in downloads()
    hub.fetch(row)
    assert downloads() == {row.filename: FILE}


def test_cache_that_is_no_folder(row, server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("JFT_CACHE", str(tmp_path / "file"))
    refused(row, "Not a directory|File exists")


@pytest.mark.parametrize("folder", [True, False])
def test_damaged_file(row, server, folder, tmp_path):
    """It may be the user's: refused, with both hashes, and left alone."""
    path = tmp_path / row.filename
    path.write_bytes(FILE[:-1] + b"x")
    with pytest.raises(
        ValueError, match=rf"{path} is not {row.filename} as published: its SHA-256 is \w+.*{row.sha256}"
    ):
        hub.fetch(row, tmp_path if folder else path)
    assert path.exists() and server.requests == []


def test_damaged_download(row, server):
    path, _ = hub.fetch(row)
    path.write_bytes(FILE[:-1])
    with pytest.raises(ValueError, match="Delete it to download it again"):
        hub.fetch(row)


def test_two_at_once_download_once(row, server, monkeypatch):
    """The second waits for the first, and takes what it brought."""
    server.gate.clear()
    waits = threading.Event()
    monkeypatch.setattr(download.logging, "info", lambda message, *_: waits.set() if "waiting" in message else None)
    with futures.ThreadPoolExecutor() as pool:
        fetched = [pool.submit(hub.fetch, row) for _ in range(2)]
        waited = waits.wait(20)
        server.gate.set()
    assert waited and [fetch.result()[1] for fetch in fetched] == [SHA256] * 2
    assert server.requests == [None] and downloads() == {row.filename: FILE}


# Converting


def converted() -> list[Path]:
    folder = cache_dir() / "converted"
    return sorted(folder.iterdir()) if folder.exists() else []


def same(leaves) -> None:
    assert leaves.keys() == LEAVES.keys()
    for name, leaf in LEAVES.items():
        np.testing.assert_array_equal(leaves[name], leaf, strict=True)


@pytest.fixture
def reads(monkeypatch):
    """The source files whose tensors were read."""
    paths = []

    def read(path):
        paths.append(path)
        return real(path)

    real = readers.read_tensors
    monkeypatch.setattr(readers, "read_tensors", read)
    return paths


def test_load_converts_once(row, reads):
    for _ in range(2):
        leaves, manifest = hub.load(row, TARGET)
        same(leaves)
        assert manifest.pop("jft")
        assert manifest == {
            "source": row.filename,
            "source_sha256": SHA256,
            "url": row.url,
            "weights": "squeezenet1_1.test",
            "dialect": "jft",
            "license": "Apache-2.0",
            "converter_version": str(provenance.CONVERTER_VERSION),
        }
    assert len(reads) == 1
    (path,) = converted()
    assert path.name == f"squeezenet1_1.test-{SHA256[:16]}-v{provenance.CONVERTER_VERSION}.safetensors"
    with safetensors.safe_open(path, "np") as file:
        assert file.metadata()["source_sha256"] == SHA256 and file.metadata()["url"] == row.url


MD5 = hashlib.md5(FILE).hexdigest()


@pytest.mark.parametrize(
    ("hashes", "name", "is_published"),
    [
        ({"sha256": SHA256[:8], "md5": None}, "other.safetensors", True),
        ({"sha256": "0" * 8, "md5": None}, "other.safetensors", False),
        ({"sha256": None, "md5": MD5}, None, True),
        ({"sha256": None, "md5": MD5}, "other.safetensors", True),
        ({"sha256": None, "md5": "0" * 32}, "other.safetensors", False),
        ({"sha256": None, "md5": None}, None, False),  # nobody can say what it was
    ],
)
def test_what_was_converted_is_loaded_when_its_file_is_gone(row, reads, tmp_path, hashes, name, is_published):
    row = change(row, url=None, **hashes)
    file = tmp_path / (name or row.filename)
    file.write_bytes(FILE)
    hub.load(row, TARGET, weights_path=file)
    file.unlink()
    assert hub.is_here(row) == is_published
    if is_published:
        leaves, manifest = hub.load(row, TARGET)
        same(leaves)
        assert manifest["source_sha256"] == SHA256 and len(reads) == 1
        converted()[0].write_bytes(b"nothing")
        assert not hub.is_here(row)
    with pytest.raises(ValueError, match="has no official download"):
        hub.load(row, TARGET)


def test_another_source_or_converter_is_converted_anew(row, reads, monkeypatch, tmp_path):
    hub.load(row, TARGET)
    other = tmp_path / "other.safetensors"
    other.write_bytes(safetensors.numpy.save({name: leaf + 1 for name, leaf in LEAVES.items()}))
    leaves, manifest = hub.load(row, TARGET, weights_path=other)
    np.testing.assert_array_equal(leaves["params/head/bias"], LEAVES["params/head/bias"] + 1)
    assert manifest["source"] == "other.safetensors"
    monkeypatch.setattr(provenance, "CONVERTER_VERSION", provenance.CONVERTER_VERSION + 1)
    same(hub.load(row, TARGET)[0])
    assert len(reads) == 3 and len(converted()) == 3


def spoil(change):
    def spoiled(path: Path) -> None:
        path.write_bytes(change(path.read_bytes()))

    return spoiled


SPOILED = {
    "cut": spoil(lambda text: text[:-4]),
    "empty": spoil(lambda text: b""),
    "header": spoil(lambda text: text[:8] + b"x" + text[9:]),
    "one number": spoil(lambda text: text[:-4] + b"\x00\x00\x80\x3f"),
    "of another source": spoil(lambda text: text.replace(SHA256.encode(), b"0" * 64)),
    "another file": spoil(lambda text: FILE),
}


@pytest.mark.parametrize("spoiled", SPOILED.values(), ids=SPOILED)
def test_damaged_cache_is_made_anew(row, reads, caplog, spoiled):
    hub.load(row, TARGET)
    (path,) = converted()
    spoiled(path)
    same(hub.load(row, TARGET)[0])
    assert len(reads) == 2 and "converting again" in caplog.text
    same(hub.load(row, TARGET)[0])
    assert len(reads) == 2 and converted() == [path]


@pytest.mark.parametrize("broken", ["fsync", "replace", "mkdir"])
def test_cache_that_cannot_be_written(row, broken, monkeypatch, caplog, tmp_path):
    path = tmp_path / row.filename
    path.write_bytes(FILE)
    monkeypatch.setattr(*((Path, "mkdir") if broken == "mkdir" else (os, broken)), full_disk)
    same(hub.load(row, TARGET, weights_path=path)[0])
    assert "are not cached" in caplog.text and "No space left" in caplog.text
    assert converted() == []


def test_incomplete_weights(row, tmp_path):
    """Refused, unless what is missing starts afresh; then not cached, for another run may want it whole."""
    path = tmp_path / "part.safetensors"
    path.write_bytes(safetensors.numpy.save({"params/conv1/kernel": LEAVES["params/conv1/kernel"]}))
    with pytest.raises(ValueError, match=r"part.safetensors(.|\n)*params/head/bias(.|\n)*params/head/kernel"):
        hub.load(row, TARGET, weights_path=path)
    fresh = frozenset({"params/head/kernel", "params/head/bias"})
    leaves, _ = hub.load(row, TARGET, weights_path=path, fresh=fresh)
    assert list(leaves) == ["params/conv1/kernel"] and converted() == []


def test_what_is_cached_does_not_depend_on_what_starts_afresh(row, reads):
    head = frozenset({"params/head/kernel", "params/head/bias"})
    same(hub.load(row, TARGET, fresh=head)[0])
    same(hub.load(row, TARGET)[0])
    assert len(reads) == 1 and len(converted()) == 1


def test_nan_in_what_starts_afresh_is_not_cached(row, tmp_path):
    """Or a later run, which takes it from the weights, would not hear of it."""
    path = tmp_path / "mine.safetensors"
    bias = LEAVES["params/head/bias"].copy()
    bias[3] = np.nan
    path.write_bytes(safetensors.numpy.save({**LEAVES, "params/head/bias": bias}))
    hub.load(row, TARGET, weights_path=path, fresh=frozenset({"params/head/bias"}))
    assert converted() == []
    with pytest.raises(ValueError, match=r"mine.safetensors(.|\n)*NaN or infinity \(1\):\n    params/head/bias"):
        hub.load(row, TARGET, weights_path=path)


def test_unsafe_and_broken_sources_leave_nothing(row, tmp_path):
    for text in (b"", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.cos\nsystem\n.", FILE[:-1], b"<html>"):
        path = tmp_path / "mine.pth"
        path.write_bytes(text)
        with pytest.raises(ValueError, match=r"mine\.pth"):
            hub.load(row, TARGET, weights_path=path)
    assert converted() == [] and downloads() == {}
