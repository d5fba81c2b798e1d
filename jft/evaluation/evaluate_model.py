"""Evaluation of a model that is no run: pretrained, newly made, or opened from a file."""

import dataclasses
from typing import Any

import numpy as np

from jft.config import default_config
from jft.data import datasets
from jft.data.source import Source
from jft.evaluation import results
from jft.evaluation.evaluator import Evaluator
from jft.evaluation.predictor import Predictor
from jft.metrics import calibration


def evaluate_model(model: Predictor, source: Source, *, split: str = "all") -> dict[str, Any]:
    """Evaluates a model on every image of a source, which it prepares as `predict` prepares arrays.

    Args:
      model: from `create_model` or `load`.
      source: the images; their classes are the model's, in any order. Where the model's classes are mere numbers, they
        are the source's in its order.
      split: what to call the images.

    Returns:
      `{'model', 'dataset', 'split', 'loss', 'accuracy', 'top5', 'count', 'temperature', ...}` and what `results.assess`
      gives: loss in nats, rates as shares of 1. `mean_average_precision` in place of `top5` where images have several
      labels.

    Raises:
      ValueError: the images' classes are not the model's, or they have several labels and its classes exclude one
        another.
    """
    source = _labeled_alike(source, model.class_names)
    if source.multi_label != model.objective.multi_label:
        several, one = "several labels an image", "one label an image"
        raise ValueError(
            f"{source.name} has {several if source.multi_label else one}, and {model.name} gives "
            f"{several if model.objective.multi_label else one}: give images that are labeled as it was trained."
        )
    evaluator = Evaluator(
        model.module,
        model.preprocess,
        model.parallel,
        objective=model.objective,
        fit=model.fit,
        batch_size=model.batch_size,
        resize_on="device",
        cache_bytes=default_config().cache_bytes,
    )
    found = evaluator(model.variables, source)
    calibrated = None
    if model.temperature != 1:
        logits = found.logits.astype(np.float64)
        calibrated = calibration.apply_temperature(logits, model.temperature, multilabel=source.multi_label)
    return {
        "model": model.name,
        "dataset": source.name,
        "split": split,
        **found.summary(),
        "temperature": model.temperature,
        **results.assess(found.probabilities, source, source.class_names, calibrated),
    }


def _labeled_alike(source: Source, class_names: tuple[str, ...]) -> Source:
    """The source with its labels in the order of a model's classes."""
    numbers = tuple(map(str, range(len(class_names))))
    if source.class_names == class_names:
        return source
    if set(source.class_names) != set(class_names):
        if class_names == numbers and len(source.class_names) == len(numbers):
            return source
        raise ValueError(
            f"the model's classes are not the data's: it has {list(class_names)[:20]}, {source.name} has "
            f"{list(source.class_names)[:20]}. Give data of the same classes, named alike."
        )
    return datasets.load_source(
        dataclasses.replace(source, official={}), split="all", data_dir=None, validation=0, seed=0, classes=class_names
    )
