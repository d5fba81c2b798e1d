"""The catalog: one row for every published weight set that jft reads. The rows stand in `jft.weights.rows`."""

from jft.utils import tree
from jft.utils.option_names import option
from jft.utils.registry import is_own
from jft.weights.rows import FAMILIES
from jft.weights.rows.row import WeightSet

__all__ = ["CATALOG", "PREFIX", "TOP", "WeightSet", "choose_set", "find_row", "is_repository", "is_set"]

PREFIX = "hf:"  # of the names of repositories
TOP = ("fc6", "fc7", "head")  # stages that a 'notop' weight set lacks


def _catalog() -> dict[str, WeightSet]:
    """All rows by name, those of one model together."""
    by_model: dict[str, list[WeightSet]] = {}
    for family in FAMILIES:
        for row in family.ROWS:
            by_model.setdefault(row.model, []).append(row)
    return {row.name: row for rows in by_model.values() for row in rows}


CATALOG = _catalog()


def find_row(model: str, tag: str) -> WeightSet:
    """The row of a model's weight set.

    Args:
      model: key of `jft.models.MODELS`, such as 'vgg19'.
      tag: name of the set, such as 'torchvision'; or a repository, see `choose_set`.

    Returns:
      The row.

    Raises:
      ValueError: unknown model or tag; lists the known ones. Or the repository's model is another.
    """
    if is_repository(tag):
        row = choose_set(tag)
        if row.model != model:
            raise ValueError(f"{tag} holds weights of {row.model}, not of {model}: set {option('model', row.model)}.")
        return row
    if is_own(model):
        raise ValueError(f"{model} is a network of your own without published weights: set weights = '' to train it.")
    tree.choose({row.model: row for row in CATALOG.values()}, model, what="model with published weights")
    return tree.choose({row.tag: row for row in CATALOG.values() if row.model == model}, tag, what=f"{model} weights")


def is_repository(name: str) -> bool:
    """Whether weights are named as those of a repository, 'hf:...'."""
    return name.startswith(PREFIX)


def is_set(name: str) -> bool:
    """Whether this names a weight set of the catalog, or a repository, which may not exist."""
    return name in CATALOG or is_repository(name)


def choose_set(name: str) -> WeightSet:
    """The weight set of a name such as 'vgg19.torchvision', or of a repository.

    A repository is 'hf:owner/name' on the Hugging Face hub, in its cache on this machine or in jft's; or 'hf:/folder'.

    Raises:
      ValueError: there is no such set, with the nearest names; or the repository is not one that jft reads.
    """
    if name in CATALOG:
        return CATALOG[name]
    if is_repository(name):
        from jft.weights import hf_config, hf_files  # here, as they load JAX, which the catalog alone does not need

        return hf_config.row_of(hf_files.find(name))
    own = [other for other, row in CATALOG.items() if row.model == name]
    guess = f": it is one of {', '.join(own)}." if own else tree.did_you_mean(name, CATALOG) or "."
    raise ValueError(f"unknown weight set {name!r}{guess} `jft weights list` shows all {len(CATALOG)}.")
