"""What a weight file has to fill: the leaves of its model."""

from collections.abc import Iterable

import jax

from jft.models import Chain, abstract_variables
from jft.utils import tree
from jft.weights.catalog import TOP, WeightSet


def leaf_shapes(model: Chain, size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """The leaves of a model: 'params/…' or 'batch_stats/…' -> shape and type, none of them allocated.

    Args:
      model: the chain.
      size: side of the square images, in pixels; fc6 of some models depends on it.

    Raises:
      ValueError: the model does not take images of this size.
    """
    return tree.flatten(abstract_variables(model, size))


def absent(row: WeightSet, leaves: Iterable[str]) -> list[str]:
    """Those of a model's leaves that the file of a weight set does not hold, since it has no top."""
    return [] if row.top else [leaf for leaf in leaves if leaf.split("/")[1] in TOP]
