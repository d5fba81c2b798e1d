"""The pre-flight: whether a config will train, what it will take, and whether it learns one batch by heart."""

import dataclasses
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from jft import caching, tree
from jft.caching import Decision
from jft.data import preprocess, sources
from jft.data.preprocess import Preprocess
from jft.doctor import Finding
from jft.feed import image_batches, on_device
from jft.forecast import checkpoint_bytes, feature_bytes, run_seconds
from jft.overfit import RATES, overfit
from jft.run import Run, check_workdir
from jft.state import enter_phase, fresh_state
from jft.summary import human_flops
from jft.timing import Cost, forward_cost, measure
from jft.train import checked_run, compile_train_step
from jft.transfer.phases import Phase, in_force

# ImageNet's pictures, in grey levels: what the networks expect.
_MEAN, _DEVIATION = np.array((123.7, 116.3, 103.5)), np.array((58.4, 57.1, 57.4))
_READ = 3  # batches whose reading is timed


def check(
    config: ConfigDict, workdir: str | Path, data: sources.Source | None = None, *, overfit_steps: int = 30
) -> Iterator[Finding]:
    """Checks a config without arms; writes nothing into the run's folder.

    Args:
      config: from a config file.
      workdir: folder of the run to be.
      data: pictures in memory, in place of `config.dataset`.
      overfit_steps: see `overfit`.

    Yields:
      What is found, as it is found. What depends on something wrong is left out.
    """
    found = _tried("folder", _folder, config, Path(workdir))
    yield found
    with tempfile.TemporaryDirectory() as aside:  # where no other run is in the way
        try:
            run = checked_run(config, Path(aside) / "run", data)
        except (ValueError, OSError) as error:
            yield Finding("config", _line(error), wrong=True)
            return
    yield Finding("config", f"{config.model} at {run.spec.size} pixels, {_length(run)}")
    yield from _Preflight(run, Path(workdir), overfit_steps).findings()


def line(finding: Finding) -> str:
    """A finding as it is printed."""
    return f"{'WRONG' if finding.wrong else 'ok':<6}{finding.check}: {finding.told}"


def _tried(name: str, examine: Callable[..., Finding], *arguments: Any) -> Finding:
    """What is found; where looking for it breaks down, that."""
    try:
        return examine(*arguments)
    except (ValueError, OSError, jax.errors.JaxRuntimeError) as error:
        return Finding(name, _line(error), wrong=True)


def _line(error: Exception) -> str:
    if isinstance(error, jax.errors.JaxRuntimeError):  # which goes on for pages
        return (str(error).splitlines() or [type(error).__name__])[0]
    return " ".join(str(error).split())


def _length(run: Run) -> str:
    if run.config.solver != "steps":
        return f"no steps: the head is solved for by {run.config.solver}"
    phases = ", then ".join(f"{phase.num_steps:,} of {phase.name}" for phase in run.phases)
    return f"{run.num_steps:,} steps of {run.config.batch_size} pictures: {phases}"


def _folder(config: ConfigDict, workdir: Path) -> Finding:
    """Whether the run's folder can be made, and is free for this config."""
    check_workdir(config, workdir)
    place = _nearest(workdir)
    if not place.is_dir():
        return Finding("folder", f"{place} is a file: {workdir} cannot be made; give another --workdir.", wrong=True)
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        return Finding("folder", f"{place} cannot be written ({error}): give another --workdir.", wrong=True)
    begun = (workdir / "config.json").exists()
    return Finding("folder", f"{workdir} {'holds this run, which goes on' if begun else 'is free'}")


def _nearest(path: Path) -> Path:
    """The path itself or the nearest of its parents that exists."""
    return next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())


class _Preflight:
    """The checks of one run, and what the later ones need of the earlier."""

    def __init__(self, run: Run, workdir: Path, overfit_steps: int) -> None:
        self._run, self._workdir, self._overfit_steps = run, workdir, overfit_steps
        self._state: Any = None  # on the host, never changed
        self._decisions: dict[int, Decision] = {}
        self._batch: dict[str, np.ndarray] = {}
        self._reading = 0.0  # seconds of a picture
        self._forward: Cost | None = None
        self._steps: dict[int, Cost] = {}
        self._compiling = 0.0  # seconds

    def findings(self) -> Iterator[Finding]:
        """All of them, in order."""
        yield _tried("data", self._data)
        loaded, read = _tried("weights", self._weights), _tried("input", self._input)
        yield from (loaded, read)
        if loaded.wrong or read.wrong:
            return
        yield _tried("learning", self._learning)
        caches = _tried("features", self._features)
        yield caches
        yield _tried("disk", self._disk)
        if caches.wrong:
            return
        costs = [_tried("evaluation", self._evaluation)]
        yield costs[0]
        for phase in self._run.phases if self._run.config.solver == "steps" else ():
            costs.append(_tried(_step_of(self._run, phase), self._step, phase))
            yield costs[-1]
        if not any(cost.wrong for cost in costs):
            yield _tried("duration", self._duration)
            yield _tried("overfit", self._overfit)

    def _data(self) -> Finding:
        train, validation = self._run.train_source, self._run.validation_source
        names = train.class_names
        counts, unseen = _of_classes(train), [name for name, n in _of_classes(validation).items() if not n]
        least, most = (choose(counts, key=counts.__getitem__) for choose in (min, max))
        spread = f"from {counts[least]:,} ({least}) to {counts[most]:,} ({most})"
        told = (
            f"{train.name}: {len(train):,} pictures to train, {len(validation):,} to validate; {len(names)} classes, "
            f"{spread if counts[least] < counts[most] else f'{counts[least]:,} of each'}"
        )
        if absent := [name for name, n in counts.items() if not n]:
            return Finding("data", f"{told}; none of {', '.join(absent)}: add some, or leave them out (classes).", True)
        if not len(validation):
            told += "; with none to validate, the last checkpoint counts as the best"
        elif unseen:
            told += f"; none to validate of {', '.join(unseen)}, of which the figures will say nothing"
        return Finding("data", told)

    def _weights(self) -> Finding:
        state, meta = fresh_state(self._run)
        self._state = jax.tree.map(np.array, state)
        names = {f"{kind}/{name}" for kind, leaves in state.variables.items() for name in tree.flatten(leaves)}
        fresh = sorted(names - {*meta["pretrained"]})
        if self._run.row is None:
            return Finding("weights", f"none: all {len(fresh)} leaves begin anew")
        stages = dict.fromkeys(name.split("/")[1] for name in fresh)
        told = f"{meta['weights']['source']}: {len(meta['pretrained'])} leaves pretrained, {len(fresh)} fresh"
        return Finding("weights", f"{told} (in {', '.join(stages)})")

    def _learning(self) -> Finding:
        total = sum(leaf.size for leaf in jax.tree.leaves(self._state.params))
        parts = []
        for phase in self._run.phases:
            learns = in_force(phase, self._state.variables)["learning"]
            upto = f" (up to {phase.plan.boundary})" if phase.plan.boundary else ""
            parts.append(f"{_called(self._run, phase)}{learns:,} learn, {total - learns:,} are frozen{upto}")
        return Finding("learning", f"of {total:,} parameters, {'; '.join(parts)}")

    def _input(self) -> Finding:
        run, config = self._run, ConfigDict(self._run.config)
        config.cache_bytes = 0  # a check decodes what it looks at, not all that a run would keep in memory
        batches = image_batches(dataclasses.replace(run, config=config), 0, _READ + 1)
        self._batch = next(batches)
        start = time.perf_counter()
        for _ in range(_READ):
            next(batches)
        self._reading = (time.perf_counter() - start) / _READ / run.config.batch_size
        preprocess.check_range(self._batch["image"], run.spec)
        images = np.asarray(preprocess.to_model_input(self._batch["image"], run.spec, fit=run.config.fit))
        told = _told_of_input(self._batch["image"], images, run.spec)
        return Finding("input", f"{told}; {1 / self._reading:,.0f} pictures/s are read")

    def _features(self) -> Finding:
        self._decisions = caching.decide(self._run, self._state, {})
        told = [f"{_called(self._run, phase)}{self._decisions[phase.first].why}" for phase in self._run.phases]
        return Finding("features", "; ".join(told))

    def _disk(self) -> Finding:
        run, place, features = self._run, _nearest(self._workdir), _nearest(caching.features_dir(self._run))
        size, count = checkpoint_bytes(run)
        free, needed = shutil.disk_usage(place).free, size * count
        told = f"{count} checkpoints of {_bytes(size)} at most"
        stored = feature_bytes(run, self._decisions, self._state.variables)
        if stored and place.stat().st_dev == features.stat().st_dev:
            needed += stored
            told += f" and {_bytes(stored)} of features"
        told += f", {_bytes(free)} free at {place}"
        if needed > free:
            return Finding("disk", f"{told}: make room, lower keep_last, or give another --workdir.", wrong=True)
        return Finding("disk", told)

    def _evaluation(self) -> Finding:
        run, size = self._run, self._run.config.eval_batch_size
        images = np.resize(self._batch["image"], (size // run.parallel.shard[1], *self._batch["image"].shape[1:]))
        start = time.perf_counter()
        self._forward = forward_cost(run, run.parallel.place_state(self._state.variables), images)
        self._compiling += max(0.0, time.perf_counter() - start - 4 * self._forward.seconds)
        return _told_of_program("evaluation", self._forward, size, run)

    def _step(self, phase: Phase) -> Finding:
        run, size = self._run, self._run.config.batch_size
        batch = caching.example(run, phase) if self._decisions[phase.first].use else self._batch
        start = time.perf_counter()
        compiled = compile_train_step(run, phase, batch)
        self._compiling += time.perf_counter() - start
        placed = run.parallel.place_batch(on_device(batch))
        # Copied: the step takes the memory of what it is given.
        state = enter_phase(run, phase, run.parallel.place_state(jax.tree.map(np.array, self._state)))
        held = [state.replace(step=run.parallel.place_state(np.int32(phase.first))), {}]
        del state

        def call() -> Any:
            held[:] = compiled(held[0], placed)
            return held[1]

        cost = self._steps[phase.first] = measure(compiled, call)
        if not np.isfinite(held[1]["objective"]):
            remedy = f"lower the learning rate ({float(held[1]['learning_rate']):.3g}) or set clip_norm."
            return Finding(_step_of(run, phase), f"the loss of the first steps is not finite: {remedy}", wrong=True)
        return _told_of_program(_step_of(run, phase), cost, size, run)

    def _duration(self) -> Finding:
        run = self._run
        steps = {first: cost.seconds for first, cost in self._steps.items()}
        parts = run_seconds(
            run, self._decisions, steps, self._forward.seconds / run.config.eval_batch_size, self._reading
        )
        parts = {"compilation": self._compiling, **parts}
        most = "at most " if run.config.early_stopping else ""
        told = f"{most}about {_span(sum(parts.values()))} on this machine: "
        told += ", ".join(f"{name} {_span(seconds)}" for name, seconds in parts.items() if seconds >= 0.5)
        if any(decision.use for decision in self._decisions.values()):
            told += "; features that are cached already take none"
        if run.config.solver != "steps":
            told += "; no steps, and solving for the head comes on top"
        return Finding("duration", told)

    def _overfit(self) -> Finding:
        phase = max(reversed(self._run.phases), key=lambda one: in_force(one, self._state.variables)["learning"])
        found = overfit(self._run, phase, self._state, self._batch, steps=self._overfit_steps)
        told = (
            f"{found.pictures} pictures, {phase.name}: loss {found.first:.3f} to {found.loss:.3f} (guessing "
            f"{found.guessing:.3f}), accuracy {found.accuracy:.0%}, in {found.steps} steps of Adam at {found.rate:g}"
        )
        if found.learnt:
            return Finding("overfit", told)
        return Finding(
            "overfit",
            f"{told}, the best of {', '.join(f'{rate:g}' for rate in RATES)}: one batch cannot be learnt by heart. "
            "Look for pictures that are alike under other labels, and whether too little learns (freeze); or give more "
            "--overfit_steps.",
            wrong=True,
        )


def _of_classes(source: sources.Source) -> dict[str, int]:
    """Pictures of each class."""
    labels, names = source.labels, source.class_names
    counts = labels.sum(0) if source.multi_label else np.bincount(labels, minlength=len(names))
    return dict(zip(names, counts.tolist(), strict=True))


def _told_of_input(pictures: np.ndarray, images: np.ndarray, spec: Preprocess) -> str:
    """Grey levels of a batch, and where its normalised values lie as against ImageNet's."""
    mean, deviation = (levels[::-1] if spec.channels == "BGR" else levels for levels in (_MEAN, _DEVIATION))
    usual, spread = (mean * spec.scale - spec.mean) / spec.std, deviation * spec.scale / spec.std
    images = (images - usual) / spread
    told = (
        f"uint8 {list(pictures.shape)}, grey levels {pictures.min()} to {pictures.max()}; normalised, in ImageNet's "
        f"deviations from its mean: {images.mean():+.2f}, deviation {images.std():.2f}"
    )
    if abs(images.mean()) > 2 or not 0.25 < images.std() < 4:
        told += " (far from 0 and 1: look at the pictures)"
    return told


def _told_of_program(name: str, cost: Cost, pictures: int, run: Run) -> Finding:
    """Memory by device, FLOPs and time of a compiled program."""
    count, device = run.parallel.mesh.size, run.parallel.mesh.devices.flat[0]
    limit = (device.memory_stats() or {}).get("bytes_limit")
    told = (
        f"{_bytes(cost.nbytes)} on {'the device' if count == 1 else f'each of {count} devices'}"
        f"{f', which has {_bytes(limit)}' if limit else ''}; {human_flops(int(cost.flops))} there; "
        f"{cost.seconds:.3g} s for {pictures} pictures ({pictures / cost.seconds:,.1f} images/s)"
    )
    if limit and cost.nbytes > limit:
        return Finding(name, f"{told}: lower batch_size, or raise accumulate.", wrong=True)
    return Finding(name, told)


def _step_of(run: Run, phase: Phase) -> str:
    return "step" if len(run.phases) == 1 else f"step of {phase.name}"


def _called(run: Run, phase: Phase) -> str:
    return "" if len(run.phases) == 1 else f"{phase.name}: "


def _bytes(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def _span(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
