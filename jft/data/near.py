"""Finds images that look almost alike, by their perceptual hashes (`jft.data.looks`)."""

import dataclasses
import os
from concurrent import futures

import numpy as np

from jft.data import looks

# Bits of 255 that may differ, by benchmarks/near_copies.py on training images. Of 211,540 pairs of different photos the
# nearest differ in 80 bits; of 13 million pairs of CIFAR-10 in 58, but for three copies; of 9 million pairs of frames
# of different GTSRB tracks 4 differ in 32 or fewer. Of copies of photos that are half as large, mirrored, brighter or
# saved as JPEG all are within 32, of those that lost up to 2 % on each side 93 %, up to 5 % only 10 %.
MOST_BITS = 32

_MOST_IN_CORE = 12  # of the 63 bits of the first word; tested first, because it excludes nearly all pairs
MOST_PAIRS = 4 * 10**8  # compared in one search, a few seconds
_BLOCK = 2**21  # pairs at a time, which stay in the processor's cache


@dataclasses.dataclass(frozen=True)
class Matches:
    """For each of m images the one that looks most like it, if one looks almost alike.

    Attributes:
      row: int64 [m], its row among those searched; -1: none.
      bits: int64 [m], bits in which the hashes differ, 0 .. `MOST_BITS`.
      flipped: bool [m], whether it is its mirror image.
      grouped: number of images for which there is one of the same group.
      searched: number of images that were searched; fewer than there are where these are too many.
    """

    row: np.ndarray
    bits: np.ndarray
    flipped: np.ndarray
    grouped: int
    searched: int


def find(
    hashes: np.ndarray,
    known: np.ndarray | None = None,
    *,
    groups: np.ndarray | None = None,
) -> Matches:
    """Finds the nearest image that looks almost alike, mirrored or not.

    Args:
      hashes: uint64 [m, 4], of the images.
      known: uint64 [n, 4], of the images that are searched; None: the earlier ones among `hashes`.
      groups: int [m], where `known` is None: images of one group, such as frames of one track, do not count; None: each
        image is a group of its own.

    Returns:
      The nearest of each image; of equally near ones the first. Where there are more than `MOST_PAIRS` pairs, only
      images spread evenly over the `known` are searched.
    """
    own = known is None
    known = hashes if own else known
    step = max(1, -(-len(hashes) * len(known) // MOST_PAIRS))
    rows = np.flatnonzero(known.any(axis=1))
    rows = rows[::step] if step > 1 else rows
    asked = np.flatnonzero(hashes.any(axis=1))
    core = np.ascontiguousarray(known[rows, 0])
    size = max(1, _BLOCK // max(1, len(rows)))
    best = np.full(len(hashes), (MOST_BITS + 1) * 2 * (len(known) + 1), np.int64)  # bits, then mirrored, then row
    grouped = np.zeros(len(hashes), bool)

    def search(part: np.ndarray) -> None:
        for turned in (0, 1):
            queries = looks.mirrored(hashes[part]) if turned else hashes[part]
            reach = rows[: np.searchsorted(rows, part[-1])] if own else rows
            i, j = np.nonzero(np.bitwise_count(queries[:, :1] ^ core[: len(reach)]) <= _MOST_IN_CORE)
            image, other, bits = part[i], rows[j], looks.distance(queries[i], known[rows[j]])
            counts = bits <= MOST_BITS
            if own:
                counts &= other < image
                if groups is not None:
                    same = groups[image] == groups[other]
                    grouped[image[counts & same]] = True
                    counts &= ~same
            np.minimum.at(best, image[counts], ((bits * 2 + turned) * (len(known) + 1) + other)[counts])

    with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(search, (asked[start : start + size] for start in range(0, len(asked), size))))
    order, row = np.divmod(best, len(known) + 1)
    bits, flipped = np.divmod(order, 2)
    found = bits <= MOST_BITS
    return Matches(
        np.where(found, row, -1), np.where(found, bits, 0), found & (flipped > 0), int(grouped.sum()), len(rows)
    )
