"""Resumable downloads. A file gets its final name only when it is complete."""

import contextlib
import fcntl
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import tqdm
from absl import logging

from jft.utils.version import __version__

TIMEOUT = 30  # seconds without a byte
_BLOCK = 1 << 20


@contextlib.contextmanager
def alone(place: Path) -> Iterator[None]:
    """Locks `place` so that only one process on any host downloads to it; two would mix their bytes in '.part'.

    Creates the folder. Inside the block, check first whether another process has already downloaded the file.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    path = place.with_name(f".{place.name}.lock")
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logging.info("another process is downloading %s: waiting for it", place.name)
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            logging.info("%s does not support locks (%s): run one download at a time", place.parent, error)
        yield
        path.unlink(missing_ok=True)  # only after success: then no waiting process will download


def download(url: str, place: Path) -> Path:
    """Downloads a file, or the rest of it after an interrupted download.

    Args:
      url: address of the file.
      place: final path of the file, in an existing folder. Call this inside `alone(place)`.

    Returns:
      '<place>.part', with the length that the server announced. The caller verifies and renames it.

    Raises:
      OSError, http.client.HTTPException: no network, an HTTP error, no space. The received bytes are kept, and the
        next call resumes.
      ValueError: the server sent fewer bytes than it announced, or another range than requested.
    """
    part = place.with_name(f"{place.name}.part")
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": f"jft/{__version__}"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        if error.headers.get("Content-Range") == f"bytes */{have}":  # already complete
            return part
        part.unlink()  # left over from another file
        return download(url, place)
    with response:
        resumed = response.status == 206
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise ValueError(f"the server went on at {response.headers.get('Content-Range')}, not at byte {have}")
        have = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with (
            part.open("ab" if resumed else "wb") as file,
            tqdm.tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=place.name, disable=None) as bar,
        ):
            while block := response.read(_BLOCK):
                file.write(block)
                bar.update(len(block))
            file.flush()
            os.fsync(file.fileno())
    size = part.stat().st_size
    if total is not None and size != total:
        raise ValueError(f"{size:,} of {total:,} bytes came; the next try goes on from there")
    return part
