"""Compiles the training steps of a run before the first step, and chooses the number of micro-batches to fit memory."""

import bisect
import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import numpy as np

from jft.data import transforms
from jft.data.augment import make_train_transform
from jft.data.feeds import resident
from jft.data.feeds.feed import on_device
from jft.data.mixup import mix
from jft.models import abstract_variables
from jft.training import feature_cache, l2_sp, stretches, taught
from jft.training.batches import image_batches, open_images
from jft.training.phase_run import PhaseRun
from jft.training.phases import Phase, in_force
from jft.training.run import Run
from jft.training.state import abstract_state
from jft.training.step import Input, make_train_step
from jft.utils import memory, tree
from jft.utils.text import human_bytes


def with_examples(
    run: Run, phases: Sequence[PhaseRun], step: int, images: dict[str, np.ndarray] | None = None
) -> tuple[PhaseRun, ...]:
    """The phases with an example batch each.

    Args:
      run: the run.
      phases: from `feature_cache.decide`.
      step: number of steps done; the batch after it is read, unless all phases read cached features. If images are
        cached in memory, this decodes all of them.
      images: a batch of images that was read already.

    Raises:
      ValueError: an image cannot be read, or the range of gray levels does not fit the weights.
    """
    if images is None and not all(one.cached for one in phases):
        images = next(image_batches(run, step, step + 1))
        transforms.check_range(images["image"], run.spec)
        open_images(run)

    def example(one: PhaseRun) -> dict[str, np.ndarray] | None:
        own = feature_cache.example(run, one.phase) if one.cached else images
        return taught.with_example(run, one.phase, own) if own else own

    return tuple(one.replace(example=example(one)) for one in phases)


def compiled(run: Run, phases: Sequence[PhaseRun]) -> tuple[PhaseRun, ...]:
    """The phases, from `with_examples`, with their compiled training steps; a solved phase has none."""
    done = []
    for one in phases:
        if one.phase.solved:
            done.append(one)
            continue
        assert one.example is not None  # see `with_examples`
        if one.stretch > 1:
            program = stretches.compile_stretch(run, one, _train_step(run, one.phase))
        else:
            program = compile_train_step(run, one.phase, one.example)
        done.append(one.replace(train_step=program))
    return tuple(done)


def compile_train_step(run: Run, phase: Phase, batch: dict[str, np.ndarray]) -> jax.stages.Compiled:
    """Compiles a phase's training step for batches like `batch`; the step donates its input state.

    `run.accumulate` must be known; see `fitted` to choose it.
    """
    state, placed = abstract_state(run, phase), run.parallel.place_batch(on_device(batch))
    return run.parallel.compile(_train_step(run, phase), state, placed, donate=True)


def _train_step(run: Run, phase: Phase) -> Callable:
    """A phase's training step, not compiled."""
    config = run.config
    mixes = config.mixup or config.cutmix
    return make_train_step(
        run.model,
        phase.plan,
        phase.tx,
        schedule=phase.schedule,
        objective=run.objective,
        inputs=Input(
            transform=make_train_transform(phase.spec, fit=config.fit, augmentation=phase.augmentation),
            draw=functools.partial(phase.augmentation.draw, fit=config.fit),
            mix=functools.partial(mix, mixup=config.mixup, cutmix=config.cutmix) if mixes else None,
        ),
        seed=config.seed,
        penalty=l2_sp.make_gradient(phase.config, run.model, tree.flatten(feature_cache.abstract_params(run))),
        teaching=taught.teaching(run, phase),
        ema=config.ema,
        accumulate=run.accumulate or 1,
        axis_name=run.parallel.axis_name,
    )


def fitted(run: Run, phases: Sequence[PhaseRun]) -> tuple[Run, tuple[PhaseRun, ...], str]:
    """Chooses the micro-batches of `accumulate = 'auto'`: the fewest with which the steps of all phases fit in memory.

    The memory of a step is what XLA reports for the compiled program. Results do not depend on the number of
    micro-batches (see `make_train_step`), except for BatchNorms with batch statistics; for these, more than one is
    refused.

    Args:
      run: a run whose `accumulate` is None.
      phases: from `with_examples`, of all phases.

    Returns:
      The run with its `accumulate`, the phases with their compiled steps, and a message for the log.

    Raises:
      ValueError: not even one image per device fits, or a BatchNorm would normalize by micro-batches.
    """
    limit, size, devices = memory.usable(run.parallel), run.config.batch_size, run.parallel.mesh.size
    limit = None if limit is None else limit - resident.nbytes_held(run.parallel)
    possible = [parts for parts in range(1, size // devices + 1) if size % (parts * devices) == 0]
    tried: dict[int, tuple[PhaseRun, ...]] = {}
    needed: dict[int, int] = {}

    def fits(parts: int) -> bool:
        chosen = dataclasses.replace(run, accumulate=parts)
        try:
            tried[parts] = compiled(chosen, phases)
        except jax.errors.JaxRuntimeError as error:  # some backends refuse to compile programs that do not fit
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            return False
        steps = [one.train_step for one in tried[parts] if one.train_step is not None]
        needed[parts] = max(map(memory.program_bytes, steps))
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
    return chosen, tried[parts], f"accumulate = 'auto' uses {parts}: {text}"


def _norms_move(run: Run, phase: Phase) -> bool:
    """Whether a BatchNorm normalizes by the batch's own statistics in a phase."""
    return in_force(phase, abstract_variables(run.model, run.spec.size))["batch_norm"] in ("trained", "statistics")
