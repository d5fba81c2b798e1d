"""L2-SP: pretrained kernels decay toward where they began, new ones toward 0."""

import shutil

import jax
import numpy as np
import pytest
import small_chain
import small_digits

from jft.config import default_config, validate
from jft.models import abstract_variables
from jft.training import l2_sp
from jft.training.loop import checked_run, train
from jft.training.state import initial_state
from jft.utils import tree


def test_the_gradient_is_that_of_the_penalty():
    config = default_config()
    config.update({"l2_sp": 0.5, "weight_decay": 0.25, "fresh": "c"})
    names = tree.flatten(abstract_variables(small_chain.Small(num_classes=3), 8)["params"])
    gradient = l2_sp.make_gradient(config, small_chain.Small(num_classes=3), names)
    kernels = {"b/conv/kernel", "c/conv/kernel", "head/head/kernel"}
    trainable = [*kernels, "b/conv/bias", "b/bn/scale", "head/head/bias"]  # stage a is frozen
    params, start = tree.unflatten(dict.fromkeys(trainable, 3.0)), tree.unflatten(dict.fromkeys(trainable, 1.0))
    expected = dict.fromkeys(trainable, 0.0) | {
        "b/conv/kernel": 0.5 * (3 - 1),
        "c/conv/kernel": 0.25 * 3,  # fresh: it has nothing to return to
        "head/head/kernel": 0.25 * 3,
    }
    assert tree.flatten(gradient(params, start)) == expected

    def penalty(params):
        flat, first = tree.flatten(params), tree.flatten(start)
        pulled = 0.5 * (flat["b/conv/kernel"] - first["b/conv/kernel"]) ** 2
        return (pulled + 0.25 * (flat["c/conv/kernel"] ** 2 + flat["head/head/kernel"] ** 2)) / 2

    assert tree.flatten(jax.grad(penalty)(params)) == expected


def make(folder, **changes):
    own = {"freeze": "fc6", "steps": 2, "batch_size": 32, "optimizer": "sgd", "momentum": 0.0, "learning_rate": 0.1}
    own |= {"checkpoint_every": 1, "keep_last": 9, "eval_batch_size": 64}
    return small_digits.make(folder / "features", **{**own, **changes})


def trained(folder, **changes):
    """Trains or resumes; the state at the end."""
    with small_digits.quick():
        train(make(folder, **changes), folder / "run", brief=True)
    return state_of(folder, **changes)


def state_of(folder, **changes):
    with small_digits.quick():
        return initial_state(checked_run(make(folder, **changes), folder / "run"))[0]


def forget(folder, step):
    """Deletes the checkpoints from a step on."""
    for checkpoint in (folder / "run" / "checkpoints").rglob("[0-9]*"):
        if checkpoint.is_dir() and checkpoint.name.isdigit() and int(checkpoint.name) >= step:
            shutil.rmtree(checkpoint)


def test_a_run_is_pulled_back_and_resumes_bit_for_bit(tmp_path):
    pulled, free = tmp_path / "pulled", tmp_path / "free"
    end, plain = trained(pulled, l2_sp=0.5), trained(free)
    start = tree.flatten(end.start["params"])
    assert {name.split("/")[0] for name in start} == {"fc7", "head"} and not plain.start
    forget(pulled, 2)
    one = tree.flatten(state_of(pulled, l2_sp=0.5).params)
    without = tree.flatten(plain.params)
    # The first step has nothing to pull back, so both take the second one from the same weights.
    for name in start:
        leaf = tree.flatten(end.params)[name]
        backbone = name.endswith("kernel") and not name.startswith("head/")
        expected = without[name] - 0.1 * 0.5 * (one[name] - start[name]) * backbone
        np.testing.assert_allclose(leaf, expected, rtol=1e-5, atol=1e-7, err_msg=name)
        assert not backbone or np.abs(leaf - without[name]).max() > 1e-6, name

    again = trained(pulled, l2_sp=0.5)
    for before, after in zip(jax.tree.leaves(end), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(np.asarray(before), np.asarray(after))


@pytest.mark.parametrize(
    ("changes", "where"), [({"weights": ""}, "weights = ''"), ({"preset": "from_scratch"}, "preset")]
)
def test_without_pretrained_weights_there_is_nothing_to_return_to(changes, where):
    config = default_config()
    config.update({"l2_sp": 0.1, **changes})
    with pytest.raises(ValueError, match=f"l2_sp = 0.1 has no effect where {where}"):
        validate(config)


def test_an_average_is_not_where_the_parameters_begin():
    config = default_config()
    config.update({"l2_sp": 0.1, "ema": 0.9})
    with pytest.raises(ValueError, match=r"ema = 0\.9 begins each phase at averaged parameters, and l2_sp = 0\.1"):
        validate(config)
