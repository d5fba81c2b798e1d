"""Identifies images by their content: a digest of the pixels, independent of file name, location and format.

Copies, moved folders, and the same pixels in a list, an array or another lossless format have the same digest. An image
that was resized, cropped, or saved again as JPEG has other pixels, so it has another digest; `looks` may know it. What
decoding an image once tells is kept: digest, size and looks.
"""

import contextlib
import hashlib
import os
import weakref
from collections.abc import Sequence
from concurrent import futures
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

from jft.data import looks
from jft.data.decode import turn
from jft.data.image_file import open_image
from jft.data.source import Source
from jft.utils.cache_dir import cache_dir, make_cache_dir
from jft.utils.files import open_regular, written_whole
from jft.utils.progress_bar import ProgressBar

# Of an image: the digest of its pixels; its height and width, 0 where it cannot be read; and how it looks.
FACTS = np.dtype([("digest", np.uint64), ("height", np.int32), ("width", np.int32), *looks.LOOKS.descr])

# Decoding takes about a millisecond an image, and the same facts are needed several times: each arm of a config, and
# each start, loads the same data set again. {source: facts}; of files they are kept in the cache, too.
_of_source: weakref.WeakKeyDictionary[Source, np.ndarray] = weakref.WeakKeyDictionary()
_KEPT = 1000  # data sets in the cache, above which those go that were not used for longest


def image_digests(source: Source) -> np.ndarray:
    """Digests of the pixels of each image; regions and labels do not count.

    Args:
      source: n images; files are decoded in threads.

    Returns:
      uint64 [n]. Each is the BLAKE2b of height, width and the stored RGB pixels, including alpha if any pixel is
      transparent (icons may differ in alpha only). EXIF orientation is ignored; images of more than 8 bits are hashed
      at full depth. For an unreadable file it is the digest of its bytes.
    """
    return np.ascontiguousarray(image_facts(source)["digest"])


def image_facts(source: Source) -> np.ndarray:
    """What there is to know of each image from its pixels: `FACTS` [n]; whole images, upright, whatever the regions."""
    if source not in _of_source:
        paths = [image for image in source.images if isinstance(image, Path)] if not source.decoded else []
        _of_source[source] = _kept(source, paths) if len(paths) == len(source) else _facts(source)
    return _of_source[source]


def _kept(source: Source, paths: Sequence[Path]) -> np.ndarray:
    """The facts of files, from the cache where they were decoded before and have not been touched since."""
    place: Path | None = None
    with contextlib.suppress(OSError, ValueError):  # a file is missing; or the cache is not safe, or has none of them
        place = cache_dir() / "digests" / f"{_state(source, paths)}.npy"
        known = np.load(place, allow_pickle=False)
        if known.dtype == FACTS and known.shape == (len(source),):
            os.utime(place)
            return known
    facts = _facts(source)
    with contextlib.suppress(OSError, ValueError):
        if place is not None:
            _keep(place, facts)
    return facts


def _state(source: Source, paths: Sequence[Path]) -> str:
    """A digest of the paths, sizes and times of files. A time of change cannot be set, as one of modification can."""
    decoder = PIL.__version__, source.max_image_pixels, FACTS.descr
    digest = hashlib.blake2b(repr(decoder).encode(), digest_size=16)
    for path in paths:
        status = path.stat()
        digest.update(repr((str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns)).encode())
    return digest.hexdigest()


def _keep(place: Path, facts: np.ndarray) -> None:
    make_cache_dir()
    place.parent.mkdir(exist_ok=True)
    with written_whole(place) as aside, aside.open("wb") as file:
        np.save(file, facts)
    for old in sorted(place.parent.glob("*.npy"), key=lambda kept: kept.stat().st_mtime)[:-_KEPT]:
        old.unlink()


def _facts(source: Source) -> np.ndarray:
    facts = np.zeros(len(source), FACTS)
    if source.decoded:  # quicker to hash than to hand to a thread
        facts["digest"] = [_digest(image) for image in source.in_memory]
        facts["height"], facts["width"] = source.in_memory.shape[1:3]
        found = looks.of_arrays(source.in_memory)
        for name in looks.LOOKS.names or ():
            facts[name] = found[name]
        return facts
    with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        work = pool.map(lambda image: _facts_of_file(image, source.max_image_pixels), source.encoded)
        bar = ProgressBar(work, f"hashing {source.name}", len(source), unit=" images", leave=False, disable=None)
        try:
            for row, known in enumerate(bar):
                facts[row] = known
        except BaseException:  # Ctrl-C does not wait for the rest
            pool.shutdown(cancel_futures=True)
            raise
    return facts


def _facts_of_file(file: Path | bytes, max_pixels: int) -> np.ndarray:
    """`FACTS` [], of an image file."""
    facts = np.zeros((), FACTS)
    try:
        with open_image(file, max_pixels) as image:
            image.load()
            upright = turn(image)
            digest = _digest_of_image(image)
            image = image if upright is None else image.transpose(upright)
            facts["width"], facts["height"] = image.size
            (found,) = looks.of_thumbnails(looks.thumbnail(image)[None], np.array([min(image.size)]))
            for name in looks.LOOKS.names or ():
                facts[name] = found[name]
            facts["digest"] = digest
    except Exception:  # PIL lets every kind of error through on broken files
        facts = np.zeros((), FACTS)
        facts["digest"] = _digest_of_bytes(file)
    return facts


def _digest_of_image(image: Image.Image) -> int:
    if image.mode.startswith(("I", "F")):  # deep
        return _digest(np.asarray(image))
    pixels = np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))
    return _digest(pixels[..., :3] if (pixels[..., 3:] == 255).all() else pixels)


def _digest_of_bytes(image: Path | bytes) -> int:
    if isinstance(image, bytes):
        return _hashed(image)
    try:
        with open_regular(image) as file:
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8))
            return int.from_bytes(digest.digest())
    except (OSError, ValueError):  # missing, or not a regular file: the path makes it unique
        return _hashed(os.fsencode(image))


def _digest(pixels: np.ndarray) -> int:
    about = "x".join(map(str, pixels.shape[:2])) + ("" if pixels.dtype == np.uint8 else pixels.dtype.name)
    return _hashed(about.encode(), np.ascontiguousarray(pixels))


def _hashed(*parts: bytes | np.ndarray) -> int:
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part)
    return int.from_bytes(digest.digest())


def content_digest(source: Source) -> str:
    """Digest of the images, labels and classes in order, independent of location: 32 hexadecimal digits."""
    digest = hashlib.blake2b(repr(source.class_names).encode(), digest_size=16)
    digest.update(image_digests(source).astype("<u8"))
    digest.update(np.ascontiguousarray(source.labels))
    return digest.hexdigest()
