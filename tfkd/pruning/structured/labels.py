"""Labels of channels: which number belongs to which, and which labels must go together.

An array of labels has an axis for each axis of a tensor but the batch, of size 1 where the axis
has no channels.
"""

from __future__ import annotations

import numpy as np

#: The label, and the group, of everything that must stay.
KEPT = 0


class Whole(Exception):  # noqa: N818  not an error: a decision
    """Raised by a rule that can't reason about a call."""


class Register:
    """What the rules have said so far.

    Attributes:
        axes: Id of a variable → {axis: label of each slice}.
        counts: Id of a layer → {name in its configuration: labels of what that number counts}.
        shapes: Id of a Reshape → labels of its result, flat.
        tensors: Index of a tensor → its labels.
    """

    def __init__(self):
        self.axes: dict[int, dict[int, np.ndarray]] = {}
        self.counts: dict[int, dict[str, np.ndarray]] = {}
        self.shapes: dict[int, np.ndarray] = {}
        self.tensors: dict[int, np.ndarray] = {}
        self._parents = [KEPT]

    def new(self, count: int) -> np.ndarray:
        """Return labels that nothing has yet."""
        labels = np.arange(len(self._parents), len(self._parents) + count)
        self._parents.extend(int(label) for label in labels)
        return labels

    def bind(self, some: np.ndarray, others) -> None:
        """Put labels at the same place into one group."""
        pairs = np.stack(np.broadcast_arrays(some, others)).reshape(2, -1)
        for a, b in np.unique(pairs, axis=1).T:
            a, b = self._root(int(a)), self._root(int(b))
            self._parents[max(a, b)] = min(a, b)

    def keep(self, labels: np.ndarray) -> None:
        """Say that labels must stay."""
        self.bind(labels, KEPT)

    def slices(self, variable, axis: int, labels: np.ndarray) -> None:
        """Say which channel each slice of a weight belongs to; of `None` nothing is said."""
        if variable is None:
            return
        labels = np.broadcast_to(labels, (variable.shape[axis],))
        known = self.axes.setdefault(id(variable), {})
        if axis in known:  # a layer that is called again
            self.bind(known[axis], labels)
        else:
            known[axis] = np.array(labels)

    def counted(self, layer, name: str, count: int | None = None) -> np.ndarray:
        """Return the labels of what a number in a layer's configuration counts, at each call."""
        own = self.counts.setdefault(id(layer), {})
        if name not in own:
            own[name] = self.new(getattr(layer, name) if count is None else count)
        return own[name]

    def of_layer(self, layer) -> list[np.ndarray]:
        """Return what an earlier call of a layer, or half a rule, said of it."""
        axes = [self.axes.get(id(weight), {}) for weight in getattr(layer, "weights", ())]
        return [
            *self.counts.get(id(layer), {}).values(),
            *(labels for of in axes for labels in of.values()),
        ]

    def groups(self) -> np.ndarray:
        """Return the group of each label; `KEPT` is the group of what stays."""
        return np.array([self._root(label) for label in range(len(self._parents))])

    def _root(self, label: int) -> int:
        while self._parents[label] != label:
            self._parents[label] = self._parents[self._parents[label]]
            label = self._parents[label]
        return label


def kept(shape) -> np.ndarray:
    """Return the labels of a tensor of which everything stays; its shape has the batch."""
    return np.full((1,) * (len(shape) - 1), KEPT)


def on_last(labels: np.ndarray, rank: int) -> np.ndarray:
    """Return flat labels as those of the last axis of a tensor; its rank counts the batch."""
    return labels.reshape((1,) * (rank - 2) + (-1,))


def of_last(labels: np.ndarray, size: int | None) -> np.ndarray:
    """Return the labels of the last axis, flat, if all other axes agree on them.

    Raises:
        Whole: if they don't, or the size is free.
    """
    if any(length != 1 for length in labels.shape[:-1]):  # of a reshape
        flat = labels.reshape(-1, labels.shape[-1])
        if (flat != flat[0]).any():
            raise Whole("its channels are not on the last axis")
        labels = flat[0]
    if size is None:
        raise Whole("its input has a free size")
    return np.broadcast_to(labels.reshape(-1), (size,))
