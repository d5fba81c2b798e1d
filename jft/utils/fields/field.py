"""What is known of one field of a config, and the checks of a value."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from jft.utils import registry

Check = Callable[[Any], str]  # a value -> what is wrong with it, '' if nothing is


@dataclasses.dataclass(frozen=True)
class Needs:
    """What another field must be for a field to have an effect.

    Attributes:
      field: the other one.
      values: any of these; (): any that is not 0, False or empty.
      own: something of the user's own, such as module:function, counts as well.
    """

    field: str
    values: tuple[Any, ...] = ()
    own: bool = False

    def met(self, config: Mapping[str, Any]) -> bool:
        """Whether it is so in a config."""
        if self.own and registry.is_own(config[self.field]):
            return True
        return config[self.field] in self.values if self.values else bool(config[self.field])

    def __str__(self) -> str:
        return f"{self.field} = {' or '.join(map(repr, self.values))}" if self.values else self.field


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of a config: a row of the table that defaults, validation, flags and help are made of.

    Attributes:
      name: as in a config file.
      default: its value where nothing else is said; its type is the field's type.
      doc: what it means, with the unit; one line of help.
      choices: the values it may have; (): any, or those of a registry (`jft.utils.registry`).
      check: what is wrong with a value, beside its type and choices.
      needs: what other fields must be for it to have an effect; elsewhere only the default is allowed.
      auto: the type of its other values, of a field that may also be a word.
      word: that word.
      element: type of a tuple's elements in JSON.
      phase: a phase may change it.
      place: says where things are or how large this machine is, so it may differ from host to host.
      resume: may change when a run is resumed: it does not alter what is computed.
    """

    name: str
    default: Any
    doc: str
    _: dataclasses.KW_ONLY
    choices: tuple[str, ...] = ()
    check: Check | None = None
    needs: tuple[Needs, ...] = ()
    auto: type | None = None
    word: str = "auto"
    element: Any = None
    phase: bool = False
    place: bool = False
    resume: bool = False

    @property
    def kind(self) -> type:
        """bool, int, float, str, tuple or dict."""
        return self.auto or type(self.default)

    @property
    def json_shape(self) -> Any:
        """What JSON holds of it, as `json_file.mismatch` reads it."""
        if self.auto:
            return self.auto | str
        if self.kind is dict:
            return dict[str, int]
        return list[self.element] if self.kind is tuple else self.kind


def positive(value: float) -> str:
    """A check: above 0."""
    return "" if value > 0 else "must be above 0"


def one_or_more(value: float) -> str:
    """A check: 1 or more."""
    return "" if value >= 1 else "must be 1 or more"


def two_or_more(value: int) -> str:
    """A check: 2 or more."""
    return "" if value >= 2 else "must be 2 or more"


def not_negative(value: float) -> str:
    """A check: 0 or more."""
    return "must not be below 0" if value < 0 else ""


def share(value: float) -> str:
    """A check: a share that is not the whole."""
    return "" if 0 <= value < 1 else "must be in 0 .. 1, below 1"


def part(value: float) -> str:
    """A check: a share that may be the whole."""
    return "" if 0 <= value <= 1 else "must be in 0 .. 1"


def up_to_30(value: float) -> str:
    """A check: RandAugment's scale."""
    return "" if 0 <= value <= 30 else "must be in 0 .. 30"


def one_or_three(value: int) -> str:
    """A check: channels of gray or colored images."""
    return "" if value in (1, 3) else "choose 1 or 3"


def switch_or_auto(value: Any) -> str:
    """A check: True, False or 'auto'."""
    return "" if value == "auto" or isinstance(value, bool) else "choose 'auto', True or False"


def held_out(value: Any) -> str:
    """A check: images to hold out, a share or a number, or 'cv'."""
    is_amount = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
    return "" if value == "cv" or is_amount else "give a share below 1, a number of images, or 'cv'"


def share_or_auto(value: Any) -> str:
    """A check: a share, 0 and 1 included, or 'auto'."""
    is_share = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
    return "" if value == "auto" or is_share else "choose 'auto' or a number in 0 .. 1"


def count_or_auto(value: Any) -> str:
    """A check: a whole number above 0, or 'auto'."""
    is_count = type(value) is int and value > 0
    return "" if value == "auto" or is_count else "choose 'auto' or a whole number above 0"
