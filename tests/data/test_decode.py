"""One decode for every kind of file, equal to torchvision's Resize and CenterCrop pixel by pixel."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from jft.data import transforms
from jft.data.decode import decode
from jft.data.transforms import Preprocess

SPEC = Preprocess(size=16, resize=20)


def encoded(image, form="PNG", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def quarters(mode="RGB"):
    """40x40: red, green / blue, white."""
    image = Image.new("RGB", (40, 40), "white")
    for color, corner in (("red", (0, 0)), ("lime", (20, 0)), ("blue", (0, 20))):
        image.paste(color, (*corner, corner[0] + 20, corner[1] + 20))
    return image.convert(mode)


# torchvision 0.29.2, PIL 13.0.0: zlib.crc32 of CenterCrop(size)(Resize(resize, interpolation, antialias=True)(noise))
@pytest.mark.parametrize(
    "height,width,resize,size,interpolation,checksum",
    [
        (256, 341, 256, 224, "bilinear", 0x2F865177),
        (343, 256, 256, 224, "bilinear", 0x0C69F4C8),
        (375, 500, 256, 224, "bilinear", 0xEDC88E7D),
        (101, 300, 232, 224, "bilinear", 0x4E47A54D),
        (456, 342, 342, 299, "bicubic", 0xD15F5B44),
        (97, 64, 73, 64, "bicubic", 0xA18205DF),
        (31, 200, 64, 63, "bilinear", 0xAC8A3A04),
    ],
)
def test_crop_is_torchvisions_bit_for_bit(height, width, resize, size, interpolation, checksum):
    raw = np.random.Philox(key=height * 10000 + width).random_raw(height * width * 3)
    image = encoded(Image.fromarray(raw.astype(np.uint8).reshape(height, width, 3)))
    spec = Preprocess(size=size, resize=resize, interpolation=interpolation)
    stored = decode(image, spec, fit="crop")
    assert stored.shape == (resize, resize, 3)
    seen_by_network = np.asarray(transforms.center_crop(stored[None], size)[0])
    assert zlib.crc32(seen_by_network.tobytes()) == checksum


@pytest.mark.parametrize("form,mode", [("PNG", "RGB"), ("PNG", "P"), ("PNG", "RGBA"), ("PNG", "LA")])
@pytest.mark.parametrize("fit", transforms.FITS)
def test_modes_without_loss(form, mode, fit):
    pixels = decode(encoded(quarters(mode), form), SPEC, fit=fit)
    side = SPEC.resize if fit == "crop" else SPEC.size
    assert pixels.shape == (side, side, 3) and pixels.dtype == np.uint8
    expected = np.asarray(quarters(mode).convert("RGB"))
    for y, x in ((2, 2), (2, -3), (-3, 2), (-3, -3)):
        np.testing.assert_array_equal(pixels[y, x], expected[y, x])


@pytest.mark.parametrize("mode", ["RGB", "CMYK", "L"])
def test_jpeg_modes(mode):
    pixels = decode(encoded(quarters(mode), "JPEG", quality=95), SPEC, fit="whole").astype(int)
    expected = np.asarray(quarters(mode).convert("RGB")).astype(int)
    for y, x in ((2, 2), (2, -3), (-3, 2), (-3, -3)):
        assert np.abs(pixels[y, x] - expected[y, x]).max() < 12


def test_sixteen_bit_grays_are_scaled_not_clipped():
    grays = Image.fromarray(np.full((30, 30), 25_700, np.uint16))
    np.testing.assert_array_equal(decode(encoded(grays), SPEC, fit="whole"), 100)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation):
    upright = quarters()
    undo = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270, 3: Image.Transpose.ROTATE_180}
    undo |= {2: Image.Transpose.FLIP_LEFT_RIGHT, 4: Image.Transpose.FLIP_TOP_BOTTOM}
    undo |= {5: Image.Transpose.TRANSPOSE, 7: Image.Transpose.TRANSVERSE}
    held = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    rotated = encoded(held, "PNG", exif=exif)
    np.testing.assert_array_equal(decode(rotated, SPEC, fit="crop"), decode(encoded(upright), SPEC, fit="crop"))


def test_sixteen_bit_grays_are_turned_too():
    values = np.full((30, 30), 25_700, np.uint16)
    values[:15] = 51_400
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    pixels = decode(encoded(Image.fromarray(values), "PNG", exif=exif), SPEC, fit="whole")
    assert pixels[0, 0, 0] == 100 and pixels[-1, 0, 0] == 200


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_is_no_broken_image():
    image = encoded(quarters(), "JPEG", quality=95)
    broken = image[:2] + b"\xff\xe1\x00\x10Exif\x00\x00II*\x00\xff\xff" + image[2:]
    np.testing.assert_array_equal(decode(broken, SPEC, fit="whole"), decode(image, SPEC, fit="whole"))


def test_whole_squashes_and_crop_does_not():
    wide = Image.new("RGB", (80, 40), "black")
    wide.paste("white", (20, 0, 60, 40))
    assert decode(encoded(wide), SPEC, fit="crop").min() > 200
    assert decode(encoded(wide), SPEC, fit="whole")[:, 0].max() == 0


def test_without_antialias_as_the_device_does():
    spec = Preprocess(size=16, resize=20, antialias=False)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (61, 50, 3), dtype=np.uint8))
    of_device = np.asarray(transforms.resize(np.asarray(image)[None], 16, 16, spec)[0])
    assert np.abs(decode(encoded(image), spec, fit="whole") - of_device).max() <= 0.51


@pytest.mark.parametrize(
    "content,reason",
    [
        (b"", "it is empty"),
        (b"\xff\xd8\xff\xe0 nothing", "."),
        (encoded(quarters(), "JPEG")[:-200], "truncated"),
        (encoded(quarters())[:-40], "."),
        (encoded(Image.new("L", (400_000, 1))), "too elongated"),
    ],
)
def test_unreadable_images_are_named(tmp_path, content, reason):
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"cannot read {path} as an image \(.*{reason}"):
        decode(path, SPEC, fit="crop")
    with pytest.raises(ValueError, match=f"cannot read an image of {len(content)} bytes as an image"):
        decode(content, SPEC, fit="crop")


def test_missing_image_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"cannot read .*/gone.png as an image \(FileNotFoundError"):
        decode(tmp_path / "gone.png", SPEC, fit="crop")
