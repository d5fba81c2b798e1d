"""What a run will take: its data, weights, input, memory, disk and time, and whether it learns one batch by heart."""

import dataclasses
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from jft.config import Config
from jft.data import transforms
from jft.data.transforms import Preprocess
from jft.models.summary import human_flops
from jft.training import feature_cache, noted_images, programs
from jft.training.batches import image_batches
from jft.training.feature_cache import Decision
from jft.training.forecast import checkpoint_bytes, feature_bytes, run_seconds
from jft.training.overfit import RATES, Overfit, overfit
from jft.training.phases import Phase, in_force
from jft.training.run import Run
from jft.training.state import fresh_state
from jft.training.step import TrainState
from jft.training.timing import Cost, forward_cost, save_seconds, step_cost
from jft.utils import memory, tree
from jft.utils.files import nearest
from jft.utils.findings import Finding, tried
from jft.utils.text import human_bytes, human_seconds

# ImageNet's images, in gray levels: what the networks expect.
_MEAN, _DEVIATION = np.array((123.7, 116.3, 103.5)), np.array((58.4, 57.1, 57.4))
_READ = 3  # batches whose reading is timed
_CONTRAST = 16  # gray levels of 255 between the darkest and the brightest: 12 bits read as 16 reach 15


class Preflight:
    """The checks of one run, and what the later ones need of the earlier; leaves nothing in the run's folder."""

    def __init__(self, run: Run, workdir: Path | None, *, overfit_steps: int) -> None:
        """Takes what is to be checked.

        Args:
          run: its own folder is not looked at.
          workdir: where it is to be written; None where that cannot be: its disk is not looked at.
          overfit_steps: see `overfit`.
        """
        self._run, self._workdir, self._overfit_steps = run, workdir, overfit_steps
        self._state: TrainState | None = None  # on the host, never changed
        self._decisions: dict[int, Decision] = {}
        self._batch: dict[str, np.ndarray] = {}
        self._reading = 0.0  # seconds of an image
        self._forward: Cost | None = None
        self._steps: dict[int, Cost] = {}
        self._saving = 0.0  # seconds of a checkpoint
        self._overfitted: tuple[Overfit, Phase] | None = None

    def findings(self) -> Iterator[Finding]:
        """All of them, in order; what depends on something wrong is left out."""
        yield tried("data", self._data)
        yield tried("repeats", self._repeats)
        loaded, read = tried("weights", self._weights), tried("input", self._input)
        yield from (loaded, read)
        if loaded.wrong or read.wrong:
            return
        yield tried("learning", self._learning)
        caches = tried("features", self._features)
        yield caches
        disk = tried("disk", self._disk) if self._workdir else None
        if disk:
            yield disk
        if caches.wrong:
            return
        costs = [tried("evaluation", self._evaluation)]
        yield costs[0]
        if self._run.config.solver == "steps" and self._run.accumulate is None:
            costs.append(tried("micro-batches", self._micro_batches))
            yield costs[-1]
            if costs[-1].wrong:
                return
        for phase in self._run.phases if self._run.config.solver == "steps" else ():
            costs.append(tried(_step_of(self._run, phase), self._step, phase))
            yield costs[-1]
        if any(cost.wrong for cost in costs):
            return
        if disk and not disk.wrong:
            yield tried("duration", self._duration)
        yield tried("overfit", self._overfit)
        if self._overfitted:
            yield gradients(*self._overfitted)

    def _data(self) -> Finding:
        train, validation = self._run.train_source, self._run.validation_source
        counts = dict(zip(train.class_names, train.counts().tolist(), strict=True))
        least, most = (choose(counts, key=counts.__getitem__) for choose in (min, max))
        spread = f"from {counts[least]:,} ({least}) to {counts[most]:,} ({most})"
        told = (
            f"{train.name}: {len(train):,} images to train, {len(validation):,} to validate; {len(counts)} classes, "
            f"{spread if counts[least] < counts[most] else f'{counts[least]:,} of each'}"
        )
        if absent := [name for name, n in counts.items() if not n]:
            return Finding("data", f"{told}; none of {', '.join(absent)}: add some, or leave them out (classes).", True)
        if not len(validation):
            told += "; with none to validate, the last checkpoint counts as the best"
        return Finding("data", told)

    def _repeats(self) -> Finding:
        start = time.perf_counter()
        found = noted_images.repeats(self._run)
        told = str(found) or "no image occurs twice"
        seconds = time.perf_counter() - start
        return Finding("repeats", f"{told}; {found.count:,} images were compared by their pixels in {seconds:.2g} s")

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
        run, config = self._run, Config(self._run.config)
        config.cache_bytes = 0  # a check decodes what it looks at, not all that a run would keep in memory
        batches = image_batches(dataclasses.replace(run, config=config), 0, _READ + 1)
        self._batch = next(batches)
        flat = _without_contrast(self._batch)
        start = time.perf_counter()
        for _ in range(_READ):
            flat += _without_contrast(next(batches))
        self._reading = (time.perf_counter() - start) / _READ / run.config.batch_size
        transforms.check_range(self._batch["image"], run.spec)
        images = np.asarray(transforms.to_model_input(self._batch["image"], run.spec, fit=run.config.fit))
        told = _told_of_input(self._batch["image"], images, run.spec)
        told += f"; {1 / self._reading:,.0f} images/s are read"
        if flat:
            source = run.train_source
            first = source.image_name(int(np.flatnonzero(source.indices == flat[0])[0]))
            count = (_READ + 1) * len(self._batch["image"])
            told += f"; {len(flat)} of {count} images have next to no contrast, first {first}: look at them"
        return Finding("input", told)

    def _features(self) -> Finding:
        self._decisions = feature_cache.decide(self._run, self._state, {})
        told = [f"{_called(self._run, phase)}{self._decisions[phase.first].why}" for phase in self._run.phases]
        return Finding("features", "; ".join(told))

    def _disk(self) -> Finding:
        run, place, features = self._run, nearest(self._workdir), nearest(feature_cache.features_dir(self._run))
        size, count = checkpoint_bytes(run)
        free, needed = shutil.disk_usage(place).free, size * count
        told = f"{count} checkpoints of {human_bytes(size)} at most"
        stored = feature_bytes(run, self._decisions, self._state.variables)
        if stored and place.stat().st_dev == features.stat().st_dev:
            needed += stored
            told += f" and {human_bytes(stored)} of features"
        told += f", {human_bytes(free)} free at {place}"
        if needed > free:
            return Finding("disk", f"{told}: make room, lower keep_last, or give another --workdir.", wrong=True)
        self._saving = save_seconds(self._state, place)
        return Finding("disk", f"{told}; one takes {self._saving:.2g} s")

    def _evaluation(self) -> Finding:
        run, size = self._run, self._run.config.eval_batch_size
        images = np.resize(self._batch["image"], (size // run.parallel.shard[1], *self._batch["image"].shape[1:]))
        self._forward = forward_cost(run, run.parallel.place_state(self._state.variables), images)
        return _told_of_program("evaluation", self._forward, size, run)

    def _micro_batches(self) -> Finding:
        self._run, _, told = programs.fitted(
            self._run, {phase.first: self._example(phase) for phase in self._run.phases}
        )
        return Finding("micro-batches", told)

    def _example(self, phase: Phase) -> dict[str, np.ndarray]:
        return feature_cache.example(self._run, phase) if self._decisions[phase.first].use else self._batch

    def _step(self, phase: Phase) -> Finding:
        run, name, batch = self._run, _step_of(self._run, phase), self._example(phase)
        self._steps[phase.first], told = step_cost(run, phase, batch, self._state)
        if not np.isfinite(told["objective"]):
            rate = f" ({float(told['learning_rate']):.3g})" if "learning_rate" in told else ""
            remedy = f"lower the learning rate{rate} or set clip_norm."
            return Finding(name, f"the loss of the first steps is not finite: {remedy}", wrong=True)
        return _told_of_program(name, self._steps[phase.first], run.config.batch_size, run)

    def _duration(self) -> Finding:
        run, costs = self._run, (self._forward, *self._steps.values())
        steps = {first: cost.seconds for first, cost in self._steps.items()}
        forward = self._forward.seconds / run.config.eval_batch_size
        parts = {
            "compilation": sum(cost.compilation for cost in costs),
            **run_seconds(run, self._decisions, steps, forward=forward, reading=self._reading, saving=self._saving),
        }
        most = "at most " if run.config.early_stopping else ""
        told = f"{most}about {human_seconds(sum(parts.values()))} on this machine: "
        told += ", ".join(f"{name} {human_seconds(seconds)}" for name, seconds in parts.items() if seconds >= 0.5)
        if any(decision.use for decision in self._decisions.values()):
            told += "; features that are cached already take none"
        if run.config.solver != "steps":
            told += "; no steps, and solving for the head comes on top"
        told += "; then the test and the page"
        return Finding("duration", told)

    def _overfit(self) -> Finding:
        phase = max(reversed(self._run.phases), key=lambda one: in_force(one, self._state.variables)["learning"])
        found = overfit(self._run, phase, self._state, self._batch, steps=self._overfit_steps)
        self._overfitted = found, phase
        told = (
            f"{found.images} images, {phase.name}: loss {found.first:.3f} to {found.loss:.3f} (guessing "
            f"{found.guessing:.3f}), accuracy {found.accuracy:.0%}, in {found.steps} steps of Adam at {found.rate:g}"
        )
        if found.learnt:
            return Finding("overfit", told)
        return Finding(
            "overfit",
            f"{told}, the best of {', '.join(f'{rate:g}' for rate in RATES)}: one batch cannot be learnt by heart. "
            "Look for images that are alike under other labels, and whether too little learns (freeze); or give more "
            "--overfit_steps.",
            wrong=True,
        )


def _without_contrast(batch: dict[str, np.ndarray]) -> list[int]:
    """Indices of a batch's images whose gray levels all lie close together."""
    images = batch["image"].reshape(len(batch["image"]), -1)
    return batch["index"][np.ptp(images, axis=1) < _CONTRAST].tolist()


def gradients(found: Overfit, phase: Phase) -> Finding:
    """Whether the loss reached every leaf that learns in a phase, as overfitting a batch found it."""
    plan, total = phase.plan, len(phase.groups)
    dead = [name for name in found.still if not plan.normalized_away(name)]
    if not dead or not found.first:  # a loss of 0 is flat
        return Finding("gradients", f"of {total} leaves that learn, {total - len(found.still)} got one")
    named = f"{', '.join(dead[:5])}{', ...' if len(dead) > 5 else ''}"
    moved = {name.split("/")[0] for name in phase.groups if name not in found.still}
    silent = [stage for stage in plan.stages if stage in {name.split("/")[0] for name in dead} - moved]
    why = f"nothing comes back through {silent[-1]}" if silent else "their inputs are all 0"
    return Finding(
        "gradients",
        f"{len(dead)} of {total} leaves that learn get a gradient of exactly 0, in every step: {named}. Probably "
        f"{why}: zeros in a kernel, or a ReLU whose inputs are all below 0. Give other weights, another seed or "
        "head_init, or freeze them.",
        wrong=True,
    )


def _told_of_input(images: np.ndarray, rate: np.ndarray, spec: Preprocess) -> str:
    """Gray levels of a batch, and where its normalized values lie as against ImageNet's."""
    mean, deviation = (levels[::-1] if spec.channels == "BGR" else levels for levels in (_MEAN, _DEVIATION))
    usual, spread = (mean * spec.scale - spec.mean) / spec.std, deviation * spec.scale / spec.std
    rate = (rate - usual) / spread
    told = (
        f"uint8 {list(images.shape)}, gray levels {images.min()} to {images.max()}; normalized, in ImageNet's "
        f"deviations from its mean: {rate.mean():+.2f}, deviation {rate.std():.2f}"
    )
    if abs(rate.mean()) > 2 or not 0.25 < rate.std() < 4:
        told += " (far from 0 and 1: look at the images)"
    return told


def _told_of_program(name: str, cost: Cost, images: int, run: Run) -> Finding:
    """Memory by device, FLOPs and time of a compiled program."""
    count, device = run.parallel.mesh.size, run.parallel.mesh.devices.flat[0]
    limit = memory.device_limit(run.parallel) if device.platform != "cpu" else None
    told = (
        f"{human_bytes(cost.nbytes)} on {'the device' if count == 1 else f'each of {count} devices'}"
        f"{f', which has {human_bytes(limit)}' if limit else ''}; {human_flops(int(cost.flops))} there; "
        f"{cost.seconds:.3g} s for {images} images ({images / cost.seconds:,.1f} images/s)"
    )
    if limit and cost.nbytes > limit:
        return Finding(name, f"{told}: lower batch_size, or raise accumulate.", wrong=True)
    return Finding(name, told)


def _step_of(run: Run, phase: Phase) -> str:
    return "step" if len(run.phases) == 1 else f"step of {phase.name}"


def _called(run: Run, phase: Phase) -> str:
    return "" if len(run.phases) == 1 else f"{phase.name}: "
