"""Follow the kinds of tensors through a graph, from the inputs to the outputs."""

from __future__ import annotations

import dataclasses

from tfkd.errors import UnsupportedError
from tfkd.model import graph
from tfkd.output_kind import rules
from tfkd.output_kind.kinds import Kind, Value


@dataclasses.dataclass(frozen=True)
class OutputKind:
    """The kind of one output of a model.

    Attributes:
        activation: `"softmax"` (probabilities that sum to 1 along `class_axis`), `"sigmoid"`
            (each a probability by itself), `"linear"` (free values, so logits if they stand for
            classes), or `None` if unknown.
        class_axis: Class axis of a softmax, counted from 0 with the batch; `None` otherwise.
        rank: Number of axes of the output with the batch; `None` if it is not known.
    """

    activation: str | None
    class_axis: int | None = None
    rank: int | None = None

    @property
    def is_last(self) -> bool:
        """Whether the classes, if there are any, are along the last axis."""
        return self.class_axis is None or self.class_axis + 1 == self.rank


def output_kinds(model) -> list[OutputKind]:
    """Return the kind of each output of a model, followed through all calls that preserve it.

    An average of softmaxes, a slice of them or a softmax with moved axes still holds probabilities.
    A sum of softmaxes and logits holds neither, and the output of a user's own layer is unknown.

    Args:
        model: A Keras 3 or tf_keras model.

    Returns:
        An `OutputKind` per output, flattened as Keras does; of unknown kind for a subclassed model
        and for a model with a `call` of its own, which need not run its graph.

    Raises:
        InputError: if `model` is no Keras model, or a Sequential that is not built.

    Example:
        >>> import keras
        >>> x = keras.Input((4,))
        >>> p, q = (keras.layers.Dense(3, activation="softmax")(x) for _ in range(2))
        >>> output_kinds(keras.Model(x, [(p + q) / 2, p + q]))[0].activation
        'softmax'
    """
    try:
        source = graph.walk(model)
    except (UnsupportedError, ValueError):  # the second from tensors of unknown rank
        return [OutputKind(None)] * len(getattr(model, "outputs", None) or [None])
    kinds = follow(source)
    return [_output_kind(kinds.get(tensor.index), tensor) for tensor in source.output_list]


def output_activations(model) -> list[str | None]:
    """Return the activation of each output of a model, with classes along the last axis.

    Args:
        model: A Keras 3 or tf_keras model.

    Returns:
        Per output `"softmax"`, `"sigmoid"` or `"linear"`; `None` if that is unknown, or if the
        classes of a softmax are not along the last axis (see `output_kinds`).
    """
    return [kind.activation if kind.is_last else None for kind in output_kinds(model)]


def activation_behind(source: graph.Graph, tensor: graph.Tensor) -> str | None:
    """Return the activation of one output of a graph, as `output_activations` does."""
    kind = _output_kind(follow(source).get(tensor.index), tensor)
    return kind.activation if kind.is_last else None


def follow(source: graph.Graph, given=()) -> dict[int, Kind | None]:
    """Return the kind of every tensor of a graph that a call makes.

    It is one pass over the calls, so that a deep graph needs no deep stack.

    Args:
        source: The graph.
        given: Kinds of the inputs, flat, if they are known.
    """
    inputs = source.input_list
    kinds = dict(zip((tensor.index for tensor in inputs), given, strict=False))
    for call in source.calls:
        kind = _kind_of(call, kinds)
        kinds.update((tensor.index, kind) for tensor in call.outputs)
    return kinds


def _kind_of(call: graph.Call, kinds) -> Kind | None:
    def seen(leaf):
        if isinstance(leaf, graph.Tensor):
            return Value(kinds.get(leaf.index), leaf.shape)
        return leaf

    args, kwargs = graph.map_structure(seen, call.args), graph.map_structure(seen, call.kwargs)
    values = tuple(leaf for leaf in graph.leaves((args, kwargs)) if isinstance(leaf, Value))
    if not call.outputs:
        return None
    return rules.kind_of_call(
        rules.Site(call.layer, values, call.outputs[0].shape, args, kwargs), _inside
    )


def _inside(model, values: list[Value]) -> list[Kind | None]:
    """Follow a model that a layer applies to given values."""
    try:
        source = graph.walk(model)
    except (UnsupportedError, ValueError):
        return [None]
    kinds = follow(source, [value.kind for value in values])
    return [kinds.get(tensor.index) for tensor in source.output_list]


def _output_kind(kind: Kind | None, tensor: graph.Tensor) -> OutputKind:
    rank = len(tensor.shape)
    if kind is None or kind.name == "values" or not kind.is_whole:
        return OutputKind(None, rank=rank)
    return OutputKind(kind.name, kind.axis, rank)
