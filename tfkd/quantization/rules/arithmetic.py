"""Rules of layers with several inputs."""

from __future__ import annotations

import dataclasses

from tfkd.quantization.rewriting import Value
from tfkd.quantization.rules.primitives import affine, pair, relu


def chain(layer_name):
    """Return a rule that combines n inputs by n - 1 operations of two, each rounded."""

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
    """Return the sum of all inputs, divided by their number."""
    total = chain("Add")(net, layer, *values)
    net.note("rewritten", "as additions and one multiplication")
    return affine(net, total, 1.0 / len(values), 0.0, key="mean")


def extremum(sign):
    """Return a rule, max(a, b) = a + relu(b - a): TFLite's kernel needs one scale for all three."""

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
    """Concatenate; inputs that no other layer reads take the range of the result."""
    return Value(net.plain()([_joined(net, value) for value in values]), layer.name, "joined")


def _joined(net, value):
    """Return a tensor for a kernel with one scale for all its inputs and outputs.

    The converter lets the operation before compute in that scale, unless another operation reads
    its result, too. A rounding in between would then clip values that the file does not clip. But a
    concatenation is rounded: it would take the scale of one of its own inputs instead.
    """
    fuses = value.fuses("linear", "sum", "relu", "other") and value.fixed is None
    return value.tensor if fuses else net.rounded(value)


def join_operation(net, layer, *values):
    """Stack: concatenate along a new axis."""
    tensors = [dataclasses.replace(value, rounded=_joined(net, value)) for value in values]
    return [Value(tensor, layer.name, "joined") for tensor in net.operated(*tensors)]


def operation(net, layer, *values):
    """Apply an operation that computes to rounded values."""
    return [Value(tensor, layer.name) for tensor in net.operated(*values)]


def dot(net, layer, a, b):
    """Return a product of matrices."""
    return Value(net.plain()([net.rounded(a), net.rounded(b)]), layer.name)
