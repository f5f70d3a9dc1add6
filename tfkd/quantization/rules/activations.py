"""Rules of activation functions, inside layers and as separate layers."""

from __future__ import annotations

import dataclasses

from tfkd.errors import UnsupportedError
from tfkd.model.layer_kinds import function_name
from tfkd.quantization.rewriting import SYMMETRIC_UNIT, UNIT, Rule, Value
from tfkd.quantization.rules.primitives import affine, function, hand_on, pair, relu

#: The description of ReLU and ReLU6.
FUSED = "fused into the operation before it, where that takes one; elsewhere output rounded"


def activation(net, function, value, name) -> Value:
    """Apply an activation function, fused into another operation where possible."""
    kind = "linear" if function is None else function_name(function)
    if kind not in ACTIVATIONS:
        shown = getattr(function, "__name__", type(function).__name__)
        own = "" if kind else " is not one of Keras's, and"
        raise UnsupportedError(
            f"the activation {shown!r}{own} has no rule; the table has "
            f"{', '.join(sorted(ACTIVATIONS))}"
        )
    return ACTIVATIONS[kind].apply(net, name, value)


def _swish(net, name, value):
    gate = function("sigmoid", UNIT)(net, f"{name}_gate", value)
    return pair(net, "Multiply", f"{name}_swish", value, gate)


def _hard_silu(net, name, value):
    return function(net.parts.hard_silu)(net, name, value)


def _hard_sigmoid(net, name, value):
    """Return relu6(x + 3) / 6."""
    shifted = affine(net, value, 1.0, 3.0, key=f"{name}_shift")
    return affine(net, relu(net, f"{name}_clip", shifted, 6.0), 1 / 6, 0.0, key=f"{name}_scale")


def elu(net, name, value, alpha=1.0, scale=1.0):
    """Return relu(x) + alpha (exp(-relu(-x)) - 1), since the converter keeps ELU in float."""
    positive = relu(
        net, f"{name}_positive", dataclasses.replace(value, uses=2, rounded=net.rounded(value))
    )
    minus = affine(net, value, -1.0, 0.0, key=f"{name}_minus")
    depth = affine(net, relu(net, f"{name}_negative", minus), -1.0, 0.0, key=f"{name}_depth")
    power = function("exponential")(net, f"{name}_exp", depth)
    scaled = affine(net, power, alpha * scale, 0.0, key=f"{name}_alpha")
    tail = affine(net, scaled, 1.0, -alpha * scale, key=f"{name}_tail")
    head = positive if scale == 1.0 else affine(net, positive, scale, 0.0, key=f"{name}_head")
    return pair(net, "Add", f"{name}_elu", head, tail)


def _selu(net, name, value):
    # Klambauer et al. 2017, https://arxiv.org/abs/1706.02515
    return elu(net, name, value, alpha=1.6732632423543772, scale=1.0507009873554805)


def _softplus(net, name, value):
    """Return relu(x) + log(1 + exp(-|x|)): the range of exp(x) itself exceeds 8 bits."""
    positive = relu(
        net, f"{name}_positive", dataclasses.replace(value, uses=2, rounded=net.rounded(value))
    )
    twice = affine(net, positive, 2.0, 0.0, key=f"{name}_twice")
    minus = pair(net, "Subtract", f"{name}_minus", value, twice)
    power = function("exponential")(net, f"{name}_exp", minus)
    above = affine(net, power, 1.0, 1.0, key=f"{name}_above")
    rest = function(net.parts.logarithm)(net, f"{name}_log", above)
    return pair(net, "Add", f"{name}_softplus", positive, rest)


def _mish(net, name, value):
    net.rounded(value)
    gate = function("tanh", SYMMETRIC_UNIT)(net, f"{name}_gate", _softplus(net, name, value))
    return pair(net, "Multiply", f"{name}_mish", value, gate)


def leaky(slope):
    """Return the rule of a leaky ReLU with a slope."""

    def apply(net, name, value):
        made = net.made(
            f"leaky {name}", lambda: net.layers.LeakyReLU(slope, name=net.name(f"{name}_leaky"))
        )
        return Value(made(net.rounded(value)), name)

    return apply


def activation_layer(net, layer, x):
    """Apply an `Activation` layer."""
    return activation(net, layer.activation, x, layer.name)


def relu_layer(net, layer, x):
    """Apply a `ReLU` layer with its settings."""
    limit = None if layer.max_value is None else float(layer.max_value)
    if float(layer.threshold):
        raise UnsupportedError("ReLU with a threshold has no int8 kernel")
    if float(layer.negative_slope):
        if limit is not None:
            raise UnsupportedError("ReLU with both a slope and a maximum has no int8 kernel")
        return leaky(float(layer.negative_slope))(net, layer.name, x)
    value = relu(net, layer.name, x, limit)
    if limit in (None, 6.0):
        return value
    # Other limits have no kernel, but the range of the rounding clips as well: see `freeze`.
    return dataclasses.replace(value, fixed=(0.0, limit))


def softmax_layer(net, layer, x):
    """Apply softmax over the last axis."""
    if layer.axis not in (-1, len(x.tensor.shape) - 1):
        raise UnsupportedError("softmax over an axis other than the last has no int8 kernel")
    return function("softmax", UNIT)(net, layer.name, x)


ACTIVATIONS: dict[str, Rule] = {
    "linear": Rule("nothing", lambda net, name, value: hand_on(net, value)),
    "relu": Rule(FUSED, relu),
    "relu6": Rule(FUSED, lambda net, n, v: relu(net, n, v, 6.0)),
    "sigmoid": Rule("output in [0, 1) by 1/256", function("sigmoid", UNIT)),
    "tanh": Rule("output in [-1, 1) by 1/128", function("tanh", SYMMETRIC_UNIT)),
    "softmax": Rule("output in [0, 1) by 1/256", function("softmax", UNIT)),
    "exponential": Rule("output rounded", function("exponential")),
    "gelu": Rule("output rounded", function("gelu")),
    "swish": Rule("sigmoid and product, each rounded", _swish),
    "silu": Rule("sigmoid and product, each rounded", _swish),
    "hard_silu": Rule("output rounded (HARD_SWISH)", _hard_silu),
    # Keras 2's own hard_sigmoid has another slope than Keras 3's (and TFLite's).
    "keras3_hard_sigmoid": Rule("add 3, ReLU6, divide by 6, each rounded", _hard_sigmoid),
    "leaky_relu": Rule("output rounded", leaky(0.2)),
    "elu": Rule("rewritten with exp", elu),
    "selu": Rule("rewritten with exp", _selu),
    "softplus": Rule("rewritten with exp and log", _softplus),
    "mish": Rule("rewritten with exp, log and tanh", _mish),
}
