"""Downloads that resume, and that never give a file its name before it is whole."""

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
    """Only one process at a time, on any host, downloads to `place`: two would mix their bytes in one '.part'.

    The folder is made. Who had to wait must look whether the file is there by now.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    path = place.with_name(f".{place.name}.lock")
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logging.info("another process downloads %s: waiting for it", place.name)
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            logging.info("%s has no locks (%s): do not download to it twice at once", place.parent, error)
        yield
        path.unlink(missing_ok=True)  # after a success only: then nobody who still waits will download


def download(url: str, place: Path) -> Path:
    """Downloads a file, or the rest of it.

    Args:
      url: its address.
      place: where it will belong, in a folder that exists. Call this inside `alone(place)`.

    Returns:
      '<place>.part', as long as the server said. To be checked and renamed by the caller.

    Raises:
      OSError, http.client.HTTPException: no network, an HTTP error, no space. What has come so far stays, and the next
        call resumes it.
      ValueError: fewer bytes came than the server had announced, or others than were asked for.
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
        if error.headers.get("Content-Range") == f"bytes */{have}":  # nothing is left to ask for
            return part
        part.unlink()  # of another file
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
