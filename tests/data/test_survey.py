"""A look at the images: what a messy folder holds is all told, and of a tidy one nothing odd."""

import json

import numpy as np
import pytest
from PIL import Image
from test_near import picture

from jft.config import default_config
from jft.data import datasets, survey


@pytest.fixture(scope="module")
def messy(tmp_path_factory):
    """Classes of 3 and 300, stray files, an unreadable image, copies in both splits, and odd images."""
    root = tmp_path_factory.mktemp("messy")
    seeds = iter(range(1000))
    for split, counts in {"train": {"few": 3, "many": 300}, "test": {"few": 2, "many": 20}}.items():
        for name, count in counts.items():
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                picture(next(seeds), (40, 36)).save(root / split / name / f"{number}.bmp")
    train, test = root / "train", root / "test"
    (train / "notes.txt").write_text("")
    (train / "stray.bmp").write_bytes((train / "few/0.bmp").read_bytes())
    (train / "many/7.bmp").write_bytes(b"BM, but no more")
    (test / "many/0.bmp").write_bytes((train / "many/3.bmp").read_bytes())
    (train / "few/2.bmp").write_bytes((train / "many/5.bmp").read_bytes())
    with Image.open(train / "many/4.bmp") as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((48, 48)).save(test / "many/1.bmp")
    Image.new("RGB", (40, 36), (200, 10, 10)).save(train / "many/8.bmp")
    picture(1001, (400, 20)).save(train / "many/9.bmp")
    with Image.open(train / "many/10.bmp") as image:
        image.convert("L").save(train / "many/10.bmp")
    return root


def look(root, **fields):
    return survey.of_config({**default_config(), "dataset": "folder", "data_dir": str(root), **fields})


def test_a_messy_folder(messy):
    found = look(messy, validation=0.0)
    assert found.splits == {"train": 303, "test": 22} and found.count == 325
    assert found.classes == {"few": {"train": 3, "test": 2}, "many": {"train": 300, "test": 20}}
    assert found.imbalance == 100 and found.sizes == survey.Sizes((40, 36), (40, 36), (400, 20), 3)
    assert [*found.unreadable] == [str(messy / "train/many/7.bmp")]
    names = {kind: [name.removeprefix(str(messy / "train/many")) for name in odd] for kind, odd in found.odd.items()}
    assert names == {"one color": ["/8.bmp"], "elongated": ["/9.bmp"], "tiny": ["/9.bmp"], "gray": ["/10.bmp"]}
    assert [(pair.row, pair.other_row, pair.flipped) for pair in found.duplicates.leaking()] == [
        (2, 6, False),
        (3, 7, True),
    ]
    text = str(found)
    for line in (
        f"{messy.name}: 325 images of 2 classes: 303 for training, 22 for testing\n",
        "training images of a class: few 3, many 300\nsizes from 40 x 36 to 400 x 20 pixels, the median 40 x 36\n",
        "- train: left out .txt: 1 (notes.txt); images outside of the class folders: 1 (stray.bmp).\n",
        "- 1 image cannot be read: train/many/7.bmp (it begins as BMP and is damaged): mend or remove",
        "- few training images: few has 3. ",
        "- the largest class has 100 times the training images of the smallest: balance='sampling' draws all",
        "- 2 images occur under several labels (train/many/5.bmp: many = train/few/2.bmp: few)\n",
        "- 1 test image is also in train (test/many/0.bmp: many = train/many/3.bmp: many)\n",
        "- 1 test image looks almost like train images (test/many/1.bmp: many ~ train/many/4.bmp: many)\n",
        "- accuracy on copies of training images is too good: keep all copies of an image in one split\n",
        "- 1 image is of one color all over: train/many/8.bmp\n",
    ):
        assert line in text, line
    held = json.loads(json.dumps(found.to_json()))
    assert held["unreadable"] and held["duplicates"]["pairs"] and held["splits"] == found.splits


def test_unreadable_images_that_are_skipped_are_a_note(messy):
    found = look(messy, validation=0.0, skip_unreadable=True)
    assert not found.unreadable and "left out 1 unreadable of 303 images" in str(found)


def test_a_command_tells_and_writes_it(messy, command, tmp_path):
    """Without weights on this machine. Status 1: an image cannot be read."""
    out = tmp_path / "look.json"
    status, printed, error = command("check", messy, "--images-only", "--validation", "0", "--out", out)
    assert status == 1 and "1 image cannot be read: train/many/7.bmp" in printed and "--skip-unreadable true" in printed
    assert json.loads(out.read_text()) == json.loads(json.dumps(look(messy, validation=0.0).to_json()))
    copies = tmp_path / "look.csv"
    command("check", messy, "--images-only", "--validation", "0", "--out", copies)
    assert len(copies.read_text().splitlines()) == 4  # two pairs across splits, one within train
    for arguments, message in (
        (("--out", out), "--out goes with --images-only"),
        (("--images-only", "--out", "a.txt"), "give a .json file, or a .csv file"),
    ):
        status, _, error = command("check", messy, *arguments)
        assert status == 1 and message in error


def test_nothing_odd():
    images = np.stack([np.asarray(picture(seed, (40, 36))) for seed in range(24)])
    found = survey.survey({"train": datasets.from_arrays(images, np.arange(24) % 2, ("a", "b"), "squares")})
    assert str(found).splitlines() == [
        "squares: 24 images of 2 classes: 24 for training",
        "training images of a class: 12 in each",
        "all images are 40 x 36 pixels",
        "nothing odd was found",
    ]


def test_gray_images_among_gray_ones_are_not_odd():
    images = np.stack([np.asarray(picture(seed, (30, 30)).convert("L").convert("RGB")) for seed in range(4)])
    assert survey.survey({"train": datasets.from_arrays(images, np.zeros(4, int), ("a",))}).odd == {}
