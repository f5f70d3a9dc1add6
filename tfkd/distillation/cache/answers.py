"""All answers of a cache by row: one part in memory, or a part for each shard of a folder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfkd.distillation.cache.columns import Column, Growing
from tfkd.distillation.cache.shards import Shard


class Held:
    """Answers in memory.

    Args:
        columns: Columns by name, all with the same number of rows.
    """

    def __init__(self, columns: dict[str, Column]):
        self.columns = columns

    def __len__(self):
        return len(next(iter(self.columns.values())))

    @property
    def nbytes(self) -> int:
        """Bytes of the answers."""
        return sum(one.nbytes for one in self.columns.values())

    def dtype(self, name: str) -> np.dtype:
        """Return the dtype of an answer."""
        return self.columns[name].values.dtype

    def shape(self, name: str) -> list[int | None]:
        """Return the shape of a row of an answer; `None` if rows differ."""
        return self.columns[name].shape

    def take(self, rows: np.ndarray) -> dict[str, Column]:
        """Return some rows of every answer: all in their order are not copied, and read-only."""
        if len(rows) == len(self) and (rows[1:] == rows[:-1] + 1).all():
            return {name: one.read_only() for name, one in self.columns.items()}
        return {name: one.take(rows) for name, one in self.columns.items()}


class Answers:
    """Finds rows in the parts that hold them.

    Args:
        names: Names of the answers.
        parts: The objects that hold the rows, one part after another.
    """

    def __init__(self, names: Sequence[str], parts: Sequence[Held | Shard]):
        self.names, self._parts = list(names), list(parts)
        self._stops = np.cumsum([len(part) for part in parts])
        #: Dtype per answer: float32 if one of its parts is float32.
        self.dtypes = {n: np.result_type(*{part.dtype(n) for part in parts}) for n in names}
        self.shapes = {n: _common([part.shape(n) for part in parts]) for n in names}

    @property
    def nbytes(self) -> int:
        """Bytes of the answers, wherever they are."""
        return sum(part.nbytes for part in self._parts)

    def take(self, rows: np.ndarray) -> dict[str, Column]:
        """Return some rows of every answer, in their dtype of the whole."""
        if len(self._parts) == 1:
            return self._parts[0].take(rows)
        where = np.searchsorted(self._stops, rows, side="right")
        order = np.argsort(where, kind="stable")
        numbers, firsts = np.unique(where[order], return_index=True)
        if not len(numbers):
            return self._parts[0].take(rows)
        whole = {name: Growing() for name in self.names}
        for number, own in zip(numbers.tolist(), np.split(order, firsts[1:]), strict=True):
            part = self._parts[number]
            found = part.take(rows[own] - (self._stops[number] - len(part)))
            for name, growing in whole.items():
                growing.add(found[name])
        back = np.argsort(order)
        in_order = (back[1:] > back[:-1]).all()
        columns = {}
        for name, growing in whole.items():
            growing.trim()
            column = growing.column().astype(self.dtypes[name])
            columns[name] = column if in_order else column.take(back)
        return columns

    def batch(self, rows: np.ndarray) -> list[np.ndarray]:
        """Return some rows of every answer as arrays.

        Raises:
            ValueError: if their answers have different shapes.
        """
        found = []
        for name, one in self.take(rows).items():
            values = one.values
            if one.sizes is not None:
                if len(one):
                    raise ValueError("These examples have answers of different shapes.")
                values = values.reshape(0, *(size or 0 for size in self.shapes[name]))
            found.append(values)
        return found


def _common(shapes: list[list]) -> list[int | None]:
    return [sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(*shapes, strict=True)]
