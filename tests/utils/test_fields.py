"""The table of fields: every row says what it means, and its default passes its own checks."""

import re

import pytest

from jft.config import default_config, validate, wrong_values
from jft.utils.fields import FIELDS, GROUPS


def test_the_config_is_made_of_the_table():
    config = default_config()
    assert [*config] == sorted(FIELDS) and len(FIELDS) == sum(map(len, GROUPS.values()))
    validate(config)
    for name, field in FIELDS.items():
        assert config.to_dict()[name] == field.default


@pytest.mark.parametrize("name", FIELDS)
def test_a_row_is_whole(name):
    field = FIELDS[name]
    assert 8 < len(field.doc) <= 110 and not field.doc.endswith(".") and field.doc == field.doc.strip()
    assert not field.choices or field.default in field.choices
    assert field.check is None or field.check(field.default) == ""
    assert {need.field for need in field.needs} <= {*FIELDS}
    assert field.element is not None if field.kind is tuple else field.element is None


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("batch_size", 0, "must be above 0"),
        ("image_size", -1, "must not be below 0"),
        ("ema", 1.0, r"must be in 0 \.\. 1, below 1"),
        ("rand_magnitude", 31, r"must be in 0 \.\. 30"),
        ("background", "no color", "give a color such as 'white'"),
        ("cache_features", "always", "choose 'auto', True or False"),
        ("accumulate", 0, "choose 'auto' or a whole number above 0"),
        ("fit", "all", "choose whole, crop"),
    ],
)
def test_a_wrong_value_is_named_with_its_remedy(name, value, problem):
    config = default_config()
    config[name] = value
    (wrong,) = wrong_values(config)
    assert wrong.startswith(f"{name} = {value!r}: ")
    assert re.search(problem, wrong)
