"""Columns of answers: a row per example, plain or of different shapes."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass
class Column:
    """One kind of answer, a row per example.

    Attributes:
        values: Array (rows, ...), or a flat one where rows have different shapes.
        sizes: For a flat array, the shape of each row: int64 (rows, rank).
    """

    values: np.ndarray
    sizes: np.ndarray | None = None

    def __len__(self):
        return len(self.values if self.sizes is None else self.sizes)

    @property
    def shape(self) -> list[int | None]:
        """Shape of a row, `None` where rows differ."""
        return shape_of(self.values.shape[1:], self.sizes)

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.values.nbytes + (0 if self.sizes is None else self.sizes.nbytes)

    @property
    def starts(self) -> np.ndarray:
        """Where each row starts in the flat values, and where the last one ends."""
        return starts_of(self.sizes)

    def take(self, rows: np.ndarray) -> Column:
        """Return some rows, in another order."""
        if self.sizes is None:
            return Column(self.values[rows])
        starts = self.starts
        parts = [self.values[starts[row] : starts[row + 1]] for row in np.asarray(rows).tolist()]
        values = np.concatenate(parts) if parts else self.values[:0]
        return Column(values, self.sizes[rows]).levelled()

    def between(self, start: int, stop: int) -> Column:
        """Return the rows from `start` to before `stop`, not copied."""
        if self.sizes is None:
            return Column(self.values[start:stop])
        first, last = self.starts[[start, min(stop, len(self))]]
        return Column(self.values[first:last], self.sizes[start:stop]).levelled()

    def astype(self, dtype) -> Column:
        """Return the rows in another dtype; not copied where it is this one."""
        with np.errstate(over="ignore"):
            return Column(self.values.astype(dtype, copy=False), self.sizes)

    def read_only(self) -> Column:
        """Return the same rows, read-only."""
        values = self.values.view()
        values.flags.writeable = False
        return Column(values, self.sizes)

    def levelled(self) -> Column:
        """Return a plain array where every row has the same shape."""
        if self.sizes is None or not len(self.sizes) or (self.sizes != self.sizes[:1]).any():
            return self
        return Column(self.values.reshape(len(self.sizes), *self.sizes[0]))


class Growing:
    """A column that rows are added to.

    Its memory grows in place (where the system can: by moving pages, not bytes), so that its
    content exists only once. Do not use columns from `column` after the next `add`.
    """

    def __init__(self) -> None:
        self._flat: np.ndarray | None = None
        self._used = 0
        self._shapes: list[tuple[int, np.ndarray]] = []  # rows, and their shape or shapes

    def __len__(self):
        return sum(rows for rows, _ in self._shapes)

    def add(self, more: Column) -> None:
        """Append rows; float32 rows make the whole column float32."""
        values = more.values.reshape(-1)
        if self._flat is None:
            self._flat = np.empty(values.size, values.dtype)
        dtype = np.promote_types(self._flat.dtype, values.dtype)
        if dtype != self._flat.dtype:
            self._flat = self._flat.astype(dtype)
        stop = self._used + values.size
        if stop > self._flat.size:
            self._flat.resize(max(stop, self._flat.size + self._flat.size // 8), refcheck=False)
        self._flat[self._used : stop] = values
        self._used = stop
        shape = np.array(more.values.shape[1:], np.int64) if more.sizes is None else more.sizes
        self._shapes.append((len(more), shape))

    def column(self) -> Column:
        """Return all rows, not copied."""
        kinds = {tuple(shape) if shape.ndim == 1 else None for _, shape in self._shapes}
        flat = self._flat[: self._used]
        if len(kinds) == 1 and None not in kinds:
            return Column(flat.reshape(len(self), *kinds.pop()))
        sizes = [np.broadcast_to(shape, (rows, shape.shape[-1])) for rows, shape in self._shapes]
        return Column(flat, np.concatenate(sizes)).levelled()

    def trim(self) -> None:
        """Release the memory that no row needs."""
        if self._flat is not None:
            self._flat.resize(self._used, refcheck=False)


def shape_of(tail, sizes: np.ndarray | None) -> list[int | None]:
    """Return the shape of a row, `None` where rows differ."""
    if sizes is None:
        return [int(n) for n in tail]
    same = (sizes == sizes[:1]).all(0) if len(sizes) else sizes.all(0)
    return [int(n) if one else None for n, one in zip(sizes[0], same, strict=True)]


def starts_of(sizes: np.ndarray) -> np.ndarray:
    """Return where rows of these shapes start in flat values, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(np.prod(sizes, 1))]).astype(np.int64)
