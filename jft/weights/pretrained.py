"""Variables of a model from pretrained weights, except the classifying layers and stages in `fresh`."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from jft.models import create_model
from jft.utils import tree
from jft.weights import hub
from jft.weights.catalog import WeightSet
from jft.weights.fit import fitted
from jft.weights.target import leaf_shapes


def overlay(
    shapes: Mapping[str, Any],
    draw: Callable[[Collection[str]], Mapping[str, Any]],
    row: WeightSet,
    *,
    weights_path: str | None,
    fresh: str,
) -> tuple[dict[str, Any], frozenset[str], dict[str, Any]]:
    """Pretrained values, and initial ones where there are none.

    Args:
      shapes: from `models.abstract_variables`, with the new head.
      draw: names of leaves, such as 'params/head/...' -> nested dicts of their initial values, as `models.initialize`.
      row: the weight set, which `hub.load` finds, downloads, verifies and converts as needed.
      weights_path: file or folder to look in first, or None.
      fresh: stages or patterns over leaf names, separated by spaces, that keep their initial values. The classifying
        layers of the head and of auxiliary heads always do, and auxiliary heads that the weights lack.

    Returns:
      The variables; the names of the loaded leaves, such as 'params/layer1/...'; the manifest.

    Raises:
      ValueError: the weights are unavailable or damaged, or belong to another model.

    A model that reads other channels than three gets the first kernel as `fit.other_channels` makes it.
    """
    names = tree.flatten(shapes).keys()
    own = leaf_shapes(create_model(row.model, **row.file_options), row.preprocess.size)
    bare = {name.split("/", 1)[1] for name in names}
    keep = fresh_leaves(bare, fresh)
    fresh_names = {name for name in names if name.split("/", 1)[1] in keep}
    unneeded = own.keys() - names  # auxiliary heads that this model does not have
    leaves, manifest = hub.load(row, own, weights_path=weights_path, fresh=fresh_names | unneeded)
    loaded = frozenset(names & own.keys() - fresh_names)
    drawn = tree.flatten(draw(names - loaded))
    wanted = {name: leaf.shape for name, leaf in tree.flatten(shapes).items()}
    pretrained = fitted({name: leaves[name] for name in loaded}, wanted)
    merged = tree.unflatten({name: pretrained[name] if name in loaded else drawn[name] for name in names})
    return {**shapes, **merged}, loaded, manifest


def fresh_leaves(names: Collection[str], fresh: str) -> set[str]:
    """The leaves that keep their initial values, of names such as 'head/head/kernel'; see `overlay`."""
    return tree.matching(["(.+/)?head", *fresh.split()], names, what="fresh")
