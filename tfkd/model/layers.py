"""What a Keras layer or model computes, as values that can be hashed.

Names that Keras gives by counting (`dense_3`) are left out, and so is what acts in training
alone: initializers, regularizers, constraints, seeds. `training_parts` has what of it decides a
training from given weights.
"""

from __future__ import annotations

import functools
import re
import sys
import types
import warnings
from collections.abc import Callable, Mapping

from tfkd.errors import InputError, UnsupportedError
from tfkd.model import backends, code, graph
from tfkd.model.layer_kinds import kind_of

_IN_EACH_STEP = ("_regularizer", "_constraint")
_TRAINING_ONLY = ("_initializer", *_IN_EACH_STEP)
_DROPPED = {"name", "trainable", "seed", "seed_generator"}
_COUNTED = re.compile(r"(input|input_layer|keras_tensor)(_?\d+)?|.*_input(_\d+)?")


def is_operation(value) -> bool:
    """Tell whether a value is a layer, a model or an operation of either Keras."""
    keras = sys.modules.get("keras")
    operation = getattr(keras, "Operation", ()) if keras is not None else ()
    return backends.flavour(value) is not None or isinstance(value, operation)


def layer_parts(layer, digest: Callable) -> dict:
    """Return what decides a layer's or model's answers.

    Args:
        layer: A layer, model or operation of either Keras.
        digest: Returns a short stand-in for a value.

    Raises:
        InputError: for a model that has no weights yet, or can't be identified.
    """
    kind = type(layer)
    parts: dict = {"class": kind, "functions": functions_in(layer)}
    if code.library_name(kind) is None:
        parts["attributes"] = _attributes(layer)
    elif backends.flavour(layer) is None:  # an operation of Keras 3 has no config
        parts["attributes"] = _attributes(layer)
        return parts
    if hasattr(layer, "layers"):
        if not layer.built:
            raise InputError(
                f"The model {layer.name!r} has no weights yet, so it has no fingerprint: "
                "call it on a batch first."
            )
        found = _graph(layer, digest)
        if found is not None:
            return parts | {"graph": found}
    parts["config"] = _config(layer)
    inner = layer._flatten_layers(include_self=False, recursive=False)
    parts["layers"] = [one for one in inner if not type(one).__name__.endswith("Metric")]
    parts["weights"] = list(layer.weights)
    if hasattr(layer, "get_vocabulary"):
        parts["vocabulary"] = list(layer.get_vocabulary())
    return parts


def training_parts(model) -> list:
    """Return what decides a model's training and not its answers.

    Returns:
        For each layer inside the model: whether it is trained, its seed, its regularizers and its
        constraints.
    """
    return [
        [
            layer.trainable,
            getattr(layer, "seed", None),
            {
                name: value
                for name, value in vars(layer).items()
                # In tf_keras, _captured_weight_regularizer lists those of variables to be made.
                if name.endswith(_IN_EACH_STEP) and not name.startswith("_captured")
            },
        ]
        for layer in model._flatten_layers()
    ]


def clean(config):
    """Return a configuration without names that are counted, and what training alone needs."""
    if isinstance(config, Mapping):
        if config.get("class_name") == "__lambda__":
            return "lambda"  # the layer's attribute hashes the code
        inner = config.get("config")
        if "class_name" in config and isinstance(inner, Mapping):
            if "trainable" in inner or "layers" in inner:
                return {"layer": config["class_name"]}  # hashed itself
            if str(config["class_name"]).endswith("Policy"):
                return dict(config)
            inner = {name: v for name, v in inner.items() if name not in _DROPPED}
            kept = ("module", "class_name", "registered_name")
            return {name: config.get(name) for name in kept} | {"config": clean(inner)}
        return {
            name: clean(value)
            for name, value in config.items()
            if not str(name).endswith(_TRAINING_ONLY)
        }
    if isinstance(config, (list, tuple)):
        return [clean(one) for one in config]
    return config


def _graph(model, digest):
    """Return the digests of inputs and outputs, or `None` for a model without a graph."""
    try:
        found = graph.walk(model)
    except (InputError, UnsupportedError):
        return None if not hasattr(model, "_nodes_by_depth") else _by_config(model)
    made = {}
    for place, tensor in enumerate(found.input_list):
        name = None if _COUNTED.fullmatch(tensor.name) else tensor.name
        made[tensor.index] = digest(["input", place, name, list(tensor.shape), tensor.dtype])

    def fill(leaf):
        return made[leaf.index] if isinstance(leaf, graph.Tensor) else leaf

    for call in found.calls:
        args, kwargs = (graph.map_structure(fill, part) for part in (call.args, call.kwargs))
        token = digest([digest(call.layer), args, kwargs])
        for place, tensor in enumerate(call.outputs):
            made[tensor.index] = digest([token, place])
    return [graph.map_structure(fill, part) for part in (found.inputs, found.outputs)]


def _by_config(model):
    """Return the graph of a model that contains a subclassed one: its layers' places and links."""
    try:
        config = settings_of(model)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise InputError(
            f"The graph of the model {model.name!r} has no fingerprint, because a layer in it has "
            f"no configuration: {error} Give that layer a get_config()."
        ) from error
    numbers = {layer.name: f"layer {i}" for i, layer in enumerate(model.layers)}

    def renamed(value):
        if isinstance(value, Mapping):
            return {name: renamed(one) for name, one in value.items()}
        if isinstance(value, (list, tuple)):
            return [renamed(one) for one in value]
        return numbers.get(value, value) if isinstance(value, str) else value

    links = [one.get("inbound_nodes") for one in config["layers"]]
    ends = [config.get("input_layers"), config.get("output_layers")]
    return [renamed(links), renamed(ends), list(model.layers)]


def _config(layer):
    try:
        config = settings_of(layer)
    except (NotImplementedError, TypeError, ValueError):
        if code.library_name(type(layer)) is not None:
            raise
        return None  # a user's class: its code and attributes are hashed
    if kind_of(layer) == "Lambda":
        functions = ("function", "module", "output_shape", "mask", "function_type")
        config = {name: v for name, v in config.items() if not name.startswith(functions)}
    return clean({name: v for name, v in config.items() if name not in _DROPPED})


def settings_of(thing) -> dict:
    """Return `get_config()`, without Keras's warning that a lambda can't be loaded again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dict(thing.get_config())


def functions_in(layer) -> dict:
    """Return the functions that a layer holds; its configuration has their names at most."""
    found = {}
    ours = _base_names(backends.flavour(layer)) if is_operation(layer) else ()
    for name, value in vars(layer).items():
        if hasattr(type(layer), name) or name.endswith(_TRAINING_ONLY) or name in ours:
            continue
        if is_operation(value):
            continue
        function = isinstance(
            value, (types.FunctionType, types.MethodType, types.BuiltinMethodType)
        )
        own = callable(value) and code.library_name(type(value)) is None
        partial = isinstance(value, functools.partial)
        if (function or own or partial) and not isinstance(value, type):
            found[name] = value
    return found


def _attributes(layer) -> dict:
    """Return the attributes of a layer that a user's class set, not Keras."""
    ours = {"name", "_name", *_base_names(backends.flavour(layer))}
    for kind in type(layer).__mro__:
        if code.library_name(kind) is not None and kind is not type(layer):
            ours |= code.names_set_by(kind)
    held = {
        name: value
        for name, value in vars(layer).items()
        if name not in ours and name not in _DROPPED and not name.endswith(_TRAINING_ONLY)
    }
    return held | {"supports_masking": bool(getattr(layer, "supports_masking", False))}


@functools.cache
def _base_names(flavour: str | None) -> frozenset[str]:
    package = backends.package(flavour or "keras")
    found = {*vars(package.layers.Layer()), *vars(package.Model()), "history"}
    found = found.union(*map(code.names_set_by, package.Model.__mro__))
    return frozenset(found - {"activation", "constraint", "regularizer"})  # of other objects
