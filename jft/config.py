"""The configuration of a run. Its fields, with default, meaning and unit, are the rows of `jft/utils/fields`.

A config file changes a few of them:

    from jft.config import default_config

    def get_config():
        config = default_config()
        config.model = "vgg19"
        return config

Unknown fields are refused with a guess at what was meant, in a file and on the command line alike.
"""

import copy
import functools
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict, FieldReference

from jft.utils import registry, tree
from jft.utils.fields import FIELDS, Needs

if TYPE_CHECKING:

    class _ConfigDict(ConfigDict, Mapping[str, Any]):
        """What ml_collections does not declare: a config can be read as a mapping, and a field may hold anything."""

        def __init__(self, initial_dictionary: Mapping[str, Any] | ConfigDict | None = None) -> None: ...
        def __getattr__(self, attribute: str) -> Any: ...
        def __getitem__(self, key: str) -> Any: ...

else:
    _ConfigDict = ConfigDict


class Config(_ConfigDict):
    """A ConfigDict whose fields take what means the same: a path where there is text, 1e3 where there is a count."""

    def __setitem__(self, key: str, value: Any) -> None:
        """Sets a field; TypeError names it, its value and its default."""
        known = self._fields.get(key)
        if isinstance(known, str) and isinstance(value, os.PathLike):
            value = os.fspath(value)
        if type(known) is int and isinstance(value, float) and value.is_integer():
            value = int(value)
        try:
            super().__setitem__(key, value)
        except TypeError as error:
            if type(known) not in _KINDS:
                raise
            raise TypeError(f"{key} = {value!r}: give {_KINDS[type(known)]}, as {known!r}.") from error


_KINDS = {str: "text", int: "a whole number", float: "a number", bool: "True or False", tuple: "a tuple"}


def default_config() -> Config:
    """A fresh, locked config: VGG19's head on CIFAR-10. Its fields are the rows of `jft.utils.fields`."""
    config = Config()
    for field in FIELDS.values():
        default = ConfigDict(field.default) if field.kind is dict else field.default
        config[field.name] = FieldReference(default, field_type=object) if field.auto else default
    config.lock()
    return config


# Field -> what it belongs to. Where that is not so it would be ignored, and is refused unless it has its default.
BELONGS_TO: dict[str, tuple[Needs, ...]] = {field.name: field.needs for field in FIELDS.values() if field.needs}

# What may differ from host to host; and when a run is resumed: where things lie and how often one looks, not what is
# computed.
PLACES = tuple(field.name for field in FIELDS.values() if field.place)
RESUMABLE = tuple(field.name for field in FIELDS.values() if field.place or field.resume)

# What a phase may change.
OF_A_PHASE = tuple(field.name for field in FIELDS.values() if field.phase)


def run_name(config: Config) -> str:
    """The name of a run's folder in `runs`, where none is given: that of its images."""
    return Path(config.data_dir).stem or re.sub("[:/]", "_", config.dataset)


def validate(config: Config) -> None:
    """Raises one ValueError listing every field whose value makes no sense or has no effect."""
    refuse([*wrong_values(config), *without_effect(config.to_dict()).values()])


def refuse(wrong: list[str]) -> None:
    """Raises one ValueError of what is wrong with a config, if anything is."""
    if wrong:
        raise ValueError(f"the config is wrong: {'; '.join(wrong)}.")


def without_effect(config: Mapping[str, Any]) -> dict[str, str]:
    """The fields that are other than by default and change nothing, by `BELONGS_TO` -> why.

    Args:
      config: as a dict, of Python or read from JSON. A field that one of its phases uses has an effect.
    """
    whole = _plain(config)
    own = [phase for phase in whole["phases"] or () if isinstance(phase, dict)]
    # A phase's length, in steps or epochs, is its own matter.
    phases = [{**whole, **{k: v for k, v in phase.items() if k not in ("steps", "epochs")}} for phase in own] or [whole]
    idle = [_idle(phase) for phase in phases]
    return {field: why for field, why in idle[-1].items() if field in whole and all(field in one for one in idle)}


def effective(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config, as a dict, with what has no effect at its default."""
    usual = default_config()
    return {**config, **{field: usual[field] for field in without_effect(config)}}


def _idle(config: Mapping[str, Any]) -> dict[str, str]:
    usual, found = _plain(default_config().to_dict()), {}
    for field, needs in BELONGS_TO.items():
        if config[field] == usual[field] or (field == "epochs" and not config[field]):  # as good as left out
            continue
        if unmet := next((need for need in needs if not need.met(config)), None):
            here = f"{unmet.field} = {config[unmet.field]!r}"
            found[field] = (
                f"{field} = {config[field]!r} has no effect where {here}: it belongs to {unmet}, leave it out"
            )
    return found


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """With tuples, for lists, so that what came from JSON compares alike."""
    return {k: tuple(v) if isinstance(v, list | tuple) else v for k, v in config.items()}


def wrong_values(config: Config) -> list[str]:
    """What makes no sense, whatever it belongs to."""
    wrong = [
        f"{name} = {config[name]!r}: choose {', '.join(field.choices)}"
        for name, field in FIELDS.items()
        if field.choices and config[name] not in field.choices
    ]
    wrong += registry.problems(config.to_dict())
    checked = {name: field.check(config[name]) for name, field in FIELDS.items() if field.check}
    wrong += [f"{name} = {config[name]!r}: {problem}" for name, problem in checked.items() if problem]
    # No comparison above is true of NaN, and infinity passes some.
    wrong += [
        f"{field} = {value!r}: give a finite number"
        for field, value in config.items()
        if isinstance(value, float) and not math.isfinite(value)
    ]
    if config.solver != "steps":
        wrong += _wrong_for_solver(config)
    parts = config.accumulate
    if type(parts) is int and parts > 0 and config.batch_size % parts:
        wrong.append(f"batch_size = {config.batch_size} is not a multiple of accumulate = {parts}")
    if config.validation == "cv" and config.early_stopping:
        wrong.append(
            f"early_stopping = {config.early_stopping} ends each fold at its own step, and the run on all images has "
            "no validation: leave it out where validation = 'cv'"
        )
    if config.ema and config.l2_sp:
        wrong.append(
            f"ema = {config.ema} begins each phase at averaged parameters, and l2_sp = {config.l2_sp} decays the "
            "parameters themselves toward where the phase began: leave one of them out"
        )
    if config.trained_folds > config.folds:
        wrong.append(f"trained_folds = {config.trained_folds} of folds = {config.folds}: give at most as many, or 0")
    if not (config.epochs or config.steps):
        wrong.append("epochs and steps are both 0: nothing would be trained")
    return wrong


def _wrong_for_solver(config: Config) -> list[str]:
    """What a solver would stumble over."""
    wrong = []
    if registry.is_own(config.loss):
        wrong.append(f"solver = {config.solver!r} minimizes its own loss, and loss = {config.loss!r}")
    if config.cache_features is False:
        wrong.append(f"solver = {config.solver!r} reads cached features, and cache_features = False")
    if any(not c > 0 for c in config.regularization):
        wrong.append(f"regularization = {config.regularization}: inverse strengths are above 0")
    return wrong


def as_json(config: Config) -> dict[str, Any]:
    """The config in types that JSON has, as it will be read back."""
    return json.loads(json.dumps(config.to_dict()))


# Fields and values that releases before 0.2.0 spelled otherwise.
_RENAMED = {"regularisation": "regularization"}
_RESPELLED = {("crop", "centre"): "center"}


def upgraded(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields that an older release wrote, spelled as they are now.

    >>> upgraded({"regularisation": [1.0], "crop": "centre"})
    {'regularization': [1.0], 'crop': 'center'}
    """
    renamed = {_RENAMED.get(name, name): value for name, value in fields.items()}
    return {
        name: _RESPELLED.get((name, value), value) if isinstance(value, str) else value
        for name, value in renamed.items()
    }


@functools.cache
def json_shape() -> dict[str, Any]:
    """What each field must hold in JSON, as `json_file.mismatch` reads it."""
    return {name: field.json_shape for name, field in FIELDS.items()}


def unknown_field(error: Exception) -> str | None:
    """What to say of an error that ml_collections raised for a field that there is not; None if it is about another."""
    # It quotes the field that a config file or --config.name sets.
    found = re.search(r"""Key "(\w+)" does not exist|instead of "(\w+)"|^[\\'"]*(\w+)[\\'"]*$""", str(error.args[0]))
    if found is None:
        return None
    name = next(group for group in found.groups() if group)
    config = default_config()
    guess = tree.did_you_mean(name, [*config, *config.mesh])
    return f"unknown config field {name!r}{guess or ': jft/config.py lists the fields.'}"


def difference(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Lines 'field: old -> new' for the fields in which two configs (as dicts) would compute something else."""
    usual = as_json(default_config())
    # A field younger than the old config had its default's effect then, and so had one without effect; but for
    # transparent pixels, whose hidden colors were read.
    old, new = {**usual, "background": "", **old}, {**usual, **new}
    old, new = (json.loads(json.dumps(effective(config))) for config in (old, new))
    return [
        f"{key}: {old.get(key)!r} -> {new.get(key)!r}"
        for key in sorted({*old, *new} - set(RESUMABLE))
        if old.get(key) != new.get(key)
    ]


def arms_of(name: str, config: Config) -> list[tuple[str, Config]]:
    """(name, config) of each arm of a config, or of itself where it has none."""
    if not config.arms:
        return [(name, config)]
    return [(f"{name}/{arm.replace(' ', '_')}", arm_config(config, arm, changes)) for arm, changes in config.arms]


def arm_config(config: Config, name: str, changes: dict[str, Any]) -> Config:
    """The config of one arm: the common one with some fields changed.

    Fields of the common config that are for other arms, as the optimizer's where this one's head is solved for, are
    left at their defaults: what a run records is what it does.

    Raises:
      ValueError: a field or value that is wrong, or a common field that no arm makes use of.
    """
    arm = _merged(config, name, changes)
    inherited = {field: why for field, why in without_effect(arm.to_dict()).items() if field not in changes}
    others = [without_effect(_merged(config, *other).to_dict()) for other in config.arms]
    refuse([why for field, why in inherited.items() if all(field in idle for idle in others)])
    kept = effective(arm.to_dict())
    arm.update({field: kept[field] for field in inherited})
    try:
        validate(arm)
    except ValueError as error:
        raise ValueError(f"arm {name!r}: {error}") from error
    return arm


def _merged(config: Config, name: str, changes: dict[str, Any]) -> Config:
    arm = copy.deepcopy(config)
    for field, value in {**changes, "arms": ()}.items():
        tree.choose(config.to_dict(), field, what=f"field of arm {name!r}")
        arm[field] = value
    return arm
