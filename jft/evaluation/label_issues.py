"""Finds labels that are probably wrong, from features, by confident learning."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jft.features import linear
from jft.features.examples import Examples

# From strong to weak, for about 10 to 500 images per class; weaker regularization is slow and overconfident.
_REGULARISATION = (1e-4, 1e-3, 1e-2, 1e-1)


@dataclasses.dataclass(frozen=True)
class Suspect:
    """An image whose label is probably wrong.

    Attributes:
      row: row of the image.
      label: the class of its label.
      suggested: the class that a classifier trained on other images predicts.
      probability: out-of-fold probability of the label, 0 .. 1.
      suggested_probability: out-of-fold probability of the suggested class; above `probability`.
    """

    row: int
    label: int
    suggested: int
    probability: float
    suggested_probability: float


def suspicious(
    features: np.ndarray, labels: np.ndarray, *, classes: Sequence[str], folds: int = 5, seed: int = 0
) -> list[Suspect]:
    """Finds images whose label is probably wrong, by confident learning, the most suspicious first.

    Northcutt, Jiang and Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels, 2021,
    https://arxiv.org/abs/1911.00068. The probabilities of an image come from a logistic regression on the standardized
    features of the other folds. The threshold of a class is its mean probability over the images labeled with it. Of
    the classes whose threshold an image reaches, the most probable one is suggested. The image is a suspect if that is
    not its label and is more probable than its label. Suspects are ranked by normalized margin: the probability of the
    label minus the largest probability of another class.

    Args:
      features: float [n, d], finite, such as those of a pretrained network.
      labels: int [n], 0 .. len(classes) - 1.
      classes: names of the classes, for error messages.
      folds: number of stratified folds; more are slower, and train on more images.
      seed: seed of the assignment to folds.

    Returns:
      The suspects; [] if there are none.

    Raises:
      ValueError: features or labels have another shape, dtype or range, images have several labels, there are fewer
        than 2 folds, or a class has images, but fewer than folds.
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
            f"labels are {list(labels.shape)}, several per image, and confident learning needs one: check one column "
            "at a time, with labels[:, c] and classes ('without', 'with')."
        )
    if len(classes) < 2:
        raise ValueError(f"classes = {list(classes)}: give at least 2; with one class, no label can be wrong.")
    examples.targets(len(classes))  # raises for labels out of range
    if folds < 2:
        raise ValueError(f"folds = {folds}: cross-validation needs 2 or more.")
    counts = np.bincount(labels, minlength=len(classes))
    if short := [f"'{name}' has {n}" for name, n in zip(classes, counts, strict=True) if 0 < n < folds]:
        raise ValueError(
            f"{folds} folds need {folds} images of each class, but {', '.join(short)}: use fewer folds (at least 2), "
            "leave those classes out, or add images."
        )


def _out_of_fold(features: np.ndarray, labels: np.ndarray, outputs: int, folds: int, seed: int) -> np.ndarray:
    """Out-of-fold probabilities, float64 [n, outputs], at the C with the smallest out-of-fold loss."""
    from scipy.special import log_softmax
    from sklearn.model_selection import StratifiedKFold

    logits = np.empty((len(_REGULARISATION), len(labels), outputs))
    for others, held_out in StratifiedKFold(folds, shuffle=True, random_state=seed).split(labels, labels):
        heads = linear.logistic(Examples(features[others], labels[others]), outputs, _REGULARISATION)
        logits[:, held_out] = [head.logits(features[held_out]) for head in heads]
    log_probabilities = log_softmax(logits, axis=-1)
    losses = -log_probabilities[:, np.arange(len(labels)), labels].mean(1)
    return np.exp(log_probabilities[losses.argmin()])
