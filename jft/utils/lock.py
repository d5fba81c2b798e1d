"""A lock on a run's folder, so that only one process at a time writes to it."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from absl import logging

from jft.utils import distributed
from jft.utils.files import check_folder
from jft.utils.option_names import option

LOCK = ".lock"


@contextlib.contextmanager
def claimed(workdir: Path) -> Iterator[None]:
    """Creates a run's folder if needed and holds its lock, which the system releases if the process dies.

    Of several processes of one run the first one holds it. A folder in which nothing was written is deleted again.

    Args:
      workdir: the folder.

    Raises:
      ValueError: it cannot be made, another process holds the lock, or other processes of this run do not see it.
    """
    made: list[Path] = []
    held, problem, another = None, None, f"give another {option('workdir')}"
    if distributed.is_first():
        try:
            check_folder(workdir, another)
            made = [folder for folder in (workdir, *workdir.parents) if not folder.exists()]
            workdir.mkdir(parents=True, exist_ok=True)
            held = _lock(workdir / LOCK)
        except BlockingIOError:
            problem = (
                f"another process trains in {workdir}: wait for it, or {another}. (Processes of one run "
                "are started with --distributed.)"
            )
        except ValueError as error:
            problem = str(error)
        except OSError as error:
            problem = f"{workdir} cannot be written ({error}): {another}."
    try:
        if problem := distributed.from_first(problem):
            raise ValueError(problem)
        distributed.check_shared(workdir, remedy=f"give a {option('workdir')} on a file system that all hosts share.")
        yield
    finally:
        _clear(made)
        if held is not None:
            os.close(held)


def _lock(path: Path) -> int | None:
    """The open lock file; None if the file system does not support locks. BlockingIOError if it is already locked."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL):
                logging.warning("%s has no locks: nothing keeps a second process from training there.", path.parent)
                return None
            raise
        # Whoever held it may have deleted it with the folder.
        if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
        os.close(descriptor)


def _clear(made: list[Path]) -> None:
    """Deletes the folders that were created, the innermost first, if they hold nothing but the lock."""
    for folder in made:
        with contextlib.suppress(OSError):
            if [path.name for path in folder.iterdir()] == [LOCK]:
                (folder / LOCK).unlink()
            folder.rmdir()
