"""When a run reads what its frozen stages compute from disk instead of computing it anew, and how."""

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jft.data.augment import Augmentation
from jft.data.preprocess import stored_size
from jft.data.sources import Source
from jft.interrupt import Interrupt
from jft.logs import Logs
from jft.models import abstract_variables
from jft.run import Run
from jft.steps import TrainState
from jft.transfer import extract as extraction
from jft.transfer.features import Features, FeatureStore
from jft.transfer.phases import Phase
from jft.transfer.recipe import picture_digests
from jft.weights.store import cache_dir


@dataclasses.dataclass(frozen=True)
class Decision:
    """Whether a phase reads cached features, and why."""

    use: bool
    why: str


@dataclasses.dataclass(frozen=True)
class Cached:
    """What is cached of a phase's pictures.

    Attributes:
      train: [n, variants, ...], of the training pictures.
      validation: [n, 1, ...], of the validation pictures; None where there are none.
    """

    train: Features
    validation: Features | None


def decide(run: Run, phase: Phase, state: TrainState) -> Decision:
    """Decides before the phase begins, and before the first one does.

    Args:
      run: its config asks for it or not, its augmentation allows it or not.
      phase: its boundary and length.
      state: at the start of the run; looked at only where room is short, for what is there already.

    Raises:
      ValueError: `config.cache_features` is True, and it cannot be done.
    """
    wanted = run.config.cache_features
    if run.config.solver != "steps":
        if wanted is False:
            raise ValueError(f"cache_features = False, but solver = {run.config.solver!r} reads cached features.")
        wanted = True
    if wanted is False:
        return Decision(False, "computed at each step, as cache_features = False asks")
    obstacle = _obstacle(run, phase, state)
    if obstacle is None and wanted == "auto":
        obstacle = _loss(run, phase)
    if obstacle is not None and wanted is True:
        raise ValueError(f"features cannot be cached, as cache_features = True or a solver asks: {obstacle}.")
    if obstacle is not None:
        return Decision(False, f"computed at each step: {obstacle}")
    variants, *shape = feature_shape(run, phase)
    count = len(run.train_source) * variants + len(run.validation_source)
    size = count * int(np.prod(shape)) * jnp.dtype(run.config.features_dtype).itemsize
    pooled = ", averaged" if run.model.averages_after(phase.plan.boundary) else ""
    return Decision(
        True,
        f"cached after {phase.plan.boundary}{pooled}, {count:,} x {' x '.join(map(str, shape))} "
        f"({size / 1e6:,.1f} MB) in {features_dir(run)}",
    )


def _obstacle(run: Run, phase: Phase, state: TrainState) -> str | None:
    """Why nothing can be cached, or None."""
    config = run.config
    if phase.plan.boundary is None:
        return "no stage is frozen with all before it"
    if why := run.augmentation.uncountable(run.spec, config.fit):
        return f"{why}, and the variants of a picture cannot be counted"
    if config.mixup or config.cutmix:
        return "mixup and cutmix mix pictures anew at every step, and the mixtures cannot be counted"
    # A store of no recipe in particular, as if there were nothing yet.
    store = FeatureStore(features_dir(run), {}, feature_shape(run, phase), config.features_dtype)
    shortage = store.shortage(len(run.train_source) + len(run.validation_source))
    if shortage and phase.first == 0:
        stores = _store(run, phase, state, run.augmentation), _store(run, phase, state, Augmentation())
        sources = run.train_source, run.validation_source
        missing = sum(len(own.missing(picture_digests(source))) for own, source in zip(stores, sources, strict=True))
        shortage = store.shortage(missing) if missing else None
    return f"{shortage}; make room, or set features_dir" if shortage else None


def _loss(run: Run, phase: Phase) -> str | None:
    """Why it would not pay, or None."""
    variants, *_ = feature_shape(run, phase)
    extracted, read = len(run.train_source) * variants, phase.num_steps * run.config.batch_size
    if read > extracted:
        return None
    return f"{read:,} pictures are read, and {extracted:,} would have to be computed first"


def abstract_params(run: Run) -> dict[str, Any]:
    """Shapes of the model's parameters."""
    return abstract_variables(run.model, run.spec.size)["params"]


def feature_shape(run: Run, phase: Phase) -> tuple[int, ...]:
    """[variants, ...]: what is cached of a training picture."""
    step = extraction.make_feature_step(run.model, run.spec, augmentation=None, **_reading(run, phase))
    side = stored_size(run.spec, run.config.fit)
    batch = {"image": jax.ShapeDtypeStruct((1, side, side, 3), jnp.uint8)}
    shape = jax.eval_shape(step, abstract_variables(run.model, run.spec.size), batch).shape
    return (run.augmentation.num_variants(run.config.fit), *shape[1:])


def _reading(run: Run, phase: Phase) -> dict[str, Any]:
    boundary = phase.plan.boundary
    return {"boundary": boundary, "pooled": run.model.averages_after(boundary), "fit": run.config.fit}


def features_dir(run: Run) -> Path:
    """Folder of the stores of all recipes."""
    return Path(run.config.features_dir).expanduser() if run.config.features_dir else cache_dir() / "features"


def example(run: Run, phase: Phase) -> dict[str, np.ndarray]:
    """A batch of cached features, all 0: what a phase's step is compiled for, before anything is extracted."""
    size, dtype = run.config.batch_size, jnp.dtype(run.config.features_dtype)
    return {
        "feature": np.zeros((size, *feature_shape(run, phase)), dtype),
        "label": run.train_source.labels[np.zeros(size, np.int64)],
        "mask": np.ones(size, bool),
    }


def prepare(run: Run, phase: Phase, state: TrainState, logs: Logs, interrupt: Interrupt) -> Cached | None:
    """Computes what is not cached yet, notes how long it took, and opens it; None where a signal came first.

    Raises:
      ValueError: a picture that cannot be read, or features that are not finite.
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
    """Features of a source's pictures at a phase's boundary; None where a signal came before they were whole.

    Args:
      run: says how pictures are read, and where features are kept.
      phase: its boundary.
      state: its frozen part.
      source: the pictures.
      augmentation: whose variants of each; `Augmentation()` for the one that evaluation reads.
      interrupt: stops it.
    """
    config = run.config
    return extraction.extract(
        run.model,
        {"params": state.params, "batch_stats": state.batch_stats},
        source,
        run.spec,
        **_reading(run, phase),
        augmentation=augmentation,
        parallel=run.parallel,
        batch_size=config.eval_batch_size,
        resize_on=config.resize_on,
        cache_bytes=config.cache_bytes,
        store=_store(run, phase, state, augmentation),
        interrupt=interrupt,
    )


def _store(run: Run, phase: Phase, state: TrainState, augmentation: Augmentation) -> FeatureStore:
    return extraction.open_store(
        features_dir(run),
        run.model,
        {"params": state.params, "batch_stats": state.batch_stats},
        run.spec,
        **_reading(run, phase),
        augmentation=augmentation,
        resize_on=run.config.resize_on,
        dtype=run.config.features_dtype,
    )
