"""How a message names an option: as a flag where a command runs, and as a keyword where Python calls."""

import contextlib
import shlex
from collections.abc import Iterator

_in_command = False


@contextlib.contextmanager
def as_flags() -> Iterator[None]:
    """Within it, `option` names flags."""
    global _in_command
    before, _in_command = _in_command, True
    try:
        yield
    finally:
        _in_command = before


def option(name: str, value: str | bool | None = None) -> str:
    """The name of an option, with a value if one is given, for the remedy of an error.

    Args:
      name: of the keyword, such as 'skip_unreadable'.
      value: True, a text, or a placeholder in capitals such as 'FILE'.

    >>> option("workdir"), option("split", "test"), option("skip_unreadable", True)
    ('workdir', "split='test'", 'skip_unreadable=True')
    >>> with as_flags():
    ...     option("workdir"), option("split", "test"), option("skip_unreadable", True)
    ('--workdir', '--split test', '--skip-unreadable')
    """
    if not _in_command:
        return name if value is None else f"{name}={value!r}"
    flag = f"--{name.replace('_', '-')}"
    return flag if value is None or value is True else f"{flag} {shlex.quote(str(value))}"
