"""Which files are images: by extension, by content where there is none, and never by opening what is no file."""

import builtins
import os
import pathlib

import pytest
from PIL import Image

from jft.data import decode
from jft.data.listing import EXTENSIONS, LeftOut, images_in
from jft.data.transforms import Preprocess

_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")


def listed(root):
    left_out = LeftOut()
    return [str(path.relative_to(root)) for path in images_in(root, left_out)], left_out.counts


@pytest.mark.parametrize("name", ["a.jfif", "a.jpe", "a.JPG", "a.Jfif", "a.tiff", "a.pgm", "a.webp"])
def test_known_extensions_are_not_opened(tmp_path, monkeypatch, name):
    (tmp_path / name).write_bytes(b"")
    monkeypatch.setattr(builtins, "open", None)
    assert listed(tmp_path) == ([name], {})


@pytest.mark.parametrize("kind", _FORMATS)
def test_files_without_extension_are_read_by_content(tmp_path, kind):
    for name in ("image", "photo.jpg_large", "im.jpg?size=9", "scan.001", "2.5 kg"):
        Image.new("RGB", (3, 2)).save(tmp_path / name, kind)
    (tmp_path / "LICENSE").write_text("RIFF BM P1 GIF: some words")
    (tmp_path / "nothing").write_bytes(b"")
    names, counts = listed(tmp_path)
    assert sorted(names) == sorted(["image", "photo.jpg_large", "im.jpg?size=9", "scan.001", "2.5 kg"])
    assert counts == {"no extension, not an image by content": 2}
    assert {decode.pixels(tmp_path / name, Preprocess()).shape for name in names} == {
        (2, 3, 3)
    }  # what is taken can be read


@pytest.mark.parametrize("extension", [".jfif", ".jpe", ".pjpeg"])
def test_a_jpeg_is_read_by_whatever_extension(tmp_path, extension):
    assert extension in EXTENSIONS
    Image.new("RGB", (3, 2)).save(tmp_path / f"a{extension}", "JPEG")
    (path,) = images_in(tmp_path, LeftOut())
    assert decode.pixels(path, Preprocess()).shape == (2, 3, 3)


def test_what_is_left_out_is_counted_by_reason_with_an_example(tmp_path):
    for name in ("b.txt", "a10.txt", "a2.txt", "x.heic", ".DS_Store", "Thumbs.db", "1.png"):
        (tmp_path / name).write_text("")
    for folder in ("@eaDir", ".ipynb_checkpoints", "deep/@eaDir"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "SYNO_THUMB.jpg").write_text("")
    left_out = LeftOut()
    assert [path.name for path in images_in(tmp_path, left_out)] == ["1.png"]
    assert str(left_out) == "hidden or of the system: 5 (.DS_Store); .txt: 3 (a2.txt); .heic: 1 (x.heic)"


def test_links_pipes_and_loops_are_never_followed_or_opened(tmp_path):
    root = tmp_path / "class"
    (root / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere.png").write_text("")
    (root / "linked.png").symlink_to(tmp_path / "elsewhere.png")
    (root / "broken.png").symlink_to(tmp_path / "gone.png")  # is named once it is to be read
    (root / "itself.jpg").symlink_to(root / "itself.jpg")
    (root / "broken").symlink_to(tmp_path / "gone")
    (root / "deep" / "up").symlink_to(root)
    (root / "up.png").symlink_to(tmp_path)
    for name in ("pipe.png", "pipe"):
        os.mkfifo(root / name)
    (root / "to_pipe.png").symlink_to(root / "pipe")
    names, counts = listed(root)
    assert names == ["broken.png", "itself.jpg", "linked.png"]
    assert counts == {
        "no extension, not an image by content": 1,
        "links to folders, not followed": 2,
        "pipes, sockets or devices": 3,
    }


def test_order_is_natural_at_every_depth(tmp_path):
    for name in ("2/b.png", "2/a10.png", "2/a9.png", "10/a.png", "1.png"):
        pathlib.Path(tmp_path, name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert listed(tmp_path)[0] == ["1.png", "2/a9.png", "2/a10.png", "2/b.png", "10/a.png"]
