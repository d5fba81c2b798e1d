"""`Linear`, the head that every solver ends with: a plain affine map of raw features."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from jft.features.standard import Standard


@dataclasses.dataclass(frozen=True, eq=False)
class Linear:
    """A head: `features @ kernel + bias`.

    Attributes:
      kernel: float32 [d, outputs].
      bias: float32 [outputs].
    """

    kernel: np.ndarray
    bias: np.ndarray

    def __repr__(self) -> str:
        return f"Linear({self.kernel.shape[0]} features, {self.kernel.shape[1]} outputs)"

    def logits(self, features: np.ndarray) -> np.ndarray:
        """float32 [n, outputs] of features [n, d]."""
        return np.asarray(features, np.float32) @ self.kernel + self.bias

    def divided(self, temperature: float) -> "Linear":
        """The head whose logits are these divided by a temperature."""
        return Linear(self.kernel / np.float32(temperature), self.bias / np.float32(temperature))


def folded(standard: Standard, kernel: Any, bias: Any) -> Linear:
    """The head over raw features that equals one over standardized features: kernel [d, outputs], bias [outputs]."""
    kernel = np.asarray(kernel, np.float64) / standard.deviation[:, None]
    bias = np.asarray(bias, np.float64) - standard.mean @ kernel
    return Linear(kernel.astype(np.float32), bias.astype(np.float32))


def check_strengths(regularization: Sequence[float]) -> None:
    """ValueError unless all are inverse strengths C."""
    if wrong := [c for c in regularization if not 0 < c < np.inf]:
        raise ValueError(
            f"regularization has {listed(wrong)}, but an inverse strength C is a finite number above 0: give such, as "
            "0.01; larger ones regularize less."
        )


def listed(values: Sequence[float]) -> str:
    """'0.01, 0.1'."""
    return ", ".join(f"{value:g}" for value in values)
