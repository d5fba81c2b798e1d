"""Images known by what is in them: a digest of the pixels, which is the same whatever the file, its name and its place.

Copies, moved folders, lists, arrays and other lossless formats of the same pixels are recognized. An image that was
resized, cropped, or saved anew as JPEG has other pixels and is another image.
"""

import dataclasses
import hashlib
import itertools
import os
import pathlib
import weakref
from collections.abc import Sequence
from concurrent import futures

import numpy as np
import tqdm

from jft.data.image_file import open_image
from jft.data.source import Source
from jft.utils.files import open_regular

_SHOWN = 3  # images named of those that are alike

# Decoding all images takes about a millisecond each, and a process asks for the same ones several times: its arms train
# on one data set, which each of them loads anew. {source: digests}, and for files {fingerprint of the source: digests}.
_of_source: weakref.WeakKeyDictionary[Source, np.ndarray] = weakref.WeakKeyDictionary()
_of_files: dict[str, np.ndarray] = {}


def image_digests(source: Source) -> np.ndarray:
    """What each image of a source is: a digest of its pixels, of which regions and labels are no part.

    Args:
      source: n images; files are decoded, several at a time.

    Returns:
      uint64 [n], BLAKE2b of height, width and the RGB pixels as stored, with alpha where not all is opaque: icons can
      differ in nothing else. EXIF's orientation does not count; more than 8 bits do, as they are. Of a file that cannot
      be read, of its bytes.
    """
    if source not in _of_source:
        key = None if source.decoded else source.fingerprint()
        digests = _of_files.get(key) if key else None
        if digests is None:
            digests = _digests(source)
        if key:
            _of_files[key] = digests
        _of_source[source] = digests
    return _of_source[source]


def _digests(source: Source) -> np.ndarray:
    if source.decoded:  # quicker to hash than to hand to a thread
        return np.array([_digest(image) for image in source.images], np.uint64)
    with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        work = pool.map(lambda image: _digest_of_file(image, source.max_image_pixels), source.images)
        bar = tqdm.tqdm(work, f"looking at {source.name}", len(source), unit=" images", leave=False, disable=None)
        try:
            return np.array(list(bar), np.uint64)
        except BaseException:  # Ctrl-C does not wait for the rest
            pool.shutdown(cancel_futures=True)
            raise


def _digest_of_file(file: pathlib.Path | bytes, max_pixels: int) -> int:
    try:
        with open_image(file, max_pixels) as image:
            image.load()
            if image.mode.startswith(("I", "F")):  # deep
                return _digest(np.asarray(image))
            pixels = np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))
            return _digest(pixels[..., :3] if (pixels[..., 3:] == 255).all() else pixels)
    except Exception:  # PIL lets every kind of error through on broken files
        return _digest_of_bytes(file)


def _digest_of_bytes(image: pathlib.Path | bytes) -> int:
    if isinstance(image, bytes):
        return _hashed(image)
    try:
        with open_regular(image) as file:
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8))
            return int.from_bytes(digest.digest())
    except (OSError, ValueError):  # gone, or no file: like no other
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
    """32 hexadecimal digits that stand for images, labels and classes in their order, wherever the images lie."""
    digest = hashlib.blake2b(repr(source.class_names).encode(), digest_size=16)
    digest.update(image_digests(source).astype("<u8"))
    digest.update(np.ascontiguousarray(source.labels))
    return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class Repeats:
    """Images that occur more than once in a data set, by their pixels.

    Attributes:
      count: images that were compared.
      several_labels: how many occur under another label too.
      shared: (one split, another) -> how many images of the first are in the second too.
      within: how many occur in their split before.
      examples: key of one of the above -> names of some of these images, with their labels.
    """

    count: int
    several_labels: int
    shared: dict[tuple[str, str], int]
    within: int
    examples: dict[str | tuple[str, str], str]

    def __str__(self) -> str:
        """One line; empty where no image occurs twice."""
        told = []
        if self.several_labels:
            told.append(f"{self.several_labels:,} images occur under several labels ({self.examples['labels']})")
        for (one, other), count in self.shared.items():
            told.append(f"{count:,} {one} images are in {other} too ({self.examples[one, other]})")
        if self.within:
            told.append(f"{self.within:,} images occur again within their split ({self.examples['within']})")
        return "; ".join(told)


def repeats(**splits: Source) -> Repeats:
    """Looks for images that occur more than once.

    Args:
      **splits: train, validation and test of one data set, as far as there are such.
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
    examples = {key: _named(sources, rows) for key, rows in named.items()}
    examples |= {key: _named([splits[key[0]]], rows) for key, rows in shared.items()}
    return Repeats(
        len(image),
        int(several.sum()),
        {key: int(rows.sum()) for key, rows in shared.items() if rows.any()},
        int(within.sum()),
        examples,
    )


def _seen_before(digests: np.ndarray) -> np.ndarray:
    seen = np.ones(len(digests), bool)
    seen[np.unique(digests, return_index=True)[1]] = False
    return seen


def _named(sources: Sequence[Source], chosen: np.ndarray) -> str:
    """The first of the images chosen, bool over those of all sources one after the other, with their labels."""
    starts = np.cumsum([0, *map(len, sources)])
    told = []
    for place in np.flatnonzero(chosen)[: _SHOWN + 1]:
        number = int(np.searchsorted(starts, place, side="right")) - 1
        source, row = sources[number], int(place - starts[number])
        told.append(f"{source.image_name(row)}: {source.label(row) or 'nothing'}")
    return ", ".join([*told[:_SHOWN], *(["..."] if len(told) > _SHOWN else [])])
