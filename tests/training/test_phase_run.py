"""A phase as it is carried out: each has an example of what its step reads, and the loop takes these steps."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
from small_digits import make

from jft.training import feature_cache, programs
from jft.training.run import create_run
from jft.training.state import fresh_state
from jft.training.trainer import Loop
from jft.utils.interrupt import Interrupt

pytestmark = pytest.mark.usefixtures("quick")

PHASES = ({"steps": 5, "freeze": "fc7"}, {"steps": 3, "freeze": ""})


def begin(tmp_path, **changes):
    """A run of two phases, of which only the first can be cached, its state, info and phases."""
    config = make(tmp_path / "features", phases=PHASES, freeze="", batch_size=8, validation=0.0, **changes)
    run = create_run(config, tmp_path / "run")
    state, info = fresh_state(run)
    return run, state, info, feature_cache.decide(run, state, {})


def test_an_example_is_of_what_the_phase_reads(tmp_path, monkeypatch):
    run, _, _, phases = begin(tmp_path, cache_features=True)
    assert [one.cached for one in phases] == [True, False]
    cached, images = programs.with_examples(run, phases, 0)
    assert cached.example["feature"].shape == (8, 1, 64) and "image" not in cached.example
    assert images.example["image"].shape == (8, 8, 8, 3) and "feature" not in images.example
    monkeypatch.setattr(programs, "image_batches", None)
    given = {"image": np.zeros(3)}
    assert programs.with_examples(run, phases, 0, given)[1].example is given
    assert programs.with_examples(run, phases[:1], 0)[0].example["feature"].shape == (8, 1, 64)


def test_the_loop_takes_the_step_of_each_phase(tmp_path):
    run, state, info, phases = begin(tmp_path, cache_features=False)
    taken = []

    def step_of(name):
        def step(state, batch):
            taken.append(name)
            ones = {key: jax.numpy.ones(()) for key in ("objective", "correct", "count", "grad_norm")}
            return state.replace(step=state.step + 1), ones

        return step

    phases = [one.replace(train_step=step_of(one.phase.name)) for one in phases]
    saved = []
    checkpoints = SimpleNamespace(save=lambda step, *_: saved.append(step))
    logs = SimpleNamespace(write=lambda *_: None)
    with Interrupt() as interrupt:
        state = Loop(run, info, checkpoints, logs, interrupt)(state, phases)
    assert taken == ["phase 1"] * 5 + ["phase 2"] * 3
    assert int(state.step) == saved[-1] == 8
