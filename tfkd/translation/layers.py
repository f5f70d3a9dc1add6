"""The counterpart of one layer: its class, its settings, its weights."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable

import numpy as np

from tfkd.errors import UnsupportedError
from tfkd.model import backends
from tfkd.model.layer_kinds import (
    WITH_VOCABULARY,
    class_of,
    configuration,
    function_name,
    is_of_library,
    kind_of,
    reason,
)
from tfkd.translation import activations, registry

# Settings that don't change the result, or that the other Keras derives itself: how a layer was
# built, how it runs, how it would be quantized, and its seed.
_DROPPED = {
    "batch_input_shape",
    "build_config",
    "compile_config",
    "flash_attention",
    "force_generator",
    "implementation",
    "input_length",
    "key_shape",
    "lora_alpha",
    "quantization_config",
    "query_shape",
    "rng_type",
    "seed",
    "sparse",
    "synchronized",
    "trainable",  # copied with the weights
    "use_cudnn",
    "value_shape",
    "vocabulary_size",
}

# The value that a Keras without such a setting implies.
_ASSUMED = {
    "data_format": "channels_last",
    "fill_mode": "constant",
    "groups": 1,
    "oov_method": "floormod",
    "score_mode": "dot",
    "value_range": [0, 255],
}

# Settings by Keras 3's name → tf_keras's name.
_RENAMED = {"LeakyReLU": {"negative_slope": "alpha"}}

# Settings that are layers themselves → the attribute with the layer in use.
_INNER = {
    "Bidirectional": {"layer": "forward_layer", "backward_layer": "backward_layer"},
    "RNN": {"cell": "cell"},
    "SpectralNormalization": {"layer": "layer"},
    "StackedRNNCells": {"cells": "cells"},
    "TimeDistributed": {"layer": "layer"},
}

# Layers with the same name that compute different things in the two Kerases.
_DIFFERENT = {
    "RandomCrop": "crops at inference in tf_keras, but not in Keras 3; crop in the pipeline",
}

# Settings that tf_keras writes as a list with one item.
_SINGLE_AXIS = {"BatchNormalization", "LayerNormalization"}


#: Floating-point types and policies that a float32 copy can replace.
OTHER_FLOATS = frozenset({"float16", "bfloat16", "float64", "mixed_float16", "mixed_bfloat16"})


def counterpart(layer, name: str, to: str, translate: Callable, float32: bool = False):
    """Return an unbuilt layer of the target that computes what `layer` does.

    Args:
        layer: A Keras 3 or tf_keras layer.
        name: Name of the new layer.
        to: `"keras"` or `"tf_keras"`.
        translate: Function for a model inside a wrapper.
        float32: Whether it is to compute in float32 if `layer` computes in another precision.

    Raises:
        UnsupportedError: naming what the target lacks.
    """
    package, kind = backends.package(to), kind_of(layer)
    if isinstance(layer, backends.package_of(layer).Model):
        return translate(layer, to)
    if getattr(layer, "quantization_mode", None):
        raise UnsupportedError(
            f"it is quantized already ({layer.quantization_mode}); translate the float model"
        )
    pair = registry.registered(layer)
    if backends.flavour(layer) != to and pair and pair.makers[to]:
        return renamed(pair.makers[to](layer), name)
    target = type(layer) if backends.flavour(layer) == to else _target_class(layer, to)
    if kind in _INNER and target is getattr(package.layers, kind, None):
        return build(target, _settings(layer, name, target, to, translate, float32))
    if kind == "Lambda" and target is package.layers.Lambda:
        return build(target, _lambda_settings(layer, name, float32))
    if kind == "StochasticDepth" and _is_of_applications(layer):
        # tf_keras's own layer fails in `fit`; on images it drops whole samples.
        settings = {"rate": layer.drop_path_rate, "noise_shape": (None, 1, 1, 1), "name": name}
        return build(package.layers.Dropout, {**settings, "dtype": _policy(layer, float32)})
    if target is type(layer):
        config = {**config_of(layer), "name": name}
        return _from_config(target, _in_float32(config) if float32 else config)
    if pair is not None or _is_of_applications(layer):
        config = {**layer.get_config(), "name": name, "dtype": _policy(layer, float32)}
        return _from_config(target, config)
    return build(target, _settings(layer, name, target, to, translate, float32))


def config_of(layer) -> dict:
    """Return a layer's configuration, with what `get_config` leaves out.

    This is the vocabulary that `adapt` learned, and the user's functions.

    Raises:
        UnsupportedError: if the layer has none.
    """
    if _is_lambda(layer):
        return _lambda_settings(layer, layer.name, float32=False)
    try:
        return {**configuration(layer), **_vocabulary(layer)}
    except NotImplementedError as error:
        raise UnsupportedError(f"{type(layer).__name__} has no get_config()") from error


def of_config(layer, config: dict):
    """Return a new, unbuilt layer of a layer's class, from what `config_of` returned."""
    return type(layer)(**config) if _is_lambda(layer) else type(layer).from_config(config)


def standard(kind: str, settings: dict, to: str):
    """Return a standard layer from its class name and settings, as Keras 3 names them."""
    target = getattr(backends.package(to).layers, kind)
    settings = {_word(kind, key, to): value for key, value in settings.items()}
    if "activation" in settings and to == "tf_keras":
        settings["activation"] = _function_for(settings["activation"], None, to)
    return build(target, settings)


def build(target, settings: dict):
    """Call a layer class; settings that it refuses raise an `UnsupportedError`."""
    try:
        return target(**settings)
    except (TypeError, ValueError) as error:
        raise UnsupportedError(_refused(target, error)) from error


def renamed(layer, name: str):
    """Give a layer or an operation another name, before it is in a model."""
    if backends.flavour(layer) == "tf_keras":
        layer._name = name
    else:
        layer.name = name
    return layer


def copy_state(source, target) -> None:
    """Copy weights and `trainable` from a layer to its built counterpart.

    Raises:
        UnsupportedError: if the two have different weights.
    """
    if isinstance(source, backends.package_of(source).Model):
        return  # copied when it was translated
    pairs = list(zip(_inner(source), _inner(target), strict=True))
    ours, theirs = (
        _own_weights(layer, inner)
        for layer, inner in (
            (source, [pair[0] for pair in pairs]),
            (target, [pair[1] for pair in pairs]),
        )
    )
    shapes = [[tuple(weight.shape) for weight in weights] for weights in (ours, theirs)]
    if shapes[0] != shapes[1]:
        raise UnsupportedError(f"its weights have the shapes {shapes[0]}, not {shapes[1]}")
    for old, new in zip(ours, theirs, strict=True):
        new.assign(_cast(old.numpy(), new))
    target.trainable = source.trainable
    for old, new in pairs:
        copy_state(old, new)
    if ours and hasattr(target, "finalize_state"):
        target.finalize_state()


def _cast(values, variable):
    """Return values cast to a variable's type if both are floating point and differ."""
    wanted = getattr(variable.dtype, "name", variable.dtype)
    given = getattr(values, "dtype", None)
    if given is None or given == wanted or "float" not in given.name or "float" not in wanted:
        return values
    return values.astype(getattr(variable.dtype, "as_numpy_dtype", wanted))


def _is_of_applications(layer) -> bool:
    """Tell whether a layer's class belongs to `applications`, where both Kerases have the same."""
    return type(layer).__module__.split(".")[1:-1] == ["src", "applications"]


def _target_class(layer, to: str):
    """Return the class of the other Keras that corresponds to the layer's."""
    kind, module = type(layer).__name__, type(layer).__module__
    pair = registry.registered(layer)
    if pair is not None:
        return pair.classes[to]
    source = backends.flavour(layer)
    standard_kind = kind_of(layer)
    if standard_kind in _DIFFERENT:
        raise UnsupportedError(f"{standard_kind} {_DIFFERENT[standard_kind]}")
    if standard_kind and _library_class(layer) is getattr(
        backends.package(source).layers, standard_kind, None
    ):
        kind = standard_kind
        target = getattr(backends.package(to).layers, kind, None)
        if target is None:
            raise UnsupportedError(f"{to} has no {kind}")
        return target
    if _is_of_applications(layer):
        twin = importlib.import_module(module.replace(source, to, 1))
        if hasattr(twin, kind):
            return getattr(twin, kind)
    raise UnsupportedError(
        f"the custom class {kind} is unknown in {to}; register its counterpart with "
        "tfkd.translation.register(...)"
    )


def _library_class(layer) -> type | None:
    """Return the library's class that computes the same as a layer's class, if there is one."""
    return class_of(layer, is_of_library)


def _policy(layer, float32: bool) -> str:
    """Return the name of a layer's policy for the target."""
    name = layer.dtype_policy.name
    return "float32" if float32 and name in OTHER_FLOATS else name


def _in_float32(config):
    """Return a configuration in which no layer has a policy of `OTHER_FLOATS`."""
    if isinstance(config, (list, tuple)):
        return (tuple if isinstance(config, tuple) else list)(map(_in_float32, config))
    if not isinstance(config, dict):
        return config
    return {
        key: "float32"
        if key == "dtype" and _policy_name(value) in OTHER_FLOATS
        else _in_float32(value)
        for key, value in config.items()
    }


def _policy_name(held) -> str | None:
    """Return the name of a policy in a configuration: a plain name, or nested."""
    held = held.get("config", {}).get("name") if isinstance(held, dict) else held
    return held if isinstance(held, str) else None


def _settings(layer, name: str, target, to: str, translate, float32: bool) -> dict:
    """Return the arguments for the target's class."""
    kind, source = kind_of(layer), backends.flavour(layer)
    # A subclass that computes the same as its base may have other settings.
    config = {
        **_library_class(layer).get_config(layer),
        "name": name,
        "dtype": _policy(layer, float32),
    }
    if kind in WITH_VOCABULARY | {"Hashing", "Discretization"}:
        config.pop("dtype")  # depends on their inputs, and each Keras has its own
    config.update(_vocabulary(layer))
    if config.get("bin_boundaries"):
        config.pop("num_bins")  # of which `adapt` made them
    if _regularizes_activity(layer):
        config["activity_regularizer"] = True
    config.update(_inner_settings(layer, to, translate, float32))
    settings, lost = {}, []
    accepted = _accepted(target, to)
    for key, value in config.items():
        word = _word(kind, key, to) if source != to else key
        # Initializers no longer matter: the weights are copied.
        if key.endswith("_initializer"):
            continue
        value = _value(layer, key, value, to)
        if word in accepted:
            settings[word] = value
        # A setting that is off needs no counterpart; one that is on would silently be lost.
        elif key not in _DROPPED and not _is_off(key, value):
            lost.append(key)
    if lost:
        raise UnsupportedError(f"{to} {kind} has no {', '.join(sorted(lost))}")
    return settings


def _vocabulary(layer) -> dict:
    """Return the settings for the vocabulary of a lookup; none before it has one."""
    if kind_of(layer) not in WITH_VOCABULARY:
        return {}
    words = layer.get_vocabulary(include_special_tokens=False)
    lookup = getattr(layer, "_lookup_layer", layer)  # of a TextVectorization
    if not words or lookup.output_mode != "tf_idf":
        return {"vocabulary": words} if words else {}
    words = layer.get_vocabulary()  # unknown words have a weight, too
    return {"vocabulary": words, "idf_weights": lookup.idf_weights.numpy()[: len(words)]}


def _is_lambda(layer) -> bool:
    """Tell whether a layer is a Lambda of a library; a subclass has settings of its own."""
    return kind_of(layer) == "Lambda" and is_of_library(type(layer))


def _lambda_settings(layer, name: str, float32: bool) -> dict:
    """Return a Lambda's settings: its function works on TensorFlow's tensors in either Keras."""
    return {
        "function": layer.function,
        "output_shape": layer._output_shape,
        "mask": layer.mask,
        "arguments": layer.arguments,
        "name": name,
        "dtype": _policy(layer, float32),
    }


def _is_off(key: str, value) -> bool:
    if isinstance(value, tuple):
        value = list(value)
    return value is None or value is False or value == 0 or value == _ASSUMED.get(key, 0)


def _word(kind: str, key: str, to: str) -> str:
    names = _RENAMED.get(kind, {})
    if to == "keras":
        names = {new: old for old, new in names.items()}
    return names.get(key, key)


def _value(layer, key: str, value, to: str):
    """Return one setting's value in the target's form."""
    kind = kind_of(layer)
    if key.endswith("activation") and value is not None:
        return _function_for(value, getattr(layer, key, None), to)
    if key.endswith(("_regularizer", "_constraint")) and value is not None:
        held = getattr(layer, key, getattr(layer, f"_{key}", None))
        return _object_for(held, key.rsplit("_", 1)[-1] + "s", to)
    if key == "axis" and kind in _SINGLE_AXIS and to == "keras":
        return _axis(layer, value)
    if isinstance(value, dict) and "class_name" in value:
        value = getattr(layer, key)
    return _plain(value)


def _axis(layer, value):
    """Return axes as Keras 3 writes them: a number for a single axis, counted from the last."""
    axes = list(value) if isinstance(value, (list, tuple)) else [value]
    if len(axes) > 1 and kind_of(layer) == "BatchNormalization":
        raise UnsupportedError("keras BatchNormalization does not accept a list of axes")
    shape = getattr(layer, "_build_input_shape", None)
    if shape is not None and max(axes) == len(shape) - 1:  # `build` made them positive
        axes = [axis - len(shape) for axis in axes]
    return axes[0] if len(axes) == 1 else axes


def _plain(value):
    """Convert NumPy's and tf_keras's containers and numbers to Python's."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in value)
    if isinstance(value, np.ndarray) and value.ndim:
        return _plain(value.tolist())
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.item()
    if isinstance(value, float) and np.float32(value) == value:
        return float(str(np.float32(value)))  # 0.2, which tf_keras keeps as 0.20000000298
    return value


def _function_for(value, held, to: str):
    """Return an activation of the target; `held` is the source's function itself."""
    name = function_name(held)
    # A user's function works on TensorFlow's tensors in either Keras, and may have any name.
    if callable(held) and name is None:
        return held
    if isinstance(value, str):
        return activations.counterpart(value, to)
    if activations.is_lent(name):
        return activations.counterpart(name, to)
    return held


def _object_for(held, module: str, to: str):
    """Return a regularizer or constraint of the target."""
    source = getattr(backends.package(_flavour_of(held)), module) if _flavour_of(held) else None
    kind = type(held).__name__
    target = getattr(getattr(backends.package(to), module), kind, None)
    if source is None or target is None or type(held) is not getattr(source, kind, None):
        return held  # a user's callable, which either Keras takes
    return target(**_plain(held.get_config()))


def _flavour_of(held) -> str | None:
    """Return which Keras defines an object's class."""
    root = type(held).__module__.split(".")[0]
    return root if root in ("keras", "tf_keras") and root in sys.modules else None


def _regularizes_activity(layer) -> bool:
    """Tell whether a layer has an activity regularizer that is not in its settings."""
    made = kind_of(layer) == "ActivityRegularization"
    return getattr(layer, "activity_regularizer", None) is not None and not made


def _inner_settings(layer, to: str, translate, float32: bool) -> dict:
    """Return the settings that are layers, as layers of the target."""
    kind, inner = kind_of(layer), {}
    for key, attribute in _INNER.get(kind, {}).items():
        held = getattr(layer, attribute)
        if key == "backward_layer" and _mirrors(layer.forward_layer, held):
            inner[key] = None
        elif isinstance(held, (list, tuple)):
            inner[key] = [counterpart(one, one.name, to, translate, float32) for one in held]
        else:
            name = held.name
            if kind == "Bidirectional":
                # Both Kerases prefix the name with the direction themselves.
                name = name.removeprefix("forward_").removeprefix("backward_")
            inner[key] = counterpart(held, name, to, translate, float32)
    return inner


def _mirrors(forward, backward) -> bool:
    """Tell whether a backward layer equals what Bidirectional derives from the forward layer."""

    def essence(layer):
        config = {**layer.get_config(), "name": None}
        return {key: value for key, value in config.items() if key != "go_backwards"}

    same = type(forward) is type(backward) and essence(forward) == essence(backward)
    return same and backward.go_backwards and not forward.go_backwards


def _inner(layer) -> list:
    """List the layers inside a wrapper."""
    found = []
    for attribute in _INNER.get(kind_of(layer), {}).values():
        held = getattr(layer, attribute)
        found += held if isinstance(held, (list, tuple)) else [held]
    return found


def _own_weights(layer, inner) -> list:
    theirs = {id(weight) for one in inner for weight in one.weights}
    return [weight for weight in backends.variables_of(layer) if id(weight) not in theirs]


def _accepted(target, to: str) -> set[str]:
    """List the settings of a layer class and its bases."""
    names = set()
    for base in target.__mro__:
        if "__init__" in vars(base):
            parameters = inspect.signature(base.__init__).parameters.values()
            names |= {
                p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
            }
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                break
    # Settings that tf_keras takes as keywords.
    if "dynamic" in names:
        names.add("activity_regularizer")
    if to == "tf_keras" and issubclass(target, backends.tf_keras().layers.RNN):
        names.add("zero_output_for_mask")
    return names - {"self"}


def _from_config(target, config: dict):
    try:
        return target.from_config(config)
    except (TypeError, ValueError) as error:
        raise UnsupportedError(_refused(target, error)) from error


def _refused(target, error) -> str:
    flavour = target.__module__.split(".")[0]
    return f"{flavour} {target.__name__} refused its configuration ({reason(error)})"
