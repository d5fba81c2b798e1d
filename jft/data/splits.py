"""Orders and splits as pure functions of their seed: which examples are held out, kept, and read in which order."""

import functools

import numpy as np

# Streams of random numbers. Epochs count up from 0; what is drawn once lies far above them.
_HELD_OUT, _FEW = 2**62, 2**62 + 1


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


def stratified(labels: np.ndarray, amount: int | float, seed: int, names: tuple[str, ...]) -> np.ndarray:
    """Chooses examples to hold out, in every class the same share of it.

    Shares are rounded by largest remainder, so that the count is exact, and leave every class at least one example.

    Args:
      labels: int [n], 0 .. len(names)-1.
      amount: a share in (0, 1), or a count of at least 1; 0 holds nothing out.
      seed: decides which examples of a class are held out.
      names: of the classes, for errors.

    Returns:
      bool [n], True where held out.

    Raises:
      ValueError: the amount makes no sense, or a class would keep no example.
    """
    available = np.bincount(labels, minlength=len(names))
    count = _count(amount, len(labels))
    if count > np.maximum(available - 1, 0).sum():
        scarce = names[min(np.flatnonzero(available), key=lambda c: available[c], default=0)]
        raise ValueError(
            f"holding out {count} of {len(labels)} examples would leave some class without any to train on "
            f"(the smallest is {scarce!r}); hold out fewer, or add pictures."
        )
    return _rank_within_class(labels, seed, _HELD_OUT) < _quotas(available, count)[labels]


def few_per_class(labels: np.ndarray, count: int, seed: int, names: tuple[str, ...]) -> np.ndarray:
    """Chooses `count` examples of each class.

    Args:
      labels: int [n], 0 .. len(names)-1.
      count: examples of each class.
      seed: decides which.
      names: of the classes, for errors.

    Returns:
      bool [n], True where chosen.

    Raises:
      ValueError: classes with fewer, all named.
    """
    available = np.bincount(labels, minlength=len(names))
    if (available < count).any():
        short = ", ".join(f"{names[c]!r} has {available[c]}" for c in np.flatnonzero(available < count))
        raise ValueError(f"examples_per_class asks for {count} training examples of each class, but {short}.")
    return _rank_within_class(labels, seed, _FEW) < count


def _count(amount: int | float, n: int) -> int:
    if amount < 0 or (amount >= 1 and amount != int(amount)):
        raise ValueError(f"cannot hold out {amount} examples: give a share in (0, 1), or a whole number.")
    if amount >= 1 or amount == 0:
        return int(amount)
    count = round(amount * n)
    if count == 0:
        raise ValueError(f"a share of {amount} of {n} examples is none; hold out more.")
    return count


def _quotas(available: np.ndarray, count: int) -> np.ndarray:
    """How many of each class to hold out: proportional, adding up to `count`, below what the class has."""
    most = np.maximum(available - 1, 0)
    exact = count * available / max(available.sum(), 1)
    quotas = np.minimum(exact.astype(int), most)
    while (missing := count - quotas.sum()) > 0:
        free = np.flatnonzero(quotas < most)
        nearest = free[np.argsort((quotas - exact)[free], kind="stable")][:missing]
        quotas[nearest] += 1
    return quotas


def _rank_within_class(labels: np.ndarray, seed: int, stream: int) -> np.ndarray:
    """For every example its place in a random order of its class; int [n]."""
    ranks = np.empty(len(labels), np.int64)
    order = shuffled(len(labels), seed, stream)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        ranks[members] = np.arange(len(members))
    return ranks
