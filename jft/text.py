"""Text for terminals."""

from collections.abc import Collection

# What a verb says of its argument RUN.
RUN = "folder that train wrote: its best checkpoint on validation, else the newest"


def aligned(rows: list[tuple[str, ...]], right: Collection[int]) -> list[str]:
    """Lines in which the cells of a column stand below each other.

    Args:
      rows: of one length each.
      right: columns, from 0, whose cells end level, as numbers should; the others begin so.

    Returns:
      A line for each row.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def one_line(error: Exception) -> str:
    """What an error says, in one line: of JAX's, which go on for pages, the first."""
    told = str(error) or type(error).__name__
    if isinstance(error, RuntimeError):  # JAX's are of this kind
        return told.splitlines()[0]
    return " ".join(told.split())


def human_bytes(count: float) -> str:
    """Bytes in decimal units: '0.4 MB', '1,234.5 GB'."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def human_seconds(seconds: float) -> str:
    """A length of time to two digits or so: '59 s', '12 min', '2.5 h'."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def named_step(step: int, phase: str) -> str:
    """'step 75', or 'step 75, in phase probe (1 of 2)'; `phase` as of `meta.phase_of`."""
    return f"step {step:,}{f', in phase {phase}' if phase else ''}"
