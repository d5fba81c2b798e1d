"""What there is: models by name, and their published weights."""

import fnmatch

from jft.models import MODELS
from jft.utils import tree
from jft.weights.catalog import CATALOG, WeightSet


def list_models(pattern: str = "*", *, pretrained: bool = False) -> list[str]:
    """Names of models.

    Args:
      pattern: of names, as of files: 'resnet*', 'vgg1[69]'.
      pretrained: only those that have published weights.

    Returns:
      The names that match, in the order of `jft.models.MODELS`.

    Raises:
      ValueError: nothing matches; guesses what was meant.
    """
    having = {row.model for row in CATALOG.values()}
    known = [name for name in MODELS if name in having or not pretrained]
    found = fnmatch.filter(known, pattern)
    if not found:
        which = "pretrained model" if pretrained else "model"
        guess = tree.did_you_mean(pattern.strip("*"), known) or ": list_models() gives all names."
        raise ValueError(f"no {which} matches {pattern!r}{guess}")
    return found


def list_weights(model: str = "*") -> list[WeightSet]:
    """Published weight sets.

    Args:
      model: name of a model, or a pattern of names.

    Returns:
      Rows of the catalog. Of their fields: `name`, 'model.tag'; `model`; `tag`, which `create_model` and `train` take
      as `weights`; `top1` and `top5`, published ImageNet accuracies in percent, or None; `license`; `size`, MiB of the
      file; `num_params`; `preprocess`; `url`.

    Raises:
      ValueError: nothing matches; guesses what was meant.
    """
    names = set(list_models(model, pretrained=True))
    return [row for row in CATALOG.values() if row.model in names]
