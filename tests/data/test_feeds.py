"""The feeds: the same batches byte for byte, errors at their batch, and threads that end."""

import dataclasses
import gc
import itertools
import subprocess
import sys
import threading
import time
import types

import jax
import numpy as np
import pytest
from test_loader import arrays, assert_same, photos

from jft.data import datasets, host_resize, loader, transforms
from jft.data.feeds import images as feed_images
from jft.data.feeds import resident, tf_data, threads
from jft.data.feeds.choose import choose
from jft.data.feeds.feed import HostFeed
from jft.data.feeds.images import Images, Reading
from jft.data.transforms import Preprocess
from jft.utils import memory
from jft.utils.mesh import make_parallel

SPEC = Preprocess(size=24, resize=28)
BATCH = 6


def read(source, how=None, **reading):
    return Images(
        source, how or Reading(**{"spec": SPEC, "fit": "whole", "resize_on": "device", "cache_bytes": 0} | reading)
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture
def empty_cache(monkeypatch):
    monkeypatch.setattr(feed_images, "_decoded", type(feed_images._decoded)())


CASES = {
    "arrays": ({}, {}),
    "arrays resized": ({"resize_on": "host"}, {}),
    "arrays cropped": ({"resize_on": "host", "fit": "crop"}, {}),
    "files": ({"files": True}, {}),
    "files cropped": ({"files": True, "fit": "crop"}, {}),
    "files kept": ({"files": True, "cache_bytes": 10**9}, {}),
    "second of three hosts": ({"resize_on": "host"}, {"shard": (1, 3)}),
    "second host, files": ({"files": True}, {"shard": (1, 2)}),
    "balanced": ({}, {"balanced": True}),
}


@pytest.mark.parametrize("case", CASES)
def test_feeds_yield_the_same_bytes(case, files, empty_cache):
    """Over two epochs of 20 images, again from the middle on, and in an evaluation whose last batch is padded."""
    how, order = map(dict, CASES[case])
    images = read(files if how.pop("files", False) else arrays(), **how)
    training = loader.train_rows(images.source, batch_size=BATCH, seed=5, **order)
    evaluation = loader.eval_rows(images.source, batch_size=BATCH, shard=order.get("shard", (0, 1)))
    for rows, steps in ((training, range(7)), (training, range(3, 7)), (evaluation, range(4))):
        assert_same(tf_data.batches(images, rows, steps), threads.batches(images, rows, steps))
    whole = list(threads.batches(images, training, range(7)))
    assert_same(threads.batches(images, training, range(3, 7)), whole[3:])
    assert len(whole) * BATCH >= 2 * len(images.source) and whole[0]["image"].shape[1:] == images.shape


@pytest.mark.parametrize("feed", [tf_data, threads])
def test_an_unreadable_file_is_an_error_at_its_batch(feed, tmp_path, empty_cache):
    images = read(photos(tmp_path))
    for row in (13, 15):  # of the third batch
        images.source.images[row].write_bytes(b"gone")
    rows = loader.eval_rows(images.source, batch_size=BATCH)
    batches = feed.batches(images, rows, range(4))
    assert [next(batches)["index"][0] for _ in range(2)] == [0, 6]
    with pytest.raises(ValueError, match=f"cannot read {images.source.images[13]} .* set skip_unreadable=True"):
        next(batches)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (30, 21), (28, 35), (300, 26), (24, 24)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("fit", transforms.FITS)
def test_the_host_resizes_as_dense_products_do(height, width, interpolation, fit):
    spec = Preprocess(24, 28, interpolation)
    images = arrays(3, height, width).images
    found = host_resize.resize(images, spec, fit)
    side = transforms.stored_size(spec, fit)
    tall, wide = (side, side) if fit == "whole" else transforms.scaled_size(height, width, side)
    expected = np.einsum("ow,bhwc->bhoc", transforms.resize_weights(width, wide, spec).astype(float), images)
    expected = np.einsum(
        "oh,bhwc->bowc", transforms.resize_weights(height, tall, spec).astype(float), expected.clip(0, 255)
    )
    top, left = (0, 0) if fit == "whole" else (transforms.stored_offset(n, spec) for n in (tall, wide))
    expected = expected[:, top : top + side, left : left + side].clip(0, 255)
    assert found.shape == expected.shape and found.dtype == np.uint8
    assert np.abs(found - expected).max() <= 0.5001
    np.testing.assert_array_equal(host_resize.resize(images[1:2], spec, fit), found[1:2])  # whatever the batch
    out = np.empty_like(found)
    assert host_resize.resize(images, spec, fit, out) is out
    np.testing.assert_array_equal(out, found)


def running():
    return [thread for thread in threading.enumerate() if thread.name.startswith("jft-read")]


def test_few_groups_are_read_ahead():
    taken, done = [], []
    groups = (taken.append(i) or [i] * 2 for i in range(100))
    results = threads.read_ahead(lambda i: done.append(i) or i, groups)
    assert next(results) == ([0] * 2, [0] * 2)
    assert len(taken) <= 1 + threads._AHEAD
    assert list(results) == [([i] * 2, [i] * 2) for i in range(1, 100)] and len(done) == 200
    assert not running()


@pytest.mark.parametrize("end", ["close", "drop"])
def test_threads_end_with_the_iterator(end):
    begun = []
    results = threads.read_ahead(lambda i: begun.append(i) or time.sleep(0.01), ([i] for i in itertools.count()))
    next(results)
    assert running()
    if end == "close":
        results.close()
    del results
    assert not running()
    count = len(begun)
    time.sleep(0.05)
    assert len(begun) == count


def test_ctrl_c_ends_the_threads():
    """It reaches the caller where it waits for a group, as the thread raises it here."""
    begun = []

    def read(i):
        begun.append(i)
        if i == 1:
            raise KeyboardInterrupt
        time.sleep(0.01)

    results = threads.read_ahead(read, ([i] for i in itertools.count()))
    next(results)
    with pytest.raises(KeyboardInterrupt):
        next(results)
    assert not running() and len(begun) <= 2 + threads._AHEAD


def test_a_program_may_end_amid_a_batch():
    """Its iterator is dropped when the modules are gone; nothing is printed, and nothing waited for."""
    program = (
        "import itertools; from jft.data.feeds.threads import read_ahead\n"
        "results = read_ahead(str, ([i] for i in itertools.count())); print(next(results))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("([0], ['0'])\n", "", 0)


RESIDENT = [case for case, (how, order) in CASES.items() if "resize_on" not in how and "shard" not in order]
MESHES = {"one device": {"data": 1}, "eight devices": {"data": 8}, "two by four": {"data": 2, "fsdp": 4}}


@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.parametrize("case", RESIDENT)
def test_resident_images_are_the_same_bytes(case, mesh, files, empty_cache):
    """As a step expects them: over two epochs, resumed, and in an evaluation that is padded; 20 rows on 8 devices."""
    how, order = map(dict, CASES[case])
    images = read(files if how.pop("files", False) else arrays(), **{**how, "cache_bytes": 10**9})
    parallel = make_parallel("jit", MESHES[mesh], jax.devices()[: np.prod(list(MESHES[mesh].values()))])
    feed, host = resident.ResidentFeed(images, parallel), HostFeed(images, parallel, threads.batches)
    training = loader.train_rows(images.source, batch_size=8, seed=5, **order)
    for rows, steps in (
        (training, range(5)),
        (training, range(2, 5)),
        (loader.eval_rows(images.source, batch_size=8), range(3)),
    ):
        for ours, theirs in zip(feed.batches(rows, steps), host.batches(rows, steps), strict=True):
            assert ours.keys() - {"row"} == theirs.keys() - {"image"} and ours["row"].dtype == np.int32
            np.testing.assert_array_equal(ours["index"], theirs["index"])
            placed, expected = feed.place(ours), host.place(theirs)
            assert placed.keys() == expected.keys()
            for name, value in expected.items():
                assert placed[name].sharding == value.sharding and placed[name].dtype == value.dtype
                np.testing.assert_array_equal(placed[name], value)


def test_images_are_placed_once_and_live_as_long_as_their_source(monkeypatch):
    monkeypatch.setattr(resident, "_placed", type(resident._placed)())
    parallel, source = make_parallel("jit"), arrays()
    one, two = (resident.ResidentFeed(read(source, **how), parallel) for how in ({}, {"fit": "crop"}))
    assert one._held is two._held  # the device resizes: arrays do not depend on that
    assert len(one._held.sharding.device_set) == 8 and one._held.shape == (24, 8 * 8 * 3)
    assert resident.nbytes_held(parallel) == 3 * 8 * 8 * 3 == resident.nbytes_of(read(source), parallel)
    del one, two, source
    gc.collect()
    assert not resident.nbytes_held(parallel)


def test_resident_images_scaled_to_one_are_refused():
    source = datasets.from_arrays(np.ones((8, 4, 4, 3), np.uint8), np.arange(8) % 2)
    feed = resident.ResidentFeed(read(source), make_parallel("jit"))
    (batch,) = feed.batches(loader.eval_rows(source, batch_size=8), range(1))
    with pytest.raises(ValueError, match=r"the images seem scaled to 0\.\.1"):
        feed.check(batch)
    with pytest.raises(ValueError, match="not arrays of one size"):
        resident.ResidentFeed(read(source, **HOST), make_parallel("jit"))


HOST, GIB = {"resize_on": "host"}, 2**30


@pytest.mark.parametrize(
    ("how", "mode", "free", "feed", "why"),
    [
        ({}, "jit", GIB, "resident", "MB of images on the device"),
        ({"side": 24, **HOST}, "jit", GIB, "resident", "MB of images on the device"),  # they have the size
        ({"files": True, "cache_bytes": 10**9}, "jit", GIB, "resident", "MB of images on the device"),
        ({"files": True}, "jit", GIB, "threads", "20 decoded images of 0.0 MB do not fit in cache_bytes = 0.0 MB"),
        ({}, "jit", 3071, "threads", "MB of images are more than 25% of a device's free"),
        ({}, "jit", None, "threads", "the device does not report its memory"),
        ({}, "pmap", GIB, "threads", "parallel = 'pmap' gives each device a batch of its own"),
        (HOST, "jit", GIB, "tf.data", "because the host resizes arrays (resize_on = 'host')"),
        ({**HOST, "input": "threads"}, "jit", GIB, "threads", "as asked for"),
        ({"input": "tf.data"}, "jit", GIB, "tf.data", "as asked for"),
        ({"input": "resident"}, "jit", None, "resident", "MB of images on the device"),
        ({"input": "resident"}, "pmap", GIB, "threads", "and not resident: parallel = 'pmap'"),
        ({"input": "resident", **HOST}, "jit", GIB, "tf.data", "and not resident: the host resizes arrays"),
    ],
)
def test_auto_chooses_by_images_and_memory(how, mode, free, feed, why, files, empty_cache, monkeypatch):
    monkeypatch.setattr(memory, "free", lambda parallel: free)
    how = dict(how)
    source = files.take(np.arange(20)) if how.pop("files", False) else arrays(4, *[how.pop("side", 8)] * 2)
    found = choose(read(source, **how), make_parallel(mode, devices=jax.devices()[:1]))
    assert found.feed == feed and why in str(found)


def test_what_pays_on_an_accelerator_need_not_on_several_cpu_devices():
    assert choose(read(arrays()), make_parallel("jit")).feed == "threads"
    assert choose(read(arrays(), input="resident"), make_parallel("jit")).feed == "resident"
    one = make_parallel("jit", devices=jax.devices()[:1])
    assert (choose(read(arrays()), one).feed, choose(read(arrays()), one, once=True).feed) == ("resident", "threads")


def test_what_was_chosen_once_holds(monkeypatch):
    """Memory that was free when it was said may be taken when the images are placed."""
    images, one = read(arrays()), make_parallel("jit", devices=jax.devices()[:1])
    found = choose(images, one)
    monkeypatch.setattr(memory, "free", lambda parallel: 0)
    assert choose(images, one) == found and choose(read(arrays()), one) != found


def test_without_tensorflow_the_choice_is_threads(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    parallel = make_parallel("jit")
    assert choose(read(arrays(4), **HOST), parallel).feed == "threads"
    found = choose(read(arrays(4), input="tf.data"), parallel)
    assert found.feed == "threads" and "tf.data needs TensorFlow, which is not installed" in found.why


def test_files_of_tensorflow_datasets_stay_with_it(files, monkeypatch):
    encoded, parallel = (
        dataclasses.replace(files, images=tuple(path.read_bytes() for path in files.images)),
        make_parallel("jit"),
    )
    monkeypatch.delitem(sys.modules, "tensorflow_datasets", raising=False)  # another test may have imported it
    assert choose(read(encoded), parallel).feed == "threads"
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", types.ModuleType("tensorflow_datasets"))
    assert choose(read(dataclasses.replace(encoded)), parallel).feed == "tf.data"
    assert choose(read(dataclasses.replace(files)), parallel).feed == "threads"


def test_an_unknown_feed_is_refused():
    with pytest.raises(ValueError, match="unknown input 'thread', did you mean 'threads'"):
        read(arrays(4), input="thread")
