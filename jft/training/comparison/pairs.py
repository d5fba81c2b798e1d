"""Paired tests between the arms of a comparison, on the same test images and over the same seeds."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jft.metrics import paired
from jft.training.comparison.trial import Outcome


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two arms, tested against each other.

    Attributes:
      first, second: names of the arms.
      difference: mean accuracy of the second minus that of the first, -1 to 1.
      low, high: its 95 % interval, bootstrapped over the test images; the networks are not drawn again.
      p_images: of no difference on other images of the kind: signs of the images' differences are flipped, each of
        which is the mean over the seeds. Adjusted for the number of pairs by Holm's method.
      p_seeds: of no difference with other seeds: the t-test of pairs of one seed each, adjusted likewise; None for
        one seed, or where all differ by the same.
    """

    first: str
    second: str
    difference: float
    low: float
    high: float
    p_images: float
    p_seeds: float | None


def pairs(arms: Mapping[str, Sequence[Outcome]]) -> list[Pair]:
    """Tests each arm against each other one that was tested on the same images with as many seeds.

    Args:
      arms: name -> tests of its seeds. Arms whose images have several labels are left out.
    """
    names = [name for name, tests in arms.items() if all(test.right is not None for test in tests)]
    alike = [pair for pair in itertools.combinations(names, 2) if _images(arms[pair[0]]) == _images(arms[pair[1]])]
    right = {name: np.array([test.right for test in arms[name]], float) for name in {*itertools.chain(*alike)}}
    tested = [_contrast(right[first], right[second]) for first, second in alike]
    of_images, of_seeds = (_adjusted([one[place] for one in tested]) for place in (3, 4))
    return [
        Pair(*names, *one[:3], p_images, p_seeds)
        for names, one, p_images, p_seeds in zip(alike, tested, of_images, of_seeds, strict=True)
    ]


def _images(tests: Sequence[Outcome]) -> tuple[str | None, ...]:
    """Digests of the test images of each seed."""
    return tuple(test.values["data"]["digest"] for test in tests)


def _contrast(first: np.ndarray, second: np.ndarray) -> tuple[float, float, float, float, float | None]:
    """Difference, its interval, p over images and p over seeds of two arms; float [seeds, n] each, 1 where right."""
    of_images, of_seeds = ((second - first).mean(axis=axis) for axis in (0, 1))
    low, high = paired.difference_interval(of_images)
    return float(of_images.mean()), low, high, paired.sign_flips(of_images), _t_test(of_seeds)


def _t_test(differences: np.ndarray) -> float | None:
    """p of differences of seeds, [seeds]; None where they do not spread, of which t tells nothing."""
    from scipy import stats

    if len(differences) < 2 or not np.ptp(differences):
        return None
    found: Any = stats.ttest_1samp(differences, 0)
    return float(found.pvalue)


def _adjusted(p_values: Sequence[float | None]) -> list[Any]:
    adjusted = iter(paired.holm([p for p in p_values if p is not None]))
    return [None if p is None else next(adjusted) for p in p_values]
