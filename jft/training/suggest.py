"""`jft suggest`: compares pretrained models on a sample of images by linear probes, speed and memory."""

import copy
import dataclasses
import fnmatch
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from jft.config import Config
from jft.data import datasets
from jft.data.augment import Augmentation
from jft.data.folds import folds
from jft.data.transforms import stored_size
from jft.features import candidates
from jft.features.candidates import Candidate, Images
from jft.metrics import classification
from jft.models import create_model
from jft.training.baselines import ALL, LAST, fields_of
from jft.training.probe_features import extract_stages, probe_run
from jft.training.run import Run
from jft.training.timing import forward_cost
from jft.utils.cache_dir import cache_dir
from jft.utils.interrupt import Interrupt
from jft.weights import catalog, hub, licenses
from jft.weights.catalog import TOP, WeightSet
from jft.weights.provenance import Provenance

_SEED = 0  # of the folds, the same for every model
_FOLDS = (5, 3)  # the largest number that the smallest class can fill
_IMAGENET_CLASSES = 1000


@dataclasses.dataclass(frozen=True)
class Probed:
    """The accuracy and cost of a weight set on the sample.

    Attributes:
      config: the config that its features were computed with.
      right: bool [n], whether the out-of-fold prediction for each image is correct, by the probe that is best without
        the image's fold.
      images_per_second: throughput of a compiled forward pass.
      nbytes: memory per device of that pass, with its parameters.
      parameters: number of parameters of the network with its new head.
      weights: provenance of the weights.
      best: the probe of the smallest cross-validated log loss.
      fields: of a config that trains this probe, see `baselines.fields_of`.
    """

    config: Config
    right: np.ndarray
    images_per_second: float
    nbytes: int
    parameters: int
    weights: Provenance | None = None
    best: Candidate | None = None
    fields: Mapping[str, str] = dataclasses.field(default_factory=lambda: {"solver": "lbfgs"})

    @property
    def name(self) -> str:
        """'model.tag', as in the catalog."""
        return f"{self.config.model}.{self.config.weights}"

    @property
    def title(self) -> str:
        """The name for people; names the file if it is not known to be that set."""
        if self.weights is None or self.weights.row:
            return self.name
        return f"{self.weights.source}, read as {self.name}"

    @property
    def accuracy(self) -> float:
        """Cross-validated accuracy, 0 to 1."""
        return float(self.right.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy on images of the same kind, see `classification.interval`."""
        return classification.interval(self.right)


def at_hand(patterns: Sequence[str] = (), weights_path: str = "") -> list[tuple[WeightSet, str]]:
    """The weight sets that need no download.

    Args:
      patterns: shell patterns over names of sets and models, such as 'vgg*', 'resnet50' or 'resnet50.keras'; a set must
        match one of them; () matches all. Sets that were not trained on ImageNet must be given by their full name.
      weights_path: a folder to search before the package and the cache.

    Returns:
      Pairs (row, the file in `weights_path` or '').

    Raises:
      ValueError: there are none; or `weights_path` is not a folder.
    """
    folder = Path(weights_path).expanduser().absolute() if weights_path else None
    if folder and not folder.is_dir():
        raise ValueError(f"weights_path {weights_path} is not a folder: give a folder with weight files.")
    found = []
    for row in catalog.CATALOG.values():
        given = folder / row.filename if folder and (folder / row.filename).is_file() else None
        if _is_asked_for(row, patterns) and (given or hub.is_here(row)):
            found.append((row, str(given) if given else ""))
    if not found:
        like = f" like {', '.join(patterns)}" if patterns else ""
        raise ValueError(
            f"no weights{like} on this machine, neither in {cache_dir()} nor in weights_path: "
            "`jft weights list` lists all sets, `jft weights fetch NAME` downloads one."
        )
    return found


def _is_asked_for(row: WeightSet, patterns: Sequence[str]) -> bool:
    if row.name in patterns:
        return True
    if not licenses.is_accepted(row):
        return False
    names = (row.name, row.model)
    if patterns and not any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns):
        return False
    return create_model(row.model, **row.options).num_classes == _IMAGENET_CLASSES


def sample(source: datasets.Source, count: int) -> tuple[datasets.Source, int]:
    """`datasets.sample` without unreadable images, and the number of these.

    Raises:
      ValueError: images have several labels, there is one class only, or fewer than two have images for the folds.
    """
    if source.multi_label:
        raise ValueError(
            f"suggest compares accuracies, which need one label per image, and images of {source.name} have several: "
            "choose a model by `jft probe`."
        )
    drawn = datasets.sample(source, count)
    whole = datasets.readable(drawn)
    counts = whole.counts()
    enough = int(np.sum(counts >= _FOLDS[-1]))  # a smaller class is missing from some folds
    if enough < 2:
        raise ValueError(
            f"the sample has {enough} of {len(counts)} classes with {_FOLDS[-1]} images or more: it needs at least "
            "two. Give more --images, or add images."
        )
    return whole, len(drawn) - len(whole)


def make_config(config: Config, row: WeightSet, weights_path: str) -> Config:
    """The config of a probe on the averaged output of the last pretrained stage before the head.

    Args:
      config: says where the images are and how they are read; it is not changed.
      row: the weight set.
      weights_path: its file, or ''.
    """
    stages = tuple(create_model(row.model, **row.options).stages())
    config = copy.deepcopy(config)
    config.update({"model": row.model, "weights": row.tag, "weights_path": weights_path, "head": "linear"})
    if not row.top and {*stages[:-1]} & {*TOP}:  # its fully connected layers are not in the file
        config.cut = [stage for stage in stages if stage not in TOP][-1]
    config.flip = False
    return config


def probe_one(config: Config, source: datasets.Source) -> Probed:
    """Extracts the features that are not cached, cross-validates probes of them, and times the forward pass.

    Logistic regression and shrinkage LDA, each on the last stage and on all stages; the one of the smallest log loss
    counts.

    Args:
      config: from `make_config`.
      source: from `sample`.

    Raises:
      ValueError: the weights cannot be loaded completely, or do not fit the config.
      Stopped: a signal came while features were extracted; features computed so far stay in the cache.
    """
    run, state, info = probe_run(config, source)
    with Interrupt() as interrupt:
        features = extract_stages(run, state, source, Augmentation(), interrupt)
    views = {LAST: features.last(), ALL: features.normalized()}
    outputs, groups = run.objective.num_outputs, source.groups
    fold_of = folds(source.labels, _folds(source.labels), _SEED, groups)
    images = Images(views, source.labels, outputs, fold_of, groups)
    tried = [(method, name) for name in views for method in ("lbfgs", "lda") if features.reads_as_runs or name == LAST]
    found = candidates.compare(images, tried, {})
    best, chosen = candidates.best(found), candidates.chosen_without(found, fold_of)
    guesses = np.stack([one.guesses for one in found])[chosen, np.arange(len(source))]
    cost = forward_cost(run, state.variables, _blank(run))
    return Probed(
        config,
        guesses == source.labels,
        run.config.eval_batch_size / cost.seconds,
        cost.nbytes,
        sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        info.provenance,
        best=best,
        fields=fields_of(best, config),
    )


def _blank(run: Run) -> np.ndarray:
    """A batch of zeros in the shape of decoded images; the time of a forward pass does not depend on pixel values."""
    side = stored_size(run.spec, run.config.fit)
    return np.zeros((run.config.eval_batch_size // run.parallel.shard[1], side, side, 3), np.uint8)


def _folds(labels: np.ndarray) -> int:
    """The number of folds: the largest that the smallest class can fill."""
    least = np.bincount(labels).min()
    return next((count for count in _FOLDS if count <= least), _FOLDS[-1])


def pareto(rows: Sequence[Probed]) -> list[Probed]:
    """The Pareto front of accuracy and speed: rows that no other row matches in both and beats in one."""

    def beaten(one: Probed) -> bool:
        own = one.accuracy, one.images_per_second
        return any(
            (other.accuracy, other.images_per_second) != own
            and other.accuracy >= own[0]
            and other.images_per_second >= own[1]
            for other in rows
        )

    return [row for row in rows if not beaten(row)]


def pick(rows: Sequence[Probed]) -> Probed:
    """The fastest row within one standard error of the highest accuracy (Breiman et al., 1984)."""
    best = max(row.accuracy for row in rows)
    error = (best * (1 - best) / len(rows[0].right)) ** 0.5
    return max((row for row in rows if row.accuracy >= best - error), key=lambda row: row.images_per_second)
