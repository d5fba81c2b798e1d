"""Whose licenses ask for a yes before weights are used, and whether it was given: the one place that decides it."""

import contextlib
import contextvars
import re
from collections.abc import Iterator

from jft.utils.option_names import option
from jft.weights.rows.row import WeightSet

# CC-BY-NC-4.0, 'other (non-commercial)', 'fair-noncommercial-research-license', ...
_RESTRICTED = re.compile(r"\bnc\b|non-?commercial|research[- ]only", re.IGNORECASE)

_accepted: contextvars.ContextVar[bool] = contextvars.ContextVar("license_accepted", default=False)


class LicenseError(ValueError):
    """Weights whose license forbids commercial use, outside of `accepting`."""


def forbids_commerce(license: str) -> bool:
    """Whether a license, by its name, forbids commercial use."""
    return _RESTRICTED.search(license) is not None


@contextlib.contextmanager
def accepting(accept: bool = True) -> Iterator[None]:
    """Within it, weights whose license forbids commercial use are used; False changes nothing."""
    token = _accepted.set(accept or _accepted.get())
    try:
        yield
    finally:
        _accepted.reset(token)


def is_accepted(row: WeightSet) -> bool:
    """Whether a weight set may be used: its license allows commercial use, or was accepted."""
    return _accepted.get() or not forbids_commerce(row.license)


def check(row: WeightSet) -> None:
    """LicenseError if a weight set may not be used, see `is_accepted`."""
    if not is_accepted(row):
        raise LicenseError(
            f"{row.name} has the license {row.license}, which forbids commercial use of the weights and of what is "
            f"trained from them: read it, and if you keep to it, add {option('accept_license', True)}."
        )
