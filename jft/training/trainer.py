"""The loop over the steps of a run: step, log, evaluate, save."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from jft.config import Config
from jft.evaluation.checkpoint_info import CheckpointInfo
from jft.evaluation.evaluator import Evaluator
from jft.features.store import Features
from jft.training import (
    cross_validated,
    feature_cache,
    linear_probe,
    rollback,
    taught,
    wise_ft,
)
from jft.training.batches import make_evaluator, train_feed, train_rows
from jft.training.callbacks import Callbacks, EpochEnd, EvaluationEnd, StepEnd
from jft.training.feature_cache import Cached
from jft.training.messages import percent
from jft.training.phase_run import PhaseRun
from jft.training.phases import Phase
from jft.training.progress import Window, all_finite, check_finite
from jft.training.run import Run
from jft.training.state import enter_phase, optimizer_items
from jft.training.step import TrainState
from jft.utils import distributed, waiting
from jft.utils.checkpoint import Checkpoints
from jft.utils.interrupt import Interrupt
from jft.utils.logger import Logs, progress_bar
from jft.utils.ranking import score


class Loop:
    """The training loop over all phases: step, log, evaluate, save.

    Attributes:
      info: of the next checkpoint; its history grows with the evaluations.
    """

    def __init__(
        self,
        run: Run,
        info: CheckpointInfo,
        checkpoints: Checkpoints,
        logs: Logs,
        interrupt: Interrupt,
        until: int | None = None,
    ) -> None:
        """Stores where to write, and the step to stop at, None for the run's end; writes nothing yet."""
        self.info = info
        self._until = run.num_steps if until is None else until
        self._run, self._checkpoints, self._logs, self._interrupt = run, checkpoints, logs, interrupt
        self._skipped = {skipped.step: skipped.fault for skipped in rollback.read(run.workdir)}
        self._callbacks = Callbacks(run.callbacks)
        self._evaluator = make_evaluator(run)  # of images; compiled once, whatever the number of phases

    @waiting.during("training")
    def __call__(self, state: TrainState, phases: Sequence[PhaseRun]) -> TrainState:
        """Trains until the step to stop at, an early stop, or a signal.

        Args:
          state: the initial state; its memory is donated.
          phases: those that are not over, with their compiled steps.

        Returns:
          The state at the end.
        """
        start = int(state.step)
        with progress_bar(total=self._until, initial=start, unit="step", description=self._run.config.model) as bar:
            for one in phases:
                phase, step = one.phase, int(state.step)
                if step >= phase.last:
                    continue
                if self._ended() or step >= self._until:
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
        end = min(phase.last, self._until)
        batches = feed.batches(train_rows(run), range(step, end))
        window = Window(run, phase, state, self.info.window)
        while step < end:
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
            elif step == end:
                self._pause(step, phase, evaluator, state, cached, window)
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
        stopped = bool(self._callbacks.stopped) or stops_early(self._run.config, self.info.history)
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

    def _pause(
        self, step: int, phase: Phase, evaluator: Evaluator, state: TrainState, cached: Cached | None, window: Window
    ) -> None:
        """Evaluates for the log alone, where the run has no evaluation: its history is that without a pause."""
        window.check()
        if len(source := self._run.validation_source):
            found = evaluator(state.variables, source, cached.validation if cached else None)
            self._logs.write(step, "pause", found.summary())
        self._save(step, phase, state, window)

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


def is_finished(run: Run, step: int, info: CheckpointInfo, until: int | None = None) -> bool:
    """Whether a run with this checkpoint info is finished after `step` steps, or has reached the step `until`."""
    return (
        step >= (run.num_steps if until is None else until)
        or info.stopped is not None
        or stops_early(run.config, info.history)
    )


def data_position(run: Run, step: int) -> dict[str, int]:
    """Position in the data after `step` steps; with the seed, it determines the order of all further images."""
    epoch, position = divmod(step * run.config.batch_size, len(run.train_source))
    return {"seed": run.config.seed, "epoch": epoch, "position": position}


def stops_early(config: Config, history: Sequence[Mapping[str, Any]]) -> bool:
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
