"""The config that a command line asks for: images, a config file, or a config of the package by its name."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jft
from jft.cli import field_flags
from jft.cli.config_file import read_config
from jft.config import Config, default_config, run_name
from jft.utils import tree
from jft.utils.run_folder import is_run

# Begins where a probe ends, and is no worse than it on validation. Any of the fields of `_RECIPES` says it otherwise.
_RECIPE = {"preset": "fine_tune", "head": "linear"}  # a solved head is one linear layer
# A fifth of the images chooses, and then joins the others: from fewer than this, none is spared for good.
_FEW, _REFITTED = 5000, {"validation": "cv", "trained_folds": 1}
_RECIPES = ("preset", "phases", "solver", "freeze", "arms")


def choose_config(
    what: str | None, file: str | None, settings: Mapping[str, Any], fields: Sequence[str], *, command: str = "train"
) -> tuple[str, Config]:
    """A name for the run, and its config.

    Args:
      what: images or a config, by place; see `field_flags.WHAT`.
      file: a config, of --config.
      settings: {field: value}, of flags.
      fields: as `--config.field=value`.
      command: of `jft`, for errors.

    Raises:
      ValueError: neither or both are given, it does not exist, or a field is wrong.
    """
    if (what is None) == (file is None):
        given = f"both {what} and --config {file}" if what else "neither images nor a config"
        raise ValueError(
            f"{given}: give one of them, such as `jft {command} flower_photos`, or `jft {command} quickstart`."
        )
    named = file if file is not None else what
    assert named is not None  # one of the two is given
    path = find_config(named)
    if path is None and file is None:
        if fields:
            _detected(named, settings)  # whose error says more, where there are no images
            raise ValueError(f"{fields[0]}: with images, write {_flag_of(fields[0])}.")
        return of_images(named, settings, command=f"jft {command} {named}")
    config = read_config(path or named, fields)
    _apply(config, settings)
    return Path(str(path or named).split(":")[0]).stem, config


def find_config(name: str) -> str | None:
    """The path of a config file, or of the package's config of this name; None if it is neither."""
    path, colon, argument = name.partition(":")
    if Path(path).suffix in (".py", ".json"):
        return name if Path(path).is_file() else _packaged(Path(path).stem, colon + argument)
    return None if Path(path).exists() else _packaged(path, colon + argument)


def _packaged(name: str, argument: str) -> str | None:
    files = packaged_configs()
    return f"{files[name]}{argument}" if name in files else None


def packaged_configs() -> dict[str, Path]:
    """Name -> file of the configs that come with jft: in the wheel beside the code, in a checkout above it."""
    package = Path(jft.__file__).parent
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / "quickstart.py").is_file():
            return {path.stem: path for path in sorted(folder.glob("*.py"))}
    return {}


def of_images(where: str, settings: Mapping[str, Any], *, command: str = "") -> tuple[str, Config]:
    """A name and the config of images: the best weights that are here, and the default recipe.

    Args:
      where: see `jft.data.detect`.
      settings: {field: value}, which decide before the defaults do.
      command: what the user ran, for errors.
    """
    from jft.weights import licenses
    from jft.weights.best import best_here

    config = default_config()
    config.update(_detected(where, settings))
    if settings.get("weights") != "" and settings.get("preset") != "from_scratch":
        settings = {**_of_run(settings.get("weights_path", "")), **settings}
        asked = [settings.get(field, "") for field in ("model", "weights")]
        # A run's weights are read whatever published ones are here.
        place = "" if is_run(settings.get("weights_path", "")) else settings.get("weights_path", "")
        with licenses.accepting(bool(settings.get("accept_license"))):
            row = best_here(*asked, weights_path=place, command=command)
        config.update({"model": row.model, "weights": row.tag})
        if not any(settings.get(field) for field in _RECIPES):
            config.update({field: value for field, value in _RECIPE.items() if field not in settings})
            if not {"validation", "early_stopping"} & settings.keys() and _few(config, settings):
                config.update(_REFITTED)
    _apply(config, settings)
    return run_name(config), config


def _detected(where: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that say what the images are and where."""
    from jft.data.detect import detect

    try:
        return detect(where) if settings.get("dataset") is None else {"data_dir": str(Path(where).absolute())}
    except ValueError as error:
        guess = tree.did_you_mean(where, packaged_configs())
        raise ValueError(f"{error}{f' D{guess[3:]}' if guess else ''}") from error


def _of_run(path: str) -> dict[str, str]:
    """Model and weights of the run that training begins with; {} where the path is no run's folder.

    Raises:
      ValueError: the run was trained from random weights, so that no set says how its images are prepared.
    """
    from jft.evaluation.restore import restore

    if not is_run(path):
        return {}
    config = restore(Path(path).expanduser()).info.config
    if not config["weights"] or config["preset"] == "from_scratch":
        raise ValueError(f"{path} was trained from random weights: give a run that began with pretrained ones.")
    return {field: config[field] for field in ("model", "weights")}


def _few(config: Config, settings: Mapping[str, Any]) -> bool:
    """Whether there are few training images, and no validation images of their own."""
    from jft.data import datasets

    config = copy.deepcopy(config)
    _apply(config, settings)
    if config.dataset not in ("folder", "csv"):
        return False
    try:
        if "validation" in datasets.official_splits(config, config.data_dir):
            return False
        return len(datasets.of_config({**config, "validation": 0}, "train")) < _FEW
    except (ValueError, OSError):  # training says what is wrong with them
        return False


def _apply(config: Config, settings: Mapping[str, Any]) -> None:
    try:
        field_flags.apply(config, settings)
    except TypeError as error:
        raise ValueError(str(error)) from error


def _flag_of(field: str) -> str:
    name, _, value = field.removeprefix("--config.").partition("=")
    return f"{field_flags.flag(name)} {value}".rstrip()
