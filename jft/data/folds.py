"""The folds of a cross-validation: stratified, and groups of images stay together."""

import warnings

import numpy as np

from jft.data import splits


def folds(labels: np.ndarray, count: int, seed: int, groups: np.ndarray | None = None) -> np.ndarray:
    """Divides examples into folds, each with nearly the same share of every class.

    Classes of single-label examples are divided by scikit-learn's StratifiedKFold, with groups by StratifiedGroupKFold;
    several labels an image by holding out one fold after the other, see `stratify.iterative`. A class of fewer
    examples than folds is missing from some folds; the only example of a class is in one, whose model has not seen the
    class.

    Args:
      labels: int [n], classes from 0; or multi-hot [n, classes].
      count: number of folds, 2 or more.
      seed: of the division.
      groups: int [n]; the examples of a group are in one fold. None: each is a group of its own.

    Returns:
      int64 [n], 0 .. count - 1, the fold of each example; no fold is empty.

    Raises:
      ValueError: fewer examples or groups than folds, or groups so large that a fold is empty.
    """
    units = len(labels) if groups is None else len(np.unique(groups))
    if not 2 <= count <= units:
        what = "images" if groups is None else "groups of images"
        raise ValueError(
            f"{count} folds of {units} {what}: cross-validation takes 2 folds or more, each with an image. "
            f"{'Add images' if units < max(count, 2) else 'Ask for 2 folds or more'}, or hold images out instead."
        )
    found = _of_several(labels, count, seed, groups) if labels.ndim == 2 else _of_one(labels, count, seed, groups)
    if len(np.unique(found)) < count:
        raise ValueError(
            f"{units} groups of images leave one of {count} folds empty, as some are too large: ask for fewer folds."
        )
    return found


def _of_one(labels: np.ndarray, count: int, seed: int, groups: np.ndarray | None) -> np.ndarray:
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    if np.bincount(labels).max() < count:  # which scikit-learn refuses: nothing to stratify
        labels = np.zeros_like(labels)
    found = np.empty(len(labels), np.int64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        parts = kind(count, shuffle=True, random_state=seed).split(labels, labels, groups)
        for number, (_, tested) in enumerate(parts):
            found[tested] = number
    return found


def _of_several(labels: np.ndarray, count: int, seed: int, groups: np.ndarray | None) -> np.ndarray:
    found = np.full(len(labels), count - 1)
    names = tuple(map(str, range(labels.shape[1])))
    for number in range(count - 1):
        left = np.flatnonzero(found == count - 1)
        of = None if groups is None else groups[left]
        out = splits.stratified(labels[left], round(len(left) / (count - number)), seed + number, names, of)
        found[left[out]] = number
    return found
