"""The table: how each layer class is trained with 8-bit rounding.

`RULES` maps a tf_keras class name to a `Rule`; documentation prints the table from here
(`python -m tfkd.quantization.table`). A rule's function gets the `Lowering`, the source
layer and the `Value`s it is called with, and returns the `Value` (or list of them) it makes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from tfkd.errors import UnsupportedError
from tfkd.quantization.lowering import SYMMETRIC_UNIT, UNIT, Value


@dataclasses.dataclass(frozen=True)
class Rule:
    """How one layer class is treated.

    Attributes:
        how: In words, for the documentation.
        lower: `(lowering, layer, *values) → Value or list of Values`.
    """

    how: str
    lower: Callable


def rule_of(layer) -> Callable | None:
    """Return the function for a tf_keras layer, or `None` if the table has no rule."""
    kind = type(layer).__name__
    if kind in RULES and _is_genuine(layer):
        return RULES[kind].lower
    return None


def _is_genuine(layer) -> bool:
    """Tell a layer of tf_keras (or of tfkd) from somebody's own class of the same name."""
    return type(layer).__module__.split(".")[0] in ("tf_keras", "tfkd")


# Layers with a kernel.


def _kernel(attribute, channels):
    def lower(low, layer, x):
        _check_channels_last(layer)
        linear = _split_activation(low, layer)
        wrapped = low.weighted(lambda: low.copy(activation="linear"), [(attribute, channels, None)])
        low.note("int8", f"{attribute} per channel")
        return linear(Value(wrapped(low.rounded(x)), layer.name, "linear"))

    return lower


def _split_activation(low, layer):
    """Return a function that applies the layer's own activation as a step of its own."""

    def apply(value):
        return activation(low, layer.activation, value, layer.name)

    return apply


def _check_channels_last(layer):
    if getattr(layer, "data_format", None) == "channels_first":
        raise UnsupportedError("data_format='channels_first' has no int8 kernel; use channels_last")


def _separable(low, layer, x):
    _check_channels_last(layer)
    one_d = type(layer).__name__ == "SeparableConv1D"
    layers = low.layers
    shared = {"data_format": layer.data_format, "activation": "linear"}
    depthwise_kernel, *rest = layer.get_weights()
    axes = (1, 2) if one_d else (2, 3)

    def depthwise():
        made = low.copy(
            layers.DepthwiseConv1D if one_d else layers.DepthwiseConv2D,
            f"{layer.name}_depthwise",
            kernel_size=layer.kernel_size,
            strides=layer.strides,
            padding=layer.padding,
            dilation_rate=layer.dilation_rate,
            depth_multiplier=layer.depth_multiplier,
            use_bias=False,
            depthwise_regularizer=layer.depthwise_regularizer,
            depthwise_constraint=layer.depthwise_constraint,
            **shared,
        )
        made.build(layer.get_input_shape_at(0))
        made.set_weights([depthwise_kernel])
        return made

    def pointwise():
        made = low.copy(
            layers.Conv1D if one_d else layers.Conv2D,
            f"{layer.name}_pointwise",
            filters=layer.filters,
            kernel_size=1,
            use_bias=layer.use_bias,
            kernel_regularizer=layer.pointwise_regularizer,
            kernel_constraint=layer.pointwise_constraint,
            bias_regularizer=layer.bias_regularizer,
            bias_constraint=layer.bias_constraint,
            **shared,
        )
        made.build(
            (*[None] * (2 if one_d else 3), depthwise_kernel.shape[-2] * layer.depth_multiplier)
        )
        made.set_weights(rest)
        return made

    first = low.weighted(depthwise, [("depthwise_kernel", axes, None)], "depthwise")
    middle = Value(first(low.rounded(x)), f"{layer.name}_depthwise", "linear")
    second = low.weighted(pointwise, [("kernel", (-1,), None)], "pointwise")
    low.keep_weights([_inner_name(first), _inner_name(second)], lambda one, two: [*one, *two])
    low.note("rewritten", "as a depthwise and a pointwise convolution, each rounded")
    value = Value(second(low.rounded(middle)), layer.name, "linear")
    return activation(low, layer.activation, value, layer.name)


def _inner_name(wrapper):
    return getattr(wrapper, "layer", wrapper).name


def _embedding(low, layer, x):
    if layer.mask_zero:
        raise UnsupportedError(
            "mask_zero=True: int8 files carry no masks; pad to a fixed length and set it False"
        )
    wrapped = low.weighted(low.copy, [("embeddings", (), None)])
    low.note("int8", "embeddings per tensor")
    tensor = wrapped(x.tensor)
    return Value(tensor, layer.name, rounded=tensor)


def _time_distributed(low, layer, x):
    inner = layer.layer
    if type(inner).__name__ != "Dense":
        raise UnsupportedError(
            f"TimeDistributed({type(inner).__name__}) has no rule, only TimeDistributed(Dense)"
        )

    def dense():
        made = type(inner).from_config(
            {**inner.get_config(), "name": low.name(layer.name), "activation": "linear"}
        )
        made.trainable = layer.trainable
        made.build(layer.get_input_shape_at(0))
        made.set_weights(inner.get_weights())
        low.keep_weights([made.name], lambda weights: weights)
        return made

    wrapped = low.weighted(dense, [("kernel", (1,), None)])
    low.note("rewritten", "as a dense layer over the last axis, kernel per channel")
    value = Value(wrapped(low.rounded(x)), layer.name, "linear")
    return activation(low, inner.activation, value, layer.name)


def _prelu(low, layer, x):
    wrapped = low.weighted(low.copy, [("alpha", (), None)])
    low.note("int8", "alpha per tensor")
    return Value(wrapped(low.rounded(x)), layer.name)


# Recurrent layers.

_GATES = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}


def _recurrent(low, layer, x):
    cells = _cells(layer)
    weights = []
    for path, cell in cells:
        for name in ("kernel", "recurrent_kernel"):
            weights.append((f"{path}.{name}", *_gate_scales(cell)))
    wrapped = low.weighted(low.copy, weights)
    low.note("int8", "kernels rounded; gates and state by calibration at export")
    outputs = wrapped(low.rounded(x))
    return [Value(t, layer.name) for t in low._tensors(outputs)]


def _cells(layer):
    kind = type(layer).__name__
    if kind != "Bidirectional":
        _check_recurrent(layer)
        return [("cell", layer.cell)]
    for inner in (layer.forward_layer, layer.backward_layer):
        if type(inner).__name__ not in _GATES:
            raise UnsupportedError(f"Bidirectional({type(inner).__name__}) has no rule")
        _check_recurrent(inner)
    return [
        ("forward_layer.cell", layer.forward_layer.cell),
        ("backward_layer.cell", layer.backward_layer.cell),
    ]


def _check_recurrent(layer):
    if layer.stateful:
        raise UnsupportedError("stateful=True can't be trained in 8 bits; use stateful=False")


def _gate_scales(cell):
    """Return (channels, blocks): the file keeps an LSTM's gates as tensors of their own."""
    if type(cell).__name__ == "LSTMCell":
        return (1,), (-1, 4, cell.units)
    return (1,), None


# Normalization and affine layers.


def _batch_norm(low, layer, x):
    rank = len(x.tensor.shape)
    axes = [
        a % rank for a in (layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis])
    ]
    if axes != [rank - 1]:
        raise UnsupportedError(
            f"normalizes axis {layer.axis}; int8 kernels have scales for the last"
        )
    if x.fuses("linear"):
        low.note("int8", "folded into the layer before it at export")
        tensor = x.tensor
    else:
        low.note("rewritten", "behind a depthwise 1x1 convolution of ones, which takes it up")
        tensor = _depthwise(low, x, np.ones(x.tensor.shape[-1]), None)
    return Value(low.plain()(tensor), layer.name, "sum")


def _depthwise(low, x, scale, offset, trainable=False, key="affine"):
    """Multiply (and shift) each channel: a depthwise convolution with 1x1 kernels."""
    layers, layer = low.layers, low._layer
    shape = x.tensor.shape
    rank, channels = len(shape), shape[-1]
    if channels is None or rank not in (2, 3, 4):
        raise UnsupportedError(f"has an input of shape {tuple(shape)}; int8 needs rank 2 to 4")

    def make():
        one_d = rank < 4
        made = low.copy(
            layers.DepthwiseConv1D if one_d else layers.DepthwiseConv2D,
            f"{layer.name}_{key}",
            kernel_size=1,
            use_bias=offset is not None,
        )
        made.build((None, *[None] * (1 if one_d else 2), channels))
        kernel = np.reshape(scale, [1] * (1 if one_d else 2) + [channels, 1])
        made.set_weights([kernel] if offset is None else [kernel, np.reshape(offset, [channels])])
        made.trainable = trainable
        return made

    axes = (2, 3) if rank == 4 else (1, 2)
    wrapped = low.weighted(make, [("depthwise_kernel", axes, None)], key)
    tensor = low.rounded(x)
    if rank == 2:
        tensor = layers.Reshape((1, channels), name=low.name(f"{layer.name}_row"))(tensor)
    tensor = wrapped(tensor)
    if rank == 2:
        tensor = layers.Reshape((channels,), name=low.name(f"{layer.name}_flat"))(tensor)
    return tensor


def _affine(low, x, scale, offset, key="affine"):
    """Return scale * x + offset, both scalars or one per channel, neither trained."""
    scale, offset = np.asarray(scale, "float32"), np.asarray(offset, "float32")
    channels = x.tensor.shape[-1]
    name = low._layer.name
    if scale.size == 1 and offset.size == 1 and (scale.item() == 1.0 or offset.item() == 0.0):
        if scale.item() == 1.0 and offset.item() == 0.0:
            return x
        rescaling = low.made(
            key,
            lambda: low.layers.Rescaling(
                scale.item(), offset.item(), name=low.name(f"{name}_{key}")
            ),
        )
        return Value(rescaling(low.rounded(x)), name, "sum")
    if scale.size not in (1, channels) or offset.size not in (1, channels):
        raise UnsupportedError(
            f"scales of shape {scale.shape} and {offset.shape} do not go by the last axis"
        )
    tensor = _depthwise(
        low,
        x,
        np.broadcast_to(scale.ravel(), [channels]),
        np.broadcast_to(offset.ravel(), [channels]),
        key=key,
    )
    return Value(tensor, name, "sum")


def _rescaling(low, layer, x):
    low.note("rewritten", "as one multiplication, addition or depthwise 1x1 convolution")
    return _affine(low, x, layer.scale, layer.offset)


def _normalization(low, layer, x):
    if layer.mean is None:
        raise UnsupportedError("is not adapted; call adapt() first")
    rank = len(x.tensor.shape)
    if any(axis % rank != rank - 1 for axis in layer._keep_axis):
        raise UnsupportedError("normalizes another axis than the last")
    mean, deviation = np.asarray(layer.mean), np.maximum(np.sqrt(layer.variance), 1e-7)
    low.note("rewritten", "as a depthwise 1x1 convolution with fixed weights")
    low.keep_weights([], lambda: layer.get_weights())
    if layer.invert:
        return _affine(low, x, deviation, mean)
    return _affine(low, x, 1.0 / deviation, -mean / deviation)


def _layer_scale(low, layer, x):
    (gamma,) = layer.get_weights()
    low.note("rewritten", "as a depthwise 1x1 convolution")
    tensor = _depthwise(low, x, gamma, None, trainable=layer.trainable)
    low.keep_weights(
        [f"{layer.name}_affine"], lambda weights: [np.reshape(weights[0], gamma.shape)]
    )
    return Value(tensor, layer.name, "sum")


def _layer_norm(low, layer, x):
    """Mean → centre → variance → inverse root → scale, each step rounded."""
    rank = len(x.tensor.shape)
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    if [a % rank for a in axes] != [rank - 1]:
        raise UnsupportedError(f"normalizes axis {layer.axis}; only the last has a rule")
    layers, parts = low.layers, low.parts

    def step(key, make, *tensors, kind="other"):
        made = low.made(key, lambda: make(name=low.name(f"{layer.name}_{key}")))
        return Value(made(low._unpacked(tensors)), f"{layer.name}_{key}", kind)

    centre = step("mean", parts.LastAxisMean, low.rounded(x))
    centred = step("centred", layers.Subtract, low.rounded(x), low.rounded(centre))
    d = low.rounded(centred)
    variance = step(
        "variance", parts.LastAxisMean, low.rounded(step("square", layers.Multiply, d, d))
    )
    shifted = step(
        "epsilon",
        lambda name: layers.Rescaling(1.0, float(layer.epsilon), name=name),
        low.rounded(variance),
    )
    root = step("inverse", parts.InverseRoot, low.rounded(shifted))
    normal = step("normal", layers.Multiply, d, low.rounded(root))
    low.note("rewritten", "as mean, variance, inverse root and products, each rounded")
    weights = dict(
        zip(
            [w.name.split("/")[-1].split(":")[0] for w in layer.weights],
            layer.get_weights(),
            strict=True,
        )
    )
    if not weights:
        return dataclasses.replace(normal, name=layer.name)
    channels = x.tensor.shape[-1]
    tensor = _depthwise(
        low,
        normal,
        weights.get("gamma", np.ones(channels)),
        weights.get("beta"),
        trainable=layer.trainable,
    )
    shapes = [w.shape for w in layer.get_weights()]
    first = 0 if "gamma" in weights else 1
    low.keep_weights(
        [f"{layer.name}_affine"],
        lambda held: [np.reshape(w, s) for w, s in zip(held[first:], shapes, strict=True)],
    )
    return Value(tensor, layer.name, "sum")


# Arithmetic of several tensors.


def _chain(layer_name):
    """N inputs as n - 1 operations of two, each rounded."""

    def lower(low, layer, *values):
        total = values[0]
        for i, value in enumerate(values[1:]):
            name = layer.name if i == len(values) - 2 else f"{layer.name}_{i + 1}"
            total = _pair(low, layer_name, name, total, value)
        if len(values) > 2:
            low.note("rewritten", f"as {len(values) - 1} operations of two inputs")
        return total

    return lower


def _pair(low, layer_name, name, a, b):
    made = low.made(name, lambda: getattr(low.layers, layer_name)(name=low.name(name)))
    return Value(made([low.rounded(a), low.rounded(b)]), name, "sum")


def _average(low, layer, *values):
    total = _chain("Add")(low, layer, *values)
    low.note("rewritten", "as additions and one multiplication")
    return _affine(low, total, 1.0 / len(values), 0.0, key="mean")


def _extremum(sign):
    """max(a, b) = a + relu(b - a): TFLite's own kernel wants one scale for all three."""

    def lower(low, layer, *values):
        total = values[0]
        for i, value in enumerate(values[1:]):
            name = f"{layer.name}_{i + 1}"
            pair = (value, total) if sign > 0 else (total, value)
            gap = _relu(low, f"{name}_gap", _pair(low, "Subtract", f"{name}_difference", *pair))
            total = _pair(low, "Add" if sign > 0 else "Subtract", name, total, gap)
        low.note("rewritten", "as a subtraction with ReLU and an addition")
        return total

    return lower


def _concatenate(low, layer, *values):
    tensors = [
        v.tensor if v.fuses("linear", "sum", "relu") and v.fixed is None else low.rounded(v)
        for v in values
    ]
    return Value(low.plain()(tensors), layer.name)


def _dot(low, layer, a, b):
    return Value(low.plain()([low.rounded(a), low.rounded(b)]), layer.name)


# Activations.


def activation(low, function, value, name) -> Value:
    """Apply an activation function as an operation of its own, or fused where that works."""
    kind = _function_name(function)
    if kind not in ACTIVATIONS:
        raise UnsupportedError(
            f"the activation {kind!r} has no rule; the table has {', '.join(sorted(ACTIVATIONS))}"
        )
    return ACTIVATIONS[kind].lower(low, name, value)


def _function_name(function) -> str:
    if function is None:
        return "linear"
    return getattr(function, "__name__", type(function).__name__)


def _relu(low, name, value, limit=None):
    tensor = value.tensor if value.fuses("linear", "sum") else low.rounded(value)
    made = low.made(f"relu {name}", lambda: low.layers.ReLU(limit, name=low.name(f"{name}_relu")))
    return Value(made(tensor), name, "relu")


def _function(function, fixed=None):
    """A function that TFLite has an int8 kernel for: rounded before and after."""

    def lower(low, name, value):
        made = low.made(
            f"{function} {name}",
            lambda: low.layers.Activation(function, name=low.name(f"{name}_activation")),
        )
        return Value(made(low.rounded(value)), name, fixed=fixed)

    return lower


def _swish(low, name, value):
    gate = _function("sigmoid", UNIT)(low, f"{name}_gate", value)
    return _pair(low, "Multiply", f"{name}_swish", value, gate)


def _hard_silu(low, name, value):
    return _function(low.parts.hard_silu)(low, name, value)


def _hard_sigmoid(low, name, value):
    """relu6(x + 3) / 6."""
    shifted = _affine(low, value, 1.0, 3.0, key=f"{name}_shift")
    return _affine(low, _relu(low, f"{name}_clip", shifted, 6.0), 1 / 6, 0.0, key=f"{name}_scale")


def _elu(low, name, value, alpha=1.0, scale=1.0):
    """relu(x) + alpha (exp(-relu(-x)) - 1): the converter keeps its ELU in float."""
    positive = _relu(
        low, f"{name}_positive", dataclasses.replace(value, uses=2, rounded=low.rounded(value))
    )
    minus = _affine(low, value, -1.0, 0.0, key=f"{name}_minus")
    depth = _affine(low, _relu(low, f"{name}_negative", minus), -1.0, 0.0, key=f"{name}_depth")
    power = _function("exponential")(low, f"{name}_exp", depth)
    scaled = _affine(low, power, alpha * scale, 0.0, key=f"{name}_alpha")
    tail = _affine(low, scaled, 1.0, -alpha * scale, key=f"{name}_tail")
    head = positive if scale == 1.0 else _affine(low, positive, scale, 0.0, key=f"{name}_head")
    return _pair(low, "Add", f"{name}_elu", head, tail)


def _selu(low, name, value):
    # Klambauer et al. 2017, https://arxiv.org/abs/1706.02515
    return _elu(low, name, value, alpha=1.6732632423543772, scale=1.0507009873554805)


def _leaky(slope):
    def lower(low, name, value):
        made = low.made(
            f"leaky {name}", lambda: low.layers.LeakyReLU(slope, name=low.name(f"{name}_leaky"))
        )
        return Value(made(low.rounded(value)), name)

    return lower


def _activation_layer(low, layer, x):
    return activation(low, layer.activation, x, layer.name)


def _relu_layer(low, layer, x):
    limit = None if layer.max_value is None else float(layer.max_value)
    if float(layer.threshold):
        raise UnsupportedError("ReLU with a threshold has no int8 kernel")
    if float(layer.negative_slope):
        if limit is not None:
            raise UnsupportedError("ReLU with both a slope and a maximum has no int8 kernel")
        return _leaky(float(layer.negative_slope))(low, layer.name, x)
    if limit in (None, 6.0):
        return _relu(low, layer.name, x, limit)
    # There is no kernel for another limit, but the rounding's range clips just as well.
    return dataclasses.replace(_relu(low, layer.name, x), fixed=(0.0, limit))


def _softmax_layer(low, layer, x):
    if layer.axis not in (-1, len(x.tensor.shape) - 1):
        raise UnsupportedError("softmax over another axis than the last has no int8 kernel")
    return _function("softmax", UNIT)(low, layer.name, x)


def _hand_on(low, value):
    """Return a value for a second name; rounded first where the first name has readers too."""
    if value.uses > 1:
        low.rounded(value)
    return value


# Layers that move numbers.


def _moves(low, layer, x):
    _check_channels_last(layer)
    low.note("int8", "moves rounded values; no rounding of its own")
    return low.moved(x, low.plain())


def _pools(low, layer, x):
    _check_channels_last(layer)
    low.note("int8", "in the scale of its input, as the kernel does")
    return low.moved(x, low.plain())


def _global_average(low, layer, x):
    _check_channels_last(layer)
    return Value(low.plain()(low.rounded(x)), layer.name)


def _repeats(low, layer, x):
    """UpSampling1D and RepeatVector as UpSampling2D: one RESIZE instead of SPLITs or a TILE."""
    layers, name = low.layers, layer.name
    shape = x.tensor.shape
    times = layer.n if type(layer).__name__ == "RepeatVector" else layer.size
    rows = 1 if len(shape) == 2 else shape[1]
    if rows is None:
        raise UnsupportedError("has an input of free length; give the Input layer a fixed one")
    tensor = layers.Reshape((rows, 1, shape[-1]), name=low.name(f"{name}_rows"))(low.rounded(x))
    tensor = layers.UpSampling2D((times, 1), name=low.name(f"{name}_repeat"))(tensor)
    tensor = layers.Reshape((rows * times, shape[-1]), name=low.name(name))(tensor)
    low.note("rewritten", "as UpSampling2D; moves rounded values")
    return Value(tensor, name, rounded=tensor)


def _upsampling(low, layer, x):
    _check_channels_last(layer)
    if layer.interpolation not in ("nearest", "bilinear"):
        raise UnsupportedError(f"interpolation={layer.interpolation!r} has no int8 kernel")
    return _moves(low, layer, x)


def _only_in_training(low, layer, x):
    low.note("int8", "acts in training only")
    return low.moved(x, low.plain())


def _before_rounding(low, layer, x):
    """Random augmentation at the input: the file's input is what comes out of it."""
    low.note("int8", "acts in training only")
    value = _hand_on(low, x)
    if value.rounded is not None:
        return low.moved(value, low.plain())
    return dataclasses.replace(value, tensor=low.plain()(value.tensor))


_PER_CHANNEL = "kernel per channel, output after fused batch normalization and ReLU"
_ROUNDED = "output rounded; ReLU after it fused"

RULES: dict[str, Rule] = {
    "Conv1D": Rule(_PER_CHANNEL, _kernel("kernel", (-1,))),
    "Conv2D": Rule(_PER_CHANNEL, _kernel("kernel", (-1,))),
    "Dense": Rule(_PER_CHANNEL, _kernel("kernel", (-1,))),
    "DepthwiseConv1D": Rule(_PER_CHANNEL, _kernel("depthwise_kernel", (1, 2))),
    "DepthwiseConv2D": Rule(_PER_CHANNEL, _kernel("depthwise_kernel", (2, 3))),
    "Conv2DTranspose": Rule(_PER_CHANNEL, _kernel("kernel", (2,))),
    "Conv1DTranspose": Rule(_PER_CHANNEL, _kernel("kernel", (1,))),
    "SeparableConv1D": Rule("rewritten: depthwise, then pointwise, each rounded", _separable),
    "SeparableConv2D": Rule("rewritten: depthwise, then pointwise, each rounded", _separable),
    "TimeDistributed": Rule("of a Dense: rewritten as Dense over the last axis", _time_distributed),
    "Embedding": Rule("embeddings per tensor (mask_zero refused)", _embedding),
    "PReLU": Rule("alpha per tensor, output rounded", _prelu),
    "LSTM": Rule("kernels per gate; state and gates calibrated at export", _recurrent),
    "GRU": Rule("kernels per channel; state and gates calibrated at export", _recurrent),
    "SimpleRNN": Rule("kernels per channel; state calibrated at export", _recurrent),
    "Bidirectional": Rule("of LSTM, GRU, SimpleRNN: as these", _recurrent),
    "BatchNormalization": Rule(
        "folded into the layer before it; elsewhere behind a depthwise 1x1 convolution of ones",
        _batch_norm,
    ),
    "LayerNormalization": Rule(
        "rewritten: mean, variance, inverse root, products, each rounded", _layer_norm
    ),
    "LayerScale": Rule("rewritten: depthwise 1x1 convolution", _layer_scale),
    "Rescaling": Rule("rewritten: multiply, add, or depthwise 1x1 convolution", _rescaling),
    "Normalization": Rule("rewritten: depthwise 1x1 convolution, fixed weights", _normalization),
    "Add": Rule(f"pairwise; {_ROUNDED}", _chain("Add")),
    "Subtract": Rule(_ROUNDED, _chain("Subtract")),
    "Multiply": Rule(f"pairwise; {_ROUNDED}", _chain("Multiply")),
    "Average": Rule("rewritten: additions and one multiplication", _average),
    "Maximum": Rule("rewritten: a + relu(b - a)", _extremum(+1)),
    "Minimum": Rule("rewritten: a - relu(a - b)", _extremum(-1)),
    "Concatenate": Rule("inputs share the output's range where only it reads them", _concatenate),
    "Dot": Rule("output rounded", _dot),
    "Activation": Rule("see the activations", _activation_layer),
    "ReLU": Rule("fused into the operation before it", _relu_layer),
    "LeakyReLU": Rule(
        "output rounded",
        lambda low, layer, x: _leaky(float(layer.alpha))(low, layer.name, x),
    ),
    "ELU": Rule(
        "rewritten with exp; the converter keeps ELU in float",
        lambda low, layer, x: _elu(low, layer.name, x, alpha=float(layer.alpha)),
    ),
    "Softmax": Rule("output in [0, 1) by 1/256", _softmax_layer),
    "UpSampling2D": Rule("moves values", _upsampling),
    "UpSampling1D": Rule("rewritten as UpSampling2D; moves values", _repeats),
    "RepeatVector": Rule("rewritten as UpSampling2D; moves values", _repeats),
    **{
        kind: Rule("moves values", _moves)
        for kind in (
            "Flatten",
            "Reshape",
            "Permute",
            "Cropping1D",
            "Cropping2D",
            "ZeroPadding1D",
            "ZeroPadding2D",
            "MaxPooling1D",
            "MaxPooling2D",
            "GlobalMaxPooling1D",
            "GlobalMaxPooling2D",
            "Resizing",
            "CenterCrop",
        )
    },
    **{
        kind: Rule("in the scale of its input", _pools)
        for kind in ("AveragePooling1D", "AveragePooling2D")
    },
    **{
        kind: Rule("output rounded", _global_average)
        for kind in ("GlobalAveragePooling1D", "GlobalAveragePooling2D")
    },
    **{
        kind: Rule("acts in training only", _only_in_training)
        for kind in (
            "Dropout",
            "SpatialDropout1D",
            "SpatialDropout2D",
            "GaussianDropout",
            "AlphaDropout",
            "GaussianNoise",
            "ActivityRegularization",
        )
    },
    **{
        kind: Rule("acts in training only, before the input is rounded", _before_rounding)
        for kind in (
            "RandomFlip",
            "RandomRotation",
            "RandomZoom",
            "RandomTranslation",
            "RandomContrast",
            "RandomBrightness",
        )
    },
}

ACTIVATIONS: dict[str, Rule] = {
    "linear": Rule("nothing", lambda low, name, value: _hand_on(low, value)),
    "relu": Rule("fused into the operation before it", _relu),
    "relu6": Rule("fused into the operation before it", lambda low, n, v: _relu(low, n, v, 6.0)),
    "sigmoid": Rule("output in [0, 1) by 1/256", _function("sigmoid", UNIT)),
    "tanh": Rule("output in [-1, 1) by 1/128", _function("tanh", SYMMETRIC_UNIT)),
    "softmax": Rule("output in [0, 1) by 1/256", _function("softmax", UNIT)),
    "exponential": Rule("output rounded", _function("exponential")),
    "gelu": Rule("output rounded", _function("gelu")),
    "swish": Rule("sigmoid and product, each rounded", _swish),
    "silu": Rule("sigmoid and product, each rounded", _swish),
    "hard_silu": Rule("output rounded (HARD_SWISH)", _hard_silu),
    # Keras 2's own hard_sigmoid has another slope than Keras 3's (and TFLite's).
    "keras3_hard_sigmoid": Rule("add 3, ReLU6, divide by 6, each rounded", _hard_sigmoid),
    "leaky_relu": Rule("output rounded", _leaky(0.2)),
    "elu": Rule("rewritten with exp", _elu),
    "selu": Rule("rewritten with exp", _selu),
}


def markdown() -> str:
    """Return both tables as Markdown, for the documentation."""
    lines = ["| layer | in 8 bits |", "|---|---|"]
    lines += [f"| {kind} | {rule.how} |" for kind, rule in sorted(RULES.items())]
    lines += ["", "| activation | in 8 bits |", "|---|---|"]
    lines += [f"| {kind} | {rule.how} |" for kind, rule in sorted(ACTIVATIONS.items())]
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown())
