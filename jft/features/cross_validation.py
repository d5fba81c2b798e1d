"""k-fold cross-validation of linear heads on features in memory: the strength of the penalty, and what to expect."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from jft.data.folds import folds as divided
from jft.features.affine import Linear
from jft.features.examples import Examples
from jft.features.linear import SOLVERS, logistic
from jft.utils import tree

FOLDS = 5


@dataclasses.dataclass(frozen=True, eq=False)
class Choice:
    """What cross-validation says of a method, and the strength that it chooses.

    Attributes:
      method: the solver, a key of `linear.SOLVERS`.
      regularization: the chosen C, of the smallest mean loss; of equals the smallest.
      losses: {C: mean loss of an image that the head has not seen}: nats, of ridge the squared error.
      errors: {C: standard error of that mean}; images of a group count together.
      logits: float32 [n, outputs], of each image by the head at the chosen C that has not seen its fold.
      folds: int64 [n], the fold of each image.
    """

    method: str
    regularization: float
    losses: dict[float, float]
    errors: dict[float, float]
    logits: np.ndarray
    folds: np.ndarray


def choose(
    method: str,
    examples: Examples,
    *,
    outputs: int | None = None,
    groups: np.ndarray | None = None,
    regularization: Sequence[float] = (),
    folds: int | np.ndarray = FOLDS,
    seed: int = 0,
) -> Choice:
    """Chooses C by cross-validation: for each fold, heads for all C are fitted on the other folds and tested on it.

    Each image is tested once for each C, by heads that have not seen it, nor an image of its group; features are
    standardized by the training folds alone. Logistic regression goes from C to C by warm starts, as `linear.logistic`
    does. Fit the head to keep on all examples at the C that is chosen:

        choice = choose("lbfgs", examples, groups=source.groups)
        head = linear.fit("lbfgs", examples, None, outputs=..., regularization=[choice.regularization]).linear

    Args:
      method: a key of `linear.SOLVERS`: 'lbfgs', 'ridge', 'lda', 'class_means'.
      examples: n training examples, one an image.
      outputs: classes, or 1 for one sigmoid unit between two classes, or the number of labels; None: as many as there
        are classes or labels.
      groups: int [n]; the images of a group, such as the frames of a track, stay in one fold. None: no groups.
      regularization: the C to try; (): the usual ones of the solver.
      folds: number of folds, see `jft.data.folds.folds`; or the fold of each example, int [n].
      seed: of the folds.

    Returns:
      The choice.

    Raises:
      ValueError: an unknown method, a C that is none, labels that `outputs` or the method cannot give, too few images
        or groups for the folds.
    """
    solver = tree.choose(SOLVERS, method, what="probe")
    outputs = outputs or count_outputs(examples)
    targets = examples.targets(outputs)
    strengths = solver.tried(regularization)
    fold_of = divided(examples.labels, folds, seed, groups) if isinstance(folds, int) else np.asarray(folds)
    heads = {
        fold: _solve(method, examples, fold_of != fold, outputs, strengths, fold_of) for fold in np.unique(fold_of)
    }
    losses = np.empty((len(strengths), len(examples)))
    for fold, of_fold in heads.items():
        tested = fold_of == fold
        for row, head in enumerate(of_fold):
            losses[row, tested] = solver.loss(head.logits(examples.features[tested]), targets[tested])
    best = int(losses.mean(1).argmin())
    logits = np.empty((len(examples), outputs), np.float32)
    for fold, of_fold in heads.items():
        logits[fold_of == fold] = of_fold[best].logits(examples.features[fold_of == fold])
    means = dict(zip(strengths, losses.mean(1).tolist(), strict=True))
    errors = {c: standard_error(row, groups) for c, row in zip(strengths, losses, strict=True)}
    return Choice(method, strengths[best], means, errors, logits, fold_of)


def count_outputs(examples: Examples) -> int:
    """Number of classes, or of labels."""
    return examples.labels.shape[1] if examples.labels.ndim == 2 else int(examples.labels.max()) + 1


def standard_error(values: np.ndarray, groups: np.ndarray | None = None) -> float:
    """Standard error of the mean of values [n]; those of a group, int [n], are not independent and count together."""
    off = values - values.mean()
    sums = off if groups is None else np.bincount(np.unique(groups, return_inverse=True)[1], off)
    count = len(sums)
    return float(np.sqrt((sums**2).sum() * count / max(count - 1, 1)) / len(values))


def _solve(
    method: str, examples: Examples, rows: np.ndarray, outputs: int, strengths: Sequence[float], folds: np.ndarray
) -> list[Linear]:
    solve = SOLVERS[method].solve
    if method == "lbfgs":  # which is compiled for a number of rows: that of the largest part serves all
        solve = functools.partial(logistic, padded=len(folds) - np.unique(folds, return_counts=True)[1].min())
    return solve(Examples(examples.features[rows], examples.labels[rows]), outputs, strengths)
