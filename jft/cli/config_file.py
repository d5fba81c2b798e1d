"""Config files, with fields that a command line sets: `--config.field=value`, or `--set field=value` for several."""

import re
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from absl import flags
from ml_collections import ConfigDict, config_flags

from jft.config import Config, default_config, json_shape, unknown_field, upgraded
from jft.utils import json_file


def read_config(path: str | Path, fields: Sequence[str] = ()) -> Config:
    """The config of a file, with fields set as `--config.field=value`.

    Args:
      path: of a Python file with `get_config()`, or of the config.json that a run wrote.
      fields: the settings.

    Raises:
      ValueError: there is no such file, field or type of value, or the file's own code fails; one line, which names
        file, line and field, and not a traceback.
    """
    file, _, argument = str(path).partition(":")  # behind a colon: an argument of get_config
    if not Path(file).is_file():
        raise ValueError(f"there is no config file {path}.")
    config = of_json(file) if file.endswith(".json") else _of_python(file, argument)
    own, argv = flags.FlagValues(), ["jft", *(_whole(field, config) for field in fields)]
    try:
        config = config_flags.DEFINE_config_dict("config", config, flag_values=own, sys_argv=argv)
        left = own(argv)[1:]
    except (AttributeError, KeyError, TypeError, flags.Error) as error:
        raise ValueError(_told(error)) from error
    if left:
        raise ValueError(f"unexpected arguments {left}; fields of the config are set by --config.field=value.")
    return config.value


def _of_python(path: str, argument: str) -> Config:
    """What a file's `get_config` returns."""
    names: dict[str, Any] = {"__name__": "config", "__file__": path}
    try:
        exec(compile(Path(path).read_bytes(), path, "exec"), names)
        if not callable(names.get("get_config")):
            raise ValueError("there is no get_config(): define it, and return the config.")
        config: Any = names["get_config"](*[argument] if argument else [])
    except Exception as error:  # whatever the file's own code raises
        raise ValueError(f"{path}{_line(error, path)}: {_told(error)}") from error
    if not isinstance(config, ConfigDict):
        what = "nothing" if config is None else type(config).__name__
        raise ValueError(f"{path}: get_config() returns {what}: end it with `return config`.")
    if missing := [name for name in default_config() if name not in config]:
        raise ValueError(f"{path}: the config has no {', '.join(missing[:3])}, ...: begin with default_config().")
    return cast(Config, config)  # or a ConfigDict with the same fields


def _line(error: Exception, path: str) -> str:
    """', line 7' where the error comes from line 7 of the file."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == path else (lines or [None])[-1]
    return f", line {line}" if line else ""


def _told(error: Exception) -> str:
    """An error in one line; what ml_collections says of a field that there is not as `unknown_field` does."""
    if isinstance(error, AttributeError | KeyError) and (message := unknown_field(error)):
        return message
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    # These messages are sentences; those of other errors are fragments.
    plain = isinstance(error, ValueError | TypeError | flags.Error)
    return " ".join((text if plain else f"{type(error).__name__}: {text}").split())


def _whole(field: str, config: Config) -> str:
    """`--config.steps=1e3` as `--config.steps=1000`."""
    name, _, value = field.removeprefix("--config.").partition("=")
    if type(config.get(name)) is int and re.fullmatch(r"\d+(\.\d*)?([eE]\+?\d+)?", value) and float(value).is_integer():
        return f"--config.{name}={int(float(value))}"
    return field


def of_json(path: str) -> Config:
    """The config that a run wrote."""
    found = json_file.read(Path(path), json_shape(), "give the config.json of a run, or a config file")
    config = default_config()
    try:
        config.update(upgraded(found))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: {_told(error)}") from error
    return config
