"""A linear head for features that are in memory already: `jft.fit_head`."""

from collections.abc import Sequence

import numpy as np

from jft.data import splits
from jft.features.examples import Examples
from jft.features.linear import Fit, fit


def fit_head(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    validation: float | tuple[np.ndarray, np.ndarray] = 0.2,
    method: str = "lbfgs",
    regularization: Sequence[float] = (),
    seed: int = 0,
) -> Fit:
    """Solves for a linear head at once, and chooses its regularization on examples that are held out.

    Args:
      features: float [n, d], such as `model.features(images, stage, pooled=True)`.
      labels: int [n], classes from 0; or 0 and 1 [n, labels] where an image may have several.
      validation: share or count of the examples to hold out, stratified; or (features, labels) of others; 0 where a
        single value of `regularization` is given.
      method: 'lbfgs', logistic regression; 'ridge', least squares; 'lda', linear discriminant analysis with a shrunk
        covariance; or 'class_means', the nearest mean by cosine. All but the first are closed forms.
      regularization: inverse strengths (scikit-learn's C) to choose from; (): a range that suits 10 to 500 images a
        class.
      seed: decides what is held out.

    Returns:
      The fit: `.linear`, the head, solved for once more on all examples, with `.kernel` float32 [d, classes], `.bias`
      float32 [classes] and `.logits(features)`; `.regularization`, the C that was chosen; `.scores`, C -> accuracy on
      validation (the mean average precision of several labels).

    Raises:
      ValueError: features or labels of another kind or shape, too few examples, or nothing to choose by.
    """
    labels = np.asarray(labels)
    examples = Examples(features, labels.astype(np.int32) if labels.dtype == bool else labels)
    several = examples.labels.ndim == 2
    outputs = examples.labels.shape[1] if several else int(examples.labels.max()) + 1
    if isinstance(validation, tuple):
        train, held = examples, Examples(*validation)
    elif not validation:
        train, held = examples, None
    else:
        names = tuple(map(str, range(outputs)))
        out = splits.stratified(examples.labels, validation, seed, names)
        train, held = (Examples(examples.features[rows], examples.labels[rows]) for rows in (~out, out))
    return fit(method, train, held, outputs=outputs, regularization=regularization, refit=held is not None)
