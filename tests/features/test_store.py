import fcntl
import os
import shutil
import threading
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from unwritable import refuse_to_write

from jft.features import cache_key
from jft.features import store as feature_store
from jft.features.store import FeatureStore

SHAPE = (2, 3)


def digests(numbers):
    return np.repeat(np.asarray(numbers, np.uint8)[:, None], 16, axis=1)


def values(numbers, shape=SHAPE):
    """Features that tell which image they are of."""
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + 100 * np.asarray(numbers).reshape(-1, 1, 1)


def open_store(folder, dtype="float32", **other):
    return FeatureStore(folder, {"weights": "a", **other}, SHAPE, dtype)


def filled(folder, shards=5, each=4):
    """A store of `shards` shards, of images 0, 1, ..."""
    store = open_store(folder)
    for first in range(0, shards * each, each):
        numbers = np.arange(first, first + each)
        store.write(digests(numbers), values(numbers))
    return store


def test_any_subset_in_any_order_comes_back(tmp_path):
    filled(tmp_path)
    order = np.random.default_rng(0).permutation(20)[:15]
    opened = open_store(tmp_path).open(digests(order))
    assert len(opened) == 15 and opened.nbytes == 15 * 6 * 4
    rows = np.array([14, 0, 0, 7])
    np.testing.assert_array_equal(opened.gather(rows), values(order[rows]))
    np.testing.assert_array_equal(opened.gather(np.arange(15)), values(order))


def test_missing_names_the_first_of_each_new_image(tmp_path):
    store = open_store(tmp_path)
    assert store.missing(digests([5, 3, 5])).tolist() == [0, 1]
    assert not any(tmp_path.iterdir())  # asking leaves nothing behind
    store.write(digests([3]), values([3]))
    assert store.missing(digests([5, 3, 5, 9])).tolist() == [0, 3]
    with pytest.raises(ValueError, match=r"lacks the features of 2 of 4 images: extract"):
        store.open(digests([5, 3, 5, 9]))


def test_other_recipes_do_not_meet(tmp_path):
    filled(tmp_path)
    assert len(open_store(tmp_path).missing(digests(range(20)))) == 0
    assert len(open_store(tmp_path, weights="b").missing(digests(range(20)))) == 20
    assert len(open_store(tmp_path, dtype="bfloat16").missing(digests(range(20)))) == 20
    assert cache_key.key({"a": 1, "b": 2}) == cache_key.key({"b": 2, "a": 1})


def test_bfloat16(tmp_path):
    store = open_store(tmp_path, "bfloat16")
    stored = values([1, 2]) / 7
    store.write(digests([1, 2]), stored)
    opened = open_store(tmp_path, "bfloat16").open(digests([2, 1]))
    assert opened.dtype == jnp.bfloat16 and opened.nbytes == 2 * 6 * 2
    np.testing.assert_array_equal(opened.gather(np.array([1, 0])), stored.astype(jnp.bfloat16))


def cut_short(path):
    os.truncate(path, path.stat().st_size - 4)


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("file", "damage", "said"),
    [
        ("features.npy", cut_short, "has 220 bytes, it was written with 224"),
        ("features.npy", flip_a_bit, "features.npy has changed since it was written"),
        ("pictures.npy", flip_a_bit, "pictures.npy has changed since it was written"),
        ("manifest.json", cut_short, "manifest.json is damaged"),
        ("features.npy", os.unlink, "FileNotFoundError"),
    ],
)
def test_a_damaged_shard_is_set_aside_and_made_anew(tmp_path, caplog, file, damage, said):
    store = filled(tmp_path)
    shard = next(store.folder.glob("shard-*"))
    lost = np.load(shard / "pictures.npy")[:, 0].astype(int)
    damage(shard / file)
    again = open_store(tmp_path)
    with caplog.at_level("WARNING", logger="absl"):
        assert again.missing(digests(range(20))).tolist() == lost.tolist()
    assert said in caplog.text and "computed anew" in caplog.text
    again.write(digests(lost), values(lost))
    np.testing.assert_array_equal(again.open(digests(range(20))).gather(np.arange(20)), values(np.arange(20)))
    caplog.clear()
    assert len(open_store(tmp_path).missing(digests(range(20)))) == 0 and not caplog.text


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(tmp_path):
    store = filled(tmp_path, shards=1)
    dead, living = store.folder / ".writing-dead", store.folder / ".writing-living"
    for folder in (dead, living):
        folder.mkdir()
        (folder / "features.npy").write_bytes(b"half")
    lock = os.open(living, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        store.write(digests([50]), values([50]))
    finally:
        os.close(lock)
    assert not dead.exists() and (living / "features.npy").exists()
    assert len(open_store(tmp_path).missing(digests([50]))) == 0


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    store = filled(tmp_path, shards=1)
    before = sorted(path.name for path in store.folder.iterdir())
    monkeypatch.setattr(feature_store.os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(OSError, match="no space left"):
        store.write(digests([50]), values([50]))
    assert sorted(path.name for path in store.folder.iterdir()) == before


def test_two_writers_at_once(tmp_path):
    start, failures = threading.Barrier(2), []

    def write(numbers):
        try:
            store = open_store(tmp_path)
            start.wait()
            for number in numbers:
                store.write(digests([number]), values([number]))
        except BaseException as error:
            failures.append(error)

    writers = [threading.Thread(target=write, args=(range(first, first + 30),)) for first in (0, 20)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert not failures
    store = open_store(tmp_path)
    np.testing.assert_array_equal(store.open(digests(range(50))).gather(np.arange(50)), values(np.arange(50)))
    assert not list(store.folder.glob(".*"))


def test_a_full_disk_is_said_in_bytes(tmp_path, monkeypatch):
    store = open_store(tmp_path / "not" / "there")
    assert store.shortage(10) is None
    needed = store.bytes_needed(10)
    assert needed >= 10 * (24 + 16)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=needed - 1))
    assert f"take {needed:,} bytes and {store.folder.parent} has {needed - 1:,} left" in store.shortage(10)
    assert store.shortage(9) is None or store.bytes_needed(9) > needed - 1
    refuse_to_write(monkeypatch, tmp_path)
    assert store.shortage(1) == f"{tmp_path} cannot be written (Read-only file system)"


def test_bytes_needed_bounds_what_is_written(tmp_path):
    store = filled(tmp_path, shards=1, each=20)
    written = sum(path.stat().st_size for path in store.folder.glob("shard-*/*"))
    assert 20 * (24 + 16) < written <= store.bytes_needed(20)


def test_shards_are_bounded(tmp_path):
    assert open_store(tmp_path).shard_images == 1024
    assert FeatureStore(tmp_path, {}, (1, 1000, 1000)).shard_images == 64  # 4 MB each
    assert FeatureStore(tmp_path, {}, (1, 10**9)).shard_images == 1
    with pytest.raises(ValueError, match=r"features are \[1, 3\], but the store holds \[2, 3\]"):
        open_store(tmp_path).write(digests([1]), np.zeros((1, 3), np.float32))
