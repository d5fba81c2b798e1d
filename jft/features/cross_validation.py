"""k-fold cross-validation of linear heads on features in memory: the strength of the penalty, and what to expect."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np

from jft.data.folds import folds as divided
from jft.features.affine import Linear
from jft.features.examples import Examples
from jft.features.linear import SOLVERS, logistic, temperature
from jft.utils import tree

FOLDS = 5


@dataclasses.dataclass(frozen=True, eq=False)
class Choice:
    """What cross-validation says of a method, and the strength that it chooses.

    Attributes:
      method: the solver, a key of `linear.SOLVERS`.
      regularization: the chosen C, of the smallest mean loss; of equals the smallest.
      losses: {C: mean loss of an image that the head has not seen}: nats, after division by the best temperature where
        the solver is `scaled`; of ridge the squared error.
      errors: {C: standard error of that mean}; images of a group count together.
      logits: float32 [n, outputs], of each image by a head at the chosen C that has not seen its fold.
      temperature: the best for these logits, see `linear.temperature`; they are not divided by it.
      folds: int64 [n], the fold of each image.
    """

    method: str
    regularization: float
    losses: dict[float, float]
    errors: dict[float, float]
    logits: np.ndarray
    temperature: float
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
    variants: np.ndarray | None = None,
    average: bool = False,
) -> Choice:
    """Chooses C by cross-validation: for each fold, heads for all C are fitted on the other folds and tested on it.

    Each image is tested once for each C, by heads that have not seen it, nor an image of its group; features are
    standardized by the training folds alone. Logistic regression goes from C to C by warm starts, as `linear.logistic`
    does. `refit` fits the head to keep:

        choice = choose("lbfgs", examples, groups=source.groups)
        head = refit(choice, examples)

    Args:
      method: a key of `linear.SOLVERS`: 'lbfgs', 'ridge', 'lda', 'class_means'.
      examples: n training examples, one an image.
      outputs: classes, or 1 for one sigmoid unit between two classes, or the number of labels; None: as many as there
        are classes or labels.
      groups: int [n]; the images of a group, such as the frames of a track, stay in one fold. None: no groups.
      regularization: the C to try; (): the usual ones of the solver.
      folds: number of folds, see `jft.data.folds.folds`; or the fold of each example, int [n].
      seed: of the folds.
      variants: float [n, v, d], features of v further variants of each image, such as its mirror image, which heads are
        fitted on as well.
      average: whether the logits of an image are averaged with those of its variants.

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
    tested = {fold: fold_of == fold for fold in np.unique(fold_of)}
    heads = {
        fold: _solve(method, examples, ~of_fold, outputs, strengths, tested, variants)
        for fold, of_fold in tested.items()
    }
    found: list[tuple[float, np.ndarray]] = []
    logits = np.empty((len(strengths), len(examples), outputs), np.float32)
    for row in range(len(strengths)):
        for fold, of_fold in tested.items():
            logits[row, of_fold] = _logits(heads[fold][row], examples.features[of_fold], variants, of_fold, average)
        scale = solver.temperature(logits[row], targets)
        found.append((scale, np.asarray(solver.loss(logits[row] / scale, targets), np.float64)))
    means = {c: float(loss.mean()) for c, (_, loss) in zip(strengths, found, strict=True)}
    errors = {c: standard_error(loss, groups) for c, (_, loss) in zip(strengths, found, strict=True)}
    best = min(range(len(strengths)), key=lambda row: means[strengths[row]])
    scale = found[best][0] if solver.scaled else temperature(logits[best], targets)
    return Choice(method, strengths[best], means, errors, logits[best].copy(), scale, fold_of)


def refit(choice: Choice, examples: Examples, variants: np.ndarray | None = None) -> Linear:
    """The head on all examples at the C of a choice, divided by its temperature where the solver is `scaled`.

    Args:
      choice: from `choose`.
      examples: those that it was made on.
      variants: likewise.
    """
    solver = SOLVERS[choice.method]
    [head] = solver.solve(_joined(examples, variants), choice.logits.shape[1], [choice.regularization])
    return head.divided(choice.temperature) if solver.scaled else head


def count_outputs(examples: Examples) -> int:
    """Number of classes, or of labels."""
    return examples.labels.shape[1] if examples.labels.ndim == 2 else int(examples.labels.max()) + 1


def standard_error(values: np.ndarray, groups: np.ndarray | None = None) -> float:
    """Standard error of the mean of values [n]; those of a group, int [n], are not independent and count together."""
    off = values - values.mean()
    sums = off if groups is None else np.bincount(np.unique(groups, return_inverse=True)[1], off)
    count = len(sums)
    return float(np.sqrt((sums**2).sum() * count / max(count - 1, 1)) / len(values))


def _joined(examples: Examples, variants: np.ndarray | None) -> Examples:
    """The examples followed by their variants."""
    if variants is None:
        return examples
    n, v, d = variants.shape
    features = np.concatenate([examples.features, variants.reshape(n * v, d)])
    return Examples(features, np.concatenate([examples.labels, np.repeat(examples.labels, v, axis=0)]))


def _solve(
    method: str,
    examples: Examples,
    rows: np.ndarray,
    outputs: int,
    strengths: Sequence[float],
    tested: Mapping[int, np.ndarray],
    variants: np.ndarray | None,
) -> list[Linear]:
    """Heads for each C on the examples that are True in `rows`."""
    solve = SOLVERS[method].solve
    train = _joined(
        Examples(examples.features[rows], examples.labels[rows]), None if variants is None else variants[rows]
    )
    if method == "lbfgs":  # which is compiled for a number of rows: that of the largest part serves all
        most = len(rows) - min(of_fold.sum() for of_fold in tested.values())
        solve = functools.partial(logistic, padded=most * (1 if variants is None else 1 + variants.shape[1]))
    return solve(train, outputs, strengths)


def _logits(
    head: Linear, features: np.ndarray, variants: np.ndarray | None, rows: np.ndarray, average: bool
) -> np.ndarray:
    if variants is None or not average:
        return head.logits(features)
    return np.mean([head.logits(x) for x in (features, *variants[rows].swapaxes(0, 1))], 0)
