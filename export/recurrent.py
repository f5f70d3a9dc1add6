"""The form in which recurrent layers go into an int8 file.

Calibrating a WHILE loop kills the converter, so no loop may be left: an LSTM of the
standard kind becomes TFLite's fused kernel, anything else is unrolled.

    LSTM, 16 steps ──► UNIDIRECTIONAL_SEQUENCE_LSTM        (state kept between calls: reset!)
    GRU, 16 steps  ──► 16 x (FULLY_CONNECTED, LOGISTIC, …)
"""

from __future__ import annotations

from tfkd import backends, graph, translation
from tfkd.errors import UnsupportedError

RECURRENT = frozenset({"LSTM", "GRU", "SimpleRNN", "Bidirectional"})


def has_recurrence(model) -> bool:
    """Tell whether a model has recurrent layers, nested ones included."""
    return any(type(layer).__name__ in RECURRENT for _, layer in graph.walk(model).layers)


def without_loops(model):
    """Return a tf_keras model of the same function whose recurrence converts to int8.

    Args:
        model: A built Keras 3 or tf_keras model; it is not changed.

    Returns:
        A `tf_keras.Model` with the same inputs and outputs.

    Raises:
        UnsupportedError: for a recurrent layer over a free number of steps.
    """
    tf_keras = backends.tf_keras()
    model = translation.translate(model)
    source = graph.walk(model)
    made = {}

    def apply(call, args, kwargs):
        layer = call.layer
        if id(layer) not in made:
            config = layer.get_config()
            if type(layer).__name__ in RECURRENT:
                if call.inputs[0].shape[1] is None:
                    raise UnsupportedError(
                        f"The layer {call.name!r} ({type(layer).__name__}) runs over a free number "
                        "of steps, which int8 files can't; give the Input layer a fixed length."
                    )
                _unroll(layer, config)
            made[id(layer)] = type(layer).from_config(config)
        return made[id(layer)](*args, **kwargs)

    inputs = [
        tf_keras.Input(t.shape[1:], batch_size=t.shape[0], dtype=t.dtype, name=t.name)
        for t in source.input_list
    ]
    outputs = graph.replay(source, inputs, apply)
    by_name = {t.name: i for t, i in zip(source.input_list, inputs, strict=True)}
    structure = graph.map_structure(lambda t: by_name[t.name], source.inputs)
    lowered = tf_keras.Model(structure, outputs, name=model.name)
    for _, layer in source.layers:
        if layer.weights:
            made[id(layer)].set_weights(layer.get_weights())
    return lowered


def _unroll(layer, config: dict) -> None:
    """Set `unroll` in a layer's configuration, unless it becomes the fused kernel."""
    if type(layer).__name__ == "Bidirectional":
        for key, inner in (("layer", layer.forward_layer), ("backward_layer", layer.backward_layer)):
            if key in config:
                _unroll(inner, config[key]["config"])
        return
    config["unroll"] = not _is_fused(layer)


def _is_fused(layer) -> bool:
    """Tell whether the converter has the fused kernel for an LSTM layer."""
    if type(layer).__name__ != "LSTM":
        return False
    names = [getattr(f, "__name__", "") for f in (layer.activation, layer.recurrent_activation)]
    return names == ["tanh", "sigmoid"] and layer.use_bias
