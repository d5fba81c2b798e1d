"""Loads pretrained weights into a model's variables, except the classifying layers and stages in `fresh`."""

from typing import Any

from jft.models import create_model
from jft.utils import tree
from jft.weights import hub
from jft.weights.catalog import WeightSet
from jft.weights.target import leaf_shapes


def overlay(
    variables: dict[str, Any], row: WeightSet, *, weights_path: str | None, fresh: str
) -> tuple[dict[str, Any], frozenset[str], dict[str, Any]]:
    """Replaces initialized values by pretrained ones.

    Args:
      variables: from `models.initialize`, with the new head.
      row: the weight set, which `hub.load` finds, downloads, verifies and converts as needed.
      weights_path: file or folder to look in first, or None.
      fresh: stages or patterns over leaf names, separated by spaces, that keep their initial values. The classifying
        layers of the head and of auxiliary heads always do, and auxiliary heads that the weights lack.

    Returns:
      The variables; the names of the loaded leaves, such as 'params/layer1/...'; the manifest.

    Raises:
      ValueError: the weights are unavailable or damaged, or belong to another model.
    """
    flat = tree.flatten(variables)
    own = leaf_shapes(create_model(row.model, **row.file_options), row.preprocess.size)
    names = {name.split("/", 1)[1] for name in flat}
    keep = tree.matching(["(.+/)?head", *fresh.split()], names, what="fresh")
    fresh_names = {name for name in flat if name.split("/", 1)[1] in keep}
    unneeded = own.keys() - flat.keys()  # auxiliary heads that this model does not have
    leaves, manifest = hub.load(row, own, weights_path=weights_path, fresh=fresh_names | unneeded)
    loaded = frozenset(flat.keys() & own.keys() - fresh_names)
    merged = tree.unflatten({n: leaves[n] if n in loaded else leaf for n, leaf in flat.items()})
    return {**variables, **merged}, loaded, manifest
