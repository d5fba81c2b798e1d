"""Heads made of class means: linear discriminant analysis with a shrunk covariance, and nearest class means.

Both are closed forms in float64 on the host, over standardized features, and plain affine maps in the end.
"""

from collections.abc import Sequence

import numpy as np

from jft.features.affine import Linear, check_strengths, folded
from jft.features.blocks import BLOCK, Blocks, solve_each
from jft.features.examples import Examples
from jft.features.standard import Standard, slices

_ABSENT = 0.5  # images that a class without any counts as


def lda(train: Examples, outputs: int, regularization: Sequence[float]) -> list[Linear]:
    """Linear discriminant analysis whose covariance is shrunk towards a multiple of the identity.

    Each class is a Gaussian around its own mean, with the covariance within classes S [d, d] common to all, of which
    `(1 - s) S + s trace(S) / d I` is taken (Ledoit and Wolf, 2004; Friedman, 1989). The strength is given as C, s =
    1 / (1 + C): scikit-learn's LinearDiscriminantAnalysis(solver='lsqr', shrinkage=1 / (1 + C)) on standardized
    features. Logits are log posteriors, with the training images' shares of classes as the prior. Solved by Cholesky's
    method for each C, in the smaller of [d, d] and [n, n].

    Args:
      train: examples of classes. A class without any lies at the mean of all.
      outputs: classes, or 1 for one sigmoid unit between two classes.
      regularization: C, one or more; larger ones shrink less.

    Returns:
      A head for each C, in their order.

    Raises:
      ValueError: several labels an image, a C that is none, labels that `outputs` cannot give.
    """
    labels, classes = _classes(train, outputs, regularization, "lda")
    standard = Standard.of(train.features)
    n, d = train.features.shape
    counts = np.bincount(labels, minlength=classes)
    means = _means(train.features, standard, labels, counts)

    def within(rows: slice, columns: slice) -> np.ndarray:
        z = standard.at(columns).apply(train.features[rows, columns], np.float64)
        return np.subtract(z, means[labels[rows], columns], out=z)

    scatter = Blocks((n, d), within)
    gram = scatter.gram()
    average = np.trace(gram) / d or float(n)  # an image of each class: the nearest mean
    added = [average / c for c in regularization]
    if d <= n:
        solved = solve_each(gram, means.T, added)
    else:  # (W'W + a)^-1 = (1 - W'(WW' + a)^-1 W) / a
        inner = solve_each(gram, scatter.from_right(means.T), added)
        solved = [(means.T - scatter.from_left(x)) / a for x, a in zip(inner, added, strict=True)]
    prior = np.log(np.where(counts, counts, _ABSENT) / n)
    # W'W + a is the shrunk covariance times n (1 + C) / C.
    kernels = [x * (n * (1 + c) / c) for x, c in zip(solved, regularization, strict=True)]
    biases = [prior - np.einsum("cd,dc->c", means, kernel) / 2 for kernel in kernels]
    return [_head(standard, *pair, outputs) for pair in zip(kernels, biases, strict=True)]


def class_means(train: Examples, outputs: int, regularization: Sequence[float]) -> list[Linear]:
    """The class whose mean direction has the largest cosine with an image's standardized features.

    Features are standardized and scaled to length 1, as are their means by class (SimpleShot: Wang et al., 2019). The
    length of an image's features does not change which class is nearest, so that the head leaves it out and is linear:
    its logits are C times the cosine where the length is the usual one.

    Args:
      train: examples of classes.
      outputs: classes, or 1 for one sigmoid unit between two classes.
      regularization: C, the scale of the logits, one or more; it changes how sure the head is, not what it says.

    Returns:
      A head for each C, in their order.

    Raises:
      ValueError: see `lda`.
    """
    labels, classes = _classes(train, outputs, regularization, "class_means")
    standard = Standard.of(train.features)
    n, d = train.features.shape
    total, lengths = np.zeros((classes, d)), []
    for rows in slices(n, d, BLOCK):
        z = standard.apply(train.features[rows], np.float64)
        lengths.append(np.linalg.norm(z, axis=1))
        np.add.at(total, labels[rows], _unit(z))
    usual = np.mean(np.concatenate(lengths)) or 1.0
    kernel = _unit(total).T / usual
    return [_head(standard, c * kernel, np.zeros(classes), outputs) for c in regularization]


def _classes(train: Examples, outputs: int, regularization: Sequence[float], method: str) -> tuple[np.ndarray, int]:
    """Labels int [n] and the number of classes, after the arguments are checked."""
    check_strengths(regularization)
    train.targets(outputs)
    if train.labels.ndim == 2:
        raise ValueError(
            f"{method} tells classes apart, and an image may have several of {outputs} labels: use lbfgs or ridge."
        )
    return train.labels.astype(np.int64), max(outputs, 2)


def _means(x: np.ndarray, standard: Standard, labels: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Class means of standardized features, float64 [classes, d]; of a class without any 0, the mean of all."""
    total = np.zeros((len(counts), x.shape[1]))
    for rows in slices(len(x), x.shape[1], BLOCK):
        one_hot = labels[rows][:, None] == np.arange(len(counts))
        total += one_hot.T.astype(np.float64) @ standard.apply(x[rows], np.float64)
    return total / np.maximum(counts, 1)[:, None]


def _unit(x: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1; rows of 0 stay."""
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(length > 0, length, 1)


def _head(standard: Standard, kernel: np.ndarray, bias: np.ndarray, outputs: int) -> Linear:
    if outputs == 1:  # log odds of the second class
        kernel, bias = np.diff(kernel, axis=1), np.diff(bias)
    return folded(standard, kernel, bias)
