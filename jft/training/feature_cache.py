"""When a run reads what its frozen stages compute from disk instead of computing it anew, and how."""

import dataclasses
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jft.data.augment import Augmentation
from jft.data.datasets import Source
from jft.data.transforms import stored_size
from jft.features import extract as extraction
from jft.features.cache_key import image_digests
from jft.features.feature_step import Wanted, make_feature_step
from jft.features.store import Features, FeatureStore
from jft.models import abstract_variables
from jft.training.phases import Phase
from jft.training.run import Run
from jft.training.step import TrainState
from jft.utils import distributed
from jft.utils.interrupt import Interrupt
from jft.utils.logger import Logs
from jft.utils.text import human_bytes
from jft.weights.hub import cache_dir


@dataclasses.dataclass(frozen=True)
class Decision:
    """Whether a phase reads cached features, and why."""

    use: bool
    why: str


@dataclasses.dataclass(frozen=True)
class Cached:
    """What is cached of a phase's images.

    Attributes:
      train: [n, variants, ...], of the training images.
      validation: [n, 1, ...], of the validation images; None where there are none.
    """

    train: Features
    validation: Features | None


def decide(run: Run, state: TrainState | None, saved: Mapping[str, bool]) -> dict[int, Decision]:
    """Decides for all phases that are ahead, before the first of them begins.

    Args:
      run: its config asks for it or not, its augmentation allows it or not.
      state: where the run stands; looked at only where room is short, for what is there already. None at a check
        before there is one, which says nothing of room.
      saved: first step of a phase, as text -> what was decided when the run began: a resumed run computes alike.

    Returns:
      First step of a phase -> decision.

    Raises:
      ValueError: `config.cache_features` is True, or a solver asks for it, and no phase can be cached.
    """
    step = 0 if state is None else int(state.step)
    ahead = [phase for phase in run.phases if phase.last > step]
    decisions, reserved, counted = {}, 0, set()
    for phase in ahead:
        if str(phase.first) in saved:
            use = saved[str(phase.first)]
            told = _told(run, phase) if use else "computed at each step, as when the run began"
            decisions[phase.first] = Decision(use, told)
            continue
        before = [other for other in ahead if other.first < phase.first]
        settled = all(set(phase.plan.frozen_stages) <= set(other.plan.frozen_stages) for other in before)
        obstacle = _obstacle(run, phase)
        # A phase that moves nothing before the boundary of the one before it reads the same features.
        known = settled and phase.plan.boundary in counted
        if obstacle is None and state is not None and not known:
            obstacle, needed = distributed.from_first(_room(run, phase, state, settled, reserved))
            if obstacle is None:
                reserved += needed
                counted.add(phase.plan.boundary)
        decisions[phase.first] = Decision(
            obstacle is None, _told(run, phase) if obstacle is None else f"computed at each step: {obstacle}"
        )
    wanted = run.config.cache_features is True or run.config.solver != "steps"
    if wanted and not saved and decisions and not any(decision.use for decision in decisions.values()):
        reasons = "; ".join(decision.why for decision in decisions.values())
        asks = "cache_features = True asks" if run.config.solver == "steps" else f"solver = {run.config.solver!r} needs"
        raise ValueError(
            f"features cannot be cached, as {asks}. They would be {reasons}. "
            "Leave out what stands in the way, or set cache_features = 'auto' and solver = 'steps'."
        )
    return decisions


def _told(run: Run, phase: Phase) -> str:
    variants, *shape = feature_shape(run, phase)
    count = len(run.train_source) * variants + len(run.validation_source)
    size = count * int(np.prod(shape)) * jnp.dtype(run.config.features_dtype).itemsize
    pooled = ", averaged" if run.model.averages_after(phase.plan.boundary) and len(_output(run, phase)) > 1 else ""
    return (
        f"cached after {phase.plan.boundary}{pooled}, {count:,} x {' x '.join(map(str, shape))} "
        f"({human_bytes(size)}) in {features_dir(run)}"
    )


def _obstacle(run: Run, phase: Phase) -> str | None:
    """Why nothing is cached, whatever room there is, or None."""
    config = run.config
    if config.cache_features is False:
        return "cache_features = False asks for it"
    if phase.plan.boundary is None:
        return "no stage is frozen with all before it (freeze)"
    if why := run.augmentation.uncountable(run.spec, config.fit):
        return f"{why}, and the variants of an image cannot be counted"
    if config.mixup or config.cutmix:
        return "mixup and cutmix mix images anew at every step, and the mixtures cannot be counted"
    return _loss(run, phase) if config.cache_features == "auto" and config.solver == "steps" else None


def _room(run: Run, phase: Phase, state: TrainState, settled: bool, reserved: int) -> tuple[str | None, int]:
    """Why the disk has no room, or None; and the bytes that the features take, beside `reserved` for earlier phases.

    `settled`: what is frozen in the phase is as it will be, so that what is stored of it already can be found.
    """
    # A store of no recipe in particular, as if there were nothing yet.
    store = FeatureStore(features_dir(run), {}, feature_shape(run, phase), run.config.features_dtype)
    missing = len(run.train_source) + len(run.validation_source)
    if settled and distributed.from_first(store.shortage(missing, beside=reserved)):
        missing = sum(count for _, count in missing_of(run, phase, _variables(state)))
    shortage = store.shortage(missing, beside=reserved) if missing else None
    return (f"{shortage}; mend that, or set features_dir" if shortage else None), store.bytes_needed(missing)


def _loss(run: Run, phase: Phase) -> str | None:
    """Why it would not pay, or None."""
    variants, *_ = feature_shape(run, phase)
    extracted, read = len(run.train_source) * variants, phase.num_steps * run.config.batch_size
    if read > extracted:
        return None
    return f"{read:,} images are read, and at most {extracted:,} would have to be computed first"


def abstract_params(run: Run) -> dict[str, Any]:
    """Shapes of the model's parameters."""
    return abstract_variables(run.model, run.spec.size)["params"]


def feature_shape(run: Run, phase: Phase) -> tuple[int, ...]:
    """[variants, ...]: what is cached of a training image."""
    output = _output(run, phase)
    shape = output[-1:] if run.model.averages_after(phase.plan.boundary) else output
    return (run.augmentation.num_variants(run.config.fit), *shape)


def _output(run: Run, phase: Phase) -> tuple[int, ...]:
    """Shape of the boundary's output for one image."""
    side = stored_size(run.spec, run.config.fit)
    batch = {"image": jax.ShapeDtypeStruct((1, side, side, 3), jnp.uint8)}
    wanted = Wanted(phase.plan.boundary, pooled=False, fit=run.config.fit)
    step = make_feature_step(run.model, run.spec, wanted)
    return jax.eval_shape(step, abstract_variables(run.model, run.spec.size), batch).shape[1:]


def wanted_of(run: Run, phase: Phase, augmentation: Augmentation) -> Wanted:
    """Features of images at a phase's boundary, of an augmentation's variants."""
    boundary, config = phase.plan.boundary, run.config
    return Wanted(boundary, run.model.averages_after(boundary), config.fit, config.resize_on, augmentation)


def features_dir(run: Run) -> Path:
    """Folder of the stores of all recipes."""
    return Path(run.config.features_dir).expanduser() if run.config.features_dir else cache_dir() / "features"


def example(run: Run, phase: Phase) -> dict[str, np.ndarray]:
    """A batch of cached features, all 0: what a phase's step is compiled for, before anything is extracted."""
    size, dtype = run.config.batch_size // run.parallel.shard[1], jnp.dtype(run.config.features_dtype)
    return {
        "feature": np.zeros((size, *feature_shape(run, phase)), dtype),
        "label": run.train_source.labels[np.zeros(size, np.int64)],
        "mask": np.ones(size, bool),
    }


def prepare(run: Run, phase: Phase, state: TrainState, logs: Logs, interrupt: Interrupt) -> Cached | None:
    """Computes what is not cached yet, notes how long it took, and opens it; None where a signal came first.

    Raises:
      ValueError: an image that cannot be read, or features that are not finite.
      OSError: no room on the disk, naming the bytes.
    """
    start = time.perf_counter()
    train = features_of(run, phase, state, run.train_source, run.augmentation, interrupt)
    validation = None
    if train is not None and len(run.validation_source):
        validation = features_of(run, phase, state, run.validation_source, Augmentation(), interrupt)
    if interrupt.received is not None:
        return None
    logs.write(int(state.step), "features", {"seconds": time.perf_counter() - start})
    return Cached(train, validation)


def features_of(
    run: Run, phase: Phase, state: TrainState, source: Source, augmentation: Augmentation, interrupt: Interrupt
) -> Features | None:
    """Features of a source's images at a phase's boundary; None where a signal came before they were whole.

    Args:
      run: says how images are read, and where features are kept.
      phase: its boundary.
      state: its frozen part.
      source: the images.
      augmentation: whose variants of each; `Augmentation()` for the one that evaluation reads.
      interrupt: stops it.
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
        dtype=run.config.features_dtype,
        interrupt=interrupt,
    )


def _variables(state: TrainState) -> dict[str, Any]:
    """What features are computed with: the weights as they are, of which none is averaged."""
    return {"params": state.params, "batch_stats": state.batch_stats}


def missing_of(run: Run, phase: Phase, variables: Mapping[str, Any]) -> Iterator[tuple[FeatureStore, int]]:
    """Of training, then validation images: the store, and how many it lacks; reads files to find out."""
    for source, augmentation in (run.train_source, run.augmentation), (run.validation_source, Augmentation()):
        store = store_of(run, phase, variables, augmentation)
        yield store, len(store.missing(image_digests(source)))


def store_of(run: Run, phase: Phase, variables: Mapping[str, Any], augmentation: Augmentation) -> FeatureStore:
    """Where features of images at a phase's boundary are kept.

    Args:
      run: says how images are read, and the folder.
      phase: its boundary.
      variables: `{'params', 'batch_stats'}`, of which the frozen part counts.
      augmentation: whose variants; `Augmentation()` for the one that evaluation reads.
    """
    return extraction.open_store(
        features_dir(run),
        run.model,
        variables,
        run.spec,
        wanted_of(run, phase, augmentation),
        run.config.features_dtype,
    )
