"""The metadata of a checkpoint and its run, a dict from JSON, and functions that read it.

It is made by `Run.meta` and `state.fresh_state`; `checkpoint.Checkpoints.save` adds step, format and digests.
"""

from typing import Any

Meta = dict[str, Any]


def best_step(meta: Meta) -> int | None:
    """Step of the evaluation with the highest score, on a tie the smallest loss; None without evaluations."""
    history = meta.get("history", [])
    if not history:
        return None
    return max(history, key=lambda values: (score(values), -values["loss"], values["step"]))["step"]


def phase_of(meta: Meta, step: int | None = None) -> str:
    """The phase in which a step lies, by default the checkpoint's: 'probe (1 of 2)'; '' where there is but one."""
    step, phases = meta["step"] if step is None else step, meta.get("phases", [])  # none before 0.1.0
    if len(phases) < 2:
        return ""
    number = next((i for i, (_, last) in enumerate(phases) if step <= last), len(phases) - 1)
    return f"{phases[number][0]} ({number + 1} of {len(phases)})"


def micro_batches(meta: Meta) -> int:
    """How many of them a step of the run has; `accumulate = 'auto'` was decided when it began."""
    return meta.get("accumulate") or meta["config"]["accumulate"]  # checkpoints before 0.1.0 have it there alone


def score(values: dict[str, float]) -> float:
    """What evaluations are ranked by: what `select_by` says, or mean average precision, or else accuracy."""
    if "score" in values:
        return values["score"]
    return values.get("mean_average_precision", values["accuracy"])
