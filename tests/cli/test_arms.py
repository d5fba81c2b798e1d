"""Arms: what a common config says is for the arms that make use of it."""

import pytest

from jft.config import arm_config, default_config

ARMS = (("probe", {"solver": "lbfgs"}), ("tuned", {"phases": ({"epochs": 2},), "optimizer": "sgd"}))


def arms(**common):
    config = default_config()
    config.update({"arms": ARMS, **common})
    return {name: arm_config(config, name, changes) for name, changes in config.arms}


def test_an_arm_keeps_what_has_an_effect_in_it():
    found = arms(learning_rate=0.5, momentum=0.8, flip=False)
    assert (found["tuned"].learning_rate, found["tuned"].momentum) == (0.5, 0.8)
    usual = default_config()
    assert (found["probe"].learning_rate, found["probe"].momentum) == (usual.learning_rate, usual.momentum)
    assert not found["probe"].flip and not found["tuned"].flip


@pytest.mark.parametrize(
    ("common", "field"),
    [({"rate_decay": 0.1}, "rate_decay"), ({"epochs": 3.0}, "epochs"), ({"fit": "whole", "crop": "five"}, "crop")],
)
def test_what_no_arm_makes_use_of_is_refused(common, field):
    with pytest.raises(ValueError, match=f"{field} = .* has no effect where"):
        arms(**common)


def test_what_an_arm_says_itself_must_have_an_effect_there():
    with pytest.raises(ValueError, match=r"arm 'one': .*momentum = 0\.5 has no effect where optimizer = 'adamw'"):
        arms(arms=(("one", {"momentum": 0.5}), ("two", {"optimizer": "sgd"})))
