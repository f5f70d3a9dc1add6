"""Labels of channels: which number belongs to which, and which labels must go together.

An array of labels has an axis for each axis of a tensor but the batch, of size 1 where the axis
has no channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tfkd.model import graph

#: The label and group of everything that must stay.
KEPT = 0


class NotPrunable(Exception):  # noqa: N818  not an error: a decision
    """A pruning rule raises this for a call that it can't reason about; the text says why.

    The layer then keeps all its channels, and so do the layers that it reads from.
    """


class Channels:
    """The channels of a model, as far as the pruning rules have described them.

    Each channel has a label, a number. An array of labels has an axis for each axis of a tensor
    but the batch, of size 1 where the axis has no channels.

    Attributes:
        axes: Id of a variable → {axis: label of each slice}.
        counts: Id of a layer → {name in its configuration: labels of what that number counts}.
        shapes: Id of a Reshape → labels of its result, flat.
        tensors: Index of a tensor → its labels.
    """

    def __init__(self) -> None:
        self.axes: dict[int, dict[int, np.ndarray]] = {}
        self.counts: dict[int, dict[str, np.ndarray]] = {}
        self.shapes: dict[int, np.ndarray] = {}
        self.tensors: dict[int, np.ndarray] = {}
        self._count = 1  # group of each label; KEPT is the first
        self._pairs: list[np.ndarray] = []

    def new(self, count: int) -> np.ndarray:
        """Return the labels of new channels, flat."""
        self._count += count
        return np.arange(self._count - count, self._count)

    def of_input(self, call: graph.Call, position: int = 0) -> np.ndarray:
        """Return the labels of the last axis of one of a call's inputs, flat.

        Args:
            call: A call of a layer.
            position: Position of the input among all tensors that the call gets.

        Raises:
            NotPrunable: if the channels are not on the last axis, or its size is free.
        """
        tensor = call.inputs[position]
        return of_last(self.tensors[tensor.index], tensor.shape[-1])

    def as_output(self, call: graph.Call, labels: np.ndarray, position: int = 0) -> np.ndarray:
        """Return flat labels as those of the last axis of one of a call's outputs."""
        return on_last(np.asarray(labels), len(call.outputs[position].shape))

    def bind(self, some: np.ndarray, others: np.ndarray | int) -> None:
        """Say that labels at the same place go together; the arrays are broadcast."""
        some, others = np.broadcast_arrays(some, others)
        apart = some != others
        self._pairs.append(np.unique(np.stack([some[apart], others[apart]]), axis=1))

    def keep(self, labels: np.ndarray) -> None:
        """Say that channels must stay."""
        self.bind(labels, KEPT)

    def slices(self, variable: Any, axis: int, labels: np.ndarray) -> None:
        """Say which channel each slice of a weight along an axis belongs to.

        Args:
            variable: A weight of the layer, or `None`, which is ignored.
            axis: An axis of it.
            labels: One for each slice, or one for all.

        Raises:
            ValueError: for another axis, or another number of labels.
        """
        if variable is None:
            return
        shape = tuple(variable.shape)
        if not -len(shape) <= axis < len(shape):
            raise ValueError(f"the weight {variable.name!r} of shape {shape} has no axis {axis}")
        if np.shape(labels) not in ((), (1,), (shape[axis],)):
            raise ValueError(
                f"axis {axis} of the weight {variable.name!r} of shape {shape} takes "
                f"{shape[axis]} labels, got an array of shape {np.shape(labels)}"
            )
        labels = np.broadcast_to(labels, (shape[axis],))
        known = self.axes.setdefault(id(variable), {})
        if axis in known:  # a layer that is called again
            self.bind(known[axis], labels)
        else:
            known[axis] = np.array(labels)

    def whole(self, variable: Any) -> None:
        """Say that a weight has no axis that goes with channels."""
        self.axes.setdefault(id(variable), {})

    def counted(self, layer: Any, name: str, count: int | None = None) -> np.ndarray:
        """Return the labels of the channels that a number in a layer's configuration counts.

        They are the same at each call of the layer, new at the first.

        Args:
            layer: The layer.
            name: Name of the number, such as `"units"`; the smaller layer is built with a smaller
                one.
            count: The number; defaults to the layer's attribute of that name.
        """
        own = self.counts.setdefault(id(layer), {})
        if name not in own:
            own[name] = self.new(getattr(layer, name) if count is None else count)
        return own[name]

    def of_layer(self, layer) -> list[np.ndarray]:
        """Return the labels that an earlier call of a layer, or half a rule, gave it."""
        axes = [self.axes.get(id(weight), {}) for weight in getattr(layer, "weights", ())]
        return [
            *self.counts.get(id(layer), {}).values(),
            *(labels for of in axes for labels in of.values()),
        ]

    def groups(self) -> np.ndarray:
        """Return the group of each label, which is its least one: `KEPT` of what stays."""
        from scipy.sparse import coo_array, csgraph

        pairs = np.concatenate([np.zeros((2, 0), int), *self._pairs], 1)
        links = coo_array((np.ones(pairs.shape[1]), pairs), (self._count, self._count))
        _, numbers = csgraph.connected_components(links, directed=False)
        _, first = np.unique(numbers, return_index=True)
        return first[numbers]


def kept(shape) -> np.ndarray:
    """Return the labels of a tensor that keeps everything; its shape includes the batch."""
    return np.full((1,) * (len(shape) - 1), KEPT)


def on_last(labels: np.ndarray, rank: int) -> np.ndarray:
    """Return flat labels as those of the last axis of a tensor; its rank counts the batch."""
    return labels.reshape((1,) * (rank - 2) + (-1,))


def of_last(labels: np.ndarray, size: int | None) -> np.ndarray:
    """Return the labels of the last axis, flat, if all other axes agree on them.

    Raises:
        NotPrunable: if they don't, or the size is free.
    """
    if any(length != 1 for length in labels.shape[:-1]):  # of a reshape
        flat = labels.reshape(-1, labels.shape[-1])
        if (flat != flat[0]).any():
            raise NotPrunable("its channels are not on the last axis")
        labels = flat[0]
    if size is None:
        raise NotPrunable("its input has a free size")
    return np.broadcast_to(labels.reshape(-1), (size,))
