"""Tables as text, and results that print as one."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Collection
from typing import Any

from tfkd.escaping import printable


class Printed:
    """A result that prints as its table, in `print` and in notebooks.

    A data class defines `describe`, its text, and `to_json`, its plain values.
    """

    def describe(self) -> str:
        """Return a table or a few lines of text."""
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return dataclasses.asdict(self)  # type: ignore[call-overload,no-any-return]

    def __str__(self) -> str:
        return self.describe()

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.describe())}</pre>"


def aligned(rows, left: int | Collection[int] = 1) -> list[str]:
    """Return a line of text per row, its cells two spaces apart.

    Args:
        rows: Tuples of text, all of one length, the header first.
        left: The columns, or the number of first columns, whose cells start at the same place;
            the others, numbers, end there.
    """
    left = range(left) if isinstance(left, int) else left
    rows = [tuple(map(printable, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
