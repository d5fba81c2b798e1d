"""Learning-rate range test: a rate that rises at each step, and what the loss does (Smith, 2017).

https://arxiv.org/abs/1506.01186, section 3.3; with an exponential rise, the smoothing, the early end and the two
suggestions of fastai's `lr_find` (fastai/callback/schedule.py): the rate at which the loss falls most steeply, and a
tenth of that at which it is smallest.
"""

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jft.data.feeds.feed import on_device
from jft.data.feeds.images import Batch
from jft.models import abstract_variables
from jft.training import programs
from jft.training.batches import image_batches
from jft.training.phase_run import PhaseRun
from jft.training.phases import Phase, in_force
from jft.training.run import Run
from jft.training.state import enter_phase, fresh_state
from jft.utils import distributed, waiting

STEPS = 100  # at most
LOWEST, HIGHEST = 1e-7, 10.0
_SMOOTHING = 0.98  # decay of the average of losses
_DIVERGED = 4.0  # times the smallest smoothed loss; the test ends
_SKIPPED = 10  # of the steps at the start, at most a tenth, and 5 at the end say nothing about steepness


@dataclasses.dataclass(frozen=True)
class RateTest:
    """The result of a range test.

    Attributes:
      phase: name of the phase that was tested.
      rates: learning rate of each step.
      losses: objective of each step's batch before the step, in nats.
      smoothed: average of the losses up to each step, see `smooth`.
      ended: why it ended before all steps; '' if it did not.
    """

    phase: str
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    ended: str

    @property
    def steepest(self) -> float | None:
        """The rate at which the smoothed loss falls most steeply by log rate; None if it falls nowhere."""
        first, last = len(self.rates) // _SKIPPED, len(self.rates) - 5
        if last - first < 2:
            return None
        slopes = np.diff(self.smoothed[first:last]) / np.diff(np.log(self.rates[first:last]))
        least = int(np.argmin(slopes))
        return self.rates[first + least] if slopes[least] < 0 else None

    @property
    def tenth_of_minimum(self) -> float | None:
        """A tenth of the rate with the smallest smoothed loss; None if that is the first."""
        least = int(np.argmin(self.smoothed))
        return self.rates[least] / 10 if least else None

    def told(self) -> str:
        """The suggestions, in a sentence."""
        if self.steepest is None and self.tenth_of_minimum is None:
            return "The loss falls at none of these rates: look at the images and the weights by `jft check`."
        if self.steepest is None:
            return (
                f"A tenth of the rate with the smallest loss is {self.tenth_of_minimum:.2g}; these steps do not show "
                "where the loss falls most steeply."
            )
        if self.tenth_of_minimum is None:
            return (
                f"The loss falls most steeply at {self.steepest:.2g}, but is smallest at the first rate: look at the "
                "curve before you take that rate."
            )
        return (
            f"The loss falls most steeply at {self.steepest:.2g}, and a tenth of the rate with the smallest loss is "
            f"{self.tenth_of_minimum:.2g}: a learning_rate from {min(self.steepest, self.tenth_of_minimum):.2g} to "
            f"{max(self.steepest, self.tenth_of_minimum):.2g} will do."
        )

    def table(self, lines: int = 20) -> str:
        """Rates and smoothed losses in about as many lines, with bars between the smallest and the first loss."""
        rows = range(0, len(self.rates), max(1, len(self.rates) // lines))
        least, most = min(self.smoothed), max(self.smoothed[0], min(self.smoothed) + 1e-12)
        bars = [min(1.0, (self.smoothed[i] - least) / (most - least)) for i in rows]
        return "\n".join(
            f"{self.rates[i]:>9.2e}  {self.smoothed[i]:>8.4f}  {'#' * round(40 * bar)}"
            for i, bar in zip(rows, bars, strict=True)
        )


def rates(steps: int) -> tuple[float, ...]:
    """`steps` rates, 2 or more, from `LOWEST` to `HIGHEST`, each the same factor above the one before."""
    return tuple(LOWEST * (HIGHEST / LOWEST) ** (i / (steps - 1)) for i in range(steps))


def smooth(losses: Sequence[float]) -> tuple[float, ...]:
    """Exponential moving average, divided by the sum of its weights so far, so that the first is the loss."""
    average, found = 0.0, []
    for count, loss in enumerate(losses, 1):
        average = _SMOOTHING * average + (1 - _SMOOTHING) * loss
        found.append(average / (1 - _SMOOTHING**count))
    return tuple(found)


def phase_of(run: Run) -> Phase:
    """The phase to test: of those trained in steps the one with the most trainable parameters; of equals the last.

    Raises:
      ValueError: there is none, or its optimizer has its own rate.
    """
    trained = [phase for phase in run.phases if not phase.solved]
    if not trained:
        raise ValueError(f"solver = {run.config.solver!r} has no learning rate: leave --rate out.")
    shapes = abstract_variables(run.model, run.spec.size)
    phase = max(reversed(trained), key=lambda one: in_force(one, shapes)["learning"])
    if phase.schedule is None:
        raise ValueError(f"optimizer = {phase.config.optimizer!r} has its own learning rate: leave --rate out.")
    return phase


@waiting.during("testing learning rates")
def rate_test(run: Run, phase: Phase, steps: int = STEPS) -> RateTest:
    """Trains a copy of the initial state for some steps at rising rates; writes nothing.

    Each step takes the batch of the run's own order, with the phase's augmentation, optimizer and frozen stages, and
    computes these even if the run would cache them. A head that an earlier phase solves for is a fresh one here.

    Args:
      run: the run.
      phase: from `phase_of`.
      steps: number of steps, 2 to 100; the test ends before if the smoothed loss is 4 times its smallest, or if the
        loss is not finite.

    Returns:
      Rates and losses.
    """
    rising = rates(steps)
    phase = dataclasses.replace(phase, schedule=lambda step: jnp.asarray(rising, jnp.float32)[step])
    state, _ = fresh_state(run)
    state = enter_phase(run, phase, state)
    compiled, losses, ended = None, [], ""
    for batch in image_batches(run, 0, steps):
        if compiled is None:
            compiled = _compiled(run, phase, batch)
        state, sums = compiled(state, run.parallel.place_batch(on_device(batch)))
        loss = float(sums["objective"]) / float(sums["count"])
        if not math.isfinite(loss):
            ended = f"the loss is not finite at {rising[len(losses)]:.2g}"
            break
        losses.append(loss)
        smoothed = smooth(losses)
        if smoothed[-1] > _DIVERGED * min(smoothed):
            ended = f"the loss is {_DIVERGED:g} times its smallest at {rising[len(losses) - 1]:.2g}"
            break
    if not losses:
        raise ValueError("the loss of the first step is not finite: look at the images and the weights by `jft check`.")
    return RateTest(phase.name, rising[: len(losses)], tuple(losses), smooth(losses), ended)


def _compiled(run: Run, phase: Phase, batch: Batch) -> jax.stages.Compiled:
    """The phase's training step for batches like `batch`, in as many micro-batches as the run will take."""
    one = PhaseRun(phase, cached=False, why="the rate test reads images", example=batch)
    if run.accumulate is None:
        _, [one], message = programs.fitted(run, [one])
        distributed.say(message)
    else:
        [one] = programs.compiled(run, [one])
    assert one.train_step is not None  # see `phase_of`
    return one.train_step
