"""Atomic writes, safe reads of regular files, and checks that a file can be written before the work starts."""

import contextlib
import grp
import io
import os
import pwd
import stat
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_regular(path: str | os.PathLike) -> io.BufferedReader:
    """Opens a file for reading, only if it is a regular one: FIFOs and devices could block or never end.

    Raises:
      ValueError: a folder, a FIFO, a socket or a device; says which.
      OSError: there is no such file, links that lead nowhere or in a circle, or it may not be read.
    """
    _check_regular(path, os.stat(path))
    # It may have been replaced since by a FIFO, whose opening would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    file = os.fdopen(descriptor, "rb")
    try:
        _check_regular(path, os.fstat(descriptor))
    except ValueError:
        file.close()
        raise
    return file


def _check_regular(path: str | os.PathLike, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise ValueError(f"{os.fspath(path)} is {kind}, not a regular file")


def other_writers(folder: Path) -> str | None:
    """Why users other than the current one can write to a folder, such as 'may be written by all'; None if they cannot.

    Root's folders are trusted, and a group that is the user's own: by its name, or where names are not known its
    number, as Linux makes one for each user.
    """
    try:
        status = folder.stat()
    except OSError:
        return None
    if status.st_uid not in (os.geteuid(), 0):
        return f"belongs to another user ({_name_of_user(status.st_uid)})"
    if status.st_mode & stat.S_IWOTH:
        return "may be written by all users"
    if status.st_mode & stat.S_IWGRP and not _is_private(status.st_gid):
        return f"may be written by the group {_name_of_group(status.st_gid)}"
    return None


def _is_private(group: int) -> bool:
    user = os.geteuid()
    return group == 0 or _name_of_group(group) == _name_of_user(user)


def _name_of_user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # of a container that knows no users
        return str(number)


def _name_of_group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


@contextlib.contextmanager
def written_whole(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary path next to `path`. Renames it to `path` at the end, or deletes it after an error.

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
    """ValueError unless a file can be written to `path`. Call it before computing the file's content."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give the name of a file in it.")
    if not path.parent.is_dir():
        raise ValueError(f"{path.parent} is no folder: make it, or choose another.")
    if path.exists() and not force:
        raise ValueError(f"{path} exists: choose another name, or replace it with --force.")
    check_folder(path.parent, "choose another folder")


def check_folder(folder: Path, remedy: str) -> None:
    """ValueError unless files can be written to a folder; `remedy` ends the message, such as 'give another --out'."""
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
    """The path, or its nearest existing parent."""
    return next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
