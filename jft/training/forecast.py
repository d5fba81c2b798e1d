"""Estimates what a run will cost: seconds, by part of the work, and bytes on disk."""

import math
from collections.abc import Mapping
from typing import Any

import jax

from jft.data.transforms import stored_size
from jft.models.flops import StageCosts, forward_flops, stage_costs
from jft.training import feature_cache
from jft.training.feature_cache import Decision
from jft.training.phases import Phase
from jft.training.run import Run
from jft.training.state import abstract_state, optimizer_items


def run_seconds(
    run: Run,
    decisions: Mapping[int, Decision],
    steps: Mapping[int, float],
    *,
    forward: float,
    reading: float,
    saving: float,
) -> dict[str, float]:
    """Estimates the duration of a run, without compilation, the fit of a solver and the test at the end.

    Args:
      run: the run.
      decisions: first step of a phase -> whether it reads cached features; they are counted as if none were stored.
      steps: first step of a phase -> seconds of a training step; {} if a solver fits the head.
      forward: seconds of a forward pass per image.
      reading: seconds to read and decode an image.
      saving: seconds to write a checkpoint.

    Returns:
      Seconds of 'decoding', 'features', 'steps', 'evaluations' and 'checkpoints', those above 0.
    """
    train, validation = len(run.train_source), len(run.validation_source)
    costs = stage_costs(run.model, run.spec.size)
    in_memory = 3 * stored_size(run.spec, run.config.fit) ** 2 * (train + validation) <= run.config.cache_bytes
    again = 0.0 if in_memory else reading
    # On CPU, decoding and computing share the cores and add up; on other devices they overlap.
    both = (lambda a, b: a + b) if jax.default_backend() == "cpu" else max
    seconds = dict.fromkeys(("decoding", "features", "steps", "evaluations", "checkpoints"), 0.0)
    boundaries = {phase.plan.boundary: phase for phase in run.phases if decisions[phase.first].use}
    for phase in boundaries.values():
        share = _frozen_share(phase, costs)
        variants = feature_cache.feature_shape(run, phase)[0]
        seconds["features"] += train * both(variants * share * forward, reading)
        seconds["features"] += validation * both(share * forward, reading)
    for phase in run.phases if steps else ():
        evaluations, saves = _evaluations_and_saves(run, phase)
        stepping = phase.num_steps * steps[phase.first]
        # Writing a checkpoint overlaps with the steps in the same way.
        seconds["checkpoints"] += both(stepping, saves * saving) - stepping
        if decisions[phase.first].use:
            seconds["steps"] += stepping
            seconds["evaluations"] += evaluations * validation * (1 - _frozen_share(phase, costs)) * forward
            continue
        seconds["steps"] += both(stepping, phase.num_steps * again * run.config.batch_size)
        seconds["evaluations"] += evaluations * validation * both(forward, again)
        seconds["decoding"] = reading * (train + validation) if in_memory else 0.0
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


def feature_bytes(run: Run, decisions: Mapping[int, Decision], variables: Any) -> int:
    """Bytes of the features that the run will add to the cache; reads the image files to know what is stored.

    Args:
      run: the run.
      decisions: first step of a phase -> whether it reads cached features.
      variables: `{'params', 'batch_stats'}` at the start.
    """
    phases = {phase.plan.boundary: phase for phase in run.phases if decisions[phase.first].use}.values()
    lacking = [found for phase in phases for found in feature_cache.missing_of(run, phase, variables)]
    return sum(store.bytes_needed(count) for store, count in lacking)
