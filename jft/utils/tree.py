"""Nested dicts as flat `{'stage/layer/leaf': value}` dicts, and patterns over the names of leaves."""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Flattens nested dicts to `{'a/b/c': leaf}`, in the tree's order."""
    from flax import traverse_util  # here, as it loads JAX, which names alone do not need

    return traverse_util.flatten_dict(tree, sep="/")


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Inverse of `flatten`."""
    from flax import traverse_util

    return traverse_util.unflatten_dict(dict(flat), sep="/")


def matching(patterns: Iterable[str], names: Iterable[str], *, what: str) -> set[str]:
    """Names that any of the regular expressions matches in full.

    A pattern that is the name of a node matches every leaf below it, so 'layer4' means 'layer4/.*'.

    Args:
      patterns: regular expressions over names such as 'layer4/block0/conv1/kernel'.
      names: the names to choose from.
      what: the config field the patterns came from, for the error.

    Returns:
      The set of matched names.

    Raises:
      ValueError: a pattern matches nothing, or is none.
    """
    names = list(names)
    matched = set()
    for pattern in patterns:
        try:
            compiled = re.compile(f"(?:{pattern})(?:/.*)?")
        except re.error as error:
            raise ValueError(f"{what}: {pattern!r} is no regular expression: {error}.") from error
        hits = {name for name in names if compiled.fullmatch(name)}
        if not hits:
            raise ValueError(
                f"{what}: pattern {pattern!r} matches none of {len(names)} names"
                f"{did_you_mean(pattern, [*{n.split('/')[0] for n in names}, *names])}; "
                f"they look like {names[0]}, and begin with {', '.join(dict.fromkeys(n.split('/')[0] for n in names))}."
            )
        matched |= hits
    return matched


_LISTED = 40  # names that an error lists


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """A question to append to an error, or an empty string: `", did you mean 'head'?"`."""
    close = difflib.get_close_matches(wrong, list(known), n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def choose(table: Mapping[str, Any], name: str, *, what: str) -> Any:
    """`table[name]`; ValueError with the known names and the nearest one if there is none."""
    if name not in table:
        raise ValueError(f"unknown {what} {name!r}{did_you_mean(name, table) or '.'} {known(name, table)}.")
    return table[name]


def known(wrong: str, names: Iterable[str]) -> str:
    """A list for an error: 'Known: a, b'; of more than 40 names those that are nearest, and how many others."""
    names = list(names)
    if len(names) <= _LISTED:
        return f"Known: {', '.join(names)}"
    near = difflib.get_close_matches(wrong, names, n=8, cutoff=0.3) or names[:8]
    return f"Near: {', '.join(near)}; {len(names) - len(near)} others are known"
