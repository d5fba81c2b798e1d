"""The pipeline: whole epochs, resumption, shards, padding, host against device, streams against caches, errors."""

import dataclasses
import gc
import itertools
import weakref

import jax
import numpy as np
import pytest
from PIL import Image

from jft.data import datasets, decode, loader, splits, transforms
from jft.data.feeds import images as feed_images
from jft.data.transforms import Preprocess

SPEC = Preprocess(size=24, resize=28)
OPTIONS = {"fit": "whole", "resize_on": "device", "cache_bytes": 0}


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch):
    monkeypatch.setattr(feed_images, "_decoded", weakref.WeakKeyDictionary())


def arrays(n=20, height=8, width=8):
    rng = np.random.default_rng(n)
    source = datasets.from_arrays(rng.integers(0, 256, (n, height, width, 3), dtype=np.uint8), np.arange(n) % 3)
    return source.take(rng.permutation(n))  # so that an index is not its row


@pytest.fixture(params=["arrays", "files"])
def source(request, tmp_path):
    if request.param == "arrays":
        return arrays()
    return photos(tmp_path)


def photos(root, n=20):
    """Smooth JPEGs of many shapes in three class folders."""
    for i in range(n):
        (root / str(i % 3)).mkdir(exist_ok=True, parents=True)
        rough = np.random.default_rng(i).integers(0, 256, (4, 5, 3), dtype=np.uint8)
        Image.fromarray(rough).resize((40 + i, 60 - i)).save(root / str(i % 3) / f"{i}.jpg", quality=95)
    return datasets.load_source("folder", split="all", data_dir=str(root), validation=0, seed=0)


def train(source, num_steps, **options):
    return loader.train_batches(source, SPEC, num_steps=num_steps, **{"batch_size": 6, "seed": 5, **OPTIONS, **options})


def assert_same(ones, others):
    for one, other in itertools.zip_longest(ones, others):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


def test_batches_hold_what_the_source_holds(source):
    (batch,) = train(source, 1)
    assert {key: value.dtype for key, value in batch.items()} == {
        "image": np.uint8,
        "label": np.int32,
        "index": np.int64,
        "mask": bool,
    }
    row = {index: row for row, index in enumerate(source.indices)}
    rows = [row[index] for index in batch["index"]]
    np.testing.assert_array_equal(batch["label"], source.labels[rows])
    if source.decoded:
        np.testing.assert_array_equal(batch["image"], source.images[rows])
    else:
        assert batch["image"].shape == (6, 24, 24, 3)
        decoded = [decode.decode(source.images[r], SPEC, fit="whole") for r in rows]
        np.testing.assert_array_equal(batch["image"], decoded)


def test_an_epoch_reads_every_example_once_across_batches(source):
    # 20 examples in batches of 6: batches straddle epochs and nothing is dropped.
    stream = np.concatenate([batch["index"] for batch in train(source, 10)])
    assert len(stream) == 60
    epochs = stream.reshape(3, 20)
    for epoch, order in enumerate(epochs):
        assert sorted(order) == sorted(source.indices)
        np.testing.assert_array_equal(order, source.indices[splits.epoch_order(20, 5, epoch)])
    assert len({tuple(order) for order in epochs}) == 3


@pytest.mark.parametrize("batch_size", [1, 7, 45])  # 45: two epochs and more in one batch
def test_resumed_at_any_step_the_batches_are_the_same(batch_size):
    whole = list(train(arrays(), 8, batch_size=batch_size))
    for start in (0, 1, 5):
        assert_same(train(arrays(), 8 - start, start_step=start, batch_size=batch_size), whole[start:])


def test_the_seed_decides_the_order(source):
    one, same, other = (next(train(source, 1, seed=seed))["index"].tolist() for seed in (1, 1, 2))
    assert one == same != other


def test_balanced_batches_draw_classes_equally_often(source):
    few = source.take(np.concatenate([np.flatnonzero(source.labels == c)[:n] for c, n in enumerate((7, 2, 2))]))
    batches = list(train(few, 9, balanced=True))
    for batch in batches:  # of 6 images: two of each of the 3 classes, unless an epoch ends within
        assert np.bincount(batch["label"], minlength=3).min() >= 1
        row = {index: row for row, index in enumerate(few.indices)}
        np.testing.assert_array_equal(batch["label"], few.labels[[row[index] for index in batch["index"]]])
    counts = np.bincount(np.concatenate([batch["label"] for batch in batches]))
    assert counts.max() - counts.min() <= 6 < 3 * np.ptp(np.bincount(few.labels))
    assert_same(train(few, 5, start_step=4, balanced=True), batches[4:])


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_shards_make_up_the_batch(source, shards):
    def joined(make):
        parts = [list(make((i, shards))) for i in range(shards)]
        return [{key: np.concatenate([p[key] for p in step]) for key in step[0]} for step in zip(*parts, strict=True)]

    assert_same(joined(lambda shard: train(source, 4, shard=shard)), train(source, 4))

    def evaluate(shard):
        return loader.eval_batches(source, SPEC, batch_size=6, shard=shard, **OPTIONS)

    assert_same(joined(evaluate), evaluate((0, 1)))


@pytest.mark.parametrize("size", [3, 6, 7, 20])
def test_evaluation_counts_every_example_once_in_order(size):
    source = arrays(size)
    batches = list(loader.eval_batches(source, SPEC, batch_size=6, **OPTIONS))
    assert {batch["image"].shape for batch in batches} == {(6, 8, 8, 3)}
    mask = np.concatenate([batch["mask"] for batch in batches])
    assert mask.tolist() == [True] * size + [False] * (-size % 6)
    np.testing.assert_array_equal(np.concatenate([b["index"] for b in batches])[mask], source.indices)
    np.testing.assert_array_equal(np.concatenate([b["image"] for b in batches])[mask], source.images)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("height,width", [(8, 8), (30, 21), (24, 24), (28, 35), (300, 26)])
@pytest.mark.parametrize("fit", transforms.FITS)
def test_host_and_device_give_the_same_pixels(height, width, fit, interpolation):
    source = arrays(4, height, width)
    spec = Preprocess(24, 28, interpolation, scale=1.0, mean=(0.0,) * 3, std=(1.0,) * 3)  # inputs are gray levels
    inputs, shapes = {}, {}
    for resize_on in ("host", "device"):
        options = {"fit": fit, "resize_on": resize_on, "cache_bytes": 0}
        (batch,) = loader.eval_batches(source, spec, batch_size=4, **options)
        shapes[resize_on] = batch["image"].shape[1:3]
        inputs[resize_on] = np.asarray(transforms.to_model_input(batch["image"], spec, fit=fit))
    side = 28 if fit == "crop" else 24
    assert shapes == {"host": (side, side), "device": (height, width)}
    assert np.abs(np.rint(inputs["host"]) - np.rint(inputs["device"])).max() <= 1
    assert np.abs(inputs["host"] - inputs["device"]).max() <= 0.51


@pytest.mark.parametrize("fit", transforms.FITS)
def test_decoded_once_or_as_they_stream(tmp_path, fit, monkeypatch):
    source = photos(tmp_path)
    side = transforms.stored_size(SPEC, fit)
    enough = 20 * side * side * 3
    streamed = list(train(source, 4, fit=fit, cache_bytes=enough - 1))
    decoded = []
    plain = decode.decode
    monkeypatch.setattr(decode, "decode", lambda image, *a, **k: decoded.append(image) or plain(image, *a, **k))
    assert_same(train(source, 4, fit=fit, cache_bytes=enough), streamed)
    assert sorted(decoded) == sorted(source.images)
    for _ in range(2):
        list(loader.eval_batches(source, SPEC, batch_size=6, fit=fit, resize_on="host", cache_bytes=enough))
    assert len(decoded) == 20
    list(train(photos(tmp_path / "more"), 1, fit=fit, cache_bytes=2 * enough - 1))  # no room for both
    assert len(feed_images._decoded) == 1


def test_the_cache_dies_with_its_source(tmp_path):
    source = photos(tmp_path)
    list(train(source, 1, cache_bytes=10**9))
    assert source in feed_images._decoded
    del source
    gc.collect()
    assert not feed_images._decoded


@pytest.mark.parametrize("cache_bytes", [0, 10**9])
def test_a_corrupt_image_is_one_error_with_its_path(tmp_path, cache_bytes):
    source = photos(tmp_path)
    bad = source.images[11]
    bad.write_bytes(bad.read_bytes()[:300])
    with pytest.raises(ValueError) as caught:
        list(train(source, 4, cache_bytes=cache_bytes))
    assert str(caught.value).startswith(f"cannot read {bad} as an image (")
    assert str(caught.value).endswith(" set skip_unreadable=True to leave such images out.")
    assert "Traceback" not in str(caught.value) and "tensorflow" not in str(caught.value).lower()


@pytest.mark.filterwarnings("error")
def test_every_kind_of_image_comes_out_right(tmp_path):
    """Left half (200, 100, 50), right half (20, 40, 160), or the grays 180 and 60, whatever holds them."""
    colors, grays = Image.new("RGB", (24, 24), (200, 100, 50)), Image.new("L", (24, 24), 180)
    colors.paste((20, 40, 160), (12, 0, 24, 24))
    grays.paste(60, (12, 0, 24, 24))
    palette = colors.quantize(4)
    see_through = colors.convert("RGBA")
    see_through.putalpha(grays)
    turned = Image.Exif()
    turned[0x0112] = 6  # a camera held upright: to be turned clockwise to be seen as it was
    sixteen = (np.asarray(grays).astype(np.uint16) * 257).astype(np.uint16)
    save = {
        "colors/rgba.png": lambda p: see_through.save(p),
        "colors/palette.png": lambda p: palette.save(p),
        "colors/palette_one_clear.png": lambda p: palette.save(p, transparency=0),
        "colors/palette_alphas.png": lambda p: palette.save(p, transparency=bytes([0, 128, 255, 7])),
        "colors/palette.gif": lambda p: palette.save(p, transparency=1),
        "colors/cmyk.jpg": lambda p: colors.convert("CMYK").save(p, quality=100, subsampling=0),
        "colors/cmyk.tif": lambda p: colors.convert("CMYK").save(p),
        "colors/turned.jpg": lambda p: colors.rotate(90).save(p, exif=turned, quality=100, subsampling=0),
        "colors/named_wrongly.jpg": lambda p: colors.save(p, "PNG"),
        "grays/plain.png": lambda p: grays.save(p),
        "grays/gray.jpg": lambda p: grays.save(p, quality=100),
        "grays/alpha.png": lambda p: grays.convert("LA").save(p),
        "grays/sixteen.png": lambda p: Image.fromarray(sixteen).save(p),
        "grays/sixteen.tif": lambda p: Image.fromarray(sixteen).save(p),
        "grays/sixteen.pgm": lambda p: p.write_bytes(b"P5 24 24 65535\n" + sixteen.astype(">u2").tobytes()),
    }
    for name, write in save.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name)
    source = datasets.load_source(
        "folder", split="all", data_dir=str(tmp_path), validation=0, seed=0, skip_unreadable=True
    )
    assert len(source) == len(save)
    expected = np.array([[(200, 100, 50), (20, 40, 160)], [(180,) * 3, (60,) * 3]])
    spec = dataclasses.replace(SPEC, background="")
    for cache_bytes in (0, 10**9):
        for fit in transforms.FITS:
            options = {"batch_size": len(save), "fit": fit, "resize_on": "device", "cache_bytes": cache_bytes}
            (batch,) = loader.eval_batches(source, spec, **options)
            seen = batch["image"][:, [[4], [20]], [3, -4]].astype(int)  # above and below, left and right
            wrong = np.abs(seen - expected[batch["label"]][:, None]).max(axis=(1, 2, 3))
            assert dict(zip([p.name for p in source.images], wrong > 3, strict=True)) == {
                p.name: False for p in source.images
            }


def test_batches_before_the_corrupt_image_are_yielded(tmp_path):
    source = photos(tmp_path)
    source.images[13].write_bytes(b"gone")
    batches = loader.eval_batches(source, SPEC, batch_size=6, **OPTIONS)
    assert [next(batches)["index"][0] for _ in range(2)] == [0, 6]
    with pytest.raises(ValueError, match="cannot read"):
        next(batches)


@pytest.mark.parametrize(
    "options,message",
    [
        ({"batch_size": 0}, "part 0 of 1 of a batch of 0"),
        ({"shard": (0, 4)}, "part 0 of 4 of a batch of 6: 4 must divide it"),
        ({"shard": (2, 2)}, "part 2 of 2"),
        ({"fit": "hole"}, "unknown fit 'hole', did you mean 'whole'"),
        ({"resize_on": "gpu"}, "unknown resize_on 'gpu'"),
    ],
)
def test_wrong_arguments_fail_before_anything_is_read(options, message):
    with pytest.raises(ValueError, match=message):
        train(arrays(), 1, **options)
    with pytest.raises(ValueError, match="'arrays' has no examples"):
        train(arrays().take(np.array([], int)), 1)


def test_real_cifar_through_both_paths(real_data):
    load = {"data_dir": str(real_data / "cifar10"), "validation": 0.1, "seed": 0}
    source = datasets.load_source("cifar10", split="test", **load)
    spec = Preprocess()
    images = {}
    for resize_on in ("host", "device"):
        batches = loader.eval_batches(source, spec, batch_size=64, fit="whole", resize_on=resize_on, cache_bytes=0)
        images[resize_on] = next(batches)["image"]
        transforms.check_range(images[resize_on], spec)
    assert images["host"].shape == (64, 224, 224, 3) and images["device"].shape == (64, 32, 32, 3)
    on_device = jax.jit(lambda x: transforms.resize(x, 224, 224, spec))(images["device"])
    assert np.abs(np.rint(on_device) - images["host"]).max() <= 1
