"""`jft replay`: repeats steps of a run from the checkpoint before them, and compares with the log."""

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from jft.data.source import Source
from jft.evaluation.checkpoint_info import CheckpointInfo
from jft.training import feature_cache
from jft.training.cut import cut
from jft.training.loop import checked_run
from jft.training.programs import compiled, with_examples
from jft.training.recorded import recorded_config
from jft.training.run import Run
from jft.training.state import abstract_items, fresh_state, resumed_state
from jft.training.trainer import Loop
from jft.utils.checkpoint import Checkpoints
from jft.utils.interrupt import Interrupt
from jft.utils.logger import read_metrics

# Timing fields of a log line, which differ every time.
MEASURED = ("time", "images_per_second", "waiting", "seconds")
_TOLERANCE = 1e-5  # relative, between different numbers of devices, which sum in another order


@dataclasses.dataclass(frozen=True)
class Line:
    """The comparison of one log line.

    Attributes:
      step: its step.
      kind: 'train' or 'validation'.
      differences: name -> (logged value, replayed value), of values that differ.
    """

    step: int
    kind: str
    differences: dict[str, tuple[Any, Any]]


@dataclasses.dataclass(frozen=True)
class Replay:
    """The result of a replay.

    Attributes:
      start: step of the checkpoint it began at; 0 for the beginning.
      lines: comparisons of the lines that the run logged from there on.
      exact: True: same number of devices, compared bit for bit. False: compared to 1e-5, without parameters.
    """

    start: int
    lines: list[Line]
    exact: bool

    @property
    def same(self) -> bool:
        """Whether no line differs."""
        return not any(line.differences for line in self.lines)


def replay(workdir: str | Path, step: int, data: Source | None = None) -> Replay:
    """Restores the checkpoint before a step, trains to the step, and compares; writes nothing into the run's folder.

    Args:
      workdir: folder of the run.
      step: the last step to replay.
      data: the images, for a run that was trained on images in memory.

    Raises:
      ValueError: there is no run, its images have changed, a solver fitted its head, it did not reach the step, or it
        logged nothing in between.
      Stopped: a signal came.
    """
    workdir = Path(workdir)
    # The config at the time of the step: a resumed run may save at other intervals, and use other devices.
    with contextlib.closing(Checkpoints(workdir, read_only=True, from_json=CheckpointInfo.from_json)) as checkpoints:
        then = checkpoints.newest_info(first_from=step)
    if then is None:
        raise ValueError(f"{workdir} holds no finished checkpoint, so its config is unknown: train it further first.")
    record = then.trained_on
    if data is None and not record.dataset:
        raise ValueError(
            f"{workdir} was trained on images in memory, which no command can read: call "
            "jft.training.replay.replay(run, step, data=...) with them."
        )
    config = recorded_config(workdir, then)
    if config.solver != "steps":
        raise ValueError(f"{workdir}'s head was fitted by {config.solver}, so there are no steps to replay.")
    whole = checked_run(config, workdir, data)
    if not 0 < step <= whole.num_steps:
        raise ValueError(f"--step {step} is not a step of the run: give one of 1 .. {whole.num_steps}.")
    run = dataclasses.replace(cut(whole, step), accumulate=then.accumulate)
    state, info = _state_before(run, step)
    start = int(state.step)
    logged = _logged(workdir, start, step)
    phases = feature_cache.decide(run, state, then.cached)
    log = _Memory()
    with Interrupt() as interrupt:
        loop = Loop(run, info, cast(Checkpoints, _Nowhere()), cast(Any, log), interrupt)
        loop(state, compiled(run, with_examples(run, phases, start)))
        if interrupt.received is not None:
            raise interrupt.stopped()
    exact = then.devices == dict(run.parallel.mesh.shape)
    return Replay(start, [_compared(line, log.lines, exact) for line in logged], exact)


def _state_before(run: Run, step: int) -> tuple[Any, Any]:
    with contextlib.closing(
        Checkpoints(run.workdir, read_only=True, from_json=CheckpointInfo.from_json)
    ) as checkpoints:
        found = checkpoints.latest(lambda info: abstract_items(run, info), before=step)
    return resumed_state(run, *found) if found else fresh_state(run)


def _logged(workdir: Path, start: int, step: int) -> list[dict[str, Any]]:
    lines = [line for line in read_metrics(workdir) if line["kind"] in ("train", "validation")]
    between = [line for line in lines if start < line["step"] <= step]
    if not between or between[-1]["step"] != step:
        steps = sorted({line["step"] for line in lines if line["step"] > step})
        near = f"give --step {steps[0]}, the next logged step" if steps else "it has no later log line"
        raise ValueError(f"{workdir} logged nothing at step {step}, and its checkpoint before is {start}: {near}.")
    return between


def _compared(line: dict[str, Any], lines: list[dict[str, Any]], exact: bool) -> Line:
    [found] = [other for other in lines if (other["step"], other["kind"]) == (line["step"], line["kind"])] or [{}]
    names = [name for name in line if name not in MEASURED and (exact or name != "parameters")]
    differences = {name: (line[name], found.get(name)) for name in names if not _same(line[name], found, name, exact)}
    return Line(line["step"], line["kind"], differences)


def _same(logged: Any, found: Mapping[str, Any], name: str, exact: bool) -> bool:
    if name not in found:
        return False
    if exact or not isinstance(logged, float):
        return logged == found[name]
    return bool(np.isclose(logged, found[name], rtol=_TOLERANCE, atol=1e-7))


def format_replay(found: Replay, workdir: str | Path) -> str:
    """Formats the result as lines for a terminal."""
    how = "bit for bit" if found.exact else f"to {_TOLERANCE:g}, on another number of devices"
    lines = [f"{workdir} from {f'checkpoint {found.start}' if found.start else 'its beginning'}, compared {how}:"]
    for line in found.lines:
        changes = ", ".join(f"{name} was {was} and is {now}" for name, (was, now) in line.differences.items())
        exact = found.exact and line.kind == "train"
        same = f"the same{', including the fingerprint of the parameters' if exact else ''}"
        lines.append(f"  step {line.step} {line.kind}: {changes or same}")
    return "\n".join(lines)


class _Memory:
    """Stands in for `Logs`: keeps the lines in memory."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def write(self, step: int, kind: str, values: dict[str, Any]) -> None:
        self.lines.append({"step": step, "kind": kind, **values})


class _Nowhere:
    """Stands in for `Checkpoints`: saves nothing."""

    def save(self, step: int, variables: Any, optimizer: Any, meta: Any) -> None:
        pass
