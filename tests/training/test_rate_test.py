"""The learning-rate range test: rates, smoothing and suggestions by hand, and what it leaves alone."""

import numpy as np
import pytest
import small_chain
from small_digits import make

from jft.models import MODELS
from jft.training import rate_test
from jft.training.check import planned
from jft.training.rate_test import RateTest, phase_of


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
