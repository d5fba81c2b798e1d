"""A run whose head is solved for at once, on cached features, instead of stepped towards."""

import time

import numpy as np

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
from jft.utils.checkpoint_info import Meta
from jft.utils.interrupt import Interrupt
from jft.utils.logger import Logs

_LOSSES = {"lbfgs": "loss", "ridge": "squared error"}  # by which C is chosen


def check_head(run: Run) -> None:
    """Raises a ValueError unless the head is an affine map of the boundary's features, which is what can be solved."""
    phase = run.phases[0]
    if set(tree.flatten(phase.plan.split(feature_cache.abstract_params(run))[0])) != {
        "head/head/kernel",
        "head/head/bias",
    }:
        raise ValueError(
            f"solver = {run.config.solver!r} solves for one layer, kernel and bias, and this head has others: "
            "leave out head_hidden."
        )
    shape = feature_cache.feature_shape(run, phase)
    if len(shape) > 2:
        raise ValueError(
            f"solver = {run.config.solver!r} needs a vector for each image; {run.config.model}'s own head reads "
            f"a map of {' x '.join(map(str, shape[1:]))}: set head = 'linear', which averages it."
        )


def solve(
    run: Run, state: TrainState, meta: Meta, checkpoints: Checkpoints, logs: Logs, interrupt: Interrupt
) -> tuple[TrainState, Meta]:
    """Solves for the head at the C that does best on validation, notes how well, and solves again with both joined.

    Args:
      run: with `config.solver` 'lbfgs' or 'ridge'; see `check_head`.
      state: to start from.
      meta: of the checkpoint.
      checkpoints: where the head is saved, at step 1.
      logs: where C, the time and the figure on validation are written.
      interrupt: a signal ends the extraction of features, and nothing is saved.

    Returns:
      The state, at step 1, and the meta as saved, whose history holds the figure on validation.
    """
    phase = run.phases[0]
    cached = feature_cache.prepare(run, phase, state, logs, interrupt)
    if cached is None:
        return state, meta
    start = time.perf_counter()
    found = _fit(run, cached)
    seconds = time.perf_counter() - start
    told = {"regularization": found.regularization, "seconds": seconds, **in_force(phase, state.variables)}
    logs.write(1, "train", told)
    if cached.validation is not None:
        # The head that validation has not seen, though the one with it is kept.
        start, variables = time.perf_counter(), _with_head(run, state, found.chosen).variables
        tried = make_evaluator(run, phase)(variables, run.validation_source, cached.validation)
        values = tried.summary()
        meta = {**meta, "history": [{"step": 1, **values}], "temperature": tried.temperature()}
        logs.write(1, "validation", {**values, "seconds": time.perf_counter() - start})
        for c, score in found.scores.items():
            distributed.say(f"C = {c:<8g} validation {score:.2%}, {_LOSSES[run.config.solver]} {found.losses[c]:.4f}")
        why = f"the smallest {_LOSSES[run.config.solver]}" if len(found.scores) > 1 else "given"
        told = f"validation {percent(values)}; solved in {seconds:.1f} s"
        distributed.say(f"C = {found.regularization:g}, {why}: {told}")
    state = _with_head(run, state, found.linear).replace(step=run.parallel.place_state(np.int32(1)))
    joined = cached.validation is not None and _joins(run)
    checkpoints.save(1, state.variables, optimizer_items(state), {**meta, "data": {}, "learnt_validation": joined})
    return state, meta


def _fit(run: Run, cached: Cached) -> linear.Fit:
    """The head to keep, of all examples, and the one that chose its C."""
    config, validation = run.config, None
    # A validation image joins with one variant, whatever the number of a training image's.
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
    """Whether validation is learnt from too, once it has chosen; not where so many images a class are to be."""
    return not run.config.examples_per_class


def examples(features: Features, labels: np.ndarray) -> Examples:
    """All variants of all images, each an example of its own, in memory."""
    whole = features.gather(np.arange(len(features))).astype(np.float32)
    return Examples(whole.reshape(-1, whole.shape[-1]), np.repeat(labels, whole.shape[1], axis=0))


def _with_head(run: Run, state: TrainState, head: linear.Linear) -> TrainState:
    # Each process has solved for it; what is one on all devices shall be so to the last bit.
    solved = distributed.arrays_from_first({"kernel": head.kernel, "bias": head.bias})
    params = {**state.params, "head": {"head": solved}}
    return state.replace(params=run.parallel.place_state(params))
