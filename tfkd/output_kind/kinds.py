"""The kinds of values that a graph computes with, and the arithmetic of kinds.

A kind is `None` if nothing is known. That is the safe answer: the caller then asks.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from tfkd.model import graph

#: Relative tolerance of probabilities: 0.333 three times is 0.999.
_TOLERANCE = 2e-3


@dataclasses.dataclass(frozen=True)
class Kind:
    """The meaning of a tensor's numbers.

    Attributes:
        name: `"softmax"` (sums to `mass` along `axis`), `"sigmoid"` (each in (0, mass)),
            `"linear"` (free values, so logits if they stand for classes), or `"values"` (free
            values behind an activation such as relu: no logits by themselves, but sums and means of
            them are).
        axis: The class axis of a softmax, counted from 0 with the batch.
        mass: The factor that the probabilities are multiplied with.
        complement: Whether a sigmoid was subtracted from 1.
    """

    name: str
    axis: int | None = None
    mass: float = 1.0
    complement: bool = False

    @property
    def is_free(self) -> bool:
        """Whether these are free values and no probabilities."""
        return self.name in ("linear", "values")

    @property
    def is_whole(self) -> bool:
        """Whether probabilities are not scaled: they sum to 1 or reach up to 1."""
        return abs(self.mass - 1.0) <= _TOLERANCE


LINEAR, VALUES, SIGMOID = Kind("linear"), Kind("values"), Kind("sigmoid")


@dataclasses.dataclass(frozen=True)
class Value:
    """A tensor as the rules see it: its kind (`None`: unknown) and its shape with the batch."""

    kind: Kind | None
    shape: tuple[int | None, ...]

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self.shape)


def softmax(axis, rank: int) -> Kind | None:
    """Return the kind of a softmax over an axis; over the batch it is no classes'."""
    if isinstance(axis, (tuple, list)):
        if len(axis) != 1:
            return None
        (axis,) = axis
    axis = int(axis) % rank
    return Kind("softmax", axis) if axis > 0 else None


def free(values: list[Value]) -> Kind | None:
    """Return `VALUES` if all are free values: for a call that mixes or bends them."""
    return VALUES if all(v.kind is not None and v.kind.is_free for v in values) else None


def moved(kind: Kind | None, axis: int | None) -> Kind | None:
    """Return a kind whose class axis went elsewhere; lost (`None`), only a softmax is."""
    if kind is None or kind.axis is None:
        return kind
    return None if axis is None else dataclasses.replace(kind, axis=axis)


def added(values: list[Value], shape) -> Kind | None:
    """Return the kind of a sum, operands broadcast to `shape`."""
    kinds = [broadcast(value, shape) for value in values]
    if not kinds or None in kinds:
        return None
    if all(kind.is_free for kind in kinds):
        return LINEAR
    if len({dataclasses.replace(kind, mass=1.0) for kind in kinds}) > 1:
        return None
    return dataclasses.replace(kinds[0], mass=sum(kind.mass for kind in kinds))


def scaled(kind: Kind | None, factor) -> Kind | None:
    """Return the kind of a product with a constant, `None` for a factor that is not one number."""
    if kind is None:
        return None
    if kind.is_free:
        return kind
    factor = number(factor)
    if factor is None or not (math.isfinite(factor) and factor > 0):
        return None
    return dataclasses.replace(kind, mass=kind.mass * factor)


def shifted(kind: Kind | None, offset) -> Kind | None:
    """Return the kind of a sum with a constant."""
    if kind is None or kind == LINEAR or kind.name == "linear":
        return kind
    # (tanh(x) + 1) / 2 is a sigmoid: constants can turn bent values into any kind.
    return kind if number(offset) == 0.0 else None


def broadcast(value: Value, shape) -> Kind | None:
    """Return the kind of a tensor that is broadcast to a shape, aligned at the last axis."""
    kind = value.kind
    if kind is None or kind.axis is None:
        return kind
    axis = kind.axis + len(shape) - value.rank
    fits = axis < len(shape) and value.shape[kind.axis] == shape[axis]
    return moved(kind, axis if fits else None)


def joined(values: list[Value], axis: int) -> Kind | None:
    """Return the kind of tensors of equal rank that are put side by side along an axis."""
    kinds = [value.kind for value in values]
    if not kinds or None in kinds:
        return None
    if all(kind.is_free for kind in kinds):
        return LINEAR if all(kind.name == "linear" for kind in kinds) else VALUES
    first = kinds[0]
    same = all(
        dataclasses.replace(kind, mass=first.mass) == first
        and math.isclose(kind.mass, first.mass, rel_tol=1e-6)
        for kind in kinds
    )
    # [1 - p, p] sums to 1: it may be a softmax or two labels.
    return first if same and axis != first.axis else None


def reshaped(value: Value, shape) -> Kind | None:
    """Return the kind of a tensor in another shape: the class axis must be one there too."""
    kind = value.kind
    if kind is None or kind.axis is None:
        return kind
    size, after = value.shape[kind.axis], graph.entries_of(value.shape[kind.axis + 1 :])
    if size is None or after is None:
        return kind if tuple(shape) == value.shape else None
    for axis in range(len(shape) - 1, 0, -1):
        if shape[axis] == size and graph.entries_of(shape[axis + 1 :]) == after:
            return moved(kind, axis)
    return None


def without(value: Value, axes, keepdims: bool = False) -> Kind | None:
    """Return the kind of a tensor some of whose axes are gone: a softmax keeps its own."""
    axis = value.kind and value.kind.axis
    if axis is None:
        return value.kind
    axes = {int(one) % value.rank for one in axes}
    if axis in axes:
        return None
    return moved(value.kind, axis if keepdims else axis - sum(one < axis for one in axes))


def number(constant) -> float | None:
    """Return a constant as one number; arrays only where all their entries are equal."""
    try:
        array = np.asarray(constant, dtype=float)
    except (TypeError, ValueError):
        return None
    if array.size == 0 or not (array == array.flat[0]).all():
        return None
    return float(array.flat[0])
