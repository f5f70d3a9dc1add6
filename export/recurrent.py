"""The form in which recurrent layers go into an int8 file.

Calibrating a WHILE loop kills the converter, so no loop may be left: an LSTM of the
standard kind becomes TFLite's fused kernel, anything else is unrolled.

    LSTM, 16 steps ──► UNIDIRECTIONAL_SEQUENCE_LSTM        (state kept between calls: reset!)
    GRU, 16 steps  ──► 16 x (FULLY_CONNECTED, LOGISTIC, …)

The fused kernel needs one scale for its output and its state, and REVERSE_V2 one for what
goes in and comes out. Where the result goes into a concatenation, the converter gives one end
the concatenation's scale and leaves the other its own: the file then computes something else,
without a word (seen in TensorFlow 2.21). A mean over an axis of one in between, which may have
a scale of its own, prevents it; `TFLiteModel.torn_scales` finds it.
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
    tied = any(type(layer).__name__ in _TYING for _, layer in source.layers)
    made = {}

    def apply(call, args, kwargs):
        layer = call.layer
        if type(layer).__name__ in RECURRENT and call.inputs[0].shape[1] is None:
            raise UnsupportedError(
                f"The layer {call.name!r} ({type(layer).__name__}) runs over a free number of "
                "steps, which int8 files can't; give the Input layer a fixed length."
            )
        if id(layer) not in made:
            made[id(layer)] = _form_of(layer, call.name, tied)
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


# Layers in whose int8 kernels inputs and outputs share one scale.
_TYING = frozenset({"Concatenate", "Bidirectional", "Maximum", "Minimum"})


def _form_of(layer, name: str, tied: bool):
    """Return the layer, or what stands for it: something to call, with `set_weights`."""
    kind = type(layer).__name__
    if kind == "Bidirectional":
        return _BothWays(layer, name, tied)
    if kind not in RECURRENT:
        return type(layer).from_config(layer.get_config())
    return _OneWay(layer, tied)


class _OneWay:
    """A recurrent layer, fused or unrolled."""

    def __init__(self, layer, tied: bool):
        fused = _is_fused(layer)
        self.layer = type(layer).from_config({**layer.get_config(), "unroll": not fused})
        self.own_scale = fused and tied
        self.reverse = False
        self.set_weights = self.layer.set_weights

    def __call__(self, *args, **kwargs):
        result = self.layer(*args, **kwargs)
        if self.reverse:
            result = _reversed(result)
        if not self.own_scale:
            return result
        return graph.map_structure(_with_own_scale, result)


class _BothWays:
    """A Bidirectional layer as its two directions and their merge."""

    def __init__(self, layer, name: str, tied: bool):
        if layer.return_state:
            raise UnsupportedError(
                f"The layer {name!r} (Bidirectional) returns its states, which int8 files can't."
            )
        self.directions = [_OneWay(one, tied) for one in (layer.forward_layer, layer.backward_layer)]
        self.merge_mode = layer.merge_mode
        self.directions[1].reverse = layer.return_sequences

    def __call__(self, x, **kwargs):
        forward, backward = (one(x, **kwargs) for one in self.directions)
        layers = backends.tf_keras().layers
        merges = {"concat": "Concatenate", "sum": "Add", "mul": "Multiply", "ave": "Average"}
        if self.merge_mode is None:
            return [forward, backward]
        return getattr(layers, merges[self.merge_mode])()([forward, backward])

    def set_weights(self, weights):
        half = len(weights) // 2
        self.directions[0].set_weights(weights[:half])
        self.directions[1].set_weights(weights[half:])


def _reversed(tensor):
    import tensorflow as tf

    return tf.reverse(tensor, [1])


def _with_own_scale(tensor):
    import tensorflow as tf

    return tf.reduce_mean(tf.expand_dims(tensor, 1), axis=1)


def _is_fused(layer) -> bool:
    """Tell whether the converter has the fused kernel for an LSTM layer."""
    if type(layer).__name__ != "LSTM":
        return False
    names = [getattr(f, "__name__", "") for f in (layer.activation, layer.recurrent_activation)]
    return names == ["tanh", "sigmoid"] and layer.use_bias
