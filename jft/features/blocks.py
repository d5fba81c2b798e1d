"""A matrix of float64 that is computed a block at a time, and linear systems of its Gram matrix."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from jft.features.standard import slices

BLOCK = 2**24  # numbers of float64 held at a time beside the features
_ALL = slice(None)


@dataclasses.dataclass(frozen=True)
class Blocks:
    """A matrix W [n, d], of which parts are computed when they are needed.

    Attributes:
      shape: (n, d).
      part: function of (rows, columns), two slices, to float64 W[rows, columns].
    """

    shape: tuple[int, int]
    part: Callable[[slice, slice], np.ndarray]

    def from_left(self, b: np.ndarray) -> np.ndarray:
        """W' b, float64 [d, k], of b [n, k]."""
        n, d = self.shape
        return sum((self.part(rows, _ALL).T @ b[rows] for rows in slices(n, d, BLOCK)), np.zeros((d, b.shape[1])))

    def from_right(self, b: np.ndarray) -> np.ndarray:
        """W b, float64 [n, k], of b [d, k]."""
        return np.concatenate([self.part(rows, _ALL) @ b for rows in slices(*self.shape, BLOCK)])

    def gram(self) -> np.ndarray:
        """The smaller of W' W [d, d] and W W' [n, n]."""
        n, d = self.shape
        total = np.zeros((min(n, d), min(n, d)))
        if d <= n:
            for rows in slices(n, d, BLOCK):
                w = self.part(rows, _ALL)
                total += w.T @ w
        else:
            for columns in slices(d, n, BLOCK):
                w = self.part(_ALL, columns)
                total += w @ w.T
        return total


def solve_each(gram: np.ndarray, b: np.ndarray, added: Sequence[float]) -> list[np.ndarray]:
    """Solves (gram + a I) x = b for each a by Cholesky: at 2,048 a quarter of a second, where eigenvalues take five.

    Args:
      gram: float64 [r, r], positive semidefinite.
      b: float64 [r, k].
      added: each a, above 0.

    Returns:
      x [r, k] for each a; where a vanishes in rounding beside a singular Gram matrix, the smallest x.
    """
    from scipy import linalg

    def solve(a: float) -> np.ndarray:
        matrix = gram + a * np.eye(len(gram))
        try:
            return linalg.cho_solve(linalg.cho_factor(matrix, overwrite_a=False, check_finite=False), b)
        except linalg.LinAlgError:
            return np.linalg.lstsq(matrix, b)[0]

    return [solve(a) for a in added]
