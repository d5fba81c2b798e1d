"""Means and deviations of features in memory, and the features standardized by them, a block of rows at a time."""

import dataclasses
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

_BLOCK = 2**18  # numbers that one thread holds at a time: they stay in its cache
# Of the median deviation: a column that hardly varies in training is divided by no less. By its own deviation a value
# that is usual elsewhere would weigh thousands of times as much, and make a probability 0 or 1.
_FLOOR = 0.01
_FEW = 32  # rows whose medians are near enough to the means
_ALIGNED = 64  # bytes: what starts at a multiple of it is placed on a CPU device without a copy


@dataclasses.dataclass(frozen=True, eq=False)
class Standard:
    """Means and standard deviations of features, float64 [d], which are numbers of one kind: those of one layer.

    A deviation is at least `_FLOOR` of the columns' median one. That of a constant column is put at infinity: it
    becomes exactly 0, and its row of the kernel too.
    """

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, dtype: Any = np.float64) -> "Standard":
        """Those of x [n, d]. Blocks are summed in `dtype` or x's, whichever is wider, and these sums in float64.

        The means are rounded to `dtype`, so that it can subtract exactly what `mean` says.
        """
        # Sums are taken of differences from a usual value, so that they are small, and of a constant column exactly 0.
        few = np.sort(x[:: max(1, len(x) // _FEW)], 0)
        usual = few[len(few) // 2]
        shift, squares = _sums(x, usual, np.result_type(x.dtype, dtype)) / len(x)
        if not np.isfinite(squares).all():  # squares of more than float32 holds
            shift, squares = _sums(x, usual, np.float64) / len(x)
        varies, deviation = squares > 0, np.sqrt(np.maximum(squares - shift**2, 0))
        floor = _FLOOR * np.median(deviation[varies]) if varies.any() else 0.0
        mean = (usual + shift).astype(dtype).astype(np.float64)
        return cls(mean, np.where(varies, np.maximum(deviation, floor), np.inf))

    def at(self, columns: slice) -> "Standard":
        """Those of some of the columns."""
        return Standard(self.mean[columns], self.deviation[columns])

    def apply(self, x: np.ndarray, dtype: Any) -> np.ndarray:
        """(x - mean) / deviation, `dtype` [n, d]; computed in it, or in float64 where x is."""
        z = _empty(x.shape, dtype)
        wide = np.result_type(x.dtype, dtype)
        mean, scale = self.mean.astype(wide), (1 / self.deviation).astype(wide)

        def fill(rows: slice) -> None:
            centered = np.subtract(x[rows], mean, dtype=wide, out=z[rows] if wide == z.dtype else None)
            np.multiply(centered, scale, out=z[rows], casting="same_kind")

        for _ in _each_block(fill, (len(x), x.shape[1])):
            pass
        return z


def _sums(x: np.ndarray, origin: np.ndarray, dtype: Any) -> np.ndarray:
    """Of x - origin and of its squares, float64 [2, d]."""

    def sums(rows: slice) -> np.ndarray:
        y = np.subtract(x[rows], origin, dtype=dtype)
        return np.stack([y.sum(0), np.einsum("ij,ij->j", y, y)]).astype(np.float64)

    with np.errstate(over="ignore", invalid="ignore"):
        return np.sum(list(_each_block(sums, (len(x), x.shape[1]))), 0)


def _each_block(function: Callable[[slice], Any], shape: tuple[int, int]) -> Iterator[Any]:
    """What a function gives for each block of rows, by threads, but in the rows' order: sums keep their bits."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(function, slices(*shape, _BLOCK))


def _empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array that begins at a multiple of `_ALIGNED`."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.empty(size + _ALIGNED, np.uint8)
    start = -memory.ctypes.data % _ALIGNED
    return memory[start : start + size].view(dtype).reshape(shape)


def slices(length: int, width: int, block: int) -> Iterator[slice]:
    """Slices over `length` of blocks that are `width` wide and hold about `block` numbers each."""
    step = max(1, block // width)
    return (slice(i, i + step) for i in range(0, length, step))
