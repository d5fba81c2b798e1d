"""The training loop: step, log, evaluate, save."""

import contextlib
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from jft import metrics, tree
from jft.checkpoint import Checkpoints, Meta
from jft.data import pipeline, preprocess
from jft.data.augment import make_train_transform
from jft.data.sources import Source
from jft.describe import describe, farewell, percent
from jft.evaluate import Evaluator
from jft.interrupt import Interrupt
from jft.logs import Logs, progress_bar
from jft.run import Run, create_run, initial_state, open_folder
from jft.steps import TrainState, make_train_step


class NonFiniteLossError(ValueError):
    """The loss became infinite or not a number."""


def train(config: ConfigDict, workdir: str | Path, data: Source | None = None) -> dict[str, Any]:
    """Trains, from the beginning or from where an interrupted run stopped.

    Args:
      config: from a config file.
      workdir: folder of the run.
      data: pictures in memory, from `sources.from_arrays`, in place of `config.dataset`.

    Returns:
      `{'step', 'finished', 'signal', 'history'}`: steps done, whether the run is at its end, the signal that stopped
      it or None, and the evaluations `{'step', 'loss', 'accuracy', 'top5', 'count'}`.

    Raises:
      ValueError: see `create_run` and `initial_state`; or a picture that cannot be read, named.
      NonFiniteLossError: names the step.
      CheckpointWriteError: the disk is full or read-only; earlier checkpoints are whole.
    """
    with Interrupt() as interrupt:
        run = create_run(config, workdir, data)
        state, meta = initial_state(run)
        print(describe(run, state, meta), flush=True)
        if not is_finished(run, int(state.step), meta["history"]):
            state, meta = _start(run, state, meta, interrupt)
    step, history = int(state.step), meta["history"]
    finished = is_finished(run, step, history)
    result = {
        "step": step,
        "finished": finished,
        "signal": None if finished else interrupt.received,
        "history": history,
    }
    print(farewell(run, result), flush=True)
    return result


def _start(run: Run, state: TrainState, meta: Meta, interrupt: Interrupt) -> tuple[TrainState, Meta]:
    """Everything that a wrong config, picture or shape can stop, then the folder, then the loop."""
    batches = train_batches(run, int(state.step))
    first = next(batches)
    preprocess.check_range(first["image"], run.spec)
    train_step = compile_train_step(run, state, first)
    if interrupt.received is not None:
        return state, meta
    batches = itertools.chain([first], batches)
    with (
        contextlib.closing(open_folder(run)) as checkpoints,
        contextlib.closing(Logs(run.workdir, int(state.step))) as logs,
    ):
        state, meta = _loop(run, state, meta, train_step, batches, checkpoints, logs, interrupt)
        checkpoints.wait()
    return state, meta


def _loop(
    run: Run,
    state: TrainState,
    meta: Meta,
    train_step: jax.stages.Compiled,
    batches: Iterator[dict[str, np.ndarray]],
    checkpoints: Checkpoints,
    logs: Logs,
    interrupt: Interrupt,
) -> tuple[TrainState, Meta]:
    config, start = run.config, int(state.step)
    evaluator = make_evaluator(run)
    window = Window(run)

    def save(step: int) -> None:
        window.check()
        check_finite(run, step, state)
        optimizer = {"step": state.step, "opt_state": state.opt_state}
        checkpoints.save(step, state.variables, optimizer, {**meta, "data": data_position(run, step)})

    with progress_bar(total=run.num_steps, initial=start, unit="step", description=config.model) as bar:
        for step in range(start + 1, run.num_steps + 1):
            batch = window.wait_for(batches)
            state, sums = train_step(state, run.parallel.place_batch(on_device(batch)))
            window.add(step, sums)
            bar.update()
            if run.is_due(step, config.log_every):
                values = window.close()
                logs.write(step, "train", values)
                bar.set_postfix_str(_postfix(values), refresh=False)
            if run.is_due(step, config.evaluate_every * run.steps_per_epoch):
                if len(run.validation_source):
                    values = metrics.summarise(evaluator(state.variables, run.validation_source))
                    meta = {**meta, "history": [*meta["history"], {"step": step, **values}]}
                    logs.write(step, "validation", values)
                    bar.write(f"step {step}: validation {percent(values)}")
                save(step)
                window.restart()
            elif config.checkpoint_every and step % config.checkpoint_every == 0:
                save(step)
            if _stops_early(config, meta["history"]):
                break
            if interrupt.received is not None:
                save(step)
                break
    return state, meta


def check_finite(run: Run, step: int, state: TrainState) -> None:
    """Raises a NonFiniteLossError unless all learning leaves are finite; an update may break what its loss did not."""
    for name, leaf in tree.flatten(run.plan.split(state.params)[0]).items():
        if not np.isfinite(np.asarray(leaf)).all():
            raise NonFiniteLossError(f"{name} is not finite after step {step}: {_remedy(run, step)}")


def is_finished(run: Run, step: int, history: list[dict]) -> bool:
    """Whether a run that stands at `step`, with these evaluations, is at its end."""
    return step >= run.num_steps or _stops_early(run.config, history)


def data_position(run: Run, step: int) -> dict[str, int]:
    """Where in the order of pictures a step ends; all there is to save of the input, as order is a function of it."""
    epoch, position = divmod(step * run.config.batch_size, len(run.train_source))
    return {"seed": run.config.seed, "epoch": epoch, "position": position}


def make_evaluator(run: Run) -> Evaluator:
    """The evaluator that a run's config describes."""
    return Evaluator(
        run.model,
        run.spec,
        run.parallel,
        fit=run.config.fit,
        batch_size=run.config.eval_batch_size,
        resize_on=run.config.resize_on,
        cache_bytes=run.config.cache_bytes,
    )


def train_batches(run: Run, start: int) -> Iterator[dict[str, np.ndarray]]:
    """Training batches from step `start` to the end of the run; see `pipeline.train_batches`."""
    return pipeline.train_batches(
        run.train_source,
        run.spec,
        batch_size=run.config.batch_size,
        seed=run.config.seed,
        start_step=start,
        num_steps=run.num_steps - start,
        fit=run.config.fit,
        resize_on=run.config.resize_on,
        cache_bytes=run.config.cache_bytes,
    )


def on_device(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The part of a batch that the steps read; the index stays on the host."""
    return {key: batch[key] for key in ("image", "label", "mask")}


def compile_train_step(run: Run, state: TrainState, batch: dict[str, np.ndarray]) -> jax.stages.Compiled:
    """The training step, compiled for batches like `batch`; it takes the state's memory."""
    config = run.config
    step = make_train_step(
        run.model,
        run.plan,
        run.tx,
        schedule=run.schedule,
        transform=make_train_transform(run.spec, fit=config.fit, flip=config.flip, crop_padding=config.crop_padding),
        seed=config.seed,
        label_smoothing=config.label_smoothing,
        accumulate=config.accumulate,
        axis_name=run.parallel.axis_name,
    )
    return run.parallel.compile(step, state, run.parallel.place_batch(on_device(batch)), donate=True)


class Window:
    """Metrics and times of the steps since the last line of the log."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._total: metrics.Sums | None = None
        self._pending: list[tuple[int, Any]] = []
        self.restart()

    def restart(self) -> None:
        """Starts the clock anew, as after an evaluation."""
        self._start, self._waited, self._steps = time.perf_counter(), 0.0, 0

    def wait_for(self, batches: Iterator) -> Any:
        """The next batch, counting the time it takes to come."""
        start = time.perf_counter()
        batch = next(batches)
        self._waited += time.perf_counter() - start
        return batch

    def add(self, step: int, sums: metrics.Sums) -> None:
        """Notes a step's sums, which the device may still be computing."""
        self._pending.append((step, sums))
        self._steps += 1
        # At most two steps in the queue: more would hide where the time goes and hold their batches in memory.
        if len(self._pending) > 2:
            jax.block_until_ready(self._pending[-3][1])

    def check(self) -> None:
        """Fetches what is pending; raises a NonFiniteLossError naming the first step whose loss is not finite."""
        for step, sums in self._pending:
            if not np.isfinite(sums["objective"]):
                raise NonFiniteLossError(
                    f"the loss of step {step} is {float(sums['objective'])}: {_remedy(self._run, step)}"
                )
            self._total = metrics.add(self._total, sums)
            self._last = step
            self._rate = float(sums["learning_rate"])
        self._pending.clear()

    def close(self) -> dict[str, float]:
        """Means over the window, as logged; then a new one begins."""
        self.check()
        seconds = time.perf_counter() - self._start
        total, step = self._total, self._last
        count = float(total["count"])
        values = {
            "epoch": round(step / self._run.steps_per_epoch, 4),
            "loss": float(total["objective"]) / count,
            "accuracy": float(total["correct"]) / count,
            "grad_norm": float(total["grad_norm"]) * self._run.config.batch_size / count,
            "learning_rate": self._rate,
            "images_per_second": self._steps * self._run.config.batch_size / seconds,
            "waiting": self._waited / seconds,
        }
        self._total = None
        self.restart()
        return values


def _stops_early(config: ConfigDict, history: list[dict]) -> bool:
    """Whether the best validation accuracy is `early_stopping` evaluations old; a function of the history alone."""
    if not config.early_stopping or not history:
        return False
    best = max(range(len(history)), key=lambda i: history[i]["accuracy"])
    return len(history) - 1 - best >= config.early_stopping


def _remedy(run: Run, step: int) -> str:
    rate = float(run.schedule(step - 1))
    return f"lower the learning rate ({rate:.3g}) or set clip_norm. Checkpoints before it are whole."


def _postfix(values: dict[str, float]) -> str:
    return (
        f"loss {values['loss']:.3f}, accuracy {values['accuracy']:.1%}, {values['images_per_second']:.1f} images/s, "
        f"waiting for input {values['waiting']:.1%}"
    )
