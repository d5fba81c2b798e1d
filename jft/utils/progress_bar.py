"""A progress bar that leaves room for the bar."""

from typing import Any

from tqdm import tqdm

_LEAST = 20  # columns of the bar
# From wide to narrow; None is tqdm's own, with the description, the time so far and the rate.
_FORMATS = (
    None,
    "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {remaining}{postfix}",
    "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {remaining}{postfix}",
)


class ProgressBar(tqdm):
    """A tqdm whose bar keeps 20 columns: on a narrow terminal description and figures, the last first, are left out."""

    @staticmethod
    def format_meter(**told: Any) -> str:
        """The line, of `format_dict`; figures of `postfix` are parted by commas."""
        columns, total = told["ncols"] or 80, told["total"]
        told = {**told, "ncols": columns}
        if not total:
            return tqdm.format_meter(**told)
        parts = (told["postfix"] or "").split(", ")
        for count in range(len(parts), -1, -1):
            postfix = ", ".join(parts[:count])
            for form in _FORMATS:
                line = {**told, "postfix": postfix, "bar_format": form}
                bare = {**line, "ncols": None, "bar_format": (form or "{l_bar}{bar}{r_bar}").replace("{bar}", "")}
                if len(tqdm.format_meter(**bare)) + _LEAST <= columns:
                    return tqdm.format_meter(**line)
        return tqdm.format_meter(**line)
