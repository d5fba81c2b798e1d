"""Folders as people have them: splits in any spelling, what systems leave in them, names in two forms, few images."""

import unicodedata

import numpy as np
import pytest

from jft.data import datasets, notes

CAFE = {form: unicodedata.normalize(form, "café") for form in ("NFC", "NFD")}


def make(root, tree):
    """Empty files named as images; `tree` maps folders to counts."""
    for name, count in tree.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            (root / name / f"{i}.jpg").write_bytes(b"")
    return root


def load(root, split, **options):
    """The source, and what is said of it."""
    options = {"validation": 0.25, "seed": 0, **options}
    with notes.heard() as said:
        source = datasets.load_source("folder", split=split, data_dir=str(root), **options)
    return source, list(said)


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("Training", "dev", "Testing"),
        ("train", "valid", "test"),
        ("TRAIN", "Validation", "TEST"),
        ("training", "val ", "testing"),
    ],
)
def test_splits_in_any_spelling(tmp_path, train, validation, test):
    counts = {train: 4, validation: 2, test: 3}
    make(tmp_path, {f"{split}/{name}": count for split, count in counts.items() for name in ("cat", "dog")})
    found = {split: load(tmp_path, split)[0] for split in ("train", "validation", "test")}
    assert {split: len(source) for split, source in found.items()} == {"train": 8, "validation": 4, "test": 6}
    assert {source.class_names for source in found.values()} == {("cat", "dog")}


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"train/a": 1, "val/a": 1, "valid/a": 1}, "'val' and 'valid', two spellings of the split validation"),
        ({"train/a": 1, "Train/a": 1}, "'Train' and 'train', two spellings of the split train"),
        ({"train/a": 1, "train/b": 1, "c": 1}, "has 'c' next to 'train': a class folder next to split folders"),
        ({"train/a": 1, "test/a": 1, "extra/deep/er": 1}, "has 'extra' next to 'test' and 'train'"),
        ({"train/steam": 1, "plane": 1}, "has 'plane' next to 'train'.*rename the others, if they are classes"),
        ({"train/a": 1, "train/b": 1, "test": 5}, "named like splits hold no class folders .'test'."),
        ({"train/a": 1, "train/b": 1, "dev": 0}, "splits hold no class folders .'dev'."),
        ({"train": 5, "test": 5}, "splits hold no class folders .'test' and 'train'."),
        ({"Training": 5}, "splits hold no class folders .'Training'..*a CSV file"),
    ],
)
def test_folders_that_leave_a_doubt_are_refused_with_both_names(tmp_path, tree, message):
    with pytest.raises(ValueError, match=message):
        load(make(tmp_path, tree), "train")


def test_a_folder_without_images_beside_splits_is_said(tmp_path):
    make(tmp_path, {"train/a": 4, "train/b": 4, "test/a": 1, "test/b": 1, "annotations": 0, "@eaDir/a": 3})
    (tmp_path / "annotations/a.xml").write_text("")
    (tmp_path / "readme.md").write_text("")
    (tmp_path / "overview.png").write_text("")
    source, said = load(tmp_path, "test")
    assert len(source) == 2
    assert said == [
        f"{tmp_path}: left out .md: 1 (readme.md); folders without images: 1 (annotations); hidden or of the system: "
        "1 (@eaDir); images outside of the class folders: 1 (overview.png)."
    ]


def test_classes_may_be_called_as_splits_beside_others(tmp_path):
    source, said = load(make(tmp_path, {"valid": 5, "invalid": 5, "test": 5}), "all")
    assert source.class_names == ("invalid", "test", "valid")
    assert len(said) == 1 and "count as classes ('test' and 'valid') next to 'invalid'" in said[0]


def test_splits_under_unknown_names_are_suspected(tmp_path):
    _, said = load(make(tmp_path, {f"{a}_set/{b}": 5 for a in ("training", "test") for b in ("cat", "dog")}), "all")
    assert len(said) == 1 and "classes test_set, training_set hold the same folders (cat, dog): if they are" in said[0]
    assert load(make(tmp_path / "sound", {"a/1": 5, "a/2": 5, "b/1": 5, "b/3": 5}), "all")[1] == []


@pytest.mark.parametrize(("train", "test"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_are_compared_in_nfc(tmp_path, train, test):
    make(tmp_path, {f"train/{CAFE[train]}": 4, "train/bar": 4, f"test/{CAFE[test]}": 2, "test/bar": 1})
    source, said = load(tmp_path, "test")
    assert source.class_names == ("bar", CAFE["NFC"]) and source.labels.tolist() == [0, 1, 1] and not said
    assert load(tmp_path, "train", classes=(CAFE["NFD"], "bar"))[0].class_names == (CAFE["NFC"], "bar")
    images = np.zeros((2, 4, 4, 3), np.uint8)
    assert datasets.from_arrays(images, [0, 1], ["bar", CAFE["NFD"]]).class_names == source.class_names


def test_two_forms_of_a_name_are_refused(tmp_path):
    make(tmp_path, {CAFE["NFC"]: 2, CAFE["NFD"]: 2})
    with pytest.raises(
        ValueError, match=r"has 'cafe\\u0301' and 'caf\\xe9', which are the same name in two Unicode forms"
    ):
        load(tmp_path, "train")


def test_what_systems_leave_is_no_class_and_no_image(tmp_path):
    make(tmp_path, {"a": 5, "b": 5, "a/@eaDir": 5, "@eaDir": 5, "__MACOSX/a": 5, ".ipynb_checkpoints": 1})
    make(tmp_path, {"lost+found": 0})
    source, said = load(tmp_path, "all")
    assert source.class_names == ("a", "b") and len(source) == 10
    assert said == [f"{tmp_path}: left out hidden or of the system: 5 (.ipynb_checkpoints)."]


def test_class_names_alike_but_for_form_are_warned_of(tmp_path):
    _, said = load(make(tmp_path, {"a": 5, "a ": 5, "1": 5, "01": 5, "B": 5, "b": 5, "c": 5}), "all")
    assert len(said) == 1
    assert "only in case, blanks or zeros: '01' and '1'; 'B' and 'b'; 'a' and 'a '." in said[0]


def test_a_link_to_the_folder_itself_is_no_class(tmp_path):
    make(tmp_path / "data", {"a": 5, "b": 5})
    make(tmp_path, {"far": 5})
    for name, target in (("loop", "."), ("above", ".."), ("ring", "ring"), ("c", "../far")):
        (tmp_path / "data" / name).symlink_to(target)
    source, said = load(tmp_path / "data", "all")
    assert source.class_names == ("a", "b", "c") and len(source) == 15
    assert "links to folders, not followed: 2 (above)" in said[0] and "ring" in said[0]


def test_classes_without_a_test_or_validation_image_are_named(tmp_path):
    make(tmp_path, {"many": 20, "one": 1, "two": 2})
    for split in ("train", "validation"):
        _, said = load(tmp_path, split, validation=0.1)
        assert said == [
            "folder: test has no image of some classes ('one' has 1): its metrics will not cover these "
            "classes. Add images, give a test split of your own, or leave the classes out.",
            "folder: validation has no image of some classes ('one' has 1, 'two' has 1): its metrics will not "
            "cover these classes. Add images, raise validation, or leave the classes out.",
        ]
    # Of classes that were left out nobody asks.
    assert load(tmp_path, "train", classes=("many",), validation=0.1)[1] == []


def test_a_split_of_its_own_that_lacks_a_class_is_said(tmp_path):
    make(tmp_path, {"train/a": 4, "train/b": 4, "test/a": 1})
    _, said = load(tmp_path, "test")
    assert len(said) == 1 and "the test split has no images of 'b': its metrics do not cover them" in said[0]


def test_too_few_images_for_a_share_are_said_by_class(tmp_path):
    make(tmp_path / "two", {"a": 2, "b": 2})
    with pytest.raises(
        ValueError,
        match=r"too few images for validation: 0.1 of 3 is less than one image \('.' has 1, '.' has 2\)",
    ):
        load(tmp_path / "two", "train", validation=0.1)
    make(tmp_path / "one", {"a": 1, "b": 1})
    with pytest.raises(
        ValueError, match=r"too few images for test: 0.2 of 2 is less than one image \('a' has 1, 'b' has 1\)"
    ):
        load(tmp_path / "one", "train")


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "list.csv").write_text("path,label")
    with pytest.raises(FileNotFoundError, match=r"list.csv is a file: .* dataset = 'csv'"):
        load(tmp_path / "list.csv", "train")


def test_everything_is_said_once_in_a_process(tmp_path, caplog):
    make(tmp_path, {"a": 5, "a ": 5, "b": 5})
    (tmp_path / "notes.txt").write_text("")
    for split in ("train", "validation", "train"):
        datasets.load_source("folder", split=split, data_dir=str(tmp_path), validation=0.25, seed=0)
    told = [record.getMessage().partition(": ")[2] for record in caplog.records]
    assert [one[:10] for one in told] == ["class name", "left out ."]
