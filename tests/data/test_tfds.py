"""TFDS by name, from tiny datasets in its on-disk format: nothing is downloaded."""

import io
import sys
import urllib.error
import urllib.request

import numpy as np
import pytest
from PIL import Image

from jft.data import datasets, loader
from jft.data.lazy_tf import import_tensorflow
from jft.data.transforms import Preprocess

NAMES = [f"class{i}" for i in range(10)]


def load(dataset, split, data_dir, **options):
    return datasets.load_source(dataset, split=split, data_dir=str(data_dir), seed=0, **{"validation": 0.2, **options})


def write(root, name, image_shape, split_images, names, keys=("image", "label"), dtype=np.uint8, **others):
    """A prepared dataset: TFRecords and metadata, as `tfds build` leaves them; the labels are 0, 1, 2, ...

    `keys` are what it calls image and class; `others` are further features and their one value.
    """
    tf = import_tensorflow()
    import tensorflow_datasets as tfds

    image = tfds.features.Image(shape=image_shape, dtype=dtype, encoding_format="png")
    features = tfds.features.FeaturesDict(
        {"id": tfds.features.Text(), keys[0]: image, keys[1]: tfds.features.ClassLabel(names=names)}
        | {key: feature for key, (feature, _) in others.items()}
    )
    folder = root / name / "3.0.2"
    folder.mkdir(parents=True)
    infos = []
    for split, images in split_images.items():
        with tf.io.TFRecordWriter(str(folder / f"{name}-{split}.tfrecord-00000-of-00001")) as writer:
            for i, pixels in enumerate(images):
                example = {"id": f"{split}{i}", keys[0]: pixels, keys[1]: i % len(names)}
                example |= {key: value for key, (_, value) in others.items()}
                writer.write(features.serialize_example(features.encode_example(example)))
        template = tfds.core.ShardedFileTemplate(
            data_dir=folder, dataset_name=name, split=split, filetype_suffix="tfrecord"
        )
        infos.append(
            tfds.core.SplitInfo(name=split, shard_lengths=[len(images)], num_bytes=1, filename_template=template)
        )
    tfds.folder_dataset.write_metadata(
        data_dir=str(folder),
        features=features,
        split_infos=infos,
        filename_template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        check_data=False,
    )


def grays(*levels, shape=(32, 32, 3)):
    return [np.full(shape, level, np.uint8) for level in levels]


def test_prepared_cifar10_comes_before_the_archive(tmp_path):
    write(tmp_path, "cifar10", (32, 32, 3), {"train": grays(*range(50)), "test": grays(*range(100, 120))}, NAMES)
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"broken")
    train, validation, test = (load("cifar10", split, tmp_path) for split in ("train", "validation", "test"))
    assert [len(s) for s in (train, validation, test)] == [40, 10, 20]
    assert train.decoded and train.images.shape == (40, 32, 32, 3) and train.images.dtype == np.uint8
    assert train.class_names == tuple(NAMES) and train.labels.dtype == np.int32
    assert (train.images[:, 0, 0, 0] == train.indices).all() and (train.indices % 10 == train.labels).all()
    assert test.images[:, 31, 31, 2].tolist() == list(range(100, 120))
    assert np.bincount(validation.labels).tolist() == [1] * 10


@pytest.mark.parametrize("dataset", ["bugs", "tfds:bugs", "bugs:3.0.2"])
def test_images_of_many_sizes_stay_encoded(tmp_path, dataset):
    images = [np.full((8 + i, 20 - i, 3), i, np.uint8) for i in range(10)]
    write(tmp_path, "bugs", (None, None, 3), {"train": images, "validation": images[:4]}, ["ant", "bee"])
    train, validation = (load(dataset, split, tmp_path) for split in ("train", "validation"))
    assert (len(train), len(validation)) == (8, 2) and not train.decoded
    assert load(dataset, "test", tmp_path).labels.tolist() == [0, 1, 0, 1]  # the validation split, for want of a test
    assert Image.open(io.BytesIO(train.images[0])).size == (20 - train.indices[0], 8 + train.indices[0])
    spec = Preprocess(size=6, resize=6)
    options = {"batch_size": 8, "fit": "whole", "resize_on": "device"}
    for cache_bytes in (0, 10**6):
        (batch,) = loader.eval_batches(train, spec, cache_bytes=cache_bytes, **options)
        assert (batch["image"] == train.indices[:, None, None, None]).all()
    broken = datasets.Source("bugs", train.class_names, train.labels[:1], (train.images[0][:40],), np.array([7]))
    for cache_bytes in (0, 10**6):
        with pytest.raises(ValueError, match="cannot read image 7 of bugs as an image"):
            list(loader.eval_batches(broken, spec, cache_bytes=cache_bytes, **options))


def test_grays_become_three_channels_and_a_missing_test_split_is_made(tmp_path):
    write(tmp_path, "marks", (8, 8, 1), {"train": grays(*range(50), shape=(8, 8, 1))}, NAMES)
    parts = [load("marks", split, tmp_path) for split in ("train", "validation", "test")]
    assert [part.images.shape for part in parts] == [(32, 8, 8, 3), (8, 8, 8, 3), (10, 8, 8, 3)]
    assert sorted(np.concatenate([part.indices for part in parts])) == list(range(50))


def test_splits_in_any_spelling(tmp_path):
    images = {"training": grays(*range(20), shape=(8, 8, 3)), "dev": grays(*range(6), shape=(8, 8, 3))}
    write(tmp_path, "bugs", (8, 8, 3), images, ["ant", "bee"])
    assert [len(load("bugs", split, tmp_path)) for split in ("train", "validation", "test")] == [16, 4, 6]


def test_other_names_of_the_image_and_the_class(tmp_path):
    write(tmp_path, "bugs", (8, 8, 3), {"train": grays(*range(20), shape=(8, 8, 3))}, ["ant", "bee"], ("photo", "kind"))
    every = load("bugs", "all", tmp_path)
    assert every.images[:, 0, 0, 0].tolist() == list(range(20)) and every.labels.tolist() == [0, 1] * 10


def test_of_two_kinds_of_class_the_label_is_meant_or_none(tmp_path):
    import_tensorflow()
    import tensorflow_datasets as tfds

    images = {"train": grays(*range(20), shape=(8, 8, 3))}
    coarse = (tfds.features.ClassLabel(names=["insect"]), 0)  # as in cifar100
    write(tmp_path, "bugs", (8, 8, 3), images, ["ant", "bee"], coarse_label=coarse)
    assert load("bugs", "all", tmp_path).class_names == ("ant", "bee")
    write(tmp_path, "mixed", (8, 8, 3), images, ["ant", "bee"], ("image", "fine"), coarse=coarse)
    with pytest.raises(ValueError, match=r"'mixed' is not image classification: .* features as .*coarse.* only one"):
        load("mixed", "train", tmp_path)


@pytest.mark.parametrize("channels,dtype", [(4, np.uint8), (1, np.uint16)])
def test_alpha_and_sixteen_bits_of_one_size(tmp_path, channels, dtype):
    levels = 28 * np.arange(10)
    images = [np.full((8, 8, channels), level * (257 if dtype == np.uint16 else 1), dtype) for level in levels]
    if channels == 4:
        images = [np.concatenate([image[..., :3], np.full((8, 8, 1), 255, dtype)], axis=-1) for image in images]
    write(tmp_path, "marks", (8, 8, channels), {"train": images}, ["a", "b"], dtype=dtype)
    options = {"batch_size": 10, "fit": "whole", "resize_on": "host", "cache_bytes": 0}
    (batch,) = loader.eval_batches(load("marks", "all", tmp_path), Preprocess(size=8, resize=8), **options)
    assert (batch["image"] == levels[:, None, None, None]).all() and batch["image"].shape == (10, 8, 8, 3)


def test_splits_that_are_none_of_ours_are_not_read(tmp_path):
    images = grays(*range(20), shape=(8, 8, 3))
    write(tmp_path, "bugs", (8, 8, 3), {"train": images, "extra": images[:3], "test": images[:6]}, ["ant", "bee"])
    assert len(load("bugs", "all", tmp_path)) == 26
    write(tmp_path, "mites", (8, 8, 3), {"extra": images}, ["ant", "bee"])
    for split in ("train", "all"):
        with pytest.raises(ValueError, match="the data have no train split"):
            load("mites", split, tmp_path)


def test_unreadable_encoded_images_are_left_out_if_asked(tmp_path):
    write(tmp_path, "bugs", (None, None, 3), {"train": grays(*range(10))}, ["ant", "bee"])
    every = load("bugs", "all", tmp_path)
    broken = datasets.Source(
        "bugs", every.class_names, every.labels, (b"", *every.images[1:9], every.images[9][:50]), every.indices
    )
    kept = datasets.load_source(broken, split="all", data_dir="", validation=0, seed=0, skip_unreadable=True)
    assert kept.indices.tolist() == list(range(1, 9))


def test_unknown_names_and_other_kinds_of_data(tmp_path):
    with pytest.raises(ValueError, match="unknown dataset 'cifar1o', did you mean 'cifar10'"):
        load("cifar1o", "train", tmp_path)
    with pytest.raises(ValueError, match=r"'imdb_reviews' is not image classification: .* text, label"):
        load("imdb_reviews", "train", tmp_path)


def test_without_a_network_one_error_says_what_to_put_where(tmp_path, monkeypatch):
    def no_network(*args, **kwargs):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    with pytest.raises(FileNotFoundError) as caught:
        load("cifar10", "train", tmp_path / "data")
    for part in (
        str(tmp_path / "data"),
        "Name or service not known",
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        "c58f30108f718f92721af3b95e74349a",
        "data_dir",
    ):
        assert part in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_failed_preparation_leaves_nothing(tmp_path, monkeypatch):
    import_tensorflow()
    import tensorflow_datasets as tfds

    def fail(self, *args, **kwargs):
        (tmp_path / "downloads").mkdir()
        (tmp_path / "mnist").mkdir()
        raise ConnectionError("no route to host")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    (tmp_path / "mine").mkdir()
    with pytest.raises(
        FileNotFoundError, match=r"mnist is not in .* \(ConnectionError: no route to host\).*tfds build"
    ):
        load("mnist", "train", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_tensorflow_sees_no_accelerator():
    tf = import_tensorflow()
    assert tf is sys.modules["tensorflow"]
    assert {device.device_type for device in tf.config.get_visible_devices()} == {"CPU"}
