"""Reads untrusted JSON: checks it against the types that the code expects, and reports a mismatch in one line."""

import dataclasses
import json
import reprlib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jft.utils import checksum
from jft.utils.files import open_regular

_NAMES = {
    **{str: "text", bool: "true or false", int: "a whole number", float: "a number", types.NoneType: "null"},
    **{list: "a list", dict: "an object"},
}


def read(path: Path, shape: Any, remedy: str) -> Any:
    """Reads and checks a file.

    Args:
      path: of the file.
      shape: what it must hold, see `mismatch`.
      remedy: what to do if it does not, such as 'restore it'.

    Raises:
      ValueError: it is no JSON or holds something else; names the file, what was found where, and the remedy.
      OSError: it cannot be read.
    """
    with open_regular(path) as file:
        return parse(file.read(), shape, str(path), remedy)


def parse(text: bytes | str, shape: Any, name: str, remedy: str) -> Any:
    """As `read`, of the text of what is called `name`; a checksum of `checksum.added` is compared and left out."""
    try:
        found = json.loads(text, object_pairs_hook=_once)
        problem = checksum.damage(found) or mismatch(found, shape)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is damaged ({error}): {remedy}.") from error
    if problem:
        raise ValueError(f"{name}: {problem}; {remedy}.")
    return checksum.removed(found)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object; ValueError if it has a key twice, of which other programs may read the other one."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"it says {reprlib.repr(key)} twice")
        found[key] = value
    return found


def mismatch(found: Any, shape: Any, place: str = "") -> str | None:
    """How a value from JSON differs from the expected type, or None.

    Args:
      found: the value.
      shape: a type: one that JSON has, `Any`, `X | Y`, `list[X]`, `dict[str, X]`, `tuple[X, Y]` for a list of so many
        or `tuple[X, ...]` for any list, a TypedDict or a dataclass for an object with these keys, or a mapping,
        key -> type, of which none need be there. Whole numbers pass for `float`; keys that a shape does not name may
        hold anything.
      place: of the value, for people, such as 'history[0].loss'; '' for the outermost.
    """
    origin, parts = typing.get_origin(shape), typing.get_args(shape)
    if origin in (types.UnionType, typing.Union):
        fits = shape is Any or any(mismatch(found, part, place) is None for part in parts)
        return None if fits else _other(found, shape, place)
    if isinstance(shape, Mapping) or typing.is_typeddict(shape) or dataclasses.is_dataclass(shape):
        return _mismatch_of_object(found, shape, place)
    if not _is(found, list if origin is tuple else origin or shape):
        return _other(found, shape, place)
    if origin is tuple and parts[-1] is ...:
        origin, parts = list, parts[:1]
    if origin is tuple and len(found) != len(parts):
        return f"{place or 'it'} has {len(found)} entries, where {len(parts)} are expected"
    inner: dict[str, tuple[Any, Any]] = {}
    if origin is dict:
        inner = {f"{place}.{key}".lstrip("."): (value, parts[1]) for key, value in found.items()}
    elif origin in (list, tuple):
        shapes = parts if origin is tuple else parts * len(found)
        inner = {f"{place}[{i}]": pair for i, pair in enumerate(zip(found, shapes, strict=True))}
    return _first(inner)


def _mismatch_of_object(found: Any, shape: Any, place: str) -> str | None:
    if not isinstance(found, dict):
        return _other(found, dict, place)
    known = shape if isinstance(shape, Mapping) else typing.get_type_hints(shape)
    needed = () if isinstance(shape, Mapping) else getattr(shape, "__required_keys__", known)
    if missing := [key for key in known if key in needed and key not in found]:
        return f"{place or 'it'} lacks {', '.join(missing)}"
    return _first({f"{place}.{key}".lstrip("."): (found[key], known[key]) for key in known if key in found})


def _first(inner: Mapping[str, tuple[Any, Any]]) -> str | None:
    problems = (mismatch(value, shape, place) for place, (value, shape) in inner.items())
    return next((problem for problem in problems if problem), None)


def _is(found: Any, kind: Any) -> bool:
    if kind is Any:
        return True
    if type(found) is int:
        return kind in (int, float) and abs(found) < 2**63
    return type(found) is kind


def _other(found: Any, shape: Any, place: str) -> str:
    parts = typing.get_args(shape) if typing.get_origin(shape) in (types.UnionType, typing.Union) else (shape,)
    kinds = [list if typing.get_origin(part) is tuple else typing.get_origin(part) or part for part in parts]
    wanted = " or ".join(_NAMES.get(kind, "an object") for kind in kinds)
    return f"{place or 'it'} is {reprlib.repr(found)}, where {wanted} is expected"
