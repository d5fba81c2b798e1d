"""Identifies images by their content: a digest of the pixels, independent of file name, location and format.

Copies, moved folders, and the same pixels in a list, an array or another lossless format have the same digest. An image
that was resized, cropped, or saved again as JPEG has other pixels, so it has another digest.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import os
import weakref
from collections.abc import Sequence
from concurrent import futures
from pathlib import Path

import numpy as np
import PIL

from jft.data.image_file import open_image
from jft.data.source import Source
from jft.utils.cache_dir import cache_dir, make_cache_dir
from jft.utils.files import open_regular, written_whole
from jft.utils.progress_bar import ProgressBar

_SHOWN = 3  # repeated images named in a message

# Decoding takes about a millisecond an image, and the same digests are needed several times: each arm of a config, and
# each start, loads the same data set again. {source: digests}; of files they are kept in the cache, too.
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
    if source not in _of_source:
        paths = [image for image in source.images if isinstance(image, Path)] if not source.decoded else []
        _of_source[source] = _kept(source, paths) if len(paths) == len(source) else _digests(source)
    return _of_source[source]


def _kept(source: Source, paths: Sequence[Path]) -> np.ndarray:
    """The digests of files, from the cache where they were hashed before and have not been touched since."""
    place: Path | None = None
    with contextlib.suppress(OSError, ValueError):  # a file is missing; or the cache is not safe, or has none of them
        place = cache_dir() / "digests" / f"{_state(source, paths)}.npy"
        known = np.load(place)
        if known.dtype == np.uint64 and known.shape == (len(source),):
            os.utime(place)
            return known
    digests = _digests(source)
    with contextlib.suppress(OSError, ValueError):
        if place is not None:
            _keep(place, digests)
    return digests


def _state(source: Source, paths: Sequence[Path]) -> str:
    """A digest of the paths, sizes and times of files. A time of change cannot be set, as one of modification can."""
    decoder = PIL.__version__, source.max_image_pixels
    digest = hashlib.blake2b(repr(decoder).encode(), digest_size=16)
    for path in paths:
        status = path.stat()
        digest.update(repr((str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns)).encode())
    return digest.hexdigest()


def _keep(place: Path, digests: np.ndarray) -> None:
    make_cache_dir()
    place.parent.mkdir(exist_ok=True)
    with written_whole(place) as aside, aside.open("wb") as file:
        np.save(file, digests)
    for old in sorted(place.parent.glob("*.npy"), key=lambda kept: kept.stat().st_mtime)[:-_KEPT]:
        old.unlink()


def _digests(source: Source) -> np.ndarray:
    if source.decoded:  # quicker to hash than to hand to a thread
        return np.array([_digest(image) for image in source.in_memory], np.uint64)
    with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        work = pool.map(lambda image: _digest_of_file(image, source.max_image_pixels), source.images)
        bar = ProgressBar(work, f"hashing {source.name}", len(source), unit=" images", leave=False, disable=None)
        try:
            return np.array(list(bar), np.uint64)
        except BaseException:  # Ctrl-C does not wait for the rest
            pool.shutdown(cancel_futures=True)
            raise


def _digest_of_file(file: Path | bytes, max_pixels: int) -> int:
    try:
        with open_image(file, max_pixels) as image:
            image.load()
            if image.mode.startswith(("I", "F")):  # deep
                return _digest(np.asarray(image))
            pixels = np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))
            return _digest(pixels[..., :3] if (pixels[..., 3:] == 255).all() else pixels)
    except Exception:  # PIL lets every kind of error through on broken files
        return _digest_of_bytes(file)


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


@dataclasses.dataclass(frozen=True)
class Repeats:
    """Images whose pixels occur more than once in a data set.

    Attributes:
      count: number of images compared.
      several_labels: number of images that also occur with another label.
      shared: {(split, other split): number of images of the first that are also in the second}.
      within: number of images that repeat an earlier one of the same split.
      examples: {'labels', 'within' or a pair of splits: names of a few of these images, with their labels}.
    """

    count: int
    several_labels: int
    shared: dict[tuple[str, str], int]
    within: int
    examples: dict[str | tuple[str, str], str]

    def __str__(self) -> str:
        """A one-line summary; empty where no image occurs twice."""
        parts = []
        if self.several_labels:
            parts.append(f"{self.several_labels:,} images occur under several labels ({self.examples['labels']})")
        for (one, other), count in self.shared.items():
            parts.append(f"{count:,} {one} images are also in {other} ({self.examples[one, other]})")
        if self.within:
            parts.append(f"{self.within:,} images repeat others of their split ({self.examples['within']})")
        return "; ".join(parts)


def repeats(**splits: Source) -> Repeats:
    """Finds images that occur more than once in a data set.

    Args:
      **splits: those of train, validation and test that the data set has.
    """
    digests = {split: image_digests(source) for split, source in splits.items()}
    _, image = np.unique(np.concatenate(list(digests.values())), return_inverse=True)
    _, label = np.unique(np.concatenate([source.labels for source in splits.values()]), axis=0, return_inverse=True)
    pairs = np.unique(np.stack([image, label.reshape(-1)], axis=1), axis=0)
    several = (np.bincount(pairs[:, 0]) > 1)[image]
    within = np.concatenate([_seen_before(of_split) for of_split in digests.values()])
    shared = {(one, other): np.isin(digests[one], digests[other]) for one, other in itertools.combinations(splits, 2)}
    named = {"labels": several, "within": within}
    sources = list(splits.values())
    examples: dict[str | tuple[str, str], str] = {key: _named(sources, rows) for key, rows in named.items()}
    examples |= {key: _named([splits[key[0]]], rows) for key, rows in shared.items()}
    return Repeats(
        len(image),
        int(several.sum()),
        {key: int(rows.sum()) for key, rows in shared.items() if rows.any()},
        int(within.sum()),
        examples,
    )


def _seen_before(digests: np.ndarray) -> np.ndarray:
    """bool [n], True for every image that repeats an earlier one."""
    seen = np.ones(len(digests), bool)
    seen[np.unique(digests, return_index=True)[1]] = False
    return seen


def _named(sources: Sequence[Source], chosen: np.ndarray) -> str:
    """Names and labels of the first few images where `chosen`, bool over the images of all sources in order."""
    starts = np.cumsum([0, *map(len, sources)])
    names = []
    for place in np.flatnonzero(chosen)[: _SHOWN + 1]:
        number = int(np.searchsorted(starts, place, side="right")) - 1
        source, row = sources[number], int(place - starts[number])
        names.append(f"{source.image_name(row)}: {source.label(row) or 'no label'}")
    return ", ".join([*names[:_SHOWN], *(["..."] if len(names) > _SHOWN else [])])
