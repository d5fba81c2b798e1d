"""Metrics and times between two lines of the log, and the check that all numbers are finite."""

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
    """The loss, the gradient or what moves became infinite or not a number, or the gradient spiked.

    Attributes:
      step: the first step of which that is known.
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
        """Goes on with what an interrupted run's window had summed up, from `save`; {} for none."""
        self._run, self._phase = run, phase
        self._in_force = in_force(phase, state.variables)
        sums = {name: np.float64(saved[name]) for name in _LOGGED if name in saved}
        self._total: masked_sums.Sums | None = sums or None
        self._rate = saved.get(
            "learning_rate"
        )  # of the last step in it; none of an empty one or a rate of the optimizer's own
        self._pending: list[tuple[int, Any]] = []
        self.restart()

    def restart(self) -> None:
        """Starts the clock anew, as after an evaluation."""
        self._start, self._waited, self._steps = time.perf_counter(), 0.0, 0

    def wait_for(self, batches: Iterator) -> Any:
        """The next batch, counting the time it takes to come."""
        start = time.perf_counter()
        batch = next(batches)
        self._waited += time.perf_counter() - start
        return batch

    def add(self, step: int, sums: masked_sums.Sums) -> None:
        """Notes a step's sums, which the device may still be computing; `'finite'` among them, where it is watched."""
        self._pending.append((step, sums))
        self._steps += 1
        # At most two steps in the queue: more would hide where the time goes and hold their batches in memory.
        if len(self._pending) > 2:
            jax.block_until_ready(self._pending[-3][1])

    def check(self) -> None:
        """Fetches what is pending; raises a NonFiniteLossError naming the first step that is at fault."""
        for step, sums in self._pending:
            if fault := _fault(step, sums, self._run.config.spike_norm):
                raise NonFiniteLossError(step, fault, _remedy(self._phase, step))
            self._total = masked_sums.add(self._total, {name: sums[name] for name in _LOGGED})
            self._rate = float(sums["learning_rate"]) if "learning_rate" in sums else None
        self._pending.clear()

    def save(self) -> dict[str, float]:
        """What a checkpoint holds of a window that is not at its end, so that its line is whole after a resume."""
        self.check()
        if not self._total:
            return {}
        return {**{name: float(self._total[name]) for name in _LOGGED}, **self._rate_told()}

    def _rate_told(self) -> dict[str, float]:
        return {} if self._rate is None else {"learning_rate": self._rate}

    def close(self, step: int, state: TrainState) -> dict[str, float | str] | None:
        """Means over the window, as logged, and the fingerprint of what has moved; then a new one begins.

        None where all of its steps are left out.
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
    """Raises a NonFiniteLossError unless all that moves is finite; an update may break what its loss did not."""
    finite = {name: _is_finite(leaf) for name, leaf in _moving(phase, state).items()}
    for name, is_finite in finite.items():
        if not is_finite:
            raise NonFiniteLossError(step, f"{name} is not finite after step {step}", _remedy(phase, step))


def all_finite(phase: Phase, state: TrainState) -> jax.Array:
    """bool scalar, which the device may still be computing: whether all that moves in a phase is finite."""
    return _are_finite(_moving(phase, state))


def _moving(phase: Phase, state: TrainState) -> dict[str, jax.Array]:
    """Learning parameters and statistics by name; a name such as 'conv/kernel' is in one of them alone."""
    return {**tree.flatten(phase.plan.split(state.params)[0]), **tree.flatten(state.batch_stats)}


@jax.jit
def _is_finite(leaf: jax.Array) -> jax.Array:
    return jnp.isfinite(leaf).all()


@jax.jit
def _are_finite(leaves: dict[str, jax.Array]) -> jax.Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves.values()]).all()


def _fault(step: int, sums: masked_sums.Sums, spike_norm: float) -> str:
    """What is wrong with a step, or ''."""
    for name, called in (("objective", "loss"), ("grad_norm", "gradient norm")):
        if not np.isfinite(sums[name]):
            return f"the {called} of step {step} is {float(sums[name])}"
    if not sums.get("finite", True):
        return f"the parameters or statistics are not finite after step {step}"
    if spike_norm and sums["grad_norm"] > spike_norm:
        return f"the gradient norm of step {step} is {float(sums['grad_norm']):.4g}, above spike_norm = {spike_norm:g}"
    return ""


def _remedy(phase: Phase, step: int) -> str:
    rate = "" if phase.schedule is None else f" ({float(phase.schedule(step - 1)):.3g})"
    return (
        f"lower the learning rate{rate}, set clip_norm, or go on without the images of such steps by on_nan = "
        "'rollback'. Checkpoints before it are whole."
    )
