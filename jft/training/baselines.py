"""`jft probe`: probes of a config's frozen features side by side, and the test figure of the one that is chosen."""

import copy
import dataclasses
import time
from collections.abc import Sequence

import numpy as np

from jft.config import Config
from jft.data import datasets
from jft.data.augment import Augmentation
from jft.data.folds import folds
from jft.features import candidates
from jft.features.candidates import NEIGHBORS, VARIANTS, Candidate, Images
from jft.features.cross_validation import FOLDS, standard_error
from jft.features.examples import Examples, score
from jft.features.lbfgs import nats
from jft.metrics import classification
from jft.training.probe_features import StageFeatures, extract_stages, probe_run
from jft.training.run import Run
from jft.training.step import TrainState
from jft.utils.interrupt import Interrupt
from jft.utils.text import aligned, terminal

LAST, ALL, LAST_JOINED, ALL_JOINED = "last", "all", "last, networks", "all, networks"
# Each solver on the last stage, and those that gain from more features on all stages.
TRIED = (
    *((method, LAST) for method in ("ridge", "lbfgs", "lda", "class_means", NEIGHBORS)),
    *((method, ALL) for method in ("ridge", "lbfgs", "lda")),
)
OF_SEVERAL = tuple((method, name) for name in (LAST_JOINED, ALL_JOINED) for method in ("lbfgs", "lda"))
_MOST = 2**29  # numbers: features of all stages beyond 2 GiB are not tried
_HEADER = ("", "method", "stages", "variants", "chosen", "score", "95 % interval", "log loss", "seconds")


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """Probes of the frozen features of a network, or of several.

    Attributes:
      title: network, images and folds, for people.
      images: the training images.
      found: the probes, see `candidates.compare`.
      best: the one of the smallest cross-validated log loss.
      honest: score of the choice on images that had no part in it, see `candidates.chosen_without`.
      test: the best one's score on the test images, after a fit on all training images.
      test_right: bool [m], whether it is right; None where images have several labels.
      test_losses: float64 [m], nats.
      fields: of the best one, see `fields_of`.
    """

    title: str
    images: Images
    found: list[Candidate]
    best: Candidate
    honest: float
    test: float
    test_right: np.ndarray | None
    test_losses: np.ndarray
    fields: dict[str, str]


@dataclasses.dataclass(frozen=True)
class _Network:
    run: Run
    state: TrainState

    def features(self, source: datasets.Source, augmentation: Augmentation, interrupt: Interrupt) -> StageFeatures:
        return extract_stages(self.run, self.state, source, augmentation, interrupt)


def measure(config: Config, also: Sequence[tuple[str, str, str]] = ()) -> Measured:
    """Cross-validates probes on the training images, and tests the best one.

    Features that are not cached are extracted; one forward pass gives those of all stages. The test images are read
    when everything is chosen, by one probe.

    Args:
      config: of a run. `cut` and `pool` select the features; head, optimizer, phases and validation are not used.
      also: further networks (model, tag of its weights, their file or ''), whose features join those of the config's.

    Raises:
      ValueError: see `create_run` and `candidates.compare`; or images have no fixed number of variants.
      Stopped: a signal came.
    """
    first = _Network(*probe_run(config)[:2])
    networks = [first]
    for model, tag, path in also:
        other = copy.deepcopy(config)
        other.update({"model": model, "weights": tag, "weights_path": path, "cut": "", "image_size": 0})
        networks.append(_Network(*probe_run(other, first.run.train_source)[:2]))
    source, outputs = first.run.train_source, first.run.objective.num_outputs
    fold_of = folds(source.labels, FOLDS, config.seed, source.groups)
    with Interrupt() as interrupt:
        start = time.perf_counter()
        views = _views(networks, source, first.run.augmentation, interrupt)
        seconds = time.perf_counter() - start
        images = Images(views, source.labels, outputs, fold_of, source.groups)
        tried = [pair for pair in (*TRIED, *OF_SEVERAL) if pair[1] in views]
        found = candidates.compare(images, tried, {config.solver: tuple(config.regularization)})
        best = candidates.best(found)
        head = candidates.fit(best, images)
        averaged = best.variants == VARIANTS[2]
        test = datasets.of_config(first.run.config, "test")
        seen = _views(networks, test, first.run.augmentation if averaged else Augmentation(), interrupt)[best.features]
    logits = np.mean([head.logits(x) for x in seen.swapaxes(0, 1)], 0)
    names = " + ".join(f"{network.run.config.model}.{network.run.config.weights}" for network in networks)
    chosen = candidates.chosen_without(found, fold_of)
    honest = np.stack([one.guesses for one in found])[chosen, np.arange(len(source))]
    guesses = candidates.guesses_of(logits, source.multi_label)
    return Measured(
        f"{names}: {len(source):,} training images of {terminal(source.name)}, {FOLDS} folds; features {seconds:.1f} s",
        images,
        found,
        best,
        score(honest, source.labels),
        score(guesses, test.labels),
        None if source.multi_label else guesses == test.labels,
        np.asarray(nats(logits, Examples(seen[:, 0], test.labels).targets(outputs)), np.float64),
        fields_of(best, config),
    )


def _views(
    networks: Sequence[_Network], source: datasets.Source, augmentation: Augmentation, interrupt: Interrupt
) -> dict[str, np.ndarray]:
    """Sets of features of a source's images, {name: float32 [n, variants, d]}."""
    found = [network.features(source, augmentation, interrupt) for network in networks]
    views = {LAST: found[0].last()}
    if found[0].reads_as_runs and found[0].values.size <= _MOST:
        views[ALL] = found[0].normalized()
    if len(found) > 1:
        views[LAST_JOINED] = np.concatenate([one.normalized(last=True) for one in found], -1)
        if sum(one.values.size for one in found) <= _MOST:
            views[ALL_JOINED] = np.concatenate([one.normalized() for one in found], -1)
    return views


def fields_of(candidate: Candidate, config: Config) -> dict[str, str]:
    """The fields with which the probed config trains this probe as a run; {} where none can.

    Such are nearest neighbors and heads on several networks. Variants of images are not among the fields.
    """
    if candidate.choice is None or candidate.features not in (LAST, ALL):
        return {}
    pool = "stages" if candidate.features == ALL else "" if config.pool == "stages" else config.pool
    return {"solver": candidate.method, **({"pool": pool} if pool != config.pool else {})}


def format_baselines(measured: Measured) -> str:
    """A table of the probes, the smallest log loss first, and the test figure of the chosen one."""
    groups, several = measured.images.groups, measured.images.labels.ndim == 2
    cells: list[tuple[str, ...]] = [_HEADER]
    for one in sorted(measured.found, key=lambda one: one.loss):
        low, high = ("", "") if several else score_interval(one.guesses == measured.images.labels, groups)
        between = "" if several else f"{low:.1%} to {high:.1%}"
        loss = "" if one.losses is None else f"{one.loss:.3f} ± {standard_error(one.losses, groups):.3f}"
        mark = ">" if one is measured.best else ""
        what = (one.method, one.features, one.variants, one.strength)
        cells.append((mark, *what, f"{one.score:.2%}", between, loss, f"{one.seconds:.1f}"))
    best, right, losses = measured.best, measured.test_right, measured.test_losses
    called = "mean average precision" if several else "accuracy"
    fields = {"preset": "", "head": "linear", **measured.fields}
    if best.choice is not None:
        fields |= {"regularization": (best.choice.regularization,)}
        fields |= {"flip": False} if best.variants == VARIANTS[0] else {}
    said = ", ".join(f"{name} = {value!r}" for name, value in fields.items())
    as_run = f"\nAs a run, `jft train` with: {said}." if "solver" in fields else ""
    between = "" if right is None else " ({:.1%} to {:.1%})".format(*classification.interval(right))
    return (
        f"{measured.title}\n{chr(10).join(aligned(cells, right=(5, 7, 8)))}\n"
        f"Chosen by cross-validated log loss: {best.method}, stages: {best.features}, variants: {best.variants}. "
        f"Images without a part in the choice: {called} {measured.honest:.2%}.\n"
        f"Test {called} {measured.test:.2%}{between}, log loss {losses.mean():.3f}, of {len(losses):,} images, which "
        f"were read once.{as_run}"
    )


def score_interval(right: np.ndarray, groups: np.ndarray | None) -> tuple[float, float]:
    """95 % interval of an accuracy, of right and wrong bool [n]; images of a group, int [n], count together.

    Without groups `classification.interval`; with them the mean plus and minus 1.96 standard errors, within 0 .. 1.
    """
    if groups is None:
        return classification.interval(right)
    mean, error = float(right.mean()), 1.96 * standard_error(right.astype(np.float64), groups)
    return max(mean - error, 0.0), min(mean + error, 1.0)
