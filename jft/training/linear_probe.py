"""Linear probe: a run whose head is fitted directly on cached features, instead of in steps."""

import dataclasses
import time

import numpy as np

from jft.evaluation.checkpoint_info import CheckpointInfo
from jft.features import linear
from jft.features.examples import Examples
from jft.features.store import Features
from jft.training import feature_cache
from jft.training.batches import make_evaluator
from jft.training.feature_cache import Cached
from jft.training.messages import percent
from jft.training.phases import in_force
from jft.training.run import Run
from jft.training.state import optimizer_items
from jft.training.step import TrainState
from jft.utils import distributed, tree
from jft.utils.checkpoint import Checkpoints
from jft.utils.interrupt import Interrupt
from jft.utils.logger import Logs


def check_head(run: Run) -> None:
    """Raises a ValueError unless the head is a single linear layer on the boundary's features, as solvers need."""
    phase = run.phases[0]
    if set(tree.flatten(phase.plan.split(feature_cache.abstract_params(run))[0])) != {
        "head/head/kernel",
        "head/head/bias",
    }:
        raise ValueError(
            f"solver = {run.config.solver!r} fits one linear layer, and this head has more layers: leave out "
            "head_hidden, or set solver = 'steps'."
        )
    if run.train_source.multi_label and not linear.SOLVERS[run.config.solver].several_labels:
        raise ValueError(
            f"solver = {run.config.solver!r} tells classes apart, and images of {run.train_source.name} have several "
            "labels: set solver = 'lbfgs' or 'ridge'."
        )
    shape = feature_cache.feature_shape(run, phase)
    if len(shape) > 2:
        raise ValueError(
            f"solver = {run.config.solver!r} needs one feature vector per image, and {run.config.model}'s own head "
            f"reads a map of {' x '.join(map(str, shape[1:]))}: set head = 'linear', which averages it."
        )


def solve(
    run: Run, state: TrainState, info: CheckpointInfo, checkpoints: Checkpoints, logs: Logs, interrupt: Interrupt
) -> tuple[TrainState, CheckpointInfo]:
    """Fits the head at the C that is best on validation, evaluates it, and refits it on training + validation images.

    Args:
      run: with a `config.solver` other than 'steps'; see `check_head`.
      state: the initial state.
      info: of the checkpoint.
      checkpoints: saves the head, at step 1.
      logs: receives C, the time and the validation metrics.
      interrupt: a signal ends the extraction of features; then nothing is saved.

    Returns:
      The state at step 1, and the info as saved, whose history holds the validation metrics before the refit.
    """
    phase = run.phases[0]
    cached = feature_cache.prepare(run, phase, state, logs, interrupt)
    if cached is None:
        return state, info
    start = time.perf_counter()
    found = _fit(run, cached)
    seconds = time.perf_counter() - start
    values = {"regularization": found.regularization, "seconds": seconds, **in_force(phase, state.variables)}
    logs.write(1, "train", values)
    if cached.validation is not None:
        # Evaluates the head that was not fitted on validation images; the refit one is saved.
        start, variables = time.perf_counter(), _with_head(run, state, found.chosen).variables
        tried = make_evaluator(run, phase)(variables, run.validation_source, cached.validation)
        values = tried.summary()
        info = dataclasses.replace(info, history=({"step": 1, **values},), temperature=tried.temperature())
        logs.write(1, "validation", {**values, "seconds": time.perf_counter() - start})
        criterion = linear.SOLVERS[run.config.solver].criterion
        for c, score in found.scores.items():
            distributed.say(f"C = {c:<8g} validation {score:.2%}, {criterion} {found.losses[c]:.4f}")
        why = f"smallest {criterion}" if len(found.scores) > 1 else "given"
        result = f"validation {percent(values)}; fitted in {seconds:.1f} s"
        distributed.say(f"C = {found.regularization:g} ({why}): {result}")
    state = _with_head(run, state, found.linear).replace(step=run.parallel.place_state(np.int32(1)))
    joined = cached.validation is not None and _joins(run)
    info = dataclasses.replace(info, learnt_validation=joined)
    checkpoints.save(1, state.variables, optimizer_items(state), info.to_json())
    return state, info


def _fit(run: Run, cached: Cached) -> linear.Fit:
    """Fits the head to keep, on all examples, and the one that chose C, on the training examples."""
    config, validation = run.config, None
    # A validation image contributes one variant, a training image all of its variants.
    if cached.validation is not None:
        validation = examples(cached.validation, run.validation_source.labels)
    return linear.fit(
        config.solver,
        examples(cached.train, run.train_source.labels),
        validation,
        outputs=run.objective.num_outputs,
        regularization=config.regularization,
        refit=_joins(run),
    )


def _joins(run: Run) -> bool:
    """Whether the head is refit with validation images after choosing C; not if `examples_per_class` limits images."""
    return not run.config.examples_per_class


def examples(features: Features, labels: np.ndarray) -> Examples:
    """All variants of all images as separate examples, in memory."""
    whole = features.gather(np.arange(len(features))).astype(np.float32)
    return Examples(whole.reshape(-1, whole.shape[-1]), np.repeat(labels, whole.shape[1], axis=0))


def _with_head(run: Run, state: TrainState, head: linear.Linear) -> TrainState:
    # Every process has fitted the head; take that of process 0, so that replicas are bit-identical.
    solved = distributed.arrays_from_first({"kernel": head.kernel, "bias": head.bias})
    params = {**state.params, "head": {"head": solved}}
    return state.replace(params=run.parallel.place_state(params))
