"""Objects passed to `train` in Python instead of names in the config, such as an own loss; recorded by name."""

import copy
from collections.abc import Mapping
from typing import Any

from jft.config import Config
from jft.utils import distributed, registry, tree

# Fields of the config that take an object in Python.
FIELDS = ("loss", "optimizer", "schedule", "augment", "metrics", "callbacks")
_SEVERAL = ("augment", "metrics", "callbacks")  # of these: several, in order


def recorded(config: Config, own: Mapping[str, Any]) -> tuple[Config, dict[str, Any]]:
    """Returns the config with the names of the given objects, and the objects by field.

    A function of a module is recorded as "module:function", so that the run can be resumed from its config. Any other
    object is recorded as `registry.GIVEN`; to resume the run, it must be passed again.

    Args:
      config: from a config file.
      own: field -> a name, which sets the field, or an object; for `augment`, `metrics` and `callbacks` also a
        sequence of them. None is ignored.

    Raises:
      ValueError: a field that does not accept objects.
    """
    config, objects = copy.deepcopy(config), {}
    for field, value in own.items():
        tree.choose(dict.fromkeys(FIELDS), field, what="argument of train")
        if value is None:
            continue
        if field in _SEVERAL:
            value = tuple(value) if isinstance(value, list | tuple) else (value,)
            config[field] = tuple(map(registry.name_of, value))
            if not all(isinstance(one, str) for one in value):
                objects[field] = value
            continue
        config[field] = registry.name_of(value)
        if not isinstance(value, str):
            objects[field] = value
    return config, objects


def tell(config: Config, objects: Mapping[str, Any]) -> None:
    """Prints which objects must be passed again to resume the run."""
    unnamed = [
        field
        for field in objects
        # A run may be resumed with other callbacks, or none.
        if field != "callbacks" and registry.GIVEN in (config[field] if field in _SEVERAL else (config[field],))
    ]
    if unnamed:
        distributed.say(
            f"The config cannot record {', '.join(unnamed)}, which no module defines: pass the same again to resume "
            f"this run, or define it in a module and pass {unnamed[0]}='module:function'."
        )
