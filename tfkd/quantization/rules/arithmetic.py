"""Rules of layers with several inputs."""

from __future__ import annotations

import dataclasses

from tfkd.quantization.rewriting import Value
from tfkd.quantization.rules.primitives import affine, pair, relu


def chain(layer_name):
    """N inputs as n - 1 operations of two, each rounded."""

    def apply(net, layer, *values):
        total = values[0]
        for i, value in enumerate(values[1:]):
            name = layer.name if i == len(values) - 2 else f"{layer.name}_{i + 1}"
            total = pair(net, layer_name, name, total, value)
        if len(values) > 2:
            net.note("rewritten", f"as {len(values) - 1} operations of two inputs")
        return total

    return apply


def average(net, layer, *values):
    """The sum of all, divided."""
    total = chain("Add")(net, layer, *values)
    net.note("rewritten", "as additions and one multiplication")
    return affine(net, total, 1.0 / len(values), 0.0, key="mean")


def extremum(sign):
    """max(a, b) = a + relu(b - a): TFLite's own kernel wants one scale for all three."""

    def apply(net, layer, *values):
        total = values[0]
        for i, value in enumerate(values[1:]):
            name = f"{layer.name}_{i + 1}"
            ends = (value, total) if sign > 0 else (total, value)
            gap = relu(net, f"{name}_gap", pair(net, "Subtract", f"{name}_difference", *ends))
            total = pair(net, "Add" if sign > 0 else "Subtract", name, total, gap)
        net.note("rewritten", "as a subtraction with ReLU and an addition")
        return total

    return apply


def concatenate(net, layer, *values):
    """Inputs that no other layer reads take the range of the result."""
    return Value(net.plain()([_joined(net, value) for value in values]), layer.name, "joined")


def _joined(net, value):
    """Return a tensor for a kernel with one scale for all it reads and makes.

    The converter lets the operation before compute in that scale, unless another operation reads
    it, so that a rounding in between would clip what the file does not. A concatenation would
    take the scale of one of its own inputs instead: it has a rounding.
    """
    fuses = value.fuses("linear", "sum", "relu", "other") and value.fixed is None
    return value.tensor if fuses else net.rounded(value)


def join_operation(net, layer, *values):
    """Stack: what `concatenate` does, along a new axis."""
    tensors = [dataclasses.replace(value, rounded=_joined(net, value)) for value in values]
    return [Value(tensor, layer.name, "joined") for tensor in net.operated(*tensors)]


def operation(net, layer, *values):
    """An operation that computes, on rounded values."""
    return [Value(tensor, layer.name) for tensor in net.operated(*values)]


def dot(net, layer, a, b):
    """A product of matrices."""
    return Value(net.plain()([net.rounded(a), net.rounded(b)]), layer.name)
