"""Tables as text."""

from __future__ import annotations

from tfkd.escaping import printable


def aligned(rows, left: int = 1) -> list[str]:
    """Return a line of text per row, its cells two spaces apart.

    Args:
        rows: Tuples of text, all of one length, the header first.
        left: How many columns start at the same place; the others, numbers, end there.
    """
    rows = [tuple(map(printable, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
