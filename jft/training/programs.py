"""The training steps of a run, compiled before the first one is taken, and how many micro-batches they need to fit."""

import bisect
import dataclasses
import functools
from collections.abc import Mapping

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
    """A batch like those of each phase that is not over at `step`, by the phases' first steps.

    The first to be read of images decodes all of them, where they are kept in memory.

    Raises:
      ValueError: images that cannot be read, or of another range than the weights'.
    """
    ahead = [phase for phase in run.phases if phase.last > step]
    images = None  # read only where a phase needs them
    if not all(decisions[phase.first].use for phase in ahead):
        images = next(image_batches(run, step, step + 1))
        transforms.check_range(images["image"], run.spec)
    return {phase.first: feature_cache.example(run, phase) if decisions[phase.first].use else images for phase in ahead}


def compile_ahead(run: Run, examples: Mapping[int, dict[str, np.ndarray]]) -> dict[int, jax.stages.Compiled]:
    """The training steps of the phases of which there are `examples_ahead`, by the phases' first steps."""
    phases = {phase.first: phase for phase in run.phases}
    return {first: compile_train_step(run, phases[first], batch) for first, batch in examples.items()}


def compile_train_step(run: Run, phase: Phase, batch: dict[str, np.ndarray]) -> jax.stages.Compiled:
    """A phase's training step, compiled for batches like `batch`; it takes the state's memory.

    The run knows its micro-batches: see `fitted` where they are yet to be chosen.
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
        accumulate=run.accumulate,
        axis_name=run.parallel.axis_name,
    )
    state = abstract_state(run, phase)
    return run.parallel.compile(step, state, run.parallel.place_batch(on_device(batch)), donate=True)


def fitted(run: Run, examples: Mapping[int, dict[str, np.ndarray]]) -> tuple[Run, dict[int, jax.stages.Compiled], str]:
    """Chooses the micro-batches of `accumulate = 'auto'`: the fewest with which every phase's step fits the devices.

    What a step takes is what XLA says of the compiled program. The figures are those of the whole batch (see
    `make_train_step`); where they would not be, for a BatchNorm that moves, more than one is refused.

    Args:
      run: whose `accumulate` is None.
      examples: from `examples_ahead`, of all phases.

    Returns:
      The run that knows its `accumulate`, the steps by their phases' first steps, and what to say.

    Raises:
      ValueError: not even one image on each device fits, or a BatchNorm would normalize by micro-batches.
    """
    limit, size, devices = memory.usable(run.parallel), run.config.batch_size, run.parallel.mesh.size
    possible = [parts for parts in range(1, size // devices + 1) if size % (parts * devices) == 0]
    compiled: dict[int, dict[int, jax.stages.Compiled]] = {}
    needed: dict[int, int] = {}

    def fits(parts: int) -> bool:
        chosen = dataclasses.replace(run, accumulate=parts)
        try:
            compiled[parts] = compile_ahead(chosen, examples)
        except jax.errors.JaxRuntimeError as error:  # some compilers know the limit themselves
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            return False
        needed[parts] = max(map(memory.program_bytes, compiled[parts].values()))
        return limit is None or needed[parts] <= limit

    # A program of more and smaller micro-batches never takes more, so that few of them need be compiled.
    at = 0 if fits(1) else bisect.bisect_left(possible, True, 1, key=fits)
    if at == len(possible):
        least = human_bytes(needed[possible[-1]]) if possible[-1] in needed else "more"
        raise ValueError(
            f"a step of batch_size = {size} does not fit: with one image at a time on each device it takes {least}, "
            f"and {human_bytes(limit)} are to be had. Freeze more stages, or lower image_size."
        )
    parts = possible[at]
    told = f"{size // parts} images at a time, {human_bytes(needed[parts])} on each device"
    told += f" of {human_bytes(limit)} to be had" if limit is not None else ", which does not say what it has"
    if moving := [phase.name for phase in run.phases if parts > 1 and _norms_move(run, phase)]:
        raise ValueError(
            f"accumulate = 'auto' would take {parts} micro-batches ({told}), and the BatchNorms that move in "
            f"{', '.join(moving)} would normalize by {size // parts} images, not {size}: other figures. Set "
            f"accumulate = {parts} if they may, or batch_norm = 'frozen', or a smaller batch_size."
        )
    chosen = dataclasses.replace(run, accumulate=parts)
    return chosen, compiled[parts], f"accumulate = 'auto' takes {parts}: {told}"


def _norms_move(run: Run, phase: Phase) -> bool:
    """Whether a BatchNorm reads the batch's own statistics in a phase."""
    return in_force(phase, abstract_variables(run.model, run.spec.size))["batch_norm"] in ("trained", "statistics")
