"""The config: unknown fields are refused with a guess, senseless values named together."""

import pathlib

import pytest

from jft.config import BELONGS_TO, as_json, default_config, difference, validate, without_effect


def test_unknown_field_is_refused_with_a_guess():
    config = default_config()
    with pytest.raises(AttributeError, match=r'Did you mean "learning_rate"'):
        config.learning_rat = 1.0
    with pytest.raises(KeyError, match=r'Did you mean "freeze"'):
        config.update({"freezee": "fc7"})


def test_all_that_is_wrong_is_said_at_once():
    config = default_config()
    config.update({"batch_norm": "train", "batch_size": 0, "clip_norm": -1.0, "accumulate": 0})
    with pytest.raises(
        ValueError, match=r"batch_norm = 'train': choose trained, statistics, frozen.*batch_size = 0.*clip_norm"
    ):
        validate(config)


def test_numbers_are_finite():
    config = default_config()
    config.update({"max_value": float("nan"), "spike_norm": float("inf")})
    with pytest.raises(ValueError, match=r"max_value = nan: give a finite number.*spike_norm = inf: give a finite"):
        validate(config)


def test_what_would_be_ignored_is_refused():
    config = default_config()
    config.update({"regularization": (0.1,), "early_stopping": 2, "validation": 0.0})
    with pytest.raises(ValueError, match=r"regularization = \(0\.1,\) has no effect.*early_stopping = 2 has no"):
        validate(config)


# Field -> (a value of its own, a config where it has an effect, and one where it has none).
EFFECTS = {
    "optimizer": ("sgd", {}, {"solver": "lbfgs"}),
    "learning_rate": (0.5, {}, {"solver": "ridge"}),
    "schedule": ("cosine", {}, {"solver": "lbfgs"}),
    "weight_decay": (0.1, {}, {"solver": "lbfgs"}),
    "warmup_epochs": (1.0, {}, {"solver": "lbfgs"}),
    "clip_norm": (1.0, {}, {"solver": "lbfgs"}),
    "epochs": (3.0, {}, {"steps": 5}),
    "momentum": (0.5, {"optimizer": "sgd"}, {"optimizer": "adam"}),
    "step_epochs": ((3,), {"schedule": "step"}, {}),
    "step_factor": (0.5, {"schedule": "step", "step_epochs": (3,)}, {"schedule": "step"}),
    "rate_decay": (0.5, {"schedule": "inverse_time"}, {"schedule": "cosine"}),
    "rand_magnitude": (5, {"auto_augment": "rand"}, {"auto_augment": "trivial"}),
    "rand_operations": (5, {"auto_augment": "rand"}, {}),
    "crop": ("center", {"fit": "crop"}, {}),
    "crop_padding": (0.1, {"fit": "crop"}, {"fit": "crop", "crop": "center"}),
    "region_of_interest": (False, {"dataset": "gtsrb"}, {}),
    "regularization": ((0.1,), {"solver": "ridge"}, {}),
    "early_stopping": (2, {}, {"validation": 0.0}),
    "head_hidden": ((8,), {"head": "linear"}, {}),
    "fresh": ("layer4", {}, {"weights": ""}),
    "features_dtype": ("bfloat16", {}, {"cache_features": False}),
}


@pytest.mark.parametrize("field", EFFECTS)
def test_a_field_without_what_it_belongs_to_is_refused(field):
    value, where, elsewhere = EFFECTS[field]
    for changes, message in ((where, None), (elsewhere, f"{field} = .* has no effect where .*: it belongs to")):
        config = default_config()
        config.update({**changes, field: value})
        if message is None:
            validate(config)
        else:
            with pytest.raises(ValueError, match=message):
                validate(config)


def test_the_table_is_of_fields_that_there_are():
    config = default_config()
    for field, needs in BELONGS_TO.items():
        assert {field, *(need.field for need in needs)} <= {*config}
    assert without_effect(config.to_dict()) == {}


def test_a_field_counts_where_one_phase_makes_use_of_it():
    config = default_config()
    config.update({"momentum": 0.5, "rate_decay": 0.1, "phases": ({"optimizer": "sgd", "epochs": 2}, {"epochs": 1})})
    assert [*without_effect(config.to_dict())] == ["rate_decay"]


def test_a_path_and_a_whole_float_are_taken():
    config = default_config()
    config.data_dir, config.steps = pathlib.Path("/a/b"), 1e3
    config.update({"weights_path": pathlib.Path("c"), "seed": 2.0})
    assert (config.data_dir, config.weights_path, config.steps, config.seed) == ("/a/b", "c", 1000, 2)
    assert {type(config[name]) for name in ("steps", "seed")} == {int}
    for value in (2.5, "many", 1j):
        with pytest.raises(TypeError, match=r"steps = .*: give a whole number, as 1000"):
            config.steps = value


def test_what_has_no_effect_is_no_difference():
    """So that a run that was begun with it goes on once it is left out."""
    new = default_config().to_dict()
    assert difference({**new, "momentum": 0.5}, new) == []
    assert difference({**new, "momentum": 0.5, "optimizer": "sgd"}, {**new, "optimizer": "sgd"}) == [
        "momentum: 0.5 -> 0.9"
    ]


def test_difference_ignores_where_things_lie():
    old = default_config().to_dict()
    new = {**old, "data_dir": "elsewhere", "log_every": 1, "learning_rate": 0.5}
    assert difference(old, new) == ["learning_rate: 0.001 -> 0.5"]


def test_a_run_that_a_spike_stopped_goes_on_with_another_limit():
    old = {**default_config().to_dict(), "spike_norm": 10.0}
    assert difference(old, {**old, "spike_norm": 100.0, "on_nan": "rollback"}) == []


def test_a_field_younger_than_the_old_config_had_its_default():
    new = default_config().to_dict()
    old = {key: value for key, value in new.items() if key != "aux_heads"}
    assert difference(old, new) == []
    assert difference(old, {**new, "aux_heads": True}) == ["aux_heads: False -> True"]


def test_transparent_pixels_of_an_older_run_were_read_as_they_are():
    old = as_json(default_config())
    del old["background"]
    assert difference(old, as_json(default_config())) == ["background: '' -> 'white'"]
    assert difference(old, {**as_json(default_config()), "background": ""}) == []
