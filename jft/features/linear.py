"""Linear heads fitted directly to features: ridge regression in closed form, logistic regression by L-BFGS.

Features are standardized by their own means and deviations while a head is solved for, so that one penalty suits them
all (a column that hardly varies is left small); that is folded back into the head, which is a plain affine map. Labels
say which head it is: classes int [n] a softmax, or one sigmoid unit where the head has a single output; several labels
at once, 0 or 1 [n, outputs], a sigmoid unit for each. `regularization` is scikit-learn's inverse strength C.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from jft.features import lbfgs
from jft.features.affine import Linear, check_strengths, folded, listed
from jft.features.blocks import Blocks, solve_each
from jft.features.examples import Examples, score
from jft.features.lbfgs import nats
from jft.features.lda import class_means, lda
from jft.features.standard import Standard
from jft.metrics.calibration import fit_temperature
from jft.utils import tree


@dataclasses.dataclass(frozen=True, eq=False)
class Fit:
    """The head with the best result on validation.

    Attributes:
      chosen: the head that did, which has not seen validation.
      linear: the head to keep: the same, or with `refit` another one at its C.
      regularization: C.
      scores: {C: `examples.score` on validation} of all that were tried; {} without validation.
      losses: {C: loss on validation, an image}, likewise: that of the solver, see `Solver.loss`.
    """

    chosen: Linear
    linear: Linear
    regularization: float
    scores: dict[float, float]
    losses: dict[float, float]


@dataclasses.dataclass(frozen=True)
class Solver:
    """A way to fit a linear head.

    Attributes:
      solve: function of (train, outputs, regularization) to a head for each C, such as `logistic`.
      loss: function of (logits, targets) to the loss of each image, float [n], which chooses C: nats, summed over
        sigmoid units; of ridge the squared error, summed over outputs.
      criterion: the name of the loss.
      strengths: the C that are tried where none are given: the best for some 10 to 500 images of a class lie within.
      scaled: whether logits are divided by a temperature that held-out images choose, for each C: class means on the
        images that made them lie too well, so that such heads are far too sure.
      several_labels: whether images may have several labels.
    """

    solve: Callable[[Examples, int, Sequence[float]], list[Linear]]
    loss: Callable[[Any, Any], Any]
    criterion: str
    strengths: tuple[float, ...]
    scaled: bool = False
    several_labels: bool = True

    def temperature(self, logits: np.ndarray, targets: np.ndarray) -> float:
        """By which logits [n, outputs] of held-out images with these targets are to be divided; 1 unless `scaled`."""
        return temperature(logits, targets) if self.scaled else 1.0

    def tried(self, regularization: Sequence[float] = ()) -> list[float]:
        """The C to try, ascending: those that are given, or the usual ones."""
        return sorted(set(map(float, regularization or self.strengths)))


def fit(
    method: str,
    train: Examples,
    validation: Examples | None,
    *,
    outputs: int,
    regularization: Sequence[float] = (),
    refit: bool = False,
) -> Fit:
    """Fits a head for each C and keeps the one with the smallest loss on validation; the smallest C on a tie.

    A loss tells more of few images than the share that is right, which changes by one of them at a time. Validation
    also chooses the temperature of a solver that is `scaled`.

    Args:
      method: a key of `SOLVERS`.
      train: what heads are solved for on.
      validation: what chooses among them; None where a single C is given.
      outputs: classes, or 1 for one sigmoid unit between two classes, or the number of labels.
      regularization: the C to try, above 0; empty: `Solver.strengths`.
      refit: solve once more at the chosen C, on train and validation together.

    Returns:
      The head, its C and what validation said.

    Raises:
      ValueError: an unknown method, a C that is none, several without validation, labels that `outputs` cannot give,
        validation of another kind than train.
    """
    solver = tree.choose(SOLVERS, method, what="probe")
    solve, strengths = solver.solve, solver.tried(regularization)
    if validation is None:
        if len(strengths) > 1:
            raise ValueError(
                f"regularization has {len(strengths)} values to choose from ({listed(strengths)}), but there is no "
                "validation to choose on: hold some examples out, or give one value."
            )
        [head] = solve(train, outputs, strengths)
        return Fit(head, head, strengths[0], {}, {})
    train.check_alike(validation)
    targets = validation.targets(outputs)  # says what is wrong with it before the work, not after
    scores, losses, temperatures = {}, {}, {}
    heads = dict(zip(strengths, solve(train, outputs, strengths), strict=True))
    for strength, head in heads.items():
        temperatures[strength] = solver.temperature(head.logits(validation.features), targets)
        head = heads[strength] = head.divided(temperatures[strength])
        scores[strength], losses[strength] = measure(head, validation, solver.loss)
    best = min(strengths, key=losses.__getitem__)  # of equals the first
    head = heads[best]
    if refit:
        head = solve(train.join(validation), outputs, [best])[0].divided(temperatures[best])
    return Fit(heads[best], head, best, scores, losses)


def measure(head: Linear, examples: Examples, loss: Callable | None = None) -> tuple[float, float]:
    """(score, loss) of a head, as in `Fit`; the loss in nats unless another is given."""
    logits, targets = head.logits(examples.features), examples.targets(len(head.bias))
    if examples.labels.ndim == 2:
        guesses = logits
    else:
        guesses = np.argmax(logits, -1) if targets.ndim == 1 else (logits > 0)[:, 0]
    return score(guesses, examples.labels), float(np.asarray((loss or nats)(logits, targets)).mean(dtype=np.float64))


def temperature(logits: np.ndarray, targets: np.ndarray) -> float:
    """`calibration.fit_temperature` of logits [n, outputs] of held-out images; targets as in `nats`."""
    if targets.ndim == 2 and targets.shape[1] == 1:  # one sigmoid unit between two classes
        logits, targets = np.concatenate([np.zeros_like(logits), logits], 1), targets[:, 0].astype(np.int32)
    return fit_temperature(logits, targets)


def ridge(train: Examples, outputs: int, regularization: Sequence[float]) -> list[Linear]:
    """Least squares to +1 for an example's own class or labels and -1 for the others, in closed form.

    Minimizes `sum((scores - targets)**2) + |kernel|**2 / C` over standardized features, the bias unpenalized:
    scikit-learn's Ridge and RidgeClassifier with alpha = 1 / C. Solved in float64 on the host, by Cholesky's method for
    each C, in the smaller of [d, d] and [n, n].

    Args:
      train: the examples.
      outputs: see `fit`.
      regularization: C, one or more.

    Returns:
      A head for each C, in their order.

    Raises:
      ValueError: see `fit`.
    """
    check_strengths(regularization)
    signs = _signs(train.targets(outputs), outputs)
    standard = Standard.of(train.features)
    offset = signs.mean(0)
    n, d = train.features.shape
    z = Blocks((n, d), lambda rows, columns: standard.at(columns).apply(train.features[rows, columns], np.float64))
    added = [1 / c for c in regularization]
    if d <= n:
        kernels = solve_each(z.gram(), z.from_left(signs - offset), added)
    else:
        kernels = [z.from_left(x) for x in solve_each(z.gram(), signs - offset, added)]
    return [folded(standard, kernel, offset) for kernel in kernels]


def logistic(
    train: Examples,
    outputs: int,
    regularization: Sequence[float],
    *,
    tolerance: float = 1e-4,
    max_steps: int = 1000,
    padded: int = 0,
) -> list[Linear]:
    """Logistic regression by L-BFGS on the device: softmax over classes, or sigmoid units.

    Minimizes `sum(loss) + |kernel|**2 / (2 C)` over standardized features, the bias unpenalized: scikit-learn's
    LogisticRegression. The features are placed once; each C starts where the solutions of the smaller ones point to,
    with what was learned of the curvature there. In float32, or float64 where JAX has it enabled. The objective ends
    within about 1e-4 of its minimum, relatively, also where a small gradient alone would leave it larger.

    Args:
      train: the examples.
      outputs: see `fit`.
      regularization: C, one or more.
      tolerance: on the largest component of the gradient of the objective divided by n, as scikit-learn's.
      max_steps: of L-BFGS, for each C; a warning says where they did not suffice.
      padded: rows of the arrays on the device, if more than the examples: calls for sets of other sizes then share a
        compiled program. The solution is the same up to rounding.

    Returns:
      A head for each C, in their order.

    Raises:
      ValueError: see `fit`.
    """
    check_strengths(regularization)
    targets = train.targets(outputs)
    dtype = jnp.result_type(float)
    standard = Standard.of(train.features, dtype)
    z, count = standard.apply(train.features, dtype), len(train)
    if padded > count:
        z, targets = (np.pad(x, [(0, padded - count)] + [(0, 0)] * (x.ndim - 1)) for x in (z, targets))
    z, targets = jax.device_put((z, targets))
    state = lbfgs.start(z, targets, outputs, count)
    heads = {}
    for c in sorted(set(regularization)):
        state, steps, gradient = lbfgs.solve(z, targets, c, state, tolerance, max_steps, count)
        if not np.isfinite(gradient):
            raise ValueError(f"logistic regression at C = {c:g} has no finite gradient: the features are too large.")
        if not gradient <= tolerance:
            logging.warning(
                "Logistic regression at C = %g stopped after %d steps with a gradient of %.1e, above %.1e: it has not "
                "converged. A smaller C, or more max_steps, would get there.",
                *(c, steps, gradient, tolerance),
            )
        heads[c] = folded(standard, state.params[:, :-1].T, state.params[:, -1])
    return [heads[c] for c in regularization]


def _squares(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The squared loss of ridge, [n]; targets as in `nats`."""
    return np.sum((scores - _signs(targets, scores.shape[1])) ** 2, -1)


def _signs(targets: np.ndarray, outputs: int) -> np.ndarray:
    """+1 for an example's own class or labels, -1 for the others: [n, outputs]."""
    one_hot = targets[:, None] == np.arange(outputs) if targets.ndim == 1 else targets
    return 2.0 * one_hot - 1.0


SOLVERS = {
    "lbfgs": Solver(logistic, nats, "loss", (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)),
    "ridge": Solver(ridge, _squares, "squared error", (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)),
    "lda": Solver(
        lda, nats, "loss", (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0), scaled=True, several_labels=False
    ),
    "class_means": Solver(class_means, nats, "loss", (1.0,), scaled=True, several_labels=False),
}
