"""Image files of strangers: what is opened, what is refused by name, and that little memory and time go into it."""

import dataclasses
import io
import os
import pathlib
import re
import socket
import struct
import threading
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from jft.data import datasets, decode, image_file, notes
from jft.data.image_file import open_image
from jft.data.transforms import Preprocess

SPEC = Preprocess(size=16, resize=20)
SMALL = Image.new("RGB", (16, 12), (200, 100, 50))


def encoded(image=SMALL, form="PNG", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height, extra=b""):
    """A black image whose rows are never held at once."""
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + width)) for _ in range(height)) + packer.flush()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def tiff(width, height, **tags):
    """A deflated gray image; `tags` are further ones, tag_<number>=value."""
    pixels = zlib.compress(bytes(10**6), 9)
    known = {256: width, 257: height, 258: 8, 259: 8, 262: 1, 277: 1, 278: height, 273: 0, 279: len(pixels)}
    known |= {int(name.removeprefix("tag_")): value for name, value in tags.items()}
    end = 8 + 2 + 12 * len(known) + 4
    known |= {tag: end for tag in (273, 324) if tag in known}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, known[tag]) for tag in sorted(known))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(known)) + entries + bytes(4) + pixels


def webp(kind, size_at, size):
    content = kind + struct.pack("<I", 10) + bytes(size_at - 20) + size
    return b"RIFF" + struct.pack("<I", 100) + b"WEBP" + content + bytes(40)


def gif(canvas, frame):
    head = b"GIF89a" + struct.pack("<HH", *canvas) + b"\0\0\0,"
    return head + struct.pack("<HHHH", 0, 0, *frame) + b"\0\x02\x02D\x01\0;"


def rle_bmp(width, height):
    head = bytearray(encoded(Image.new("P", (4, 4)), "BMP"))
    head[18:26], head[30:34] = struct.pack("<ii", width, height), struct.pack("<I", 1)
    return bytes(head[: struct.unpack("<I", head[10:14])[0]]) + b"\1\5\0\0" * height + b"\0\1"


def scans(image, count):
    plain = encoded(image, "JPEG", progressive=True)
    last = plain[plain.rindex(b"\xff\xda") : -2]
    return plain[:-2] + last * count + b"\xff\xd9"


def test_one_place_opens_images():
    """Whatever else opened an image by its content would start Ghostscript on a PostScript file."""
    package = pathlib.Path(image_file.__file__).parents[1]
    # But for the example in a model card, and jft's own drawings, which are opened as PNG alone.
    opens = re.compile(
        r"(?<!transpose\()\bImage\.open\((?!file, formats=\(\"PNG\",\)\))|\bimread\(|decode_(image|jpeg|png|gif|bmp)\("
    )
    found = {str(path.relative_to(package)) for path in package.rglob("*.py") if opens.search(path.read_text())}
    assert found == {"data/image_file.py"}


def test_formats_that_are_read(tmp_path):
    forms = {"a.png": "PNG", "b.jpg": "JPEG", "c.jfif": "JPEG", "d": "JPEG", "e.jpg": "WEBP", "f.gif": "GIF"}
    forms |= {"g.bmp": "BMP", "h.tif": "TIFF", "i.ppm": "PPM", "j.dat": "TIFF"}
    for name, form in forms.items():
        (tmp_path / name).write_bytes(encoded(form=form))
        with open_image(tmp_path / name) as image:
            assert (image.format, image.size) == (form, (16, 12))
        assert decode.decode(tmp_path / name, SPEC, fit="whole").shape == (16, 16, 3)
    several = encoded(form="MPO", save_all=True, append_images=[SMALL])
    assert decode.decode(several, SPEC, fit="whole").shape == (16, 16, 3)


@pytest.mark.parametrize(
    "content,form",
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) print\n", "EPS"),
        (b"8BPS\0\1" + bytes(40), "PSD"),
        (b"SIMPLE  =                    T" + bytes(80), "FITS"),
        (encoded(form="ICO"), "ICO"),
        (encoded(form="JPEG2000"), "JPEG2000"),
    ],
)
def test_other_formats_are_named_and_their_readers_not_started(tmp_path, content, form, monkeypatch):
    Image.init()
    for name, (_, accepts) in list(Image.OPEN.items()):
        if name not in image_file.FORMATS:
            monkeypatch.setitem(Image.OPEN, name, (lambda *_, name=name: pytest.fail(name), accepts))
    path = tmp_path / "rose.png"
    path.write_bytes(content)
    wanted = rf"cannot read {path} as an image \(it seems to be {form}, and jft reads JPEG, PNG, .*: convert it\)"
    with pytest.raises(ValueError, match=wanted):
        decode.decode(path, SPEC, fit="crop")
    assert decode.unreadable([path])[0].startswith(f"it seems to be {form}")


BOMBS = {
    "png": (lambda: png(11_000, 10_000), "its 11,000 x 10,000 pixels are 110,000,000"),
    "png zTXt": (lambda: png(9, 9, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**7)))), "MAX_TEXT_CHUNK"),
    "png iCCP": (lambda: png(9, 9, chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(10**7)))), "MAX_TEXT_CHUNK"),
    "tiff": (lambda: tiff(20_000, 20_000), "400000000 pixels"),
    "tiff tile": (lambda: tiff(9, 9, tag_322=30_000, tag_323=30_000, tag_324=0, tag_325=999), "30,000 x 30,000"),
    "gif canvas": (lambda: gif((60_000, 60_000), (1, 1)), "3600000000 pixels"),
    "gif frame": (lambda: gif((1, 1), (10_000, 10_000)), "10,000 x 10,000"),
    "webp VP8X": (lambda: webp(b"VP8X", 24, (9999).to_bytes(3, "little") * 2), "10,000 x 10,000"),
    "webp VP8L": (lambda: webp(b"VP8L", 20, b"\x2f" + struct.pack("<I", 9999 | 9999 << 14)), "10,000 x 10,000"),
    "webp VP8": (lambda: webp(b"VP8 ", 23, b"\x9d\x01\x2a" + struct.pack("<HH", 10_000, 10_000)), "10,000 x 10,000"),
    "bmp runs": (lambda: rle_bmp(5_000, 5_000), "5,000 x 5,000 pixels in runs take too long"),
    "jpeg scans": (lambda: scans(Image.new("L", (1000, 1000)), 2000), "scans of 1,000 x 1,000 pixels take too long"),
    "ppm": (lambda: b"P6 10000 10000 255\n" + bytes(99), "10,000 x 10,000"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_before_memory_is_taken(tmp_path, name):
    make, reason = BOMBS[name]
    path = tmp_path / "bomb"
    path.write_bytes(make())
    tracemalloc.start()
    try:
        start = time.perf_counter()
        with pytest.raises(ValueError, match=re.escape(f"cannot read {path} as an image (")) as caught:
            decode.decode(path, SPEC, fit="whole")
        assert time.perf_counter() - start < 2 and tracemalloc.get_traced_memory()[1] < 2e7
    finally:
        tracemalloc.stop()
    assert reason in str(caught.value)


@pytest.mark.filterwarnings("error")
def test_the_limit_is_the_configs(tmp_path):
    (tmp_path / "a").mkdir()
    for i in range(4):
        Image.new("L", (30, 30)).save(tmp_path / f"a/{i}.png")
    Image.new("L", (40, 30)).save(tmp_path / "a/9.png")
    wanted = {"split": "all", "data_dir": str(tmp_path), "validation": 0, "seed": 0}
    source = datasets.load_source("folder", **wanted, max_image_pixels=1000)
    assert source.square(0, SPEC, "whole").shape == (16, 16, 3)
    with pytest.raises(ValueError, match=r"9.png .*its 40 x 30 pixels are 1,200; max_image_pixels = 1,000: shrink .*"):
        source.square(4, SPEC, "whole")
    with pytest.raises(ValueError, match="or raise max_image_pixels in the config"):
        source.pixels(4, SPEC)
    assert len(datasets.load_source("folder", **wanted, max_image_pixels=1000, skip_unreadable=True)) == 4
    assert len(datasets.load_source("folder", **wanted, max_image_pixels=1200, skip_unreadable=True)) == 5


def test_a_limit_above_pillows_is_kept_too(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    assert decode.decode(encoded(Image.new("L", (40, 40))), SPEC, fit="whole", max_pixels=2000).shape == (16, 16, 3)
    assert Image.MAX_IMAGE_PIXELS == 2000


def test_threads_together_hold_no_more_than_the_limit(monkeypatch):
    monkeypatch.setattr(image_file, "_PIXELS_PER_CPU", 0)
    held, most, lock = [0], [0], threading.Lock()

    def read():
        with open_image(content, 2000):
            with lock:
                held[0] += 900
                most[0] = max(most[0], held[0])
            time.sleep(0.01)
            with lock:
                held[0] -= 900

    content = encoded(Image.new("L", (30, 30)))
    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert most == [1800] and held == [0]


def test_what_is_no_file_is_refused_at_once(tmp_path, monkeypatch):
    """A FIFO used to be waited for without an end."""
    made = {name: tmp_path / f"{name}.png" for name in ("fifo", "socket", "folder", "loop", "gone")}
    os.mkfifo(made["fifo"])
    made["folder"].mkdir()
    made["loop"].symlink_to(made["loop"])
    made["gone"].symlink_to(tmp_path / "nothing.png")
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(tmp_path)  # a socket's path is short
        listener.bind("socket.png")
        made["device"] = pathlib.Path("/dev/zero")
        told = dict(zip(made, decode.unreadable(list(made.values())).values(), strict=True))
    assert told["fifo"] == f"{made['fifo']} is a FIFO, not a regular file"
    assert "is a socket" in told["socket"] and "is a folder" in told["folder"] and "is a device" in told["device"]
    assert "Too many levels of symbolic links" in told["loop"] and "No such file" in told["gone"]


def test_a_broken_link_is_left_out_as_any_unreadable_image(tmp_path, caplog):
    from jft.features.cache_key import image_digests

    for name in "ab":
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.new("L", (9, 9), i).save(tmp_path / name / f"{i}.png")
    (tmp_path / "a/7.png").symlink_to(tmp_path / "nothing.png")
    wanted = {"split": "all", "data_dir": str(tmp_path), "validation": 0, "seed": 0}
    assert len(datasets.load_source("folder", **wanted, skip_unreadable=True)) == 6
    assert "left out 1 unreadable of 7" in caplog.text and "a/7.png (" in caplog.text
    every = datasets.load_source("folder", **wanted)
    os.mkfifo(tmp_path / "pipe.png")
    odd = dataclasses.replace(every.take(np.array([3, 0])), images=(every.images[3], tmp_path / "pipe.png"))
    for row, path in enumerate(odd.images):  # of the features' cache, too
        with pytest.raises(ValueError, match=f"cannot read {path} as an image"):
            image_digests(odd.take(np.array([row])))


def gray(values, form="PNG"):
    return encoded(Image.fromarray(values), form)


def source_of(images):
    rows = np.arange(len(images))
    return datasets.Source("scans", ("a",), np.zeros(len(images), np.int32), tuple(images), rows)


@pytest.mark.parametrize(
    "dtype,form,white",
    [
        (np.float32, "TIFF", 1),
        (np.float32, "TIFF", 255),
        (np.int32, "TIFF", 255),
        (np.int32, "TIFF", 4095),
        (np.uint16, "PNG", 255),
        (np.uint16, "PNG", 1023),
        (np.uint16, "PNG", 4095),
        (np.uint16, "TIFF", 65535),
    ],
)
def test_white_is_found_in_the_data_set_and_not_in_each_image(dtype, form, white):
    """Three images of one scene, of which the second is darker: it stays darker."""
    ramp = np.linspace(0, 1, 256).reshape(16, 16)
    images = [gray((ramp * share * white).astype(dtype), form) for share in (1, 0.25, 0.75)]
    source = source_of(images)
    with notes.heard() as said:
        assert source.white == white
    means = [source.square(row, SPEC, "whole").mean() for row in range(3)]
    np.testing.assert_allclose(means, [127.5, 31.9, 95.6], atol=2)
    assert f"scans: images of more than 8 bits are read as 0 .. {white}, judging by 3 of 3 images" in " ".join(said)
    np.testing.assert_array_equal(source.pixels(1, SPEC), source.pixels(1, source.ranged(SPEC)))


def test_a_range_that_nobody_can_tell_is_refused():
    for peak, dtype in ((1.7, np.float32), (20, np.uint16), (10**6, np.int32)):
        with pytest.raises(
            ValueError, match=rf"scans: .* values up to {re.escape(f'{peak:g}')}, .* max_value in the config"
        ):
            assert source_of([gray(np.full((9, 9), peak, dtype), "TIFF")]).white
    for value, message in ((-3, "reach down to -3"), (np.nan, "not finite")):
        with pytest.raises(ValueError, match=message):
            assert source_of([gray(np.full((9, 9), value, np.float32), "TIFF")]).white
    given = dataclasses.replace(SPEC, max_value=20.0)
    assert (source_of([gray(np.full((9, 9), 10, np.uint16))]).square(0, given, "whole") == 128).all()
    with pytest.raises(ValueError, match=r"values reach 30, above 20, which is white in its data set \(max_value\)"):
        decode.decode(gray(np.full((9, 9), 30, np.uint16)), given, fit="whole")


def test_a_lone_image_of_twelve_bits_is_no_black_one():
    for dark in (np.full((9, 9), 3000, np.uint16), np.full((9, 9), 0.5, np.float32)):
        with pytest.raises(ValueError, match="the value of white is unknown: set max_value"):
            decode.decode(gray(dark, "TIFF"), SPEC, fit="whole")
    assert not decode.decode(gray(np.zeros((9, 9), np.uint16)), SPEC, fit="whole").any()
    pgm = b"P5 9 9 4095\n" + np.full((9, 9), 2048, ">u2").tobytes()  # says itself what is white
    assert (decode.decode(pgm, SPEC, fit="whole") == 128).all()


def test_colors_of_sixteen_bits_that_hold_twelve_are_refused():
    rows = np.full((9, 9, 3), 4000, ">u2")
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 16, 2, 0, 0, 0))
    image = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    with pytest.raises(ValueError, match="colors of 16 bits a channel stay below 4,096 of 65,535: convert it to 8"):
        decode.decode(image, SPEC, fit="whole")


def hidden_noise():
    """Red in the middle of transparent noise, in each mode that can hold it."""
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 4), dtype=np.uint8)
    noise[..., 3] = 0
    noise[5:15, 5:15] = (255, 0, 0, 255)
    rgba = Image.fromarray(noise)
    palette = Image.new("P", (20, 20), 1)
    palette.putpalette([255, 0, 0, 12, 200, 90])
    palette.paste(0, (5, 5, 15, 15))
    keyed = Image.new("RGB", (20, 20), (12, 200, 90))
    keyed.paste((255, 0, 0), (5, 5, 15, 15))
    return {
        "rgba.png": encoded(rgba),
        "rgba.tif": encoded(rgba, "TIFF"),
        "rgba.webp": encoded(rgba, "WEBP", lossless=True, exact=True),
        "palette.png": encoded(palette, transparency=1),
        "palette.gif": encoded(palette, "GIF", transparency=1),
        "keyed.png": encoded(keyed, transparency=(12, 200, 90)),
    }


@pytest.mark.parametrize("name", hidden_noise())
def test_hidden_colors_are_not_shown_to_the_network(name):
    content = hidden_noise()[name]
    for background, seen in (("white", 255), ("#808080", 128)):
        pixels = decode.pixels(content, dataclasses.replace(SPEC, background=background))
        inside = np.zeros((20, 20), bool)
        inside[5:15, 5:15] = True
        assert (pixels[inside] == (255, 0, 0)).all() and (pixels[~inside] == seen).all()
    dropped = decode.pixels(content, dataclasses.replace(SPEC, background=""))  # as runs did before there was a field
    assert (dropped[~inside] != 255).any(axis=-1).all()


def test_what_is_opaque_keeps_its_colors():
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 4), dtype=np.uint8)
    noise[..., 3] = 255
    np.testing.assert_array_equal(decode.pixels(encoded(Image.fromarray(noise)), SPEC), noise[..., :3])


def test_specs_without_a_background_mean_what_they_did():
    fields = SPEC.to_dict()
    older = {name: value for name, value in fields.items() if name not in ("background", "max_value")}
    assert Preprocess.from_dict(fields) == SPEC and Preprocess.from_dict(older) == Preprocess(16, 20, background="")
    for background, message in (("wite", "unknown color"), ("#ff000080", "is transparent itself")):
        with pytest.raises(ValueError, match=f"background = '{background}'.*{message}"):
            Preprocess(background=background)
