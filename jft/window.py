"""Metrics and times between two lines of the log, and the watch that nothing became infinite."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jft import metrics, tree
from jft.fingerprint import combined, fingerprints
from jft.run import Run
from jft.steps import TrainState
from jft.transfer.phases import Phase, in_force


class NonFiniteLossError(ValueError):
    """The loss became infinite or not a number."""


_LOGGED = ("objective", "correct", "count", "grad_norm")  # sums of the steps; the rate is the last step's


class Window:
    """Metrics and times of the steps since the last line of the log."""

    def __init__(self, run: Run, phase: Phase, state: TrainState, saved: Mapping[str, Any]) -> None:
        """Goes on with what an interrupted run's window had summed up, from `save`; {} for none."""
        self._run, self._phase = run, phase
        self._in_force = in_force(phase, state.variables)
        self._total: metrics.Sums | None = {name: np.float64(value) for name, value in saved.items()} or None
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

    def add(self, step: int, sums: metrics.Sums) -> None:
        """Notes a step's sums, which the device may still be computing."""
        self._pending.append((step, sums))
        self._steps += 1
        # At most two steps in the queue: more would hide where the time goes and hold their batches in memory.
        if len(self._pending) > 2:
            jax.block_until_ready(self._pending[-3][1])

    def check(self) -> None:
        """Fetches what is pending; raises a NonFiniteLossError naming the first step whose loss is not finite."""
        for step, sums in self._pending:
            if not np.isfinite(sums["objective"]):
                raise NonFiniteLossError(
                    f"the loss of step {step} is {float(sums['objective'])}: {_remedy(self._phase, step)}"
                )
            self._total = metrics.add(self._total, {name: sums[name] for name in _LOGGED})
            self._last = step
            self._rate = float(sums["learning_rate"])
        self._pending.clear()

    def save(self) -> dict[str, float]:
        """What a checkpoint holds of a window that is not at its end, so that its line is whole after a resume."""
        self.check()
        return {name: float(self._total[name]) for name in _LOGGED} if self._total else {}

    def close(self, state: TrainState) -> dict[str, float | str]:
        """Means over the window, as logged, and the fingerprint of what has moved; then a new one begins."""
        self.check()
        seconds = time.perf_counter() - self._start
        total, step = self._total, self._last
        count = float(total["count"])
        values = {
            "epoch": round(step / self._run.steps_per_epoch, 4),
            "loss": float(total["objective"]) / count,
            "accuracy": float(total["correct"]) / count,
            "grad_norm": float(total["grad_norm"]) * self._run.config.batch_size / count,
            "learning_rate": self._rate,
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
    """Raises a NonFiniteLossError unless all learning leaves are finite; an update may break what its loss did not."""
    finite = {name: _is_finite(leaf) for name, leaf in tree.flatten(phase.plan.split(state.params)[0]).items()}
    for name, is_finite in finite.items():
        if not is_finite:
            raise NonFiniteLossError(f"{name} is not finite after step {step}: {_remedy(phase, step)}")


@jax.jit
def _is_finite(leaf: jax.Array) -> jax.Array:
    return jnp.isfinite(leaf).all()


def _remedy(phase: Phase, step: int) -> str:
    rate = float(phase.schedule(step - 1))
    return f"lower the learning rate ({rate:.3g}) or set clip_norm. Checkpoints before it are whole."
