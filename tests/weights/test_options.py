"""Every field in which a weight set differs from its model's defaults is one that a file or a checkpoint may name."""

import pytest

from jft.weights import metadata
from jft.weights.catalog import CATALOG

CASES = {(row.model, *map(str, sorted(row.options.items()))): row for row in CATALOG.values() if row.options}


@pytest.mark.parametrize("row", CASES.values(), ids=lambda row: row.name)
def test_options_of_weight_sets_may_be_read_again(row):
    metadata.check_options(dict(row.options), row.model)


def test_words_are_those_of_the_field():
    metadata.check_options({"padding": "same", "activation": "relu6"}, "efficientnet_lite0")
    for options in ({"padding": "valid"}, {"activation": 3}, {"padding": ["same"]}):
        with pytest.raises(ValueError, match=r"which is none of (torch, same|relu, relu6)"):
            metadata.check_options(options, "efficientnet_lite0")
