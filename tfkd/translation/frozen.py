"""Layers that don't train because of the model around them, in a copy without that model."""

from __future__ import annotations

from tfkd.errors import UnsupportedError, raise_all
from tfkd.model import backends, graph
from tfkd.model.layer_kinds import kind_of


def frozen_from_outside(model) -> list:
    """Return the layers that would train if they were not in a frozen nested model.

    This applies to tf_keras. Keras 3 asks each weight, which a layer sets when it is frozen.
    """
    if backends.flavour(model) == "keras":
        return []
    trained = {id(weight) for layer in model.layers for weight in layer.trainable_weights}
    return [
        layer
        for _, layer in _layers(model)
        if layer.trainable_weights and trained.isdisjoint(map(id, layer.trainable_weights))
    ]


def check_frozen(model) -> None:
    """Raise for a state that `trainable` of the layers of a copy can't express.

    Raises:
        UnsupportedError: for single weights that are frozen, or statistics of batch normalization
            that move in a frozen model.
    """
    problems = []
    if backends.flavour(model) == "keras":
        for path, layer in _layers(model):
            odd = [
                weight.name
                for one in layer._flatten_layers()
                for weight in one._trainable_variables
                if weight.trainable != one.trainable
            ]
            if odd:
                problems.append(f"layer {path!r} has trainable={layer.trainable}, but not {odd}")
    else:
        outside = set(map(id, frozen_from_outside(model)))
        problems += [
            f"layer {path!r} is in a frozen model, but still learns its moving statistics"
            for path, layer in _layers(model)
            if id(layer) in outside and kind_of(layer) == "BatchNormalization"
        ]
    raise_all(
        problems,
        UnsupportedError,
        fix="Set layer.trainable of these layers themselves.",
        code="frozen-parts",
    )


def _layers(model) -> list:
    return [pair for pair in graph.walk(model).layers if hasattr(pair[1], "_flatten_layers")]
