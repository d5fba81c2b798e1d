"""Linear probe: a phase whose head is fitted directly on cached features, by a solver, instead of in steps."""

import dataclasses
import time

import numpy as np

from jft.evaluation.checkpoint_info import CheckpointInfo
from jft.features import cross_validation, linear
from jft.features.examples import Examples
from jft.features.linear import SOLVERS
from jft.features.store import Features
from jft.training import cross_validated, feature_cache
from jft.training.batches import make_evaluator
from jft.training.cross_validated import Chosen
from jft.training.feature_cache import Cached
from jft.training.messages import percent
from jft.training.phases import Phase, in_force
from jft.training.run import Run
from jft.training.state import optimizer_items
from jft.training.step import TrainState
from jft.utils import distributed, tree
from jft.utils.checkpoint import Checkpoints
from jft.utils.interrupt import Interrupt
from jft.utils.logger import Logs


def check_head(run: Run, phase: Phase) -> None:
    """Raises a ValueError unless the head is a single linear layer on the boundary's features, as solvers need."""
    if set(tree.flatten(phase.plan.split(feature_cache.abstract_params(run))[0])) != {
        "head/head/kernel",
        "head/head/bias",
    }:
        raise ValueError(
            f"solver = {phase.config.solver!r} fits one linear layer, and this head has more layers: leave out "
            "head_hidden, or set solver = 'steps'."
        )
    if run.train_source.multi_label and not SOLVERS[phase.config.solver].several_labels:
        raise ValueError(
            f"solver = {phase.config.solver!r} tells classes apart, and images of {run.train_source.name} have several "
            "labels: set solver = 'lbfgs' or 'ridge'."
        )
    shape = feature_cache.feature_shape(run, phase)
    if len(shape) > 2:
        raise ValueError(
            f"solver = {phase.config.solver!r} needs one feature vector per image, and {run.config.model}'s own head "
            f"reads a map of {' x '.join(map(str, shape[1:]))}: set head = 'linear', which averages it."
        )


def solve(
    run: Run,
    phase: Phase,
    state: TrainState,
    info: CheckpointInfo,
    checkpoints: Checkpoints,
    logs: Logs,
    interrupt: Interrupt,
) -> tuple[TrainState, CheckpointInfo]:
    """Fits the head at the best C, evaluates it, and saves it after the step that the phase counts as.

    C is chosen on validation where nothing follows the phase, and the head refitted on training + validation images.
    Where another phase follows, or there is no validation, C is chosen by cross-validation on the training images.

    Args:
      run: the run; see `check_head`.
      phase: a solved one.
      state: the state at its first step.
      info: of the checkpoint.
      checkpoints: saves the head.
      logs: receives C, the time and the validation metrics.
      interrupt: a signal ends the extraction of features; then nothing is saved.

    Returns:
      The state after the phase, and the info as saved, whose history holds the validation metrics before a refit. The
      state and info that were given, if a signal came.
    """
    cached = feature_cache.prepare(run, phase, state, logs, interrupt)
    if cached is None:
        return state, info
    start = time.perf_counter()
    found, choice = _fit(run, phase, cached)
    seconds = time.perf_counter() - start
    step, kind = phase.last, SOLVERS[phase.config.solver].criterion
    values = {"regularization": found.regularization, "seconds": seconds, **in_force(phase, state.variables)}
    logs.write(step, "train", values)
    for c, loss in found.losses.items():
        score = f" {found.scores[c]:.2%}," if c in found.scores else ""
        distributed.say(f"C = {c:<8g} {_chosen_on(run, phase)}{score} {kind} {loss:.4f}")
    why = f"smallest {kind}" if len(found.losses) > 1 else "given"
    result = f"C = {found.regularization:g} ({why}): fitted in {seconds:.1f} s"
    if cached.validation is not None:
        # Evaluates the head that was not fitted on validation images; a refitted one is saved.
        start, variables = time.perf_counter(), _with_head(run, phase, state, found.chosen).variables
        tried = make_evaluator(run, phase)(variables, run.validation_source, cached.validation)
        values = tried.summary()
        values |= run.score(step, values)
        info = dataclasses.replace(
            info, history=(*info.history, {"step": step, **values}), temperature=tried.temperature()
        )
        logs.write(step, "validation", {**values, "seconds": time.perf_counter() - start})
        result += f"; validation {percent(values)}"
    elif choice is not None and run.solved and run.config.validation == "cv":
        chosen = _concluded(run, choice)
        info = dataclasses.replace(
            info, history=(cross_validated.entry(chosen, step),), temperature=chosen["temperature"]
        )
        logs.write(step, "validation", cross_validated.logged(chosen))
        result += f"; {percent(info.history[-1])}"
    distributed.say(result)
    state = _with_head(run, phase, state, found.linear)
    if run.solved:
        info = dataclasses.replace(info, learnt_validation=cached.validation is not None and _joins(run, phase))
    checkpoints.save(step, state.variables, optimizer_items(state), info.to_json())
    return state, info


def _chosen_on(run: Run, phase: Phase) -> str:
    return "validation" if len(run.validation_source) and phase.last == run.num_steps else "cross-validation"


def _concluded(run: Run, choice: cross_validation.Choice) -> Chosen:
    """What to expect of the head, from the logits of images that it had not seen when they were computed."""
    source = run.train_source
    # Of the variants of an image the one that evaluation reads, without mirroring.
    logits = choice.logits.reshape(len(source), -1, choice.logits.shape[-1])[:, 0]
    if SOLVERS[choice.method].scaled:  # as the head is, see `cross_validation.refit`
        logits = logits / choice.temperature
    if logits.shape[-1] == 1 and source.labels.ndim == 1:  # one sigmoid unit between two classes
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    return cross_validated.conclude(np.ones(1), logits[None], source.labels, source.groups, int(choice.folds.max()) + 1)


def _fit(run: Run, phase: Phase, cached: Cached) -> tuple[linear.Fit, cross_validation.Choice | None]:
    """Fits the head to keep, and the one that has not seen validation images; and the cross-validation that chose C."""
    config, outputs = phase.config, run.objective.num_outputs
    # A validation image contributes one variant, a training image all of its variants.
    train = examples(cached.train, run.train_source.labels)
    strengths = config.regularization
    if _chosen_on(run, phase) == "validation" or (len(strengths) == 1 and config.validation != "cv"):
        validation = None
        if cached.validation is not None and phase.last == run.num_steps:
            validation = examples(cached.validation, run.validation_source.labels)
        refit = validation is not None and _joins(run, phase)
        found = linear.fit(config.solver, train, validation, outputs=outputs, regularization=strengths, refit=refit)
        return found, None
    images = np.arange(len(run.train_source)) if run.train_source.groups is None else run.train_source.groups
    groups = np.repeat(images, len(train) // len(images))  # the variants of an image stay together
    choice = cross_validation.choose(
        config.solver,
        train,
        outputs=outputs,
        groups=groups,
        regularization=strengths,
        folds=min(config.folds, len(np.unique(images))),
        seed=config.seed,
    )
    head = cross_validation.refit(choice, train)
    return linear.Fit(head, head, choice.regularization, {}, choice.losses), choice


def _joins(run: Run, phase: Phase) -> bool:
    """Whether the head is refitted with validation images after choosing C.

    Not if `examples_per_class` limits images, nor if a later phase needs images that the head has not seen.
    """
    return not run.config.examples_per_class and phase.last == run.num_steps


def examples(features: Features, labels: np.ndarray) -> Examples:
    """All variants of all images as separate examples, in memory."""
    whole = features.gather(np.arange(len(features))).astype(np.float32)
    return Examples(whole.reshape(-1, whole.shape[-1]), np.repeat(labels, whole.shape[1], axis=0))


def _with_head(run: Run, phase: Phase, state: TrainState, head: linear.Linear) -> TrainState:
    """The state after the phase, with this head."""
    # Every process has fitted the head; take that of process 0, so that replicas are bit-identical.
    solved = {"head": {"head": distributed.arrays_from_first({"kernel": head.kernel, "bias": head.bias})}}
    placed = {"params": {**state.params, **solved}, "step": np.int32(phase.last)}
    if state.ema:
        placed["ema"] = solved
    return state.replace(**run.parallel.place_state(placed))
