"""Files that a list names as another system, machine or program wrote them: found where one alone fits, and said."""

import os
import unicodedata

import pytest

from jft.data import datasets, notes
from jft.data.csv_paths import Finder, missing_hint


@pytest.fixture
def disk(tmp_path):
    """A folder with im/0.png .. im/3.png and im/Über.jpg, in which a list may lie."""
    (tmp_path / "im").mkdir()
    for name in ("0.png", "1.png", "2.png", "3.png", "Über.jpg"):
        (tmp_path / "im" / name).write_text("")
    return tmp_path


def found(base, *names):
    """The files' names from `base`, and what is told."""
    finder = Finder(base)
    paths = finder.find(names)
    return [path and os.path.relpath(path, base) for path in paths], finder.corrections()


def test_names_that_stand_are_taken_and_no_folder_is_listed(disk, monkeypatch):
    monkeypatch.setattr(os, "listdir", None)
    monkeypatch.setattr(os, "scandir", None)
    assert found(disk, "im/0.png", str(disk / "im/1.png")) == (["im/0.png", "im/1.png"], [])


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["im\\0.png", "im\\1.png"], ["2 paths with backslashes, read as slashes"]),
        (["im/0", "im/1"], ["2 paths without the extension of the file on disk"]),
        (["IM/0.PNG", "im/1.Png"], ["2 paths in another case than on disk"]),
        (["0", "1"], ["2 paths found in {base}/im", "2 paths without the extension of the file on disk"]),
        (["0.png", "1.png"], ["2 paths found in {base}/im"]),
        (
            ["/home/me/data/im/0.png", "/home/me/data/im/1.png"],
            ["2 paths starting with home/me/data, found in {base}"],
        ),
        (
            ["C:\\data\\im\\0.png", "C:\\data\\im\\1.png"],
            ["2 paths starting with C:/data, found in {base}", "2 paths with backslashes, read as slashes"],
        ),
    ],
)
def test_what_is_made_of_names_is_said_once(disk, names, told):
    paths, said = found(disk, *names)
    assert paths == ["im/0.png", "im/1.png"]
    assert sorted(one.partition(" (")[0] for one in said) == sorted(one.format(base=disk) for one in told)
    assert f"({names[0]} is {disk}/im/0.png)" in said[0]


def test_the_home_folder(disk, monkeypatch):
    monkeypatch.setenv("HOME", str(disk))
    paths, said = found(disk / "im", "~/im/0.png", "~\\im\\1.png")
    assert paths == ["0.png", "1.png"] and said[0].startswith("2 paths starting with ~, the home folder")


def test_accents_in_another_form(disk):
    paths, said = found(disk, "im/" + unicodedata.normalize("NFD", "Über.jpg"))
    assert paths == ["im/Über.jpg"] and said[0].startswith("1 path in another Unicode form than on disk")


def test_what_fits_twice_is_not_found(disk):
    (disk / "im" / "A.png").write_text("")
    (disk / "im" / "a.PNG").write_text("")
    (disk / "im" / "0.jpg").write_text("")
    assert found(disk, "im/a.png", "im/0")[0] == [None, None]
    (disk / "other").mkdir()
    (disk / "other" / "3.png").write_text("")
    assert found(disk, "3.png")[0] == [None]


def test_folders_that_names_differ_in_are_never_dropped(disk):
    # The folder of the only 1.png is no reason to take it for another folder's.
    assert found(disk, "im/0.png", "gone/1.png")[0] == ["im/0.png", None]
    assert found(disk, "/far/cats/1.png", "/far/dogs/1.png")[0] == [None, None]
    assert found(disk, "/far/im/1.png", "/far/gone/2.png")[0] == [None, None]
    for name in ("", ".", "im", "..", "im/0.png/1.png", "/"):
        assert found(disk, name)[0] == [None]


def test_one_that_is_missing_does_not_hide_the_others(disk):
    assert found(disk, *(f"C:\\im\\{i}.png" for i in range(6)))[0] == [*(f"im/{i}.png" for i in range(4)), None, None]


def test_the_pattern_of_missing_names_is_said_with_the_remedy(disk):
    assert missing_hint(["a\\1.png", "a\\2.png"]).startswith(
        "All missing paths (2) use backslashes, as on Windows: write"
    )
    assert missing_hint(["/a/1.png", "/a/2.png"]).startswith(
        "All missing paths (2) are absolute, maybe of another machine"
    )
    assert missing_hint(["a1", "b1.5"]).startswith("All missing paths (2) lack an extension")
    assert missing_hint(["a.png", "b\\c.png"]) == missing_hint([]) == ""
    (disk / "list.csv").write_text("path,label\nC:\\gone\\0.png,a\nC:\\gone\\1.png,b\n")
    with pytest.raises(
        ValueError, match=r"row 2 lists .* \(the header is row 1\)\. All missing paths \(2\) use backslashes"
    ):
        datasets.load_source("csv", split="all", data_dir=str(disk / "list.csv"), validation=0, seed=0)


def test_two_names_of_one_file_are_one_image_listed_twice(disk):
    (disk / "list.csv").write_text("path,label\nim/0.png,a\nim\\0.png,b\n")
    with pytest.raises(ValueError, match=r"row 3 lists .* again after row 2"):
        datasets.load_source("csv", split="all", data_dir=str(disk / "list.csv"), validation=0, seed=0)


def test_a_list_says_what_was_made_of_its_names(disk):
    (disk / "list.csv").write_text("path;label\n" + "".join(f"C:\\x\\im\\{i}.png;{'ab'[i % 2]}\n" for i in range(4)))
    with notes.heard() as said:
        source = datasets.load_source("csv", split="all", data_dir=str(disk / "list.csv"), validation=0, seed=0)
    assert [path.name for path in source.images] == [f"{i}.png" for i in range(4)]
    (told,) = said
    assert told.startswith(f"{disk}/list.csv: cells are separated by semicolons; 4 paths starting with C:/x, found in ")
