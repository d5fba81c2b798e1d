"""What is given to `train` in Python in place of a name of the config: recorded by name, kept as it is."""

import copy
from collections.abc import Mapping
from typing import Any

from jft.config import Config
from jft.utils import distributed, registry, tree

# Fields of the config that take an object in Python.
FIELDS = ("loss", "optimizer", "schedule", "augment", "metrics", "callbacks")
_SEVERAL = ("augment", "metrics", "callbacks")  # of these: several, in order


def recorded(config: Config, own: Mapping[str, Any]) -> tuple[Config, dict[str, Any]]:
    """The config with the names of what was given, and what was given by field.

    A function that a module holds is recorded as "module:function", so that the run can be resumed from its config; any
    other as `registry.GIVEN`, and the run can only be resumed by giving it again.

    Args:
      config: from a config file.
      own: field -> a name, which just sets the field, or an object; of `augment`, `metrics` and `callbacks` one, or a
        sequence of them. None is left out.

    Raises:
      ValueError: a field that takes none.
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
    """Says which of them a resumed run must be given again."""
    for field in objects:
        if field == "callbacks":  # a run may be resumed with others, or none
            continue
        if registry.GIVEN in (config[field] if field in _SEVERAL else (config[field],)):
            distributed.say(
                f"{field} was given in Python and no module names it: this run cannot be resumed without it. To resume "
                f"from the config alone, put it into a module and name it '{field}=\"module:function\"'."
            )
