"""Dataset 'gtsrb': the German Traffic Sign Recognition Benchmark (GTSRB) in its official folders.

J. Stallkamp, M. Schlipsing, J. Salmen, C. Igel, Man vs. computer, Neural Networks 32 (2012);
https://benchmark.ini.rub.de. The training images are frames of tracks: each track films one sign from a moving car.
"""

import functools
import pathlib
import re
from collections.abc import Callable

import numpy as np

from jft.data import csv_table
from jft.data.csv_table import refuse
from jft.data.image_file import open_image
from jft.data.names import ignored
from jft.data.notes import report

_LIMITS = {0: 20, 1: 30, 2: 50, 3: 60, 4: 70, 5: 80, 7: 100, 8: 120}
_NAMES = (
    *("", "", "", "", "", "", "End of speed limit (80km/h)", "", "", "No passing"),
    *("No passing for vehicles over 3.5 metric tons", "Right-of-way at the next intersection", "Priority road"),
    *("Yield", "Stop", "No vehicles", "Vehicles over 3.5 metric tons prohibited", "No entry", "General caution"),
    *("Dangerous curve to the left", "Dangerous curve to the right", "Double curve", "Bumpy road", "Slippery road"),
    *("Road narrows on the right", "Road work", "Traffic signals", "Pedestrians", "Children crossing"),
    *("Bicycles crossing", "Beware of ice/snow", "Wild animals crossing", "End of all speed and passing limits"),
    *("Turn right ahead", "Turn left ahead", "Ahead only", "Go straight or right", "Go straight or left", "Keep right"),
    *("Keep left", "Roundabout mandatory", "End of no passing", "End of no passing by vehicles over 3.5 metric tons"),
)
CLASS_NAMES = tuple(
    f"{number} {f'Speed limit ({_LIMITS[number]}km/h)' if number in _LIMITS else name}"
    for number, name in enumerate(_NAMES)
)
_CORNERS = ("roi.x1", "roi.y1", "roi.x2", "roi.y2")
_COLUMNS = ("filename", "width", "height", *_CORNERS, "classid")
_FRAME = re.compile(r"([0-9]+)_[0-9]+\.ppm")  # 00007_00023.ppm: frame 23 of track 7 of its class
_TRACKS = 10**6  # larger than the number of tracks of any class

# Paths, labels int32 [n], groups int64 [n], regions int32 [n, 4]: see `source.Source`.
Content = tuple[tuple[pathlib.Path, ...], np.ndarray, np.ndarray, np.ndarray]


def find(data_dir: str | None) -> tuple[tuple[str, ...], dict[str, Callable[[], Content]]]:
    """Finds the classes and splits of GTSRB.

    Regions are annotated in pixels of the original images. If an image does not have the Width and Height that its
    CSV file lists, its region is scaled accordingly, with a warning.

    Args:
      data_dir: the folder GTSRB, or its parent. It holds the images of class cc in Final_Training/Images/000cc/ with
        GT-000cc.csv, and optionally the test images in Final_Test/Images/ with GT-final_test.csv.

    Returns:
      The names of the 43 signs, each with its number in front; and {split: function} for those of 'train' and 'test'
      that are there. Each function returns paths, labels, groups (the tracks; each test image is a group of its own),
      and regions of interest.

    Raises:
      FileNotFoundError: neither split is there; or, when a function is called, a CSV file is missing.
      ValueError: when a function is called, a CSV file does not match its folder, or a cell is invalid; names the row.
    """
    root = pathlib.Path(data_dir or "").expanduser()
    if (root / "GTSRB").is_dir():
        root = root / "GTSRB"
    training, test = root / "Final_Training/Images", root / "Final_Test/Images"
    readers = {"train": functools.partial(_read_training, training), "test": functools.partial(_read_test, test)}
    there = {"train": data_dir and training.is_dir(), "test": data_dir and test.is_dir()}
    if not any(there.values()):
        raise FileNotFoundError(
            f"dataset 'gtsrb': there is no folder {training}. Unpack GTSRB_Final_Training_Images.zip, "
            "GTSRB_Final_Test_Images.zip and, among the test images, GTSRB_Final_Test_GT.zip, all from "
            "https://benchmark.ini.rub.de/gtsrb_dataset.html, and set data_dir to the folder GTSRB or its parent."
        )
    return CLASS_NAMES, {split: reader for split, reader in readers.items() if there[split]}


def _read_training(root: pathlib.Path) -> Content:
    folders = sorted(p for p in root.iterdir() if p.is_dir() and re.fullmatch("[0-9]{5}", p.name))
    if strange := [p.name for p in folders if int(p.name) >= len(CLASS_NAMES)]:
        raise ValueError(f"{root} holds the class folders {', '.join(strange)}, but GTSRB has 00000 to 00042.")
    if not folders:
        raise ValueError(f"{root} holds no class folders; GTSRB has 00000 to 00042 there.")
    if len(folders) < len(CLASS_NAMES):
        report(f"{root} holds {len(folders)} class folders of GTSRB's {len(CLASS_NAMES)}.")
    parts = [_read(folder, folder / f"GT-{folder.name}.csv", int(folder.name)) for folder in folders]
    images = sum((part[0] for part in parts), ())
    arrays = (np.concatenate(arrays) for arrays in list(zip(*parts, strict=True))[1:])
    return _with_regions_scaled(root, images, *arrays)


def _read_test(root: pathlib.Path) -> Content:
    return _with_regions_scaled(root, *_read(root, root / "GT-final_test.csv", None))


def _with_regions_scaled(
    root: pathlib.Path, images: tuple[pathlib.Path, ...], labels: np.ndarray, groups: np.ndarray, boxes: np.ndarray
) -> Content:
    """The content with regions scaled to the actual image sizes.

    `boxes` is int [n, 6]: width and height as listed, and the region in an image of that size.
    """
    listed, regions = boxes[:, :2], boxes[:, 2:]
    actual = np.array([_size(path) or tuple(size) for path, size in zip(images, listed, strict=True)])
    other = np.flatnonzero((actual != listed).any(axis=1))
    if len(other):
        (width, height), (was_wide, was_tall) = actual[other[0]], listed[other[0]]
        report(
            f"{root}: {len(other)} of {len(images)} images do not have the size in their CSV file, e.g. "
            f"{images[other[0]].name} is {width}x{height}, not {was_wide}x{was_tall}: regions are scaled accordingly."
        )
    scaled = np.rint(regions * np.tile(actual / listed, 2)).astype(np.int32)
    scaled[:, :2] = np.minimum(scaled[:, :2], scaled[:, 2:] - 1)
    return images, labels, groups, np.maximum(scaled, (0, 0, 1, 1)).astype(np.int32)


def _size(path: pathlib.Path) -> tuple[int, int] | None:
    """Width and height; None if it is no image, which decoding reports later."""
    try:
        with open_image(path) as image:
            return image.size
    except Exception:  # PIL lets every kind of error through
        return None


def _read(
    folder: pathlib.Path, table: pathlib.Path, label: int | None
) -> tuple[tuple[pathlib.Path, ...], np.ndarray, np.ndarray, np.ndarray]:
    """The images of a folder, as listed in its CSV file.

    Args:
      folder: holds the images.
      table: the CSV file.
      label: the class of all training images in the folder, which are frames of tracks; None: a test folder, with any
        class and without tracks.

    Returns:
      Paths, labels, groups, and int [n, 6]: width, height, region.
    """
    if not table.is_file():
        archive = "GTSRB_Final_Test_GT.zip" if label is None else "GTSRB_Final_Training_Images.zip"
        raise FileNotFoundError(f"there is no {table}, the labels of the images in its folder; unpack {archive} there.")
    content = csv_table.read(table, ";")
    columns, rows = content.columns, content.rows
    if missing := [column for column in _COLUMNS if column not in columns]:
        raise ValueError(
            f"{table} has the columns {', '.join(columns)}, separated by ';', and lacks {', '.join(missing)}: use the "
            "official file."
        )
    there = {p.name for p in folder.iterdir() if p.suffix.lower() == ".ppm" and not ignored(p.name)}
    parsed, wrong, first = [], [], {}
    for number, cells in rows:
        try:
            parsed.append(_parse(cells, there, label))
            if first.setdefault(cells["filename"], number) < number:
                raise ValueError(f"lists {cells['filename']} again after row {first[cells['filename']]}")
        except ValueError as error:
            wrong.append((number, str(error)))
    refuse(table, wrong)
    if unlisted := sorted(there - first.keys()):
        raise ValueError(f"{table} has no row for {len(unlisted)} images of its folder, e.g. {unlisted[0]}.")
    names, labels, tracks, boxes = zip(*parsed, strict=True)
    groups = np.array(tracks, np.int64) if label is not None else -1 - np.arange(len(names))
    return tuple(folder / name for name in names), np.array(labels, np.int32), groups, np.array(boxes)


def _parse(cells: dict[str, str], there: set[str], label: int | None) -> tuple[str, int, int, list[int]]:
    """File name, class, group, and [width, height, region] of a row; ValueError if a cell is invalid."""
    for column in _COLUMNS[1:]:
        if not re.fullmatch("[0-9]{1,6}", cells[column]):
            raise ValueError(f"has {column} {cells[column]!r}, which is not a whole number")
    name, number = cells["filename"], int(cells["classid"])
    width, height, *region = (int(cells[column]) for column in _COLUMNS[1:7])
    left, top, right, bottom = region
    frame = _FRAME.fullmatch(name)
    if name not in there:
        raise ValueError(f"lists {name!r}, which is not in its folder")
    if number >= len(CLASS_NAMES) or label not in (None, number):
        raise ValueError(f"has ClassId {number}, not {f'{label}, as its folder' if label is not None else '0 to 42'}")
    if not (left < right <= width and top < bottom <= height):
        raise ValueError(f"has the region x {left}..{right}, y {top}..{bottom}, which is not within {width}x{height}")
    if label is not None and not frame:
        raise ValueError(f"lists {name!r}, whose name is not TRACK_FRAME.ppm")
    return name, number, number * _TRACKS + int(frame[1]) if frame else 0, [width, height, *region]
