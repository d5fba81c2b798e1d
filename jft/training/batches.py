"""The training batches of a run, of images or of cached features, and its evaluator."""

from collections.abc import Iterator

import numpy as np

from jft.data import loader
from jft.evaluation.evaluator import Evaluator
from jft.features.extract import feature_batches
from jft.training.feature_cache import Cached
from jft.training.phases import Phase
from jft.training.run import Run


def make_evaluator(run: Run, phase: Phase | None = None) -> Evaluator:
    """The evaluator of a run's config; with a phase, it evaluates cached features of the phase's boundary."""
    return Evaluator(
        run.model,
        run.spec,
        run.parallel,
        objective=run.objective,
        fit=run.config.fit,
        batch_size=run.config.eval_batch_size,
        resize_on=run.config.resize_on,
        cache_bytes=run.config.cache_bytes,
        boundary=phase.plan.boundary if phase else None,
        metrics=run.metrics,
    )


def image_batches(run: Run, start: int, stop: int) -> Iterator[dict[str, np.ndarray]]:
    """This process' share of the training batches from step `start` to `stop`; see `loader.train_batches`."""
    return loader.train_batches(
        run.train_source,
        run.spec,
        batch_size=run.config.batch_size,
        seed=run.config.seed,
        start_step=start,
        num_steps=stop - start,
        fit=run.config.fit,
        resize_on=run.config.resize_on,
        cache_bytes=run.config.cache_bytes,
        shard=run.parallel.shard,
        balanced=run.config.balance == "sampling",
    )


def train_batches(run: Run, cached: Cached | None, start: int, stop: int) -> Iterator[dict[str, np.ndarray]]:
    """Training batches of images, or of their cached features in the same order."""
    if cached is None:
        return image_batches(run, start, stop)
    rows = loader.train_rows(
        run.train_source,
        batch_size=run.config.batch_size,
        seed=run.config.seed,
        shard=run.parallel.shard,
        balanced=run.config.balance == "sampling",
    )
    return feature_batches(run.train_source, cached.train, rows, range(start, stop))


def on_device(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The entries of a batch that the steps read; the index stays on the host."""
    return {key: batch[key] for key in ("image", "feature", "label", "mask") if key in batch}
