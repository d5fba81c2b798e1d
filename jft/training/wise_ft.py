"""WiSE-FT: averages of a phase's trained weights with those that it began with (Wortsman et al., 2022).

Weights on the line between a solved head's network and a fine-tuned one are often better than both ends, and less sure
of themselves (https://arxiv.org/abs/2109.01903). BatchNorm's statistics are averaged like weights, so that both ends of
the line stay what they are. Measured anew on the training images they are worse with few of these, and the head was
solved for with the ones before; see docs/results.md.
"""

import jax

from jft.evaluation.evaluator import Evaluation, Evaluator
from jft.features.store import Features
from jft.training import cross_validated
from jft.training.phases import Phase
from jft.training.run import Run
from jft.training.state import changed
from jft.training.step import TrainState
from jft.utils import tree

SHARES = tuple(round(0.1 * tenths, 1) for tenths in range(11))  # of the trained weights, tried by 'auto'


def check(run: Run) -> None:
    """Raises a ValueError where `wise_ft` has no validation to choose by."""
    for phase in run.phases:
        if not phase.averages:
            continue
        where = f" of phase {phase.name!r}" if len(run.phases) > 1 else ""
        if phase.config.wise_ft == "auto" and not len(run.validation_source) and not cross_validated.wanted(run.config):
            raise ValueError(
                f"wise_ft = 'auto'{where} chooses a share by validation loss, and validation = 0: hold images out, set "
                "validation = 'cv', or give a share such as 0.5."
            )


def average(
    run: Run, phase: Phase, state: TrainState, evaluator: Evaluator, features: Features | None
) -> tuple[TrainState, float, dict[float, Evaluation]]:
    """Averages the weights at the end of a phase with those at its start.

    Args:
      run: the run.
      phase: the phase, with `wise_ft`: a share; or 'auto' for the one of `SHARES` with the smallest validation loss,
        each at its own temperature, as trained weights are sure of themselves; of equals the smallest.
      state: after the last step; with a moving average, that is what is averaged.
      evaluator: evaluates the validation images.
      features: their cached features, if the phase reads these.

    Returns:
      The state with the average in place of the trained weights; the share of the trained ones; and what validation
      says of each share that was tried, {} where the share was given or the folds of a cross-validation chose it.
    """
    last = changed(phase, state.variables)

    def mixed(share: float) -> TrainState:
        # Not first + share * (last - first), which is not `last` to the bit for a share of 1.
        between = jax.tree.map(lambda first, last: (1 - share) * first + share * last, state.start, last)
        params, statistics = (
            tree.unflatten({**tree.flatten(whole), **tree.flatten(between[kind])})
            for kind, whole in (("params", state.params), ("batch_stats", state.batch_stats))
        )
        ema = between["params"] if state.ema else {}
        return run.parallel.place_state(state.replace(params=params, batch_stats=statistics, ema=ema))

    share, tried = phase.config.wise_ft, {}
    if share == "auto" and cross_validated.wanted(run.config):
        share = cross_validated.read(run)["share"]
    elif share == "auto":
        tried = {one: evaluator(mixed(one).variables, run.validation_source, features) for one in SHARES}
        losses = {one: found.calibrated_loss() for one, found in tried.items()}
        share = min(SHARES, key=losses.__getitem__)
    return mixed(share), share, tried
