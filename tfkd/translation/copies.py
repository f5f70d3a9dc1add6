"""The same model again: new layers of the same classes, with the same settings and weights."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tfkd.errors import UnsupportedError
from tfkd.model import backends
from tfkd.model.layer_kinds import is_of_library, reason
from tfkd.translation import layers


def copy_of(model):
    """Return a model of the same structure, weights and `trainable` flags, not compiled.

    Raises:
        UnsupportedError: naming a layer that can't be built from its configuration.
    """
    copy = _clone(model)
    copy_flags(model, copy)  # tf_keras orders weights by these flags
    set_weights(copy, weights_of(model))
    return copy


def with_new_weights(model, seed: int):
    """Return a copy with new random weights, except in layers that are not trained.

    These are frozen layers, and those whose `adapt` has learned the statistics of the data.
    """
    backends.package_of(model).utils.set_random_seed(seed)
    copy = _clone(model)
    copy_flags(model, copy)
    for layer, new in zip(model._flatten_layers(), copy._flatten_layers(), strict=True):
        if layer.weights and not layer.trainable_weights:
            set_weights(new, weights_of(layer))
    return copy


def copy_flags(source, target) -> None:
    """Copy `trainable` from one layer or model to another, and to the layers inside it.

    Raises:
        UnsupportedError: if the two contain different layers.
    """
    before, after = list(source._flatten_layers()), list(target._flatten_layers())
    if [type(one) for one in before] != [type(one) for one in after]:
        raise UnsupportedError(
            f"Rebuilt from its configuration, {source.name!r} ({type(source).__name__}) contains "
            "different layers; make its get_config complete.",
            code="layer-configuration",
        )
    for one, other in zip(before, after, strict=True):  # an outer layer sets all its inner ones
        other.trainable = one.trainable


def again(layer, path: str, change: Callable[[dict[str, Any]], None] | None = None):
    """Return a new, unbuilt layer of the same class and settings.

    Args:
        layer: A layer of either Keras, or an operation of Keras 3.
        path: Its name in messages.
        change: Changes the configuration before the layer is made of it.

    Raises:
        UnsupportedError: if the layer can't be built from its configuration.
    """
    try:
        config = layers.config_of(layer)
        if change is not None:
            change(config)
        return layers.of_config(layer, config)
    except (TypeError, ValueError, KeyError) as error:
        raise UnsupportedError(
            f"The layer {path!r} ({type(layer).__name__}) can't be built again from its "
            f"configuration: {reason(error)}. Give its class a complete get_config(), and register "
            "classes and functions of your own with register_keras_serializable() of its Keras.",
            code="layer-configuration",
        ) from error


def weights_of(layer) -> list[np.ndarray]:
    """Return the weights of a layer or model; what lookups have learned, `again` makes settings."""
    return [variable.numpy() for variable in backends.variables_of(layer)]


def set_weights(layer, values: list[np.ndarray]) -> None:
    """Set the weights of a layer or model as from `weights_of`, and what is derived from them.

    A `Normalization` reads its statistics when it is built, adapted or loaded, and in Keras 3
    `set_weights` does not change that.
    """
    for variable, value in zip(backends.variables_of(layer), values, strict=True):
        variable.assign(value)
    for one in layer._flatten_layers():
        if one.weights and hasattr(one, "finalize_state"):
            one.finalize_state()


def _clone(model):
    """Return a model of the same structure with new weights, not compiled."""
    made: dict[int, Any] = {}
    package = backends.package_of(model)

    def layer_for(layer):
        if id(layer) not in made:
            is_plain = isinstance(layer, package.Model) and is_of_library(type(layer))
            made[id(layer)] = cloned(layer) if is_plain else again(layer, layer.name)
        return made[id(layer)]

    def cloned(one):
        with _uncompiled(one):
            return package.models.clone_model(one, clone_function=layer_for)

    return cloned(model)


@contextlib.contextmanager
def _uncompiled(model) -> Iterator[None]:
    """Hide the losses and metrics of a model: Keras 3 would copy them, too, by their names."""
    compiled = getattr(model, "compiled", False) is True and backends.flavour(model) == "keras"
    if compiled:
        model.compiled = False
    try:
        yield
    finally:
        if compiled:
            model.compiled = True
