"""Which row an example is in: sorted keys, searched by halving."""

from __future__ import annotations

import numpy as np

#: The row of a missing example, and of one that has the key of another example.
UNKNOWN, OTHER = -1, -2


class Index:
    """Finds rows by key and check, in 24 bytes a row.

    Rows are added a batch at a time, each as a sorted run; runs of like size are merged, so
    adding n rows takes n log n time. With one run (`merge`) it may be read by several threads.
    """

    def __init__(self) -> None:
        self._runs: list[tuple[np.ndarray, ...]] = []
        self.size = 0

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return sum(array.nbytes for run in self._runs for array in run)

    def add(self, keys: np.ndarray) -> None:
        """Give the next row numbers to keys and checks: int64 (rows, 2), none of them known."""
        if not len(keys):
            return
        order = np.argsort(keys[:, 0], kind="stable")
        self._runs.append((keys[order, 0], keys[order, 1], order + self.size))
        self.size += len(keys)
        while len(self._runs) > 1 and len(self._runs[-2][0]) < 2 * len(self._runs[-1][0]):
            self._merge_last()

    def merge(self) -> None:
        """Make one run of all."""
        while len(self._runs) > 1:
            self._merge_last()

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Return the row of each key and check (rows, 2), or `UNKNOWN`, or `OTHER`."""
        found = np.full(len(keys), UNKNOWN, np.int64)
        for held, checks, rows in self._runs:
            places = np.minimum(np.searchsorted(held, keys[:, 0]), len(held) - 1)
            there = held[places] == keys[:, 0]
            same = checks[places] == keys[:, 1]
            found[there] = np.where(same, rows[places], OTHER)[there]
        return found

    def _merge_last(self) -> None:
        last, before = self._runs.pop(), self._runs.pop()
        order = np.argsort(np.concatenate([before[0], last[0]]), kind="stable")
        merged = (np.concatenate(pair)[order] for pair in zip(before, last, strict=True))
        self._runs.append(tuple(merged))
