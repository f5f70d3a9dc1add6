"""Examples that stay on disk: an object that is indexed like an array and reads on demand."""

from __future__ import annotations

import numpy as np

from tfkd.errors import InputError


class Rows:
    """Rows of an array that is never held in memory as a whole.

    `rows[i]`, `rows[:n]` and `rows[[3, 1]]` are arrays, read at that moment.

    Args:
        source: An object with `shape` and `dtype` that returns an array for `source[indices]`, such
            as a `numpy.memmap`.
        order: Which rows, in which order. Defaults to all.
    """

    def __init__(self, source, order: np.ndarray | None = None):
        self._source = source
        self._order = np.arange(len(source)) if order is None else np.asarray(order)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole, (examples, ...)."""
        return (len(self._order), *self._source.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """Type of the values."""
        return np.dtype(self._source.dtype)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __len__(self):
        return len(self._order)

    def __getitem__(self, rows):
        chosen = self._order[rows]
        if chosen.ndim == 0:
            return np.asarray(self._source[chosen[None]])[0]
        return np.asarray(self._source[chosen])

    def __array__(self, dtype=None, copy=None):
        raise InputError(
            f"These {len(self)} examples of shape {self.shape[1:]} stay on disk and can't be read "
            "all at once: read some of them, such as x[:1000], or batches from Samples.dataset(32)."
        )

    def take(self, rows) -> Rows:
        """Return some of the rows, unread.

        Args:
            rows: Integer array of shape (count,).
        """
        return Rows(self._source, self._order[rows])


def is_on_disk(x) -> bool:
    """Tell whether examples are read from disk on demand."""
    return isinstance(x, (Rows, np.memmap))


def taken(x, rows: np.ndarray):
    """Return some rows of an array, or of examples on disk, which stay there."""
    if isinstance(x, np.memmap):
        x = Rows(x)
    return x.take(rows) if isinstance(x, Rows) else x[rows]
