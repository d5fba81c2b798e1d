"""Splits and reading orders as pure functions of a seed: which examples are held out, kept, and read in which order."""

import functools
from collections.abc import Callable, Sequence

import numpy as np

from jft.data import stratify

# Numbers of the random streams. Epochs use 0, 1, ...; the streams of splits, and those of balanced sampling (order of
# the classes by epoch, order within a class by cycle and class), start far above.
_HELD_OUT, _FEW = 2**62, 2**62 + 1
_TURNS, _WITHIN_CLASS = 2**60, 2**61


def shuffled(n: int, seed: int, stream: int) -> np.ndarray:
    """A permutation of 0 .. n-1, int64 [n]: a pure function of its arguments, the same in every NumPy version.

    NumPy guarantees the raw numbers of Philox, but not those that a Generator derives from them.
    """
    key = np.array([seed % 2**64, stream % 2**64], np.uint64)
    return np.argsort(np.random.Philox(key=key).random_raw(n), kind="stable")


@functools.lru_cache(maxsize=4)
def epoch_order(n: int, seed: int, epoch: int) -> np.ndarray:
    """The order in which an epoch reads the rows 0 .. n-1; int64 [n], read-only."""
    order = shuffled(n, seed, epoch)
    order.flags.writeable = False
    return order


def balanced_order(labels: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """The order of an epoch that draws every class equally often: a pure function of its arguments.

    Class-aware sampling (Shen, Lin and Huang, Relay Backpropagation, 2016). Each round draws one example of every
    class, in a new random order of the classes. Each class draws its examples without replacement until all were
    drawn, then shuffles them again; this continues across epochs.

    Args:
      labels: int [n], or multi-hot [n, classes]. An example of several classes is drawn for each of them, one without
        a label never.
      seed: seed of the order.
      epoch: number of the epoch, from 0.

    Returns:
      int64 [n], rows with repeats. Each consecutive block of as many draws as there are classes has every class once.
    """
    members = [of_class for of_class in _members(labels, np.arange(len(labels))) if len(of_class)]
    rounds = -(-len(labels) // len(members))
    draws = range(epoch * rounds, (epoch + 1) * rounds)
    drawn = np.stack([_cycled(of_class, draws, seed, c) for c, of_class in enumerate(members)], axis=1)
    key = np.array([seed % 2**64, _TURNS + epoch], np.uint64)
    turns = np.random.Philox(key=key).random_raw(drawn.size).reshape(drawn.shape).argsort(axis=1, kind="stable")
    return np.take_along_axis(drawn, turns, axis=1).reshape(-1)[: len(labels)]


def _cycled(members: np.ndarray, draws: range, seed: int, label: int) -> np.ndarray:
    """The examples at these positions of a class's endless stream of shuffled cycles; int64 [len(draws)]."""
    size = len(members)
    first, last = draws.start // size, (draws.stop - 1) // size
    cycles = [shuffled(size, seed, _WITHIN_CLASS + (label << 40) + cycle) for cycle in range(first, last + 1)]
    places = np.concatenate(cycles)[draws.start - first * size :][: len(draws)]
    return members[places]


def make_stream(labels: np.ndarray, seed: int, *, balanced: bool) -> Callable[[np.ndarray], np.ndarray]:
    """The endless stream of training examples, one epoch after another.

    Args:
      labels: int [n] or multi-hot [n, classes], n > 0.
      seed: seed of the order.
      balanced: draw all classes equally often, see `balanced_order`; otherwise every example once an epoch.

    Returns:
      A function from positions in the stream, int64 [b], to rows, int64 [b].
    """
    size = len(labels)

    @functools.lru_cache(maxsize=4)
    def order(epoch: int) -> np.ndarray:
        return balanced_order(labels, seed, epoch) if balanced else epoch_order(size, seed, epoch)

    def rows(positions: np.ndarray) -> np.ndarray:
        epochs, places = np.divmod(positions, size)
        chosen = np.empty(len(positions), np.int64)
        for epoch in np.unique(epochs):
            chosen[epochs == epoch] = order(int(epoch))[places[epochs == epoch]]
        return chosen

    return rows


def stratified(
    labels: np.ndarray,
    amount: int | float,
    seed: int,
    names: tuple[str, ...],
    groups: np.ndarray | None = None,
    *,
    what: str = "validation",
) -> np.ndarray:
    """Chooses examples to hold out, the same share of every class.

    Shares are rounded by largest remainder, so the count is exact, and every class keeps at least one example. With
    groups, each class holds out a random set of whole groups with a number of examples as near as possible to its
    share, and keeps at least one group. If an example or a group has several classes, see `stratify.iterative`.

    Args:
      labels: int [n], 0 .. len(names)-1; or multi-hot [n, len(names)].
      amount: a share in (0, 1), or a count of at least 1; 0 holds nothing out.
      seed: decides which examples of a class are held out.
      names: class names, for errors.
      groups: int [n]; the examples of a group are held out together or not at all. None: each is a group of its own.
      what: name of the split that is held out, for errors.

    Returns:
      bool [n], True where held out.

    Raises:
      ValueError: the amount is invalid, or a class would keep no example.
    """
    count = _count(amount, len(labels))
    available = stratify.counts(labels, len(names))
    if amount and not count:
        raise ValueError(
            f"there are too few images for {what}: {amount:g} of {len(labels)} is less than one image "
            f"({_few(available, names)}). Add images, or hold out a larger share or a count"
            f"{', or none (0)' if what == 'validation' else ''}."
        )
    if labels.ndim == 2 or groups is not None:
        groups = np.arange(len(labels)) if groups is None else groups
        order = functools.partial(shuffled, seed=seed, stream=_HELD_OUT)
        return stratify.hold_out(labels, groups, count, order, names) if count else np.zeros(len(labels), bool)
    most = np.maximum(available - 1, 0)
    if count > most.sum():
        raise ValueError(
            f"holding out {count} of {len(labels)} images for {what} would leave some class without any to train on "
            f"({_few(available, names)}): hold out fewer, or add images."
        )
    return _rank_within_class(labels, seed, _HELD_OUT) < stratify.quotas(available, count, most)[labels]


def few_per_class(labels: np.ndarray, count: int, seed: int, names: tuple[str, ...]) -> np.ndarray:
    """Chooses `count` examples of each class, regardless of groups. A larger count chooses a superset.

    Args:
      labels: int [n], 0 .. len(names)-1; or multi-hot [n, len(names)]. With multi-hot labels a class may end up with
        more than `count`, because examples chosen for another class also have it.
      count: examples of each class.
      seed: decides which examples are chosen.
      names: class names, for errors.

    Returns:
      bool [n], True where chosen.

    Raises:
      ValueError: some classes have fewer examples; the message names them all.
    """
    members = _members(labels, shuffled(len(labels), seed, _FEW), len(names))
    if short := [f"{name!r} has {len(m)}" for name, m in zip(names, members, strict=True) if len(m) < count]:
        raise ValueError(
            f"examples_per_class asks for {count} training examples of each class, but {', '.join(short)}."
        )
    chosen = np.zeros(len(labels), bool)
    for of_class in members:
        chosen[of_class[:count]] = True
    return chosen


def _members(labels: np.ndarray, order: np.ndarray, classes: int | None = None) -> list[np.ndarray]:
    """The examples of each class, sorted by their place in `order`; a list of int64 arrays."""
    ordered = labels[order]
    if labels.ndim == 2:
        return [order[ordered[:, c] > 0] for c in range(labels.shape[1])]
    by_class = order[np.argsort(ordered, kind="stable")]
    counts = np.bincount(labels, minlength=classes or 0)
    return np.split(by_class, np.cumsum(counts)[:-1])


def _count(amount: int | float, n: int) -> int:
    if amount < 0 or (amount >= 1 and amount != int(amount)):
        raise ValueError(f"cannot hold out {amount} examples: give a share in (0, 1), or a whole number.")
    if amount >= 1 or amount == 0:
        return int(amount)
    return round(amount * n)


def absent(labels: np.ndarray, held_out: np.ndarray, names: Sequence[str], only: Sequence[str] = ()) -> str:
    """The classes that have examples, but none where `held_out`, bool [n]: "'a' has 1, ..."; '' if there are none.

    Looks only at the classes in `only`, unless that is empty.
    """
    available, held = (stratify.counts(part, len(names)) for part in (labels, labels[held_out]))
    return _few(np.where((held == 0) & np.isin(names, only or names), available, 0), names)


def _few(counts: np.ndarray, names: Sequence[str]) -> str:
    """The classes with the fewest examples, without empty ones: "'a' has 1, 'b' has 2, ..."."""
    order = [c for c in np.argsort(counts, kind="stable") if counts[c]]
    shown = ", ".join(f"{names[c]!r} has {counts[c]}" for c in order[:5])
    return f"{shown} and {len(order) - 5} more classes" if len(order) > 5 else shown


def _rank_within_class(labels: np.ndarray, seed: int, stream: int) -> np.ndarray:
    """The place of every example in a random order of its class; int [n]."""
    ranks = np.empty(len(labels), np.int64)
    order = shuffled(len(labels), seed, stream)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        ranks[members] = np.arange(len(members))
    return ranks
