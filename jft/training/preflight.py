"""Checks before a run: data, weights, input, memory, disk and time, and whether the run can overfit one batch."""

import copy
import dataclasses
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from jft.data import transforms
from jft.data.survey import Survey
from jft.data.transforms import Preprocess
from jft.models.summary import human_flops
from jft.training import feature_cache, noted_images, programs
from jft.training.batches import image_batches, input_choice
from jft.training.forecast import checkpoint_bytes, feature_bytes, run_seconds
from jft.training.overfit import RATES, Overfit, overfit
from jft.training.phase_run import PhaseRun
from jft.training.phases import Phase, in_force
from jft.training.run import Run
from jft.training.state import fresh_state
from jft.training.step import TrainState
from jft.training.timing import Cost, forward_cost, save_seconds, step_cost
from jft.utils import memory, tree
from jft.utils.files import nearest
from jft.utils.findings import Finding, tried
from jft.utils.option_names import option
from jft.utils.text import human_bytes, human_seconds

# Mean and standard deviation of ImageNet in gray levels, which the networks expect.
_MEAN, _DEVIATION = np.array((123.7, 116.3, 103.5)), np.array((58.4, 57.1, 57.4))
_READ = 3  # batches to time the reading of
_CONTRAST = 16  # smallest range of gray levels; 12-bit images read as 16-bit reach 15 of 255


class Preflight:
    """The checks of one run, with the results that later checks need; writes nothing into the run's folder."""

    def __init__(self, run: Run, workdir: Path | None, *, overfit_steps: int) -> None:
        """Stores what to check.

        Args:
          run: the run; its own folder is not read.
          workdir: the folder that the run will write; None if it cannot be written, then the disk is not checked.
          overfit_steps: see `overfit`.
        """
        self._run, self._workdir, self._overfit_steps = run, workdir, overfit_steps
        self._state: TrainState  # on the host, never changed
        self._phases: list[PhaseRun] = []
        self._survey: Survey
        self._batch: dict[str, np.ndarray] = {}
        self._reading = 0.0  # seconds of an image
        self._forward: Cost
        self._compilation = 0.0  # seconds, of all programs
        self._saving = 0.0  # seconds of a checkpoint
        self._overfitted: tuple[Overfit, Phase] | None = None

    def findings(self) -> Iterator[Finding]:
        """Yields the result of each check, in order; skips checks that depend on a failed one."""
        yield tried("data", self._data)
        yield tried("images", self._images)
        yield tried("repeats", self._repeats)
        loaded, read = tried("weights", self._weights), tried("input", self._input)
        yield from (loaded, read)
        if loaded.wrong or read.wrong:
            return
        yield tried("trainable", self._trainable)
        caches = tried("features", self._features)
        yield caches
        disk = tried("disk", self._disk) if self._workdir else None
        if disk:
            yield disk
        if caches.wrong:
            return
        costs = [tried("evaluation", self._evaluation)]
        yield costs[0]
        if not self._run.solved and self._run.accumulate is None:
            costs.append(tried("micro-batches", self._micro_batches))
            yield costs[-1]
            if costs[-1].wrong:
                return
        for number, one in enumerate(self._phases):
            if one.phase.solved:
                continue
            costs.append(tried(_step_of(self._run, one.phase), self._step, number))
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
        text = (
            f"{train.name}: {len(train):,} training and {len(validation):,} validation images; {len(counts)} classes, "
            f"{spread if counts[least] < counts[most] else f'{counts[least]:,} images each'}"
        )
        if absent := [name for name, n in counts.items() if not n]:
            problem = f"no images of {', '.join(absent)}: add some, or leave these classes out (classes)"
            return Finding("data", f"{text}; {problem}.", True)
        if not len(validation):
            text += "; without validation images, the last checkpoint counts as the best"
        return Finding("data", text)

    def _images(self) -> Finding:
        start = time.perf_counter()
        found = self._survey = noted_images.look(self._run)
        text = "; ".join([found.size_text(), *found.odd_texts()])
        if problem := found.unreadable_text():
            return Finding("images", f"{text}; {problem}.", wrong=True)
        return Finding("images", f"{text}; looked at {found.count:,} images in {time.perf_counter() - start:.2g} s")

    def _repeats(self) -> Finding:
        found = self._survey.duplicates
        return Finding("repeats", "; ".join([str(found) or "no image occurs twice", *found.notes()]))

    def _weights(self) -> Finding:
        state, info = fresh_state(self._run)
        self._state = jax.tree.map(np.array, state)
        names = {f"{kind}/{name}" for kind, leaves in state.variables.items() for name in tree.flatten(leaves)}
        fresh = sorted(names - {*info.pretrained})
        if self._run.row is None:
            return Finding("weights", f"none: all {len(fresh)} leaves are newly initialized")
        stages = dict.fromkeys(name.split("/")[1] for name in fresh)
        text = f"{info.weights['source']}: {len(info.pretrained)} leaves pretrained, {len(fresh)} initialized"
        return Finding("weights", f"{text} (in {', '.join(stages)})")

    def _trainable(self) -> Finding:
        total = sum(leaf.size for leaf in jax.tree.leaves(self._state.params))
        parts = []
        for phase in self._run.phases:
            trainable = in_force(phase, self._state.variables)["learning"]
            upto = f" (up to {phase.plan.boundary})" if phase.plan.boundary else ""
            parts.append(f"{_called(self._run, phase)}{trainable:,} trainable, {total - trainable:,} frozen{upto}")
        return Finding("trainable", f"{total:,} parameters: {'; '.join(parts)}")

    def _input(self) -> Finding:
        run, config = self._run, copy.deepcopy(self._run.config)
        config.cache_bytes = 0  # decode only the batches that are checked, not all images that a run would cache
        batches = image_batches(dataclasses.replace(run, config=config), 0, _READ + 1)
        self._batch = next(batches)
        flat = _without_contrast(self._batch)
        start = time.perf_counter()
        for _ in range(_READ):
            flat += _without_contrast(next(batches))
        self._reading = (time.perf_counter() - start) / _READ / run.config.batch_size
        transforms.check_range(self._batch["image"], run.spec)
        images = np.asarray(transforms.to_model_input(self._batch["image"], run.spec, fit=run.config.fit))
        text = _input_text(self._batch["image"], images, run.spec)
        text += f"; reads {1 / self._reading:,.0f} images/s; input: {input_choice(run)}"
        if flat:
            source = run.train_source
            first = source.image_name(int(np.flatnonzero(source.indices == flat[0])[0]))
            count = (_READ + 1) * len(self._batch["image"])
            text += f"; {len(flat)} of {count} images have almost no contrast, the first is {first}: look at them"
        return Finding("input", text)

    def _features(self) -> Finding:
        phases = feature_cache.decide(self._run, self._state, {})
        self._phases = list(programs.with_examples(self._run, phases, 0, self._batch))
        parts = [f"{_called(self._run, one.phase)}{one.why}" for one in self._phases]
        return Finding("features", "; ".join(parts))

    def _disk(self) -> Finding:
        assert self._workdir is not None  # see `findings`
        run, place, features = self._run, nearest(self._workdir), nearest(feature_cache.features_dir(self._run))
        size, count = checkpoint_bytes(run)
        free, needed = shutil.disk_usage(place).free, size * count
        text = f"at most {count} checkpoints of {human_bytes(size)}"
        stored = feature_bytes(run, self._phases, self._state.variables)
        if stored and place.stat().st_dev == features.stat().st_dev:
            needed += stored
            text += f" and {human_bytes(stored)} of features"
        text += f", {human_bytes(free)} free at {place}"
        if needed > free:
            return Finding(
                "disk", f"{text}: free space, lower keep_last, or give another {option('workdir')}.", wrong=True
            )
        self._saving = save_seconds(self._state, place)
        return Finding("disk", f"{text}; saving one takes {self._saving:.2g} s")

    def _evaluation(self) -> Finding:
        run, size = self._run, self._run.config.eval_batch_size
        images = np.resize(self._batch["image"], (size // run.parallel.shard[1], *self._batch["image"].shape[1:]))
        self._forward = forward_cost(run, run.parallel.place_state(self._state.variables), images)
        self._compilation += self._forward.compilation
        return _cost_finding("evaluation", self._forward, size, run)

    def _micro_batches(self) -> Finding:
        self._run, _, text = programs.fitted(self._run, self._phases)
        return Finding("micro-batches", text)

    def _step(self, number: int) -> Finding:
        run, one = self._run, self._phases[number]
        name = _step_of(run, one.phase)
        cost, told = step_cost(run, one, self._state)
        self._phases[number] = one.replace(step_seconds=cost.seconds)
        self._compilation += cost.compilation
        if not np.isfinite(told["objective"]):
            rate = f" ({float(told['learning_rate']):.3g})" if "learning_rate" in told else ""
            remedy = f"lower the learning rate{rate} or set clip_norm."
            return Finding(name, f"the loss of the first steps is not finite: {remedy}", wrong=True)
        return _cost_finding(name, cost, run.config.batch_size, run)

    def _duration(self) -> Finding:
        run = self._run
        forward = self._forward.seconds / run.config.eval_batch_size
        parts = {
            "compilation": self._compilation,
            **run_seconds(run, self._phases, forward=forward, reading=self._reading, saving=self._saving),
        }
        most = "at most " if run.config.early_stopping else ""
        text = f"{most}about {human_seconds(sum(parts.values()))} on this machine: "
        text += ", ".join(f"{name} {human_seconds(seconds)}" for name, seconds in parts.items() if seconds >= 0.5)
        if any(one.cached for one in self._phases):
            text += "; less if features are cached already"
        if any(phase.solved for phase in run.phases):
            text += "; plus the time to fit the head"
        text += "; plus the test and the report"
        return Finding("duration", text)

    def _overfit(self) -> Finding:
        phase = max(reversed(self._run.phases), key=lambda one: in_force(one, self._state.variables)["learning"])
        found = overfit(self._run, phase, self._state, self._batch, steps=self._overfit_steps)
        self._overfitted = found, phase
        text = (
            f"{found.images} images, {phase.name}: loss {found.first:.3f} to {found.loss:.3f} (guessing gives "
            f"{found.guessing:.3f}), accuracy {found.accuracy:.0%}, in {found.steps} steps of Adam at {found.rate:g}"
        )
        if found.succeeded:
            return Finding("overfit", text)
        return Finding(
            "overfit",
            f"{text}, the best of the rates {', '.join(f'{rate:g}' for rate in RATES)}: the run cannot overfit one "
            "batch. Look for similar images with different labels, freeze less, or raise --overfit-steps.",
            wrong=True,
        )


def _without_contrast(batch: dict[str, np.ndarray]) -> list[int]:
    """Indices of a batch's images with a very small range of gray levels."""
    images = batch["image"].reshape(len(batch["image"]), -1)
    return batch["index"][np.ptp(images, axis=1) < _CONTRAST].tolist()


def gradients(found: Overfit, phase: Phase) -> Finding:
    """Whether every trainable leaf of a phase got a gradient while overfitting one batch."""
    plan, total = phase.plan, len(phase.groups)
    dead = [name for name in found.unchanged if not plan.normalized_away(name)]
    if not dead or not found.first:  # a loss of 0 is flat
        return Finding("gradients", f"{total - len(found.unchanged)} of {total} trainable leaves got a gradient")
    named = f"{', '.join(dead[:5])}{', ...' if len(dead) > 5 else ''}"
    moved = {name.split("/")[0] for name in phase.groups if name not in found.unchanged}
    silent = [stage for stage in plan.stages if stage in {name.split("/")[0] for name in dead} - moved]
    why = f"no gradient passes {silent[-1]}" if silent else "their inputs are all 0"
    return Finding(
        "gradients",
        f"{len(dead)} of {total} trainable leaves get a gradient of exactly 0 in every step: {named}. Probably "
        f"{why}: a kernel of zeros, or a ReLU whose inputs are all below 0. Use other weights, another seed or "
        "head_init, or freeze these leaves.",
        wrong=True,
    )


def _input_text(images: np.ndarray, rate: np.ndarray, spec: Preprocess) -> str:
    """Describes the gray levels of a batch, and its normalized values relative to ImageNet's."""
    mean, deviation = (levels[::-1] if spec.channels == "BGR" else levels for levels in (_MEAN, _DEVIATION))
    usual, spread = (mean * spec.scale - spec.mean) / spec.std, deviation * spec.scale / spec.std
    rate = (rate - usual) / spread
    text = (
        f"uint8 {list(images.shape)}, gray levels {images.min()} to {images.max()}; relative to ImageNet, mean "
        f"{rate.mean():+.2f}, standard deviation {rate.std():.2f}"
    )
    if abs(rate.mean()) > 2 or not 0.25 < rate.std() < 4:
        text += " (far from 0 and 1: look at the images)"
    return text


def _cost_finding(name: str, cost: Cost, images: int, run: Run) -> Finding:
    """Memory per device, FLOPs and time of a compiled program."""
    count, device = run.parallel.mesh.size, run.parallel.mesh.devices.flat[0]
    limit = memory.device_limit(run.parallel) if device.platform != "cpu" else None
    text = (
        f"{human_bytes(cost.nbytes)} on {'the device' if count == 1 else f'each of {count} devices'}"
        f"{f', which has {human_bytes(limit)}' if limit else ''}; {human_flops(int(cost.flops))} per device; "
        f"{cost.seconds:.3g} s for {images} images ({images / cost.seconds:,.1f} images/s)"
    )
    if limit and cost.nbytes > limit:
        return Finding(name, f"{text}: lower batch_size, or raise accumulate.", wrong=True)
    return Finding(name, text)


def _step_of(run: Run, phase: Phase) -> str:
    return "step" if len(run.phases) == 1 else f"step of {phase.name}"


def _called(run: Run, phase: Phase) -> str:
    return "" if len(run.phases) == 1 else f"{phase.name}: "
