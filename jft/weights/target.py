"""The leaves of a model that a weight file must fill."""

from collections.abc import Iterable

import jax

from jft.models import Chain, abstract_variables
from jft.utils import tree
from jft.weights.catalog import TOP, WeightSet


def leaf_shapes(model: Chain, size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """The leaves of a model: {'params/…' or 'batch_stats/…': shape and dtype}, without allocating them.

    Args:
      model: the model.
      size: side of the square images in pixels; the shape of fc6 depends on it in some models.

    Raises:
      ValueError: the model does not take images of this size.
    """
    return tree.flatten(abstract_variables(model, size))


def absent(row: WeightSet, leaves: Iterable[str]) -> list[str]:
    """The leaves of a model that a 'notop' weight set lacks; empty for a set with top."""
    return [] if row.top else [leaf for leaf in leaves if leaf.split("/")[1] in TOP]
