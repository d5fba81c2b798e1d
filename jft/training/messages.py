"""The messages of a run on the terminal: its description at the start and its result at the end."""

import signal
from collections.abc import Sequence
from typing import Any

import jax

from jft.evaluation.checkpoint_info import CheckpointInfo
from jft.metrics import image_metrics
from jft.training import optim, taught
from jft.training.batches import input_choice
from jft.training.phase_run import PhaseRun
from jft.training.phase_table import phase_table
from jft.training.run import Run
from jft.training.stage_table import transfer_table
from jft.training.step import TrainState
from jft.utils import xla_flags
from jft.utils.ranking import best_step
from jft.utils.text import named_step, terminal


def describe(run: Run, state: TrainState, info: CheckpointInfo, phases: Sequence[PhaseRun], brief: bool = False) -> str:
    """Describes a run at its start: model, weights, data, stages, and the `phases` ahead; `brief` omits the stages."""
    weights = str(info.provenance or "none, from scratch")
    if run.config.weights_path and not run.row:
        weights += f" ({run.config.weights_path} is not read)"
    names = run.train_source.class_names
    return "\n".join(
        [
            f"{run.config.model} at {run.spec.size} pixels on {run.parallel.mesh.size} x "
            f"{run.parallel.mesh.devices.flat[0].device_kind}; weights: {weights}",
            f"{terminal(run.train_source.name)}: {len(run.train_source):,} training images, "
            f"{len(run.validation_source):,} validation images, {len(names)} classes: "
            f"{', '.join(map(terminal, names))}",
            *([] if brief else [_stages(run, state, info)]),
            *([phase_table(run.phases, state.variables)] if len(run.phases) > 1 else []),
            *(
                f"Features{f' of {one.phase.name}' if len(run.phases) > 1 else ''}: {one.why}"
                f"{f', up to {one.stretch} steps in a call' if one.stretch > 1 else ''}."
                for one in phases
            ),
            *taught.lines(run),
            *([] if all(one.cached for one in phases) else [f"Input: {input_choice(run)}."]),
            *filter(None, [flags_line()]),
            f"{_work(run, int(state.step))}, in {run.workdir}",
        ]
    )


def flags_line() -> str:
    """A line on missing XLA flags that would make this process faster, or ''."""
    found = xla_flags.apply()
    return f"XLA's flags for CPU are {found.told}." if found.slow and jax.default_backend() == "cpu" else ""


def _stages(run: Run, state: TrainState, info: CheckpointInfo) -> str:
    """The stage table of the current phase."""
    params, phase = state.params, run.phase_after(int(state.step))
    everything = optim.make_optimizer(phase.config, jax.tree.map(lambda _: False, params), given=phase.given)
    return transfer_table(
        run.model,
        state.variables,
        phase.plan,
        frozenset(info.pretrained),
        run.spec.size,
        (_nbytes(phase.init.eval_shape(params)), _nbytes(jax.eval_shape(everything.init, params))),
    )


def _work(run: Run, step: int) -> str:
    if run.solved:
        return f"Fitting the head by {run.config.solver}"
    return f"{run.num_steps:,} steps of {run.config.batch_size} images, from step {step:,}"


def farewell(run: Run, result: dict[str, Any]) -> str:
    """The result of the run and the next command."""
    skipped = ", ".join(map(str, result["skipped"]))
    warning = f"WARNING: steps skipped because of NaN, infinity or a spike: {skipped}.\n" if skipped else ""
    return warning + _ending(run, result)


def _ending(run: Run, result: dict[str, Any]) -> str:
    if not result["finished"]:
        name = signal.Signals(result["signal"]).name
        if not result["step"]:
            return f"{name}: stopped before the first step. Run the same command again."
        return f"{name}: saved at step {result['step']:,} of {run.num_steps:,}. Run the same command again to resume."
    if not result["history"]:
        return f"Done: {result['step']:,} steps in {run.workdir}."
    best = next(values for values in result["history"] if values["step"] == best_step(result["history"]))
    # Images in memory are not in the config: only Python can pass them again.
    test = f"jft evaluate {run.workdir}" if run.data is None else f"jft.evaluate({str(run.workdir)!r}, data)"
    step = named_step(best["step"], run.info().phase_of(best["step"]))
    return f"Done: best validation {percent(best)} at {step}. To test it: {test}"


def percent(values: dict[str, float]) -> str:
    """The metrics of an evaluation in one phrase."""
    if "mean_average_precision" in values:
        rate = f"mean average precision {values['mean_average_precision']:.2%}"
    else:
        rate = f"accuracy {values['accuracy']:.2%}"
    if "folds" in values:
        rate += f" ({values['accuracy_low']:.1%} to {values['accuracy_high']:.1%})"
    further = "".join(f", {name} {value:.4f}" for name, value in values.items() if name not in image_metrics.TAKEN)
    return f"{rate}, loss {values['loss']:.4f}{further} ({_counted(values)})"


def _counted(values: dict[str, float]) -> str:
    folds = f", cross-validated, folds: {values['folds']}" if "folds" in values else ""
    return f"n = {values['count']:,}{folds}"


def _nbytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
