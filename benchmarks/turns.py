"""What turns of several rivals say: rates, ratios of turns taken together, and who is the fastest."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Found = Mapping[str, Mapping[str, Any]]  # by label of a process: what it measured


@dataclasses.dataclass(frozen=True)
class Ratio:
    """The median of the ratios of turns, and their range."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f} to {self.most:.2f})"


def ratio(above: Sequence[float], below: Sequence[float]) -> Ratio | None:
    """Of turns taken together; None where a side has none."""
    ratios = [a / b for a, b in zip(above, below, strict=False)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios)) if ratios else None


def rates(found: Found, label: str, kind: str = "rates") -> list[float]:
    """Images/s of each turn; [] where there are none, or where it failed on the way."""
    result = found.get(label, {})
    return [] if "error" in result else result.get(kind, [])


def best_rival(found: Found) -> str | None:
    """The label of the fastest other framework; None without any."""
    medians = {label: statistics.median(rates(found, label)) for label in found if rates(found, label)}
    others = {label: rate for label, rate in medians.items() if not label.startswith("jft")}
    return max(others, key=others.__getitem__) if others else None


def line(found: Found) -> str:
    """What an item found, in one line for people."""
    cells = []
    for label, result in found.items():
        if turns := rates(found, label):
            ours = None if label == "jft" else ratio(rates(found, "jft"), turns)
            cells.append(f"{label} {statistics.median(turns):.4g}/s" + (f" (jft / it {ours})" if ours else ""))
        else:
            cells.append(f"{label}: {result.get('error', 'nothing')}")
    return "  ".join(cells)
