"""What a run minimizes and what its evaluations measure, from its config and its images."""

from collections.abc import Mapping
from typing import Any

from jft.config import Config
from jft.data.source import Source
from jft.metrics import image_metrics
from jft.metrics.image_metrics import Metric
from jft.metrics.losses import LOSSES, Objective, make_objective


def choose_measures(
    config: Config, train_source: Source, own: Mapping[str, Any]
) -> tuple[Objective, dict[str, Metric]]:
    """The loss, and the additional metrics by name.

    Args:
      config: a config that is valid by itself.
      train_source: the training images.
      own: from `own.recorded`, objects that the config has names of.

    Raises:
      ValueError: loss, class weights, metrics or `select_by` do not fit the classes.
    """
    names = train_source.class_names
    objective = make_objective(
        LOSSES.resolve(config.loss, own.get("loss")),
        train_source.labels,
        names,
        label_smoothing=config.label_smoothing,
        balance=config.balance,
        class_weights=tuple(config.class_weights),
    )
    metrics = image_metrics.resolve(config.metrics, own.get("metrics"))
    image_metrics.check(metrics, len(names))
    image_metrics.check_select_by(config.select_by, metrics, len(names), train_source.multi_label)
    return objective, metrics
