"""Config files, with fields that a command line sets: `--config.field=value`, or `--set field=value` for several."""

import ast
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from jft import tree
from jft.config import default_config, unknown_field, validate


def read_config(path: str, fields: Sequence[str]) -> ConfigDict:
    """The config of a file, with fields set as `--config.field=value`.

    Args:
      path: of a Python file with `get_config()`, or of the config.json that a run wrote.
      fields: the settings.

    Raises:
      ValueError: there is no such file, field or type of value; one line, and not a traceback.
    """
    if not Path(path.split(":")[0]).is_file():
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


def load_config(path: str | Path, changes: Sequence[str] = ()) -> ConfigDict:
    """The config of a file, with fields set as on a command line.

    Args:
      path: of a Python file with `get_config()`.
      changes: 'field=value'; values of other types than text are written as in Python.

    Raises:
      ValueError: there is no such file, field or value.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no config file {path}.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    try:
        config = module.get_config()
    except (AttributeError, KeyError) as error:
        raise ValueError(f"{path}: {unknown_field(error) or error}") from error
    for change in changes:
        field, equals, text = change.partition("=")
        tree.choose(config.to_dict(), field, what="config field")
        if not equals:
            raise ValueError(f"{change!r} sets nothing: write field=value.")
        config[field] = _parsed(field, text, config[field])
    validate(config)
    return config


def _parsed(field: str, text: str, before: Any) -> Any:
    """The value of a field, in the type that it has; 'cache_features' alone is text or a bool."""
    if field == "cache_features":
        return {"True": True, "False": False}.get(text, text)
    if isinstance(before, str):
        return text
    try:
        value = ast.literal_eval(text)
        cast = type(before)(value)
        # A text is no tuple of letters, and 2.5 steps are not 2.
        if isinstance(value, str) or not (isinstance(before, tuple) or cast == value):
            raise ValueError
    except (ValueError, SyntaxError, TypeError) as error:
        raise ValueError(f"{field} = {text!r} is no {type(before).__name__}.") from error
    return cast
