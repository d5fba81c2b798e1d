"""Cached features: when a run reads the output of its frozen stages from disk instead of computing it, and how."""

import dataclasses
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jft.data.augment import Augmentation
from jft.data.source import Source
from jft.data.transforms import stored_size
from jft.features import extract as extraction
from jft.features.cache_key import image_digests
from jft.features.feature_step import Wanted, make_feature_step
from jft.features.store import Features, FeatureStore
from jft.models import abstract_variables
from jft.training.phase_run import PhaseRun
from jft.training.phases import Phase
from jft.training.run import Run
from jft.training.step import TrainState
from jft.utils import distributed
from jft.utils.cache_dir import cache_dir
from jft.utils.interrupt import Interrupt
from jft.utils.logger import Logs
from jft.utils.text import human_bytes

_POOLED = {"average": ", averaged", "token": ", class token", "both": ", class token and average"}


@dataclasses.dataclass(frozen=True)
class Cached:
    """The cached features of a phase.

    Attributes:
      train: [n, variants, ...], of the training images.
      validation: [n, 1, ...], of the validation images; None if there are none.
    """

    train: Features
    validation: Features | None


def decide(run: Run, state: TrainState | None, saved: Mapping[int, bool]) -> tuple[PhaseRun, ...]:
    """Decides which of the remaining phases read cached features, before the first of them begins.

    Args:
      run: its config says whether to cache, its augmentation whether that is possible.
      state: the current state, read only if disk space is short, to find the features that are stored already. None
        in a check before there is a state; disk space is not checked then.
      saved: first step of a phase -> the decision made when the run began; a resumed run keeps it.

    Returns:
      The phases that are not over, in order.

    Raises:
      ValueError: `config.cache_features` is True, or a solver needs it, and no phase can be cached.
    """
    step = 0 if state is None else int(state.step)
    ahead = [phase for phase in run.phases if phase.last > step]
    found: list[PhaseRun] = []
    reserved, counted = 0, set()
    for phase in ahead:
        if phase.first in saved:
            cached = saved[phase.first]
            why = _description(run, phase) if cached else "not cached, as when the run began"
            found.append(PhaseRun(phase, cached, why))
            continue
        before = [other for other in ahead if other.first < phase.first]
        settled = all(set(phase.plan.frozen_stages) <= set(other.plan.frozen_stages) for other in before)
        obstacle = _obstacle(run, phase)
        # If no earlier phase changes these stages, features at the same boundary are the same: count them once.
        shared = settled and phase.plan.boundary in counted
        if obstacle is None and state is not None and not shared:
            obstacle, needed = distributed.from_first(_room(run, phase, state, settled, reserved))
            if obstacle is None:
                reserved += needed
                counted.add(phase.plan.boundary)
        why = _description(run, phase) if obstacle is None else f"not cached: {obstacle}"
        found.append(PhaseRun(phase, obstacle is None, why))
    solved = [one for one in found if one.phase.solved]
    lacking = [one for one in solved if not one.cached]
    if run.config.cache_features is True and not saved and not any(one.cached for one in found):
        lacking = lacking or found
    if lacking:
        reasons = "; ".join(one.why for one in lacking)
        asks = f"solver = {solved[0].phase.config.solver!r}" if solved else "cache_features = True"
        raise ValueError(
            f"{asks}, but the features are {reasons}. Change that, or set cache_features = 'auto' and solver = 'steps'."
        )
    return tuple(found)


def _description(run: Run, phase: Phase) -> str:
    """Which features are cached, their shape and size, and the folder."""
    variants, *shape = feature_shape(run, phase)
    count = len(run.train_source) * variants + len(run.validation_source)
    size = count * int(np.prod(shape)) * jnp.dtype(run.config.features_dtype).itemsize
    pooled = run.model.averages_after(_boundary(phase)) and len(_output(run, phase)) > 1
    how = _POOLED[run.model.pool] if pooled else ""
    return (
        f"cached after {phase.plan.boundary}{how}, {count:,} x {' x '.join(map(str, shape))} "
        f"({human_bytes(size)}) in {features_dir(run)}"
    )


def _obstacle(run: Run, phase: Phase) -> str | None:
    """Why features are not cached, apart from disk space, or None."""
    config = run.config
    if config.cache_features is False:
        return "cache_features = False"
    if phase.plan.boundary is None:
        if phase.plan.frozen_stages:
            return f"the head reads all stages, and not all are frozen (set freeze = {[*run.model.stages()][-2]!r})"
        return "no stage is frozen (set freeze = STAGE)"
    if phase.spec != run.spec:
        return f"the phase trains at {phase.spec.size} pixels, and validation has {run.spec.size}"
    if why := uncountable(run, phase):
        return why
    if phase.solved:
        return None
    if run.teacher and run.teacher.size != phase.spec.size:
        return f"the teacher reads images of {run.teacher.size} pixels, and is shown those of {phase.spec.size}"
    return _loss(run, phase) if config.cache_features == "auto" else None


def uncountable(run: Run, phase: Phase) -> str | None:
    """Why the images of a phase have no fixed number of variants, or None."""
    config = run.config
    if why := phase.augmentation.uncountable(phase.spec, config.fit):
        return f"{why}, so an image has no fixed number of variants"
    if (config.mixup or config.cutmix) and not phase.solved:
        return "mixup and cutmix mix images at random at every step, so an image has no fixed number of variants"
    return None


def _room(run: Run, phase: Phase, state: TrainState, settled: bool, reserved: int) -> tuple[str | None, int]:
    """Why the disk has no space, or None; and the bytes that the features take, beside `reserved` for earlier phases.

    `settled`: no earlier phase changes the frozen stages, so that features stored already can be found.
    """
    # A store with an empty key, as if nothing were stored yet.
    store = FeatureStore(features_dir(run), {}, feature_shape(run, phase), run.config.features_dtype)
    missing = len(run.train_source) + len(run.validation_source)
    if settled and distributed.from_first(store.shortage(missing, beside=reserved)):
        missing = sum(count for _, count in missing_of(run, phase, _variables(state)))
    shortage = store.shortage(missing, beside=reserved) if missing else None
    return (f"{shortage}; fix that, or set features_dir" if shortage else None), store.bytes_needed(missing)


def _loss(run: Run, phase: Phase) -> str | None:
    """Why caching would cost more than it saves, or None."""
    variants = phase.augmentation.num_variants(run.config.fit)
    extracted, read = len(run.train_source) * variants, phase.num_steps * run.config.batch_size
    if read > extracted:
        return None
    return f"the phase reads {read:,} images, and {extracted:,} would be extracted first"


def abstract_params(run: Run) -> dict[str, Any]:
    """Shapes of the model's parameters."""
    return abstract_variables(run.model, run.spec.size)["params"]


def feature_shape(run: Run, phase: Phase) -> tuple[int, ...]:
    """Shape of the cached features of one training image: [variants, ...]."""
    shape = _output(run, phase, run.model.averages_after(_boundary(phase)))
    return (phase.augmentation.num_variants(run.config.fit), *shape)


def _output(run: Run, phase: Phase, pooled: bool = False) -> tuple[int, ...]:
    """Shape of the boundary stage's output for one image."""
    side = stored_size(run.spec, run.config.fit)
    batch = {"image": jax.ShapeDtypeStruct((1, side, side, 3), jnp.uint8)}
    wanted = Wanted(_boundary(phase), pooled, fit=run.config.fit)
    step = make_feature_step(run.model, run.spec, wanted)
    return jax.eval_shape(step, abstract_variables(run.model, run.spec.size), batch).shape[1:]


def wanted_of(run: Run, phase: Phase, augmentation: Augmentation) -> Wanted:
    """Describes the features at a phase's boundary, of the variants that `augmentation` makes."""
    boundary, config = _boundary(phase), run.config
    return Wanted(boundary, run.model.averages_after(boundary), config.fit, config.resize_on, augmentation)


def _boundary(phase: Phase) -> str:
    """The stage whose output is cached."""
    assert phase.plan.boundary is not None  # else nothing is frozen, and nothing cached
    return phase.plan.boundary


def features_dir(run: Run) -> Path:
    """Folder of all feature stores."""
    return Path(run.config.features_dir).expanduser() if run.config.features_dir else cache_dir() / "features"


def example(run: Run, phase: Phase) -> dict[str, np.ndarray]:
    """A batch of cached features, all 0, to compile a phase's step before anything is extracted."""
    size, dtype = run.config.batch_size // run.parallel.shard[1], jnp.dtype(run.config.features_dtype)
    return {
        "feature": np.zeros((size, *feature_shape(run, phase)), dtype),
        "label": run.train_source.labels[np.zeros(size, np.int64)],
        "mask": np.ones(size, bool),
    }


def prepare(run: Run, phase: Phase, state: TrainState, logs: Logs, interrupt: Interrupt) -> Cached | None:
    """Computes the features that are not cached yet, logs the seconds, and opens them; None if a signal came first.

    Raises:
      ValueError: an image that cannot be read, or features that are not finite.
      OSError: the disk is full; names the bytes needed.
    """
    start = time.perf_counter()
    train = features_of(run, phase, state, run.train_source, phase.augmentation, interrupt)
    validation = None
    if train is not None and len(run.validation_source):
        validation = features_of(run, phase, state, run.validation_source, Augmentation(), interrupt)
    if train is None or interrupt.received is not None:
        return None
    logs.write(int(state.step), "features", {"seconds": time.perf_counter() - start})
    return Cached(train, validation)


def features_of(
    run: Run, phase: Phase, state: TrainState, source: Source, augmentation: Augmentation, interrupt: Interrupt
) -> Features | None:
    """Features of a source's images at a phase's boundary; None if a signal came before they were complete.

    Args:
      run: says how images are read, and where features are stored.
      phase: names the boundary.
      state: holds the frozen parameters.
      source: the images.
      augmentation: makes the variants of each image; `Augmentation()` for the single one of evaluation.
      interrupt: stops the extraction.
    """
    return extraction.extract(
        run.model,
        _variables(state),
        source,
        run.spec,
        wanted_of(run, phase, augmentation),
        folder=features_dir(run),
        parallel=run.parallel,
        batch_size=run.config.eval_batch_size,
        input=run.config.input,
        dtype=run.config.features_dtype,
        interrupt=interrupt,
    )


def _variables(state: TrainState) -> dict[str, Any]:
    """The variables that compute features; frozen weights are not averaged, so `state.variables` is not needed."""
    return {"params": state.params, "batch_stats": state.batch_stats}


def missing_of(run: Run, phase: Phase, variables: Mapping[str, Any]) -> Iterator[tuple[FeatureStore, int]]:
    """Yields for training, then validation images the store and how many images it lacks; reads the image files."""
    for source, augmentation in (run.train_source, phase.augmentation), (run.validation_source, Augmentation()):
        store = store_of(run, phase, variables, augmentation)
        yield store, len(store.missing(image_digests(source)))


def store_of(run: Run, phase: Phase, variables: Mapping[str, Any], augmentation: Augmentation) -> FeatureStore:
    """The store of the features at a phase's boundary.

    Args:
      run: says how images are read, and names the folder.
      phase: names the boundary.
      variables: `{'params', 'batch_stats'}`; only the frozen part matters.
      augmentation: makes the variants of each image; `Augmentation()` for the single one of evaluation.
    """
    return extraction.open_store(
        features_dir(run),
        run.model,
        variables,
        run.spec,
        wanted_of(run, phase, augmentation),
        run.config.features_dtype,
    )
