"""Whether probabilities mean what they say, and the temperature that mends them (Guo et al., 2017)."""

import dataclasses

import numpy as np

from jft.metrics import classification

_BOUND = np.log(1e4)  # of |log T| on the grid: beyond any scale that a network's logits have


@dataclasses.dataclass(frozen=True)
class Reliability:
    """Predictions in bins of like confidence: what a reliability diagram shows.

    Attributes:
      edges: float64 [bins + 1], from 0 to 1; a bin has its upper edge, and the first also 0.
      count: int64 [bins], predictions in each.
      confidence: float64 [bins], their mean confidence; NaN where there are none.
      accuracy: float64 [bins], the share of them that are right; NaN where there are none.
    """

    edges: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def expected_error(self) -> float:
        """Expected calibration error, 0 .. 1: the mean of |accuracy - confidence| over bins, weighted by count."""
        return float(np.nansum(self.count * np.abs(self.accuracy - self.confidence)) / self.count.sum())


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> Reliability:
    """Sorts predictions by confidence into bins of equal width, as scikit-learn's `calibration_curve` does.

    Args:
      probabilities: float [n, classes].
      labels: int [n]: an image is a prediction, its confidence the largest probability; or multi-hot [n, classes]:
        each class of each image is one, its confidence the probability, right where the label is there.
      bins: how many.

    Returns:
      All bins, empty ones too.

    Raises:
      ValueError: probabilities and labels do not fit together, or there is not one bin.
    """
    classification.check_probabilities(probabilities, labels)
    if bins < 1:
        raise ValueError(f"bins is {bins}; give at least 1.")
    if labels.ndim == 1:
        confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    else:
        confidence, right = probabilities.ravel(), labels.ravel() > 0
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = np.searchsorted(edges[1:-1], confidence)
    count = np.bincount(place, minlength=bins)
    # 0 / 0 is what an empty bin holds.
    with np.errstate(invalid="ignore"):
        means = [np.bincount(place, weights=x, minlength=bins) / count for x in (confidence, right)]
    return Reliability(edges, count, *means)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature T that logits are to be divided by, from held-out images.

    Minimizes mean log loss(logits / T) + (log T)^2 / (2 n): the most probable T where log T is normal beforehand, with
    mean 0 and deviation 1. Images that are all right would ask for T = 0, and ones that tell nothing for any T: the
    second term keeps T finite, and fades as images become more. As it is 0 at T = 1 and positive elsewhere, the log
    loss on these images is by construction never worse than at T = 1.

    Args:
      logits: float [n, classes]; of one sigmoid unit for two classes, `Objective.class_logits`.
      labels: int [n] for a softmax; or multi-hot [n, classes] for a sigmoid a class, the loss the mean over classes.

    Returns:
      T, finite and above 0; exactly 1 where no other is better.

    Raises:
      ValueError: logits and labels do not fit together, or logits are not finite.
    """
    from scipy import optimize

    classification.check_labels(logits, labels, what="logits")
    n, logits = len(logits), logits.astype(np.float64)
    if labels.ndim == 2:
        excess = np.where(labels > 0, -logits, logits)
    else:
        excess = logits - np.take_along_axis(logits, labels[:, None], axis=1)

    # Shifted once and not at every temperature, as a library's would be: several times as fast with 1,000 classes.
    most = excess.max(axis=1, keepdims=True)
    below = excess - most

    def loss(temperature: float) -> float:
        if labels.ndim == 2:
            return float(np.logaddexp(0, excess / temperature).mean())
        return float((most[:, 0] / temperature + np.log(np.exp(below / temperature).sum(axis=1))).mean())

    def penalized(log_t: float) -> float:
        return loss(np.exp(log_t)) + log_t**2 / (2 * n)

    # Few images can make two valleys: a grid finds the deeper one, the search its floor.
    grid, step = np.linspace(-_BOUND, _BOUND, 25, retstep=True)
    best = min(grid, key=penalized)
    found = optimize.minimize_scalar(
        penalized, bounds=(best - step, best + step), method="bounded", options={"xatol": 1e-5}
    )
    temperature = float(np.exp(found.x))
    # Where the two are all but equal, rounding could leave the loss above that at T = 1.
    return temperature if loss(temperature) < loss(1.0) else 1.0


def apply_temperature(logits: np.ndarray, temperature: float, *, multilabel: bool) -> np.ndarray:
    """Probabilities of logits divided by a temperature; the order of the classes of an image stays.

    Args:
      logits: float [n, classes].
      temperature: above 0, from `fit_temperature`; 1 changes nothing.
      multilabel: a sigmoid for each class, in place of a softmax over them.

    Returns:
      [n, classes] in the type of the logits, 0 .. 1.

    Raises:
      ValueError: the temperature is not above 0 and finite.
    """
    from scipy import special

    if not 0 < temperature < np.inf:
        raise ValueError(f"temperature is {temperature}; give a finite one above 0, such as fit_temperature returns.")
    scaled = np.asarray(logits) / float(temperature)
    return special.expit(scaled) if multilabel else special.softmax(scaled, axis=1)
