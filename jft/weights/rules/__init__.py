"""Conversion rules: which tensors of a file make which leaf, for each dialect, as tables generated from a model.

What frameworks do differently is absorbed here wherever algebra allows: layouts, fc6's flatten order, a convolution's
bias before BatchNorm, BatchNorm's epsilon and missing scale. What it does not allow is a module option in the catalog
row. Every rule goes both ways, so the same tables write files for the other frameworks.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from jft.models import Chain, create_model
from jft.utils import tree
from jft.weights.catalog import WeightSet
from jft.weights.rules import (
    alexnet,
    convnext,
    densenet,
    efficientnet,
    googlenet,
    inception,
    mobilenet,
    regnet,
    resnet,
    squeezenet,
    vgg,
    vit,
)
from jft.weights.rules.rule import Family, Rule
from jft.weights.rules.transforms import Transform, dense, dense_of_conv, dense_of_map, hwio, same

__all__ = [
    "Rule",
    "Transform",
    "canonical",
    "dense",
    "dense_of_conv",
    "dense_of_map",
    "hwio",
    "is_ignored",
    "rules_for",
    "same",
    "source_shapes",
    "sources_of",
]

_NORMALIZATION = ("normalization/0", "normalization/1", "normalization/2")  # mean, variance, count
_ATTACK = ("attacker.", "normalizer.")

_FAMILIES: dict[type[Chain], Family] = {
    family.model: family
    for family in (
        alexnet.FAMILY,
        convnext.FAMILY,
        densenet.FAMILY,
        *efficientnet.FAMILIES,
        googlenet.FAMILY,
        inception.FAMILY,
        *mobilenet.FAMILIES,
        regnet.FAMILY,
        resnet.FAMILY,
        squeezenet.FAMILY,
        vgg.FAMILY,
        vit.FAMILY,
    )
}


def rules_for(row: WeightSet, model: Chain) -> list[Rule]:
    """All rules for a weight set: exactly one for each leaf of the model.

    Args:
      row: names the dialect; 'jft' has no rules, its names are the leaves' own.
      model: `create_model(row.model, **row.options)`, or one that differs from it in sizes.

    Returns:
      The rules, stage by stage; then those of its auxiliary heads, whether the model has them or not, if the dialect
      has names for them.

    Raises:
      ValueError: nobody has published such a model in this dialect.
    """
    families = {model.__name__: family for model, family in _FAMILIES.items() if row.dialect in family.rules}
    if not families:
        dialects = {dialect: None for family in _FAMILIES.values() for dialect in family.rules}
        tree.choose(dialects, row.dialect, what="dialect")
    family = tree.choose(families, type(model).__name__, what=f"{row.dialect} family")
    return list(family.rules[row.dialect](model))


def is_ignored(name: str) -> bool:
    """Whether a tensor is ignored on purpose.

    That is torch's count of batches in BatchNorm; what Keras' EfficientNet normalizes its images by, which is
    ImageNet's mean and standard deviation and a part of the row's preprocessing; DINOv2's token for the patches that
    were hidden in pretraining; and, beside the networks of the robustness library, its normalization, which is
    ImageNet's too, and its attacker, which is the network once more.
    """
    return name.endswith(".num_batches_tracked") or name in (*_NORMALIZATION, "mask_token") or name.startswith(_ATTACK)


def canonical(row: WeightSet, names: Iterable[str]) -> dict[str, str]:
    """Maps the names of tensors in a file to the names in the rules.

    Args:
      row: names model and dialect.
      names: of the file's tensors, in its order.

    Returns:
      {name that the rules use: name in the file}. A tensor that would take the name of another keeps its own.
    """
    model = create_model(row.model, **row.options)
    family = _FAMILIES.get(type(model))
    find = family.names.get(row.dialect) if family else None
    return dict(find(model, tuple(names))) if find else {name: name for name in names}


def sources_of(table: Iterable[Rule], leaves: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Converts leaves back to the tensors of a file in the row's dialect.

    Args:
      table: from `rules_for`. Rules whose leaf is not among `leaves` give nothing.
      leaves: 'params/…' or 'batch_stats/…' -> float32 array.

    Returns:
      Name of the tensor -> array, a view of the leaf where only its layout differs.

    Raises:
      ValueError: leaves that the dialect has no tensors for.
    """
    rules = {rule.target: rule for rule in table}
    if strange := [leaf for leaf in leaves if leaf not in rules]:
        raise ValueError(
            f"{len(strange)} leaves have no tensor in this dialect, such as {', '.join(strange[:3])}: "
            "leave them out, or choose a dialect that has them."
        )
    tensors = {}
    for leaf, rule in rules.items():
        if leaf in leaves:
            arrays = rule.transform.backward(leaves[leaf], *(leaves[name] for name in rule.beside))
            tensors |= {name: array for name, array in zip(rule.sources, arrays, strict=True) if array is not None}
    return tensors


def source_shapes(table: Iterable[Rule], target: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors that make leaves of these shapes, without allocating them.

    Args:
      table: from `rules_for`.
      target: leaf -> what has a shape, such as `tree.flatten(abstract_variables(…))`.

    Returns:
      Name of the tensor -> its shape.

    Raises:
      ValueError: see `sources_of`.
    """
    # Ones are a scale that does nothing, so that no kernel is multiplied by it.
    leaves = {name: np.broadcast_to(np.float32(1), leaf.shape) for name, leaf in target.items()}
    return {name: array.shape for name, array in sources_of(table, leaves).items()}
