"""The real shapes of a model's outputs, where Keras states others.

Keras 3.15 states an axis too many for the output of `TextVectorization(output_mode="multi_hot")`,
and one too few for `Hashing(output_mode="one_hot")`; a user's own layer may be wrong, too.
"""

from __future__ import annotations

import contextlib
import dataclasses

import tensorflow as tf

from tfkd.model import binding, graph

#: Layers whose stated shape differs from that of their output, in Keras 3.15.
_WRONG = ("TextVectorization", "Hashing")


def outputs_of(model, owner: str, always: bool = False) -> binding.Slots:
    """Return the outputs of a model with a graph, with their real shapes.

    Args:
        model: A Keras 3 or tf_keras model that has a graph.
        owner: As for `binding.outputs_of`.
        always: Whether to run the model in any case, and not only if Keras is known to be wrong.
    """
    walked = graph.walk(model)
    slots = binding.outputs_of(model, owner, walked)
    # If the model can't run on blank examples, only the shapes that Keras states remain.
    with contextlib.suppress(Exception):
        if always or any(call.kind in _WRONG for call in walked.calls):
            return _with_shapes(slots, [_shapes(model, walked, size) for size in (2, 3)])
    return slots


def _shapes(model, walked: graph.Graph, size: int) -> list[tuple]:
    """Return the shapes of the outputs for blank examples, with free axes set to a size."""

    def blank(tensor):
        free = [2, *[size] * len(tensor.shape[1:])]
        shape = [f if s is None else s for s, f in zip(tensor.shape, free, strict=True)]
        return tf.fill(shape, "") if tensor.dtype == "string" else tf.zeros(shape, tensor.dtype)

    inputs = graph.as_structured(walked, [blank(tensor) for tensor in walked.input_list])
    return [tuple(leaf.shape) for leaf in graph.leaves(model(inputs, training=False))]


def _with_shapes(slots: binding.Slots, found: list[list[tuple]]) -> binding.Slots:
    """Return slots with real shapes; an axis that depends on the inputs' size stays free."""
    entries = []
    for slot, one, other in zip(slots.entries, *found, strict=True):
        rest = [a if a == b else None for a, b in zip(one[1:], other[1:], strict=True)]
        batch = slot.shape[0] if len(slot.shape) == len(one) else None
        entries.append(dataclasses.replace(slot, shape=(batch, *rest)))
    return dataclasses.replace(slots, entries=tuple(entries))
