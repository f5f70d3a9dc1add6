"""Rules of layers that move or pool values, or act in training only."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfkd.errors import UnsupportedError
from tfkd.model.layer_kinds import kind_of
from tfkd.quantization.rewriting import BYTES, Value
from tfkd.quantization.rules.primitives import check_channels_last, hand_on
from tfkd.translation import operations

#: Layers whose result has the range of their input.
MOVING = (
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
    "UpSampling2D",
    "Resizing",
    "CenterCrop",
)
POOLING = ("AveragePooling1D", "AveragePooling2D")
IN_TRAINING = (
    "Dropout",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "GaussianDropout",
    "AlphaDropout",
    "GaussianNoise",
    "ActivityRegularization",
    "Identity",
)
AUGMENTING = (
    "RandomFlip",
    "RandomRotation",
    "RandomZoom",
    "RandomTranslation",
    "RandomContrast",
    "RandomBrightness",
)
#: Operations of `keras.ops` whose results have the range of their input.
MOVING_OPERATIONS = (
    "get_item",
    "slice",
    "split",
    "unstack",
    "take",
    "max",
    "min",
)


def keeps_grid(layer) -> bool:
    """Tell whether a layer's kernel leaves its output on the grid of its input."""
    if operations.is_operation(layer):
        return operations.name_of(layer) in MOVING_OPERATIONS
    return kind_of(layer) in (*MOVING, *POOLING)


def is_identity(layer) -> bool:
    """Tell whether a layer does nothing in the file."""
    return kind_of(layer) in IN_TRAINING


def moves(net, layer, x):
    """Apply a layer that moves values: its output lies on the grid of its input."""
    check_channels_last(layer)
    interpolation = getattr(layer, "interpolation", "nearest")  # of UpSampling2D and Resizing
    if interpolation.lower() not in ("nearest", "bilinear"):
        raise UnsupportedError(f"interpolation={interpolation!r} has no int8 kernel")
    net.note("int8", "moves rounded values; no rounding of its own")
    return net.moved(x, net.plain())


def moving_operation(net, layer, *values):
    """Apply a slice, a split or similar: every result lies on the grid of the input."""
    if len(values) != 1:
        raise UnsupportedError("takes its places or sizes from another tensor; they must be fixed")
    net.note("int8", "moves rounded values; no rounding of its own")
    return [Value(tensor, values[0].name, rounded=tensor) for tensor in net.operated(*values)]


def flip(net, layer, x):
    """Flip by a slice of negative strides, since the converter gives REVERSE_V2 two scales."""
    rank = len(x.tensor.shape)
    axes = {axis % rank for axis in np.atleast_1d(net.call.kwargs.get("axis", net.call.args[-1]))}
    net.note("rewritten", "as a slice of negative strides; moves rounded values")
    tensor = net.rounded(x)[tuple(slice(None, None, -1 if a in axes else 1) for a in range(rank))]
    return Value(tensor, x.name, rounded=tensor)


def pools(net, layer, x):
    """Average in the scale of the input, as the kernel does."""
    check_channels_last(layer)
    net.note("int8", "in the scale of its input, as the kernel does")
    return net.moved(x, net.plain())


def global_average(net, layer, x):
    """Return a mean, which has its own scale."""
    check_channels_last(layer)
    return Value(net.plain()(net.rounded(x)), layer.name)


def repeats(net, layer, x):
    """Apply UpSampling1D or RepeatVector as UpSampling2D: one RESIZE, not SPLITs or a TILE."""
    layers, name = net.layers, layer.name
    shape = x.tensor.shape
    times = layer.n if kind_of(layer) == "RepeatVector" else layer.size
    rows = 1 if len(shape) == 2 else shape[1]
    if rows is None:
        raise UnsupportedError("has an input of free length; give the Input layer a fixed one")
    tensor = layers.Reshape((rows, 1, shape[-1]), name=net.name(f"{name}_rows"))(net.rounded(x))
    tensor = layers.UpSampling2D((times, 1), name=net.name(f"{name}_repeat"))(tensor)
    tensor = layers.Reshape((rows * times, shape[-1]), name=net.name(name))(tensor)
    net.note("rewritten", "as UpSampling2D; moves rounded values")
    return Value(tensor, name, rounded=tensor)


def only_in_training(net, layer, x):
    """Apply a layer that does nothing in the file."""
    net.note("int8", "acts in training only")
    return net.moved(x, net.plain())


def copies(net, layer, x):
    """Return the same values under another name."""
    return hand_on(net, x)


def before_rounding(net, layer, x):
    """Apply random augmentation at the input; the file's input is its output."""
    net.note("int8", "acts in training only")
    value = hand_on(net, x)
    if value.rounded is not None:
        return net.moved(value, net.plain())
    fixed = BYTES.get(value.tensor.dtype.name, value.fixed)
    return dataclasses.replace(value, tensor=net.plain()(value.tensor), fixed=fixed)


def cast(net, layer, x):
    """Cast to float32, which rounding does with bytes anyway."""
    if net.call.outputs[0].dtype != "float32" or not (
        x.tensor.dtype.is_floating or x.tensor.dtype.name in BYTES
    ):
        raise UnsupportedError(
            f"casts {x.tensor.dtype.name} to {net.call.outputs[0].dtype}; 8-bit files only cast "
            "inputs of bytes to float32"
        )
    net.note("int8", "nothing")
    return hand_on(net, x)
