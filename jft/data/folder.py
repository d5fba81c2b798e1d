"""Dataset 'folder': a folder of class folders, or of split folders that hold class folders."""

import functools
import os
import pathlib
from collections.abc import Callable, Iterable

import numpy as np

from jft.data import listing, names
from jft.data.listing import LeftOut
from jft.data.notes import report
from jft.utils.tree import did_you_mean

Reader = Callable[[], tuple[tuple[pathlib.Path, ...], np.ndarray]]


def find(data_dir: str | None) -> tuple[tuple[str, ...], dict[str, Reader]]:
    """Finds the classes and splits of a folder.

    Args:
      data_dir: a folder with one folder for each class; or with split folders, named by any of `names.SPELLINGS`, each
        with one folder for each class.

    Returns:
      The class names in natural order ('2' before '10') and NFC, and {split: function}. Each function returns the
      image paths in natural order and their labels, int32 [n]. `listing` decides which files are images; a note
      reports the files that are left out.

    Raises:
      FileNotFoundError: there is no such folder.
      ValueError: no class folders, an empty class folder, or a class that is missing from the training split; two
        folders that spell the same split; split folders next to class folders, or without class folders.
    """
    if not data_dir:
        raise ValueError("dataset 'folder' needs data_dir: a folder with one folder of images for each class.")
    root = pathlib.Path(data_dir).expanduser()
    if root.is_file():
        raise FileNotFoundError(
            f"{root} is a file: pass a folder of images, or set dataset = 'csv' for a list of them."
        )
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}; data_dir must hold one folder of images for each class.")
    roots = _split_folders(root) or {"train": root}
    reference = roots.get("train", next(iter(roots.values())))
    class_names = tuple(_class_folders(reference))
    if not class_names:
        raise ValueError(f"{reference} holds no class folders; it must hold one folder of images for each class.")
    if warning := names.alike_warning(class_names):
        report(f"{reference}: {warning}")
    return class_names, {split: functools.partial(_read, path, class_names) for split, path in roots.items()}


def _split_folders(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """The folder of each split; {} where the folders are classes.

    A folder 'train' that holds images directly, next to folders of other names, is a class: trains, cars and planes.
    """
    left_out = LeftOut()
    folders = _folders(root, left_out)
    called = [path for path in folders if names.split_of(path.name)]
    others = [path for path in folders if path not in called]
    if others and not any(_folders(path, LeftOut()) for path in called):
        if called:
            report(
                f"{root}: folders named like splits count as classes ({_quoted(called)}) next to {_quoted(others[:1])}"
                ": if they are splits, move them elsewhere, or move the class folders into them."
            )
        _warn_of_unnamed_splits(folders)
        return {}
    spelled = names.splits_of((path.name for path in called), str(root))
    if flat := [path for path in called if not _folders(path, LeftOut())]:
        raise ValueError(
            f"{root}: folders named like splits hold no class folders ({_quoted(flat)}): sort their images into one "
            "folder for each class, move them elsewhere, or list the images in a CSV file."
        )
    for folder in others:
        if listing.images_in(folder, LeftOut()):
            raise ValueError(
                f"{root} has {folder.name!r} next to {_quoted(called)}: a class folder next to split folders is in no "
                "split. Move it into the splits or elsewhere; or rename the others, if they are classes."
            )
        left_out.add(listing.NO_IMAGES_IN, folder.name)
    if spelled:
        _strays(root, left_out)
        _tell(root, left_out)
    return {split: root / name for split, name in spelled.items()}


def _quoted(paths: Iterable[pathlib.Path]) -> str:
    return " and ".join(repr(path.name) for path in paths)


def _warn_of_unnamed_splits(folders: list[pathlib.Path]) -> None:
    """Warns where all class folders hold the same subfolders: they may be splits with unusual names."""
    held: set[frozenset[str]] = set()
    for folder in folders:
        held.add(frozenset(names.normal(path.name) for path in _folders(folder, LeftOut())))
        if len(held) > 1 or len(next(iter(held))) < 2:
            return
    if len(folders) > 1:
        within = ", ".join(sorted(next(iter(held)), key=names.natural)[:5])
        report(
            f"{folders[0].parent}: the classes {', '.join(path.name for path in folders[:5])} hold the same folders "
            f"({within}): if they are splits, name them train, validation and test."
        )


def _folders(root: pathlib.Path, left_out: LeftOut) -> list[pathlib.Path]:
    """The folders in `root` in natural order, without ignored ones and without links to a parent folder."""
    found, above = [], os.path.realpath(root) + os.sep
    with os.scandir(root) as entries:
        for entry in entries:
            if names.ignored(entry.name):
                left_out.add(listing.SYSTEM, entry.name)
            elif entry.is_symlink() and above.startswith(os.path.realpath(entry.path).rstrip(os.sep) + os.sep):
                left_out.add(listing.LINK, entry.name)
            elif listing.is_folder(entry):
                found.append(pathlib.Path(entry.path))
    return sorted(found, key=lambda path: names.natural(path.name))


def _strays(root: pathlib.Path, left_out: LeftOut) -> None:
    """Adds the files of `root` that are in no class folder to `left_out`; `_folders` counts the ignored ones."""
    with os.scandir(root) as entries:
        for entry in entries:
            if not names.ignored(entry.name) and not listing.is_folder(entry):
                left_out.add(listing.not_an_image(entry) or listing.OUTSIDE, entry.name)


def _tell(root: pathlib.Path, left_out: LeftOut) -> None:
    if left_out.counts:
        report(f"{root}: left out {left_out}.")


def _class_folders(root: pathlib.Path, left_out: LeftOut | None = None) -> dict[str, pathlib.Path]:
    """{class name in NFC: folder} in natural order; ValueError where two folders have the same name in NFC."""
    found: dict[str, pathlib.Path] = {}
    for folder in _folders(root, LeftOut() if left_out is None else left_out):
        if (other := found.setdefault(names.normal(folder.name), folder)) != folder:
            raise ValueError(
                f"{root} has {other.name!a} and {folder.name!a}, which are the same name in two Unicode forms "
                "(NFC, and NFD as macOS writes it): move their images into one folder."
            )
    return found


def _read(root: pathlib.Path, class_names: tuple[str, ...]) -> tuple[tuple[pathlib.Path, ...], np.ndarray]:
    """Paths and labels of the images under `root`."""
    known = {name: label for label, name in enumerate(class_names)}
    paths, labels, left_out = [], [], LeftOut()
    for name, folder in _class_folders(root, left_out).items():
        if name not in known:
            raise ValueError(
                f"{folder} is a class that the training split does not have; it has {', '.join(class_names)}"
                f"{did_you_mean(name, class_names) or '.'}"
            )
        beside = LeftOut()
        images = listing.images_in(folder, beside)
        if not images:
            holds = f" ({beside})" if beside.counts else ""
            raise ValueError(f"class folder {folder} holds no images{holds}; fill or remove it.")
        paths += images
        labels += [known[name]] * len(images)
        left_out.join(beside)
    _strays(root, left_out)
    _tell(root, left_out)
    return tuple(paths), np.array(labels, np.int32)
