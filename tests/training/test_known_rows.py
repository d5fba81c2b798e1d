"""fresh_head = False: rows of the head that the weights know by the names of their classes."""

import dataclasses

import numpy as np
import pytest
import small_digits

from jft.cli import choose_config
from jft.evaluation.restore import restore
from jft.training.loop import checked_run
from jft.training.state import fresh_state
from jft.utils import tree

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """A run that knows 5, 6 and 7."""
    return small_digits.solved(tmp_path_factory.mktemp("earlier"))


def begin(folder, **changes):
    """The initial leaves of a run that begins with another's weights."""
    config = small_digits.make(folder / "features", **{"fresh_head": False, "steps": 2, **changes})
    state, info = fresh_state(checked_run(config, folder / "run"))
    return {name: np.asarray(leaf) for name, leaf in tree.flatten(state.params).items()}, info


def test_rows_of_the_same_names_are_kept_and_the_others_are_new(earlier, tmp_path, capsys):
    wanted = {"weights_path": str(earlier), "classes": ("7", "4", "5")}
    leaves, info = begin(tmp_path, **wanted)
    assert "keeps from run-step1.safetensors: 7, 5. It begins anew for 4.\n" in capsys.readouterr().out
    before = {name: np.asarray(leaf) for name, leaf in tree.flatten(restore(earlier).variables["params"]).items()}
    anew, _ = begin(tmp_path, **wanted, **{"fresh_head": True})
    for name in ("head/head/kernel", "head/head/bias"):
        np.testing.assert_array_equal(leaves[name][..., 0], before[name][..., 2])
        np.testing.assert_array_equal(leaves[name][..., 2], before[name][..., 0])
        np.testing.assert_array_equal(leaves[name][..., 1], anew[name][..., 1])
    assert not np.array_equal(leaves["head/head/kernel"], anew["head/head/kernel"])
    for name in before.keys() - {"head/head/kernel", "head/head/bias"}:  # the backbone is the run's, either way
        np.testing.assert_array_equal(leaves[name], before[name], err_msg=name)
        np.testing.assert_array_equal(anew[name], before[name], err_msg=name)
    assert info.weights["source"] == "run-step1.safetensors" and "params/fc7/dense/kernel" in info.pretrained


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ("3", "4")}, "run-step1.safetensors knows none of 3, 4: its classes are 5, 6, 7"),
        ({"classes": ("5", "8"), "loss": "sigmoid"}, "loss = 'sigmoid' has 1 output for 2 classes"),
        ({"classes": ("5", "8"), "preset": "fine_tune", "freeze": ""}, "solver = 'lbfgs' of phase 'linear probe'"),
        ({"head": "linear", "head_hidden": (8,)}, r"params/head/head/kernel is \[8, 3\], and .* has \[64, 3\] there"),
        ({"weights_path": ""}, "digits04 has 5 rows and names no classes"),
    ],
)
def test_what_cannot_be_kept_is_said(earlier, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        begin(tmp_path, **{"weights_path": str(earlier), "validation": 0.25, **changes})


def test_images_alone_take_model_and_weights_of_the_run(earlier):
    told = {"weights_path": str(earlier), "dataset": "digits", "classes": ("7", "4"), "fresh_head": False}
    _, config = choose_config.of_images("digits", {**told, "preset": "full"})
    assert (config.model, config.weights, config.weights_path) == ("vgg_tiny", "digits04", str(earlier))


def test_a_run_of_another_network_or_preprocessing_is_refused(earlier, tmp_path):
    config = small_digits.make(tmp_path / "features", weights_path=str(earlier), steps=2)
    run = checked_run(config, tmp_path / "run")
    other = dataclasses.replace(run, spec=dataclasses.replace(run.spec, channels="BGR"))
    with pytest.raises(ValueError, match="a run with channels RGB where here it is BGR: set model='vgg_tiny'"):
        fresh_state(other)
