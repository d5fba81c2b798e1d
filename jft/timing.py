"""What a compiled program costs on this machine: seconds of a call, bytes and FLOPs on each device."""

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jft.run import Run
from jft.transfer.extract import make_feature_step


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a call takes.

    Attributes:
      seconds: the median of several calls.
      nbytes: on each device, see `device_bytes`.
      flops: on each device, as XLA counts them; loops count once, and so do micro-batches.
    """

    seconds: float
    nbytes: int
    flops: float


def measure(compiled: jax.stages.Compiled, call: Callable[[], Any], *, times: int = 3) -> Cost:
    """Calls a program once, to warm up, and then `times` times.

    Args:
      compiled: the program.
      call: calls it, and returns what is to be waited for.
      times: how many calls are timed.
    """
    jax.block_until_ready(call())
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        jax.block_until_ready(call())
        seconds.append(time.perf_counter() - start)
    return Cost(statistics.median(seconds), device_bytes(compiled), compiled.cost_analysis().get("flops", 0.0))


def device_bytes(compiled: jax.stages.Compiled) -> int:
    """Bytes that a program holds on each device: arguments, outputs that have not their memory, and temporaries."""
    found = compiled.memory_analysis()
    return (
        found.argument_size_in_bytes + found.output_size_in_bytes + found.temp_size_in_bytes - found.alias_size_in_bytes
    )


def forward_cost(run: Run, variables: Any, images: np.ndarray) -> Cost:
    """The cost of a forward pass, from pictures as the host hands them over to logits.

    Args:
      run: says how, and on which devices.
      variables: `{'params', 'batch_stats'}` on the devices.
      images: uint8 [batch, h, w, 3], a batch that the devices divide.
    """
    step = make_feature_step(
        run.model,
        run.spec,
        boundary="head",
        pooled=False,
        fit=run.config.fit,
        augmentation=None,
        axis_name=run.parallel.axis_name,
    )
    placed = run.parallel.place_batch({"image": images})
    compiled = run.parallel.compile(step, variables, placed, donate=False)
    return measure(compiled, lambda: compiled(variables, placed))
