"""tfkd's classes for tfmot: quantizers, the per-layer `QuantizeConfig`, a few small layers.

Importing this module imports tfmot: do it inside functions only.

A wrapped layer computes with rounded weights, and every activation that the int8 file
will store passes one `QuantizeLayer`:

    x ─► QuantizeLayer ─► QuantizeWrapperV2(Conv2D) ─► BatchNorm ─► ReLU ─► QuantizeLayer ─► …
"""

from __future__ import annotations

import contextlib

import tensorflow as tf

from tfkd.model import backends, replicas

tf_keras = backends.tf_keras()
tfmot = backends.tfmot()

from tensorflow_model_optimization.python.core.quantization.keras import (  # noqa: E402
    quantize_layer,
    quantize_wrapper,
)

_register = tf_keras.utils.register_keras_serializable(package="tfkd")
_Quantizer = tfmot.quantization.keras.quantizers.Quantizer

#: Weight of the past in the moving average of a range, after enough steps.
_DECAY = 0.99
_TINY = 1e-9
_BEYOND = 1.0 + 1e-6
# Candidates for the end of a coarse grid, as fractions of the largest weight.
_SHARES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45, 0.4)


class _Rounding(_Quantizer):
    """A quantizer that `unrounded` turns off."""

    rounds = True


@contextlib.contextmanager
def unrounded(model):
    """Let eager calls of a quantize-aware model within the block compute without rounding.

    A function that TensorFlow has traced already does not change.
    """
    held = [getattr(layer, "quantizer", None) for layer in model.layers]
    for layer in model.layers:
        held += [quantizer for _, quantizer, _ in getattr(layer, "_weight_vars", ())]
    ours = [quantizer for quantizer in held if isinstance(quantizer, _Rounding)]
    for quantizer in ours:
        quantizer.rounds = False
    try:
        yield
    finally:
        for quantizer in ours:
            quantizer.rounds = True


@_register
class WeightRounding(_Rounding):
    """Rounds weights to 8 or 4 bits, symmetric around zero, -127 to 127 or -7 to 7, per channel.

    In 8 bits the grid ends at a channel's largest weight. In 4 bits it ends where the sum of
    squared errors is least, and larger weights are clipped. The largest weight is then still at the
    end of the grid, from which `to_tflite` finds the scale again.

    The range is read from the weights each time, so it is never a step behind them (tfmot
    keeps the last training step's). Gradients pass straight through (Bengio et al. 2013,
    https://arxiv.org/abs/1308.3432), but not to clipped weights.

    Args:
        channels: Axes whose every index has a scale of its own; `()` for one scale.
        columns: Widths of neighbouring columns that share a scale, such as (units,) * 4 for the
            gates of an LSTM, each of which the fused kernel has as a tensor of its own; instead of
            `channels`.
        preserve: `"sparsity"` keeps weights that are zero now at zero. `"clusters"` also keeps
            weights that are equal now equal. `None` does neither.
        bits: 8 or 4.
    """

    def __init__(self, channels=(), columns=None, preserve=None, bits=8):
        self.channels = tuple(channels)
        self.columns = None if columns is None else tuple(columns)
        self.preserve = preserve
        self.bits = bits

    def build(self, tensor_shape, name, layer):
        """Make the variables that hold what is preserved; `fix` fills them."""
        if self.preserve is None:
            return {}
        kind = {"sparsity": tf.float32, "clusters": tf.int32}[self.preserve]
        return {
            self.preserve: layer.add_weight(
                f"{name}_{self.preserve}",
                shape=tensor_shape,
                dtype=kind,
                initializer="ones" if self.preserve == "sparsity" else "zeros",
                trainable=False,
            )
        }

    def fix(self, weight, variables):
        """Note which weights are zero, or equal, at this moment."""
        if self.preserve == "sparsity":
            variables["sparsity"].assign(tf.cast(weight != 0, tf.float32))
        elif self.preserve == "clusters":
            _, numbers = tf.unique(tf.reshape(weight, [-1]))
            numbers = tf.reshape(numbers, weight.shape)
            variables["clusters"].assign(tf.where(weight == 0, -1, numbers))

    def __call__(self, inputs, training, weights, **kwargs):
        """Return the rounded weights, of the same shape."""
        w = tf.convert_to_tensor(inputs)
        if not self.rounds:
            return w
        if self.preserve == "sparsity":
            w = w * tf.convert_to_tensor(weights["sparsity"])
        elif self.preserve == "clusters":
            numbers = tf.convert_to_tensor(weights["clusters"])
            flat = tf.reshape(numbers, [-1])
            # Members of a cluster share their mean, and thus the mean of their gradients; zeros
            # have number -1 and stay zeros.
            means = tf.math.unsorted_segment_mean(
                tf.reshape(w, [-1]), flat, tf.reduce_max(flat) + 1
            )
            w = tf.where(numbers < 0, 0.0, tf.gather(means, tf.maximum(numbers, 0)))
        scale = tf.stop_gradient(self.scale(w))
        places = tf.clip_by_value(tf.round(w / scale), -self.most, self.most)
        if self.bits < 8:
            w = tf.clip_by_value(w, -self.most * scale, self.most * scale)
        return w + tf.stop_gradient(places * scale - w)

    @property
    def most(self) -> float:
        """The last place of the grid, on both sides."""
        return 2.0 ** (self.bits - 1) - 1.0

    def scale(self, w):
        """Return the size of a step, in a shape that broadcasts to that of the weights."""
        rank = len(w.shape)
        whole = tf.maximum(self._shared(tf.abs(w), tf.reduce_max, rank) / self.most, _TINY)
        if self.bits == 8:
            return whole
        steps = tf.reshape(_SHARES, (-1, *[1] * rank)) * whole
        rounded = tf.clip_by_value(tf.round(w / steps), -self.most, self.most) * steps
        errors = self._shared((rounded - w) ** 2, tf.reduce_sum, rank)
        return tf.gather(_SHARES, tf.argmin(errors, axis=0)) * whole

    def _shared(self, values, reduce, rank: int):
        """Reduce the last `rank` axes over entries with one scale, to a shape that broadcasts."""
        if self.columns is not None:
            parts = tf.split(values, self.columns, axis=-1)
            reduced = [reduce(part, (-2, -1), True) for part in parts]
            return tf.repeat(tf.concat(reduced, -1), self.columns, axis=-1)
        kept = [axis % rank for axis in self.channels]
        return reduce(values, [axis - rank for axis in range(rank) if axis not in kept], True)

    def get_config(self):
        """Return the arguments."""
        return {
            "channels": self.channels,
            "columns": self.columns,
            "preserve": self.preserve,
            "bits": self.bits,
        }


@_register
class RangeRounding(_Rounding):
    """Rounds an activation to 256 levels over a range learned from the batches it sees.

    The range is the mean of the batches' minima and maxima so far, later their moving
    average (decay 0.99), and always holds zero. Under a strategy a batch is that of all
    replicas. It starts with the first training batch; until then values pass unrounded. (tfmot
    starts every range at [-6, 6] with a decay of 0.999 and needs thousands of steps to leave it.)
    """

    def build(self, tensor_shape, name, layer):
        """Make the range and the number of batches seen."""
        shared = {
            "trainable": False,
            "synchronization": tf.VariableSynchronization.ON_READ,
            # Every replica updates its own copy in the same way.
            "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA,
            "experimental_autocast": False,
        }
        return {
            "min_var": layer.add_weight("min", shape=(), initializer="zeros", **shared),
            "max_var": layer.add_weight("max", shape=(), initializer="zeros", **shared),
            "seen": layer.add_weight("seen", shape=(), initializer="zeros", **shared),
        }

    def __call__(self, inputs, training, weights, **kwargs):
        """Return the rounded activation; move the range if training."""
        if not self.rounds:
            return inputs
        low, high, seen = weights["min_var"], weights["max_var"], weights["seen"]
        if training:
            decay = tf.minimum(seen / (seen + 1.0), _DECAY)
            # One collective for both ends; a replica without examples has the range [0, 0].
            ends = tf.stack([tf.reduce_min(inputs), -tf.reduce_max(inputs)])
            ends = replicas.least(tf.minimum(ends, 0.0))
            new_low = decay * low + (1.0 - decay) * ends[0]
            new_high = decay * high - (1.0 - decay) * ends[1]
            low.assign(new_low)
            high.assign(new_high)
            seen.assign(seen + 1.0)
            # The largest value of the first batch is at the end of the range, where the last bit
            # would decide whether it gets a gradient.
            return _round(inputs, new_low * _BEYOND, new_high * _BEYOND)
        return tf.where(seen > 0.0, _round(inputs, low, high), inputs)

    def get_config(self):
        """Return the arguments: none."""
        return {}


@_register
class FixedRounding(_Rounding):
    """Rounds an activation over a fixed range, which TFLite prescribes for some functions.

    Args:
        low: Lower end, at most 0.
        high: Upper end, at least 0.
    """

    def __init__(self, low, high):
        self.low, self.high = float(low), float(high)

    def build(self, tensor_shape, name, layer):
        """Make nothing: the range is known."""
        return {}

    def __call__(self, inputs, training, weights, **kwargs):
        """Return the rounded activation."""
        return _round(inputs, self.low, self.high) if self.rounds else inputs

    def get_config(self):
        """Return the arguments."""
        return {"low": self.low, "high": self.high}


def _round(x, low, high):
    return tf.quantization.fake_quant_with_min_max_vars(x, *on_grid(low, high))


def on_grid(low, high):
    """Return the nearest range of which 0 is one of the 256 levels.

    The converter and TensorFlow's rounding do this too, but where 0 lies in the middle of two
    levels, as in [-1, 1], one takes the upper and one the lower.
    """
    high = tf.maximum(high, low + 1e-6)  # an activation that is always zero
    step = (high - low) / 255.0
    below = tf.round(-low / step)
    return -below * step, (255.0 - below) * step


@_register
class QuantizeLayer(quantize_layer.QuantizeLayer):
    """Rounds its input: tfmot's layer, in a form that can be read from a `.keras` file.

    tfmot's own is built twice there, and then has twice the variables that the file has.
    """

    def build(self, input_shape):
        """Make the range, once."""
        if not self.built:
            super().build(input_shape)
            self.built = True


@_register
class Fixed(tf_keras.constraints.Constraint):
    """The constraint of weights that the wrapper does not train, also after a file is read."""


@_register
class QuantizeWrapperV2(quantize_wrapper.QuantizeWrapperV2):
    """A layer that computes with rounded weights: tfmot's wrapper, with Keras's `trainable`.

    tfmot's own trains the rounded weights of a layer that is frozen, too.
    """

    def build(self, input_shape):
        """Build the layer, and note who holds the weights: rounding takes them from it."""
        quantize_wrapper.QuantizeWrapper.build(self, input_shape)  # V2's lists weights twice
        holders = {id(weight): _holders(self.layer, weight) for weight, *_ in self._weight_vars}

        def trains(weight) -> bool:
            if isinstance(weight.constraint, Fixed):
                return False
            held = holders.get(id(weight), [self.layer])
            return bool(held) and all(layer.trainable for layer in held)

        self._trains = trains  # a function: Keras would track a list of layers

    @property
    def trainable_weights(self):
        """The weights that a step changes: none in a frozen layer."""
        own = list(filter(self._trains, self._trainable_weights))
        return self._dedup_weights(own + self.layer.trainable_weights)

    @property
    def non_trainable_weights(self):
        """Everything else."""
        frozen = [weight for weight in self._trainable_weights if not self._trains(weight)]
        rest = self.layer.non_trainable_weights + self._non_trainable_weights
        return self._dedup_weights(frozen + rest)

    def save_own_variables(self, store):
        """Write the rounded weights and what belongs to them; the layer writes the rest.

        Keras's own method lists some variables twice, for they are held in a list, too.
        """
        for place, variable in enumerate(self._trainable_weights + self._non_trainable_weights):
            store[str(place)] = variable.numpy()

    def load_own_variables(self, store):
        """Read them again."""
        variables = self._trainable_weights + self._non_trainable_weights
        if len(store.keys()) != len(variables):
            raise ValueError(
                f"The layer {self.name!r} has {len(variables)} variables, but the file has "
                f"{len(store.keys())}."
            )
        for place, variable in enumerate(variables):
            variable.assign(store[str(place)])


def _holders(layer, weight) -> list:
    """Return the layers that contain a weight, `layer` first; none if it is never trained."""
    if any(own is weight for own in layer._trainable_weights):
        return [layer]
    for inner in layer._flatten_layers(recursive=False, include_self=False):
        found = _holders(inner, weight)
        if found:
            return [layer, *found]
    return []


@_register
class LeftFloat(tf_keras.layers.Wrapper):
    """A layer that the file keeps in floating point, from `quantize_aware(skip=...)`.

    Args:
        layer: The layer, which is called as it is.
    """

    def __init__(self, layer, **kwargs):
        super().__init__(layer, **{"name": f"float_{layer.name}", **kwargs})

    def build(self, input_shape=None):
        """Build nothing: the layer does so in its first call."""
        self.built = True

    def __call__(self, inputs, *args, **kwargs):
        """Call the layer; further arguments by name, since a model's file keeps only those."""
        names = self.layer._call_spec.arg_names[1:]
        return super().__call__(inputs, **dict(zip(names, args, strict=False)), **kwargs)

    def call(self, inputs, **kwargs):
        """Return the layer's output for the same arguments."""
        taken = {"training": self.layer._expects_training_arg, "mask": self.layer._expects_mask_arg}
        kwargs = {name: value for name, value in kwargs.items() if taken.get(name, True)}
        return self.layer(inputs, **kwargs)

    def compute_mask(self, inputs, mask=None):
        """Return the layer's own mask."""
        return self.layer.compute_mask(inputs, mask)

    @property
    def trainable(self):
        """Whether the layer trains."""
        return self.layer.trainable

    @trainable.setter
    def trainable(self, value):
        self.layer.trainable = value


@_register
class RoundedWeights(tfmot.quantization.keras.QuantizeConfig):
    """Rounds the named weights of a layer, and nothing else of it.

    Args:
        weights: (attribute path, channels, columns) per weight, for example
            ("cell.kernel", (), (24, 24, 24, 24)); see `WeightRounding`.
        preserve: See `WeightRounding`.
        bits: Likewise.
    """

    def __init__(self, weights, preserve=None, bits=8):
        self.weights = [(path, *_groups(*groups)) for path, *groups in weights]
        self.preserve = preserve
        self.bits = bits

    def get_weights_and_quantizers(self, layer):
        """Return the variables with their quantizers."""
        return [
            (_owner(layer, path)[2], WeightRounding(channels, columns, self.preserve, self.bits))
            for path, channels, columns in self.weights
        ]

    def set_quantize_weights(self, layer, quantize_weights):
        """Put the rounded tensors in the variables' places for this call."""
        for (path, _, _), rounded in zip(self.weights, quantize_weights, strict=True):
            owner, name, _ = _owner(layer, path)
            setattr(owner, name, rounded)

    def get_activations_and_quantizers(self, layer):
        """Return nothing: activations are rounded by layers of their own."""
        return []

    def set_quantize_activations(self, layer, quantize_activations):
        """Do nothing."""
        return

    def get_output_quantizers(self, layer):
        """Return nothing."""
        return []

    def get_config(self):
        """Return the arguments."""
        return {"weights": self.weights, "preserve": self.preserve, "bits": self.bits}


def _groups(channels, columns):
    """Return `channels` and `columns` of `WeightRounding`, also for a file of tfkd 0.1.

    Version 0.1 described an LSTM's gates by a shape for the weights, (-1, 4, units).
    """
    if columns is not None and columns[0] == -1:
        return (), (columns[2],) * columns[1]
    return tuple(channels), None if columns is None else tuple(columns)


def _owner(layer, path: str):
    """Return (owner, attribute name, value) of a dotted path."""
    *parents, name = path.split(".")
    for parent in parents:
        layer = getattr(layer, parent)
    return layer, name, getattr(layer, name)


@_register
def hard_silu(x):
    """X relu6(x + 3) / 6, which the converter knows as HARD_SWISH."""
    return x * tf.nn.relu6(x + 3.0) * (1.0 / 6.0)


@_register
def logarithm(x):
    """The natural logarithm of positive values."""
    return tf.math.log(x)


def as_float(x):
    """Return a symbolic tensor of bytes as float32."""
    return tf.cast(x, tf.float32)


@_register
class LastAxisMean(tf_keras.layers.Layer):
    """Mean over the last axis, which stays with size 1."""

    def call(self, x):
        """Return the mean: (..., n) → (..., 1)."""
        return tf.reduce_mean(x, axis=-1, keepdims=True)


@_register
class GroupMean(tf_keras.layers.Layer):
    """Mean over places and channels of each group, which stay with size 1."""

    def call(self, x):
        """Return the mean: (batch, places, groups, channels) → (batch, 1, groups, 1)."""
        return tf.reduce_mean(x, axis=(1, 3), keepdims=True)


@_register
class InverseRoot(tf_keras.layers.Layer):
    """1/sqrt(x) of rounded values ≥ 0; zero counts as the smallest value that is not.

    TFLite's int8 kernel gives the largest output for zero, which the following rounding
    does to infinity as well; only in training a zero must not push the range there.
    """

    def call(self, x, training=None):
        """Return the inverse root, elementwise."""
        if training:
            smallest = tf.reduce_min(tf.where(x > 0.0, x, x.dtype.max))
            x = tf.maximum(x, replicas.least(smallest))
        return tf.math.rsqrt(x)


@_register
class Rounding(tf_keras.layers.Layer):
    """Rounds over a range that no longer moves, as a `QuantizeLayer` after training.

    Args:
        low: Lower end of the range.
        high: Upper end.
    """

    def __init__(self, low, high, **kwargs):
        super().__init__(**kwargs)
        self.low, self.high = float(low), float(high)

    def call(self, x):
        """Return the rounded values."""
        return tf.quantization.fake_quant_with_min_max_args(x, self.low, self.high)

    def get_config(self):
        """Return the arguments."""
        return {**super().get_config(), "low": self.low, "high": self.high}
