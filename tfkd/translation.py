"""Keras 3 → tf_keras: the same graph of the same layers, in the Keras that tfmot works on."""

from __future__ import annotations

import inspect

from tfkd import backends, graph
from tfkd.errors import UnsupportedError, raise_all

# Of a Keras 3 layer's configuration, what tf_keras has no word for and which changes
# nothing there: how the layer was built, and how Keras 3 itself would quantize it.
_DROPPED = {"quantization_config", "build_config", "compile_config", "synchronized", "seed"}

# Settings that Keras 3 renamed.
_RENAMED = {"LeakyReLU": {"negative_slope": "alpha"}}


def translate(model):
    """Translate a Keras 3 model into an equal tf_keras model.

    Choose it to hand a Keras 3 model to a tool that only takes tf_keras (tfmot, older
    code). The graph is re-traced call by call, so shared layers stay shared; nested models
    come out inlined. Weights are copied; optimizer and compile state are not.

    Args:
        model: A built Functional or Sequential model. A tf_keras model is inlined and copied.

    Returns:
        A `tf_keras.Model` with the same input and output structure and names. Its outputs
        equal the given model's up to rounding (1e-6 in float32).

    Raises:
        UnsupportedError: naming every layer that has no counterpart in tf_keras.

    Example:
        >>> import keras, numpy as np, tfkd
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> x = np.ones((1, 4), "float32")
        >>> bool(np.allclose(model(x), tfkd.translate(model)(x), atol=1e-6))
        True
    """
    source = graph.walk(model)
    tf_keras = backends.tf_keras()
    names = _unique_names(source)
    layers, problems = {}, []
    for path, layer in source.layers:
        try:
            layers[id(layer)] = _counterpart(layer, names[id(layer)])
        except UnsupportedError as error:
            problems.append(f"layer {path!r}: {error}")
    raise_all(
        problems,
        UnsupportedError,
        fix="Replace these layers, or build the model in tf_keras and give that.",
    )
    inputs = [
        tf_keras.Input(
            tensor.shape[1:], batch_size=tensor.shape[0], dtype=tensor.dtype, name=tensor.name
        )
        for tensor in source.input_list
    ]
    outputs = graph.replay(
        source, inputs, lambda call, args, kwargs: layers[id(call.layer)](*args, **kwargs)
    )
    by_name = {tensor.name: value for tensor, value in zip(source.input_list, inputs, strict=True)}
    structure = graph.map_structure(lambda tensor: by_name[tensor.name], source.inputs)
    # The name of the model is the one thing a caller may print: keep it.
    translated = tf_keras.Model(structure, outputs, name=source.name)
    for _, layer in source.layers:
        layers[id(layer)].set_weights(layer.get_weights())
        layers[id(layer)].trainable = layer.trainable
    return translated


def _unique_names(source: graph.Graph) -> dict[int, str]:
    """Name every layer after its own name, with its path where two would collide."""
    taken = {tensor.name for tensor in source.input_list}
    names = {}
    for path, layer in source.layers:
        name = layer.name if layer.name not in taken else path.replace("/", "_")
        while name in taken:
            name += "_"
        taken.add(name)
        names[id(layer)] = name
    return names


def _counterpart(layer, name: str):
    """Return the tf_keras layer of the same class and configuration, without weights."""
    tf_keras = backends.tf_keras()
    kind = type(layer).__name__
    target = getattr(tf_keras.layers, kind, None)
    if backends.flavour(layer) is None:
        raise UnsupportedError(f"the operation {kind} is not a layer; wrap it in one")
    if backends.flavour(layer) == "tf_keras":
        target = type(layer)
    elif type(layer) is not getattr(backends.keras().layers, kind, None):
        raise UnsupportedError(f"the custom class {kind} is not known to tf_keras")
    if target is None:
        raise UnsupportedError(f"tf_keras has no {kind}")
    # Initializers differ in their settings and no longer matter: the weights are copied.
    config = {
        key: value
        for key, value in {**layer.get_config(), "name": name}.items()
        if not key.endswith("_initializer")
    }
    for new, old in _RENAMED.get(kind, {}).items():
        if new in config:
            config[old] = config.pop(new)
    accepted = _accepted_arguments(target)
    unknown = set(config) - accepted - _DROPPED
    # A setting left at "off" needs no counterpart; one that is on would be lost in silence.
    lost = sorted(key for key in unknown if config[key] not in (None, False, 0))
    if lost:
        raise UnsupportedError(f"tf_keras {kind} has no {', '.join(lost)}")
    config = {key: value for key, value in config.items() if key in accepted}
    if isinstance(config.get("dtype"), dict):
        config["dtype"] = layer.dtype_policy.name
    try:
        return target.from_config(config)
    except (TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise UnsupportedError(f"tf_keras {kind} refused its configuration ({reason})") from error


def _accepted_arguments(layer_class) -> set[str]:
    names = {"name", "dtype", "trainable"}
    for base in layer_class.__mro__:
        if "__init__" in vars(base):
            parameters = inspect.signature(base.__init__).parameters.values()
            names |= {
                p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
            }
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                break
    return names - {"self"}
