"""`jft.train`: a run from Python, every field of the config a keyword, and what is the user's own as it is."""

import copy
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from ml_collections import ConfigDict

from jft.config import Config, default_config, run_name
from jft.data.dataset import Dataset, check_given
from jft.data.detect import detect
from jft.data.source import Source
from jft.models import Chain, register
from jft.training import fit as fitting
from jft.training import loop
from jft.training import own as own_objects
from jft.training.run import check_workdir
from jft.training.trained_run import TrainedRun, open_run
from jft.utils import distributed, tree
from jft.utils.fields import DECIDED_BY_FIT
from jft.utils.registry import is_reference
from jft.utils.stopped import Stopped
from jft.weights.catalog import choose_set, is_repository


def train(
    config: ConfigDict | Mapping[str, Any] | None = None,
    *,
    data: Dataset | Source | None = None,
    workdir: str | Path | None = None,
    brief: bool = False,
    **fields: Any,
) -> TrainedRun:
    """Trains a model, or goes on where a run of the same fields was interrupted.

    Args:
      config: to begin with, whole or some fields; None: `jft.config.default_config()`.
      data: labeled images, from `jft.data`; None: those that the config's `dataset` and `data_dir` say.
      workdir: folder of the run. None: `runs/<data>-<model>`, with a number behind it where that holds a run of other
        fields.
      brief: leave out the table of stages.
      **fields: fields of the config, such as `model="resnet50"`, `preset="lp_ft"`, `epochs=5`, `learning_rate=1e-3`.
        `loss`, `optimizer`, `schedule`, `augment`, `metrics` and `callbacks` also take objects of your own, see
        docs/extending.md; `model` takes a subclass of `jft.models.Chain`. With `weights="hf:owner/name"` and no config
        the model is that of the repository.

    Returns:
      The run, with the model of its best checkpoint.

    Raises:
      ValueError: a field or value makes no sense, or data, model and weights do not fit; says what does.
      TypeError: `data` is no data set, or a value is of another type than its field.
      NonFiniteLossError: the loss is not finite; names the step.
      Stopped: a signal came before the first checkpoint.
    """
    check_given(data)
    if isinstance(config, Dataset | Source):
        raise TypeError("the first argument is a data set, where a config is expected: pass it as data=...")
    known = data.fields if isinstance(data, Dataset) else {}
    if isinstance(model := fields.get("model"), type):
        fields["model"] = _named(cast(type[Chain], model))
    if config is None and "model" not in fields and is_repository(fields.get("weights") or ""):
        fields["model"] = choose_set(fields["weights"]).model
    begun = config
    config, own = _configured(config, known, fields)
    if data is None and begun is None and not {"dataset", "data_dir"} & {*fields}:
        raise ValueError("there are no images: pass data, such as jft.data.from_folder(path), or dataset and data_dir.")
    source = data.source if isinstance(data, Dataset) else data
    if config.arms:
        raise ValueError("config.arms are several runs: train each by itself, or all with `jft train`.")
    if workdir is None:
        workdir = _free(config, source.name if source else Path(config.data_dir).name or config.dataset)
    result = loop.train(config, workdir, source, brief=brief, **own)
    if not result["finished"] and not (Path(workdir) / "checkpoints").exists():
        raise Stopped(result["signal"])
    return open_run(workdir, source, allow_code=True)  # training has imported what its config names


def fit(
    data: Dataset | str | Path,
    *,
    minutes: float = 10.0,
    models: Sequence[str] = (),
    workdir: str | Path | None = None,
    **fields: Any,
) -> TrainedRun:
    """Trains the best network for these images within a time budget, as `jft fit` does.

    Args:
      data: a folder of class folders, a CSV file, or a data set of files from `jft.data`.
      minutes: the budget, above 0.
      models: weight sets to compare, such as "vgg*" or "resnet50.keras"; (): all on this machine.
      workdir: folder of the run. None: `runs/<data>`.
      **fields: other fields of the config than the model, its weights, and how and how long to train, which are chosen.

    Returns:
      The run. Its folder also holds `images.json`, what the images are, and `config.py`, which trains the same again.

    Raises:
      ValueError: the images are in memory or unusable, no weights are here, a field is chosen by `fit`, or the folder
        holds a run.
      Stopped: a signal came before the first checkpoint.
    """
    if isinstance(data, Dataset) and data.source is not None:
        raise ValueError("these images are in memory, and jft.fit reads files: give a folder or a CSV file.")
    if taken := sorted({*fields} & {*DECIDED_BY_FIT}):
        raise ValueError(f"{', '.join(taken)}: jft.fit chooses this; to set it, call jft.train.")
    if not minutes > 0:
        raise ValueError(f"minutes = {minutes:g}: give a budget above 0.")
    known = data.fields if isinstance(data, Dataset) else detect(str(data))
    config, own = _configured(None, {k: v for k, v in known.items() if k not in DECIDED_BY_FIT}, fields)
    if own:
        raise ValueError(f"{', '.join(sorted(own))}: jft.fit takes values; for objects of your own, call jft.train.")
    place = Path(workdir or Path("runs") / run_name(config))
    weights_path = fields.get("weights_path", "")
    result = fitting.fit(config, place, minutes=minutes, patterns=models, weights_path=weights_path)
    if not result["finished"] and not (place / "checkpoints").exists():
        raise Stopped(result["signal"])
    return open_run(place)


def _named(model: type[Chain]) -> str:
    """What the config records of a network of the user's own."""
    name = register(model)
    if not is_reference(name):
        distributed.say(
            f"model {name} is a class that no other process can import: to resume or open this run, first call "
            f"jft.models.register({name}), or put the class into a module."
        )
    return name


def _configured(
    config: ConfigDict | Mapping[str, Any] | None, known: Mapping[str, Any], fields: Mapping[str, Any]
) -> tuple[Config, dict[str, Any]]:
    """The config with what the data say and then the keywords; and those keywords that are objects."""
    if isinstance(config, ConfigDict):
        config, given = cast(Config, copy.deepcopy(config)), {}  # or a ConfigDict with the same fields
    else:
        config, given = default_config(), dict(config or {})
    # What the data leave at its default, the config may say.
    usual = default_config().to_dict()
    stated = {field: value for field, value in known.items() if value not in (usual[field], "")}
    own = {}
    for field, value in {**given, **stated, **fields}.items():
        if field in own_objects.FIELDS or not _is_data(value):
            own[field] = value
        elif value is not None:
            if field == "num_classes":
                raise ValueError("num_classes is the number of classes of the data: leave it out.")
            was = tree.choose(config.to_dict(), field, what="field of the config")
            value = value.item() if isinstance(value, np.generic) else value
            config[field] = tuple(value) if isinstance(was, tuple) and isinstance(value, list) else value
    return config, own


def _is_data(value: Any) -> bool:
    """Whether a value can stand in a config, and is no object of the user's own."""
    if isinstance(value, list | tuple):
        return all(map(_is_data, value))
    if isinstance(value, Mapping):
        return all(map(_is_data, value.values()))
    return value is None or isinstance(value, str | int | float | np.generic | os.PathLike)


def _free(config: Config, data: str) -> Path:
    """The first folder of its name that holds no run of another config."""
    name = re.sub(r"[^\w.-]+", "_", f"{data}-{config.model}")
    number = 1
    while True:
        path = Path("runs") / (name if number == 1 else f"{name}-{number}")
        try:
            check_workdir(config, path)
            return path
        except ValueError:
            number += 1
