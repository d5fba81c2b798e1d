"""`jft check`: whether a config will train, what the run will cost, and whether it overfits one batch."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from jft.config import Config
from jft.data import datasets, notes
from jft.training.loop import checked_run
from jft.training.preflight import Preflight
from jft.training.run import Run, check_workdir
from jft.utils.files import check_folder
from jft.utils.findings import Finding, tried
from jft.utils.option_names import option
from jft.utils.registry import code_allowed
from jft.utils.text import one_line


def check(
    config: Config, workdir: str | Path, data: datasets.Source | None = None, *, overfit_steps: int = 30
) -> Iterator[Finding]:
    """Checks a config without arms; writes nothing into the run's folder.

    Args:
      config: from a config file.
      workdir: folder of the planned run.
      data: images in memory, in place of `config.dataset`.
      overfit_steps: see `overfit`.

    Yields:
      One finding per check, as soon as it is known. Checks that depend on a failed one are skipped.
    """
    folder = tried("folder", _folder, config, Path(workdir))
    yield folder
    with notes.heard() as heard:
        run = _planned(config, data)
    yield from (Finding("note", note) for note in heard)
    if isinstance(run, Finding):
        yield run
        return
    yield Finding("config", f"{config.model} at {run.spec.size} pixels, {_length(run)}")
    place = None if folder.wrong else Path(workdir)
    yield from Preflight(run, place, overfit_steps=overfit_steps).findings()


def planned(config: Config, data: datasets.Source | None = None) -> Run:
    """The run of a config, in no folder that is there; ValueError where something is wrong with config or data."""
    with tempfile.TemporaryDirectory() as empty, code_allowed():  # the user is about to train it
        return checked_run(config, Path(empty) / "run", data)


def _planned(config: Config, data: datasets.Source | None) -> Run | Finding:
    """The run, or a finding that says what is wrong with its config or data."""
    try:
        return planned(config, data)
    except (ValueError, OSError) as error:
        return Finding("config", one_line(error), wrong=True)


def _length(run: Run) -> str:
    if run.solved:
        return f"no steps: {run.config.solver} fits the head"
    phases = ", then ".join(f"{phase.num_steps:,} of {phase.name}" for phase in run.phases)
    return f"{run.num_steps:,} steps of {run.config.batch_size} images: {phases}"


def _folder(config: Config, workdir: Path) -> Finding:
    """Whether the run's folder can be created and holds no other run."""
    check_workdir(config, workdir)
    check_folder(workdir, f"give another {option('workdir')}")
    begun = (workdir / "config.json").exists()
    return Finding("folder", f"{workdir} {'holds this run, which will resume' if begun else 'is free'}")
