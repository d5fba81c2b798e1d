"""Which models have the same layers, some of them more often or wider: tests take the smallest of each kind.

The others run among the long tests (`pytest -m slow`).
"""

import dataclasses
import functools

import pytest

from jft.models import MODELS, create_model
from jft.weights.catalog import CATALOG


def kind(model):
    """Equal for models of one class whose fields differ in sizes, counts and tables alone.

    Those with groups or registers differ from those without.
    """
    fields = ((field.name, getattr(model, field.name)) for field in dataclasses.fields(model))
    values = (value > 1 if name in ("groups", "registers") else value for name, value in fields)
    return type(model).__name__, *(value for value in values if isinstance(value, bool | str | None))


@functools.cache
def smallest_models():
    """A model of each kind: of those that are published the one with the fewest parameters."""
    sizes = {row.model: row.num_params for row in reversed(CATALOG.values()) if row.top}
    found = {}
    for name in sorted(MODELS, key=lambda name: sizes.get(name, 0)):
        found.setdefault(kind(create_model(name)), name)
    return frozenset(found.values())


def each_model(names=MODELS):
    """Parameters of a test: the models, of which those that are not the smallest of their kind are slow."""
    return [pytest.param(name, marks=() if name in smallest_models() else pytest.mark.slow) for name in names]


@functools.cache
def smallest_sets():
    """{dialect and kind of a weight set's model: name of the smallest such set}."""
    return {kin(row): row.name for row in sorted(CATALOG.values(), key=lambda row: (-row.num_params, row.name))}


def kin(row):
    """Equal for weight sets of one dialect whose models are of one kind."""
    return row.dialect, row.top, kind(create_model(row.model, **row.options))


def each_set(names):
    """Parameters of a test: the weight sets, of which those that are not the smallest of their kin are slow."""
    few = frozenset(smallest_sets().values())
    return [pytest.param(name, marks=() if name in few else pytest.mark.slow) for name in names]
