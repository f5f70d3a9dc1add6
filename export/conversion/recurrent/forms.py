"""The forms of recurrent layers in a file.

    fused     LSTM, 16 steps ──► UNIDIRECTIONAL_SEQUENCE_LSTM    (keeps its state: reset!)
    unrolled  GRU, 16 steps  ──► 16 x 11 operations              (Keras's own: 16 x 15)
    loop      GRU, 16 steps  ──► WHILE                           (`loop.py`)
    step      one step per call, the state outside               (`step.py`)

Calibrating a WHILE loop crashes the converter, so a model must have none for calibration.

The fused kernel needs the same scale for its output and its state, and REVERSE_V2 the same for
its input and output. If a concatenation follows, the converter gives one of the two the
concatenation's scale and leaves the other unchanged: the file then computes something else,
without a warning (seen in TensorFlow 2.21). A product with ones in between prevents this, since
it may have its own scale. Also, the converter gives a cell that stays below 0.5 a scale of 2⁻¹⁶,
for which the kernel has no tanh: its output is noise. `TFLiteModel.wrong_scales` finds both.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfkd.errors import UnsupportedError, argument
from tfkd.model import backends, graph
from tfkd.model.layer_kinds import RECURRENT, function_name, kind_of, remade


def recurrent_calls(source) -> list:
    """Return a graph's calls of recurrent layers."""
    return [call for call in source.calls if call.kind in RECURRENT]


def is_special(call) -> bool:
    """Tell whether a call needs more than a sequence of fixed length, such as a mask or states."""
    return (
        bool(call.inputs[0].masked)
        or len(call.inputs) > 1
        or bool(getattr(call.layer, "stateful", False))
        or call.inputs[0].shape[1] is None
    )


def lower(model, form: str, *, loops: bool = False, integer: bool = True):
    """Return a tf_keras model of the same function with its recurrent layers in a form.

    Args:
        model: A built tf_keras model with nested models inlined; all its layers become trainable.
        form: `"unrolled"`, or `"fused"` for the layers that have the kernel.
        loops: Whether layers without the kernel stay loops; otherwise they are unrolled.
        integer: Whether the file is an integer file, where some kernels share scales.

    Returns:
        A `tf_keras.Model` with the same inputs and outputs.

    Raises:
        UnsupportedError: for what the form can't express: a free number of steps, a mask,
            an initial state, or states kept between batches.
    """
    model.trainable = True  # tf_keras lists frozen weights of a layer last
    source = graph.walk(model)
    tied = integer and any(call.kind in _TYING for call in source.calls)
    made = {}

    def apply(call, args, kwargs):
        layer = call.layer
        if id(layer) not in made:
            stays = call.kind not in RECURRENT
            if not stays and loops and (is_special(call) or not _is_fused_call(call, form)):
                stays = True
            if stays:
                made[id(layer)] = remade(layer)
            else:
                _check_plain(call)
                made[id(layer)] = _form_of(layer, call.name, form == "fused", tied)
        return made[id(layer)](*args, **kwargs)

    lowered = graph.rebuild(source, backends.tf_keras(), apply)
    for _, layer in source.layers:
        if layer.weights:
            made[id(layer)].set_weights(layer.get_weights())
    return lowered


def with_shapes(model, shapes):
    """Return a copy of a tf_keras model whose inputs have other shapes.

    Args:
        model: A built tf_keras model with nested models inlined.
        shapes: One shape per input.
    """
    source = graph.walk(model)
    of = {t.index: shape for t, shape in zip(source.input_list, shapes, strict=True)}
    inputs = graph.map_structure(lambda t: dataclasses.replace(t, shape=of[t.index]), source.inputs)
    made = {}

    def apply(call, args, kwargs):
        if id(call.layer) not in made:
            made[id(call.layer)] = remade(call.layer)
        return made[id(call.layer)](*args, **kwargs)

    source = dataclasses.replace(source, inputs=inputs)
    copied = graph.rebuild(source, backends.tf_keras(), apply)
    for _, layer in source.layers:
        if layer.weights:
            made[id(layer)].set_weights(layer.get_weights())
    return copied


def _is_fused_call(call, form: str) -> bool:
    returns_states = call.kind == "Bidirectional" and call.layer.return_state
    return form == "fused" and has_kernel(call.layer) and not returns_states


def _check_plain(call):
    """Raise for a call that neither the fused nor the unrolled form can compute."""
    kind, name = type(call.layer).__name__, call.name
    what = f"The layer {name!r} ({kind})"
    if call.inputs[0].shape[1] is None:
        raise UnsupportedError(
            f"{what} runs over a free number of steps, which this form does not support; fix it "
            f"with {argument('shapes', like='{name: shape}')}, or use "
            f"{argument('recurrent', 'step')}.",
            code="free-sizes",
        )
    if call.inputs[0].masked:
        raise UnsupportedError(
            f"{what} receives a mask (mask_zero=True or Masking), which only "
            f"{argument('recurrent', 'loop')} in a float format supports; for an integer format, "
            "train without the mask.",
            code="recurrent-mask",
        )
    if len(call.inputs) > 1:
        raise UnsupportedError(
            f"{what} starts from states that are computed elsewhere, which only "
            f"{argument('recurrent', 'loop')} in a float format supports.",
            code="initial-state",
        )
    check_stateless(call)


def check_stateless(call):
    """Raise for a layer whose state lasts from one call to the next."""
    if getattr(call.layer, "stateful", False):
        kind = call.kind
        way = f"{argument('recurrent', 'step')} makes the state an input and an output"
        if kind == "Bidirectional":
            way = "build the model with stateful=False"
        raise UnsupportedError(
            f"The layer {call.name!r} ({kind}) keeps its state between batches (stateful=True); "
            f"{way}.",
            code="stateful",
        )


# Layers whose int8 kernels need one scale for inputs and outputs.
_TYING = frozenset({"Concatenate", "Bidirectional", "Maximum", "Minimum"})


def _form_of(layer, name: str, fused: bool, tied: bool):
    """Return the replacement of a recurrent layer: a callable with `set_weights`."""
    if kind_of(layer) == "Bidirectional":
        return _BothWays(layer, name, fused, tied)
    return _OneWay(layer, layer.name, fused, tied)


class _OneWay:
    """A recurrent layer, fused or unrolled."""

    def __init__(self, layer, name: str, fused: bool, tied: bool, in_order: bool = False):
        fused = fused and has_kernel(layer)
        if fused:
            self.layer = remade(layer, name=name, unroll=False)
        else:
            from tfkd.export.conversion.recurrent.unrolled import Unrolled

            self.layer = Unrolled(layer, name, in_order=in_order)
        self.own_scale = fused and tied
        self.reverse = fused and in_order
        self.set_weights = self.layer.set_weights

    def __call__(self, *args, **kwargs):
        result = self.layer(*args, **kwargs)
        if self.reverse:
            result = _reversed(result)
        if not self.own_scale:
            return result
        return graph.map_structure(with_own_scale, result)


class _BothWays:
    """A Bidirectional layer as its two directions and their merge."""

    def __init__(self, layer, name: str, fused: bool, tied: bool):
        if layer.return_state:
            raise UnsupportedError(
                f"The layer {name!r} (Bidirectional) returns its states, which only "
                f"{argument('recurrent', 'loop')} in a float format supports.",
                code="initial-state",
            )
        ahead, back = layer.forward_layer, layer.backward_layer
        # In the scope of the Bidirectional layer: messages and `narrowing` look for its name.
        self.directions = [
            _OneWay(ahead, f"{name}/{ahead.name}", fused, tied),
            _OneWay(back, f"{name}/{back.name}", fused, tied, in_order=layer.return_sequences),
        ]
        self.merge_mode = layer.merge_mode

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


def with_own_scale(tensor):
    """Return a tensor with the same values that may have its own scale.

    It is the product with ones, except that the first is slightly smaller: the converter drops a
    product with exact ones. In 8 bits all of them are equal.
    """
    import tensorflow as tf

    ones = np.ones(tensor.shape[-1], np.float32)
    ones[0] = np.nextafter(ones[0], np.float32(0.0))
    return tensor * tf.constant(ones)


def has_kernel(layer) -> bool:
    """Tell whether the converter has the fused kernel for a layer (Keras 3 or tf_keras)."""
    if kind_of(layer) == "Bidirectional":
        return all(has_kernel(one) for one in (layer.forward_layer, layer.backward_layer))
    if kind_of(layer) != "LSTM":
        return False
    names = [function_name(f) for f in (layer.activation, layer.recurrent_activation)]
    return names == ["tanh", "sigmoid"] and layer.use_bias
