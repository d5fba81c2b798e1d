"""Outputs that cannot be written are told before the work, in a line that says what to do."""

import pytest
from unwritable import refuse_to_write

from jft.utils.files import check_folder

FEATURES = ("extract-features", "--model", "nosuch", "--weights", "nosuch", "--stage", "nosuch")


# What is not there, nosuch, would be missed as soon as the work began.
@pytest.mark.parametrize(
    ("command_line", "name", "remedy"),
    [
        (("export", "nosuch", "--out"), "new", "give another --out"),
        (("report", "nosuch", "--out"), "o.html", "give another --out"),
        (("suggest", "nosuch", "--out"), "new/deeper", "give another --out"),
        (("predict", "nosuch", "IMAGE", "--out"), "o.csv", "choose another folder"),
        (("predict", "nosuch", "IMAGE", "--grid"), "o.png", "choose another folder"),
        (("explain", "nosuch", "IMAGE", "--out"), "o.png", "choose another folder"),
        (("explain", "nosuch", "--labels", "--out"), "o.csv", "choose another folder"),
        ((*FEATURES, "--out"), "o.npz", "choose another folder"),
        (("weights", "convert", "nosuch", "--out"), "o.safetensors", "choose another folder"),
        (("weights", "export", "nosuch", "--out"), "o.safetensors", "choose another folder"),
        (("summary", "nosuch", "--graph"), "o.svg", "choose another folder"),
    ],
)
def test_a_folder_that_refuses_is_told_first(command, tmp_path, monkeypatch, command_line, name, remedy):
    locked, image = tmp_path / "locked", tmp_path / "a.png"
    locked.mkdir()
    image.write_text("")
    refuse_to_write(monkeypatch, locked)
    arguments = [image if argument == "IMAGE" else argument for argument in command_line]
    found = command(*arguments, locked / name)
    assert found == (1, "", f"error: {locked} cannot be written (Read-only file system): {remedy}.\n")
    assert list(locked.iterdir()) == []


def test_a_file_where_a_folder_should_be(command, tmp_path):
    """It is named, whether it is the folder itself or above it; a folder that can be made is not made yet."""
    there = tmp_path / "out.csv"
    there.write_text("mine")
    error = f"error: {there} is a file, not a folder: give another --out.\n"
    for out in (there, there / "deeper" / "still"):
        assert command("suggest", "nosuch", "--out", out) == (1, "", error)
    check_folder(tmp_path / "new" / "deeper", "give another --out")
    assert list(tmp_path.iterdir()) == [there] and there.read_text() == "mine"
