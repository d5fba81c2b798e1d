"""Every field of a config as a flag, `--learning-rate 0.01`, made of the table of fields."""

import argparse
import ast
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from jft.utils import tree
from jft.utils.fields import FIELDS, GROUPS, Field

IMAGES = "a folder of class folders, a .csv file, CIFAR-10, GTSRB, digits"
WHAT = f"{IMAGES}; or a config: a file, or quickstart"

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
_COMMA = re.compile(r",(?![^(]*\))")
_METAVARS = {bool: "BOOL", int: "N", float: "X", str: "TEXT", tuple: "A,B", dict: "KEY=N"}
_WANTED = {
    **{bool: "true or false", int: "a whole number", float: "a number", tuple: "values with commas between them"},
    **{dict: "KEY=N with commas between them"},
}


class _Set(argparse.Action):
    """Collects {field: value} in `settings`."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any) -> None:
        try:
            value = parse(FIELDS[self._field], values)
        except ValueError as error:
            parser.error(str(error))
        namespace.settings = {**(namespace.settings or {}), self._field: value}

    def __init__(self, *arguments: Any, field: str, **options: Any) -> None:
        self._field = field
        super().__init__(*arguments, **options)


def add(parser: argparse.ArgumentParser, skip: Collection[str] = ()) -> None:
    """Adds a flag for each field, in groups; what is given is in `args.settings`, {field: value}.

    Args:
      parser: of a command.
      skip: fields for which the command has flags or arguments of its own.
    """
    # All fields in the usage line would hide the rest.
    parser.usage = " ".join([*parser.format_usage().removeprefix("usage: ").split(), "[--FIELD VALUE ...]"])
    parser.set_defaults(settings={})
    for title, fields in GROUPS.items():
        group = parser.add_argument_group(f"config fields: {title}")
        for field in fields:
            if field.name not in skip:
                group.add_argument(
                    flag(field.name),
                    action=_Set,
                    field=field.name,
                    dest="settings",
                    default=argparse.SUPPRESS,
                    metavar=_metavar(field),
                    help=_help(field),
                )


def flag(name: str) -> str:
    """The flag of a field: '--learning-rate'."""
    return f"--{name.replace('_', '-')}"


def _metavar(field: Field) -> str:
    if field.choices:
        return "|".join(filter(None, field.choices)) if len(field.choices) < 4 else "NAME"
    return f"{field.word.upper()}|" * bool(field.auto) + _METAVARS[field.kind]


def _help(field: Field) -> str:
    default = field.default
    if isinstance(default, dict):
        default = ",".join(f"{key}={value}" for key, value in default.items())
    shown = "empty" if default in ("", ()) else f"{default:,}" if field.kind is int and not field.auto else default
    return f"{field.doc}; default: {shown}".replace("%", "%%")


def parse(field: Field, text: str) -> Any:
    """The value that a flag's text means; ValueError: it means none, names field, text and remedy.

    >>> parse(FIELDS["steps"], "1e3"), parse(FIELDS["flip"], "no"), parse(FIELDS["classes"], "dog,cat")
    (1000, False, ('dog', 'cat'))
    """
    try:
        value = text if field.auto and text == field.word else _PARSERS[field.kind](field, text)
    except (ValueError, SyntaxError, TypeError) as error:
        wanted = (f"{field.word!r} or " if field.auto else "") + _WANTED[field.kind]
        example = f", such as {_example(field)}" if field.default not in ("", ()) else f": {field.doc}"
        raise ValueError(f"{flag(field.name)} {text!r}: give {wanted}{example}") from error
    if field.choices and value not in field.choices:
        raise ValueError(f"{flag(field.name)} {text!r}: choose {', '.join(map(repr, field.choices))}")
    return value


def parse_values(text: str) -> tuple[str, tuple[Any, ...]]:
    """A field and several values of it; commas between parentheses part nothing. ValueError as of `parse`.

    >>> parse_values("learning-rate=1e-4,1e-3"), parse_values("head_hidden=(),(64,)")
    (('learning_rate', (0.0001, 0.001)), ('head_hidden', ((), (64,))))
    """
    name, equals, values = text.partition("=")
    if not equals:
        raise ValueError(f"{text!r}: give a field and its values, such as learning_rate=1e-4,3e-4,1e-3")
    field = tree.choose(FIELDS, name.removeprefix("--").replace("-", "_"), what="config field")
    return field.name, tuple(parse(field, value) for value in _COMMA.split(values))


def _example(field: Field) -> str:
    return ",".join(f"{k}={v}" for k, v in field.default.items()) if field.kind is dict else str(field.default)


def _bool(field: Field, text: str) -> bool:
    del field
    if text.lower() not in (*_TRUE, *_FALSE):
        raise ValueError(text)
    return text.lower() in _TRUE


def _int(field: Field, text: str) -> int:
    del field
    number = float(text)
    if not number.is_integer():
        raise ValueError(text)
    return int(text) if text.lstrip("+-").isdigit() else int(number)


def _float(field: Field, text: str) -> float:
    del field
    return float(text)


def _str(field: Field, text: str) -> str:
    del field
    return text


def _tuple(field: Field, text: str) -> tuple[Any, ...]:
    """'a,b', or as Python writes it: "('a', 'b')". Commas between parentheses, as in 'a(1,2),b', part nothing."""
    element = field.element
    if not text.strip():
        return ()
    if text.strip().startswith(("(", "[", "{")) or element not in (str, int, float):
        found = ast.literal_eval(text)
        found = tuple(found) if isinstance(found, list | tuple) else (found,)
        return tuple(map(element, found)) if element in (str, int) else found
    # Step epochs may be whole: a number is as it is written.
    number = (lambda part: int(part) if part.strip().isdigit() else float(part)) if element is float else element
    return tuple(number(part.strip()) for part in _COMMA.split(text) if part.strip())


def _dict(field: Field, text: str) -> dict[str, int]:
    pairs = dict(part.split("=") for part in text.split(","))
    if unknown := [key for key in pairs if key not in field.default]:
        raise ValueError(unknown)
    return {key: int(value) for key, value in pairs.items()}


_PARSERS = {bool: _bool, int: _int, float: _float, str: _str, tuple: _tuple, dict: _dict}


def separate(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """A command line without `--config.field=value`, and these; the value may also be the next argument.

    Switches become `--flip=true`: as `--flip`, `--no-flip`, `--flip false`, so that what follows one is not its value
    unless it can be.
    """
    left: list[str] = []
    dotted: list[str] = []
    rest = list(argv)
    while rest:
        argument = rest.pop(0)
        name, equals, _ = argument.partition("=")
        field = FIELDS.get(name.removeprefix("--config.").removeprefix("--").replace("-", "_"))
        switch = field is not None and field.kind is bool
        words = (*_TRUE, *_FALSE, *([field.word] if field is not None and field.auto else []))
        if argument == "--":
            return [*left, argument, *rest], dotted
        if not name.startswith("--"):
            left.append(argument)
        elif name.startswith(("--config.", "--noconfig.")):
            takes = rest and not equals and not rest[0].startswith("--") and name.startswith("--config.")
            if takes and (not switch or rest[0].lower() in words):
                argument = f"{name}={rest.pop(0)}"
            dotted.append(argument)
        elif _switch_off(name):
            left.append(f"--{name.removeprefix('--no-').removeprefix('--no_')}=false")
        elif switch and not equals:
            given = rest.pop(0) if rest and rest[0].lower() in words else "true"
            left.append(f"{name}={given}")
        else:
            left.append(argument)
    return left, dotted


def _switch_off(name: str) -> bool:
    """Whether it is `--no-flip`, of a switch."""
    field = FIELDS.get(name.replace("-", "_").removeprefix("__no_")) if name[2:3] == "n" else None
    return field is not None and field.kind is bool


def apply(config: Any, settings: Mapping[str, Any]) -> None:
    """Sets the fields of a config that flags gave."""
    for name, value in settings.items():
        if isinstance(value, dict):
            config[name].update(value)
        else:
            config[name] = value
