"""Rules of normalization, and of scaling by fixed or trained factors."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from tfkd.errors import UnsupportedError
from tfkd.quantization.rewriting import BYTES, Value
from tfkd.quantization.rules.primitives import affine, depthwise


def batch_norm(net, layer, x):
    """Apply batch normalization to be folded into the layer before it, or into an inserted one."""
    rank = len(x.tensor.shape)
    axes = [
        a % rank for a in (layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis])
    ]
    if axes != [rank - 1]:
        raise UnsupportedError(
            f"normalizes axis {layer.axis}; int8 kernels have scales only for the last axis"
        )
    if x.fuses("linear"):
        net.note("int8", "folded into the layer before it at export")
        tensor = x.tensor
    else:
        net.note("rewritten", "after a depthwise 1x1 convolution of ones, which absorbs it")
        tensor = depthwise(net, x, np.ones(x.tensor.shape[-1]), None)
    return Value(net.plain()(tensor), layer.name, "sum")


def rescaling(net, layer, x):
    """Multiply by one constant and add another."""
    net.note("rewritten", "as one multiplication, addition or depthwise 1x1 convolution")
    value = affine(net, x, layer.scale, layer.offset)
    if x.tensor.dtype.name not in BYTES:
        return value
    # The range of bytes is known without training, and the scale maps them one to one.
    ends = np.multiply.outer(BYTES[x.tensor.dtype.name], layer.scale) + layer.offset
    return dataclasses.replace(value, fixed=(min(0.0, ends.min()), max(0.0, ends.max())))


def normalization(net, layer, x):
    """Apply an affine map with the statistics that `adapt` computed."""
    if layer.mean is None:
        raise UnsupportedError("is not adapted; call adapt() first")
    rank = len(x.tensor.shape)
    if any(axis % rank != rank - 1 for axis in layer._keep_axis):
        raise UnsupportedError("normalizes an axis other than the last")
    mean, deviation = np.asarray(layer.mean), np.maximum(np.sqrt(layer.variance), 1e-7)
    net.note("rewritten", "as a depthwise 1x1 convolution with fixed weights")
    net.keep_weights([], lambda: layer.get_weights())
    if layer.invert:
        return affine(net, x, deviation, mean)
    return affine(net, x, 1.0 / deviation, -mean / deviation)


def layer_scale(net, layer, x):
    """Multiply each channel by a trained factor."""
    (gamma,) = layer.get_weights()
    net.note("rewritten", "as a depthwise 1x1 convolution")
    tensor = depthwise(net, x, gamma, None, trainable=layer.trainable)
    net.keep_weights(
        [f"{layer.name}_affine"], lambda weights: [np.reshape(weights[0], gamma.shape)]
    )
    return Value(tensor, layer.name, "sum")


def layer_norm(net, layer, x):
    """Apply mean → centre → variance → inverse root → scale, each step rounded."""
    rank = len(x.tensor.shape)
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    if [a % rank for a in axes] != [rank - 1]:
        raise UnsupportedError(f"normalizes axis {layer.axis}; only the last has a rule")
    normal = _normalized(net, layer, x, net.parts.LastAxisMean)
    net.note("rewritten", "as mean, variance, inverse root and products, each rounded")
    return _scaled(net, layer, normal)


def group_norm(net, layer, x):
    """Normalize each group of channels as layer normalization does, with the groups as an axis."""
    rank = len(x.tensor.shape)
    *places, channels = x.tensor.shape[1:]
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    if [a % rank for a in axes] != [rank - 1]:
        raise UnsupportedError(f"normalizes axis {layer.axis}; only the last has a rule")
    if None in places or channels % layer.groups or rank not in (2, 3, 4):
        raise UnsupportedError(
            f"has an input of shape {tuple(x.tensor.shape)}; give it a fixed shape"
        )
    name, groups = layer.name, layer.groups
    grouped = net.layers.Reshape(
        (math.prod(places), groups, channels // groups), name=net.name(f"{name}_groups")
    )
    normal = _normalized(net, layer, net.moved(x, grouped), net.parts.GroupMean)
    whole = net.layers.Reshape((*places, channels), name=net.name(f"{name}_whole"))
    net.note("rewritten", "as mean, variance, inverse root and products of groups, each rounded")
    return _scaled(net, layer, net.moved(normal, whole))


def _normalized(net, layer, x, mean):
    """Return (x - mean) / sqrt(variance + epsilon), with each step but the last rounded."""
    layers, parts = net.layers, net.parts

    def step(key, make, *tensors, kind="other"):
        made = net.made(key, lambda: make(name=net.name(f"{layer.name}_{key}")))
        return Value(made(net.unpacked(tensors)), f"{layer.name}_{key}", kind)

    centre = step("mean", mean, net.rounded(x))
    centred = step("centred", layers.Subtract, net.rounded(x), net.rounded(centre))
    d = net.rounded(centred)
    variance = step("variance", mean, net.rounded(step("square", layers.Multiply, d, d)))
    shifted = step(
        "epsilon",
        lambda name: layers.Rescaling(1.0, float(layer.epsilon), name=name),
        net.rounded(variance),
    )
    root = step("inverse", parts.InverseRoot, net.rounded(shifted))
    return step("normal", layers.Multiply, d, net.rounded(root))


def _scaled(net, layer, normal):
    """Multiply by gamma and add beta, if the layer has them."""
    weights = dict(
        zip(
            [w.name.split("/")[-1].split(":")[0] for w in layer.weights],
            layer.get_weights(),
            strict=True,
        )
    )
    if not weights:
        return dataclasses.replace(normal, name=layer.name)
    tensor = depthwise(
        net,
        normal,
        weights.get("gamma"),
        weights.get("beta"),
        trainable=layer.trainable,
    )
    shapes = [w.shape for w in layer.get_weights()]
    first = 0 if "gamma" in weights else 1
    net.keep_weights(
        [f"{layer.name}_affine"],
        lambda held: [np.reshape(w, s) for w, s in zip(held[first:], shapes, strict=True)],
    )
    return Value(tensor, layer.name, "sum")
