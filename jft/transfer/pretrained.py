"""From a weight set to a model's variables: everything but the head, and what the user wants fresh."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jft import tree
from jft.models import create_model
from jft.weights import store
from jft.weights.catalog import WeightSet


def abstract_variables(model: nn.Module, size: int) -> dict[str, Any]:
    """Shapes of a model's variables, without allocating them: `{'params': ..., 'batch_stats': ...}`.

    Args:
      model: the chain.
      size: side of the square images, in pixels; fc6 of some models depends on it.
    """
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), image)
    return {"params": shapes["params"], "batch_stats": shapes.get("batch_stats", {})}


def initialise(model: nn.Module, size: int, seed: int) -> dict[str, Any]:
    """Fresh variables, a function of the seed alone. Arguments as in `abstract_variables`."""
    image = jnp.zeros((1, size, size, 3))
    variables = jax.jit(lambda: model.init(jax.random.key(seed), image, train=False))()
    return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}


def overlay(
    variables: dict[str, Any], row: WeightSet, *, weights_path: str | None, fresh: str
) -> tuple[dict[str, Any], frozenset[str], dict[str, Any]]:
    """Puts pretrained values over initialised ones.

    Args:
      variables: from `initialise`, with the new head.
      row: the weight set; finding, fetching, verifying and converting it is the store's work.
      weights_path: file or folder to look at first, or None.
      fresh: stages or patterns over leaf names, separated by spaces, that keep their initial values beside the head.

    Returns:
      The variables; the names of the leaves that came from the weights, such as 'params/layer1/...'; the manifest.

    Raises:
      ValueError: the weights are not to be had, are damaged, or are not this model's.
    """
    flat = tree.flatten(variables)
    own = tree.flatten(abstract_variables(create_model(row.model, **row.options), row.preprocess.size))
    names = {name.split("/", 1)[1] for name in flat}
    keep = tree.matching(["head", *fresh.split()], names, what="fresh")
    fresh_names = {name for name in {*flat, *own} if name.split("/", 1)[1] in keep}
    leaves, manifest = store.load(row, own, weights_path=weights_path, fresh=frozenset(fresh_names))
    loaded = frozenset(set(flat) - fresh_names)
    wrong = [f"{n} {flat[n].shape} (weights: {leaves[n].shape})" for n in loaded if flat[n].shape != leaves[n].shape]
    if wrong:
        raise ValueError(f"{row.name} does not fit the model in {', '.join(sorted(wrong))}.")
    return tree.unflatten({n: leaves[n] if n in loaded else leaf for n, leaf in flat.items()}), loaded, manifest
