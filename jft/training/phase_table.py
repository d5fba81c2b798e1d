"""The phases of a run as a table, for people."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jft.training.phases import Phase, in_force
from jft.utils.text import aligned


def phase_table(phases: Sequence[Phase], variables: Mapping[str, Any]) -> str:
    """Formats one line per phase: steps, frozen stages, trainable parameters, BatchNorm mode, optimizer and rates.

    Args:
      phases: from `make_phases`.
      variables: `{'params', ...}`, arrays or shapes, to count trainable parameters.
    """
    rows = [("phase", "steps", "frozen up to", "trainable", "BatchNorm", "optimizer", "learning rate", "layer decay")]
    for phase in phases:
        settings = in_force(phase, variables)
        rates = "the optimizer's own"
        if phase.schedule is not None:
            steps = np.unique(np.linspace(phase.first, phase.last - 1, 101).round())
            first, *between, last = [float(np.asarray(phase.schedule(int(step)))) for step in (*steps, steps[-1])]
            peak = max([first, *between])
            risen = f"{first:.3g} up to {peak:.3g}, then" if peak > max(first, last) else f"{first:.3g} to"
            rates = f"{risen} {last:.3g} ({phase.config.schedule})"
        rows.append(
            (
                phase.name,
                f"{phase.first:,} to {phase.last:,}",
                settings["boundary"] or "-",
                f"{settings['learning']:,}",
                settings["batch_norm"],
                phase.config.optimizer,
                rates,
                f"{phase.config.layer_decay:g}",
            )
        )
    return "\n".join(aligned(rows, right=(3,)))
