"""The order of a run's evaluations, from which the best checkpoint follows."""

from collections.abc import Iterable, Mapping
from typing import Any


def score(values: Mapping[str, Any]) -> float:
    """What evaluations are ranked by: what `select_by` says, or mean average precision, or else accuracy."""
    if "score" in values:
        return values["score"]
    return values.get("mean_average_precision", values["accuracy"])


def best_step(history: Iterable[Mapping[str, Any]]) -> int | None:
    """Step of the evaluation with the highest score, on a tie the smallest loss, then the last; None without any.

    Args:
      history: evaluations `{'step', 'loss', 'accuracy', ...}`.
    """
    best = max(history, key=lambda values: (score(values), -values["loss"], values["step"]), default=None)
    return None if best is None else best["step"]
