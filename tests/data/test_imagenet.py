"""ImageNet's images get their labels from names and folders, or a clear error."""

import json

import pytest
from PIL import Image

from jft.data import imagenet

IDS = imagenet.class_ids()


def image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path, "JPEG")


def test_the_ids_are_those_of_the_published_weights():
    assert len(IDS) == 1000 and list(IDS) == sorted(set(IDS))
    # tench, crane (bird), crane, toilet tissue.
    assert [IDS[i] for i in (0, 134, 517, 999)] == ["n01440764", "n02012849", "n03126707", "n15075141"]


def test_flat_names_class_folders_and_the_published_validation_set(tmp_path):
    for name in ("n01440764_tench.jpg", "n15075141_10026.JPEG", ".n01440764_hidden.jpg"):
        image(tmp_path / name)
    image(tmp_path / "val" / "n02012849" / "ILSVRC2012_val_00000007.JPEG")  # its folder counts
    # The first image is a sea snake, the 293rd a tench, as in ImageNet's own list.
    for number in (1, 293):
        image(tmp_path / f"ILSVRC2012_val_{number:08}.JPEG")
    (tmp_path / "README.txt").write_text("no image")
    source = imagenet.load(tmp_path)
    assert source.class_names == IDS and not source.decoded
    assert {path.name: int(label) for path, label in zip(source.images, source.labels, strict=True)} == {
        "n01440764_tench.jpg": 0,
        "n15075141_10026.JPEG": 999,
        "ILSVRC2012_val_00000007.JPEG": 134,
        "ILSVRC2012_val_00000001.JPEG": 65,
        "ILSVRC2012_val_00000293.JPEG": 0,
    }
    assert source.indices.tolist() == list(range(5))


@pytest.mark.parametrize("name", ["ILSVRC2012_val_00050001.JPEG", "cat.jpg", "n99999999_nothing.jpg"])
def test_a_image_without_a_label_is_an_error_with_a_remedy(tmp_path, name):
    image(tmp_path / "n01440764_tench.jpg")
    image(tmp_path / name)
    with pytest.raises(ValueError, match=rf"1 of 2 images .* first {name}. Name them '<id>_<anything>.jpg'"):
        imagenet.load(tmp_path)


def test_without_tensorflow_datasets(tmp_path, monkeypatch):
    monkeypatch.setattr(imagenet, "_official", lambda name: None)
    imagenet._validation_ids.cache_clear()
    image(tmp_path / "ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(ValueError, match=r"put imagenet_class_index.json into the folder"):
        imagenet.load(tmp_path)
    index = tmp_path / "imagenet_class_index.json"
    index.write_text(json.dumps({str(i): [wnid, "a name"] for i, wnid in enumerate(IDS)}))
    with pytest.raises(ValueError, match=r"ILSVRC2012_val_… do not name their class.*put them into folders"):
        imagenet.load(tmp_path)
    (tmp_path / "ILSVRC2012_val_00000001.JPEG").rename(tmp_path / "n01751748_1.JPEG")
    assert imagenet.load(tmp_path).labels.tolist() == [65]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", "is no list of ImageNet's classes"),
        ("[]", "where an object is expected"),
        ("{}", "does not list 1000"),
        (json.dumps({str(i): [wnid] for i, wnid in enumerate(IDS[:999])}), "does not list 1000"),
        (json.dumps({str(i): [wnid] for i, wnid in enumerate(IDS[::-1])}), "in ascending order"),
        (json.dumps({str(i + 1): [wnid] for i, wnid in enumerate(IDS)}), "KeyError: '0'"),
    ],
)
def test_another_class_index_is_refused(tmp_path, text, message):
    (tmp_path / "imagenet_class_index.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        imagenet.class_ids(tmp_path)


def test_empty_and_absent_folders(tmp_path):
    with pytest.raises(ValueError, match="holds no images"):
        imagenet.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        imagenet.load(tmp_path / "absent")
