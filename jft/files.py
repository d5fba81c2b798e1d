"""Files that are whole or not there, and whether they can be written, which is found out before the work."""

import contextlib
import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def written_whole(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a path beside `path` to write to; afterwards it is renamed, or deleted if anything went wrong.

    Args:
      path: the file to make or to replace; its folder exists.

    Yields:
      The path to write to.
    """
    path = Path(path)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        yield aside
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(aside, 0o666 & ~mask)  # as any new file; safetensors makes its own private
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def check_new(path: Path, force: bool) -> None:
    """Raises a ValueError unless a file can be written there, before time is spent on what goes into it."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give the name of a file in it.")
    if not path.parent.is_dir():
        raise ValueError(f"{path.parent} is no folder: make it, or choose another.")
    if path.exists() and not force:
        raise ValueError(f"{path} exists: choose another name, or replace it with --force.")
    check_folder(path.parent, "choose another folder")


def check_folder(folder: Path, remedy: str) -> None:
    """Raises a ValueError unless files can be written into a folder; `remedy` is such as 'give another --out'."""
    if problem := folder_problem(folder):
        raise ValueError(f"{problem}: {remedy}.")


def folder_problem(folder: Path) -> str | None:
    """Why no files can be written into a folder, or, where it does not exist yet, into its nearest parent; or None.

    A file is made there for a moment.
    """
    place = nearest(folder)
    if not place.is_dir():
        return f"{place} is a file, not a folder"
    try:
        with tempfile.TemporaryFile(dir=place):
            return None
    except OSError as error:
        return f"{place} cannot be written ({error.strerror})"


def nearest(path: Path) -> Path:
    """The path itself or the nearest of its parents that exists."""
    return next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
