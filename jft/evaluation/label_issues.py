"""What features say of labels: those that are probably wrong."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jft.features import linear
from jft.features.examples import Examples

# From strong to weak: what suits some 10 to 500 images of a class; weaker ones are slow, and too sure of themselves.
_REGULARISATION = (1e-4, 1e-3, 1e-2, 1e-1)


@dataclasses.dataclass(frozen=True)
class Suspect:
    """An image whose label is probably wrong.

    Attributes:
      row: of the image.
      label: the class that it is said to be of.
      suggested: the class that the other images say it is of.
      probability: of its label, out of fold: 0 .. 1.
      suggested_probability: of the suggested class, likewise; above `probability`.
    """

    row: int
    label: int
    suggested: int
    probability: float
    suggested_probability: float


def suspicious(
    features: np.ndarray, labels: np.ndarray, *, classes: Sequence[str], folds: int = 5, seed: int = 0
) -> list[Suspect]:
    """Images whose label is probably wrong, by confident learning, the most suspicious first.

    Northcutt, Jiang and Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels, 2021,
    https://arxiv.org/abs/1911.00068. Each image's probabilities come from a logistic regression on the standardized
    features of the other folds. The threshold of a class is the mean probability of it among the images labeled so;
    an image belongs to the most probable of the classes whose threshold it reaches, and is a suspect where that is
    another than its label, and more probable. Suspects are ranked by normalized margin: the probability of the label
    less the largest of another class.

    Args:
      features: float [n, d], finite, such as a pretrained network's.
      labels: int [n], 0 .. len(classes) - 1.
      classes: their names, for errors.
      folds: parts of the images, each with its share of every class; more are slower, and learn from more.
      seed: decides which image is in which fold.

    Returns:
      The suspects; [] where there are none.

    Raises:
      ValueError: features or labels of another kind, several labels an image, fewer than 2 folds, or classes that have
        images but fewer than folds.
    """
    examples = Examples(features, labels)
    _check(examples, classes, folds)
    labels, rows = examples.targets(len(classes)), np.arange(len(examples))
    probabilities = _out_of_fold(examples.features, labels, len(classes), folds, seed)
    own = probabilities[rows, labels]
    counts = np.bincount(labels, minlength=len(classes))
    sums = np.bincount(labels, own, minlength=len(classes))
    thresholds = np.divide(sums, counts, out=np.full(len(classes), np.inf), where=counts > 0)
    confident = np.where(probabilities >= thresholds, probabilities, 0)
    suggested = confident.argmax(1)
    others = probabilities.copy()
    others[rows, labels] = 0
    margin = own - others.max(1)
    found = np.flatnonzero(confident[rows, suggested] > own)
    return [
        Suspect(int(i), int(labels[i]), int(suggested[i]), float(own[i]), float(probabilities[i, suggested[i]]))
        for i in found[np.argsort(margin[found], kind="stable")]
    ]


def _check(examples: Examples, classes: Sequence[str], folds: int) -> None:
    labels = examples.labels
    if labels.ndim == 2:
        raise ValueError(
            f"labels are {list(labels.shape)}, several an image, and confident learning is for one: check a column at "
            "a time, with labels[:, c] and classes ('without', 'with')."
        )
    if len(classes) < 2:
        raise ValueError(f"classes = {list(classes)}: a label can be wrong where there are 2 classes or more.")
    examples.targets(len(classes))  # says what is wrong with the numbers
    if folds < 2:
        raise ValueError(f"folds = {folds}: each is judged by the others, so give 2 or more.")
    counts = np.bincount(labels, minlength=len(classes))
    if short := [f"'{name}' has {n}" for name, n in zip(classes, counts, strict=True) if 0 < n < folds]:
        raise ValueError(
            f"{folds} folds need {folds} images of each class, but {', '.join(short)}: ask for fewer folds, at least "
            "2, leave those classes out, or add images."
        )


def _out_of_fold(features: np.ndarray, labels: np.ndarray, outputs: int, folds: int, seed: int) -> np.ndarray:
    """Probabilities, float64 [n, outputs], at the C that gives the labels the smallest loss out of fold."""
    from scipy.special import log_softmax
    from sklearn.model_selection import StratifiedKFold

    logits = np.empty((len(_REGULARISATION), len(labels), outputs))
    for others, held_out in StratifiedKFold(folds, shuffle=True, random_state=seed).split(labels, labels):
        heads = linear.logistic(Examples(features[others], labels[others]), outputs, _REGULARISATION)
        logits[:, held_out] = [head.logits(features[held_out]) for head in heads]
    log_probabilities = log_softmax(logits, axis=-1)
    losses = -log_probabilities[:, np.arange(len(labels)), labels].mean(1)
    return np.exp(log_probabilities[losses.argmin()])
