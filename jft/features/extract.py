"""Computes the features that are missing in a store, on all devices, at the speed of inference."""

import collections
import contextlib
import dataclasses
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from typing import Any

import jax
import numpy as np

from jft.data import loader
from jft.data.feeds.choose import open_feed
from jft.data.feeds.feed import Feed, on_device
from jft.data.feeds.images import Images, Reading, Rows
from jft.data.source import Source
from jft.data.transforms import Preprocess
from jft.features import turn
from jft.features.cache_key import image_digests, recipe
from jft.features.feature_step import Wanted, make_feature_step
from jft.features.store import Features, FeatureStore
from jft.models import Chain
from jft.utils import distributed, waiting
from jft.utils.interrupt import Interrupt
from jft.utils.mesh import Parallel
from jft.utils.progress_bar import ProgressBar

Batch = dict[str, jax.Array]

_IN_FLIGHT = 3  # batches dispatched to the devices before waiting for the first


def open_store(
    folder: str | os.PathLike,
    model: Chain,
    variables: Mapping[str, Any],
    spec: Preprocess,
    wanted: Wanted,
    dtype: str = "float32",
) -> FeatureStore:
    """The store that `extract` would use with the same arguments. Computes and writes nothing.

    Args:
      folder: folder of the stores of all recipes.
      model: the model.
      variables: `{'params', 'batch_stats'}`.
      spec: preprocessing of the weights.
      wanted: which features.
      dtype: dtype on disk, 'float32' or 'bfloat16'.

    Raises:
      ValueError: an unknown stage, an augmentation with uncountable variants, or an image size that does not fit the
        variables.
    """
    known = recipe(model, variables, spec, wanted)
    return FeatureStore(folder, known, (wanted.variants, *known["output"]), dtype)


def extract(
    model: Chain,
    variables: Mapping[str, Any],
    source: Source,
    spec: Preprocess,
    wanted: Wanted,
    *,
    folder: str | os.PathLike,
    parallel: Parallel,
    batch_size: int,
    cache_bytes: int = 0,
    input: str = "auto",
    dtype: str = "float32",
    interrupt: Interrupt | None = None,
) -> Features | None:
    """Computes the features of a source's images that are not stored yet.

    Finished shards are kept, so the next call resumes after them. With several processes, process 0 writes to a folder
    that all of them can read.

    Args:
      model: the model; its `axis_name` is that of `parallel`.
      variables: `{'params', 'batch_stats'}`, placed by `parallel.place_state`; leaves after the boundary may be
        absent.
      source: the images.
      spec: preprocessing of the weights.
      wanted: which features.
      folder: folder of the stores of all recipes, see `open_store`.
      parallel: the devices.
      batch_size: images in a batch, over all devices.
      cache_bytes: memory for decoded images, see `loader.train_batches`; 0 if each image is read only once.
      input: what reads the images, see `feeds.choose`.
      dtype: dtype on disk, 'float32' or 'bfloat16'.
      interrupt: after a signal, the computed features are stored and the extraction ends.

    Returns:
      The features of all images, in the source's order; None after an interrupt.

    Raises:
      ValueError: see `open_store`; unreadable images, a batch that does not divide over the devices, or non-finite
        features.
      OSError: too little disk space, with the number of bytes; or the folder cannot be written.
    """
    parallel.check_batch_size(batch_size, what="batch_size")
    store = open_store(folder, model, variables, spec, wanted, dtype)
    digests = image_digests(source)
    with turn.of(store.folder, interrupt) if len(store.missing(digests)) else contextlib.nullcontext():
        rows = store.missing(digests)
        _agree(store, rows)
        if len(rows):
            # If all features are missing, use the source itself, so that images already decoded are reused.
            lacking = source if len(rows) == len(source) else source.take(rows)
            step = make_feature_step(model, spec, wanted, dtype=store.dtype.name, axis_name=parallel.axis_name)
            feed = open_feed(
                Images(lacking, Reading(spec, wanted.fit, wanted.resize_on, cache_bytes, input)), parallel, once=True
            )
            order = loader.eval_rows(lacking, batch_size=batch_size, shard=parallel.shard)
            batches = feed.batches(order, loader.eval_steps(lacking, batch_size))
            with _Writer(store, lacking, digests[rows], wanted.boundary) as writer:
                _run(step, variables, feed, batches, parallel, writer, interrupt)
            distributed.wait_for_all("features are written")
    if interrupt and interrupt.received:
        return None
    if distributed.several():  # on a network file system the shards may appear with a delay
        distributed.patiently(lambda: not len(store.missing(digests)), seconds=60)
    return store.open(digests)


def _agree(store: FeatureStore, rows: np.ndarray) -> None:
    """Raises a ValueError unless all processes compute the same features, and an OSError if there is no room for them.

    Args:
      store: the store.
      rows: int [r], images whose features it lacks.
    """
    shared = "set features_dir to a folder that every host sees."
    same = "start every process with the same jft, JAX and flags."
    distributed.agree({"what computes the features": store.recipe["program"]}, remedy=same)
    distributed.agree({"what the feature cache lacks": zlib.crc32(rows)}, remedy=shared)
    if len(rows):
        distributed.check_shared(store.folder.parent, remedy=shared)
        if shortage := distributed.from_first(store.shortage(len(rows))):
            raise OSError(f"{shortage}: free space or fix the folder, or choose another one.")


@dataclasses.dataclass(frozen=True)
class FeatureFeed:
    """A `Feed` of cached features: `'feature'` [b, variants, ...] in place of `'image'`.

    Attributes:
      source: the images.
      features: the features of the images, in the same order.
      parallel: the devices.
    """

    source: Source
    features: Features
    parallel: Parallel

    def batches(self, rows: Rows, steps: range) -> Iterator[dict[str, np.ndarray]]:
        """See `Feed.batches`."""
        for step in steps:
            chosen, mask = rows(step)
            yield {
                "feature": self.features.gather(chosen),
                "label": self.source.labels[chosen],
                "index": self.source.indices[chosen],
                "mask": mask,
            }

    def place(self, batch: Mapping[str, np.ndarray]) -> Batch:
        """See `Feed.place`."""
        return self.parallel.place_batch(on_device(batch))

    def check(self, batch: Mapping[str, np.ndarray]) -> None:
        """Nothing to check: the features' images were checked when they were extracted."""


@waiting.during("extracting features")
def _run(
    step: Callable,
    variables: Mapping[str, Any],
    feed: Feed,
    batches: Iterator[dict[str, np.ndarray]],
    parallel: Parallel,
    writer: "_Writer",
    interrupt: Interrupt | None,
) -> None:
    """Runs the step over all batches and variants, dispatching several before passing the first to the writer."""
    compiled, numbers = None, []
    pending: collections.deque[list[jax.Array]] = collections.deque()
    for batch in batches:
        placed = {"image": feed.place(batch)["image"]}
        if compiled is None:
            feed.check(batch)
            size, variants = len(batch["mask"]), writer.store.shape[0]  # this process' part
            numbers = [parallel.place_batch({"number": np.full(size, n, np.int32)}) for n in range(variants)]
            compiled = parallel.compile(step, variables, placed | numbers[0], donate=False)
        pending.append([compiled(variables, placed | number) for number in numbers])
        if len(pending) > _IN_FLIGHT:
            writer.add(pending.popleft())
        if interrupt and interrupt.check():
            break
    while pending:
        writer.add(pending.popleft())


class _Writer:
    """Collects features into shards, which a thread writes while the devices compute. Use it as a context manager."""

    def __init__(self, store: FeatureStore, source: Source, digests: np.ndarray, boundary: str) -> None:
        """`digests`, uint8 [n, 16], are those of the source's images, whose features `add` receives in order."""
        self.store, self._source, self._digests, self._boundary = store, source, digests, boundary
        self._pool = futures.ThreadPoolExecutor(1)
        self._writing: futures.Future | None = None
        self._shard = np.empty((0, *store.shape), store.dtype)
        self._start = self._filled = 0
        what = f"{boundary} of {source.name}"
        quiet = None if distributed.is_first() else True
        self._bar = ProgressBar(total=len(digests), desc=what, unit=" images", leave=False, disable=quiet)

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, kind: type | None, *error: object) -> None:
        try:
            if kind is None:
                self._flush()
                self._wait()
        finally:
            self._pool.shutdown()
            self._bar.close()

    def add(self, variants: list[jax.Array]) -> None:
        """Adds the features of a batch, [b, ...] for each variant, without padding; waits for the devices."""
        batch = np.stack([np.asarray(array) for array in variants], axis=1)
        batch = batch[: len(self._digests) - self._start - self._filled]
        while len(batch):
            if not self._filled:
                room = min(self.store.shard_images, len(self._digests) - self._start)
                self._shard = np.empty((room, *self.store.shape), self.store.dtype)
            part, batch = np.split(batch, [len(self._shard) - self._filled])
            self._shard[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            self._bar.update(len(part))
            if self._filled == len(self._shard):
                self._flush()

    def _flush(self) -> None:
        """Passes the collected shard to the thread; at most one shard is being written while the next one fills."""
        self._wait()
        if self._filled and distributed.is_first():
            self._writing = self._pool.submit(self._write, self._start, self._shard[: self._filled])
        self._start, self._filled = self._start + self._filled, 0

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()

    def _write(self, start: int, shard: np.ndarray) -> None:
        finite = np.isfinite(shard).reshape(len(shard), -1).all(axis=1)
        if not finite.all():
            row = start + int(np.argmin(finite))
            raise ValueError(
                f"features of {self._source.image_name(row)} at stage {self._boundary!r} are NaN or infinite, of "
                f"{(~finite).sum():,} of {len(shard):,} images: check the weights, or compute in another dtype."
            )
        self.store.write(self._digests[start : start + len(shard)], shard)
