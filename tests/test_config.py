"""Configs: every file loads, unknown fields are refused with a guess, senseless values named together."""

import importlib.util
from pathlib import Path

import pytest

from jft.config import default_config, difference, validate
from jft.models import MODELS
from jft.weights import catalog

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.py"))


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_loads_and_names_what_exists(path):
    module = load(path)
    config = module.get_config()
    validate(config)
    assert config.is_locked
    assert config.model in MODELS
    if config.weights:
        catalog.find_row(config.model, config.weights)
    assert f"--config configs/{path.name}" in module.__doc__
    overrides = [line for line in path.read_text().splitlines() if line.startswith("    config.")]
    assert len(overrides) <= 15


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


def test_difference_ignores_where_things_lie():
    old = default_config().to_dict()
    new = {**old, "data_dir": "elsewhere", "log_every": 1, "learning_rate": 0.5}
    assert difference(old, new) == ["learning_rate: 0.001 -> 0.5"]


def test_a_field_younger_than_the_old_config_had_its_default():
    new = default_config().to_dict()
    old = {key: value for key, value in new.items() if key != "aux_heads"}
    assert difference(old, new) == []
    assert difference(old, {**new, "aux_heads": True}) == ["aux_heads: False -> True"]
