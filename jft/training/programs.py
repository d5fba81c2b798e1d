"""Compiles the training steps of a run before the first step, and chooses the number of micro-batches to fit memory."""

import bisect
import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jft.data import transforms
from jft.data.augment import make_train_transform
from jft.data.mixup import mix
from jft.models import abstract_variables
from jft.training import feature_cache
from jft.training.batches import image_batches, on_device
from jft.training.feature_cache import Decision
from jft.training.phases import Phase, in_force
from jft.training.run import Run
from jft.training.state import abstract_state
from jft.training.step import Input, make_train_step
from jft.utils import memory
from jft.utils.text import human_bytes


def examples_ahead(run: Run, step: int, decisions: Mapping[int, Decision]) -> dict[int, dict[str, np.ndarray]]:
    """An example batch for each phase that is not over at `step`, by the phase's first step.

    If images are cached in memory, reading the first batch decodes all of them.

    Raises:
      ValueError: an image cannot be read, or the range of gray levels does not fit the weights.
    """
    ahead = [phase for phase in run.phases if phase.last > step]
    images: Any = None  # read only where a phase needs them
    if not all(decisions[phase.first].use for phase in ahead):
        images = next(image_batches(run, step, step + 1))
        transforms.check_range(images["image"], run.spec)
    return {phase.first: feature_cache.example(run, phase) if decisions[phase.first].use else images for phase in ahead}


def compile_ahead(run: Run, examples: Mapping[int, dict[str, np.ndarray]]) -> dict[int, jax.stages.Compiled]:
    """Compiles the training steps of the phases in `examples`, by the phase's first step."""
    phases = {phase.first: phase for phase in run.phases}
    return {first: compile_train_step(run, phases[first], batch) for first, batch in examples.items()}


def compile_train_step(run: Run, phase: Phase, batch: dict[str, np.ndarray]) -> jax.stages.Compiled:
    """Compiles a phase's training step for batches like `batch`; the step donates its input state.

    `run.accumulate` must be known; see `fitted` to choose it.
    """
    config = run.config
    mixes = config.mixup or config.cutmix
    step = make_train_step(
        run.model,
        phase.plan,
        phase.tx,
        schedule=phase.schedule,
        objective=run.objective,
        inputs=Input(
            transform=make_train_transform(run.spec, fit=config.fit, augmentation=run.augmentation),
            draw=functools.partial(run.augmentation.draw, fit=config.fit),
            mix=functools.partial(mix, mixup=config.mixup, cutmix=config.cutmix) if mixes else None,
        ),
        seed=config.seed,
        ema=config.ema,
        accumulate=run.accumulate or 1,
        axis_name=run.parallel.axis_name,
    )
    state = abstract_state(run, phase)
    return run.parallel.compile(step, state, run.parallel.place_batch(on_device(batch)), donate=True)


def fitted(run: Run, examples: Mapping[int, dict[str, np.ndarray]]) -> tuple[Run, dict[int, jax.stages.Compiled], str]:
    """Chooses the micro-batches of `accumulate = 'auto'`: the fewest with which the steps of all phases fit in memory.

    The memory of a step is what XLA reports for the compiled program. Results do not depend on the number of
    micro-batches (see `make_train_step`), except for BatchNorms with batch statistics; for these, more than one is
    refused.

    Args:
      run: a run whose `accumulate` is None.
      examples: from `examples_ahead`, of all phases.

    Returns:
      The run with its `accumulate`, the compiled steps by their phases' first steps, and a message for the log.

    Raises:
      ValueError: not even one image per device fits, or a BatchNorm would normalize by micro-batches.
    """
    limit, size, devices = memory.usable(run.parallel), run.config.batch_size, run.parallel.mesh.size
    possible = [parts for parts in range(1, size // devices + 1) if size % (parts * devices) == 0]
    compiled: dict[int, dict[int, jax.stages.Compiled]] = {}
    needed: dict[int, int] = {}

    def fits(parts: int) -> bool:
        chosen = dataclasses.replace(run, accumulate=parts)
        try:
            compiled[parts] = compile_ahead(chosen, examples)
        except jax.errors.JaxRuntimeError as error:  # some backends refuse to compile programs that do not fit
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            return False
        needed[parts] = max(map(memory.program_bytes, compiled[parts].values()))
        return limit is None or needed[parts] <= limit

    # More, smaller micro-batches never take more memory, so a binary search compiles few programs.
    at = 0 if fits(1) else bisect.bisect_left(possible, True, 1, key=fits)
    if at == len(possible):
        takes = human_bytes(needed[possible[-1]]) if possible[-1] in needed else "more"
        against = " than the device has" if limit is None else f", and {human_bytes(limit)} are available"
        raise ValueError(
            f"a step of batch_size = {size} does not fit in memory: with one image at a time per device it takes "
            f"{takes}{against}. Freeze more stages, or lower image_size."
        )
    parts = possible[at]
    text = f"{size // parts} images at a time, {human_bytes(needed[parts])} per device"
    text += f" of {human_bytes(limit)} available" if limit is not None else ", which does not report its memory"
    if moving := [phase.name for phase in run.phases if parts > 1 and _norms_move(run, phase)]:
        raise ValueError(
            f"accumulate = 'auto' needs {parts} micro-batches ({text}), and the trainable BatchNorms in "
            f"{', '.join(moving)} would normalize by {size // parts} images instead of {size}, which changes the "
            f"results. Set accumulate = {parts} to accept that, or batch_norm = 'frozen', or a smaller batch_size."
        )
    chosen = dataclasses.replace(run, accumulate=parts)
    return chosen, compiled[parts], f"accumulate = 'auto' uses {parts}: {text}"


def _norms_move(run: Run, phase: Phase) -> bool:
    """Whether a BatchNorm normalizes by the batch's own statistics in a phase."""
    return in_force(phase, abstract_variables(run.model, run.spec.size))["batch_norm"] in ("trained", "statistics")
