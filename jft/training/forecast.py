"""What a run will take: seconds, by what they go into, and bytes on disk."""

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
    """How long a run takes, but for compilation, for a head that is solved for, and for the test at its end.

    Args:
      run: the run.
      decisions: first step of a phase -> whether it reads cached features, which are counted as if none were there.
      steps: first step of a phase -> seconds of a training step; {} where a head is solved for.
      forward: seconds that a forward pass takes for each image.
      reading: seconds that an image takes to be read and decoded.
      saving: seconds that a checkpoint takes to be written.

    Returns:
      Seconds of 'decoding', 'features', 'steps', 'evaluations', 'checkpoints', those above 0.
    """
    train, validation = len(run.train_source), len(run.validation_source)
    costs = stage_costs(run.model, run.spec.size)
    kept = 3 * stored_size(run.spec, run.config.fit) ** 2 * (train + validation) <= run.config.cache_bytes
    again = 0.0 if kept else reading
    # Where the CPU computes, what it decodes comes on top; elsewhere that happens meanwhile.
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
        # A checkpoint is written meanwhile, too.
        seconds["checkpoints"] += both(stepping, saves * saving) - stepping
        if decisions[phase.first].use:
            seconds["steps"] += stepping
            seconds["evaluations"] += evaluations * validation * (1 - _frozen_share(phase, costs)) * forward
            continue
        seconds["steps"] += both(stepping, phase.num_steps * again * run.config.batch_size)
        seconds["evaluations"] += evaluations * validation * both(forward, again)
        seconds["decoding"] = reading * (train + validation) if kept else 0.0
    return {name: value for name, value in seconds.items() if value}


def _frozen_share(phase: Phase, costs: Mapping[str, StageCosts]) -> float:
    """Of the operations of a forward pass, those in stages that are frozen in the phase."""
    return sum(costs[stage].flops for stage in phase.plan.frozen_stages) / forward_flops(costs)


def _evaluations_and_saves(run: Run, phase: Phase) -> tuple[int, int]:
    every, own = run.config.evaluate_every * run.steps_per_epoch, run.config.checkpoint_every
    steps = range(phase.first + 1, phase.last + 1)
    evaluated = {step for step in steps if run.is_due(step, every) or step == phase.last}
    return len(evaluated), len(evaluated | {step for step in steps if own and step % own == 0})


def checkpoint_bytes(run: Run) -> tuple[int, int]:
    """Bytes of a checkpoint in the phase where it is largest, and how many lie on disk at most, one being written."""
    sizes = []
    for phase in run.phases:
        state = abstract_state(run, phase)
        leaves = jax.tree.leaves((state.variables, optimizer_items(state)))
        sizes.append(sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves))
    every = run.config.keep_every
    return max(sizes), run.config.keep_last + 2 + (run.num_steps // every if every else 0)


def feature_bytes(run: Run, decisions: Mapping[int, Decision], variables: Any) -> int:
    """Bytes of the features that the run will store and that the cache has not got; files are read to find out.

    Args:
      run: the run.
      decisions: first step of a phase -> whether it reads cached features.
      variables: `{'params', 'batch_stats'}` that it begins with.
    """
    phases = {phase.plan.boundary: phase for phase in run.phases if decisions[phase.first].use}.values()
    lacking = [found for phase in phases for found in feature_cache.missing_of(run, phase, variables)]
    return sum(store.bytes_needed(count) for store, count in lacking)
