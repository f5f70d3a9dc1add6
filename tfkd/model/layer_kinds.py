"""Which kind of layer is it: the library's class whose computation a layer runs.

A subclass of a library's layer has its base's kind as long as it overrides nothing that the base
computes with. A subclass that overrides `call`, or anything else that the base's `call` may use,
has the kind `None`, since nothing is known about it. The same holds for a user's class that only
has the name of a library's class.
"""

from __future__ import annotations

import functools
import inspect
import re
import types
import warnings
from collections.abc import Callable
from typing import Any

from tfkd.errors import UnsupportedError

LIBRARIES = frozenset({"keras", "tf_keras", "tensorflow", "tensorflow_model_optimization", "tfkd"})

#: Layers with a loop over time, and the wrapper that runs such a layer in both directions.
CELLS_IN_TIME = ("LSTM", "GRU", "SimpleRNN")
RECURRENT = frozenset({*CELLS_IN_TIME, "Bidirectional"})

#: tfmot's wrappers of one layer, by purpose.
QUANTIZING = frozenset({"QuantizeWrapper", "QuantizeWrapperV2"})
SPARSIFYING = frozenset(
    {"PruneLowMagnitude", "ClusterWeights", "ClusterWeightsRNN", "ClusterWeightsMHA"}
)

#: Lookups, whose `adapt` learns a vocabulary that is in no setting and no variable.
WITH_VOCABULARY = frozenset({"IntegerLookup", "StringLookup", "TextVectorization"})

# Methods that a subclass may define without changing what its base computes from the weights.
_HARMLESS = frozenset({
    "build_from_config", "compute_output_shape", "compute_output_spec", "from_config",
    "get_build_config", "get_config", "load_own_variables", "save_own_variables",
})  # fmt: skip
# tf_keras's layers for TensorFlow functions, which set `call` on each instance.
_SETS_CALL = frozenset({"TFOpLambda", "ClassMethod"})
# Special methods of Python that decide what a call or an attribute access does.
_DECISIVE = frozenset({"__call__", "__getattribute__", "__getattr__"})


def kind_of(layer: Any, *, any_weights: bool = False) -> str | None:
    """Return the name of the library's class that defines what a layer computes.

    Args:
        layer: A layer, model, operation or cell of either Keras.
        any_weights: Whether to accept a class that makes its weights in a `build` of its own.

    Returns:
        For example `"Dense"`; `None` if a user's own class defines it.
    """
    found = class_of(layer, is_of_library, any_weights)
    return None if found is None else found.__name__


def class_of(
    layer: Any, is_known: Callable[[type], bool], any_weights: bool = False
) -> type | None:
    """Return the class that defines what a layer computes, if it is a known one.

    Args:
        layer: As in `kind_of`.
        is_known: Whether a class is known.
        any_weights: As in `kind_of`.

    Returns:
        The first known class among the layer's own and its bases; `None` if there is none, or a
        class before it overrides what it computes with.
    """
    own = {"call"} if _has_own_call(layer) else set()
    for kind in type(layer).__mro__:
        if is_known(kind):
            return None if own and not own.isdisjoint(_names_in(kind)) else kind
        own |= set(filter(_is_decisive, vars(kind)))
        own -= {"build"} if any_weights else set()
    return None


def is_of_library(kind: type) -> bool:
    """Tell whether a class comes from Keras, TensorFlow, tfmot or tfkd."""
    return kind.__module__.split(".")[0] in LIBRARIES


def remade(layer: Any, **changes: Any) -> Any:
    """Return a new, unbuilt layer that computes what a layer does, with other settings.

    A subclass that computes the same as its base becomes the base: its own constructor may change
    the settings.

    Args:
        layer: A layer of either Keras, with a `get_config()`.
        **changes: Settings that differ.

    Raises:
        UnsupportedError: if Keras can't make the layer from its configuration.
    """
    kind = class_of(layer, is_of_library) or type(layer)
    config = {**configuration(layer, kind), **changes}
    try:
        return kind.from_config(config)
    except (TypeError, ValueError, KeyError) as error:
        raise UnsupportedError(
            f"The layer {layer.name!r} ({type(layer).__name__}) can't be copied: Keras refused its "
            f"configuration ({reason(error)}). Register its classes and functions with "
            "register_keras_serializable() of its Keras.",
            code="other-keras",
        ) from error


def configuration(layer: Any, kind: type | None = None) -> dict[str, Any]:
    """Return a layer's configuration, with its activation functions themselves.

    By their names, Keras would not find a lambda or a nested function, and for a user's function
    that is named like a built-in one it would take that.

    Args:
        layer: A layer of either Keras, with a `get_config()`.
        kind: The class whose configuration to take; defaults to the layer's own.
    """
    kind = kind or type(layer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a lambda can't be loaded again
        config = dict(kind.get_config(layer))
    if is_of_library(kind):
        for key in config:
            function = getattr(layer, key, None) if key.endswith("activation") else None
            if hasattr(function, "quantizer"):  # tfmot's, made of the layer's in its wrapper
                function = function.activation
            if callable(function) and not getattr(function, "weights", None):  # they are not shared
                config[key] = function
        for key in ("layer", "cell"):  # of TimeDistributed and RNN
            held, saved = getattr(layer, key, None), config.get(key)
            is_saved = isinstance(saved, dict) and "config" in saved
            if is_saved and held is not None and is_of_library(type(held)):
                config[key] = {**saved, "config": configuration(held)}
    return config


def function_name(function: Any) -> str | None:
    """Return the name of a library's function, such as an activation.

    Returns:
        For example `"relu"`; `None` for a user's own function, whatever its name, and for others
        without a name.
    """
    module = getattr(function, "__module__", None) or ""
    return getattr(function, "__name__", None) if module.split(".")[0] in LIBRARIES else None


def reason(error: Exception) -> str:
    """Return the line of one of Keras's own messages that says what is wrong."""
    lines = [line.strip() for line in re.sub(r"\x1b\[\d+m", "", str(error)).splitlines()]
    telling = [line for line in lines if line and not line.startswith("Exception encountered")]
    return telling[0] if telling else type(error).__name__


def inner(layer: Any) -> Any:
    """Return the layer in a wrapper such as `TimeDistributed` or tfmot's, or the layer."""
    return getattr(layer, "layer", layer)


def stateful_layers(layer: Any) -> list[Any]:
    """Return the layers that keep a state from call to call, of a layer or model of either Keras.

    A wrapper that declares itself stateful, such as `Bidirectional`, comes before its layers.
    """
    # tf_keras calls a model stateful if one of its layers is.
    return [
        one
        for one in layer._flatten_layers()
        if getattr(one, "stateful", False) is True and not hasattr(one, "layers")
    ]


def takes_mask(layer: Any) -> bool:
    """Tell whether a layer's result depends on the mask of its input."""
    while kind_of(layer) == "TimeDistributed":  # passes it on
        layer = layer.layer
    if hasattr(layer, "layers"):  # a nested model passes it on as well
        return any(map(takes_mask, layer.layers))
    names = inspect.signature(layer.call).parameters
    return any(n == "mask" or (n.endswith("_mask") and n != "attention_mask") for n in names)


def _has_own_call(layer: Any) -> bool:
    """Tell whether a layer has its own `call`, set on the instance, not the class.

    After writing a SavedModel, tf_keras leaves the class's own `call` on the instance.
    """
    call = getattr(layer, "__dict__", {}).get("call")
    if call is None or getattr(call, "__func__", None) is type(layer).call:
        return False
    return not any(kind.__name__ in _SETS_CALL for kind in type(layer).__mro__)


def _is_decisive(name: str) -> bool:
    if name.startswith("__") and name.endswith("__"):
        return name in _DECISIVE
    return name not in _HARMLESS


@functools.lru_cache(maxsize=64)
def _names_in(kind: type) -> frozenset[str]:
    """Return the names that a class defines, or that its methods read or set."""
    found = set(dir(kind))
    for base in kind.__mro__:
        for value in vars(base).values():
            if isinstance(value, (classmethod, staticmethod)):
                value = value.__func__
            for function in (value, getattr(value, "fget", None)):
                if isinstance(function, types.FunctionType):
                    found |= set(function.__code__.co_names)
    return frozenset(found)
