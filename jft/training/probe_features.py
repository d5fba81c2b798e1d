"""Features for probes: of the last stage or of all stages, from one forward pass, by the activation cache."""

import copy
import dataclasses
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jft.config import Config, default_config, effective
from jft.data.augment import Augmentation
from jft.data.source import Source
from jft.evaluation.checkpoint_info import CheckpointInfo
from jft.features.extract import extract
from jft.features.feature_step import Wanted
from jft.models import Chain
from jft.models.chain import trace
from jft.training import feature_cache
from jft.training.run import Run, create_run
from jft.training.state import fresh_state
from jft.training.step import TrainState
from jft.utils.interrupt import Interrupt


@dataclasses.dataclass(frozen=True, eq=False)
class StageFeatures:
    """The pooled outputs of stages, of n images.

    Attributes:
      values: float32 [n, variants, d], the stages' features side by side; the first variant is the image itself.
      widths: {stage: number of features}, in order; their sum is d.
      usual: whether stages are pooled as the network does by itself.
    """

    values: np.ndarray
    widths: dict[str, int]
    usual: bool = True

    @property
    def reads_as_runs(self) -> bool:
        """Whether there are several stages, pooled as by runs with `pool = 'stages'`."""
        return self.usual and len(self.widths) > 1

    def last(self) -> np.ndarray:
        """Features of the last stage, as the network computes them: float32 [n, variants, d]."""
        return self.values[..., -list(self.widths.values())[-1] :]

    def normalized(self, last: bool = False) -> np.ndarray:
        """Features of all stages, each stage's scaled to length 1 (Head2Toe: Evci et al., 2022); [n, variants, d].

        With `last`, those of the last stage alone.
        """
        parts = np.split(self.values, np.cumsum(list(self.widths.values()))[:-1], axis=-1)
        parts = parts[-1:] if last else parts
        lengths = (np.linalg.norm(part, axis=-1, keepdims=True) for part in parts)
        return np.concatenate(
            [p / np.where(length > 0, length, 1) for p, length in zip(parts, lengths, strict=True)], -1
        )


def probe_run(config: Config, source: Source | None = None) -> tuple[Run, TrainState, CheckpointInfo]:
    """A run on the averaged output of the last stage, which trains nothing; its state; what a checkpoint would say.

    Args:
      config: says which images and weights; head, optimizer and phases do not matter. It is not changed.
      source: images of these classes to read in place of the config's, already chosen; None: the config's.
    """
    usual = default_config()
    frozen = copy.deepcopy(config)
    frozen.update({field: usual[field] for field in ("freeze", "arms", "phases", "cache_features", "solver")})
    frozen.update({"preset": "linear_probe", "head": "linear", "head_hidden": (), "validation": 0.0})
    if frozen.pool == "stages":  # is among the features anyway
        frozen.pool = ""
    frozen.update(effective(frozen.to_dict()))
    if source is not None:
        frozen.update({"skip_unreadable": False, "examples_per_class": 0})
    with tempfile.TemporaryDirectory() as folder:
        run = create_run(frozen, Path(folder) / "run", source)
    return run, *fresh_state(run)


def extract_stages(
    run: Run, state: TrainState, source: Source, augmentation: Augmentation, interrupt: Interrupt, *, every: bool = True
) -> StageFeatures:
    """The features of a source's images that are not cached are computed; one forward pass gives those of all stages.

    Args:
      run: from `probe_run`.
      state: likewise.
      source: n images.
      augmentation: whose variants of each image are computed.
      interrupt: stops the extraction.
      every: whether those of all stages before the head, or of the last one alone.

    Raises:
      ValueError: see `extract.extract`.
      Stopped: a signal came; what was computed stays in the cache.
    """
    *earlier, boundary = list(run.model.stages())[:-1]
    wanted = feature_cache.wanted_of(run, run.phases[0], augmentation)
    if every:
        wanted = dataclasses.replace(wanted, boundary=boundary, pooled=True, earlier=tuple(earlier))
    found = extract(
        run.model,
        {"params": state.params, "batch_stats": state.batch_stats},
        source,
        run.spec,
        wanted,
        folder=feature_cache.features_dir(run),
        parallel=run.parallel,
        batch_size=run.config.eval_batch_size,
        input=run.config.input,
        dtype=run.config.features_dtype,
        interrupt=interrupt,
    )
    if found is None:
        raise interrupt.stopped()
    values = found.gather(np.arange(len(found))).astype(np.float32)
    usual = run.model.pool == type(run.model).pool
    return StageFeatures(values, stage_widths(run.model, run.spec.size, wanted), usual)


def stage_widths(model: Chain, size: int, wanted: Wanted) -> dict[str, int]:
    """{stage: number of its pooled features} of the stages that are wanted."""
    calls = trace(model, size).calls
    shapes = {stage: (1, *calls[stage][1]) for stage in (*wanted.earlier, wanted.boundary)}
    struct = {stage: jax.ShapeDtypeStruct(shape, jnp.float32) for stage, shape in shapes.items()}
    return {stage: jax.eval_shape(model.pooled, one).shape[-1] for stage, one in struct.items()}
