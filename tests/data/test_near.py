"""Perceptual hashes: changed copies are near, mirrored ones too, other images are not; and the search is exact."""

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from jft.data import looks, near


def picture(seed, size=(96, 72)):
    """A random image with structure of all sizes, as photographs have."""
    rng, total = np.random.default_rng(seed), 0.0
    for side in (3, 6, 12, 24, 48):
        noise = Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
        total = total + np.asarray(noise, np.float32) / side**0.5
    return Image.fromarray(((total - total.min()) * (255 / np.ptp(total))).astype(np.uint8))


def hashes(*images):
    return np.stack([looks.of_thumbnails(looks.thumbnail(i)[None], np.array([min(i.size)]))["hash"][0] for i in images])


def as_jpeg(image):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=60)
    return Image.open(file)


PICTURES = [picture(seed) for seed in range(40)]


@pytest.mark.parametrize(
    "change",
    [
        as_jpeg,
        lambda image: image.resize((48, 36)),
        lambda image: image.resize((64, 64)),
        lambda image: image.convert("L"),
        lambda image: ImageEnhance.Brightness(image).enhance(0.8),
        lambda image: image.resize(image.size, box=(0.7, 0.7, 94.6, 71.5)),  # up to 1.5 % lost on each side
    ],
    ids=["jpeg", "half", "square", "gray", "darker", "cropped"],
)
def test_a_copy_is_near_and_its_mirror_image_too_and_another_image_is_not(change):
    known = hashes(*PICTURES)
    for turned in (False, True):
        copies = [change(i.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if turned else i) for i in PICTURES]
        found = near.find(hashes(*copies), known)
        np.testing.assert_array_equal(found.row, np.arange(40))
        assert (found.flipped == turned).all() and found.bits.max() <= near.MOST_BITS
    far = looks.distance(known[:, None], known[None])[~np.eye(40, dtype=bool)]
    assert far.min() > 2 * near.MOST_BITS and 110 < far.mean() < 145  # about half of 255


def test_what_has_no_structure_or_few_pixels_has_no_hash():
    plain, tiny = Image.new("RGB", (40, 40), (200, 30, 30)), picture(0).resize((15, 40))
    assert not hashes(plain, tiny).any()
    assert not looks.mirrored(hashes(plain)).any()
    assert (near.find(hashes(plain, tiny, plain)).row == -1).all()


def test_contrast_and_chroma():
    gray = Image.fromarray(np.repeat(np.array([[100], [200]], np.uint8), 16, axis=0).repeat(32, axis=1))
    red = Image.new("RGB", (32, 32), (200, 20, 60))
    found = looks.of_arrays(np.stack([looks.thumbnail(gray), looks.thumbnail(red)]))
    assert found["contrast"][0] == pytest.approx(50, abs=0.1) and found["contrast"][1] == 0
    assert found["chroma"].tolist() == [0, 180]


def test_files_of_sixteen_bits_look_as_those_of_eight():
    eight = PICTURES[0].convert("L")
    sixteen = Image.fromarray(np.asarray(eight).astype(np.uint16) * 16 + 100)
    assert looks.distance(*hashes(eight, sixteen)) <= 8


def test_search_is_that_of_all_pairs():
    rng = np.random.default_rng(0)
    base = rng.integers(0, 2**63, (30, 4), np.uint64)
    base[:, 0] &= ~np.uint64(1 << 63)
    kept = np.concatenate([base, base[rng.integers(0, 30, 60)]])
    for row in range(30, 90):  # up to 40 bits of the words behind the first turned, some beyond what is near
        for bit in rng.choice(192, rng.integers(0, 41), replace=False):
            kept[row, 1 + bit // 64] ^= np.uint64(1) << np.uint64(bit % 64)
    kept[80:] = looks.mirrored(kept[80:])
    groups = rng.integers(0, 4, 90)
    for of_groups in (None, groups):
        found = near.find(kept, groups=of_groups)
        for row in range(90):
            both = [looks.distance(kept[:row], turned[row]) for turned in (kept, looks.mirrored(kept))]
            bits = np.minimum(*both).astype(float)
            if of_groups is not None:
                bits[groups[:row] == groups[row]] = np.inf
            nearest = bits.min(initial=np.inf)
            if nearest > near.MOST_BITS:
                assert found.row[row] == -1
            else:
                assert (found.bits[row], bits[found.row[row]]) == (nearest, nearest)
    assert found.grouped > 0 and near.find(kept).grouped == 0


def test_a_sample_is_searched_where_there_are_too_many(monkeypatch):
    known = hashes(*PICTURES)
    monkeypatch.setattr(near, "MOST_PAIRS", 800)
    found = near.find(known, known)
    assert found.searched == 20 and (found.row >= 0).sum() == 20
    assert near.find(known, known[:0]).searched == 0
