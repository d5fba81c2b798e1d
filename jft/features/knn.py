"""Nearest neighbors in feature space: similar images, and a k-NN baseline without training."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jft.features.examples import Examples, score

DEFAULT_KS = (1, 3, 5, 10, 20, 50)
_SIMILARITIES = 2**26  # numbers of float32 on the device at a time


@dataclasses.dataclass(frozen=True)
class Neighbors:
    """The choice of k on validation.

    Attributes:
      k: the best number of neighbors; of equals the largest.
      scores: {k: `examples.score` on validation}.
    """

    k: int
    scores: dict[int, float]


def choose_neighbors(train: Examples, validation: Examples, *, outputs: int, ks: Sequence[int] = ()) -> Neighbors:
    """Chooses k by score on validation.

    Args:
      train: among which neighbors are sought.
      validation: what chooses.
      outputs: classes, or 1 for one sigmoid unit between two classes, or the number of labels.
      ks: to choose from; empty: those of `DEFAULT_KS` that train has examples for.

    Raises:
      ValueError: see `nearest_neighbors`.
    """
    train.check_alike(validation)
    validation.targets(outputs)
    ks = sorted(set(ks or [k for k in DEFAULT_KS if k <= len(train)]))
    guesses = nearest_neighbors(train, validation.features, outputs=outputs, ks=ks)
    scores = {k: score(guess, validation.labels) for k, guess in zip(ks, guesses, strict=True)}
    return Neighbors(max(reversed(ks), key=scores.__getitem__), scores)


def nearest(train_features: np.ndarray, features: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k images with the largest cosine similarity to each query image.

    Args:
      train_features: float [n, d], finite: among which they are sought.
      features: float [m, d], finite: whose neighbors they are. An image that is among the n finds itself first.
      k: 1 .. n.

    Returns:
      Rows of `train_features`, int64 [m, k], the most similar first, and their similarities, float32 [m, k], -1 .. 1;
      0 where all features of either image are 0.

    Raises:
      ValueError: another number of features, some that are not finite, or a k that cannot be.
    """
    known, queries = (Examples(x, np.zeros(len(x), np.int32)).features for x in (train_features, features))
    if known.shape[1] != queries.shape[1]:
        raise ValueError(
            f"neighbors of features {list(queries.shape)} are sought among {list(known.shape)}: take both at one "
            "stage of one model."
        )
    found = [jax.device_get(batch) for batch in _search(known, queries, k)]
    rows, similarities = (np.concatenate(part)[: len(queries)] for part in zip(*found, strict=True))
    return rows.astype(np.int64), similarities


def nearest_neighbors(train: Examples, features: np.ndarray, *, outputs: int, ks: Sequence[int]) -> np.ndarray:
    """Labels by majority vote of the k examples with the largest cosine similarity.

    A tie goes to the class of the smallest number: scikit-learn's KNeighborsClassifier(metric='cosine').

    Args:
      train: the examples, kept on the device.
      features: float [n, d], finite.
      outputs: see `choose_neighbors`.
      ks: numbers of neighbors, each of 1 .. len(train); one search serves all.

    Returns:
      int32 [len(ks), n] classes; or float32 [len(ks), n, outputs] where images have several labels, the share of the
      neighbors that have each.

    Raises:
      ValueError: another number of features, a k that cannot be, labels that `outputs` does not admit.
    """
    train.targets(outputs)
    train.check_alike(Examples(features, np.zeros((len(features), *train.labels.shape[1:]), np.int32)))
    _check_ks(ks, len(train))
    labels = jnp.asarray(train.labels, jnp.int32)
    vote = functools.partial(_vote, labels, classes=max(outputs, 2), ks=tuple(ks))
    guesses = [vote(nearest) for nearest, _ in _search(train.features, features, max(ks))]
    return np.concatenate(jax.device_get(guesses), axis=1)[:, : len(features)]


def _search(known: np.ndarray, features: np.ndarray, k: int) -> Iterator[tuple[jax.Array, jax.Array]]:
    """Finds the examples with the largest cosine similarity, in batches of equal size.

    Args:
      known: float [n, d], kept on the device: the examples.
      features: float [m, d]: whose neighbors are sought.
      k: 1 .. n.

    Yields:
      Rows of `known`, int32 [b, k], the most similar first, and their similarities, float32 [b, k], on the device. The
      last batch is filled up: what is beyond the m is to be left out.

    Raises:
      ValueError: a k that cannot be.
    """
    _check_ks([k], len(known))
    unit = _normalized(jnp.asarray(known, jnp.float32))
    batch = max(1, min(1024, _SIMILARITIES // len(known), len(features)))
    for start in range(0, len(features), batch):
        rows = np.arange(start, start + batch) % len(features)  # one program serves all batches
        yield _nearest(unit, jnp.asarray(features[rows], jnp.float32), k=k)


@functools.partial(jax.jit, static_argnames="k")
def _nearest(unit: jax.Array, queries: jax.Array, *, k: int) -> tuple[jax.Array, jax.Array]:
    similarities, rows = jax.lax.top_k(jnp.matmul(_normalized(queries), unit.T, precision="highest"), k)
    return rows, similarities


@functools.partial(jax.jit, static_argnames=("classes", "ks"))
def _vote(labels: jax.Array, nearest: jax.Array, *, classes: int, ks: tuple[int, ...]) -> jax.Array:
    voters = labels[nearest]
    if labels.ndim == 2:
        return jnp.stack([voters[:, :k].mean(1) for k in ks])
    votes = (jax.nn.one_hot(voters[:, :k], classes, dtype=jnp.int32).sum(1) for k in ks)
    return jnp.stack([jnp.argmax(counts, -1).astype(jnp.int32) for counts in votes])


def _check_ks(ks: Sequence[int], n: int) -> None:
    if wrong := [k for k in ks if not 1 <= k <= n]:
        raise ValueError(
            f"k = {wrong[0]} neighbors were asked for, but there are {n} examples: ask for "
            f"{'fewer' if wrong[0] > n else '1 or more'}."
        )


def _normalized(x: jax.Array) -> jax.Array:
    """Scales features to length 1; features that are all 0 stay 0."""
    length = jnp.linalg.norm(x, axis=-1, keepdims=True)
    return x / jnp.where(length > 0, length, 1)
