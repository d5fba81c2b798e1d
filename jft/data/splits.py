"""Orders and splits as pure functions of their seed: which examples are held out, kept, and read in which order."""

import functools
from collections.abc import Callable, Sequence

import numpy as np

from jft.data import stratify as units_lib

# Streams of random numbers. Epochs count up from 0; what is drawn once lies far above them, and so do the turns of the
# classes (by epoch) and the orders within a class (by cycle and class) of balanced sampling.
_HELD_OUT, _FEW = 2**62, 2**62 + 1
_TURNS, _WITHIN_CLASS = 2**60, 2**61


def shuffled(n: int, seed: int, stream: int) -> np.ndarray:
    """A permutation of 0 .. n-1, int64 [n]: a pure function of its arguments, for ever.

    NumPy promises that Philox's raw numbers never change; what its Generator makes of them may.
    """
    key = np.array([seed % 2**64, stream % 2**64], np.uint64)
    return np.argsort(np.random.Philox(key=key).random_raw(n), kind="stable")


@functools.lru_cache(maxsize=4)
def epoch_order(n: int, seed: int, epoch: int) -> np.ndarray:
    """The rows 0 .. n-1 in the order in which epoch number `epoch` reads them; int64 [n], read-only."""
    order = shuffled(n, seed, epoch)
    order.flags.writeable = False
    return order


def balanced_order(labels: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Rows in which every class comes equally often, as many as there are examples: a pure function of its arguments.

    Class-aware sampling (Shen, Lin and Huang, Relay Backpropagation, 2016): the classes take turns, in a new random
    order each time, and each hands out its examples in random order, every one before any comes again; cycles go on
    from epoch to epoch.

    Args:
      labels: int [n], or multi-hot [n, classes]; an example of several classes is drawn for each of them, one of none
        never.
      seed: decides the order.
      epoch: number of the epoch, from 0.

    Returns:
      int64 [n], rows with repeats; in any classes' number of successive draws that starts at a multiple of it, each
      class once.
    """
    members = [of_class for of_class in _members(labels, np.arange(len(labels))) if len(of_class)]
    rounds = -(-len(labels) // len(members))
    draws = range(epoch * rounds, (epoch + 1) * rounds)
    drawn = np.stack([_cycled(of_class, draws, seed, c) for c, of_class in enumerate(members)], axis=1)
    key = np.array([seed % 2**64, _TURNS + epoch], np.uint64)
    turns = np.random.Philox(key=key).random_raw(drawn.size).reshape(drawn.shape).argsort(axis=1, kind="stable")
    return np.take_along_axis(drawn, turns, axis=1).reshape(-1)[: len(labels)]


def _cycled(members: np.ndarray, draws: range, seed: int, label: int) -> np.ndarray:
    """What a class hands out at these draws of its own endless stream of cycles; int64 [len(draws)]."""
    size = len(members)
    first, last = draws.start // size, (draws.stop - 1) // size
    cycles = [shuffled(size, seed, _WITHIN_CLASS + (label << 40) + cycle) for cycle in range(first, last + 1)]
    places = np.concatenate(cycles)[draws.start - first * size :][: len(draws)]
    return members[places]


def make_stream(labels: np.ndarray, seed: int, *, balanced: bool) -> Callable[[np.ndarray], np.ndarray]:
    """The endless stream of training examples, in which epoch follows epoch.

    Args:
      labels: int [n] or multi-hot [n, classes], n > 0.
      seed: of the order.
      balanced: draws classes equally often, see `balanced_order`; else every example once an epoch.

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
    """Chooses examples to hold out, in every class the same share of it.

    Shares are rounded by largest remainder, so that the count is exact, and leave every class at least one example.
    Where examples have groups, a class gives up the random set of whole groups whose number of examples is nearest to
    its quota, and keeps at least one group. Where examples or groups are of several classes: see `units.iterative`.

    Args:
      labels: int [n], 0 .. len(names)-1; or multi-hot [n, len(names)].
      amount: a share in (0, 1), or a count of at least 1; 0 holds nothing out.
      seed: decides which examples of a class are held out.
      names: of the classes, for errors.
      groups: int [n]; the examples of one group are held out together or not at all. None: each is its own.
      what: what they are held out for, for errors.

    Returns:
      bool [n], True where held out.

    Raises:
      ValueError: the amount makes no sense, or a class would keep no example.
    """
    count = _count(amount, len(labels))
    available = units_lib.counts(labels, len(names))
    if amount and not count:
        raise ValueError(
            f"a share of {amount:g} of {len(labels)} images for {what} is none ({_few(available, names)}): add images, "
            f"or hold out a larger share or a count{', or none (0)' if what == 'validation' else ''}."
        )
    if labels.ndim == 2 or groups is not None:
        groups = np.arange(len(labels)) if groups is None else groups
        order = functools.partial(shuffled, seed=seed, stream=_HELD_OUT)
        return units_lib.hold_out(labels, groups, count, order, names) if count else np.zeros(len(labels), bool)
    most = np.maximum(available - 1, 0)
    if count > most.sum():
        raise ValueError(
            f"holding out {count} of {len(labels)} images for {what} would leave some class without any to train on "
            f"({_few(available, names)}): hold out fewer, or add images."
        )
    return _rank_within_class(labels, seed, _HELD_OUT) < units_lib.quotas(available, count, most)[labels]


def few_per_class(labels: np.ndarray, count: int, seed: int, names: tuple[str, ...]) -> np.ndarray:
    """Chooses `count` examples of each class, whatever their groups; a larger count chooses the same ones and more.

    Args:
      labels: int [n], 0 .. len(names)-1; or multi-hot [n, len(names)], of which `count` are drawn for each class, so
        that it has more where those drawn for another are of it too.
      count: examples of each class.
      seed: decides which.
      names: of the classes, for errors.

    Returns:
      bool [n], True where chosen.

    Raises:
      ValueError: classes with fewer, all named.
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
    """The examples of each class, in this order of all; int64 arrays."""
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
    """The classes, of `only` if it names any, with examples but none where `held_out`, bool [n]; '' if none is so."""
    there, held = (units_lib.counts(part, len(names)) for part in (labels, labels[held_out]))
    return _few(np.where((held == 0) & np.isin(names, only or names), there, 0), names)


def _few(counts: np.ndarray, names: Sequence[str]) -> str:
    """The classes with the fewest examples, but some: "'a' has 1, 'b' has 2, ..."."""
    order = [c for c in np.argsort(counts, kind="stable") if counts[c]]
    shown = ", ".join(f"{names[c]!r} has {counts[c]}" for c in order[:5])
    return f"{shown} and {len(order) - 5} more classes" if len(order) > 5 else shown


def _rank_within_class(labels: np.ndarray, seed: int, stream: int) -> np.ndarray:
    """For every example its place in a random order of its class; int [n]."""
    ranks = np.empty(len(labels), np.int64)
    order = shuffled(len(labels), seed, stream)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        ranks[members] = np.arange(len(members))
    return ranks
