"""Building blocks of several rules: multiply, add, compare, each rounded."""

from __future__ import annotations

import numpy as np

from tfkd.errors import UnsupportedError
from tfkd.quantization.rewriting import BYTES, Value


def check_channels_last(layer):
    """Raise for `channels_first`, which has no int8 kernel."""
    if getattr(layer, "data_format", None) == "channels_first":
        raise UnsupportedError("data_format='channels_first' has no int8 kernel; use channels_last")


def _check_numbers(x):
    dtype = x.tensor.dtype
    if not dtype.is_floating and dtype.name not in BYTES:
        raise UnsupportedError(
            f"computes with {dtype.name} values, which 8 bits can't hold; give the Input layer "
            "dtype='uint8', 'int8' or 'float32'"
        )


def depthwise(net, x, scale, offset, trainable=False, key="affine"):
    """Multiply (and shift) each channel by a depthwise convolution with 1x1 kernels.

    A scale of `None` is one of ones that are not trained; an offset of `None` is none.
    """
    layers, layer = net.layers, net.layer
    _check_numbers(x)
    shape = x.tensor.shape
    rank, channels = len(shape), shape[-1]
    if channels is None or rank not in (2, 3, 4):
        raise UnsupportedError(f"has an input of shape {tuple(shape)}; int8 needs rank 2 to 4")

    def make():
        one_d = rank < 4
        made = net.copy(
            layers.DepthwiseConv1D if one_d else layers.DepthwiseConv2D,
            f"{layer.name}_{key}",
            kernel_size=1,
            use_bias=offset is not None,
            depthwise_constraint=net.parts.Fixed() if scale is None else None,
        )
        made.build((None, *[None] * (1 if one_d else 2), channels))
        factors = np.ones(channels) if scale is None else scale
        kernel = np.reshape(factors, [1] * (1 if one_d else 2) + [channels, 1])
        made.set_weights([kernel] if offset is None else [kernel, np.reshape(offset, [channels])])
        made.trainable = trainable
        return made

    axes = (2, 3) if rank == 4 else (1, 2)
    wrapped = net.weighted(make, [("depthwise_kernel", axes, None)], key)
    tensor = net.rounded(x)
    if rank == 2:
        tensor = layers.Reshape((1, channels), name=net.name(f"{layer.name}_row"))(tensor)
    tensor = wrapped(tensor)
    if rank == 2:
        tensor = layers.Reshape((channels,), name=net.name(f"{layer.name}_flat"))(tensor)
    return tensor


def affine(net, x, scale, offset, key="affine"):
    """Return scale * x + offset, both untrained: scalars, or one value per channel."""
    _check_numbers(x)
    scale, offset = np.asarray(scale, "float32"), np.asarray(offset, "float32")
    channels = x.tensor.shape[-1]
    name = net.layer.name
    if scale.size == 1 and offset.size == 1 and (scale.item() == 1.0 or offset.item() == 0.0):
        if scale.item() == 1.0 and offset.item() == 0.0:
            return hand_on(net, x)
        rescaling = net.made(
            key,
            lambda: net.layers.Rescaling(
                scale.item(), offset.item(), name=net.name(f"{name}_{key}")
            ),
        )
        return Value(rescaling(net.rounded(x)), name, "sum")
    if scale.size not in (1, channels) or offset.size not in (1, channels):
        raise UnsupportedError(
            f"scales of shape {scale.shape} and {offset.shape} do not follow the last axis"
        )
    tensor = depthwise(
        net,
        x,
        np.broadcast_to(scale.ravel(), [channels]),
        np.broadcast_to(offset.ravel(), [channels]),
        key=key,
    )
    return Value(tensor, name, "sum")


def pair(net, layer_name, name, a, b):
    """Apply a layer of two inputs to rounded values."""
    made = net.made(name, lambda: getattr(net.layers, layer_name)(name=net.name(name)))
    return Value(made([net.rounded(a), net.rounded(b)]), name, "sum")


def relu(net, name, value, limit=None):
    """Apply ReLU, fused into the operation before it where possible."""
    tensor = value.tensor if value.fuses("linear", "sum") else net.rounded(value)
    made = net.made(f"relu {name}", lambda: net.layers.ReLU(limit, name=net.name(f"{name}_relu")))
    return Value(made(tensor), name, "relu")


def function(function, fixed=None):
    """Return the rule of a function with an int8 kernel in TFLite: rounded before and after."""

    def apply(net, name, value):
        made = net.made(
            f"{function} {name}",
            lambda: net.layers.Activation(function, name=net.name(f"{name}_activation")),
        )
        return Value(made(net.rounded(value)), name, fixed=fixed)

    return apply


def hand_on(net, value):
    """Return a value for use under a second name, rounded if the first name has other readers."""
    if value.uses > 1:
        net.rounded(value)
    return value
