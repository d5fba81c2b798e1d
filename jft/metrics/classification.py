"""Classification metrics on the host: metrics of each class, confusion, confidence intervals, comparing two models."""

import dataclasses
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

# BCa leaves out one value at a time, which costs the square of their number; beyond this it no longer matters.
_MOST_BCA = 10_000
_BATCH_VALUES = 500_000  # drawn at a time, 4 MB of indices


@dataclasses.dataclass(frozen=True)
class ClassFigures:
    """Precision, recall and F1 of one class.

    Attributes:
      name: of the class.
      precision: share of the images said to have it that have it; None where none is said to.
      recall: share of the images that have it that are said to; None where none has it.
      f1: harmonic mean of the two; 0 where none is found, None where none has the class and none is said to.
      count: images that have it.
    """

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    count: int


def class_figures(probabilities: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> list[ClassFigures]:
    """Precision, recall and F1 of each class, equal to scikit-learn's `precision_recall_fscore_support`.

    Args:
      probabilities: float [n, classes].
      labels: int [n]: the class of the largest probability is said; or multi-hot [n, classes]: those from 1/2 on are.
      class_names: in the order of the columns.

    Returns:
      One for each class. What would divide by 0 is None, not 0: nothing was measured.

    Raises:
      ValueError: probabilities, labels and names do not fit together.
    """
    from sklearn.metrics import precision_recall_fscore_support

    check_probabilities(probabilities, labels)
    classes = probabilities.shape[1]
    _check_names(classes, class_names)
    said = _predicted(probabilities) if labels.ndim == 1 else (probabilities >= 0.5).astype(np.int64)
    # scikit-learn takes a single multi-hot column for the labels 0 and 1 of one class.
    wanted = [1] if labels.shape == (len(labels), 1) else np.arange(classes)
    columns: Any = precision_recall_fscore_support(
        labels.astype(np.int64), said, labels=wanted, average=None, zero_division=cast(Any, np.nan)
    )
    precision, recall, f1 = ([None if np.isnan(x) else x for x in column.tolist()] for column in columns[:3])
    return [ClassFigures(*row) for row in zip(class_names, precision, recall, f1, columns[3].tolist(), strict=True)]


def macro_f1(figures: Sequence[ClassFigures]) -> float | None:
    """Macro F1: the unweighted mean over the classes that have an F1; None if none has one.

    As scikit-learn's `f1_score(average='macro', zero_division=nan)`; its default is the same where images have one
    label, and counts undefined classes as 0 where they have several.
    """
    defined = [figure.f1 for figure in figures if figure.f1 is not None]
    return float(np.mean(defined)) if defined else None


def confusion_matrix(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Counts images by true and predicted class.

    Args:
      probabilities: float [n, classes]; the largest is predicted, ties going to the smaller class index.
      labels: int [n].

    Returns:
      int64 [classes, classes]; rows are true classes, columns predicted ones.

    Raises:
      ValueError: images have several labels, or probabilities and labels do not fit together.
    """
    import sklearn.metrics

    check_probabilities(probabilities, labels)
    if labels.ndim == 2:
        raise ValueError(
            f"labels are multi-hot {list(labels.shape)}, and a confusion matrix needs one label an image, int [n]: "
            "where there are several, use class_figures."
        )
    return sklearn.metrics.confusion_matrix(
        labels, _predicted(probabilities), labels=np.arange(probabilities.shape[1])
    ).astype(np.int64)


def confused_pairs(matrix: np.ndarray, class_names: Sequence[str], k: int) -> list[tuple[str, str, int, float]]:
    """The most frequent confusions.

    Args:
      matrix: int [classes, classes], from `confusion_matrix`.
      class_names: in its order.
      k: pairs at most.

    Returns:
      (true class, predicted class, images, their share of the true class), most images first, ties by the order of
      the classes; only errors that were made.

    Raises:
      ValueError: matrix and names do not fit together.
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"the matrix is {list(matrix.shape)}; give the square one of confusion_matrix.")
    _check_names(len(matrix), class_names)
    errors = matrix - np.diag(np.diag(matrix))
    pairs = []
    for flat in np.argsort(-errors, axis=None, kind="stable")[:k]:
        true, predicted = divmod(int(flat), len(matrix))
        if count := int(errors[true, predicted]):
            share = count / int(matrix[true].sum())
            pairs.append((class_names[true], class_names[predicted], count, share))
    return pairs


def log_losses(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Log loss of each image in nats, float64 [n]; where an image has several labels, the mean over the classes.

    Args:
      probabilities: float [n, classes]; 0 counts as the smallest normal float64, so that no loss is infinite.
      labels: int [n], or multi-hot [n, classes].

    Raises:
      ValueError: probabilities and labels do not fit together.
    """
    check_probabilities(probabilities, labels)
    probabilities = probabilities.astype(np.float64)
    if labels.ndim == 2:
        likely = np.where(labels > 0, probabilities, 1 - probabilities)
    else:
        likely = np.take_along_axis(probabilities, labels[:, None], axis=1)
    return -np.log(np.maximum(likely, np.finfo(np.float64).tiny)).mean(axis=1)


def interval(values: np.ndarray, *, seed: int = 0, level: float = 0.95, resamples: int = 2_000) -> tuple[float, float]:
    """Confidence interval of the mean of values of images, by the bootstrap (BCa: Efron, 1987).

    The images are drawn again, the model is not: it tells how far other test images of the kind would move the
    figure, not other seeds. Beyond 10,000 values the plain percentiles are taken, from which BCa then hardly differs.

    Values that are all alike draw nothing but themselves, and the bootstrap's interval would be a point: ten of ten
    right would be 100 % for certain. Where all are 0 or all are 1, as wrong and right are, Wilson's interval of a
    proportion (1927) is given instead. Where all are another number, a loss, nothing tells how far the next might be:
    the interval is (-inf, inf), for a single value also.

    Args:
      values: [n], bool or float: 0 and 1 for wrong and right, or losses in nats.
      seed: of the draws; the same seed gives the same interval.
      level: share of such intervals that hold the true mean, between 0 and 1.
      resamples: draws of n values each.

    Returns:
      (low, high), never NaN.

    Raises:
      ValueError: there are no values, or not all are finite, or `level` is not between 0 and 1.
    """
    from scipy import stats

    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        bad = values.size - np.isfinite(values).sum()
        raise ValueError(f"values are {list(values.shape)}, {bad} not finite; give [n], one finite number an image.")
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; give a share between 0 and 1, such as 0.95.")
    n, largest = len(values), np.abs(values).max()
    if (values == values[0]).all() and values[0] in (0, 1):
        low, high = stats.binomtest(round(values.sum()), n).proportion_ci(level, method="wilson")
        return float(low), float(high)
    if np.ptp(values) <= 1e-9 * largest:  # alike but for rounding
        return -np.inf, np.inf
    low, high = stats.bootstrap(
        (values / largest,),  # the third powers in BCa would vanish for values near 1e-120
        np.mean,
        confidence_level=level,
        n_resamples=resamples,
        batch=max(1, _BATCH_VALUES // n),
        method="BCa" if n <= _MOST_BCA else "percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(low * largest), float(high * largest)


@dataclasses.dataclass(frozen=True)
class McNemar:
    """Two models on the same images.

    Attributes:
      only_first: images that only the first has right.
      only_second: images that only the second has right.
      p_value: of as unequal a split or more if both were equally good, two-sided and exact; 1 where they never differ.
    """

    only_first: int
    only_second: int
    p_value: float


def mcnemar(right: np.ndarray, other: np.ndarray) -> McNemar:
    """Exact test of whether two models have the same accuracy (McNemar, 1947), on the same images in the same order.

    Args:
      right: bool [n], whether the first model is right.
      other: bool [n], whether the second is.

    Raises:
      ValueError: they are not bool, or not of one length.
    """
    from scipy import stats

    right, other = np.asarray(right), np.asarray(other)
    if right.ndim != 1 or right.shape != other.shape or not right.dtype == other.dtype == bool:
        raise ValueError(
            f"the first is {right.dtype} {list(right.shape)}, the second {other.dtype} {list(other.shape)}: give "
            "bool [n] each, of the same images in the same order."
        )
    first, second = int((right & ~other).sum()), int((other & ~right).sum())
    differ = first + second
    return McNemar(first, second, float(stats.binomtest(first, differ).pvalue) if differ else 1.0)


def check_probabilities(probabilities: np.ndarray, labels: np.ndarray) -> None:
    """ValueError for the problems of `check_labels`, and for values outside 0 .. 1, such as logits."""
    check_labels(probabilities, labels, what="probabilities")
    low, high = probabilities.min(), probabilities.max()
    if low < -1e-5 or high > 1 + 1e-5:
        raise ValueError(
            f"probabilities lie in {low:.4g}..{high:.4g}, and must in 0..1: put logits through a softmax or sigmoid."
        )


def check_labels(values: np.ndarray, labels: np.ndarray, *, what: str) -> None:
    """ValueError if predictions and labels do not match.

    Args:
      values: float [n, classes].
      labels: int [n], 0 .. classes - 1; or multi-hot [n, classes], 0 or 1.
      what: the values are, for the error.

    Raises:
      ValueError: other shapes, no images, labels that mean no class, or values that are not finite.
    """
    if values.ndim != 2 or 0 in values.shape or labels.shape not in (values.shape[:1], values.shape):
        raise ValueError(
            f"{what} are {list(values.shape)} and labels {list(labels.shape)}; give {what} [n, classes] of at least "
            "one image, and labels int [n] or multi-hot [n, classes]."
        )
    classes = values.shape[1]
    if labels.ndim == 2 and not np.isin(labels, (0, 1)).all():
        raise ValueError(
            f"multi-hot labels lie in {labels.min()}..{labels.max()}, and must be 0 or 1: 1 where a label is there."
        )
    whole = np.issubdtype(labels.dtype, np.integer)
    if labels.ndim == 1 and not (whole and labels.min() >= 0 and labels.max() < classes):
        raise ValueError(
            f"labels are {labels.dtype} in {labels.min()}..{labels.max()}, {what} have {classes} classes: give whole "
            f"numbers 0..{classes - 1}, in the order of the model's classes."
        )
    if bad := int((~np.isfinite(values)).any(axis=1).sum()):
        raise ValueError(
            f"{bad:,} of {len(values):,} rows of {what} are not finite: the model has diverged or the images are "
            "broken; take an earlier checkpoint, or train with a smaller learning rate."
        )


def _check_names(classes: int, class_names: Sequence[str]) -> None:
    if len(class_names) != classes:
        raise ValueError(f"{len(class_names)} class names for {classes} classes: give one for each, in their order.")


def _predicted(probabilities: np.ndarray) -> np.ndarray:
    return np.argmax(probabilities, axis=1)
