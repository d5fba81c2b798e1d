"""A folder of class folders, with or without train/, validation/ and test/ above them."""

import functools
import os
import pathlib
import re
from collections.abc import Callable

import numpy as np
from absl import logging

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".pbm", ".pnm", ".tif", ".tiff"}
# What folders (and rows of a CSV) call the splits.
SPLITS = {"train": "train", "validation": "validation", "val": "validation", "valid": "validation", "test": "test"}

Reader = Callable[[], tuple[tuple[pathlib.Path, ...], np.ndarray]]


def find(data_dir: str | None) -> tuple[tuple[str, ...], dict[str, Reader]]:
    """The classes and splits of a folder.

    Args:
      data_dir: holds a folder for each class; or train/, and perhaps validation/ (or val/) and test/, that do.

    Returns:
      The class names in natural order ('2' before '10'), and for each split a function giving the pictures' paths in
      natural order and their labels, int32. Files that are no pictures by their names are left out; hidden ones too.

    Raises:
      FileNotFoundError: there is no such folder.
      ValueError: it holds no class folders, an empty one, or a class that the training split does not know.
    """
    if not data_dir:
        raise ValueError("dataset 'folder' needs data_dir: a folder with one folder of pictures for each class.")
    root = pathlib.Path(data_dir).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}; data_dir must hold one folder of pictures for each class.")
    # A folder 'train' that holds pictures, not folders, is a class: trains beside cars and planes.
    roots = {SPLITS[p.name.lower()]: p for p in _folders(root) if p.name.lower() in SPLITS and _folders(p)}
    if not roots:
        roots = {"train": root}
    reference = roots.get("train", next(iter(roots.values())))
    class_names = tuple(p.name for p in _folders(reference))
    if not class_names:
        raise ValueError(f"{reference} holds no class folders; it must hold one folder of pictures for each class.")
    return class_names, {split: functools.partial(_read, path, class_names) for split, path in roots.items()}


@functools.cache
def report(message: str) -> None:
    """Warns, once in a process: a run loads its data twice."""
    logging.warning("%s", message)


def natural(name: str) -> tuple[list[str | int], str]:
    """A sort key under which 'img2' comes before 'img10'."""
    parts = re.split("([0-9]+)", name)  # every second one is a number
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def _folders(root: pathlib.Path) -> list[pathlib.Path]:
    """The folders in `root` that are not hidden, in natural order."""
    return sorted((p for p in root.iterdir() if p.is_dir() and not _hidden(p.name)), key=lambda p: natural(p.name))


def _hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX"))


def _read(root: pathlib.Path, class_names: tuple[str, ...]) -> tuple[tuple[pathlib.Path, ...], np.ndarray]:
    """Paths and labels of the pictures under `root`."""
    known = {name: label for label, name in enumerate(class_names)}
    paths, labels, strays = [], [], [p for p in root.iterdir() if p.is_file() and not _hidden(p.name)]
    for folder in _folders(root):
        if folder.name not in known:
            raise ValueError(f"{folder} is a class of which there is none to train on: {', '.join(class_names)}.")
        pictures, others = pictures_in(folder)
        if not pictures:
            raise ValueError(f"class folder {folder} holds no pictures; fill or remove it.")
        paths += pictures
        labels += [known[folder.name]] * len(pictures)
        strays += others
    if strays:
        report(f"{root}: {len(strays)} files are no pictures and were left out, e.g. {strays[0].name}.")
    return tuple(paths), np.array(labels, np.int32)


def pictures_in(folder: pathlib.Path) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
    """Pictures by their names under a folder, at any depth, in natural order; and other files. None that is hidden."""
    files = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not _hidden(name)]
        files += [pathlib.Path(parent, name) for name in names if not _hidden(name)]
    pictures = [file for file in files if file.suffix.lower() in _SUFFIXES]
    pictures.sort(key=lambda p: [natural(part) for part in p.relative_to(folder).parts])
    return pictures, [file for file in files if file.suffix.lower() not in _SUFFIXES]
