"""Measures programs and checkpoints on this machine: seconds, and the memory and FLOPs of a program per device."""

import contextlib
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jft.data.feeds.feed import on_device
from jft.features.feature_step import Wanted, make_feature_step
from jft.training.phase_run import PhaseRun
from jft.training.programs import compile_train_step
from jft.training.run import Run
from jft.training.state import enter_phase, optimizer_items
from jft.training.step import TrainState
from jft.utils import waiting
from jft.utils.checkpoint import Checkpoints
from jft.utils.memory import program_bytes

_TIMES = 3


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of a compiled program.

    Attributes:
      compilation: seconds to compile it.
      seconds: seconds of a call, the median of several.
      nbytes: memory per device, see `memory.program_bytes`.
      flops: FLOPs per device, as XLA counts them: a loop, such as that over micro-batches, counts once.
    """

    compilation: float
    seconds: float
    nbytes: int
    flops: float


@waiting.during("timing the forward pass")
def forward_cost(run: Run, variables: Any, images: np.ndarray) -> Cost:
    """Measures a forward pass from decoded images to logits.

    Args:
      run: names model, preprocessing and devices.
      variables: `{'params', 'batch_stats'}` on the devices.
      images: uint8 [batch, h, w, 3]; the number of devices divides the batch.
    """
    wanted = Wanted("head", pooled=False, fit=run.config.fit)
    step = make_feature_step(run.model, run.spec, wanted, axis_name=run.parallel.axis_name)
    placed = run.parallel.place_batch({"image": images})
    start = time.perf_counter()
    compiled = run.parallel.compile(step, variables, placed, donate=False)
    compilation = time.perf_counter() - start
    return _cost(compiled, compilation, lambda: compiled(variables, placed))


@waiting.during("timing the training step")
def step_cost(run: Run, one: PhaseRun, state: TrainState) -> tuple[Cost, dict[str, jax.Array]]:
    """Measures a training step; returns its cost and the metrics of the last of a few steps on its example batch.

    Args:
      run: names model, preprocessing and devices.
      one: the phase, with an example.
      state: the initial state of the phase, on the host; it is not changed.
    """
    phase, batch, start = one.phase, one.example, time.perf_counter()
    assert batch is not None  # see `programs.with_examples`
    compiled = compile_train_step(run, phase, batch)
    compilation = time.perf_counter() - start
    placed = run.parallel.place_batch(on_device(batch))
    # A copy, because the step donates its input.
    current = enter_phase(run, phase, run.parallel.place_state(jax.tree.map(np.array, state)))
    current = current.replace(step=run.parallel.place_state(np.int32(phase.first)))
    metrics: dict[str, jax.Array] = {}

    def call() -> dict[str, jax.Array]:
        nonlocal current, metrics
        current, metrics = compiled(current, placed)
        return metrics

    cost = _cost(compiled, compilation, call)
    return cost, metrics


def save_seconds(state: TrainState, place: Path) -> float:
    """Seconds to write a checkpoint of the state, measured in a temporary folder in `place`."""
    with (
        tempfile.TemporaryDirectory(prefix=".jft-", dir=place) as folder,
        contextlib.closing(Checkpoints(folder)) as checkpoints,
    ):
        for step in (1, 2):  # the first to warm up
            start = time.perf_counter()
            checkpoints.save(step, state.variables, optimizer_items(state), {})
            checkpoints.wait()
        return time.perf_counter() - start


def _cost(compiled: jax.stages.Compiled, compilation: float, call: Callable[[], Any]) -> Cost:
    """Measures a program through `call`, which runs it and returns its outputs."""
    jax.block_until_ready(call())  # to warm up
    seconds = []
    for _ in range(_TIMES):
        start = time.perf_counter()
        jax.block_until_ready(call())
        seconds.append(time.perf_counter() - start)
    flops = (compiled.cost_analysis() or {}).get("flops", 0.0)
    return Cost(compilation, statistics.median(seconds), program_bytes(compiled), flops)
