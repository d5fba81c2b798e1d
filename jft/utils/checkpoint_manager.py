"""How jft sets up Orbax: how arrays are written and read, which checkpoints are kept, and what it leaves alone."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from absl import logging

RETIRED = "retired"  # subfolder of checkpoints that are being deleted


def open_manager(directory: Path, keep: "Retention", *, read_only: bool) -> ocp.CheckpointManager:
    """Orbax's manager of a folder of checkpoints with the items `variables`, `optimizer` and `meta`.

    Args:
      directory: the folder; made if needed.
      keep: which checkpoints are kept.
      read_only: nothing is created, renamed or deleted.
    """
    with _quiet() if read_only else contextlib.nullcontext():
        options = ocp.CheckpointManagerOptions(
            # Renamed, then deleted: a process killed in between leaves no half of a checkpoint.
            todelete_subdir=None if read_only else RETIRED,
            preservation_policy=keep,
            read_only=read_only,
            create=not read_only,
            cleanup_tmp_directories=not read_only,
        )
        # Weights hardly compress (by 8 %), and compressing takes four times as long as writing them unchanged.
        arrays = {name: ocp.PyTreeCheckpointHandler(use_compression=False) for name in ("variables", "optimizer")}
        handlers = {**arrays, "meta": ocp.JsonCheckpointHandler()}
        return _Manager(directory, options=options, item_handlers=handlers)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Orbax from warning that what is opened to be read is read-only."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def detached(arrays: Any) -> Any:
    """Arrays that the next step does not wait for.

    Orbax copies what an accelerator holds. On the CPU it reads the arrays themselves while it writes, and a step that
    is given their memory would wait until it has.
    """
    return jax.tree.map(jnp.copy, arrays) if jax.default_backend() == "cpu" else arrays


def restored_as(abstract: Any) -> ocp.args.PyTreeRestore:
    """What restores a pytree of `jax.ShapeDtypeStruct` with shardings."""
    return ocp.args.PyTreeRestore(abstract, restore_args=ocp.checkpoint_utils.construct_restore_args(abstract))


class _Manager(ocp.CheckpointManager):
    """Orbax's, but that it leaves JAX's preemption service alone: `Interrupt` asks it, by a count of its own."""

    def reached_preemption(self, step: int) -> bool:
        """Never, as far as Orbax is concerned."""
        return False


class Retention:
    """Orbax's preservation policy: the last ones, the best on validation, and the first of each span of steps.

    Attributes:
      best: step of the best.
    """

    def __init__(self, last: int, every: int) -> None:
        self.best: int | None = None
        self._last, self._every = last, every

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        """One bool for each checkpoint, in order of their steps."""
        del context
        steps = [checkpoint.step for checkpoint in checkpoints]
        kept = {*steps[-self._last :], self.best}
        if self._every:
            spans = [step // self._every for step in steps]
            kept |= {step for step, span in zip(steps, spans, strict=True) if span and steps[spans.index(span)] == step}
        return [step in kept for step in steps]
