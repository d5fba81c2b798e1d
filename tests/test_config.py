"""The config: unknown fields are refused with a guess, senseless values named together."""

import pytest

from jft.config import default_config, difference, validate


def test_unknown_field_is_refused_with_a_guess():
    config = default_config()
    with pytest.raises(AttributeError, match=r'Did you mean "learning_rate"'):
        config.learning_rat = 1.0
    with pytest.raises(KeyError, match=r'Did you mean "freeze"'):
        config.update({"freezee": "fc7"})


def test_all_that_is_wrong_is_said_at_once():
    config = default_config()
    config.update({"optimizer": "adamv", "batch_size": 0, "clip_norm": -1.0, "accumulate": 0})
    with pytest.raises(ValueError, match=r"optimizer = 'adamv': choose adam, adamw, sgd.*batch_size = 0.*clip_norm"):
        validate(config)


def test_what_would_be_ignored_is_refused():
    config = default_config()
    config.update({"regularisation": (0.1,), "early_stopping": 2, "validation": 0.0})
    with pytest.raises(ValueError, match=r"regularisation = \(0\.1,\) is of the solvers.*early_stopping = 2 looks at"):
        validate(config)


def test_difference_ignores_where_things_lie():
    old = default_config().to_dict()
    new = {**old, "data_dir": "elsewhere", "log_every": 1, "learning_rate": 0.5}
    assert difference(old, new) == ["learning_rate: 0.001 -> 0.5"]


def test_a_field_younger_than_the_old_config_had_its_default():
    new = default_config().to_dict()
    old = {key: value for key, value in new.items() if key != "aux_heads"}
    assert difference(old, new) == []
    assert difference(old, {**new, "aux_heads": True}) == ["aux_heads: False -> True"]
