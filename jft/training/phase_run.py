"""A phase as it is carried out: where its features come from, an example of its batches, and its compiled step."""

import dataclasses
from typing import Any

import jax
import numpy as np

from jft.training.phases import Phase


@dataclasses.dataclass(frozen=True)
class PhaseRun:
    """A phase of a run and everything that is known of how it will be trained.

    `feature_cache.decide` makes one for each phase that is not over, in order; `programs` adds example and step.

    Attributes:
      phase: the phase.
      cached: whether it reads cached features; False: it reads images, and computes the frozen stages at each step.
      why: which features are cached and where, or why none are, for people.
      example: a batch on the host, whose shapes its step is compiled for; None until `programs.with_examples`.
      stretch: the most steps that one call of `train_step` takes, see `stretches`; 1: it takes single steps.
      train_step: its compiled training step, which donates its input state; None until `programs.compiled`.
      step_seconds: measured seconds of a training step; None where it was not measured.
    """

    phase: Phase
    cached: bool
    why: str
    stretch: int = 1
    example: dict[str, np.ndarray] | None = None
    train_step: jax.stages.Compiled | None = None
    step_seconds: float | None = None

    def replace(self, **changes: Any) -> "PhaseRun":
        """A copy with other values of some attributes."""
        return dataclasses.replace(self, **changes)
