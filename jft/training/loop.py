"""Trains a run from its config: checks it, reads and compiles, runs the loop, and goes back after a step at fault."""

import contextlib
import dataclasses
import time
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jft.config import Config
from jft.data.source import Source
from jft.evaluation.checkpoint_info import CheckpointInfo
from jft.training import (
    cross_validated,
    feature_cache,
    known_rows,
    linear_probe,
    noted_images,
    programs,
    rollback,
    stretches,
    tracking,
    wise_ft,
)
from jft.training import own as own_objects
from jft.training.messages import describe, farewell
from jft.training.phase_run import PhaseRun
from jft.training.progress import NonFiniteLossError
from jft.training.run import Run, check_workdir, create_run, open_folder
from jft.training.state import initial_state
from jft.training.step import TrainState
from jft.training.trainer import Loop, is_finished
from jft.utils import distributed
from jft.utils.interrupt import Interrupt
from jft.utils.lock import claimed
from jft.utils.logger import Logs
from jft.utils.registry import code_allowed


def train(
    config: Config,
    workdir: str | Path,
    data: Source | None = None,
    *,
    brief: bool = False,
    until: int | None = None,
    **own: Any,
) -> dict[str, Any]:
    """Trains a run from the beginning, or resumes an interrupted one.

    Args:
      config: from a config file.
      workdir: folder of the run.
      data: images in memory, from `datasets.from_arrays`, in place of `config.dataset`.
      brief: leave out the stage table, such as for further seeds of the same config.
      until: the step, from 1, at which this call saves and is finished; None: the end of the run, which goes on from
        there as if it had not stopped. Where no evaluation is due, one is logged as 'pause', outside of the history.
      **own: objects in place of names in the config, for the fields `own.FIELDS`. `loss`: a `losses.Loss`.
        `optimizer`: an `optimizers.Optimizer` or an `optax.GradientTransformation`. `schedule`: a function
        (peak, steps) -> `optax.Schedule`. One or several of each: `augment`: `augmentations.AugmentFunction`;
        `metrics`: `image_metrics.Metric`; `callbacks`: functions of a `callbacks.Event`. Except for callbacks, an
        object that is not a "module:function" must be passed again to resume the run.

    Returns:
      `{'step', 'finished', 'signal', 'history', 'skipped'}`: the number of steps done; whether the run is finished; the
      signal that stopped it, or None; the evaluations `{'step', 'loss', 'accuracy', 'top5', 'count'}`; and the steps
      that `config.on_nan = 'rollback'` skipped.

    Raises:
      ValueError: see `create_run` and `initial_state`; an image cannot be read (names it); or another process trains in
        the folder.
      progress.NonFiniteLossError: names the step; with `config.on_nan = 'rollback'` only after `max_rollbacks`.
      CheckpointWriteError: the disk is full or read-only; earlier checkpoints are intact.
    """
    config, own = own_objects.recorded(config, own)
    with Interrupt() as interrupt, code_allowed():
        run = checked_run(config, workdir, data, own)
        distributed.agree(run.identity(), remedy="start every process with the same config, on the same data.")
        with claimed(run.workdir):
            check_workdir(config, run.workdir)  # again, now that the lock keeps other processes out
            own_objects.tell(config, own)
            if not cross_validated.wanted(config) or _run_folds(run, own, interrupt):
                state, info = _run(run, interrupt, brief, until)
            else:
                state, info = None, run.info()
    step = int(state.step) if state else 0
    finished = is_finished(run, step, info, until)
    result = {
        "step": step,
        "finished": finished,
        "signal": None if finished else interrupt.received,
        "history": list(info.history),
        "skipped": [skipped.step for skipped in rollback.read(run.workdir)],
    }
    if info.stopped is not None:
        distributed.say(f"Stopped early: {info.stopped}.")
    distributed.say(farewell(run, result))
    return result


def _run_folds(run: Run, own: Mapping[str, Any], interrupt: Interrupt) -> bool:
    """Trains the folds of a cross-validated run; False if a signal came before all had finished."""
    open_folder(run).close()

    def train_one(config: Config, workdir: Path) -> bool:
        fold = checked_run(config, workdir, run.data, own)
        with claimed(workdir):
            check_workdir(config, workdir)
            state, info = _run(fold, interrupt, brief=True)
        return is_finished(fold, int(state.step), info)

    return cross_validated.run_folds(run, train_one)


def _run(run: Run, interrupt: Interrupt, brief: bool, until: int | None = None) -> tuple[TrainState, CheckpointInfo]:
    state, info = initial_state(run)
    phases = stretches.decide(run, feature_cache.decide(run, state, info.cached))
    info = dataclasses.replace(info, cached=info.cached | {one.phase.first: one.cached for one in phases})
    description = describe(run, state, info, phases, brief)
    distributed.say(description)
    with tracking.tracked(run) as followed:
        if not is_finished(run, int(state.step), info, until):
            info = noted_images.note(run, info, begins=not int(state.step))
            state, info = _start(run, state, info, phases, interrupt, description, until)
        followed.state = "finished" if is_finished(run, int(state.step), info) else "interrupted"
    return state, info


def checked_run(
    config: Config,
    workdir: str | Path,
    data: Source | None = None,
    own: Mapping[str, Any] = types.MappingProxyType({}),
) -> Run:
    """`create_run`, with checks of solvers, averages and feature cache; reads no weights and writes no file."""
    run = create_run(config, workdir, data, own)
    for phase in run.phases:
        if phase.solved:
            linear_probe.check_head(run, phase)
    wise_ft.check(run)
    known_rows.check(run)
    feature_cache.decide(run, None, {})
    return run


def _start(
    run: Run,
    state: TrainState,
    info: CheckpointInfo,
    phases: Sequence[PhaseRun],
    interrupt: Interrupt,
    description: str,
    until: int | None,
) -> tuple[TrainState, CheckpointInfo]:
    """Does everything that can fail (reading, compiling) first, then creates the folder and runs the loop."""
    step, start = int(state.step), time.perf_counter()
    phases = programs.with_examples(run, phases, step)
    read = time.perf_counter()
    run = dataclasses.replace(run, accumulate=info.accumulate)
    if run.accumulate is None:
        run, phases, message = programs.fitted(run, phases)
        distributed.say(message)
    else:  # a resumed run may have other devices
        run.parallel.check_batch_size(run.config.batch_size, what="batch_size", parts=run.accumulate)
        phases = programs.compiled(run, phases)
    info = dataclasses.replace(info, accumulate=run.accumulate)
    took = {"reading": read - start, "compilation": time.perf_counter() - read}
    if interrupt.check():
        return state, info
    while True:
        step = int(state.step)
        with (
            contextlib.closing(open_folder(run)) as checkpoints,
            contextlib.closing(Logs(run.workdir, step)) as logs,
        ):
            noted_images.save(run, begins=not step)
            for kind, seconds in took.items():
                logs.write(step, kind, {"seconds": seconds})
            tracking.introduce(run, logs, step, description)
            loop = Loop(run, info, checkpoints, logs, interrupt, until)
            try:
                state = loop(state, phases)
                checkpoints.wait()
                return state, loop.info
            except NonFiniteLossError as error:
                rollback.record(run, error)
        took = {}
        # Continue exactly like a resumed run.
        state, again = initial_state(run)
        info = dataclasses.replace(
            again,
            cached=info.cached,
            trained_on=info.trained_on,
            validated_on=info.validated_on,
            test_digest=info.test_digest,
            accumulate=run.accumulate,
        )
        if run.phase_after(int(state.step)).first < phases[0].phase.first:  # its newest checkpoint is damaged
            raise ValueError(
                f"{run.workdir} fell back to step {int(state.step)}, because its newest checkpoint is damaged: run the "
                "same command again."
            )
