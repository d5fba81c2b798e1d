"""Images that occur more than once in a data set: exactly, or looking almost alike."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from PIL import Image
from test_near import PICTURES

from jft.data import datasets, duplicates, near


@pytest.fixture
def arrays():
    """Twelve images of two classes, too small to have a hash."""
    images = np.random.default_rng(0).integers(0, 256, (12, 9, 7, 3), np.uint8)
    return datasets.from_arrays(images, np.arange(12) % 2, ("a", "b"))


@pytest.fixture
def pictures():
    return datasets.from_arrays(np.stack([np.asarray(i) for i in PICTURES[:12]]), np.arange(12) % 2, ("a", "b"))


def test_images_of_the_same_pixels(arrays):
    assert str(duplicates.find(train=arrays.take(np.arange(6)), test=arrays.take(np.arange(6, 12)))) == ""
    train = arrays.take([0, 1, 2, 3, 3])
    relabeled = dataclasses.replace(arrays.take([0, 5]), labels=np.array([1, 1], np.int32))
    found = duplicates.find(train=train, validation=arrays.take([4]), test=relabeled)
    assert (found.count, found.several_labels, len(found.pairs)) == (8, 2, 2)
    assert found.told() == [
        "2 images occur under several labels (image 0 of arrays: b = image 0 of arrays: a)",
        "1 test image is also in train (image 0 of arrays: b = image 0 of arrays: a)",
        "1 train image repeats others of the split (image 3 of arrays: b = image 3 of arrays: b)",
    ]
    assert [(pair.row, pair.other_row) for pair in found.leaking()] == [(0, 0)]
    assert [(pair.row, pair.other_row) for pair in found.between("train", "train")] == [(4, 3)]


def test_several_labels_of_an_image_are_one_set_of_labels(arrays):
    hot = np.zeros((12, 2), np.uint8)
    hot[:, 0] = 1
    several = datasets.from_arrays(arrays.images, hot)
    assert str(duplicates.find(train=several)) == ""
    other = dataclasses.replace(several.take([0]), labels=np.array([[1, 1]], np.uint8))
    assert duplicates.find(train=several, test=other).several_labels == 2


def test_images_that_look_almost_alike(pictures):
    """A mirrored and darker copy in test, another within train, and the same pixels count but as such."""
    changed = (pictures.images[[2, 3]][:, :, ::-1] * 0.9).astype(np.uint8)
    test = datasets.from_arrays(np.concatenate([changed, pictures.images[4:5]]), np.array([0, 1, 1]), ("a", "b"))
    train = datasets.from_arrays(
        np.concatenate([pictures.images, (pictures.images[:1] * 0.8).astype(np.uint8)]),
        np.append(pictures.labels, 0),
        ("a", "b"),
    )
    found = duplicates.find(train=train, test=test)
    kinds = [(p.split, p.row, p.other_split, p.other_row, p.same_pixels, p.flipped) for p in found.pairs]
    assert kinds == [
        ("train", 12, "train", 0, False, False),
        ("test", 0, "train", 2, False, True),
        ("test", 1, "train", 3, False, True),
        ("test", 2, "train", 4, True, False),
    ]
    assert "2 test images look almost like train images (image 0 of arrays: a ~ image 2 of arrays: a, " in str(found)
    assert found.several_labels == 2  # the same pixels as an image of another label


def test_frames_of_one_group_are_as_they_should_be(pictures):
    images = np.concatenate([pictures.images[:3], (pictures.images[:3] * 0.9).astype(np.uint8)])
    source = datasets.from_arrays(images, np.zeros(6, int), ("a",))
    assert len(duplicates.find(train=source).pairs) == 3
    grouped = duplicates.find(train=dataclasses.replace(source, groups=np.array([0, 1, 2, 0, 1, 7])))
    assert [(pair.row, pair.other_row) for pair in grouped.pairs] == [(5, 2)]
    (note,) = grouped.notes()
    assert note.startswith("2 images look almost like another of the same group, such as a frame of the same track")


def test_what_is_written(pictures, tmp_path):
    for row in (0, 1, 0):
        path = tmp_path / f"={len(list(tmp_path.iterdir()))}.png"
        Image.fromarray(pictures.images[row]).save(path)
    files = dataclasses.replace(pictures.take([0, 1, 0]), images=tuple(sorted(tmp_path.glob("*.png"))))
    found = duplicates.find(train=files)
    found.write_csv(tmp_path / "found.csv")
    with (tmp_path / "found.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["split"], row["image"], row["same_pixels"]) == ("train", str(tmp_path / "=2.png"), "True")
    assert json.loads(json.dumps(found.to_json()))["pairs"][0]["other_row"] == 0


def test_a_sample_is_told(pictures, monkeypatch):
    monkeypatch.setattr(near, "MOST_PAIRS", 72)
    (note,) = duplicates.find(train=pictures).notes()
    assert note == "of 12 train images, 6 spread evenly were searched for images that look almost alike"
