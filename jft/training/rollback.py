"""Steps that are left out because their loss, gradient or update was not finite or spiked: the record of them.

The order of images, the schedule and all randomness are functions of the step. So a step that is left out keeps its
number: its images are read and contribute nothing, and nothing moves but the count of steps. Going back to a checkpoint
and leaving out the images of the spike is how PaLM was trained (Chowdhery et al., 2022, section 5.1).
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
_REMEDY = "restore it, or delete it, and steps after the newest checkpoint that are not finite are found again"


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A step that is left out.

    Attributes:
      step: its number, from 1.
      fault: what was wrong with it, for people.
      images: names of its images, which may be what is wrong.
    """

    step: int
    fault: str
    images: tuple[str, ...]


class _Record(TypedDict):
    steps: list[Skipped]


def read(workdir: Path) -> tuple[Skipped, ...]:
    """The steps that a run leaves out, as recorded in its folder; process 0 reads them for all.

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
    """Notes in the run's folder that the step at fault is left out from now on.

    Args:
      run: its config says whether that is wanted, and how often.
      error: of the step.

    Raises:
      NonFiniteLossError: it is not wanted, or `max_rollbacks` steps are left out already.
    """
    if run.config.on_nan != "rollback":
        raise error
    known = read(run.workdir)
    if len(known) >= run.config.max_rollbacks:
        steps = ", ".join(str(skipped.step) for skipped in known)
        raise NonFiniteLossError(
            error.step,
            f"{error.fault}, and {len(known)} steps are left out already ({steps}; see {run.workdir / FILE}), as many "
            f"as max_rollbacks = {run.config.max_rollbacks} allows",
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
        f"{error.fault}: back to the newest checkpoint, and step {error.step} is left out "
        f"({len(known) + 1} of at most {run.config.max_rollbacks}; its images are listed in {run.workdir / FILE})."
    )
    return found
