"""Stretches: steps on cached features, many in one call, where a call costs more than a step.

A head on features takes microseconds. Its features live on the device, and one program runs a loop over the training
step, which gathers the rows of each. The loop's length is an argument, so that every stretch, whatever its length, runs
the same instructions; on a CPU they give the same bits as the step alone.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jft.data.feeds.images import Batch, Rows
from jft.data.feeds.threads import made_ahead
from jft.data.source import Source
from jft.features.store import Features
from jft.metrics.masked_sums import Sums
from jft.training import feature_cache, rollback
from jft.training.phase_run import PhaseRun
from jft.training.run import Run
from jft.training.state import abstract_state
from jft.training.step import TrainState
from jft.utils import memory

MOST = 64  # steps in a call; a signal waits for its end
_CHEAP = 10**8  # multiplications in a step up to which the call is what takes long: milliseconds
_SHARE = 0.25  # of the free memory that features may take

Step = Callable[[TrainState, Any], tuple[TrainState, Sums]]


def decide(run: Run, phases: Sequence[PhaseRun]) -> tuple[PhaseRun, ...]:
    """The phases, from `feature_cache.decide`, with the most steps that one call of each may take."""
    return tuple(one.replace(stretch=_length(run, one)) for one in phases)


def _length(run: Run, one: PhaseRun) -> int:
    config, device = run.config, run.parallel.mesh.devices.flat[0]
    # Elsewhere nobody has compared the bits; callbacks and rollbacks look at every step.
    alone = config.parallel == "jit" and run.parallel.mesh.size == 1 and device.platform == "cpu"
    if (
        one.phase.solved
        or not (one.cached and alone)
        or run.teacher
        or run.callbacks
        or config.on_nan != "stop"
        or rollback.read(run.workdir)
    ):
        return 1
    shape = feature_cache.feature_shape(run, one.phase)
    leaves = jax.tree.leaves(one.phase.plan.split(feature_cache.abstract_params(run))[0])
    multiplications = 3 * config.batch_size * sum(math.prod(leaf.shape) for leaf in leaves)
    # XLA:CPU runs convolutions in a loop on one core: a head that reads feature maps stays with single steps.
    if len(shape) > 2 or multiplications > _CHEAP:
        return 1
    size = len(run.train_source) * math.prod(shape) * jnp.dtype(config.features_dtype).itemsize
    free = memory.free(run.parallel)
    return min(MOST, config.log_every) if free is not None and size <= _SHARE * free else 1


def cut(run: Run, steps: range, most: int) -> Iterator[range]:
    """Cuts steps, numbered from 0, into stretches: each ends where the loop logs, evaluates or saves after it."""
    config, start = run.config, steps.start
    for done in range(steps.start + 1, steps.stop + 1):
        ends = done == steps.stop or done - start == most
        ends |= run.is_due(done, config.log_every) or run.is_due(done, config.evaluate_every * run.steps_per_epoch)
        if ends or (config.checkpoint_every and done % config.checkpoint_every == 0):
            yield range(start, done)
            start = done


class StretchFeed:
    """A `Feed` of cached features that live on the device; a batch holds the rows of a stretch.

    It has `'row'` int32 [most, b], `'label'` and `'mask'` [most, b], of which the first `'count'` steps matter.
    """

    def __init__(self, run: Run, source: Source, features: Features, most: int) -> None:
        """Places all features; `most` is the most steps of a stretch."""
        self._run, self._source, self._most = run, source, most
        whole = features.gather(np.arange(len(features)))
        self._held = jax.device_put(whole.reshape(len(whole), -1), run.parallel.replicated)

    def batches(self, rows: Rows, steps: range) -> Iterator[Batch]:
        """The stretches of `steps`, in order; see `Feed.batches`."""

        def batch(stretch: range) -> Batch:
            chosen, mask = (np.stack(parts) for parts in zip(*map(rows, stretch), strict=True))
            own = {"row": chosen.astype(np.int32), "label": self._source.labels[chosen], "mask": mask}
            missing = self._most - len(stretch)
            filled = {name: np.concatenate([part, np.repeat(part[-1:], missing, 0)]) for name, part in own.items()}
            return {**filled, "count": np.array(len(stretch), np.int32)}

        return made_ahead(batch, cut(self._run, steps, self._most))

    def place(self, batch: Batch) -> dict[str, jax.Array]:
        """See `Feed.place`."""
        return {"features": self._held, **jax.device_put(batch, self._run.parallel.replicated)}

    def check(self, batch: Batch) -> None:
        """Nothing to check: the features' images were checked when they were extracted."""


def compile_stretch(run: Run, one: PhaseRun, step: Step) -> jax.stages.Compiled:
    """Compiles a loop over a phase's training step: `(state, batch) -> (state, sums)`, sums of each step, [most]."""
    shape, dtype = feature_cache.feature_shape(run, one.phase), jnp.dtype(run.config.features_dtype)
    assert one.example is not None  # see `programs.with_examples`

    def abstract(of: Any, kind: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(of, kind, sharding=run.parallel.replicated)

    most, label = one.stretch, one.example["label"]
    batch = {
        "features": abstract((len(run.train_source), math.prod(shape)), dtype),
        "row": abstract((most, len(label)), np.int32),
        "label": abstract((most, *label.shape), label.dtype),
        "mask": abstract((most, len(label)), bool),
        "count": abstract((), np.int32),
    }
    return run.parallel.compile(_repeated(step, shape), abstract_state(run, one.phase), batch, donate=True)


def _repeated(step: Step, shape: tuple[int, ...]) -> Step:
    """A loop over the step; `shape` is that of the features of one image."""

    def train_steps(state: TrainState, batch: Mapping[str, jax.Array]) -> tuple[TrainState, Sums]:
        def batch_of(number: jax.Array) -> dict[str, jax.Array]:
            features = batch["features"].at[batch["row"][number]].get(mode="promise_in_bounds")
            own = {"feature": features.reshape(-1, *shape), **{name: batch[name][number] for name in ("label", "mask")}}
            return jax.lax.optimization_barrier(own)  # as if it came from outside, so that the step is the same

        def body(carry: tuple[jax.Array, TrainState, Sums]) -> tuple[jax.Array, TrainState, Sums]:
            number, state, told = carry
            state, sums = step(state, batch_of(number))
            return number + 1, state, jax.tree.map(lambda all_, own: all_.at[number].set(own), told, sums)

        sums = jax.eval_shape(step, state, jax.eval_shape(batch_of, jnp.int32(0)))[1]
        told = jax.tree.map(lambda own: jnp.zeros((len(batch["row"]), *own.shape), own.dtype), sums)
        carry = jnp.int32(0), state, told
        _, state, told = jax.lax.while_loop(lambda carry: carry[0] < batch["count"], body, carry)
        return state, told

    return train_steps
