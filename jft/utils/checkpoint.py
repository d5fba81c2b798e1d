"""Checkpoints with Orbax: asynchronous, atomic, self-contained, and verified when they are read.

A checkpoint holds three items: `variables` (parameters and batch statistics), `optimizer` (its state and the step) and
`meta` (JSON: config, class names, preprocessing, provenance, evaluations, data position, digests). Evaluation reads the
first and the last. Each leaf's fingerprint stands in `meta`, and a checksum of itself: a flipped byte is not noticed
otherwise.

Leaves may lie on any number of devices and processes, and be restored to any other; all processes make the same calls.

This module and `checkpoint_manager` alone know Orbax, and they know pytrees, not models.
"""

import contextlib
import math
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import jax
import orbax.checkpoint as ocp
from absl import logging

from jft.utils import checkpoint_manager, checksum, distributed, json_file
from jft.utils.fingerprint import fingerprints
from jft.utils.ranking import best_step
from jft.utils.registry import CodeError
from jft.utils.run_folder import check_run

Info = TypeVar("Info")  # what a caller makes of the JSON of a checkpoint
_PLAIN: Any = dict  # the JSON as it is, for who saves without reading
FORMAT = 3  # 1 had no phases, so other optimizer states; 2 had other digests


class Checkpoints(Generic[Info]):
    """The checkpoints of one run, in `<workdir>/checkpoints`: the last, the best by validation accuracy, every n-th."""

    def __init__(
        self,
        workdir: str | Path,
        *,
        read_only: bool = False,
        keep_last: int = 2,
        keep_every: int = 0,
        from_json: Callable[[dict[str, Any]], Info] = _PLAIN,
    ) -> None:
        """Opens them.

        Args:
          workdir: folder of the run.
          read_only: True to evaluate: nothing is created, renamed or deleted.
          keep_last: how many of the newest are kept.
          keep_every: the first after each so many steps is kept for good; 0: none is.
          from_json: JSON of a checkpoint -> what the methods return and pass on of it, below called info; ValueError
            where it is not as it was written.

        Raises:
          ValueError: read_only and there are none.
        """
        self.directory = Path(workdir).absolute() / "checkpoints"
        if read_only:
            check_run(workdir)
        self._read_only, self._from_json = read_only, from_json
        self._keep = checkpoint_manager.Retention(keep_last, keep_every)
        self._manager = self._open()

    def _open(self) -> ocp.CheckpointManager:
        if not self._read_only:
            self._remove_retired()
        return checkpoint_manager.open_manager(self.directory, self._keep, read_only=self._read_only)

    def save(self, step: int, variables: Any, optimizer: Any, meta: Mapping[str, Any]) -> bool:
        """Saves in the background; returns when the arrays have been copied from the devices.

        Args:
          step: number of the checkpoint; one that exists is left alone.
          variables: pytree of arrays.
          optimizer: pytree of arrays.
          meta: JSON, not changed afterwards; its `history` lists the evaluations `{'step', 'accuracy', ...}`.

        Returns:
          Whether there was none of that number yet.

        Raises:
          CheckpointWriteError: this one or the one before could not be written. What was saved earlier is whole.
        """
        if step in self._manager.all_steps():
            return False
        self._check_space(variables, optimizer)
        self._keep.best = best_step(meta.get("history", ()))
        own = {"format": FORMAT, "step": step, "digests": fingerprints((variables, optimizer))}
        meta = checksum.added({**meta, **own})
        variables, optimizer = checkpoint_manager.detached((variables, optimizer))
        items = ocp.args.Composite(
            variables=ocp.args.PyTreeSave(variables),
            optimizer=ocp.args.PyTreeSave(optimizer),
            meta=ocp.args.JsonSave(meta),
        )
        with self._writing():
            self._manager.save(step, args=items)  # which waits for the one before
        self._remove_retired()
        return True

    def _remove_retired(self) -> None:
        """Deletes the checkpoints that are no longer kept."""
        if distributed.is_first() and (retired := self.directory / checkpoint_manager.RETIRED).is_dir():
            for folder in retired.iterdir():
                shutil.rmtree(folder, ignore_errors=True)

    def _check_space(self, *trees: Any) -> None:
        """Says so before anything is written, where the disk has no room; array files are not smaller than arrays."""
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(trees))
        free = distributed.from_first(shutil.disk_usage(self.directory).free)
        if free < needed:
            raise CheckpointWriteError(
                f"a checkpoint takes {needed:,} bytes and {self.directory} has {free:,} left: {_AGAIN}"
            )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except jax.errors.JaxRuntimeError:  # of the devices or of another process, not of the disk
            raise
        except Exception as error:  # of many kinds, from threads of Orbax and TensorStore
            reason = str(error).splitlines()[0][-300:]  # the end says why, the beginning repeats the path
            message = f"no checkpoint was written to {self.directory} (...{reason}): {_AGAIN}"
            raise CheckpointWriteError(message) from error

    def latest(
        self, abstract: Callable[[Info], tuple[Any, Any]], *, before: float = math.inf
    ) -> tuple[Any, Any, Info] | None:
        """(variables, optimizer, info) of the newest checkpoint that can be read, or None where there is none.

        Args:
          abstract: info -> pytrees of `jax.ShapeDtypeStruct` with shardings for variables and optimizer; may raise a
            CheckpointRefusedError.
          before: a step; later checkpoints, and one of this step, are not looked at.

        Raises:
          ValueError: there are checkpoints, and none can be read.
        """
        steps = [step for step in self._manager.all_steps() if step < before]
        return self._first_readable(sorted(steps, reverse=True), abstract)

    def best(self, abstract: Callable[[Info], tuple[Any, None]]) -> tuple[Any, Any, Info]:
        """The checkpoint with the best validation accuracy, as `latest` returns it; ValueError if there is none."""
        steps = sorted(self._manager.all_steps(), reverse=True)
        newest = self._newest(steps)  # it knows all evaluations
        best = best_step(newest[0].get("history", ())) if newest else None
        found = self._first_readable(sorted(steps, key=lambda step: step != best), abstract)
        if found is None:
            raise ValueError(f"{self.directory} holds no finished checkpoint: train longer, or look elsewhere.")
        return found

    def newest_info(self, *, first_from: int | None = None) -> Info | None:
        """The newest info that can be read, or the oldest from a step on; None where there is none."""
        steps = sorted(self._manager.all_steps(), reverse=True)
        if first_from is not None and any(step >= first_from for step in steps):
            steps = [step for step in reversed(steps) if step >= first_from]
        found = self._newest(steps)
        return None if found is None else found[1]

    def _newest(self, steps: Sequence[int]) -> tuple[dict[str, Any], Info] | None:
        """JSON and info of the first of the steps whose JSON can be read."""
        for step in steps:
            with contextlib.suppress(CheckpointDamagedError):  # said where the checkpoint's arrays are wanted
                return self._meta(step)
        return None

    def _first_readable(self, steps: list[int], abstract: Callable) -> tuple[Any, Any, Info] | None:
        failures: dict[int, str] = {}
        for step in steps:
            try:
                found = self._restore(step, abstract)
            except (
                CheckpointRefusedError,
                CodeError,
                jax.errors.JaxRuntimeError,
            ):  # the last: devices, others
                raise
            except Exception as error:  # Orbax and TensorStore raise many kinds for a damaged file
                failures[step] = f"checkpoint {step}: {(str(error).splitlines() or [type(error).__name__])[0][:200]}"
                if distributed.several() and not isinstance(error, CheckpointDamagedError):
                    # The others may have read what this process could not, and wait for it.
                    self._leave(step, failures[step], last=step == steps[-1])
                continue
            for failure in failures.values():
                logging.warning("%s. Falling back to checkpoint %d.", failure, step)
            if not self._read_only:
                self._set_aside(failures)
            return found
        if failures:
            raise ValueError(f"no checkpoint in {self.directory} can be read; " + "; ".join(failures.values()))
        return None

    def _set_aside(self, steps: Collection[int]) -> None:
        """Renames unreadable checkpoints, so that the steps can be saved again and nothing is lost."""
        if not steps:
            return
        self._manager.close()
        if distributed.is_first():
            for step in steps:
                self._rename(step)
        distributed.wait_for_all("set aside")
        self._manager = self._open()

    def _rename(self, step: int) -> None:
        names = (f"unreadable-{step}{again}" for again in ("", *(f"-{n}" for n in range(1, 1000))))
        free = next(name for name in names if not (self.directory / name).exists())
        (self.directory / str(step)).rename(self.directory / free)

    def _leave(self, step: int, failure: str, *, last: bool) -> None:
        """Ends a process that alone cannot read a checkpoint; started again, all of them fall back."""
        if self._read_only or last:
            raise ValueError(f"{failure}. Mend it, or take it away from {self.directory}.")
        with contextlib.suppress(OSError):  # another one has done it
            self._rename(step)
        raise RuntimeError(f"{failure}. It is set aside: start all processes again, to fall back.")

    def _meta(self, step: int) -> tuple[dict[str, Any], Info]:
        """The JSON that `JsonSave` wrote, and the info that it holds; process 0 reads it for all."""
        found = failure = None
        if distributed.is_first():
            try:
                found = json_file.read(self.directory / str(step) / "meta" / "metadata", dict[str, Any], _RESTORE)
            except (OSError, ValueError) as error:
                failure = str(error)
        found, failure = distributed.from_first((found, failure))
        if failure:
            raise CheckpointDamagedError(failure)
        if type(found.get("format")) is int and found["format"] != FORMAT:
            raise CheckpointRefusedError(
                f"checkpoint {step} in {self.directory} has format {found['format']}, this jft reads {FORMAT}: "
                f"train anew, or use the jft that wrote it ({found.get('jft')})."
            )
        try:
            if found.get("format") != FORMAT or found.get("step") != step:
                raise ValueError(f"format is {found.get('format')!r} and step {found.get('step')!r}")
            return found, self._from_json(found)
        except ValueError as error:
            raise CheckpointDamagedError(f"its meta/metadata is not as it was written, {error}; {_RESTORE}") from error

    def _restore(self, step: int, abstract: Callable) -> tuple[Any, Any, Info]:
        meta, info = self._meta(step)
        variables, optimizer = abstract(info)
        items = {"variables": checkpoint_manager.restored_as(variables)}
        if optimizer is not None:
            items["optimizer"] = checkpoint_manager.restored_as(optimizer)
        restored: Any = self._manager.restore(step, args=ocp.args.Composite(**items))
        found = fingerprints((restored.variables, restored.get("optimizer")))
        wrong = [name for name, crc in found.items() if meta["digests"].get(name) != crc]
        if wrong:
            raise CheckpointDamagedError(f"{len(wrong)} arrays differ from what was saved, first {wrong[0]}")
        return restored.variables, restored.get("optimizer"), info

    @property
    def saving(self) -> bool:
        """Whether a checkpoint is being saved in the background."""
        return self._manager.is_saving_in_progress()

    def wait(self) -> None:
        """Waits until the pending checkpoint is on disk; CheckpointWriteError if writing it failed."""
        with self._writing():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for the pending checkpoint and closes the manager."""
        self._manager.close()
        if not self._read_only:
            self._remove_retired()
            with contextlib.suppress(OSError):  # there is none, or another process has done it
                (self.directory / checkpoint_manager.RETIRED).rmdir()


class CheckpointWriteError(OSError):
    """A checkpoint could not be written."""


_RESTORE = "restore the file, or train anew"
_AGAIN = "what was saved before is whole; make room or mend the folder, and run the same command again."


class CheckpointDamagedError(ValueError):
    """A checkpoint differs from what was saved; every process raises it."""


class CheckpointRefusedError(ValueError):
    """A checkpoint is intact but has another format version or belongs to other data, so older ones do not help."""
