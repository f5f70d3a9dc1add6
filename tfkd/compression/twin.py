"""`twin_of`: a tf_keras model that trains instead of a Keras 3 model where that is faster.

Keras 3 normalizes a batch in about ten TensorFlow operations, tf_keras in one fused operation. A
step of a net of convolutions with large maps takes 0.75 to 0.9 of the time that way
(docs/results/distillation.md). The rest of the arithmetic is the same, except for the running
variance: the fused operation takes the sample variance, larger by n / (n - 1), where n is the
number of values of a channel in a batch.

    student ──twin_of──► twin ──fit──► give_back ──► the student, trained
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from tfkd.errors import UnsupportedError
from tfkd.model import backends, graph
from tfkd.translation.model import counterparts, other_precision

# Normalized values per example above which the twin was faster; 13,300 made no difference.
_LEAST = 1 << 14
# With fewer places per map a twin normalizes as Keras 3 does, since n would be small.
_LEAST_MAP = 64


class Twin:
    """A tf_keras model with the layers and weights of a Keras 3 model.

    Attributes:
        model: The model that is trained.
    """

    def __init__(self, model: Any, pairs: list[tuple[Any, Any]]):
        self.model, self._pairs = model, pairs

    def give_back(self) -> None:
        """Give the Keras 3 model the weights of this one."""
        for ours, its in self._pairs:
            ours.assign(its.numpy())


@contextlib.contextmanager
def in_place_of(student: Any) -> Iterator[Any]:
    """Yield the model that trains in a student's place: its twin, or itself.

    Afterwards the student has the trained weights, also if training was interrupted.
    """
    twin = twin_of(student)
    if twin is None:
        yield student
        return
    try:
        yield twin.model
    finally:
        twin.give_back()


def twin_of(student: Any) -> Twin | None:
    """Return a twin that trains in less time, or `None` if there is none.

    Args:
        student: A model of either Keras; it is not changed.

    A twin exists for a flat Keras 3 graph of Keras's own layers in float32, without constraints and
    regularizers, that normalizes many values by channel.
    """
    if backends.flavour(student) != "keras" or not graph.has_graph(student):
        return None
    if graph.overrides_call(student) or other_precision(student) is not None:
        return None
    walked = graph.walk(student)
    normalized = [call for call in walked.calls if _is_fused(call)]
    if sum(math.prod(call.outputs[0].shape[1:]) for call in normalized) < _LEAST:
        return None
    if any(call.kind is None for call in walked.calls) or student.losses:
        return None
    if any(variable.constraint is not None for variable in student.trainable_variables):
        return None
    try:
        model, names = counterparts(student)
    except UnsupportedError:
        return None
    pairs: list[tuple[Any, Any]] = []
    for path, layer in walked.layers:
        if not getattr(layer, "weights", ()):  # an operation has no such attribute
            continue
        if names.get(id(layer)) != path:  # a layer of a nested model, with another name there
            return None
        pairs += zip(layer.weights, backends.weights_in_order(model.get_layer(path)), strict=False)
    complete = len(pairs) == len(student.weights) == len(model.weights)
    if not complete or not all(np.array_equal(a.numpy(), b.numpy()) for a, b in pairs):
        return None
    # Only Keras 3 can freeze a single variable of a layer.
    trained, in_twin = (set(map(id, one.trainable_weights)) for one in (student, model))
    if any((id(a) in trained) != (id(b) in in_twin) for a, b in pairs):
        return None
    for call in normalized:
        if math.prod(call.outputs[0].shape[1:3]) < _LEAST_MAP:
            model.get_layer(call.name).fused = False
    return Twin(model, pairs)


def _is_fused(call: graph.Call) -> bool:
    """Tell whether tf_keras has one operation for a call."""
    shape = call.outputs[0].shape
    return (
        call.kind == "BatchNormalization"
        and len(shape) == 4
        and None not in shape[1:]
        and call.layer.axis in (-1, 3)
    )
