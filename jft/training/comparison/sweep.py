"""Sweeps: every combination of some fields' values, as arms of a config."""

import copy
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from jft.config import Config
from jft.utils import text


def with_sweep(config: Config, values: Mapping[str, Sequence[Any]]) -> Config:
    """The config whose arms are the combinations of the values, each with each of the arms that it has.

    Args:
      config: the config; it stays as it is.
      values: field -> the values that it takes, at least one. Several fields make a grid, the last of which changes
        first.

    Raises:
      ValueError: a field cannot differ between the arms of a config.
    """
    if "arms" in values:
        raise ValueError("a sweep makes arms itself: sweep the fields that they change.")
    points = [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]
    swept = copy.deepcopy(config)
    swept.arms = tuple(
        (" ".join(filter(None, [arm, _name(point)])), {**changes, **point})
        for arm, changes in config.arms or (("", {}),)
        for point in points
    )
    return swept


def _name(point: Mapping[str, Any]) -> str:
    """Of an arm, which names its folder: 'learning_rate=0.001,flip=True'."""
    return ",".join(f"{field}={text.file_name(value)}" for field, value in point.items())
