"""Downloads that resume, and that never give a file its name before it is whole."""

import os
import urllib.error
import urllib.request
from pathlib import Path

import tqdm

import jft

TIMEOUT = 30  # seconds without a byte
_BLOCK = 1 << 20


def download(url: str, place: Path) -> Path:
    """Downloads a file, or the rest of it.

    Args:
      url: its address.
      place: where it will belong; the folder is made.

    Returns:
      '<place>.part', as long as the server said. To be checked and renamed by the caller.

    Raises:
      OSError: no network, an HTTP error, no space. What has come so far stays, and the next call resumes it.
      ValueError: fewer bytes came than the server had announced.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f"{place.name}.part")
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": f"jft/{jft.__version__}"})
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
        if not resumed:
            have = 0
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
