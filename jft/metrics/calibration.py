"""Calibration of probabilities: reliability diagrams and temperature scaling (Guo et al., 2017)."""

import dataclasses

import numpy as np

from jft.metrics import classification

_BOUND = np.log(1e4)  # of |log T| on the grid: beyond any scale that a network's logits have


@dataclasses.dataclass(frozen=True)
class Reliability:
    """Predictions in bins of equal width by confidence, as a reliability diagram shows them.

    Attributes:
      edges: float64 [bins + 1], from 0 to 1; a bin includes its upper edge, and the first one also 0.
      count: int64 [bins], number of predictions in each bin.
      confidence: float64 [bins], mean confidence of each bin; NaN for empty bins.
      accuracy: float64 [bins], share of correct predictions in each bin; NaN for empty bins.
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
      labels: single-label int [n]: every image is a prediction, with the largest probability as its confidence; or
        multi-hot [n, classes]: every class of every image is a prediction, with its probability as its confidence, and
        correct where the image has the label.
      bins: number of bins.

    Returns:
      All bins, including empty ones.

    Raises:
      ValueError: probabilities and labels do not match, or `bins` is below 1.
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
    # Empty bins hold 0 / 0 = NaN.
    with np.errstate(invalid="ignore"):
        means = [np.bincount(place, weights=x, minlength=bins) / count for x in (confidence, right)]
    return Reliability(edges, count, *means)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Fits the temperature T, by which logits are divided, on held-out images.

    Minimizes mean log loss(logits / T) + (log T)^2 / (2 n): the maximum a posteriori T under a standard normal prior on
    log T. Without the prior, T would be 0 if all images are correct, and undefined if the logits carry no information.
    The prior keeps T finite, and its weight vanishes with more images. It is 0 at T = 1 and positive elsewhere, so the
    log loss on these images is never worse than at T = 1.

    Args:
      logits: float [n, classes]; of one sigmoid unit for two classes, `Objective.class_logits`.
      labels: int [n] for a softmax; or multi-hot [n, classes] for one sigmoid per class; the loss is their mean.

    Returns:
      T, finite and above 0; exactly 1 if no other value is better.

    Raises:
      ValueError: logits and labels do not match, or logits are not finite.
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
    """Probabilities of logits divided by a temperature, which keeps the ranking of an image's classes.

    Args:
      logits: float [n, classes].
      temperature: above 0, from `fit_temperature`; 1 changes nothing.
      multilabel: a sigmoid for each class, in place of a softmax over them.

    Returns:
      [n, classes] in the type of the logits, 0 .. 1.

    Raises:
      ValueError: the temperature is not above 0 and finite.
    """
    if not 0 < temperature < np.inf:
        raise ValueError(f"temperature is {temperature}; give a finite one above 0, such as fit_temperature returns.")
    scaled = np.asarray(logits) / float(temperature)
    # As scipy.special's expit and softmax, whose import takes longer than a prediction.
    if multilabel:
        small = np.exp(-np.abs(scaled))
        return np.where(scaled >= 0, 1, small) / (1 + small)
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
