"""Features with labels in memory, the training data of linear heads."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from jft.metrics.masked_sums import average_precision


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """Features and labels of n images; ValueError for another type, shape or range.

    Attributes:
      features: float [n, d], n and d at least 1, finite; float32 and float64 stay as they are, in memory or mapped from
        a file, other types of float become float32.
      labels: int [n], classes from 0; or 0 and 1 [n, labels] where an image may have several.
    """

    features: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        features, labels = np.asarray(self.features), np.asarray(self.labels)
        if features.ndim != 2 or 0 in features.shape or not jnp.issubdtype(features.dtype, jnp.floating):
            raise ValueError(
                f"features are {features.dtype} {list(features.shape)}, but floats [n, d] are wanted, neither n nor d "
                "0: average maps over their height and width, or reshape them."
            )
        if labels.shape[:1] != features.shape[:1] or labels.ndim > 2 or labels.dtype.kind not in "iub":
            raise ValueError(
                f"labels are {labels.dtype} {list(labels.shape)}, but features are {list(features.shape)}: give each "
                "of the rows its class as an integer, or 0 or 1 for each of several labels."
            )
        if features.dtype not in (np.float32, np.float64):
            features = features.astype(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # a sum that is not finite says where to look closer
            suspect = not np.isfinite(features.sum(dtype=np.float64))
        if suspect and not (finite := np.isfinite(features).all(1)).all():
            raise ValueError(
                f"features of {(~finite).sum()} of {len(features)} rows hold NaN or infinity, first row "
                f"{np.argmin(finite)}: compute them again in float32 from finite weights, or leave the rows out."
            )
        object.__setattr__(self, "features", features)
        object.__setattr__(self, "labels", labels)

    def __len__(self) -> int:
        return len(self.labels)

    def targets(self, outputs: int) -> np.ndarray:
        """The targets of a head with a number of outputs.

        Args:
          outputs: number of classes; 1 for one sigmoid unit between two classes; or the number of labels.

        Returns:
          int32 [n], 0 .. outputs - 1, for a softmax; or float32 [n, outputs], 0 or 1, for sigmoid units.

        Raises:
          ValueError: labels that such a head cannot give.
        """
        low, high = self.labels.min(), self.labels.max()
        if self.labels.ndim == 2:
            if self.labels.shape[1] != outputs or low < 0 or high > 1:
                raise ValueError(
                    f"labels are {list(self.labels.shape)} in {low}..{high}, but {outputs} outputs were asked for: "
                    "several labels an image are 0 or 1, one column for each output."
                )
            return self.labels.astype(np.float32)
        if low < 0 or high >= max(outputs, 2):
            raise ValueError(
                f"labels lie in {low}..{high}, but {outputs} output{'s' * (outputs != 1)} tell classes "
                f"0..{max(outputs, 2) - 1} apart: ask for {high + 1} outputs, or number the classes from 0."
            )
        return self.labels.astype(np.float32)[:, None] if outputs == 1 else self.labels.astype(np.int32)

    def check_alike(self, other: "Examples") -> None:
        """ValueError unless the other examples have features and labels with the same number of columns."""
        own, others = ((e.features.shape[1:], e.labels.shape[1:]) for e in (self, other))
        if own != others:
            raise ValueError(
                f"train has features {list(self.features.shape)} and labels {list(self.labels.shape)}, but validation "
                f"features {list(other.features.shape)} and labels {list(other.labels.shape)}: take both at one stage "
                "of one model, and label them alike."
            )

    def join(self, other: "Examples") -> "Examples":
        """These examples followed by the other's."""
        both = ((self.features, other.features), (self.labels, other.labels))
        return Examples(*(np.concatenate(pair) for pair in both))


def score(guesses: np.ndarray, labels: np.ndarray) -> float:
    """The score by which heads and runs are ranked. Multi-label accuracy would mostly count labels that are absent.

    Args:
      guesses: int [n], classes; or float [n, labels], higher where a label is more likely.
      labels: int [n], or 0 and 1 [n, labels].

    Returns:
      Accuracy, or the mean average precision of several labels: 0 .. 1.
    """
    if labels.ndim == 2:
        return float(np.nanmean(average_precision(guesses, labels)))
    return float(np.mean(guesses == labels))
