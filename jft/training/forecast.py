"""Estimates what a run will cost: seconds, by part of the work, and bytes on disk."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from jft.data.transforms import stored_size
from jft.models.flops import StageCosts, forward_flops, stage_costs
from jft.training import cross_validated, feature_cache
from jft.training.phase_run import PhaseRun
from jft.training.phases import Phase
from jft.training.run import Run
from jft.training.state import abstract_state, optimizer_items


def run_seconds(
    run: Run,
    phases: Sequence[PhaseRun],
    *,
    forward: float,
    reading: float,
    saving: float,
) -> dict[str, float]:
    """Estimates the duration of a run, without compilation, the fit of a solver and the test at the end.

    Args:
      run: the run.
      phases: all phases, with the seconds of their steps; None where a solver fits the head. Cached features are
        counted as if none were stored.
      forward: seconds of a forward pass per image.
      reading: seconds to read and decode an image.
      saving: seconds to write a checkpoint.

    Returns:
      Seconds of 'decoding', 'features', 'steps', 'evaluations', 'checkpoints' and 'folds', those above 0.
    """
    train, validation = len(run.train_source), len(run.validation_source)
    costs = stage_costs(run.model, run.spec.size)
    images = train * run.config.stored_scale**2 + validation
    in_memory = 3 * stored_size(run.spec, run.config.fit) ** 2 * images <= run.config.cache_bytes
    again = 0.0 if in_memory else reading
    # On CPU, decoding and computing share the cores and add up; on other devices they overlap.
    both = (lambda a, b: a + b) if jax.default_backend() == "cpu" else max
    seconds: dict[str, float] = dict.fromkeys(("decoding", "features", "steps", "evaluations", "checkpoints"), 0.0)
    for phase in _cached_boundaries(phases):
        share = _frozen_share(phase, costs)
        variants = feature_cache.feature_shape(run, phase)[0]
        seconds["features"] += train * both(variants * share * forward, reading)
        seconds["features"] += validation * both(share * forward, reading)
    for one in phases:
        if one.step_seconds is None:
            continue
        phase = one.phase
        evaluations, saves = _evaluations_and_saves(run, phase)
        stepping = phase.num_steps * one.step_seconds
        # Writing a checkpoint overlaps with the steps in the same way.
        seconds["checkpoints"] += both(stepping, saves * saving) - stepping
        if one.cached:
            seconds["steps"] += stepping
            seconds["evaluations"] += evaluations * validation * (1 - _frozen_share(phase, costs)) * forward
            continue
        seconds["steps"] += both(stepping, phase.num_steps * again * run.config.batch_size)
        seconds["evaluations"] += evaluations * validation * both(forward, again)
        seconds["decoding"] = reading * (train + validation) if in_memory else 0.0
    if cross_validated.wanted(run.config):  # each fold is trained on all others
        folds = run.config.folds
        seconds["folds"] = cross_validated.trained(run.config) * (folds - 1) / folds * sum(seconds.values())
    return {name: value for name, value in seconds.items() if value}


def _frozen_share(phase: Phase, costs: Mapping[str, StageCosts]) -> float:
    """Share of a forward pass' FLOPs that lies in the frozen stages of a phase."""
    return sum(costs[stage].flops for stage in phase.plan.frozen_stages) / forward_flops(costs)


def _evaluations_and_saves(run: Run, phase: Phase) -> tuple[int, int]:
    every, own = run.config.evaluate_every * run.steps_per_epoch, run.config.checkpoint_every
    steps = range(phase.first + 1, phase.last + 1)
    evaluated = {step for step in steps if run.is_due(step, every) or step == phase.last}
    return len(evaluated), len(evaluated | {step for step in steps if own and step % own == 0})


def checkpoint_bytes(run: Run) -> tuple[int, int]:
    """Bytes of the largest checkpoint, and the most checkpoints on disk at once, with the one being written."""
    sizes = []
    for phase in run.phases:
        state = abstract_state(run, phase)
        leaves = jax.tree.leaves((state.variables, optimizer_items(state)))
        sizes.append(sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves))
    every = run.config.keep_every
    return max(sizes), run.config.keep_last + 2 + (run.num_steps // every if every else 0)


def feature_bytes(run: Run, phases: Sequence[PhaseRun], variables: Any) -> int:
    """Bytes of the features that the run will add to the cache; reads the image files to know what is stored.

    Args:
      run: the run.
      phases: all phases.
      variables: `{'params', 'batch_stats'}` at the start.
    """
    lacking = [
        found for phase in _cached_boundaries(phases) for found in feature_cache.missing_of(run, phase, variables)
    ]
    return sum(store.bytes_needed(count) for store, count in lacking)


def _cached_boundaries(phases: Sequence[PhaseRun]) -> list[Phase]:
    """A phase for each boundary whose features are cached."""
    return list({one.phase.plan.boundary: one.phase for one in phases if one.cached}.values())
