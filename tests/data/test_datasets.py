"""Sources: arrays, the embedded digits, folders, and how each is split."""

import itertools
import logging

import numpy as np
import pytest
from PIL import Image

from jft.data import datasets, loader
from jft.data.names import natural
from jft.data.transforms import Preprocess


def load(dataset, split, data_dir=None, validation=0.1, seed=0, **options):
    return datasets.load_source(
        dataset, split=split, data_dir=data_dir and str(data_dir), validation=validation, seed=seed, **options
    )


def make_folder(root, tree):
    """Images of 4x4 pixels, `tree` maps folders to counts."""
    for name, count in tree.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (4, 4), (i, i, i)).save(root / name / f"{i}.png")
    return root


def arrays(n=60, classes=3):
    images = np.random.default_rng(0).integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)
    return datasets.from_arrays(images, np.arange(n) % classes)


def test_from_arrays():
    images = np.zeros((4, 8, 9, 3), np.uint8)
    source = datasets.from_arrays(images, [0, 2, 1, 0])
    assert len(source) == 4 and source.decoded and source.class_names == ("0", "1", "2")
    assert source.labels.dtype == np.int32 and source.indices.dtype == np.int64
    few = source.take(np.array([2, 0]))
    assert few.labels.tolist() == [1, 0] and few.indices.tolist() == [2, 0] and few.images.shape == (2, 8, 9, 3)
    assert few.take(np.array([False, True])).indices.tolist() == [0]


@pytest.mark.parametrize(
    "images,labels,names,message",
    [
        (np.zeros((2, 8, 8, 3), np.float32), [0, 1], None, r"float32 \[2, 8, 8, 3\]; jft needs uint8"),
        (np.zeros((2, 8, 8), np.uint8), [0, 1], None, "repeat along the last axis"),
        (np.zeros((2, 8, 8, 3), np.uint8), [0.0, 1.0], None, "labels of 'arrays' are float64"),
        (np.zeros((2, 8, 8, 3), np.uint8), [0, 1, 1], None, r"int64 \[3\].* 2 images"),
        (np.zeros((2, 8, 8, 3), np.uint8), [0, -1], None, "lie in -1..0"),
        (np.zeros((2, 8, 8, 3), np.uint8), [0, 2], ["cat", "dog"], r"lie in 0..2, .* 0..1"),
        (np.zeros((2, 8, 8, 3), np.uint8), [[0, 2], [1, 0]], None, r"\[2, 2\] from 0 to 2; .* zeros and ones"),
        (np.zeros((2, 8, 8, 3), np.uint8), [[0, 1], [1, 0]], ["cat"], "one for each of 1 classes"),
        (np.zeros((2, 8, 8, 3), np.uint8), [[0, 1]], None, r"int64 \[1, 2\].* 2 images, or .* a row of zeros and ones"),
    ],
)
def test_from_arrays_refuses(images, labels, names, message):
    with pytest.raises(ValueError, match=message):
        datasets.from_arrays(images, labels, names)


def test_several_labels_of_arrays():
    hot = np.random.default_rng(0).random((60, 3)) < (0.7, 0.4, 0.2)
    source = datasets.from_arrays(arrays().images, hot, ["sea", "sky", "town"])
    assert source.multi_label and source.labels.dtype == np.uint8 and not arrays().multi_label
    np.testing.assert_array_equal(source.labels, hot)
    parts = {split: load(source, split, validation=12) for split in ("train", "validation", "test")}
    assert {split: len(part) for split, part in parts.items()} == {"train": 36, "validation": 12, "test": 12}
    assert np.abs(parts["test"].labels.sum(axis=0) - hot.sum(axis=0) / 5).max() <= 1.5
    kept = load(source, "all", classes=("town", "sea"))
    assert kept.class_names == ("town", "sea") and (kept.labels.sum(axis=1) >= 1).all()
    np.testing.assert_array_equal(kept.labels, hot[kept.indices][:, [2, 0]])
    assert (load(source, "train", examples_per_class=2).labels.sum(axis=0) >= 2).all()
    assert source.fingerprint() != datasets.from_arrays(source.images, 1 - hot, source.class_names).fingerprint()


def test_digits():
    train, validation, test = (load("digits", split) for split in ("train", "validation", "test"))
    assert (len(train), len(validation), len(test)) == (1294, 144, 359)
    assert train.class_names == tuple("0123456789") and train.images.shape[1:] == (8, 8, 3)
    assert train.images.min() == 0 and train.images.max() == 255
    assert sorted(np.concatenate([s.indices for s in (train, validation, test)])) == list(range(1797))
    from sklearn.datasets import load_digits

    digits = load_digits()
    every = load("digits", "all")
    np.testing.assert_array_equal(every.labels, digits.target)
    np.testing.assert_array_equal(every.images, np.rint(digits.images * 255 / 16)[..., None].repeat(3, -1))


def test_test_does_not_depend_on_the_run_and_validation_does():
    for split, same in (("test", True), ("validation", False), ("train", False)):
        one, other = (load(arrays(), split, seed=seed, validation=v) for seed, v in ((0, 0.1), (1, 0.3)))
        assert (one.indices.tolist() == other.indices.tolist()) == same
    again = [load(arrays(), "validation", seed=4).indices.tolist() for _ in range(2)]
    assert again[0] == again[1]


def test_splits_are_disjoint_and_stratified():
    parts = {split: load(arrays(), split, validation=6) for split in ("train", "validation", "test")}
    assert {split: np.bincount(part.labels).tolist() for split, part in parts.items()} == {
        "train": [14] * 3,
        "validation": [2] * 3,
        "test": [4] * 3,
    }
    assert sorted(np.concatenate([part.indices for part in parts.values()])) == list(range(60))


def test_classes_are_kept_and_relabeled_in_order():
    source = datasets.from_arrays(arrays(60).images, np.arange(60) % 3, ["ant", "bee", "cow"])
    kept = load(source, "train", classes=("cow", "ant"), validation=4)
    assert kept.class_names == ("cow", "ant") and np.bincount(kept.labels).tolist() == [14, 14]
    assert (kept.indices % 3 == np.where(kept.labels == 0, 2, 0)).all()
    np.testing.assert_array_equal(kept.images, source.images[kept.indices])
    assert set(load(source, "test", classes=("cow", "ant")).indices) <= set(load(source, "test").indices)
    with pytest.raises(ValueError, match="unknown class of arrays 'bees', did you mean 'bee'"):
        load(source, "train", classes=("cow", "bees"))
    with pytest.raises(ValueError, match="names a class twice"):
        load(source, "train", classes=("cow", "cow"))


def test_examples_per_class_are_of_the_training_split_only():
    few = load(arrays(), "train", examples_per_class=5)
    assert np.bincount(few.labels).tolist() == [5, 5, 5]
    assert set(few.indices) <= set(load(arrays(), "train").indices)
    assert len(load(arrays(), "validation", examples_per_class=5)) == len(load(arrays(), "validation"))
    with pytest.raises(ValueError, match="examples_per_class asks for 15"):
        load(arrays(), "train", examples_per_class=15)


@pytest.mark.parametrize(
    "dataset,split,options,message",
    [
        ("digits", "tset", {}, "unknown split 'tset', did you mean 'test'"),
        ("digits", "validation", {"validation": 0}, "'digits' has no validation images"),
        ("digits", "train", {"validation": 1797}, "holding out 1797"),
        ("folder", "train", {}, "needs data_dir"),
    ],
)
def test_what_cannot_be_loaded(dataset, split, options, message):
    with pytest.raises(ValueError, match=message):
        load(dataset, split, **options)


def test_folder_natural_order_strays_and_splits(tmp_path, caplog):
    make_folder(tmp_path, {"10": 10, "2": 10, "b": 5, ".hidden": 2, "2/deeper": 5})
    (tmp_path / "LICENSE.txt").write_text("CC")
    (tmp_path / "b" / "notes.md").write_text("notes")
    (tmp_path / "b" / ".DS_Store").write_text("")
    with caplog.at_level(logging.WARNING, logger="absl"):
        every = load("folder", "all", tmp_path)
    assert [record.message for record in caplog.records if "left out" in record.message] == [
        f"{tmp_path}: left out hidden or of the system: 2 (.DS_Store); .md: 1 (notes.md); .txt: 1 (LICENSE.txt)."
    ]
    assert every.class_names == ("2", "10", "b") and not every.decoded
    assert np.bincount(every.labels).tolist() == [15, 10, 5]
    assert [p.name for p in every.images if p.parent.name == "10"] == [f"{i}.png" for i in range(10)]
    parts = [load("folder", split, tmp_path, validation=6) for split in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [18, 6, 6]
    assert sorted(np.concatenate([part.indices for part in parts])) == list(range(30))


@pytest.mark.parametrize("name", ["validation", "val", "Val"])
def test_folder_with_splits_of_its_own(tmp_path, name):
    tree = {"train/cat": 4, "train/dog": 4, "test/cat": 3, "test/dog": 2, f"{name}/cat": 1, f"{name}/dog": 1}
    make_folder(tmp_path, tree)
    for split, count in (("train", 8), ("validation", 2), ("test", 5), ("all", 15)):
        source = load("folder", split, tmp_path, seed=count)
        assert len(source) == count and source.class_names == ("cat", "dog")
        assert source.indices.tolist() == list(range(count))


def test_folder_with_train_only_and_with_test_only(tmp_path):
    make_folder(tmp_path / "a", {"train/cat": 10, "train/dog": 10})
    assert [len(load("folder", s, tmp_path / "a", validation=4)) for s in ("train", "validation", "test")] == [12, 4, 4]
    make_folder(tmp_path / "b", {"test/cat": 3, "test/dog": 3})
    assert len(load("folder", "test", tmp_path / "b")) == 6
    with pytest.raises(ValueError, match="no train split, only test"):
        load("folder", "train", tmp_path / "b")


def test_a_class_may_be_called_train(tmp_path):
    make_folder(tmp_path, {"plane": 5, "train": 5})
    assert load("folder", "all", tmp_path).class_names == ("plane", "train")


def test_broken_folders(tmp_path):
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ValueError, match="nothing holds no class folders"):
        load("folder", "train", tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*gone"):
        load("folder", "train", tmp_path / "gone")
    empty = make_folder(tmp_path / "empty", {"cat": 5, "dog": 0})
    (empty / "dog" / "readme.txt").write_text("")
    with pytest.raises(ValueError, match=r"class folder .*empty/dog holds no images \(.txt: 1 \(readme.txt\)\)"):
        load("folder", "train", empty)
    unknown = make_folder(tmp_path / "unknown", {"train/cat": 5, "train/dog": 5, "test/cat": 5, "test/dgo": 5})
    with pytest.raises(
        ValueError,
        match=r"test/dgo is a class that the training split does not have; it has cat, dog, did you mean 'dog'",
    ):
        load("folder", "test", unknown)


@pytest.fixture
def pet_images(tmp_path):
    """As Microsoft's archive: class folders with a database of thumbnails, empty files, and others cut short."""
    root = tmp_path / "PetImages"
    for i, name in itertools.product(range(12), ("Cat", "Dog")):
        (root / name).mkdir(parents=True, exist_ok=True)
        rough = np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(rough).resize((40, 40)).save(root / name / f"{i}.jpg")
        (root / name / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (root / "Cat/6.jpg").write_bytes(b"")
    (root / "Dog/10.jpg").write_bytes((root / "Dog/10.jpg").read_bytes()[:-150])
    (root / "Dog/11.jpg").write_text("<html>404</html>")
    return root


def test_unreadable_images_are_an_error(pet_images, caplog):
    source = load("folder", "all", pet_images)
    assert len(source) == 24  # found only when read
    assert "PetImages: left out hidden or of the system: 2 (Thumbs.db)." in caplog.text
    options = {"batch_size": 24, "fit": "crop", "resize_on": "device", "cache_bytes": 10**9}
    with pytest.raises(ValueError, match=r"cannot read .*/Cat/6.jpg as an image \(it is empty.* skip_unreadable=True"):
        list(loader.eval_batches(source, Preprocess(), **options))


def test_unreadable_images_are_left_out_if_asked(pet_images, caplog, monkeypatch):
    source = load("folder", "all", pet_images, skip_unreadable=True)
    assert [int(p.stem) for p in source.images if p.parent.name == "Cat"] == [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11]
    assert [int(p.stem) for p in source.images if p.parent.name == "Dog"] == list(range(10))
    (warning,) = [record.getMessage() for record in caplog.records if "left out 3" in record.getMessage()]
    for part in (
        "left out 3 unreadable of 24",
        "Cat/6.jpg (it is empty",
        "Dog/10.jpg (OSError: ",
        "Dog/11.jpg (its content is none of JPEG, PNG, ",
    ):
        assert part in warning
    options = {"batch_size": 7, "fit": "crop", "resize_on": "device", "cache_bytes": 0}
    assert len(list(loader.eval_batches(source, Preprocess(), **options))) == 3


def test_an_unreadable_image_moves_no_other_to_another_split(pet_images, monkeypatch):
    bad = {pet_images / name for name in ("Cat/6.jpg", "Dog/10.jpg", "Dog/11.jpg")}
    kept = {
        split: load("folder", split, pet_images, skip_unreadable=True, validation=4) for split in datasets.SPLITS[:3]
    }
    for split, part in kept.items():
        whole = load("folder", split, pet_images, validation=4)
        assert [p for p in whole.images if p not in bad] == list(part.images)
    assert sum(map(len, kept.values())) == 21
    # Tried once: a run loads its data twice.
    monkeypatch.setattr(datasets.decode, "unreadable", None)
    assert len(load("folder", "train", pet_images, skip_unreadable=True, validation=4)) == len(kept["train"])


def test_a_image_repaired_since_is_tried_again(pet_images):
    assert len(load("folder", "all", pet_images, skip_unreadable=True)) == 21
    Image.new("RGB", (9, 9)).save(pet_images / "Cat/6.jpg")
    assert len(load("folder", "all", pet_images, skip_unreadable=True)) == 22


def test_natural_order():
    names = ["img10", "img2", "10", "9", "a", "a1", "a1b", "img02", "٣", "", "B"]
    assert sorted(names, key=natural) == ["", "9", "10", "B", "a", "a1", "a1b", "img02", "img2", "img10", "٣"]


def test_fingerprint_tells_sources_apart(tmp_path):
    folder = make_folder(tmp_path, {"cat": 6, "dog": 6})
    files, pixels = load("folder", "train", folder, validation=0), arrays()
    same = [files.fingerprint(), load("folder", "train", folder, validation=0).fingerprint()]
    assert same[0] == same[1]
    changed = pixels.images.copy()
    changed[3, 3, 3, 0] ^= 1
    others = [
        files.take(np.arange(len(files))[::-1]),
        pixels,
        pixels.take(np.arange(9)),
        datasets.from_arrays(changed, pixels.labels),
        datasets.from_arrays(pixels.images, pixels.labels[::-1]),
    ]
    assert len({same[0], *(other.fingerprint() for other in others)}) == 6
    Image.new("RGB", (9, 9)).save(files.images[0])
    assert files.fingerprint() != same[0]


def test_real_flowers(real_data, caplog):
    parts = {split: load("folder", split, real_data / "flowers/flower_photos") for split in datasets.SPLITS}
    assert parts["all"].class_names == ("daisy", "dandelion", "roses", "sunflowers", "tulips")
    assert {split: len(part) for split, part in parts.items()} == {
        "train": 396,
        "validation": 44,
        "test": 110,
        "all": 550,
    }
    assert not {*parts["train"].images, *parts["validation"].images} & {*parts["test"].images}
    assert "flower_photos: left out .txt: 1 (LICENSE.txt)." in caplog.text


def test_real_cats_and_dogs(real_data):
    data_dir = real_data / "cats_vs_dogs/PetImages"
    parts = {split: load("folder", split, data_dir, skip_unreadable=True) for split in ("train", "validation", "test")}
    assert {split: np.bincount(part.labels).tolist() for split, part in parts.items()} == {
        "train": [216, 216],
        "validation": [24, 24],
        "test": [60, 60],
    }
    assert parts["test"].class_names == ("Cat", "Dog")
