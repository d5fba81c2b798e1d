"""The first part of a run, to repeat: some of its steps, at the rates that the whole run has."""

import dataclasses

from jft.training.run import Run


def cut(run: Run, step: int) -> Run:
    """The run up to a step, from 1 to its number of steps; schedules remain those of the full run.

    Its parameters at that step are the full run's, bit for bit. It evaluates there, which the full run may not.
    """
    phases = [
        dataclasses.replace(phase, last=min(phase.last, step), cut=step < phase.last)
        for phase in run.phases
        if phase.first < step
    ]
    return dataclasses.replace(run, phases=tuple(phases))
