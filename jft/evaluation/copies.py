"""Figures of an evaluation without the images that the run was trained on, or that look almost like one."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jft.data.source import Source
from jft.metrics import masked_sums


def without(probabilities: np.ndarray, source: Source, copies: np.ndarray) -> dict[str, Any] | None:
    """Figures of the other images.

    Args:
      probabilities: float [n, classes], of the images.
      source: the images, n of them.
      copies: bool [n], which to leave out.

    Returns:
      {'count', 'loss', 'accuracy', ...}, as `masked_sums.of_probabilities` gives; None where none or all are left out.
    """
    if not copies.any() or copies.all():
        return None
    kept = ~copies
    return masked_sums.of_probabilities(probabilities[kept].astype(np.float64), source.labels[kept])


def told(result: Mapping[str, Any]) -> str:
    """A sentence with the figures of `without` in the result of an evaluation; '' where it has none."""
    found = result.get("without_copies")
    if not found:
        return ""
    left_out = result["count"] - found["count"]
    name = "mean average precision" if "mean_average_precision" in found else "accuracy"
    value = found.get("mean_average_precision", found["accuracy"])
    return (
        f"without {'this image' if left_out == 1 else f'these {left_out:,} images'}: {name} {value:.2%}, log loss "
        f"{found['loss']:.4f}, {found['count']:,} images"
    )
