"""Rules of layers with several inputs."""

from __future__ import annotations

import dataclasses

from tfkd.quantization.rewriting import Value
from tfkd.quantization.rules.primitives import affine, pair, relu


def chain(layer_name):
    """N inputs as n - 1 operations of two, each rounded."""

    def lower(low, layer, *values):
        total = values[0]
        for i, value in enumerate(values[1:]):
            name = layer.name if i == len(values) - 2 else f"{layer.name}_{i + 1}"
            total = pair(low, layer_name, name, total, value)
        if len(values) > 2:
            low.note("rewritten", f"as {len(values) - 1} operations of two inputs")
        return total

    return lower


def average(low, layer, *values):
    """The sum of all, divided."""
    total = chain("Add")(low, layer, *values)
    low.note("rewritten", "as additions and one multiplication")
    return affine(low, total, 1.0 / len(values), 0.0, key="mean")


def extremum(sign):
    """max(a, b) = a + relu(b - a): TFLite's own kernel wants one scale for all three."""

    def lower(low, layer, *values):
        total = values[0]
        for i, value in enumerate(values[1:]):
            name = f"{layer.name}_{i + 1}"
            ends = (value, total) if sign > 0 else (total, value)
            gap = relu(low, f"{name}_gap", pair(low, "Subtract", f"{name}_difference", *ends))
            total = pair(low, "Add" if sign > 0 else "Subtract", name, total, gap)
        low.note("rewritten", "as a subtraction with ReLU and an addition")
        return total

    return lower


def concatenate(low, layer, *values):
    """Inputs that nobody else reads take the range of the result."""
    return Value(low.plain()([_joined(low, value) for value in values]), layer.name, "joined")


def _joined(low, value):
    """Return a tensor for a kernel with one scale for all it reads and makes.

    The converter lets the operation before compute in that scale, unless somebody else reads
    it, so that a rounding in between would clip what the file does not. A concatenation would
    take the scale of one of its own inputs instead: it has a rounding.
    """
    fuses = value.fuses("linear", "sum", "relu", "other") and value.fixed is None
    return value.tensor if fuses else low.rounded(value)


def join_operation(low, layer, *values):
    """Stack: what `concatenate` does, along a new axis."""
    tensors = [dataclasses.replace(value, rounded=_joined(low, value)) for value in values]
    return [Value(tensor, layer.name, "joined") for tensor in low.operated(*tensors)]


def operation(low, layer, *values):
    """An operation that computes, on rounded values."""
    return [Value(tensor, layer.name) for tensor in low.operated(*values)]


def dot(low, layer, a, b):
    """A product of matrices."""
    return Value(low.plain()([low.rounded(a), low.rounded(b)]), layer.name)
