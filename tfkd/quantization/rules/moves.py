"""Rules of layers that move or pool numbers, or act in training only."""

from __future__ import annotations

import dataclasses

from tfkd.errors import UnsupportedError
from tfkd.quantization.lowering import Value
from tfkd.quantization.rules.steps import check_channels_last, hand_on


def moves(low, layer, x):
    """Moves numbers: what comes out lies on the grid of what goes in."""
    check_channels_last(layer)
    low.note("int8", "moves rounded values; no rounding of its own")
    return low.moved(x, low.plain())


def pools(low, layer, x):
    """Averages in the scale of its input, as the kernel does."""
    check_channels_last(layer)
    low.note("int8", "in the scale of its input, as the kernel does")
    return low.moved(x, low.plain())


def global_average(low, layer, x):
    """A mean, which has a scale of its own."""
    check_channels_last(layer)
    return Value(low.plain()(low.rounded(x)), layer.name)


def repeats(low, layer, x):
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


def upsampling(low, layer, x):
    """Repeats or interpolates."""
    check_channels_last(layer)
    if layer.interpolation not in ("nearest", "bilinear"):
        raise UnsupportedError(f"interpolation={layer.interpolation!r} has no int8 kernel")
    return moves(low, layer, x)


def only_in_training(low, layer, x):
    """Does nothing in the file."""
    low.note("int8", "acts in training only")
    return low.moved(x, low.plain())


def before_rounding(low, layer, x):
    """Random augmentation at the input: the file's input is what comes out of it."""
    low.note("int8", "acts in training only")
    value = hand_on(low, x)
    if value.rounded is not None:
        return low.moved(value, low.plain())
    return dataclasses.replace(value, tensor=low.plain()(value.tensor))
