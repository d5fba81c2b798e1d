"""What a checkpoint says of itself and its run, as JSON: a dict, and the questions that are asked of it.

It is made by `Run.meta` and `state.fresh_state`; `checkpoint.Checkpoints.save` adds step, format and digests.
"""

from typing import Any

from jft.data.record import DataRecord, name_of
from jft.metrics.masked_sums import score

Meta = dict[str, Any]


def best_step(meta: Meta) -> int | None:
    """Step of the evaluation with the highest score, of equals the smallest loss; None without evaluations."""
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


def trained_on(meta: Meta) -> DataRecord:
    """The images that a run was trained on, as far as its checkpoint tells."""
    if "trained_on" in meta:
        return DataRecord.from_json(meta["trained_on"]["train"])
    config = meta["config"]  # of checkpoints before there was a record
    return DataRecord(
        name=name_of(config["dataset"], config["data_dir"]),
        dataset=config["dataset"],
        where="",
        count=meta["training_pictures"],
        labels=meta.get("training_labels"),
        names=meta.get("training_names"),
    )


def validated_on(meta: Meta) -> DataRecord | None:
    """The images that a run was validated on; None in checkpoints before there was a record."""
    return DataRecord.from_json(meta["trained_on"]["validation"]) if "trained_on" in meta else None


def learnt_from(meta: Meta) -> int:
    """How many pictures a checkpoint was trained on, those for validation among them where they joined in."""
    joined = meta["history"][-1]["count"] if meta.get("learnt_validation") else 0
    return trained_on(meta).count + joined


def micro_batches(meta: Meta) -> int:
    """How many of them a step of the run has; `accumulate = 'auto'` was decided when it began."""
    return meta.get("accumulate") or meta["config"]["accumulate"]  # checkpoints before 0.1.0 have it there alone
