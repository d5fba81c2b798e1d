"""Metrics and times between two log lines, and the NaN/inf check."""

import itertools
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jft.metrics import masked_sums
from jft.training.phases import Phase, in_force
from jft.training.run import Run
from jft.training.step import TrainState
from jft.utils import tree
from jft.utils.fingerprint import combined, fingerprints


class NonFiniteLossError(ValueError):
    """The loss, the gradient, a parameter or a statistic became NaN or infinite, or the gradient norm spiked.

    Attributes:
      step: the first step at fault.
      fault: what is wrong, for people; names the step.
      remedy: what to do about it.
    """

    def __init__(self, step: int, fault: str, remedy: str) -> None:
        super().__init__(f"{fault}: {remedy}")
        self.step, self.fault, self.remedy = step, fault, remedy


_LOGGED = ("objective", "correct", "count", "grad_norm")  # sums of the steps; the rate is the last step's


class Window:
    """Metrics and times of the steps since the last line of the log."""

    def __init__(self, run: Run, phase: Phase, state: TrainState, saved: Mapping[str, Any]) -> None:
        """Continues from the sums that an interrupted run saved with `save`; {} for none."""
        self._run, self._phase = run, phase
        self._in_force = in_force(phase, state.variables)
        sums = {name: np.float64(saved[name]) for name in _LOGGED if name in saved}
        self._total: masked_sums.Sums | None = sums or None
        self._rate = saved.get(
            "learning_rate"
        )  # of the last step in it; none of an empty one or a rate of the optimizer's own
        self._pending: list[tuple[int, Any, int]] = []
        self.restart()

    def restart(self) -> None:
        """Restarts the clock, such as after an evaluation."""
        self._start, self._waited, self._steps = time.perf_counter(), 0.0, 0

    def wait_for(self, batches: Iterator) -> Any:
        """The next batch; counts the time spent waiting for it."""
        start = time.perf_counter()
        batch = next(batches)
        self._waited += time.perf_counter() - start
        return batch

    def add(self, step: int, sums: masked_sums.Sums, stretch: int = 0) -> None:
        """Adds the sums of a step, which the device may still be computing.

        Args:
          step: its number.
          sums: from the training step; with `'finite'` if every step checks it.
          stretch: of as many steps up to this one, each sum is an array of one number a step or more; 0: of this one.
        """
        self._pending.append((step, sums, stretch))
        self._steps += stretch or 1
        # At most two steps in the queue: more would blur the timing and keep their batches in memory.
        if len(self._pending) > 2:
            jax.block_until_ready(self._pending[-3][1])

    def check(self) -> None:
        """Fetches pending sums; raises a NonFiniteLossError naming the first step at fault."""
        for step, sums in itertools.chain.from_iterable(itertools.starmap(_each, self._pending)):
            if fault := _fault(step, sums, self._run.config.spike_norm):
                raise NonFiniteLossError(step, fault, _remedy(self._phase, step))
            self._total = masked_sums.add(self._total, {name: sums[name] for name in _LOGGED})
            self._rate = float(sums["learning_rate"]) if "learning_rate" in sums else None
        self._pending.clear()

    def save(self) -> dict[str, float]:
        """The sums of an unfinished window for a checkpoint, so that its log line is complete after a resume."""
        self.check()
        if not self._total:
            return {}
        return {**{name: float(self._total[name]) for name in _LOGGED}, **self._rate_told()}

    def _rate_told(self) -> dict[str, float]:
        return {} if self._rate is None else {"learning_rate": self._rate}

    def close(self, step: int, state: TrainState) -> dict[str, float | str] | None:
        """Ends the window: returns the means to log and the fingerprint of trainable parameters and statistics.

        None if all of its steps were skipped.
        """
        self.check()
        if self._total is None:
            self.restart()
            return None
        seconds = time.perf_counter() - self._start
        total = self._total
        count = float(total["count"])
        values = {
            "epoch": round(step / self._run.steps_per_epoch, 4),
            "loss": float(total["objective"]) / count,
            "accuracy": float(total["correct"]) / count,
            "grad_norm": float(total["grad_norm"]) * self._run.config.batch_size / count,
            **self._rate_told(),
            "images_per_second": self._steps * self._run.config.batch_size / seconds,
            "waiting": self._waited / seconds,
            "seconds": seconds,
            "parameters": combined(fingerprints((self._phase.plan.split(state.params)[0], state.batch_stats))),
            **self._in_force,
        }
        self._total = None
        self.restart()
        return values


def check_finite(phase: Phase, step: int, state: TrainState) -> None:
    """Raises a NonFiniteLossError unless all trainable values are finite: an update can overflow with a finite loss."""
    finite = {name: _is_finite(leaf) for name, leaf in _moving(phase, state).items()}
    for name, is_finite in finite.items():
        if not is_finite:
            raise NonFiniteLossError(step, f"{name} is not finite after step {step}", _remedy(phase, step))


def all_finite(phase: Phase, state: TrainState) -> jax.Array:
    """Whether all trainable parameters and statistics are finite: bool scalar, possibly still being computed."""
    return _are_finite(_moving(phase, state))


def _moving(phase: Phase, state: TrainState) -> dict[str, jax.Array]:
    """Trainable parameters and statistics by name; the names of the two do not overlap."""
    return {**tree.flatten(phase.plan.split(state.params)[0]), **tree.flatten(state.batch_stats)}


@jax.jit
def _is_finite(leaf: jax.Array) -> jax.Array:
    return jnp.isfinite(leaf).all()


@jax.jit
def _are_finite(leaves: dict[str, jax.Array]) -> jax.Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves.values()]).all()


def _each(last: int, sums: masked_sums.Sums, stretch: int) -> Iterator[tuple[int, masked_sums.Sums]]:
    """The number and the sums of each step."""
    if not stretch:
        yield last, sums
        return
    fetched = {name: np.asarray(values) for name, values in sums.items()}
    for place in range(stretch):
        yield last - stretch + 1 + place, {name: values[place] for name, values in fetched.items()}


def _fault(step: int, sums: masked_sums.Sums, spike_norm: float) -> str:
    """The fault of a step, or ''."""
    for name, called in (("objective", "loss"), ("grad_norm", "gradient norm")):
        if not np.isfinite(sums[name]):
            return f"the {called} of step {step} is {float(sums[name])}"
    if not sums.get("finite", True):
        return f"the parameters or statistics are not finite after step {step}"
    if spike_norm and sums["grad_norm"] > spike_norm:
        return f"the gradient norm of step {step} is {float(sums['grad_norm']):.4g}, above spike_norm = {spike_norm:g}"
    return ""


def _remedy(phase: Phase, step: int) -> str:
    rate = "" if phase.schedule is None else f" ({float(np.asarray(phase.schedule(step - 1))):.3g})"
    return (
        f"lower the learning rate{rate}, set clip_norm, or skip such steps with on_nan = 'rollback'. "
        "Earlier checkpoints are intact."
    )
