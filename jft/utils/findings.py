"""The result of a check of a run, a machine or a data set, as one line."""

import dataclasses
from collections.abc import Callable
from typing import Any

from jft.utils.text import one_line, terminal


@dataclasses.dataclass(frozen=True)
class Finding:
    """The result of one check, the same on every process.

    Attributes:
      check: its name.
      told: one line: what there is or, where `wrong`, what is wrong and what to do.
      wrong: whether a run would fail.
    """

    check: str
    told: str
    wrong: bool = False

    def __str__(self) -> str:
        return f"{'FAIL' if self.wrong else 'ok':<5}{self.check}: {terminal(self.told)}"


def tried(name: str, check: Callable[..., Finding], *arguments: Any) -> Finding:
    """The result of a check; if it raises an error, a finding with that error."""
    try:
        return check(*arguments)
    except (RuntimeError, OSError, ValueError) as error:
        return Finding(name, one_line(error), wrong=True)
