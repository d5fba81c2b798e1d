"""What a run learns of its teacher: logits that are cached where an image's variants can be counted, else computed.

Cached logits take a few bytes an image and the teacher's time once; computed ones take it in every step. Both are of
the images that the student sees, augmented alike, so the losses are the same up to rounding.
"""

import dataclasses
import functools
from collections.abc import Iterator

import jax
import numpy as np

from jft.data.feeds.feed import Feed
from jft.data.feeds.images import Batch, Rows
from jft.evaluation.checkpoint_info import CheckpointInfo
from jft.features import extract as extraction
from jft.features.feature_step import Wanted
from jft.features.store import Features
from jft.metrics import distillation
from jft.training import feature_cache
from jft.training.phases import Phase
from jft.training.run import Run
from jft.training.step import Teaching, TrainState
from jft.utils import distributed
from jft.utils.interrupt import Interrupt
from jft.utils.mesh import Parallel

_DTYPE = "float32"  # of the cached logits, which are small whatever `features_dtype` is


def _obstacle(run: Run, phase: Phase) -> str | None:
    """Why the logits are computed in every step of a phase, or None: they are cached.

    That does not depend on the phase's length, so a part of a run, such as one that is replayed, has the run's bits.
    """
    assert run.teacher is not None
    if run.config.cache_features is False:
        return "cache_features = False"
    if run.teacher.size != phase.spec.size:
        return f"it reads images of {run.teacher.size} pixels, and is shown those of {phase.spec.size}"
    return feature_cache.uncountable(run, phase)


def cached(run: Run, phase: Phase) -> bool:
    """Whether a phase reads cached logits of the run's teacher, rather than computing them, or having none."""
    return run.teacher is not None and not phase.solved and _obstacle(run, phase) is None


def lines(run: Run) -> list[str]:
    """A line on the teacher for each phase that has one."""
    told = []
    for phase in run.phases:
        if run.teacher and not phase.solved:
            where = f" of {phase.name}" if len(run.phases) > 1 else ""
            why = _obstacle(run, phase)
            how = f"computed in every step: {why}" if why else "cached"
            told.append(f"Teacher{where}: {run.teacher.info.model} of {run.teacher.folder}, its logits {how}.")
    return told


def with_teacher(run: Run, state: TrainState, info: CheckpointInfo) -> tuple[TrainState, CheckpointInfo]:
    """The state with the teacher's variables, and the info with their fingerprint."""
    if run.teacher is None:
        return state, info
    variables, fingerprint = run.teacher.read(run.parallel)
    distributed.agree({"the teacher": fingerprint}, remedy="give every process the same teacher.")
    return state.replace(teacher=variables), dataclasses.replace(info, teacher=fingerprint)


def teaching(run: Run, phase: Phase) -> Teaching | None:
    """How the teacher enters the loss of a phase; None without one."""
    if run.teacher is None:
        return None
    losses = functools.partial(distillation.losses, run.objective, temperature=run.config.teacher_temperature)
    return Teaching(run.config.teacher_weight, losses, run.teacher.make_logits(phase.spec))


def with_example(run: Run, phase: Phase, batch: Batch) -> Batch:
    """A batch on the host with logits, all 0, if the phase reads cached ones, to compile its step for."""
    if not cached(run, phase):
        return batch
    shape = len(batch["label"]), phase.augmentation.num_variants(run.config.fit), run.objective.num_outputs
    return {**batch, "taught": np.zeros(shape, _DTYPE)}


def prepare(run: Run, phase: Phase, state: TrainState, interrupt: Interrupt) -> Features | None:
    """The teacher's logits for each variant of each training image, [n, variants, outputs]; None after a signal."""
    assert run.teacher is not None
    config = run.config
    return extraction.extract(
        run.teacher.model.clone(axis_name=run.parallel.axis_name),
        state.teacher,
        run.train_source,
        run.teacher.spec(phase.spec),
        Wanted("head", False, config.fit, config.resize_on, phase.augmentation),
        folder=feature_cache.features_dir(run),
        parallel=run.parallel,
        batch_size=config.eval_batch_size,
        input=config.input,
        dtype=_DTYPE,
        interrupt=interrupt,
    )


@dataclasses.dataclass(frozen=True)
class TaughtFeed:
    """A `Feed` of images or of cached features that adds cached logits: `'taught'` [b, variants, outputs].

    Attributes:
      feed: the feed without them.
      logits: of all images, from `prepare`.
      parallel: the devices.
    """

    feed: Feed
    logits: Features
    parallel: Parallel

    def batches(self, rows: Rows, steps: range) -> Iterator[Batch]:
        """See `Feed.batches`."""
        for step, batch in zip(steps, self.feed.batches(rows, steps), strict=True):
            yield {**batch, "taught": self.logits.gather(rows(step)[0])}

    def place(self, batch: Batch) -> dict[str, jax.Array]:
        """See `Feed.place`."""
        return self.parallel.place_batch({"taught": batch["taught"]}) | self.feed.place(batch)

    def check(self, batch: Batch) -> None:
        """See `Feed.check`."""
        self.feed.check(batch)
