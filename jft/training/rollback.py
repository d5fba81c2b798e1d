"""The record of skipped steps, whose loss, gradient or update was NaN or infinite, or whose gradient spiked.

The order of images, the schedule and all randomness are functions of the step. So a skipped step keeps its number: its
images are read and not used, and only the step counter changes. PaLM was trained in this way, by going back to a
checkpoint and skipping the batches of a spike (Chowdhery et al., 2022, section 5.1).
"""

import dataclasses
from pathlib import Path
from typing import TypedDict

from jft.data import loader
from jft.training.progress import NonFiniteLossError
from jft.training.run import Run
from jft.utils import checksum, distributed, json_file
from jft.utils.logger import write_json

FILE = "skipped_steps.json"
_REMEDY = "restore it, or delete it; then the run finds faulty steps after the newest checkpoint again"


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A skipped step.

    Attributes:
      step: its number, from 1.
      fault: what was wrong with it, for people.
      images: names of its images, which may be the cause.
    """

    step: int
    fault: str
    images: tuple[str, ...]


class _Record(TypedDict):
    steps: list[Skipped]


def read(workdir: Path) -> tuple[Skipped, ...]:
    """The skipped steps of a run, from the record in its folder; process 0 reads it for all.

    Raises:
      ValueError: the record is damaged.
    """
    rows, problem = [], None
    if distributed.is_first() and (path := workdir / FILE).exists():
        try:
            rows = json_file.read(path, _Record, _REMEDY)["steps"]
        except (OSError, ValueError) as error:
            problem = str(error)
    rows, problem = distributed.from_first((rows, problem))
    if problem:
        raise ValueError(problem)
    return tuple(Skipped(row["step"], row["fault"], tuple(row["images"])) for row in rows)


def record(run: Run, error: NonFiniteLossError) -> Skipped:
    """Records in the run's folder that the step at fault is skipped from now on.

    Args:
      run: its config says whether to roll back, and how often.
      error: the error of the step.

    Raises:
      NonFiniteLossError: `on_nan` is not 'rollback', or `max_rollbacks` steps are skipped already.
    """
    if run.config.on_nan != "rollback":
        raise error
    known = read(run.workdir)
    if len(known) >= run.config.max_rollbacks:
        steps = ", ".join(str(skipped.step) for skipped in known)
        raise NonFiniteLossError(
            error.step,
            f"{error.fault}, and {len(known)} steps are skipped already ({steps}; see {run.workdir / FILE}), the most "
            f"that max_rollbacks = {run.config.max_rollbacks} allows",
            error.remedy,
        ) from error
    rows, _ = loader.train_rows(
        run.train_source,
        batch_size=run.config.batch_size,
        seed=run.config.seed,
        balanced=run.config.balance == "sampling",
    )(error.step - 1)
    found = Skipped(error.step, error.fault, tuple(run.train_source.image_name(int(row)) for row in rows))
    if distributed.is_first():
        steps = [dataclasses.asdict(skipped) for skipped in (*known, found)]
        write_json(run.workdir / FILE, checksum.added({"steps": steps}))
    distributed.wait_for_all("the skipped step is recorded")
    distributed.say(
        f"WARNING: {error.fault}. Going back to the newest checkpoint and skipping step {error.step} "
        f"({len(known) + 1} of at most {run.config.max_rollbacks}; its images are listed in {run.workdir / FILE})."
    )
    return found
