"""The images of a source as the feeds read them, and what a batch is."""

import dataclasses
import os
import weakref
from collections.abc import Callable
from concurrent import futures

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

# Decoded files, kept for as long as their source lives: {source: {(spec, fit): uint8 [n, side, side, 3]}}.
_decoded: weakref.WeakKeyDictionary[Source, dict[tuple[Preprocess, str], np.ndarray]] = weakref.WeakKeyDictionary()


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

    @property
    def kept_as(self) -> tuple[Preprocess, str]:
        """What decoded files depend on."""
        return self.reading.spec, self.reading.fit

    def arrays(self) -> np.ndarray | None:
        """All images as arrays: uint8 [n, h, w, 3]; None if they are files that do not fit in `cache_bytes`.

        The first call decodes files. Arrays are not resized, see `resizes`.
        """
        if self.source.decoded:
            return self.source.in_memory
        if not self.fit_in_cache():
            return None
        kept = _decoded.get(self.source, {})
        if self.kept_as not in kept:
            _decoded[self.source] = kept = kept | {self.kept_as: _decode_all(self)}
        return kept[self.kept_as]

    def fit_in_cache(self) -> bool:
        """Whether `arrays` gives arrays, told without decoding anything."""
        if self.source.decoded or self.kept_as in _decoded.get(self.source, {}):
            return True
        held = sum(array.nbytes for arrays in _decoded.values() for array in arrays.values())
        return held + len(self.source) * int(np.prod(self.shape)) <= self.reading.cache_bytes

    def read(self, array: np.ndarray, rows: np.ndarray, out: np.ndarray) -> None:
        """Writes the images of some rows of `arrays()` to `out`, uint8 [b, *shape], resized if the host does that."""
        if self.resizes:
            host_resize.resize(array[rows], self.reading.spec, self.reading.fit, out)
        else:
            np.take(array, rows, axis=0, out=out, mode="clip")  # 'raise' would copy

    def decode(self, row: int) -> np.ndarray:
        """Decodes one file: uint8 [side, side, 3]; ValueError names it if it is unreadable."""
        try:
            return self.source.square(row, *self.kept_as)
        except ValueError as e:
            remedy = f"Repair it, or set {option('skip_unreadable', True)} to leave such images out."
            raise ValueError(f"{e} {remedy}") from e

    def batch(self, image: np.ndarray, rows: np.ndarray, mask: np.ndarray) -> Batch:
        """A batch of images with what belongs to them, see `loader.train_batches`."""
        return {"image": image, "label": self.source.labels[rows], "index": self.source.indices[rows], "mask": mask}


def _decode_all(images: Images) -> np.ndarray:
    source = images.source
    array = np.empty((len(source), *images.shape), np.uint8)

    def read(row: int) -> None:
        array[row] = images.decode(row)

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
    return array
