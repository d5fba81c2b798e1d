"""The catalog: one row for every published weight set that jft reads. The rows stand in `jft.weights.rows`."""

from jft.utils import tree
from jft.utils.registry import is_own
from jft.weights.rows import FAMILIES
from jft.weights.rows.row import WeightSet

__all__ = ["CATALOG", "TOP", "WeightSet", "choose_set", "find_row"]

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
    """The catalog row of a model's weight set.

    Args:
      model: key of `jft.models.MODELS`, such as 'vgg19'.
      tag: name of the set, such as 'torchvision'.

    Returns:
      The row.

    Raises:
      ValueError: unknown model or tag; lists the known ones.
    """
    if is_own(model):
        raise ValueError(f"{model} is a network of your own without published weights: set weights = '' to train it.")
    tree.choose({row.model: row for row in CATALOG.values()}, model, what="model with published weights")
    return tree.choose({row.tag: row for row in CATALOG.values() if row.model == model}, tag, what=f"{model} weights")


def choose_set(name: str) -> WeightSet:
    """The weight set of a name such as 'vgg19.torchvision'; ValueError with the nearest names if there is none."""
    if name in CATALOG:
        return CATALOG[name]
    own = [other for other, row in CATALOG.items() if row.model == name]
    guess = f": it is one of {', '.join(own)}." if own else tree.did_you_mean(name, CATALOG) or "."
    raise ValueError(f"unknown weight set {name!r}{guess} `jft weights list` shows all {len(CATALOG)}.")
