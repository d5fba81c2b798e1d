"""jft.data.from_*: one kind of data set, whatever it is made from."""

import io

import numpy as np
import pytest
from PIL import Image

import jft

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (60, 10, 12, 3), np.uint8)
NAMES = np.array(["cat", "dog", "img10", "img2"])
LABELS = NAMES[np.arange(60) % 4]


def test_arrays_are_split_and_shown(tmp_path):
    data = jft.data.from_arrays(IMAGES, LABELS, validation=8)
    assert data.class_names == ("cat", "dog", "img2", "img10")
    assert (len(data.train), len(data.validation), len(data.test), len(data)) == (40, 8, 12, 60)
    rows = [split.indices for split in (data.train, data.validation, data.test)]
    assert sorted(np.concatenate(rows)) == list(range(60))
    for split in (data.train, data.validation, data.test):
        assert [data.class_names[label] for label in split.labels] == LABELS[split.indices].tolist()
        np.testing.assert_array_equal(split.images, IMAGES[split.indices])
    assert repr(data) == "Dataset('arrays': 40 training and 8 validation images, 4 classes: cat, dog, img2, img10)"
    assert isinstance(data.show(6), Image.Image) and data.show(4, split="all", path=tmp_path / "grid.png").exists()
    other = jft.data.from_arrays(IMAGES, LABELS, validation=8, seed=1)
    assert (other.test.indices == data.test.indices).all() and (other.train.indices != data.train.indices).any()


def test_splits_of_one_s_own():
    data = jft.data.from_arrays(IMAGES[:20], LABELS[:20], validation=(IMAGES[20:32], LABELS[20:32]), test=4)
    assert (len(data.train), len(data.validation), len(data.test)) == (16, 12, 4)
    np.testing.assert_array_equal(data.validation.images, IMAGES[20:32])
    data = jft.data.from_arrays(IMAGES, LABELS, validation=0, test=0)
    assert (len(data.train), len(data.validation)) == (60, 0)
    with pytest.raises(ValueError, match="'arrays' has no test images"):
        data.test  # noqa: B018
    with pytest.raises(ValueError, match="unknown class 'bird'"):
        jft.data.from_arrays(IMAGES, LABELS, validation=(IMAGES[:1], ["bird"]))


@pytest.mark.parametrize(
    ("labels", "class_names", "stored", "names"),
    [
        ([0, 2, 1, 0], None, [0, 2, 1, 0], ("0", "1", "2")),
        (np.array([0, 1, 1, 0], np.uint8), ("a", "b"), [0, 1, 1, 0], ("a", "b")),
        (["b", "a", "b", "a"], ("b", "a"), [0, 1, 0, 1], ("b", "a")),
        ([("a",), ["b", "a"], {"b"}, ()], None, [[1, 0], [1, 1], [0, 1], [0, 0]], ("a", "b")),
        ([[0, 1], [1], [2], [0]], None, [[1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]], ("0", "1", "2")),
        (np.array([[0, 1], [1, 1], [0, 0], [1, 0]]), None, [[0, 1], [1, 1], [0, 0], [1, 0]], ("0", "1")),
    ],
)
def test_labels_in_any_form(labels, class_names, stored, names):
    data = jft.data.from_arrays(IMAGES[:4], labels, class_names=class_names, validation=0, test=0)
    assert data.train.labels.tolist() == stored and data.class_names == names


@pytest.mark.parametrize(
    ("images", "labels", "told"),
    [
        (IMAGES / 255.0, LABELS, "astype"),
        (IMAGES, LABELS[:5], "60 images and 5 labels"),
        (IMAGES, [0.5] * 60, r"labels are of type float: .* numbers from 0\.$"),
        (
            IMAGES,
            np.eye(3)[np.arange(60) % 3],
            r"labels are of type float64: .* such as labels\.argmax\(axis=1\) of one-hot rows",
        ),
        (IMAGES[:2], ["a", 1], "labels are of type int, str"),
        (IMAGES[0], [0] * 10, "one in color or several in gray"),
    ],
)
def test_what_is_wrong_is_said(images, labels, told):
    with pytest.raises(ValueError, match=told):
        jft.data.from_arrays(images, labels)


def test_images_of_any_size_and_kind(tmp_path):
    pixels = [RNG.integers(0, 256, (8 + n, 9, 3), np.uint8) for n in range(4)]
    Image.fromarray(pixels[0]).save(tmp_path / "0.png")
    encoded = io.BytesIO()
    Image.fromarray(pixels[1]).save(encoded, format="PNG")
    given = [tmp_path / "0.png", encoded.getvalue(), Image.fromarray(pixels[2]), pixels[3]]
    pairs = ((image, "even" if n % 2 == 0 else "odd") for n, image in enumerate(given))
    data = jft.data.from_iterable(pairs, validation=0, test=[(pixels[0], "odd"), (pixels[0][..., 0], "even")])
    from jft.data.transforms import Preprocess

    for row in range(4):
        np.testing.assert_array_equal(data.train.pixels(row, Preprocess()), pixels[row])
    assert data.train.label(1) == "odd" and len(data.test) == 2
    np.testing.assert_array_equal(data.test.pixels(1, Preprocess())[..., 2], pixels[0][..., 0])
    same = jft.data.from_iterable([(image, n % 2) for n, image in enumerate(IMAGES)])
    assert same.source.decoded and len(same) == 60
    mixed = jft.data.from_arrays(IMAGES[:8], [0, 1] * 4, test=(IMAGES[:2, :5], [0, 1]), validation=0)
    assert len(mixed) == 10 and mixed.test.pixels(0, Preprocess()).shape == (5, 12, 3)
    for wrong, told in (([1, 2], "example 0 is a int"), ([(3, 0)], "an image is a int")):
        with pytest.raises(ValueError, match=told):
            jft.data.from_iterable(wrong)


def test_files(tmp_path):
    for number in range(20):
        folder = tmp_path / "photos" / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGES[number]).save(folder / f"{number}.png")
    data = jft.data.from_folder(tmp_path / "photos", validation=0.25)
    assert data.class_names == ("cat", "dog") and (len(data.train), len(data.validation), len(data.test)) == (12, 4, 4)
    assert len(jft.data.from_folder(tmp_path / "photos", classes=["dog"], validation=0).train) == 8
    lines = [f"photos/{('cat', 'dog')[n % 2]}/{n}.png,{n % 2}" for n in range(20)]
    (tmp_path / "list.csv").write_text("\n".join(["file,kind", *lines]))
    data = jft.data.from_csv(tmp_path / "list.csv", image_column="file", label_column="kind")
    assert data.class_names == ("0", "1") and len(data) == 20
    digits = jft.data.from_tfds("digits", classes=["3", "5"])
    assert digits.class_names == ("3", "5") and digits.fields["dataset"] == "digits"
    for make, told in (
        (lambda: jft.data.from_folder(tmp_path / "none"), "none"),
        (lambda: jft.data.from_csv(tmp_path / "none.csv"), "none.csv"),
        (lambda: jft.data.from_tfds("digitz"), "did you mean 'digits'"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=told):
            make()
