"""Probes side by side: every solver on every set of features, by cross-validation on the same folds."""

import dataclasses
import time
from collections.abc import Mapping, Sequence

import numpy as np

from jft.features import linear
from jft.features.cross_validation import Choice, choose, refit
from jft.features.examples import Examples, score
from jft.features.knn import DEFAULT_KS, nearest_neighbors
from jft.features.lbfgs import nats

NEIGHBORS = "nearest neighbors"
VARIANTS = ("no", "training", "training and test")  # where variants of images, such as mirror images, are used


@dataclasses.dataclass(frozen=True, eq=False)
class Candidate:
    """A probe and its figures on images that its heads have not seen.

    Attributes:
      method: a key of `linear.SOLVERS`, or `NEIGHBORS`.
      features: name of the set of features.
      variants: one of `VARIANTS`.
      strength: what cross-validation chose: 'C = 0.01', 'k = 10'.
      guesses: int [n], classes; or float [n, labels], higher where a label is more likely.
      score: `examples.score` of the guesses.
      seconds: to fit and test all folds and strengths.
      choice: of a linear head; None of nearest neighbors.
      losses: float64 [n], nats of each image at the best temperature; None of nearest neighbors, which give no
        probabilities.
    """

    method: str
    features: str
    variants: str
    strength: str
    guesses: np.ndarray
    score: float
    seconds: float
    choice: Choice | None = None
    losses: np.ndarray | None = None

    @property
    def loss(self) -> float:
        """Mean of the losses; infinity without them."""
        return np.inf if self.losses is None else float(self.losses.mean())


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
    """Training images in memory, by their features.

    Attributes:
      features: {name: float32 [n, variants, d]}; the first variant is the image itself.
      labels: int [n], classes from 0; or 0 and 1 [n, labels].
      outputs: classes, or 1 for one sigmoid unit between two classes, or the number of labels.
      folds: int [n], the fold of each image.
      groups: int [n], images that stay together; None: no groups.
    """

    features: Mapping[str, np.ndarray]
    labels: np.ndarray
    outputs: int
    folds: np.ndarray
    groups: np.ndarray | None = None

    def examples(self, name: str) -> Examples:
        """The images themselves, by one set of features."""
        return Examples(self.features[name][:, 0], self.labels)

    def variants(self, name: str) -> np.ndarray | None:
        """Features of the other variants, [n, variants - 1, d]; None if there are none."""
        values = self.features[name]
        return values[:, 1:] if values.shape[1] > 1 else None


def compare(
    images: Images, tried: Sequence[tuple[str, str]], regularization: Mapping[str, Sequence[float]]
) -> list[Candidate]:
    """Cross-validates probes; and the best of them with variants in training, and with variants in testing as well.

    Args:
      images: the training images.
      tried: pairs (method, name of the features); several labels leave out solvers that tell classes apart.
      regularization: {method: the C to try}, where not the usual ones.

    Returns:
      The candidates, in the order in which they were tried.

    Raises:
      ValueError: see `cross_validation.choose`.
    """
    several = images.labels.ndim == 2
    found = []
    for method, name in tried:
        if method == NEIGHBORS:
            found.append(_neighbors(images, name))
        elif not several or linear.SOLVERS[method].several_labels:
            found.append(_head(images, method, name, VARIANTS[0], regularization.get(method, ())))
    leader = best(found)
    if images.variants(leader.features) is not None:
        own = regularization.get(leader.method, ())
        found += [_head(images, leader.method, leader.features, variants, own) for variants in VARIANTS[1:]]
    return found


def best(candidates: Sequence[Candidate]) -> Candidate:
    """The candidate with the smallest loss; of equals the first."""
    return min(candidates, key=lambda candidate: candidate.loss)


def chosen_without(candidates: Sequence[Candidate], folds: np.ndarray) -> np.ndarray:
    """For each image the candidate of the smallest loss on the other folds: the image has no part in its choice.

    Figures of what is so chosen have no share in the optimism of the best of several (Varma and Simon, 2006); the
    strength C of each candidate was chosen on all folds.

    Args:
      candidates: at least one with losses.
      folds: int [n].

    Returns:
      int64 [n], positions in `candidates`.
    """
    chosen = np.empty(len(folds), np.int64)
    for fold in np.unique(folds):
        means = [np.inf if one.losses is None else one.losses[folds != fold].mean() for one in candidates]
        chosen[folds == fold] = int(np.argmin(means))
    return chosen


def guesses_of(logits: np.ndarray, several: bool) -> np.ndarray:
    """What `examples.score` takes: classes int [n], or of several labels the logits."""
    if several:
        return logits
    return (logits[:, 0] > 0).astype(np.int64) if logits.shape[1] == 1 else logits.argmax(-1)


def fit(candidate: Candidate, images: Images) -> linear.Linear:
    """The candidate's head on all images, with its logits divided by its temperature.

    Raises:
      ValueError: of nearest neighbors, which have no head.
    """
    if candidate.choice is None:
        raise ValueError(f"{candidate.method} have no head: fit a candidate that has.")
    variants = None if candidate.variants == VARIANTS[0] else images.variants(candidate.features)
    head = refit(candidate.choice, images.examples(candidate.features), variants)
    scaled = linear.SOLVERS[candidate.method].scaled
    return head if scaled else head.divided(candidate.choice.temperature)


def _head(images: Images, method: str, name: str, variants: str, regularization: Sequence[float]) -> Candidate:
    start, examples = time.perf_counter(), images.examples(name)
    choice = choose(
        method,
        examples,
        outputs=images.outputs,
        groups=images.groups,
        regularization=regularization,
        folds=images.folds,
        variants=None if variants == VARIANTS[0] else images.variants(name),
        average=variants == VARIANTS[2],
    )
    losses = np.asarray(nats(choice.logits / choice.temperature, examples.targets(images.outputs)), np.float64)
    guesses = guesses_of(choice.logits, images.labels.ndim == 2)
    reached, seconds = score(guesses, images.labels), time.perf_counter() - start
    strength = f"C = {choice.regularization:g}" if len(choice.losses) > 1 or regularization else ""
    return Candidate(method, name, variants, strength, guesses, reached, seconds, choice, losses)


def _neighbors(images: Images, name: str) -> Candidate:
    start, examples = time.perf_counter(), images.examples(name)
    ks = [k for k in DEFAULT_KS if k <= len(examples) - np.bincount(images.folds).max()]
    shape = (len(ks), *images.labels.shape)
    guesses: np.ndarray = np.zeros(shape, np.float32 if images.labels.ndim == 2 else np.int64)
    for fold in np.unique(images.folds):
        tested = images.folds == fold
        train = Examples(examples.features[~tested], examples.labels[~tested])
        guesses[:, tested] = nearest_neighbors(train, examples.features[tested], outputs=images.outputs, ks=ks)
    scores = [score(np.asarray(guess), images.labels) for guess in guesses]
    row = max(range(len(ks)), key=lambda i: (scores[i], ks[i]))
    seconds = time.perf_counter() - start
    return Candidate(NEIGHBORS, name, VARIANTS[0], f"k = {ks[row]}", np.asarray(guesses[row]), scores[row], seconds)
