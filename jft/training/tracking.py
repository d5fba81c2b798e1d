"""A run and its trackers, `config.trackers`: they follow its log, and are told at the beginning what it is."""

import contextlib

from absl import logging

from jft.data.dataset import sheet
from jft.training.run import Run
from jft.utils import distributed
from jft.utils.logger import Logs
from jft.utils.trackers.processes import Followed, following
from jft.utils.trackers.tracker import TRACKERS as TRACKERS  # so that a config is checked against them


def tracked(run: Run) -> contextlib.AbstractContextManager[Followed]:
    """Within it the run's trackers follow its log; of several processes, those of the first one."""
    return following(run.workdir, run.config.trackers if distributed.is_first() else ())


def introduce(run: Run, logs: Logs, step: int, description: str) -> None:
    """Logs what a run that begins with trackers is, and some of its training images."""
    if step or not run.config.trackers:
        return
    logs.text(step, "run", description)
    try:
        logs.image(step, "training images", sheet(run.train_source, "training"))
    except Exception as error:  # drawing decides nothing
        logging.warning("the training images are not drawn for the trackers (%s)", error)
