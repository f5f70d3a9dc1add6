"""A recurrent layer as straight-line code.

Importing this module imports tf_keras: do it inside functions only.
"""

from __future__ import annotations

import types

import tensorflow as tf

from tfkd.model import backends
from tfkd.model.layer_kinds import kind_of

tf_keras = backends.tf_keras()

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


class Unrolled(tf_keras.layers.Layer):
    """A recurrent layer as straight-line code, for files without loops.

    One operation projects the input for all steps, gates with the same function are computed
    together, and the first step omits terms that are zero. The weights are those of the Keras
    layer, in its order.

    Args:
        layer: The built tf_keras LSTM, GRU or SimpleRNN.
        name: The name of the new layer.
        **settings: Replacements of the layer's settings (`return_state`, `return_sequences`), and
        `in_order`: whether a layer that reads backwards returns its outputs in input order.
    """

    def __init__(self, layer, name, **settings):
        super().__init__(name=name)
        # Not the layer itself: its weights would count as weights of this layer.
        self.source = types.SimpleNamespace(
            **{name: getattr(layer, name, None) for name in _SETTINGS} | settings,
            kind=kind_of(layer),
            shapes={w.name.split("/")[-1].split(":")[0]: w.shape for w in layer.weights},
        )
        self.step = {"GRU": self._gru, "LSTM": self._lstm, "SimpleRNN": self._simple}[
            kind_of(layer)
        ]

    def build(self, shape):
        """Create the weights of the layer."""
        for name, of_shape in self.source.shapes.items():
            setattr(self, name, self.add_weight(name, shape=of_shape))
        super().build(shape)

    def call(self, x, states=None):
        """Return the layer's output (batch, units), or a list of it and the states.

        Args:
            x: (batch, steps, features).
            states: The initial states, (batch, units) each; zeros if left out.
        """
        layer, units = self.source, self.source.units
        recurrent_bias = None
        bias = getattr(self, "bias", None)
        if bias is not None and len(bias.shape) == 2:  # GRU with reset_after
            bias, recurrent_bias = tf.unstack(bias)
            # The gates add both their biases, so sum them; the candidate's second one is gated.
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
        """Return the widths of the groups of columns that are computed together."""
        return {"GRU": [2 * units, units], "LSTM": [4 * units], "SimpleRNN": [units]}[
            self.source.kind
        ]

    def _part(self, x, i):
        """Return one gate. A split would also produce gates that nothing reads, without a range."""
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
