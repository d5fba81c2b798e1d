"""Text for terminals."""

from collections.abc import Collection


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
