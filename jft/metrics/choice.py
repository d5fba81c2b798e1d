"""What a choice among several results is worth: the best of several is better than it will be on other images."""

import dataclasses

import numpy as np

_RESAMPLES = 200


@dataclasses.dataclass(frozen=True)
class Choice:
    """The chosen one of several models that were measured on the same images.

    Attributes:
      index: of the smallest mean loss; of equals the first.
      loss: mean loss to expect of it on other images: that of these images, and what choosing made it look better.
      interval: 95 % interval of `loss`.
      accuracy: share of other images that it is expected to get right, corrected likewise; NaN if nothing is known.
      accuracy_interval: its 95 % interval, within 0 .. 1.
    """

    index: int
    loss: float
    interval: tuple[float, float]
    accuracy: float
    accuracy_interval: tuple[float, float]


def choose(
    losses: np.ndarray, right: np.ndarray | None = None, groups: np.ndarray | None = None, seed: int = 0
) -> Choice:
    """Chooses by mean loss, and corrects the mean of the chosen one for having been chosen.

    The optimism of the choice is estimated by the bootstrap (Efron, 1983, https://doi.org/10.2307/2288636): images are
    drawn with replacement, the best is chosen on what was drawn, and its mean there is compared with its mean on all
    images. The interval is Student's, from the standard error of the chosen one's mean and the optimism.

    Args:
      losses: [choices, n], of each image by a model that has not seen it.
      right: bool [choices, n], whether each prediction is right; None: not known.
      groups: int [n]; images of a group, such as frames of a track, are drawn together. None: no groups.
      seed: of the bootstrap.

    Returns:
      The choice.

    Raises:
      ValueError: there is no image, or fewer than two groups of them.
    """
    units = np.arange(losses.shape[1]) if groups is None else np.unique(groups, return_inverse=True)[1]
    sizes = np.bincount(units)
    if len(sizes) < 2:
        raise ValueError(f"{len(sizes)} images or groups of images: an interval takes two or more.")
    index = int(losses.mean(1).argmin())
    drawn = np.random.default_rng(seed).multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), _RESAMPLES)
    best = (_sums(losses, units) @ drawn.T).argmin(0)

    def corrected(values: np.ndarray) -> tuple[float, float]:
        """What to expect of the chosen row of [choices, n], and half of its interval."""
        means, sums = values.mean(1), _sums(values, units)
        resampled = (sums @ drawn.T) / (drawn @ sizes)
        gaps = means[:, None] - resampled  # of a fixed row 0 on average, so that of `index` only takes noise away
        optimism = float((gaps[best, np.arange(_RESAMPLES)] - gaps[index]).mean())
        off = sums[index] - means[index] * sizes
        error = np.sqrt((off**2).sum() * len(sizes) / (len(sizes) - 1)) / values.shape[1]
        return float(means[index] + optimism), float(_quantile(len(sizes) - 1) * np.hypot(error, optimism))

    loss, half = corrected(losses.astype(np.float64))
    accuracy, around = (np.nan, np.nan) if right is None else corrected(right.astype(np.float64))
    within = (max(accuracy - around, 0.0), min(accuracy + around, 1.0))
    return Choice(index, loss, (loss - half, loss + half), accuracy, within)


def _sums(values: np.ndarray, units: np.ndarray) -> np.ndarray:
    """[choices, groups], sums over the images of each group."""
    return np.stack([np.bincount(units, row) for row in values])


def _quantile(freedom: int) -> float:
    """The 97.5 % quantile of Student's t."""
    from scipy import stats

    return float(stats.t.ppf(0.975, freedom))
