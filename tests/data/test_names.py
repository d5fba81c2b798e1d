"""What names say: splits in every spelling, what systems leave behind, names that are alike but for form."""

import unicodedata

import pytest

from jft.data import names


@pytest.mark.parametrize(
    ("split", "spelled"),
    [
        ("train", ["train", "Train", "TRAIN", "training", "Training", " train "]),
        ("validation", ["val", "Val", "valid", "validation", "VALIDATION", "dev", "Dev\t"]),
        ("test", ["test", "Test", "testing", "TESTING"]),
        (None, ["trains", "tests", "develop", "value", "", "training_set", "tset"]),
    ],
)
def test_spellings_of_splits(split, spelled):
    assert {names.split_of(name) for name in spelled} == {split}


def test_two_spellings_of_a_split_are_refused_with_both():
    assert names.splits_of(["cat", "dev", "Training"], "here") == {"validation": "dev", "train": "Training"}
    with pytest.raises(ValueError, match="here has 'val' and 'valid', two spellings of the split validation"):
        names.splits_of(["train", "val", "valid"], "here")


@pytest.mark.parametrize(
    "name",
    [
        *(
            "@eaDir",
            "__MACOSX",
            ".ipynb_checkpoints",
            "lost+found",
            "Thumbs.db",
            "thumbs.db",
            "Desktop.ini",
            ".DS_Store",
        ),
        *("._1.jpg", "$RECYCLE.BIN", "System Volume Information", "#recycle", "@Recycle", "__pycache__", ".git"),
    ],
)
def test_what_systems_leave_is_ignored(name):
    assert names.ignored(name)


def test_what_only_looks_like_it_is_not_ignored():
    assert not any(map(names.ignored, ("lost", "found", "eaDir", "thumbs", "MACOSX", "@home", "desktop")))


def test_names_that_are_alike_but_for_form():
    cafe = "café"
    assert names.alike(["1", "1.0", "01", "2", "A", "a", "b ", "b", cafe, unicodedata.normalize("NFD", cafe)]) == [
        ["1", "1.0", "01"],
        ["A", "a"],
        ["b ", "b"],
        [cafe, unicodedata.normalize("NFD", cafe)],
    ]
    assert names.alike(["1", "10", "100", "1.5", "-1", "a1", "a01", "1e0", "x", "¹", "1.0.0"]) == []
    # Long numbers are told apart to the last digit.
    assert names.alike([f"{10**30}", f"{10**30 + 1}"]) == []
    assert names.alike_warning(["a", "b"]) == ""
    told = names.alike_warning([f"{i}{blank}" for i in range(7) for blank in ("", " ")])
    assert "'0' and '0 '; " in told and told.count(" and '") == 5 and "and 2 more" in told


def test_natural_order_does_not_depend_on_the_form_of_accents():
    words = ["cafd", "café", "cafz", "cafe2", "cafe10"]
    forms = [[unicodedata.normalize(form, word) for word in words] for form in ("NFC", "NFD")]
    first, second = ([names.normal(word) for word in sorted(form, key=names.natural)] for form in forms)
    assert first == second
    # Python reads no number of more than 4,300 digits; a name in a list may have one.
    assert sorted(["9" * 5000, "1" + "0" * 5000, "7"], key=names.natural)[0] == "7"
