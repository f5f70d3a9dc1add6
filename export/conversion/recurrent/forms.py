"""The form in which recurrent layers go into a file.

    fused     LSTM, 16 steps ──► UNIDIRECTIONAL_SEQUENCE_LSTM    (keeps its state: reset!)
    unrolled  GRU, 16 steps  ──► 16 x 11 operations              (Keras's own: 16 x 15)
    loop      GRU, 16 steps  ──► WHILE                           (`looping.py`)
    step      one step a call, the state outside                 (`streaming.py`)

Calibrating a WHILE loop kills the converter, so none may be there when it calibrates.

The fused kernel needs one scale for its output and its state, and REVERSE_V2 one for what
goes in and comes out. Where the result goes into a concatenation, the converter gives one end
the concatenation's scale and leaves the other its own: the file then computes something else,
without a word (seen in TensorFlow 2.21). A product with ones in between, which may have a
scale of its own, prevents it. And a cell that stays below 0.5 is given steps of 2⁻¹⁶, for
which the kernel has no tanh: its output is noise. `TFLiteModel.wrong_scales` finds both.
"""

from __future__ import annotations

import dataclasses
import functools
import types

import numpy as np

from tfkd import translation
from tfkd.errors import UnsupportedError
from tfkd.export.tflite.schema import LEAST_CELL_SCALE, LSTM_CELL
from tfkd.model import backends, graph
from tfkd.model.layer_kinds import RECURRENT, kind_of, remade

#: How recurrent layers can stand in a file; see `to_tflite`.
FORMS = ("auto", "fused", "unrolled", "loop", "step")

# What "auto" takes: for LSTMs with a fused kernel, and for everything else. Where an integer file
# is not for a microcontroller, see `conversion`.
_PICKED = {"int8": ("fused", "unrolled"), "int16x8": ("unrolled",) * 2, "int4": ("loop",) * 2}
_PICKED_FLOAT = ("fused", "loop")

_REFUSED = {
    ("int16x8", "fused"): "the fused kernel has no 16-bit form in the converter",
    ("int4", "fused"): "ai-edge-quantizer leaves the fused kernel's weights in 32 bits",
}


#: Bytes of one step written out in an integer file, by layer: operators and their scales, about;
#: weights are shared. Measured for 8 to 64 units over 32 to 150 steps: within a sixth.
STEP_BYTES = {"LSTM": 2400, "GRU": 2100, "SimpleRNN": 600}


def written_out(model) -> tuple[int, int]:
    """Return how many steps a model's recurrent layers come to when unrolled, and their bytes.

    Args:
        model: A built Keras 3 or tf_keras model; of a free length, one step is counted.
    """
    steps = size = 0
    for call in recurrent_calls(graph.walk(model)):
        ways = [call.layer]
        if call.kind == "Bidirectional":
            ways = [call.layer.forward_layer, call.layer.backward_layer]
        for layer in ways:
            count = call.inputs[0].shape[1] or 1
            steps += count
            size += count * STEP_BYTES.get(kind_of(layer), max(STEP_BYTES.values()))
    return steps, size


def recurrent_calls(source) -> list:
    """Return a graph's calls of recurrent layers."""
    return [call for call in source.calls if call.kind in RECURRENT]


def choose(model, format: str, wanted: str) -> tuple[str | None, dict[str, list[str]]]:
    """Decide on the form of a model's recurrent layers.

    Args:
        model: A built Keras 3 or tf_keras model.
        format: Of the file.
        wanted: One of `FORMS`.

    Returns:
        The form, `None` for a model without recurrent layers, and under `"auto"` which layers
        take which: `"fused"` then means where a layer has the kernel.

    Raises:
        UnsupportedError: if the form does not exist for the format or for a layer.
    """
    calls = recurrent_calls(graph.walk(model))
    if not calls:
        if wanted != "auto":
            raise UnsupportedError(
                f"recurrent={wanted!r}, but the model {model.name!r} has no recurrent layer "
                "(LSTM, GRU, SimpleRNN, Bidirectional)."
            )
        return None, {}
    if wanted != "step":
        for call in calls:
            _check_stateless(call)
    if wanted != "auto":
        if (format, wanted) in _REFUSED:
            others = [f for f in FORMS[1:] if (format, f) not in _REFUSED]
            raise UnsupportedError(
                f"recurrent={wanted!r} does not go with {format}: {_REFUSED[format, wanted]}. "
                f"Take one of {others}."
            )
        for call in calls:
            if wanted == "fused" and not _has_kernel(call.layer):
                raise UnsupportedError(
                    f"The layer {call.name!r} ({type(call.layer).__name__}) has no fused kernel: "
                    "there is one for LSTM with tanh, sigmoid and a bias. Take 'unrolled', "
                    "'step' or 'auto'."
                )
        return wanted, {}
    fused, others = _PICKED.get(format, _PICKED_FLOAT)
    takes: dict[str, list[str]] = {}
    for call in calls:
        plain = _has_kernel(call.layer) and not _is_special(call)
        if format == "dynamic" and plain:
            plain = _is_narrowed(call)
        takes.setdefault(fused if plain else others, []).append(call.name)
    return "fused" if "fused" in takes else others, takes


#: A weight of fewer numbers stays as it is in a dynamic-range file (the converter's own limit).
LEAST_NARROWED = 1024


def _is_narrowed(call) -> bool:
    """Tell whether the fused kernel's weights get 8 bits in a dynamic-range file.

    Either all of them do or none; the converter looks at each gate's matrix alone.
    """
    layer = getattr(call.layer, "forward_layer", call.layer)
    return layer.units * min(layer.units, call.inputs[0].shape[-1]) >= LEAST_NARROWED


def _is_special(call) -> bool:
    """Tell whether a call needs more than a sequence of a length: a mask or states, for example."""
    return (
        bool(call.inputs[0].masked)
        or len(call.inputs) > 1
        or bool(getattr(call.layer, "stateful", False))
        or call.inputs[0].shape[1] is None
    )


def lower(model, form: str, *, loops: bool = False, integer: bool = True):
    """Return a tf_keras model of the same function whose recurrence has the wanted form.

    Args:
        model: A built Keras 3 or tf_keras model; it is not changed.
        form: `"fused"`, where a layer has the kernel, or `"unrolled"`.
        loops: Whether layers without the kernel stay loops; otherwise they are unrolled.
        integer: Whether for an integer file, in which kernels tie scales together.

    Returns:
        A `tf_keras.Model` with the same inputs and outputs.

    Raises:
        UnsupportedError: for what that form can't carry: a free number of steps, a mask,
            states from elsewhere or kept between batches.
    """
    copy = translation.translate(model)
    copy.trainable = True  # tf_keras orders the weights of a layer by what is frozen in it
    source = graph.walk(copy)
    tied = integer and any(call.kind in _TYING for call in source.calls)
    made = {}

    def apply(call, args, kwargs):
        layer = call.layer
        if id(layer) not in made:
            stays = call.kind not in RECURRENT
            if not stays and loops and (_is_special(call) or not _is_fused_call(call, form)):
                stays = True
            if stays:
                made[id(layer)] = type(layer).from_config(layer.get_config())
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
        model: Built, its nested models inlined.
        shapes: One per input.
    """
    source = graph.walk(model)
    of = {t.index: shape for t, shape in zip(source.input_list, shapes, strict=True)}
    inputs = graph.map_structure(lambda t: dataclasses.replace(t, shape=of[t.index]), source.inputs)
    made = {}

    def apply(call, args, kwargs):
        if id(call.layer) not in made:
            made[id(call.layer)] = type(call.layer).from_config(call.layer.get_config())
        return made[id(call.layer)](*args, **kwargs)

    source = dataclasses.replace(source, inputs=inputs)
    copied = graph.rebuild(source, backends.tf_keras(), apply)
    for _, layer in source.layers:
        if layer.weights:
            made[id(layer)].set_weights(layer.get_weights())
    return copied


def _is_fused_call(call, form: str) -> bool:
    returns_states = call.kind == "Bidirectional" and call.layer.return_state
    return form == "fused" and _has_kernel(call.layer) and not returns_states


def _check_plain(call):
    """Raise for what neither the fused kernel nor straight-line code does."""
    kind, name = type(call.layer).__name__, call.name
    what = f"The layer {name!r} ({kind})"
    if call.inputs[0].shape[1] is None:
        raise UnsupportedError(
            f"{what} runs over a free number of steps, which this form can't; fix it with "
            "shapes={name: shape}, or take recurrent='step'."
        )
    if call.inputs[0].masked:
        raise UnsupportedError(
            f"{what} is given a mask (mask_zero=True or Masking), which only recurrent='loop' in "
            "a float format carries; for integers train without the mask."
        )
    if len(call.inputs) > 1:
        raise UnsupportedError(
            f"{what} starts from states that are computed elsewhere, which only recurrent='loop' "
            "in a float format carries."
        )
    _check_stateless(call)


def _check_stateless(call):
    """Raise for a layer whose state lasts from one call to the next."""
    if getattr(call.layer, "stateful", False):
        kind = call.kind
        way = "recurrent='step' makes the state an input and an output"
        if kind == "Bidirectional":
            way = "build the model with stateful=False"
        raise UnsupportedError(
            f"The layer {call.name!r} ({kind}) keeps its state between batches (stateful=True); "
            f"{way}."
        )


# Layers in whose int8 kernels inputs and outputs share one scale.
_TYING = frozenset({"Concatenate", "Bidirectional", "Maximum", "Minimum"})


def _form_of(layer, name: str, fused: bool, tied: bool):
    """Return what stands for a recurrent layer: something to call, with `set_weights`."""
    if kind_of(layer) == "Bidirectional":
        return _BothWays(layer, name, fused, tied)
    return _OneWay(layer, fused, tied)


class _OneWay:
    """A recurrent layer, fused or unrolled."""

    def __init__(self, layer, fused: bool, tied: bool, in_order: bool = False):
        fused = fused and _has_kernel(layer)
        if fused:
            self.layer = remade(layer, unroll=False)
        else:
            self.layer = unrolled(layer, layer.name, in_order=in_order)
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


_SETTINGS = (
    "units",
    "activation",
    "recurrent_activation",
    "go_backwards",
    "return_sequences",
    "return_state",
    "reset_after",
    "in_order",
)


def unrolled(layer, name: str, **settings):
    """Return a tf_keras layer that is a recurrent one as straight-line code.

    Args:
        layer: The built tf_keras LSTM, GRU or SimpleRNN.
        name: Of the new layer.
        **settings: What to change of the layer's own: `return_state`, `return_sequences`; and
            `in_order`, whether what is read from the end comes out from the beginning.
    """
    return _unrolled_class()(layer, name, **settings)


@functools.cache
def _unrolled_class():
    """Make the class (late: it needs tf_keras)."""
    import tensorflow as tf

    tf_keras = backends.tf_keras()

    class Unrolled(tf_keras.layers.Layer):
        """A recurrent layer as straight-line code, for files without loops.

        The input's projection is one operation for all steps, gates that share a function
        are computed together, and the first step leaves out what is zero. Weights are those
        of the Keras layer, in its order.

        Args:
            layer: The built tf_keras LSTM, GRU or SimpleRNN.
            name: Of the new layer.
        """

        def __init__(self, layer, name, **settings):
            super().__init__(name=name)
            # Not the layer itself: its weights would count as this one's.
            self.source = types.SimpleNamespace(
                **{name: getattr(layer, name, None) for name in _SETTINGS} | settings,
                kind=kind_of(layer),
                shapes={w.name.split("/")[-1].split(":")[0]: w.shape for w in layer.weights},
            )
            self.step = {"GRU": self._gru, "LSTM": self._lstm, "SimpleRNN": self._simple}[
                kind_of(layer)
            ]

        def build(self, shape):
            for name, of_shape in self.source.shapes.items():
                setattr(self, name, self.add_weight(name, shape=of_shape))
            super().build(shape)

        def call(self, x, states=None):
            """Return what the layer does: (batch, units), or a list with the states.

            Args:
                x: (batch, steps, features).
                states: To start from, (batch, units) each; zeros if left out.
            """
            layer, units = self.source, self.source.units
            recurrent_bias = None
            bias = getattr(self, "bias", None)
            if bias is not None and len(bias.shape) == 2:  # GRU with reset_after
                bias, recurrent_bias = tf.unstack(bias)
                # The gates' two biases are added anyway; the candidate's is gated.
                gates = 2 * units
                bias = bias + tf.concat([recurrent_bias[:gates], tf.zeros(units)], 0)
                recurrent_bias = recurrent_bias[gates:]
            groups = self._groups(units)
            kernels = tf.split(tf.convert_to_tensor(self.kernel), groups, 1)
            recurrent = tf.split(tf.convert_to_tensor(self.recurrent_kernel), groups, 1)
            biases = [None] * len(groups) if bias is None else tf.split(bias, groups)
            projected = []
            for kernel, one in zip(kernels, biases, strict=True):
                whole = tf.tensordot(x, kernel, 1)
                projected.append(tf.unstack(whole if one is None else whole + one, axis=1))
            steps = list(zip(*projected, strict=True))
            outputs = []
            for inputs in reversed(steps) if layer.go_backwards else steps:
                states = self.step(inputs, states, recurrent, recurrent_bias)
                outputs.append(states[0])
            result = outputs[-1]
            if layer.return_sequences:
                backwards = layer.go_backwards and layer.in_order
                result = tf.stack(outputs[::-1] if backwards else outputs, 1)
            return [result, *states] if layer.return_state else result

        def _groups(self, units):
            """Return the widths of the columns that are computed together."""
            return {"GRU": [2 * units, units], "LSTM": [4 * units], "SimpleRNN": [units]}[
                self.source.kind
            ]

        def _part(self, x, i):
            """Return one gate. Splitting leaves gates that nobody reads, without a range."""
            return x[:, i * self.source.units : (i + 1) * self.source.units]

        def _simple(self, inputs, states, recurrent, _):
            total = inputs[0] if states is None else inputs[0] + states[0] @ recurrent[0]
            return (self.source.activation(total),)

        def _lstm(self, inputs, states, recurrent, _):
            layer = self.source
            if states is None:
                write, new, read = (self._part(inputs[0], i) for i in (0, 2, 3))
            else:
                total = inputs[0] + states[0] @ recurrent[0]
                write, keep, new, read = tf.split(total, 4, 1)
            cell = layer.recurrent_activation(write) * layer.activation(new)
            if states is not None:
                cell = layer.recurrent_activation(keep) * states[1] + cell
            return layer.recurrent_activation(read) * layer.activation(cell), cell

        def _gru(self, inputs, states, recurrent, recurrent_bias):
            layer, (gates, candidate) = self.source, inputs
            if states is None:
                update = layer.recurrent_activation(self._part(gates, 0))
                if recurrent_bias is not None:
                    reset = layer.recurrent_activation(self._part(gates, 1))
                    candidate = candidate + reset * recurrent_bias
                new = layer.activation(candidate)
                return (new - update * new,)
            (state,) = states
            gates = layer.recurrent_activation(gates + state @ recurrent[0])
            update, reset = tf.split(gates, 2, 1)
            if layer.reset_after:
                inner = state @ recurrent[1]
                inner = reset * (inner if recurrent_bias is None else inner + recurrent_bias)
            else:
                inner = (reset * state) @ recurrent[1]
            new = layer.activation(candidate + inner)
            return (new + update * (state - new),)

    return Unrolled


class _BothWays:
    """A Bidirectional layer as its two directions and their merge."""

    def __init__(self, layer, name: str, fused: bool, tied: bool):
        if layer.return_state:
            raise UnsupportedError(
                f"The layer {name!r} (Bidirectional) returns its states, which only "
                "recurrent='loop' in a float format carries."
            )
        self.directions = [
            _OneWay(layer.forward_layer, fused, tied),
            _OneWay(layer.backward_layer, fused, tied, in_order=layer.return_sequences),
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
    """Return a tensor's values as another operation's result, which may have its own scale.

    The operation is a product with ones, of which one is a little less: the converter would
    drop it otherwise. In 8 bits they are all the same.
    """
    import tensorflow as tf

    ones = np.ones(tensor.shape[-1], np.float32)
    ones[0] = np.nextafter(ones[0], np.float32(0.0))
    return tensor * tf.constant(ones)


def with_cell_scales_mended(data: bytes) -> bytes:
    """Give the cells of fused int8 LSTMs at least the scale that their kernel can count in.

    No number in the file depends on it: a cell starts at zero, and the interpreter derives
    the gates' multipliers from the scales when it loads the file.

    Args:
        data: A `.tflite` file.

    Returns:
        The same, or a copy with other scales for the cells' states.
    """
    from ai_edge_litert import schema_py_generated as schema

    mended = bytearray(data)
    model = schema.Model.GetRootAs(mended, 0)
    for i in range(model.SubgraphsLength()):
        subgraph = model.Subgraphs(i)
        for j in range(subgraph.OperatorsLength()):
            operator = subgraph.Operators(j)
            code = model.OperatorCodes(operator.OpcodeIndex())
            kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
            if kind != schema.BuiltinOperator.UNIDIRECTIONAL_SEQUENCE_LSTM:
                continue
            quantization = subgraph.Tensors(operator.Inputs(LSTM_CELL)).Quantization()
            if quantization is not None and quantization.ScaleLength() == 1:
                scale = quantization.ScaleAsNumpy()  # a view of the file
                scale[0] = max(scale[0], LEAST_CELL_SCALE)
    return bytes(mended)


def _has_kernel(layer) -> bool:
    """Tell whether the converter has the fused kernel for a layer, of either Keras."""
    if kind_of(layer) == "Bidirectional":
        return all(_has_kernel(one) for one in (layer.forward_layer, layer.backward_layer))
    if kind_of(layer) != "LSTM":
        return False
    names = [getattr(f, "__name__", "") for f in (layer.activation, layer.recurrent_activation)]
    return names == ["tanh", "sigmoid"] and layer.use_bias
