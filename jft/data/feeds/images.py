"""The images of a source as the feeds read them, and what a batch is."""

import dataclasses
import os
import weakref
from collections.abc import Callable
from concurrent import futures
from typing import Any

import numpy as np

from jft.data import host_resize, transforms
from jft.data.source import Source
from jft.data.transforms import Preprocess, stored_size
from jft.utils import tree
from jft.utils.fields.data import INPUTS
from jft.utils.option_names import option
from jft.utils.progress_bar import ProgressBar

Batch = dict[str, np.ndarray]
Rows = Callable[[int], tuple[np.ndarray, np.ndarray]]  # step -> int64 [b] rows of the source, bool [b] mask

# Decoded images, kept for as long as their source lives: {source: {(spec, fit): decoded source}}.
_decoded: weakref.WeakKeyDictionary[Source, dict[Any, Source]] = weakref.WeakKeyDictionary()


@dataclasses.dataclass(frozen=True)
class Reading:
    """How images become the arrays of a batch.

    Attributes:
      spec: preprocessing of the weights.
      fit: 'crop' or 'whole', see `transforms.to_model_input`.
      resize_on: 'device' leaves arrays at their own size, 'host' resizes them; files are always resized on the host.
      cache_bytes: memory for decoded images of all sources together. If the images of a source fit, they are decoded
        once and kept for as long as the source lives.
      input: 'auto' or the name of a feed, see `choose.choose`.

    Raises:
      ValueError: an unknown `fit`, `resize_on` or `input`.
    """

    spec: Preprocess
    fit: str
    resize_on: str
    cache_bytes: int
    input: str = "auto"

    def __post_init__(self) -> None:
        transforms.check_fit(self.fit)
        tree.choose({"device": 1, "host": 1}, self.resize_on, what="resize_on")
        tree.choose(dict.fromkeys(INPUTS), self.input, what="input")


@dataclasses.dataclass(frozen=True)
class Images:
    """The images of a source, read in one way.

    Attributes:
      source: has the labels and indices.
      reading: how images are read.
    """

    source: Source
    reading: Reading

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of an image in a batch: height, width, 3."""
        if self.source.decoded and self.reading.resize_on == "device":
            height, width = self.source.in_memory.shape[1:3]
            return height, width, 3
        side = stored_size(self.reading.spec, self.reading.fit)
        return side, side, 3

    @property
    def resizes(self) -> bool:
        """Whether they are arrays that the host resizes."""
        return self.source.decoded and self.source.in_memory.shape[1:] != self.shape

    def arrays(self) -> np.ndarray | None:
        """All images as arrays: uint8 [n, h, w, 3]; None if they are files that do not fit in `cache_bytes`.

        The first call decodes files. Arrays are not resized, see `resizes`.
        """
        kept = _kept(self.source, self.reading)
        return kept.in_memory if kept.decoded else None

    def fit_in_cache(self) -> bool:
        """Whether `arrays` gives arrays, told without decoding anything."""
        return self.source.decoded or _known(self.source, self.reading) or _has_room(self.source, self.reading)

    def read(self, array: np.ndarray, rows: np.ndarray, out: np.ndarray) -> None:
        """Writes the images of some rows of `arrays()` to `out`, uint8 [b, *shape], resized if the host does that."""
        if self.resizes:
            host_resize.resize(array[rows], self.reading.spec, self.reading.fit, out)
        else:
            np.take(array, rows, axis=0, out=out, mode="clip")  # 'raise' would copy

    def decode(self, row: int) -> np.ndarray:
        """Decodes one file: uint8 [side, side, 3]; ValueError names it if it is unreadable."""
        return _decode(self.source, self.reading, row)

    def batch(self, image: np.ndarray, rows: np.ndarray, mask: np.ndarray) -> Batch:
        """A batch of images with what belongs to them, see `loader.train_batches`."""
        return {"image": image, "label": self.source.labels[rows], "index": self.source.indices[rows], "mask": mask}


def _decode(source: Source, reading: Reading, row: int) -> np.ndarray:
    try:
        return source.square(row, reading.spec, reading.fit)
    except ValueError as e:
        raise ValueError(f"{e} Repair it, or set {option('skip_unreadable', True)} to leave such images out.") from e


def _known(source: Source, reading: Reading) -> bool:
    return (reading.spec, reading.fit) in _decoded.get(source, {})


def _has_room(source: Source, reading: Reading) -> bool:
    held = sum(other.in_memory.nbytes for others in _decoded.values() for other in others.values())
    side = stored_size(reading.spec, reading.fit)
    return held + len(source) * side * side * 3 <= reading.cache_bytes


def _kept(source: Source, reading: Reading) -> Source:
    """The source with its images decoded, if they fit into `cache_bytes`; otherwise the source itself."""
    if source.decoded:
        return source
    key = reading.spec, reading.fit
    if not _known(source, reading):
        if not _has_room(source, reading):
            return source
        _decoded[source] = _decoded.get(source, {}) | {key: _decode_all(source, reading)}
    return _decoded[source][key]


def _decode_all(source: Source, reading: Reading) -> Source:
    side = stored_size(reading.spec, reading.fit)
    images = np.empty((len(source), side, side, 3), np.uint8)

    def read(row: int) -> None:
        images[row] = _decode(source, reading, row)

    with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        work = pool.map(read, range(len(source)))
        try:
            for _ in ProgressBar(
                work, f"decoding {source.name}", len(source), unit=" images", leave=False, disable=None
            ):
                pass
        except BaseException:  # stop at the first unreadable image or Ctrl-C without decoding the rest
            pool.shutdown(cancel_futures=True)
            raise
    return dataclasses.replace(source, images=images, regions=None)
