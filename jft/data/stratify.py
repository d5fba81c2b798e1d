"""Holding out whole groups, and examples of several classes, with each class's share as near as can be."""

from collections.abc import Callable

import numpy as np


def hold_out(
    labels: np.ndarray, groups: np.ndarray, count: int, order: Callable[[int], np.ndarray], names: tuple[str, ...]
) -> np.ndarray:
    """Chooses groups of about `count` examples, so that every class gives the same share; see `splits.stratified`.

    Args:
      labels: int [n], or multi-hot [n, classes].
      groups: int [n].
      count: examples to hold out, at least 1.
      order: from a length to a random permutation.
      names: of the classes, for errors.

    Returns:
      bool [n], True where held out.

    Raises:
      ValueError: a class would keep no example, or the groups are so large that nothing would be held out.
    """
    if count >= len(labels):
        raise ValueError(_impossible(count, len(labels), list(names)))
    _, first, unit = np.unique(groups, return_index=True, return_inverse=True)
    sizes = np.bincount(unit)
    shuffled = order(len(sizes))
    if labels.ndim == 1 and (labels == labels[first][unit]).all():
        chosen = _by_class(labels[first], sizes, count, shuffled, names)[unit]
    else:
        table = np.zeros((len(sizes), len(names)), np.int64)
        np.add.at(table, (unit, labels) if labels.ndim == 1 else unit, 1 if labels.ndim == 1 else labels)
        chosen = iterative(table, sizes, count, shuffled)[unit]
    if not chosen.any():
        raise ValueError(
            f"holding out {count} of {len(labels)} examples holds out none: whole groups of {sizes.min()} and more are "
            "held out together. Hold out more."
        )
    kept, there = counts(labels[~chosen], len(names)), counts(labels, len(names))
    if lost := [names[c] for c in np.flatnonzero((kept == 0) & (there > 0))]:
        raise ValueError(_impossible(count, len(labels), lost))
    return chosen


def counts(labels: np.ndarray, classes: int) -> np.ndarray:
    """Examples of each class, int [classes], of labels int [n] or multi-hot [n, classes]."""
    return labels.sum(axis=0, dtype=int) if labels.ndim == 2 else np.bincount(labels, minlength=classes)


def quotas(available: np.ndarray, count: int, most: np.ndarray) -> np.ndarray:
    """How many of each class to hold out: proportional, adding up to `count`.

    Args:
      available: int [classes], examples of each class.
      count: at most `most.sum()`.
      most: int [classes], what each class can give.

    Returns:
      int [classes], at most `most`.
    """
    exact = count * available / max(available.sum(), 1)
    chosen = np.minimum(exact.astype(int), most)
    while (missing := count - chosen.sum()) > 0:
        free = np.flatnonzero(chosen < most)
        nearest = free[np.argsort((chosen - exact)[free], kind="stable")][:missing]
        chosen[nearest] += 1
    return chosen


def iterative(table: np.ndarray, sizes: np.ndarray, count: int, order: np.ndarray) -> np.ndarray:
    """Iterative stratification, after Sechidis et al., On the Stratification of Multi-Label Data, 2011.

    The class with the fewest examples left is dealt out first, unit by unit, each to the part that lacks more. There
    the rarest class decides alone, and the last of 80 classes may be as uneven as by chance (off by 12 where 25
    were due); here all classes of a unit do, by what is lacking as a share of what is due (within 3).

    Args:
      table: int [units, classes], how many examples of each class a unit has.
      sizes: int [units], how many examples a unit has.
      count: examples to hold out, 1 .. sizes.sum()-1; met exactly where every unit is one example.
      order: a permutation of the units.

    Returns:
      bool [units], True where held out.
    """
    parts = np.array([sizes.sum() - count, count])  # what is kept, what is held out
    left = table.sum(axis=0)
    due = np.outer(parts / parts.sum(), left)
    weights = table / np.maximum(left, 1)
    wanted, room = due.copy(), parts.copy()
    part = np.full(len(sizes), -1)

    def place(unit: int, into: bool) -> None:
        into = int(into)
        if sizes[unit] > room[into] and sizes[unit] <= room[1 - into]:
            into = 1 - into
        part[unit] = into
        wanted[into] -= table[unit]
        room[into] -= sizes[unit]
        left[:] -= table[unit]

    while left.any():
        rarest = np.flatnonzero(left)[left[left > 0].argmin()]
        for unit in order[(table[order, rarest] > 0) & (part[order] < 0)]:
            of = np.flatnonzero(table[unit])
            lacking = wanted[:, of] / due[:, of]
            place(unit, lacking[0].max() < 1 and weights[unit, of] @ (lacking[1] - lacking[0]) > 0)
    for unit in order[part[order] < 0]:  # of no class
        place(unit, room[1] > room[0])
    return part == 1


def _by_class(
    labels: np.ndarray, sizes: np.ndarray, count: int, order: np.ndarray, names: tuple[str, ...]
) -> np.ndarray:
    """Which units to hold out where each is of one class, `labels` [units]; bool [units]."""
    classes = len(names)
    available = np.bincount(labels, sizes, classes).astype(int)
    smallest = np.full(classes, np.iinfo(int).max)
    np.minimum.at(smallest, labels, sizes)
    most = np.maximum(available - smallest, 0)
    if count > most.sum():
        single = np.flatnonzero(np.bincount(labels, minlength=classes) == 1)
        raise ValueError(_impossible(count, sizes.sum(), [names[c] for c in single] or list(names)))
    quota = quotas(available, count, most)
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        chosen[members[_nearest(sizes[members], quota[label])]] = True
    return chosen


def _nearest(sizes: np.ndarray, quota: int) -> np.ndarray:
    """Units, but not all, whose sizes add up to as near to `quota` as can be, early ones preferred; bool [units]."""
    limit = min(2 * quota, sizes.sum() - 1)  # beyond it even none would be nearer
    reached = np.zeros(limit + 1, bool)
    reached[0] = True
    last = np.zeros(limit + 1, int)  # of each sum that is reached, the unit by which it was first
    for unit, size in enumerate(sizes):
        if reached[min(quota, limit)]:
            break
        new = reached[: max(limit + 1 - size, 0)] & ~reached[size:]
        last[size:][new] = unit
        reached[size:] |= new
    sums = np.flatnonzero(reached)
    chosen = np.zeros(len(sizes), bool)
    rest = sums[np.abs(sums - quota).argmin()]
    while rest:  # without its last unit, a sum was reached by earlier ones
        chosen[last[rest]] = True
        rest -= sizes[last[rest]]
    return chosen


def _impossible(count: int, total: int, classes: list[str]) -> str:
    shown = ", ".join(map(repr, classes[:5])) + (", ..." if len(classes) > 5 else "")
    return (
        f"holding out {count} of {total} examples would leave some class without any to train on ({shown}); groups are "
        "held out whole. Hold out fewer, or add images."
    )
