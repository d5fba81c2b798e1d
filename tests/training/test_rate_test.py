"""The learning-rate range test: rates, smoothing and suggestions by hand, and what it leaves alone."""

import numpy as np
import pytest
import small_chain
from small_digits import make

from jft.data.feeds import resident
from jft.models import MODELS
from jft.training import programs, rate_test
from jft.training.check import planned
from jft.training.rate_test import RateTest, phase_of
from jft.utils import memory


def test_rates_rise_by_one_factor_from_lowest_to_highest():
    assert rate_test.rates(5) == pytest.approx([1e-7, 1e-5, 1e-3, 1e-1, 10])


def test_smoothing_is_an_average_over_the_weights_so_far():
    weights = np.array([0.98**2, 0.98, 1])
    assert rate_test.smooth([4.0, 1.0, 2.0]) == pytest.approx(
        [4, (0.98 * 4 + 1) / 1.98, weights @ [4, 1, 2] / weights.sum()]
    )


def found_of(smoothed):
    rates = rate_test.rates(len(smoothed))
    return RateTest("training", rates, tuple(smoothed), tuple(smoothed), "")


def test_suggestions_are_the_steepest_rate_and_a_tenth_of_the_minimum():
    smoothed = [3.0] * 8 + [2.9, 2.0, 1.9, 1.8, 1.7, 1.6, 1.5, 2.0, 3.0, 5.0, 6.0]
    found = found_of(smoothed)
    assert found.steepest == found.rates[8]  # whose next is 0.9 lower
    assert found.tenth_of_minimum == pytest.approx(found.rates[14] / 10)
    assert f"a learning_rate from {found.steepest:.2g} to {found.tenth_of_minimum:.2g} will do" in found.told()
    assert len(found.table().splitlines()) == 19 and found.table().splitlines()[14].endswith("1.5000  ")


def test_where_the_loss_never_falls_nothing_is_suggested():
    found = found_of(np.linspace(1, 3, 30))
    assert found.steepest is None and found.tenth_of_minimum is None
    assert "falls at none of these rates" in found.told()


def test_the_one_suggestion_that_there_is_is_told():
    few = found_of([2.0, 1.5, 1.0, 0.5, 1.0])  # too few to be steep anywhere
    assert few.steepest is None and "A tenth of the rate with the smallest loss is 0.01;" in few.told()
    dip = found_of([1.0] + [3.0] * 9 + [2.0] * 10)
    assert dip.tenth_of_minimum is None and f"falls most steeply at {dip.steepest:.2g}, but" in dip.told()


def test_the_micro_batches_are_those_that_fit_in_memory(tmp_path, monkeypatch):
    called = []

    class Step(int):
        """Stands for a compiled step that takes so many bytes."""

        def __call__(self, state, batch):
            called.append(int(self))
            return state, {"objective": 64.0, "count": 32.0}

    run = planned(make(tmp_path / "features", accumulate="auto", steps=2))
    monkeypatch.setattr(
        programs, "compile_train_step", lambda chosen, *a: Step(chosen.config.batch_size // chosen.accumulate)
    )
    monkeypatch.setattr(memory, "program_bytes", int)
    monkeypatch.setattr(memory, "usable", lambda parallel: 8)
    monkeypatch.setattr(resident, "nbytes_held", lambda parallel: 0)
    assert rate_test.rate_test(run, phase_of(run), 2).losses == (2.0, 2.0)
    assert called == [8, 8]  # of 32 images, in 4 parts


def test_one_page_does_not_hold_several_arms(tmp_path, monkeypatch, command):
    config = make(tmp_path / "features", arms=(("slow", {"learning_rate": 1e-4}), ("fast", {"learning_rate": 1e-2})))
    monkeypatch.setattr("jft.cli.choose_config.choose_config", lambda *a, **k: ("digits", config))
    status, _, error = command("check", "--rate", "--out", tmp_path / "page.html")
    assert status == 1 and "is one page, and the config has 2 arms: leave --out out" in error
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_network_learns_at_some_rate_and_diverges_at_a_larger_one(tmp_path, monkeypatch, command):
    monkeypatch.setitem(MODELS._rows, "small", small_chain.Small)
    config = make(tmp_path / "features", model="small", weights="", image_size=8, freeze="", steps=3, optimizer="sgd")
    monkeypatch.setattr("jft.cli.choose_config.choose_config", lambda *a, **k: ("digits", config))
    monkeypatch.chdir(tmp_path)
    status, out, _ = command("check", "--rate")
    assert status == 0 and "Phase 'training'" in out and "the loss falls most steeply" in out.lower()
    [page] = (tmp_path / "runs").iterdir()  # nothing else is written
    text = page.read_text()
    assert page.name == "digits-rate.html" and "<svg" in text and "loss by learning rate" in text

    run = planned(config)
    found = rate_test.rate_test(run, phase_of(run), 40)
    assert found.rates == rate_test.rates(40)[: len(found.rates)]
    assert min(found.losses) < 0.7 * found.losses[0]
    assert 1e-4 < found.tenth_of_minimum < 1 and 1e-5 < found.steepest < 10


def test_the_phase_with_the_most_to_learn_is_tested_and_a_solved_head_has_no_rate(tmp_path):
    assert phase_of(planned(make(tmp_path / "features", preset="lp_ft", freeze="", steps=4))).name == "fine-tuning"
    with pytest.raises(ValueError, match="solver = 'ridge' has no learning rate"):
        phase_of(planned(make(tmp_path / "features", solver="ridge")))
