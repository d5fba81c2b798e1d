"""From a weight set to a model's variables: everything but the classifying layers, and what the user wants fresh."""

from typing import Any

from jft.models import create_model
from jft.utils import tree
from jft.weights import hub
from jft.weights.catalog import WeightSet
from jft.weights.target import leaf_shapes


def overlay(
    variables: dict[str, Any], row: WeightSet, *, weights_path: str | None, fresh: str
) -> tuple[dict[str, Any], frozenset[str], dict[str, Any]]:
    """Puts pretrained values over initialized ones.

    Args:
      variables: from `models.initialize`, with the new head.
      row: the weight set; finding, fetching, verifying and converting it is the store's work.
      weights_path: file or folder to look at first, or None.
      fresh: stages or patterns over leaf names, separated by spaces, that keep their initial values beside the
        classifying layers of the head and of auxiliary heads. So do auxiliary heads that the weights never have.

    Returns:
      The variables; the names of the leaves that came from the weights, such as 'params/layer1/...'; the manifest.

    Raises:
      ValueError: the weights are not to be had, are damaged, or are not this model's.
    """
    flat = tree.flatten(variables)
    own = leaf_shapes(create_model(row.model, **row.file_options), row.preprocess.size)
    names = {name.split("/", 1)[1] for name in flat}
    keep = tree.matching(["(.+/)?head", *fresh.split()], names, what="fresh")
    fresh_names = {name for name in flat if name.split("/", 1)[1] in keep}
    unneeded = own.keys() - flat.keys()  # auxiliary heads that this model goes without
    leaves, manifest = hub.load(row, own, weights_path=weights_path, fresh=fresh_names | unneeded)
    loaded = frozenset(flat.keys() & own.keys() - fresh_names)
    merged = tree.unflatten({n: leaves[n] if n in loaded else leaf for n, leaf in flat.items()})
    return {**variables, **merged}, loaded, manifest
