"""Every field of a config, one row a field: default, meaning, check, and what it depends on.

`jft.config` makes the config of it, `jft.cli` the flags and their help. Adding a field is adding a row.
"""

from jft.utils.fields import data, model, training
from jft.utils.fields.field import Field, Needs

# Group -> its fields, in the order of `default_config`.
GROUPS: dict[str, tuple[Field, ...]] = {
    "data": data.DATA,
    "augmentation of training images, on the device": data.AUGMENTATION,
    "model and weights": model.MODEL,
    "head and loss": model.HEAD,
    "transfer": model.TRANSFER,
    "optimization": training.OPTIMIZATION,
    "machine": training.MACHINE,
    "logging, evaluation, checkpoints": training.CADENCE,
    "comparison": training.COMPARISON,
}
# What `jft fit` decides, so that it cannot be given.
DECIDED_BY_FIT = ("model", "weights", "preset", "phases", "solver", "epochs", "steps", "validation", "trained_folds")
FIELDS: dict[str, Field] = {field.name: field for group in GROUPS.values() for field in group}

__all__ = ["DECIDED_BY_FIT", "FIELDS", "GROUPS", "Field", "Needs"]
