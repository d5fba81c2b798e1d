"""Images known by their pixels, whatever the file."""

import dataclasses
import io
import os

import numpy as np
import pytest
from PIL import Image

from jft.data import content, datasets
from jft.data.content import content_digest, image_digests
from jft.utils.cache_dir import cache_dir


@pytest.fixture
def arrays():
    """Twelve images of two classes, gray ones among them."""
    images = np.random.default_rng(0).integers(0, 256, (12, 9, 7, 3), np.uint8)
    images[:3] = images[:3, :, :, :1]
    return datasets.from_arrays(images, np.arange(12) % 2, ("a", "b"))


def encoded(source, format, mode="RGB", **options):
    """The images of a source as files in memory."""
    files = []
    for pixels in source.images:
        file = io.BytesIO()
        Image.fromarray(pixels).convert(mode).save(file, format, **options)
        files.append(file.getvalue())
    return dataclasses.replace(source, images=tuple(files))


@pytest.mark.parametrize(("format", "mode"), [("PNG", "RGB"), ("PNG", "RGBA"), ("PPM", "RGB"), ("BMP", "RGB")])
def test_an_array_and_its_lossless_copies_are_one_image(arrays, format, mode):
    digests = image_digests(arrays)
    assert digests.dtype == np.uint64 and len(set(digests.tolist())) == 12
    np.testing.assert_array_equal(image_digests(encoded(arrays, format, mode)), digests)


def test_a_gray_file_and_the_array_of_its_repeated_channel_are_one_image(arrays):
    gray = arrays.take(np.arange(3))
    np.testing.assert_array_equal(image_digests(encoded(gray, "PNG", "L")), image_digests(gray))


def test_a_jpeg_and_what_it_decodes_to_are_one_image_and_saved_anew_it_is_another(arrays):
    files = encoded(arrays, "JPEG", quality=80)
    decoded = np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files.images])
    digests = image_digests(files)
    np.testing.assert_array_equal(image_digests(datasets.from_arrays(decoded, arrays.labels)), digests)
    again = encoded(dataclasses.replace(arrays, images=decoded), "JPEG", quality=60)
    assert not np.isin(image_digests(again), digests).any()


def test_regions_size_and_depth(arrays):
    """What is cut out of an image does not make it another; the same bytes in another shape or depth do."""
    regions = np.tile(np.array([1, 1, 5, 5], np.int32), (12, 1))
    files = encoded(arrays, "PNG")
    np.testing.assert_array_equal(image_digests(dataclasses.replace(files, regions=regions)), image_digests(arrays))
    turned = dataclasses.replace(arrays, images=arrays.images.reshape(12, 7, 9, 3))
    assert not np.isin(image_digests(turned), image_digests(arrays)).any()
    deep = []
    for values in (np.arange(12).reshape(3, 4), np.arange(12).reshape(3, 4) + 1000):
        file = io.BytesIO()
        Image.fromarray(values.astype(np.uint16)).save(file, "PNG")
        deep.append(file.getvalue())
    one, other = image_digests(dataclasses.replace(arrays.take([0, 1]), images=tuple(deep)))
    assert one != other


def test_icons_that_differ_in_their_transparency_alone_are_several_images(arrays):
    """Black ones, whose shape is in their alpha; what is opaque all over is what it is without alpha."""
    icons = np.zeros((*arrays.images.shape[:3], 4), np.uint8)
    icons[..., 3] = arrays.images[..., 0]
    files = []
    for pixels in icons:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        files.append(file.getvalue())
    digests = image_digests(dataclasses.replace(arrays, images=tuple(files)))
    assert len(set(digests.tolist())) == 12


def test_a_file_that_cannot_be_read_is_known_by_its_bytes(arrays, tmp_path):
    broken = dataclasses.replace(arrays.take([0, 1, 2]), images=(b"no image", b"no image", b"nor this"))
    one, again, other = image_digests(broken)
    assert one == again != other
    gone = dataclasses.replace(arrays.take([0]), images=(tmp_path / "gone.png",))
    assert len(image_digests(gone)) == 1


def test_files_are_hashed_once_and_again_when_they_were_touched(arrays, tmp_path, monkeypatch):
    paths = [tmp_path / f"{row}.png" for row in range(12)]
    for path, file in zip(paths, encoded(arrays, "PNG").images, strict=True):
        path.write_bytes(file)
    hashed, facts_of = [], content._facts
    monkeypatch.setattr(content, "_facts", lambda source: hashed.append(len(source)) or facts_of(source))

    def of(paths):
        """As another process does, which has another source."""
        found = image_digests(dataclasses.replace(arrays, images=tuple(paths)))
        return found.tolist(), len(hashed)

    first, _ = of(paths)
    assert of(paths) == (first, 1) and first == image_digests(arrays).tolist()
    before = paths[3].stat()
    other = Image.fromarray(arrays.images[3] ^ 1)
    paths[3].write_bytes(paths[3].read_bytes())
    os.utime(paths[3], ns=(before.st_atime_ns, before.st_mtime_ns))  # of the same size and time
    count = len(hashed)
    assert of(paths) == (first, count + 1)
    other.save(paths[3])
    changed, _ = of(paths)
    assert [a == b for a, b in zip(changed, first, strict=True)].count(False) == 1
    assert of(paths[::-1])[0] == changed[::-1]
    count = len(hashed)
    (kept,) = {path for path in (cache_dir() / "digests").iterdir() if np.load(path)["digest"].tolist() == changed}
    kept.write_bytes(b"damaged")
    assert of(paths) == (changed, count + 1) and of(paths) == (changed, count + 1)


def test_files_are_hashed_where_nothing_can_be_kept(arrays, tmp_path, monkeypatch):
    Image.fromarray(arrays.images[0]).save(tmp_path / "0.png")
    (tmp_path / "cache").write_text("in the way")
    files = dataclasses.replace(arrays.take([0]), images=(tmp_path / "0.png",))
    monkeypatch.setenv("JFT_CACHE", str(tmp_path / "cache"))
    assert image_digests(files)[0] == image_digests(arrays)[0]


def test_the_digest_of_a_data_set_tells_images_labels_classes_and_order_and_no_place(arrays):
    known = content_digest(arrays)
    assert known == content_digest(dataclasses.replace(encoded(arrays, "PNG"), name="elsewhere"))
    changed = [
        dataclasses.replace(arrays, labels=arrays.labels[::-1].copy()),
        dataclasses.replace(arrays, class_names=("a", "c")),
        arrays.take(np.arange(12)[::-1]),
        arrays.take(np.arange(11)),
    ]
    assert len({known, *map(content_digest, changed)}) == 5


def test_facts_tell_the_size_of_an_upright_image_and_0_of_one_that_cannot_be_read(arrays):
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.fromarray(arrays.images[0]).save(file, "PNG", exif=exif)
    source = dataclasses.replace(arrays.take([0, 1]), images=(file.getvalue(), b"no image"))
    facts = content.image_facts(source)
    assert facts["height"].tolist() == [7, 0] and facts["width"].tolist() == [9, 0]
    assert facts["digest"][0] == image_digests(arrays)[0]
