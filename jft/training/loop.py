"""The training loop: step, log, evaluate, save."""

import contextlib
import dataclasses
import time
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from jft.config import Config
from jft.data.source import Source
from jft.evaluation.checkpoint_info import CheckpointInfo
from jft.evaluation.evaluator import Evaluator
from jft.features.store import Features
from jft.training import (
    cross_validated,
    feature_cache,
    known_rows,
    linear_probe,
    noted_images,
    programs,
    rollback,
    stretches,
    taught,
    tracking,
    wise_ft,
)
from jft.training import own as own_objects
from jft.training.batches import make_evaluator, train_feed, train_rows
from jft.training.callbacks import Callbacks, EpochEnd, EvaluationEnd, StepEnd
from jft.training.cut import cut
from jft.training.feature_cache import Cached
from jft.training.messages import describe, farewell, percent
from jft.training.phase_run import PhaseRun
from jft.training.phases import Phase
from jft.training.programs import compile_train_step as compile_train_step  # for those who time a step alone
from jft.training.progress import NonFiniteLossError, Window, all_finite, check_finite
from jft.training.run import Run, check_workdir, create_run, open_folder
from jft.training.state import enter_phase, initial_state, optimizer_items
from jft.training.step import TrainState
from jft.utils import distributed, waiting
from jft.utils.checkpoint import Checkpoints
from jft.utils.interrupt import Interrupt
from jft.utils.lock import claimed
from jft.utils.logger import Logs, progress_bar
from jft.utils.ranking import score
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
      until: the step, from 1, at which this call evaluates, saves and is finished; the run goes on at the next; None:
        its end.
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
        run = run if until is None else cut(run, until)
        distributed.agree(run.identity(), remedy="start every process with the same config, on the same data.")
        with claimed(run.workdir):
            check_workdir(config, run.workdir)  # again, now that the lock keeps other processes out
            own_objects.tell(config, own)
            if not cross_validated.wanted(config) or _run_folds(run, own, interrupt):
                state, info = _run(run, interrupt, brief)
            else:
                state, info = None, run.info()
    step = int(state.step) if state else 0
    finished = is_finished(run, step, info)
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


def _run(run: Run, interrupt: Interrupt, brief: bool) -> tuple[TrainState, CheckpointInfo]:
    state, info = initial_state(run)
    phases = stretches.decide(run, feature_cache.decide(run, state, info.cached))
    info = dataclasses.replace(info, cached=info.cached | {one.phase.first: one.cached for one in phases})
    description = describe(run, state, info, phases, brief)
    distributed.say(description)
    with tracking.tracked(run) as followed:
        if not is_finished(run, int(state.step), info):
            info = noted_images.note(run, info, begins=not int(state.step))
            state, info = _start(run, state, info, phases, interrupt, description)
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
            loop = Loop(run, info, checkpoints, logs, interrupt)
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


class Loop:
    """The training loop over all phases: step, log, evaluate, save.

    Attributes:
      info: of the next checkpoint; its history grows with the evaluations.
    """

    def __init__(
        self, run: Run, info: CheckpointInfo, checkpoints: Checkpoints, logs: Logs, interrupt: Interrupt
    ) -> None:
        """Stores where to write; writes nothing yet."""
        self.info = info
        self._run, self._checkpoints, self._logs, self._interrupt = run, checkpoints, logs, interrupt
        self._skipped = {skipped.step: skipped.fault for skipped in rollback.read(run.workdir)}
        self._callbacks = Callbacks(run.callbacks)
        self._evaluator = make_evaluator(run)  # of images; compiled once, whatever the number of phases

    @waiting.during("training")
    def __call__(self, state: TrainState, phases: Sequence[PhaseRun]) -> TrainState:
        """Trains until the end of the run, an early stop, or a signal.

        Args:
          state: the initial state; its memory is donated.
          phases: those that are not over, with their compiled steps.

        Returns:
          The state at the end.
        """
        start = int(state.step)
        with progress_bar(
            total=self._run.num_steps, initial=start, unit="step", description=self._run.config.model
        ) as bar:
            for one in phases:
                phase, step = one.phase, int(state.step)
                if step >= phase.last:
                    continue
                if self._ended():
                    break
                if step == phase.first > 0:
                    state = enter_phase(self._run, phase, state)
                if phase.solved:
                    ways = self._checkpoints, self._logs, self._interrupt
                    state, self.info = linear_probe.solve(self._run, phase, state, self.info, *ways)
                    bar.update(int(state.step) - step)
                    continue
                cached = None
                if one.cached:
                    cached = feature_cache.prepare(self._run, phase, state, self._logs, self._interrupt)
                    if cached is None:
                        break
                logits = None
                if taught.cached(self._run, phase):
                    logits = taught.prepare(self._run, phase, state, self._interrupt)
                    if logits is None:
                        break
                state = self._phase(one, state, cached, logits, bar)
        return state

    def _phase(
        self, one: PhaseRun, state: TrainState, cached: Cached | None, logits: Features | None, bar: tqdm
    ) -> TrainState:
        run, config, phase, train_step = self._run, self._run.config, one.phase, one.train_step
        assert train_step is not None  # see `programs.compiled`
        evaluator = make_evaluator(run, phase) if cached else self._evaluator
        feed, step = train_feed(run, cached, one.stretch, logits), int(state.step)
        batches = feed.batches(train_rows(run), range(step, phase.last))
        window = Window(run, phase, state, self.info.window)
        while step < phase.last:
            batch = window.wait_for(batches)
            count = int(batch.get("count", 1))  # of steps, of which none but the last is followed by anything
            step += count
            if step in self._skipped:
                state = state.replace(step=run.parallel.place_state(np.int32(step)))
                self._logs.write(step, "skipped", {"fault": self._skipped[step]})
                sums = {}
            else:
                state, sums = train_step(state, feed.place(batch))
                watched = {"finite": all_finite(phase, state)} if config.on_nan == "rollback" else {}
                window.add(step, {**sums, **watched}, *([count] if one.stretch > 1 else []))
            bar.update(count)
            self._tell_step(step, phase, sums)
            last = step == phase.last or bool(self._callbacks.stopped)
            if run.is_due(step, config.log_every) or last:
                self._log(step, window.close(step, state), bar)
            if run.is_due(step, config.evaluate_every * run.steps_per_epoch) or last:
                window.check()
                if last and phase.averages and not phase.cut:
                    state = self._average(step, phase, evaluator, state, cached)
                self._evaluate(step, phase, evaluator, state, cached, bar)
                self._save(step, phase, state, window)
                window.restart()
            elif config.checkpoint_every and step % config.checkpoint_every == 0:
                self._save(step, phase, state, window)
            if self._ended():
                self._save(step, phase, state, window)
                break
        return state

    def _average(
        self, step: int, phase: Phase, evaluator: Evaluator, state: TrainState, cached: Cached | None
    ) -> TrainState:
        check_finite(phase, step, state)
        features = cached.validation if cached else None
        state, share, tried = wise_ft.average(self._run, phase, state, evaluator, features)
        losses = {f"loss_{one:g}": found.calibrated_loss() for one, found in tried.items()}
        self._logs.write(step, "average", {"share": share, **losses})
        if tried and step == self._run.num_steps:
            cross_validated.keep(self._run, tried)
        distributed.say(
            f"Weights averaged: {share:.0%} of the trained ones, {1 - share:.0%} of those before the phase."
        )
        return state

    def _log(self, step: int, values: dict[str, Any] | None, bar: tqdm) -> None:
        if values is None:  # every step of the window was skipped
            return
        self._logs.write(step, "train", values)
        bar.set_postfix_str(_postfix(values), refresh=False)

    def _ended(self) -> bool:
        stopped = bool(self._callbacks.stopped) or _stops_early(self._run.config, self.info.history)
        return self._interrupt.check() or stopped

    def _about(self, step: int, phase: Phase) -> dict[str, Any]:
        """What every event tells."""
        epoch = round(step / self._run.steps_per_epoch, 4)
        return {"step": step, "num_steps": self._run.num_steps, "epoch": epoch, "phase": phase.name}

    def _tell_step(self, step: int, phase: Phase, sums: Mapping[str, Any]) -> None:
        if not self._callbacks:
            return
        self._callbacks.tell(StepEnd(**self._about(step, phase), sums=sums))
        per_epoch = self._run.steps_per_epoch
        if step // per_epoch > (step - 1) // per_epoch:
            self._callbacks.tell(EpochEnd(**self._about(step, phase)))

    def _evaluate(
        self, step: int, phase: Phase, evaluator: Evaluator, state: TrainState, cached: Cached | None, bar: tqdm
    ) -> None:
        source = self._run.validation_source
        if not len(source):
            if cross_validated.wanted(self._run.config) and step == self._run.num_steps:
                self._conclude(step)
            return
        start = time.perf_counter()
        found = evaluator(state.variables, source, cached.validation if cached else None)
        if step == self._run.num_steps and not phase.averages:
            cross_validated.keep(self._run, {1.0: found})
        values = found.summary()
        values |= self._run.score(step, values)
        history = (*self.info.history, {"step": step, **values})
        self.info = dataclasses.replace(self.info, history=history, temperature=found.temperature())
        self._logs.write(step, "validation", {**values, "seconds": time.perf_counter() - start})
        if distributed.is_first():
            bar.write(f"step {step}: validation {percent(values)}")
        self._callbacks.tell(EvaluationEnd(**self._about(step, phase), metrics=values, history=history))

    def _conclude(self, step: int) -> None:
        """What the folds say stands for an evaluation of the network that was trained on all images."""
        chosen = cross_validated.read(self._run)
        history = (*self.info.history, cross_validated.entry(chosen, step))
        self.info = dataclasses.replace(self.info, history=history, temperature=chosen["temperature"])
        self._logs.write(step, "validation", cross_validated.logged(chosen))

    def _save(self, step: int, phase: Phase, state: TrainState, window: Window) -> None:
        skipped = sorted(number for number in self._skipped if number <= step)
        self.info = dataclasses.replace(
            self.info,
            data=data_position(self._run, step),
            window=window.save(),
            skipped=tuple(skipped),
            stopped=self._callbacks.stopped or self.info.stopped,
        )
        check_finite(phase, step, state)
        start = time.perf_counter()
        if self._checkpoints.save(step, state.variables, optimizer_items(state), self.info.to_json()):
            self._logs.write(step, "checkpoint", {"seconds": time.perf_counter() - start})


def is_finished(run: Run, step: int, info: CheckpointInfo) -> bool:
    """Whether a run with this checkpoint info is finished after `step` steps."""
    return step >= run.num_steps or info.stopped is not None or _stops_early(run.config, info.history)


def data_position(run: Run, step: int) -> dict[str, int]:
    """Position in the data after `step` steps; with the seed, it determines the order of all further images."""
    epoch, position = divmod(step * run.config.batch_size, len(run.train_source))
    return {"seed": run.config.seed, "epoch": epoch, "position": position}


def _stops_early(config: Config, history: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the best validation score is `early_stopping` evaluations old; depends on the history only."""
    if not config.early_stopping or not history:
        return False
    best = max(range(len(history)), key=lambda i: score(history[i]))
    return len(history) - 1 - best >= config.early_stopping


def _postfix(values: dict[str, float]) -> str:
    return (
        f"loss {values['loss']:.3f}, accuracy {values['accuracy']:.1%}, {values['images_per_second']:.4g} img/s, "
        f"waiting for input {values['waiting']:.0%}"
    )
