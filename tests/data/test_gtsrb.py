"""GTSRB: the official tree, its tracks and regions, and what is said of broken lists."""

import re

import numpy as np
import pytest
from PIL import Image

from jft.data import datasets, loader
from jft.data.transforms import Preprocess

HEADER = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"
STOP_CSV, TEST_CSV = "Final_Training/Images/00014/GT-00014.csv", "Final_Test/Images/GT-final_test.csv"
PLAIN = Preprocess(size=16, resize=16)


def load(data_dir, split, validation=0.25, **options):
    return datasets.load_source(
        "gtsrb", split=split, data_dir=str(data_dir), validation=validation, **{"seed": 0, **options}
    )


def image(path, label, frame):
    """A sign of the color (label, frame, 200) in a black border, 6, 5, 4 and 3 pixels wide; its row of the list."""
    width, height = 30 + frame, 28 + frame
    box = (6, 5, width - 4, height - 3)
    image = Image.new("RGB", (width, height))
    image.paste((label, frame, 200), box)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return f"{path.name};{width};{height};{';'.join(map(str, box))};{label}"


def write(table, rows):
    # As the official ones: Windows' line ends, and none after the last row.
    table.write_bytes("\r\n".join([HEADER, *rows]).encode())


@pytest.fixture
def tree(tmp_path):
    """Three classes of 8 tracks, 5 frames each but 9 in track 3; and 6 test images."""
    root = tmp_path / "GTSRB"
    for label in (0, 14, 42):
        folder = root / f"Final_Training/Images/{label:05d}"
        frames = [(track, frame) for track in range(8) for frame in range(9 if track == 3 else 5)]
        rows = [image(folder / f"{track:05d}_{frame:05d}.ppm", label, frame) for track, frame in frames]
        write(folder / f"GT-{label:05d}.csv", rows)
    folder = root / "Final_Test/Images"
    write(root / TEST_CSV, [image(folder / f"{i:05d}.ppm", (0, 14, 42)[i % 3], i) for i in (5, 4, 3, 2, 1, 0)])
    (root / "Readme-Images.txt").write_text("text")
    return root


def tracks(source):
    return {(int(label), p.name[:5]) for label, p in zip(source.labels, source.images, strict=True)}


@pytest.mark.parametrize("above", [False, True])
def test_the_tree(tree, above):
    train, test = (load(tree.parent if above else tree, split, validation=0) for split in ("train", "test"))
    assert len(train) == 3 * 44 and np.bincount(train.labels)[[0, 14, 42]].tolist() == [44] * 3
    assert [p.name for p in test.images] == [f"{i:05d}.ppm" for i in (5, 4, 3, 2, 1, 0)]
    assert test.labels.tolist() == [42, 14, 0, 42, 14, 0] and len(set(test.groups)) == 6
    names = train.class_names
    assert len(names) == 43 and [name.split()[0] for name in names] == [str(c) for c in range(43)]
    assert names[14] == "14 Stop" and names[7] == "7 Speed limit (100km/h)" and names[33] == "33 Turn right ahead"


@pytest.mark.parametrize("seed", range(5))
def test_tracks_are_never_parted(tree, seed):
    train, validation = (load(tree, split, seed=seed) for split in ("train", "validation"))
    assert not tracks(train) & tracks(validation) and len(tracks(train) | tracks(validation)) == 24
    # A quarter of 44 is 11: two tracks of 5 are nearest.
    assert np.bincount(validation.labels)[[0, 14, 42]].tolist() == [10] * 3


def test_without_the_official_test_split_one_of_whole_tracks_is_made(tree):
    for path in (tree / "Final_Test/Images").iterdir():
        path.unlink()
    (tree / "Final_Test/Images").rmdir()
    parts = [load(tree, split) for split in ("train", "validation", "test")]
    assert sum(len(part) for part in parts) == 3 * 44 and sum(len(tracks(part)) for part in parts) == 24
    assert len(set.union(*map(tracks, parts))) == 24


@pytest.mark.parametrize("cache_bytes", [0, 10**9])
def test_only_the_region_is_read(tree, cache_bytes):
    options = {"batch_size": 6, "fit": "whole", "resize_on": "device", "cache_bytes": cache_bytes}
    (batch,) = loader.eval_batches(load(tree, "test"), PLAIN, **options)
    colors = np.stack([batch["label"], [5, 4, 3, 2, 1, 0], np.full(6, 200)], axis=1)
    np.testing.assert_array_equal(batch["image"], np.broadcast_to(colors[:, None, None], (6, 16, 16, 3)))
    (batch,) = loader.eval_batches(load(tree, "test", region_of_interest=False), PLAIN, **options)
    assert (batch["image"][:, 0] == 0).all() and (batch["image"][:, 8, 8] == colors).all()


def test_regions_follow_images_that_were_resized(tree, caplog):
    small = tree / "Final_Test/Images/00005.ppm"  # 35x33, its region x 6..31, y 5..30
    Image.open(small).resize((70, 16), Image.Resampling.BOX).save(small)
    source = load(tree, "test")
    assert source.regions[0].tolist() == [12, 2, 62, 15] and source.regions[1].tolist() == [6, 5, 30, 29]
    load(tree, "test")  # as a run does, which is no reason to say it again
    (warning,) = [text for record in caplog.records if "in their CSV file" in (text := record.getMessage())]
    assert "1 of 6 images" in warning and "00005.ppm is 70x16, not 35x33: regions are scaled" in warning


def test_an_unreadable_image_is_one_error_or_left_out(tree):
    bad = tree / "Final_Test/Images/00005.ppm"
    bad.write_bytes(b"")
    options = {"batch_size": 6, "fit": "crop", "resize_on": "host", "cache_bytes": 0}
    with pytest.raises(ValueError, match=rf"cannot read {bad} as an image .* set skip_unreadable=True"):
        list(loader.eval_batches(load(tree, "test"), PLAIN, **options))
    source = load(tree, "test", skip_unreadable=True)
    assert len(source) == len(source.regions) == 5 and source.indices.tolist() == [1, 2, 3, 4, 5]


def test_images_can_be_taken_and_joined_with_what_belongs_to_them(tree):
    every = load(tree, "all")
    assert len(every) == 138 and every.groups.shape == (138,) and every.regions.shape == (138, 4)
    few = every.take(np.array([137, 3]))
    assert few.regions.tolist() == every.regions[[137, 3]].tolist() and few.groups[0] != few.groups[1]
    moved = every.take(np.arange(138))
    moved.regions[0, 0] += 1
    assert moved.fingerprint() != every.fingerprint()


GOOD = "00001_00004.ppm;34;32;6;5;30;29;14"  # row 11 of the stop signs


@pytest.mark.parametrize(
    "row,message",
    [
        ("00001_00004.ppm;34;32;6;5;30", "row 11 has 6 cells, but there are 8 columns"),
        ("00001_00004.ppm;34;32;6;x;30;29;14", "row 11 has roi.y1 'x', which is not a whole number"),
        ("00001_00004.ppm;34;32;6;5;30;29;", "row 11 has classid '', which is not a whole number"),
        ("00001_00004.ppm;34;32;6;5;35;29;14", r"row 11 has the region x 6..35, y 5..29, which is not within 34x32"),
        ("00001_00004.ppm;34;32;30;5;30;29;14", "row 11 has the region x 30..30"),
        ("00001_00004.ppm;34;32;6;5;30;29;15", "row 11 has ClassId 15, not 14, as its folder"),
        ("00001_00099.ppm;34;32;6;5;30;29;14", "row 11 lists '00001_00099.ppm', which is not in its folder"),
        ("00001_00003.ppm;33;31;6;5;29;28;14", "row 11 lists 00001_00003.ppm again after row 10"),
        (None, "has no row for 1 images of its folder, e.g. 00001_00004.ppm"),
    ],
)
def test_a_broken_row_is_named_with_its_file(tree, row, message):
    table = tree / STOP_CSV
    lines = table.read_bytes().decode().split("\r\n")
    assert lines[10] == GOOD
    write(table, lines[1:10] + ([row] if row else []) + lines[11:])
    with pytest.raises(ValueError, match=rf"{re.escape(str(table))}:? {message}"):
        load(tree, "train")


def test_all_broken_rows_are_told_at_once(tree):
    write(tree / TEST_CSV, [f"{i:05d}.ppm;30;30;5;5;25;25;{'43' if i < 6 else ''}" for i in range(9)])
    with pytest.raises(ValueError, match=r"row 2 has ClassId 43, not 0 to 42; row 3 .*; and 4 more rows \(the header"):
        load(tree, "test")


def test_what_systems_leave_is_no_image(tree):
    (tree / "Final_Training/Images/00014/._00000_00000.ppm").write_bytes(b"\0\5\x16\7")
    assert len(load(tree, "train", validation=0)) > 0


def test_missing_files_are_named(tree, tmp_path):
    (tree / TEST_CSV).rename(tree / "Final_Test/Images/GT-final_test.test.csv")  # the archive's list without classes
    assert len(load(tree, "train")) == 102
    with pytest.raises(FileNotFoundError, match=r"no .*GT-final_test.csv.*GTSRB_Final_Test_GT.zip"):
        load(tree, "test")
    (tree / STOP_CSV).unlink()
    with pytest.raises(FileNotFoundError, match=r"no .*00014/GT-00014.csv"):
        load(tree, "train")
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*Final_Training.*data_dir to the folder GTSRB"):
        load(tmp_path / "nowhere", "train")
    (tree / "Final_Training/Images/00043").mkdir()
    with pytest.raises(ValueError, match="class folders 00043, but GTSRB has 00000 to 00042"):
        load(tree, "train")
    (tree / TEST_CSV).write_text("Filename,Width\n1.ppm,3\n")
    with pytest.raises(
        ValueError, match=r"GT-final_test.csv has the columns filename,width, .* lacks filename, width, "
    ):
        load(tree, "test")


def test_real_gtsrb(real_data):
    parts = {split: load(real_data / "gtsrb", split, validation=0.1) for split in ("train", "validation", "test")}
    assert len(parts["train"]) + len(parts["validation"]) == 4300 and len(parts["test"]) == 2150
    assert not tracks(parts["train"]) & tracks(parts["validation"])
    held_out = np.bincount(parts["validation"].labels, minlength=43)
    assert held_out.min() >= 5 and held_out.max() <= 15 and abs(held_out.sum() - 430) < 30
    assert np.bincount(parts["test"].labels).tolist() == [50] * 43
    # Official images have a border of a tenth of the sign, at least 5 pixels, on all sides: those from afar are
    # mostly border. These here have been resized, and their regions with them.
    test = parts["test"]
    sizes = np.array([Image.open(path).size for path in test.images])
    left, right = test.regions[:, :2], sizes - test.regions[:, 2:]
    assert (left >= 1).all() and (right >= 1).all() and abs(left.mean() - right.mean()) < 0.5
    # What is cut out holds the sign: stop signs are redder in it than in what is left.
    options = {"batch_size": 50, "fit": "whole", "resize_on": "host", "cache_bytes": 0}
    redness = {}
    for region_of_interest in (True, False):
        source = load(real_data / "gtsrb", "test", region_of_interest=region_of_interest)
        (batch,) = loader.eval_batches(source.take(source.labels == 14), PLAIN, **options)
        red, green, _ = batch["image"].astype(float).mean(axis=(0, 1, 2))
        redness[region_of_interest] = red / green
    assert redness[True] > redness[False] + 0.05
