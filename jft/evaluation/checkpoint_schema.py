"""The schema of a checkpoint's JSON, checked before `CheckpointInfo` reads it: the file may be edited or damaged."""

from typing import Any, NotRequired, TypedDict, get_type_hints

from jft.config import as_json, default_config, json_shape, upgraded
from jft.data.record import DataRecord
from jft.data.transforms import Preprocess, check_fit
from jft.metrics.losses import KINDS
from jft.models import MODELS
from jft.utils import json_file, tree
from jft.utils.registry import is_own
from jft.weights import metadata, provenance


class Model(TypedDict):
    """The architecture."""

    name: str
    options: dict[str, Any]


class Evaluation(TypedDict):
    """An entry of the history."""

    step: int
    loss: float
    accuracy: float
    count: int
    mean_average_precision: NotRequired[float]


class Splits(TypedDict):
    """The training and validation images."""

    train: DataRecord
    validation: DataRecord


class Schema(TypedDict):
    """The fields that `CheckpointInfo.to_json` and `Checkpoints.save` write, and those of older versions."""

    jft: str
    config: dict[str, Any]
    model: Model
    objective: str
    class_names: list[str]
    preprocess: dict[str, Any]
    fit: str
    trained_on: NotRequired[Splits]
    test_digest: NotRequired[str]
    training_pictures: NotRequired[int]  # in checkpoints of older versions, which have no `trained_on`
    training_labels: NotRequired[int]
    training_names: NotRequired[int]
    phases: NotRequired[list[tuple[str, int]]]
    devices: dict[str, int]
    device_kind: str
    jax: str
    weights: dict[str, str]
    pretrained: list[str]
    cached: dict[str, bool]
    history: list[Evaluation]
    temperature: NotRequired[float | None]
    teacher: NotRequired[str]
    learnt_validation: NotRequired[bool]
    accumulate: NotRequired[int | None]
    skipped: NotRequired[list[int]]
    stopped: NotRequired[str]  # why a callback ended the run
    window: dict[str, float]
    data: NotRequired[dict[str, int]]
    step: int
    digests: dict[str, int]


def _check_model(model: Model) -> None:
    """Imports nothing, so options of a user's own model are checked when it is built."""
    MODELS.check(model["name"])
    if not is_own(model["name"]):
        metadata.check_options(model["options"], model["name"])


def checked(found: Any) -> dict[str, Any]:
    """Checks the JSON of a checkpoint.

    Args:
      found: the JSON as read.

    Returns:
      The same, with defaults for config fields that are newer than the checkpoint, and with the weights named only as
      far as their hash proves.

    Raises:
      ValueError: a field is missing or has another type than jft writes; names it.
    """
    problem = json_file.mismatch(found, Schema)
    for name, shape in (("config", json_shape()), ("preprocess", get_type_hints(Preprocess))):
        problem = problem or json_file.mismatch(found[name], shape, name)
    if not {"trained_on", "training_pictures"} & {*found}:
        problem = problem or "trained_on is missing"
    if problem:
        raise ValueError(problem)
    for name, check in (
        ("model", _check_model),
        ("objective", lambda kind: tree.choose(dict.fromkeys(KINDS), kind, what="objective")),
        ("preprocess", Preprocess.from_dict),
        ("fit", check_fit),
    ):
        try:
            check(found[name])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    if not found["history"] and (found.get("learnt_validation") or found.get("temperature")):
        raise ValueError("history is empty, but temperature or learnt_validation come from validation images")
    config = as_json(default_config()) | upgraded(found["config"])
    return {**found, "config": config, "weights": provenance.settled(found["weights"])}
