"""Config files, with fields that a command line sets: `--config.field=value`, or `--set field=value` for several."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from jft.config import default_config, unknown_field


def read_config(path: str | Path, fields: Sequence[str] = ()) -> ConfigDict:
    """The config of a file, with fields set as `--config.field=value`.

    Args:
      path: of a Python file with `get_config()`, or of the config.json that a run wrote.
      fields: the settings.

    Raises:
      ValueError: there is no such file, field or type of value; one line, and not a traceback.
    """
    path = str(path)
    if not Path(path.split(":")[0]).is_file():  # behind a colon: an argument of get_config
        raise ValueError(f"there is no config file {path}.")
    own = flags.FlagValues()
    try:
        if path.endswith(".json"):
            argv, config = ["jft", *fields], default_config()
            config.update(_read_json(path))
            config = config_flags.DEFINE_config_dict("config", config, flag_values=own, sys_argv=argv)
        else:
            argv = ["jft", f"--config={path}", *fields]
            config = config_flags.DEFINE_config_file("config", None, "", flag_values=own, sys_argv=argv)
        left = own(argv)[1:]
    except (AttributeError, KeyError) as error:
        message = unknown_field(error)
        if message is None:
            raise
        raise ValueError(message) from error
    except (TypeError, flags.Error) as error:
        raise ValueError(str(error)) from error
    if left:
        raise ValueError(f"unexpected arguments {left}; fields of the config are set by --config.field=value.")
    return config.value


def _read_json(path: str) -> dict[str, Any]:
    try:
        found = json.loads(Path(path).read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): give the config.json of a run, or a config file.") from error
    if not isinstance(found, dict) or not isinstance(found.get("mesh", {}), dict):
        raise ValueError(f"{path} holds no config: give the config.json of a run, or a config file.")
    return found
