"""Which pretrained model suits some pictures and this machine: probes of frozen features, speed and memory."""

import dataclasses
import fnmatch
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from jft import caching, figures, solve
from jft.config import default_config
from jft.data import decode, sources, splits
from jft.data.augment import Augmentation
from jft.data.preprocess import stored_size
from jft.interrupt import Interrupt
from jft.models import create_model
from jft.run import Run, create_run
from jft.state import fresh_state
from jft.timing import forward_cost
from jft.transfer import probe
from jft.transfer.examples import Examples
from jft.weights import catalog, store
from jft.weights.catalog import TOP, WeightSet

_SEED = 0  # of sample and folds, the same for every model
_FOLDS = (5, 3)  # as many as the smallest class can fill; the others train, choose C and test in turn
_IMAGENET_CLASSES = 1000


@dataclasses.dataclass(frozen=True)
class Probed:
    """What a weight set is worth on the sample, and what it costs.

    Attributes:
      config: what its features were computed with.
      right: bool [n], whether the probe that has not seen a picture was right about it.
      images_per_second: of a compiled forward pass.
      nbytes: on each device, of that pass with its parameters.
      parameters: of the network with its new head.
    """

    config: ConfigDict
    right: np.ndarray
    images_per_second: float
    nbytes: int
    parameters: int

    @property
    def name(self) -> str:
        """'model.tag', as in the catalog."""
        return f"{self.config.model}.{self.config.weights}"

    @property
    def accuracy(self) -> float:
        """Share that is right."""
        return float(self.right.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy, see `figures.interval`: of other pictures of the kind."""
        return figures.interval(self.right)


def at_hand(patterns: Sequence[str] = (), weights_path: str = "") -> dict[str, tuple[WeightSet, str]]:
    """The weight sets that need no download.

    Args:
      patterns: shell patterns over names such as 'vgg*' or 'resnet50.keras', any of which must fit; () takes all.
        Sets that were not trained on ImageNet are taken where a pattern is their whole name.
      weights_path: a folder that is looked into before the package and the cache.

    Returns:
      Name -> row, and the file in `weights_path` or ''.

    Raises:
      ValueError: there are none; or `weights_path` is no folder.
    """
    if weights_path and not Path(weights_path).expanduser().is_dir():
        raise ValueError(f"weights_path {weights_path} is no folder: give one that holds weight files.")
    found = {}
    for name, row in catalog.CATALOG.items():
        named = name in patterns
        if not named and patterns and not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
            continue
        if not named and create_model(row.model, **row.options).num_classes != _IMAGENET_CLASSES:
            continue
        given = Path(weights_path).expanduser().absolute() / row.filename
        if weights_path and given.is_file():
            found[name] = row, str(given)
        elif store.locate(row) is not None:
            found[name] = row, ""
    if not found:
        like = f" like {', '.join(patterns)}" if patterns else ""
        raise ValueError(
            f"no weights{like} are at hand, neither in {store.cache_dir() / 'downloads'} nor in weights_path: "
            "`jft weights list` names all sets, `jft weights fetch NAME` gets one."
        )
    return found


def sample(source: sources.Source, count: int) -> tuple[sources.Source, int]:
    """About `count` pictures, of each class its share, the same ones every time; and how many of them cannot be read.

    Raises:
      ValueError: pictures with several labels, one class, or one with too few pictures to be divided.
    """
    if source.multi_label:
        raise ValueError(f"accuracies are compared, and pictures of {source.name} have several labels.")
    if len(source) - count >= len(source.class_names):
        source = source.take(splits.stratified(source.labels, count, _SEED, source.class_names))
    broken: list[int] = []
    if not source.decoded:
        broken = list(decode.unreadable(source.pictures, source.regions))
        source = source.take(~np.isin(np.arange(len(source)), broken))
    counts = np.bincount(source.labels, minlength=len(source.class_names))
    if len(counts) < 2 or counts.min() < _FOLDS[-1]:
        raise ValueError(
            f"the sample has {len(counts)} classes, and {counts.min()} of {source.class_names[counts.argmin()]!r}: at "
            f"least two classes with {_FOLDS[-1]} pictures each are needed. Take more --pictures, or add some."
        )
    return source, len(broken)


def make_config(row: WeightSet, weights_path: str, **fields: object) -> ConfigDict:
    """The config of a probe on the averaged output of the last pretrained stage before the head."""
    stages = tuple(create_model(row.model, **row.options).stages())
    config = default_config()
    config.update({"model": row.model, "weights": row.tag, "weights_path": weights_path, "head": "linear"})
    if not row.top and {*stages[:-1]} & {*TOP}:  # its fully connected layers are not in the file
        config.cut = [stage for stage in stages if stage not in TOP][-1]
    config.update({"flip": False, **fields})
    return config


def probe_one(config: ConfigDict, source: sources.Source, interrupt: Interrupt) -> Probed | None:
    """Extracts the features that the cache lacks, cross-validates a probe, and times the forward pass.

    Args:
      config: from `make_config`.
      source: from `sample`.
      interrupt: ends the extraction.

    Returns:
      What was found; None where a signal came.

    Raises:
      ValueError: the weights cannot be loaded whole, or do not go with the config.
    """
    frozen = ConfigDict(config)  # a copy
    frozen.update({"preset": "linear_probe", "validation": 0.0})
    with tempfile.TemporaryDirectory() as folder:
        run = create_run(frozen, Path(folder) / "run", source)
    state, _ = fresh_state(run)
    features = caching.features_of(run, run.phases[0], state, source, Augmentation(), interrupt)
    if features is None:
        return None
    right = cross_validated(solve.examples(features, source.labels), source.groups)
    cost = forward_cost(run, state.variables, _blank(run))
    return Probed(
        config,
        right,
        run.config.eval_batch_size / cost.seconds,
        cost.nbytes,
        sum(leaf.size for leaf in jax.tree.leaves(state.params)),
    )


def _blank(run: Run) -> np.ndarray:
    """A batch as decoded files are; how long it takes does not depend on what is on it."""
    side = stored_size(run.spec, run.config.fit)
    return np.zeros((run.config.eval_batch_size // run.parallel.shard[1], side, side, 3), np.uint8)


def cross_validated(examples: Examples, groups: np.ndarray | None = None) -> np.ndarray:
    """Logistic regression by L-BFGS, tested on each fold in turn; the next fold chooses C, and then is learnt from too.

    Args:
      examples: features and classes.
      groups: int [n], pictures that stay together, such as frames of one track; None: each is its own.

    Returns:
      bool [n]: whether each is right.
    """
    labels, classes = examples.labels, int(examples.labels.max()) + 1
    folds = _folds(labels, groups)
    count = int(folds.max()) + 1
    right = np.zeros(len(labels), bool)
    for number in range(count):
        tested, choosing = folds == number, folds == (number + 1) % count
        train, chooses = (Examples(examples.features[part], labels[part]) for part in (~(tested | choosing), choosing))
        head = probe.fit("lbfgs", train, chooses, outputs=classes, refit=True).linear
        right[tested] = head.logits(examples.features[tested]).argmax(-1) == labels[tested]
    return right


def _folds(labels: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """The fold of each example, int [n]; every class is spread over them alike."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    least = np.bincount(labels).min()
    count = next((folds for folds in _FOLDS if folds <= least), _FOLDS[-1])
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    folds = np.empty(len(labels), np.int64)
    parts = kind(count, shuffle=True, random_state=_SEED).split(labels, labels, groups)
    for number, (_, tested) in enumerate(parts):
        folds[tested] = number
    return folds


def pareto(rows: Sequence[Probed]) -> list[Probed]:
    """Those that none of the others beats in accuracy or speed without losing in the other."""

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
    """The fastest of those within one standard error of the highest accuracy (Breiman et al., 1984)."""
    best = max(row.accuracy for row in rows)
    error = (best * (1 - best) / len(rows[0].right)) ** 0.5
    return max((row for row in rows if row.accuracy >= best - error), key=lambda row: row.images_per_second)


def suggest(
    source: sources.Source, rows: dict[str, tuple[WeightSet, str]], interrupt: Interrupt, **fields: object
) -> Iterator[tuple[str, Probed | str]]:
    """Probes each set.

    Args:
      source: from `sample`.
      rows: from `at_hand`.
      interrupt: ends it.
      **fields: of every config.

    Yields:
      (name, what was found, or why it was left out).
    """
    for name, (row, weights_path) in rows.items():
        try:
            found = probe_one(make_config(row, weights_path, **fields), source, interrupt)
        except (ValueError, OSError) as error:
            yield name, " ".join(str(error).split())
            continue
        if found is None:
            return
        yield name, found
