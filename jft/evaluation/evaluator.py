"""The evaluator: counts every image of a source exactly once, on any number of devices."""

import dataclasses
import functools
import types
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jft.data import datasets, loader
from jft.data.augment import Augmentation, make_eval_transform, make_views
from jft.data.feeds.choose import open_feed
from jft.data.feeds.feed import Feed
from jft.data.feeds.images import Images, Reading
from jft.data.transforms import Preprocess
from jft.evaluation.eval_step import make_eval_step
from jft.features.extract import FeatureFeed
from jft.features.store import Features
from jft.metrics import calibration, classification, image_metrics, masked_sums
from jft.metrics.image_metrics import Metric
from jft.metrics.losses import Objective
from jft.models import Chain
from jft.utils import distributed, waiting
from jft.utils.mesh import Parallel


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The result of an evaluator.

    Attributes:
      sums: sums over all images, `masked_sums.classification_sums` or `masked_sums.label_sums`.
      labels: labels of the images in order, int32 [n] or [n, classes].
      logits: float32 [n, classes], one per class.
      metrics: means of the evaluator's further metrics, by name.
    """

    sums: masked_sums.Sums
    labels: np.ndarray
    logits: np.ndarray
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def probabilities(self) -> np.ndarray:
        """Probabilities without temperature scaling, float64 [n, classes]."""
        # In float32 a sigmoid is exactly 1 for logits above 17, and a wrong prediction would have an infinite loss.
        return calibration.apply_temperature(self.logits.astype(np.float64), 1.0, multilabel=self.labels.ndim == 2)

    def temperature(self) -> float | None:
        """The temperature fitted on these images, see `calibration.fit_temperature`; None if a logit is not finite."""
        return calibration.fit_temperature(self.logits, self.labels) if np.isfinite(self.logits).all() else None

    def calibrated_loss(self) -> float:
        """Mean log loss at the fitted temperature, in nats; infinite if a logit is not finite."""
        temperature = self.temperature()
        if temperature is None:
            return np.inf
        logits = self.logits.astype(np.float64)
        scaled = calibration.apply_temperature(logits, temperature, multilabel=self.labels.ndim == 2)
        return float(classification.log_losses(scaled, self.labels).mean())

    def summary(self) -> dict[str, float | int]:
        """`masked_sums.summarize`, and `mean_average_precision` over classes if images have several labels."""
        values = {**masked_sums.summarize(self.sums), **self.metrics}
        if self.labels.ndim == 1:
            return values
        precision = masked_sums.average_precision(self.probabilities, self.labels)
        return {**values, "mean_average_precision": float(np.nanmean(precision))}


class Evaluator:
    """`evaluator(variables, source) -> Evaluation`; compiles once, at its first call."""

    def __init__(
        self,
        model: Chain,
        spec: Preprocess,
        parallel: Parallel,
        *,
        objective: Objective,
        fit: str,
        batch_size: int,
        resize_on: str,
        cache_bytes: int,
        input: str = "auto",
        boundary: str | None = None,
        views: Augmentation | None = None,
        metrics: Mapping[str, Metric] = types.MappingProxyType({}),
    ) -> None:
        """Sets up the evaluation.

        Args:
          model: the chain of stages; its `axis_name` is that of `parallel`.
          spec: preprocessing of the weights.
          parallel: the devices.
          objective: converts logits to losses and predictions.
          fit: 'whole' or 'crop', as in training.
          batch_size: batch size over all devices; the last batch is padded and its padding masked.
          resize_on: 'device' or 'host'.
          cache_bytes: memory for decoded images, in bytes.
          input: what reads the images, see `feeds.choose`.
          boundary: the stage of the cached features, if features are evaluated.
          views: test-time augmentation whose variants are averaged; None for a single, unchanged view.
          metrics: further ones by name, from `image_metrics.resolve`.

        Raises:
          ValueError: `views` are crops, and `fit` resizes images to a square instead of cropping.
        """
        self._step = make_eval_step(
            model,
            objective=objective,
            transform=make_eval_transform(spec, fit=fit),
            views=make_views(spec, fit=fit, augmentation=views) if views else None,
            boundary=boundary,
            axis_name=parallel.axis_name,
        )
        self._compiled: jax.stages.Compiled | None = None
        self._parallel, self._metrics, self._batch_size = parallel, metrics, batch_size
        self._reading = Reading(spec, fit, resize_on, cache_bytes, input)

    @waiting.during("evaluating")
    def __call__(self, variables: Any, source: datasets.Source, features: Features | None = None) -> Evaluation:
        """Evaluates all images of a source that is not empty.

        Args:
          variables: `{'params', 'batch_stats'}` on the devices.
          source: the images.
          features: their cached features at the boundary, read instead of the images.

        Raises:
          RuntimeError: an image was not counted exactly once, which is a bug in jft.
        """
        total, pending, indices, logits = None, [], [], []

        def collect(total: masked_sums.Sums | None, sums: masked_sums.Sums) -> masked_sums.Sums:
            logits.append(np.asarray(sums.pop("logits")))
            return masked_sums.add(total, sums)

        feed = self._feed(source, features)
        rows = loader.eval_rows(source, batch_size=self._batch_size, shard=self._parallel.shard)
        for batch in feed.batches(rows, loader.eval_steps(source, self._batch_size)):
            placed = feed.place(batch)
            if self._compiled is None:
                feed.check(batch)
                self._compiled = self._parallel.compile(self._step, variables, placed, donate=False)
            pending.append(self._compiled(variables, placed))
            if len(pending) > 2:  # fetch results two batches late, so that the device never waits for the host
                total = collect(total, pending.pop(0))
            indices.append(batch["index"][batch["mask"]])
        for sums in pending:
            total = collect(total, sums)
        assert total is not None  # the source is not empty
        seen = np.concatenate(indices)
        own = [len(seen), len(np.unique(seen)), int(seen.sum())]
        read, distinct, numbers = map(sum, zip(*distributed.gather(own), strict=True))
        if not read == distinct == len(source) == round(float(total["count"])) or numbers != source.indices.sum():
            raise RuntimeError(
                f"{total['count']} of {len(source)} images were counted, {distinct} of them distinct; each must be "
                "counted once. This is a bug in jft: please report it."
            )
        # The padding of the last batch is at its end.
        whole = np.concatenate(logits)[: len(source)]
        return Evaluation(total, source.labels, whole, image_metrics.measure(self._metrics, whole, source.labels))

    def _feed(self, source: datasets.Source, features: Features | None) -> Feed:
        if features is None:
            return open_feed(Images(source, self._reading), self._parallel)
        return FeatureFeed(source, features, self._parallel)
