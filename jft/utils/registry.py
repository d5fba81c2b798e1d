"""What a config names by a word: one of jft's own rows, the user's own as "module:function", or a function itself.

A config stays data: it holds names, and with some of them numbers, as in "color_jitter(0.2, hue=0.1)".
`Registry.resolve` turns a name into the object. To import "module:function" is to run code, so it happens only inside
`code_allowed()`: where the user starts or resumes a training run, or asks for it by `allow_code=True` or
`--allow-code`. A checkpoint or config that merely is read imports nothing.
"""

import contextlib
import contextvars
import functools
import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from jft.utils import tree

Row = TypeVar("Row")

GIVEN = "<given in Python>"  # recorded for a function that no "module:function" names

_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_CALL = re.compile(r"([^()]*)\((.*)\)")
_ARGUMENT = re.compile(r"\s*(?:([A-Za-z_]\w*)\s*=\s*)?([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")
_allowed: contextvars.ContextVar[bool] = contextvars.ContextVar("code_allowed", default=False)
_imported: dict[str, Any] = {}  # by reference; what ran once with permission runs nothing when it is named again


class CodeError(ValueError):
    """What a "module:function" names cannot be had: its import is not allowed, or fails."""


class CodeRefusedError(CodeError):
    """A "module:function" was named where no code may be imported."""


class Registry(Mapping[str, Row], Generic[Row]):
    """Names and what they stand for, in order; a mapping.

    Attributes:
      field: the config field that names a row, such as 'loss'.
      signature: what a function of the user's own must be, for errors.
      arguments: number of arguments that jft calls a function with, where a config may set its further ones by numbers:
        'name(0.2, other=1)'; 0: it may not.
    """

    def __init__(self, field: str, signature: str, rows: Mapping[str, Row], arguments: int = 0) -> None:
        self.field, self.signature, self.arguments, self._rows = field, signature, arguments, dict(rows)
        self._built_in = frozenset(rows)
        _REGISTRIES[field] = self

    def __getitem__(self, name: str) -> Row:
        return self._rows[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def register(self, name: str, row: Row) -> None:
        """Adds a row of your own, which a config can then name; a run that names it needs it again to resume.

        A row of your own of the same name is replaced, as when the cell of a notebook runs once more.

        Raises:
          ValueError: jft has a row of this name.
        """
        if name in self._built_in:
            raise ValueError(f"{self.field} {name!r} is one of jft's own: choose another name.")
        self._rows[name] = row

    def check(self, value: str) -> None:
        """Raises a ValueError unless a config may hold `value`; imports nothing."""
        name, set_to = self._parsed(value)
        if name in self._rows:
            self._bound(value, self._rows[name], set_to)
            return
        if is_own(name):
            return
        guess = tree.did_you_mean(name, self._rows) or "."
        raise ValueError(
            f"unknown {self.field} {name!r}{guess} {tree.known(value, self._rows)}; "
            f"or your own {self.signature}, named 'module:function'."
        )

    def resolve(self, value: Any, given: Any = None) -> Any:
        """The object that a name stands for.

        Args:
          value: a row's name, "module:function", or the object itself.
          given: the object, where it was given in Python and `value` is what `name_of` recorded of it.

        Raises:
          ValueError: no such name, or a function that was given in Python and is not here.
          CodeError: no such module or function.
          CodeRefusedError: "module:function", outside of `code_allowed`.
        """
        if given is not None:
            return given
        if not isinstance(value, str):
            return value
        name, set_to = self._parsed(value)
        if name in self._rows:
            return self._bound(value, self._rows[name], set_to)
        if value == GIVEN:
            raise ValueError(
                f"the {self.field} of this run was given in Python and no 'module:function' names it, so the run "
                f"cannot be used without it: give it again as {self.field}=..., or move it to a module."
            )
        self.check(value)
        return self._bound(value, _import(name, self.field), set_to)

    def _parsed(self, value: str) -> tuple[str, list[tuple[str, float]]]:
        """The name, and the parameters behind it as pairs (name or '', number); as they stand without parameters."""
        called = _CALL.fullmatch(value) if self.arguments else None
        if called is None:
            return value, []
        set_to = []
        for text in called[2].split(",") if called[2].strip() else ():
            if (argument := _ARGUMENT.fullmatch(text)) is None:
                raise ValueError(
                    f"{self.field} {value!r}: {text.strip()!r} is neither a number nor NAME=NUMBER: write it as in "
                    f"'{called[1]}(0.2)'."
                )
            set_to.append((argument[1] or "", float(argument[2])))
        return called[1].strip(), set_to

    def _bound(self, value: str, function: Any, set_to: Sequence[tuple[str, float]]) -> Any:
        """The function with its parameters set; ValueError where it has no such."""
        if not set_to:
            return function
        names = [*inspect.signature(function).parameters][self.arguments :]
        by_place = [number for name, number in set_to if not name]
        by_name = dict(zip(names, by_place, strict=False)) | {name: number for name, number in set_to if name}
        behind = [bool(name) for name, _ in set_to]
        if len(by_name) < len(set_to) or behind != sorted(behind) or not by_name.keys() <= set(names):
            raise ValueError(
                f"{self.field} {value!r}: its parameters are {', '.join(names) or 'none'}. Set each once, and those by "
                "name behind the others."
            )
        return functools.partial(function, **by_name)

    def resolve_all(self, values: Sequence[Any], given: Sequence[Any] | None = None) -> tuple[Any, ...]:
        """`resolve` of each of several; `given` stands for all of them, where they were given in Python."""
        return tuple(self.resolve(value) for value in (values if given is None else given))


_REGISTRIES: dict[str, Registry] = {}


def resolve(field: str, value: Any) -> Any:
    """`Registry.resolve` of the registry of a config field; its room must have been imported."""
    return tree.choose(_REGISTRIES, field, what="registry").resolve(value)


def problems(config: Mapping[str, Any]) -> list[str]:
    """What is wrong with a config's names, of the registries whose rooms have been imported; imports nothing."""
    wrong = []
    for field, known in _REGISTRIES.items():
        try:
            if field in config:
                value = config[field]
                for one in value if isinstance(value, tuple | list) else (value,):
                    known.check(one)
        except ValueError as error:
            wrong.append(str(error).removesuffix("."))
    return wrong


def imported(reference: str, field: str) -> Any:
    """What a "module:function" of a field without a registry names; errors as of `Registry.resolve`."""
    return _import(reference, field)


def is_reference(value: Any) -> bool:
    """Whether a value is written as "module:function".

    >>> is_reference("my_losses:focal"), is_reference("softmax"), is_reference("tfds:mnist/3.0.1")
    (True, False, False)
    """
    return isinstance(value, str) and _REFERENCE.fullmatch(value) is not None


def is_own(value: Any) -> bool:
    """Whether a config's value stands for something of the user's own."""
    return value == GIVEN or is_reference(value)


def name_of(value: Any) -> str:
    """What a config records of an object: "module:function" where that leads to the object, else `GIVEN`."""
    if isinstance(value, str):
        return value
    module, path = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    reference = f"{module}:{path}"
    if module == "__main__" or module not in sys.modules or not is_reference(reference):
        return GIVEN
    try:
        found = functools.reduce(getattr, reference.partition(":")[2].split("."), sys.modules[module])
    except AttributeError:
        return GIVEN
    return reference if found is value else GIVEN


@contextlib.contextmanager
def code_allowed(allow: bool = True) -> Iterator[None]:
    """Within it, "module:function" may be imported; False changes nothing."""
    token = _allowed.set(allow or _allowed.get())
    try:
        yield
    finally:
        _allowed.reset(token)


def _import(reference: str, field: str) -> Any:
    if reference in _imported:
        return _imported[reference]
    if not _allowed.get():
        raise CodeRefusedError(
            f"{field} = {reference!r} names code, which is not imported on reading a run: if you trust it, pass "
            "--allow-code to the command, or in Python allow_code=True to jft.load or jft.evaluate."
        )
    module, _, path = reference.partition(":")
    if os.getcwd() not in sys.path and "" not in sys.path:  # an installed command does not look there by itself
        sys.path.append(os.getcwd())
    try:
        found = importlib.import_module(module)
    except Exception as error:  # whatever the module's own code raises
        raise CodeError(
            f"{field} = {reference!r}: importing {module} failed ({type(error).__name__}: {error}). Run from the "
            "folder that holds it, or put that folder into PYTHONPATH."
        ) from error
    for name in path.split("."):
        if not hasattr(found, name):
            guess = tree.did_you_mean(name, dir(found)) or f": {getattr(found, '__file__', module)} defines no such."
            raise CodeError(f"{field} = {reference!r}: there is no {name!r} in {module}{guess}")
        found = getattr(found, name)
    _imported[reference] = found
    return found


def call_with(function: Callable, available: Mapping[str, Any], *, what: str) -> Any:
    """Calls a function with those of `available` that it has a parameter without a default for, by name.

    So that a function asks for what it needs by its parameters: `def lion(learning_rate, weight_decay)`.

    Raises:
      ValueError: it needs something else; names it and what there is.
    """
    needed = needed_by(function)
    if unknown := [name for name in needed if name not in available]:
        raise ValueError(
            f"{what} needs {', '.join(unknown)}, which jft does not give: give these parameters defaults. "
            f"jft gives {', '.join(available)}."
        )
    return function(**{name: available[name] for name in needed})


def needed_by(function: Callable) -> list[str]:
    """Names of a function's parameters without defaults; [] where Python cannot tell."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    fixed = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in fixed]
