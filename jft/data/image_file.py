"""Opens untrusted image files. Everything in jft opens images here; dangerous ones are refused before decoding.

A file is opened only if it is a regular file, its content (not its name) is in a format of `FORMATS`, and its header
declares no more pixels than allowed. Without these checks Pillow would try all its readers, one of which starts
Ghostscript, and would wait for ever on a FIFO.
"""

import contextlib
import io
import os
import pathlib
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO

from PIL import Image, UnidentifiedImageError

from jft.utils.files import open_regular

FORMATS = ("JPEG", "PNG", "PPM", "BMP", "GIF", "WEBP", "TIFF")  # as Pillow names them; MPO is read as JPEG, PGM as PPM

MAX_IMAGE_PIXELS = 89_478_485  # Pillow's limit: a quarter of 1 GiB at 3 bytes a pixel

# Limit on the pixels decoded at the same time, for each CPU (but at least one image of the allowed size): photographs
# are decoded by all threads in parallel, huge images one after the other.
_PIXELS_PER_CPU = 2**24
_CPUS = os.cpu_count() or 1  # asked once: it reads files

_TILE_WIDTH, _TILE_LENGTH = 322, 323  # tags of TIFF
# Encoders write a JPEG in up to about 14 scans. 20 scans of an image with the most pixels allowed take some seconds.
_START_OF_SCAN, _MOST_SCANS = b"\xff\xda", 20
_MOST_IN_RUNS = 2**24
_BLOCK = 1 << 20


class TooManyPixelsError(ValueError):
    """An image of more pixels than allowed."""


@contextlib.contextmanager
def open_image(image: pathlib.Path | str | bytes, max_pixels: int = MAX_IMAGE_PIXELS) -> Iterator[Image.Image]:
    """Opens an image without decoding it. Decode it inside the `with` block.

    Waits while other threads decode too many pixels, to limit memory.

    Args:
      image: path of the file, or its bytes.
      max_pixels: limit on width times height.

    Yields:
      The image; the first one if the file holds several.

    Raises:
      ValueError: not a regular file, another format, damaged, or too many pixels; says which.
      OSError: there is no such file, or it may not be read.
    """
    with io.BytesIO(image) if isinstance(image, bytes) else open_regular(image) as file:
        _check_size(_webp_size(file.read(30)), max_pixels)
        if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
            Image.MAX_IMAGE_PIXELS = max_pixels  # Pillow has its own limit, for the whole process
        try:
            opened = Image.open(file, formats=FORMATS)
        except UnidentifiedImageError:
            raise ValueError(_why_not(file)) from None
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise TooManyPixelsError(f"{error}; {_remedy(max_pixels)}") from None
        with opened:
            _check_size(opened.size, max_pixels)
            _check_parts(opened, file, max_pixels)
            with _in_flight.holding(opened.width * opened.height, max_pixels):
                yield opened


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise TooManyPixelsError(f"its {width:,} x {height:,} pixels are {width * height:,}; {_remedy(max_pixels)}")


def _check_parts(opened: Image.Image, file: BinaryIO, max_pixels: int) -> None:
    """Refuses small files that take long to decode: TIFF with huge tiles, JPEG with many scans, run-length BMP."""
    parsed: Any = opened  # PIL does not declare what a format adds
    if opened.format == "TIFF":
        _check_size((parsed.tag_v2.get(_TILE_WIDTH, 0), parsed.tag_v2.get(_TILE_LENGTH, 0)), max_pixels)
    if opened.format in ("JPEG", "MPO"):
        scans = _count(file, _START_OF_SCAN)
        if scans * opened.width * opened.height > _MOST_SCANS * max_pixels:
            raise ValueError(f"its {scans:,} scans of {opened.width:,} x {opened.height:,} pixels take too long")
    if opened.format == "BMP" and parsed.tile[0][0] == "bmp_rle" and opened.width * opened.height > _MOST_IN_RUNS:
        raise ValueError(f"its {opened.width:,} x {opened.height:,} pixels in runs take too long: save it as PNG")


def _count(file: BinaryIO, marker: bytes) -> int:
    """How often a marker of two bytes occurs in a file. The file's position does not change."""
    place, count, last = file.tell(), 0, b""
    file.seek(0)
    while block := file.read(_BLOCK):
        count += (last + block).count(marker)
        last = block[-1:]
    file.seek(place)
    return count


def _remedy(max_pixels: int) -> str:
    return f"max_image_pixels = {max_pixels:,}: shrink the image, or raise max_image_pixels in the config"


def _webp_size(head: bytes) -> tuple[int, int]:
    """Width and height of a WebP from its first 30 bytes; (0, 0) for other formats.

    Needed because Pillow allocates a WebP's pixels when it opens the file. See
    https://www.rfc-editor.org/rfc/rfc9649, sections 2.5 to 2.7.
    """
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP" or len(head) < 30:
        return 0, 0
    if head[12:16] == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF


def _why_not(file: BinaryIO) -> str:
    """Why no Pillow reader of `FORMATS` accepted the file. Other readers only identify its format."""
    file.seek(0)
    if not (head := file.read(16)):
        return "it is empty"
    Image.init()
    for name, (_, accepts) in list(Image.OPEN.items()):
        with contextlib.suppress(Exception):  # some read beyond the end of a short file
            if accepts and accepts(head):
                if name in FORMATS:
                    return f"it begins as {name} and is damaged"
                return f"it seems to be {name}, and jft reads {', '.join(FORMATS)}: convert it"
    return f"its content is none of {', '.join(FORMATS)}"


class _InFlight:
    """Limits the number of pixels that all threads together decode at a time."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._pixels = 0

    @contextlib.contextmanager
    def holding(self, pixels: int, max_pixels: int) -> Iterator[None]:
        """Waits until `pixels` more fit under the limit, or no other image is being decoded."""
        most = max(max_pixels, _PIXELS_PER_CPU * _CPUS)
        with self._changed:
            self._changed.wait_for(lambda: not self._pixels or self._pixels + pixels <= most)
            self._pixels += pixels
        try:
            yield
        finally:
            with self._changed:
                self._pixels -= pixels
                self._changed.notify_all()


_in_flight = _InFlight()
