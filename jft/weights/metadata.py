"""Reads and checks the metadata in jft's own weight files: JSON texts next to the tensors. They are untrusted."""

import contextlib
import dataclasses
import json
import math
import os
import reprlib
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

import safetensors

from jft.data.preprocess import Preprocess, check_fit
from jft.metrics.losses import KINDS
from jft.models import architecture
from jft.utils import tree
from jft.utils.registry import CodeError
from jft.weights.catalog import CATALOG

_KEYS = ("model", "options", "class_names", "objective", "preprocess", "fit", "temperature")
_LARGEST = 2**16  # of any size; building a model's shapes takes time and memory that grow with some


def read(path: str | os.PathLike) -> dict[str, Any]:
    """Reads the metadata of a safetensors file.

    Args:
      path: the file; in other formats there is no metadata, and the result is empty.

    Returns:
      Those that the file has of: model, a key of `jft.models.MODELS`; options, numeric and bool fields of the model;
      class_names, a tuple of str, or None; objective, a kind of `Objective`; preprocess, a `Preprocess`; fit, 'crop'
      or 'whole'; temperature, above 0; and tag, the tag of the weight set that the file is or resembles.

    Raises:
      ValueError: a value is invalid.
    """
    try:
        with safetensors.safe_open(path, "np") as file:
            about = file.metadata() or {}
    except safetensors.SafetensorError:  # another format, in which jft writes nothing
        return {}
    with doubted(path):
        return _checked(about)


@contextlib.contextmanager
def doubted(path: str | os.PathLike) -> Iterator[None]:
    """Turns any error inside the block into one ValueError about the file's metadata."""
    try:
        yield
    except CodeError:  # it makes sense, and names a model that is not here
        raise
    except Exception as error:  # JSON, JAX and Flax have no common base error, and JSON may nest too deeply
        why = f"{type(error).__name__}: {textwrap.shorten(str(error), 500).rstrip('.')}"
        raise ValueError(f"{path} says of itself what makes no sense: {why}. Make it anew from its source.") from error


def check_classes(class_names: tuple[str, ...] | None, num_classes: int) -> None:
    """ValueError if the number of class names does not fit the model. One logit stands for two classes."""
    if class_names is not None and len(class_names) != (num_classes if num_classes > 1 else 2):
        raise ValueError(f"class_names are {len(class_names)}, and the head has {num_classes} classes")


def _checked(about: Mapping[str, str]) -> dict[str, Any]:
    said = {key: json.loads(about[key]) for key in _KEYS if key in about}
    if row := CATALOG.get(about.get("weights") or about.get("like") or ""):
        if said.setdefault("model", row.model) != row.model:
            raise ValueError(f"model is {reprlib.repr(said['model'])}, and the weights are {row.name}")
        said["tag"] = row.tag
    if "model" in said:
        if not isinstance(said["model"], str):
            raise ValueError(f"model is {reprlib.repr(said['model'])}, which is no name")
        architecture(said["model"])
    if "options" in said:
        check_options(said["options"], said.get("model"))
    if "preprocess" in said:
        said["preprocess"] = _preprocess(said["preprocess"])
    if said.get("objective", "softmax") not in KINDS:
        raise ValueError(f"objective is {reprlib.repr(said['objective'])}, which is none")
    if "fit" in said:
        check_fit(said["fit"])
    if "temperature" in said:
        _check_like("temperature", said["temperature"], 1.0)
        if not said["temperature"] > 0:
            raise ValueError(f"temperature is {said['temperature']}, and must be above 0")
    if said.get("class_names") is not None:
        names = said["class_names"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"class_names is {reprlib.repr(names)}, which is no list of names")
        said["class_names"] = tuple(names)
    return said


# What may follow a network in place of its own head: options that are no numbers.
_OF_THE_HEAD = {
    "cut": lambda value: isinstance(value, str),
    "new_head": lambda value: value in ("published", "linear"),
    "head_hidden": lambda value: isinstance(value, list) and all(type(n) is int and 0 < n <= 2**16 for n in value),
}


def check_options(options: Any, model: str | None) -> None:
    """Numbers, switches and words of the model alone: what it computes in, or is called, is not the file's to say.

    A field takes a word where its type is a `Literal`, which lists them.
    """
    if model is None or not isinstance(options, dict):
        raise ValueError(f"options is {reprlib.repr(options)} of the model {model}")
    built = architecture(model)()
    defaults = {field.name: getattr(built, field.name) for field in dataclasses.fields(built)}
    defaults = {name: value for name, value in defaults.items() if isinstance(value, bool | int | float)}
    hints = get_type_hints(type(built))
    words = {name: get_args(hint) for name, hint in hints.items() if get_origin(hint) is Literal}
    for name, value in options.items():
        if name in words:
            if value not in words[name]:
                raise ValueError(f"option {name} is {reprlib.repr(value)}, which is none of {', '.join(words[name])}")
            continue
        if name in _OF_THE_HEAD:
            if not _OF_THE_HEAD[name](value):
                raise ValueError(f"option {name} is {reprlib.repr(value)}")
            continue
        usual = tree.choose(defaults, name, what="option")
        _check_like(f"option {name}", value, usual)
        if isinstance(usual, float) and not 0 <= value <= 1:  # dropout, momentum
            raise ValueError(f"option {name} is {value}, which is no share of 1")


def _preprocess(fields: Any) -> Preprocess:
    if not isinstance(fields, dict):
        raise ValueError(f"preprocess is {reprlib.repr(fields)}")
    usual = (Preprocess().gray() if fields.get("channels") == "L" else Preprocess()).to_dict()
    for name, value in fields.items():
        if name in usual:
            _check_like(f"preprocess {name}", value, usual[name])
    return Preprocess.from_dict(fields)


def _check_like(what: str, value: Any, usual: Any) -> None:
    """ValueError if a value has another type than the usual one, or a number out of range."""
    if isinstance(usual, list):
        good = isinstance(value, list) and len(value) == len(usual)
        for i in range(len(usual) if good else 0):
            _check_like(what, value[i], usual[i])
    elif isinstance(usual, bool | str):
        good = type(value) is type(usual)
    elif isinstance(usual, int):  # a size; none at all only where that is usual
        good = type(value) is int and min(usual, 1) <= value <= _LARGEST
    else:
        good = type(value) in (int, float) and math.isfinite(value)
    if not good:
        raise ValueError(f"{what} is {reprlib.repr(value)}, where {usual!r} is usual")
