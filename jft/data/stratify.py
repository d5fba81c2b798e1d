"""Stratified hold-out of whole groups and of multi-label examples. A unit is a group, or an example without one."""

from collections.abc import Callable

import numpy as np


def hold_out(
    labels: np.ndarray, groups: np.ndarray, count: int, order: Callable[[int], np.ndarray], names: tuple[str, ...]
) -> np.ndarray:
    """Chooses groups with about `count` examples, the same share of every class; see `splits.stratified`.

    Args:
      labels: int [n], or multi-hot [n, classes].
      groups: int [n], number of the group of each example.
      count: number of examples to hold out, at least 1.
      order: function from a length to a random permutation.
      names: class names, for errors.

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
            f"cannot hold out {count} of {len(labels)} examples: groups are held out whole, and the smallest has "
            f"{sizes.min()}. Hold out more."
        )
    kept, available = counts(labels[~chosen], len(names)), counts(labels, len(names))
    if lost := [names[c] for c in np.flatnonzero((kept == 0) & (available > 0))]:
        raise ValueError(_impossible(count, len(labels), lost))
    return chosen


def counts(labels: np.ndarray, classes: int) -> np.ndarray:
    """Number of examples of each class, int [classes], from labels int [n] or multi-hot [n, classes]."""
    return labels.sum(axis=0, dtype=int) if labels.ndim == 2 else np.bincount(labels, minlength=classes)


def quotas(available: np.ndarray, count: int, most: np.ndarray) -> np.ndarray:
    """How many examples of each class to hold out: proportional to `available`, with the sum `count`.

    Args:
      available: int [classes], number of examples of each class.
      count: number to hold out, at most `most.sum()`.
      most: int [classes], upper limit for each class.

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

    Repeatedly takes the class with the fewest remaining examples and assigns its units one by one to the part, kept or
    held out, that needs them more. In the paper the rarest class of a unit alone decides, and with 80 classes the last
    ones may be as uneven as a random split (off by 12 where 25 were due). Here all classes of a unit decide, by the
    share of their quota that is still missing (off by at most 3).

    Args:
      table: int [units, classes], number of examples of each class in a unit.
      sizes: int [units], number of examples in a unit.
      count: number of examples to hold out, 1 .. sizes.sum()-1; met exactly if every unit is one example.
      order: a permutation of the units.

    Returns:
      bool [units], True where held out.
    """
    parts = np.array([sizes.sum() - count, count])  # kept, held out
    left = table.sum(axis=0)
    due = np.outer(parts / parts.sum(), left)
    weights = table / np.maximum(left, 1)
    wanted, room = due.copy(), parts.copy()
    part = np.full(len(sizes), -1)

    def place(unit: int, into: int) -> None:
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
            place(unit, int(lacking[0].max() < 1 and weights[unit, of] @ (lacking[1] - lacking[0]) > 0))
    for unit in order[part[order] < 0]:  # units without any class
        place(unit, int(room[1] > room[0]))
    return part == 1


def _by_class(
    labels: np.ndarray, sizes: np.ndarray, count: int, order: np.ndarray, names: tuple[str, ...]
) -> np.ndarray:
    """Which units to hold out if each has a single class, `labels` [units]; bool [units]."""
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
        chosen[members[_nearest(sizes[members], int(quota[label]))]] = True
    return chosen


def _nearest(sizes: np.ndarray, quota: int) -> np.ndarray:
    """A proper subset of units with a total size as near as possible to `quota`, early units first; bool [units]."""
    limit = min(2 * quota, sizes.sum() - 1)  # a larger total is farther from the quota than 0
    reached = np.zeros(limit + 1, bool)
    reached[0] = True
    last = np.zeros(limit + 1, int)  # for each total that is reached, the unit that first reached it
    for unit, size in enumerate(sizes):
        if reached[min(quota, limit)]:
            break
        new = reached[: max(limit + 1 - size, 0)] & ~reached[size:]
        last[size:][new] = unit
        reached[size:] |= new
    sums = np.flatnonzero(reached)
    chosen = np.zeros(len(sizes), bool)
    rest = sums[np.abs(sums - quota).argmin()]
    while rest:  # without its last unit, a total was reached by earlier units
        chosen[last[rest]] = True
        rest -= sizes[last[rest]]
    return chosen


def _impossible(count: int, total: int, classes: list[str]) -> str:
    shown = ", ".join(map(repr, classes[:5])) + (", ..." if len(classes) > 5 else "")
    return (
        f"holding out {count} of {total} examples would leave some class without any to train on ({shown}); groups are "
        "held out whole. Hold out fewer, or add images."
    )
