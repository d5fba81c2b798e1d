import numpy as np
import pytest

from jft.metrics.choice import choose


def simulated(rng, images, choices, shared, gap, groups=1):
    """True mean losses of the choices, and measured ones: a part of each image's loss is the same for all of them."""
    truth = gap * np.arange(choices) / choices
    common, own = rng.exponential(size=images) - 1, rng.exponential(size=(choices, images)) - 1
    losses = truth[:, None] + shared**0.5 * common + (1 - shared) ** 0.5 * own
    return truth, np.repeat(losses, groups, axis=1)


@pytest.mark.parametrize(
    ("images", "choices", "shared", "gap", "groups"),
    [(200, 11, 0.8, 0.1, 1), (100, 6, 0.5, 0.0, 1), (60, 11, 0.8, 0.0, 3)],
)
def test_the_interval_covers_the_truth_as_often_as_it_says(images, choices, shared, gap, groups):
    rng, runs, covered, naive, bias = np.random.default_rng(0), 400, 0, 0, 0.0
    for _ in range(runs):
        truth, losses = simulated(rng, images, choices, shared, gap, groups)
        known = None if groups == 1 else np.repeat(np.arange(images), groups)
        found = choose(losses, groups=known)
        assert found.index == losses.mean(1).argmin()
        covered += found.interval[0] <= truth[found.index] <= found.interval[1]
        bias += found.loss - truth[found.index]
        naive += losses[found.index].mean() - truth[found.index]
    assert 0.92 <= covered / runs <= 0.98
    assert abs(bias) < abs(naive)


def test_one_choice_is_its_mean_with_students_interval():
    losses = np.array([[0.1, 0.4, 0.2, 0.9]])
    found = choose(losses, losses < 0.3)
    error = losses.std(ddof=1) / 2
    assert found.loss == pytest.approx(losses.mean())
    assert found.interval[1] - found.interval[0] == pytest.approx(2 * 3.18245 * error, rel=1e-5)
    assert found.accuracy == 0.5 and found.accuracy_interval == (0.0, 1.0)


def test_what_cannot_be_said():
    found = choose(np.array([[1.0, 2.0], [2.0, 1.0]]))
    assert found.index == 0 and np.isnan(found.accuracy)
    with pytest.raises(ValueError, match="1 images or groups of images: an interval takes two or more"):
        choose(np.array([[1.0, 2.0]]), groups=np.array([7, 7]))
