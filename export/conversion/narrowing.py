"""Weights of 4 bits in an int8 file: two in a byte instead of one.

The converter packs 4-bit weights for some layers only, and refuses the scales of others. It gives
each weight 8 bits, in a scale of 1/127 of the largest weight of its channel. If the weights are on
a grid of 4 bits that ends at that largest weight, their places on the grid follow from the 8 bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from tfkd.errors import ConversionError, argument
from tfkd.export.tflite import schema, writer
from tfkd.export.tflite.model import TFLiteModel

#: Operators with a kernel for weights of 4 bits, and the operator version that marks them.
VERSIONS = {"FULLY_CONNECTED": 10, "CONV_2D": 7, "DEPTHWISE_CONV_2D": 7}
# The version for weights of 8 bits per channel.
_WIDE_VERSIONS = {"FULLY_CONNECTED": 4, "CONV_2D": 3, "DEPTHWISE_CONV_2D": 3}
# Fraction of a grid step: the error of a weight in 8 bits, at most 7 / 127 / 2.
_OFF = 0.06
_INT4, _INT8 = 17, 9  # the schema's TensorType
_MOST = 7


def narrow_weights(model, layers: Mapping[str, Sequence[int]]) -> bool:
    """Give the weights of some layers 4 bits; the steps of the biases then no longer match.

    A layer's weights are found by their name. Weights that were joined with another layer's have
    no such name and are found by the name of the result; if that is lost, too, by their number and
    their grid.

    Args:
        model: A parsed int8 file.
        layers: Scope → how many weights each of the layer's tensors has.

    Returns:
        Whether any weights were narrowed.

    Raises:
        ConversionError: if weights are on no grid of 4 bits, or a layer has none in the file.
    """
    if not layers:
        return False
    names, scopes = schema.op_names(model), {name: name for name in layers}
    found: set[str] = set()
    narrowed: set[int] = set()
    unknown = []
    calls = [
        (op, graph.tensors[op.inputs[1]], graph.tensors[op.outputs[0]], names[op.opcodeIndex])
        for graph in model.subgraphs
        for op in graph.operators
        if names[op.opcodeIndex] in VERSIONS
        and schema.is_constant(graph.tensors[op.inputs[1]], model)
    ]
    for _, weights, result, kind in calls:
        layer = schema.layer_in(schema.name_of(weights), scopes)
        if layer is None and "/" not in schema.name_of(weights):
            layer = schema.layer_in(schema.name_of(result), scopes)
            if layer is None:
                unknown.append((weights, kind))
        if layer is None:
            continue
        found.add(layer)
        if id(weights) not in narrowed:
            narrowed.add(id(weights))
            if not _narrow(weights, model, kind):
                raise ConversionError(
                    f"The weights of {layer!r} lie on no 4-bit grid in the file, because something "
                    "was folded into them. Leave the layer out of "
                    f"{argument('bits', of='quantize_aware')}.",
                    code="four-bit-weights",
                )
    missing = {layer: sizes for layer, sizes in layers.items() if layer not in found}
    for layer, sizes in list(missing.items()):
        for weights, kind in unknown:
            fits = id(weights) not in narrowed and _size(weights) in sizes
            if fits and _narrow(weights, model, kind):
                narrowed.add(id(weights))
                missing.pop(layer, None)
                break
    # The file stores equal layers once. A layer with separate weights would stay in 8 bits.
    left = {_size(weights) for _, weights, *_ in calls if id(weights) not in narrowed}
    missing = {layer: sizes for layer, sizes in missing.items() if left & set(sizes)}
    if missing:
        raise ConversionError(
            f"The file has no weights of {', '.join(map(repr, missing))} under that name, so they "
            "could not be stored in 4 bits; leave them out of "
            f"{argument('bits', of='quantize_aware')}.",
            code="four-bit-weights",
        )
    for op, weights, _, kind in calls:
        if id(weights) in narrowed:
            code = model.operatorCodes[op.opcodeIndex]
            code.version = max(code.version, VERSIONS[kind])
    return bool(narrowed)


def widened(file: TFLiteModel) -> bytes:
    """Return a file whose 4-bit weights are stored in 8 bits, with the same numbers.

    The scales stay, so every kernel computes the same, and the reference kernels can run the file.
    """
    if not file.four_bit_weights:
        return file.data
    model = schema.parse(file.data)
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            if schema.dtype_of(tensor) != "int4" or not schema.is_constant(tensor, model):
                continue
            packed = np.asarray(model.buffers[tensor.buffer].data, np.uint8)
            halves = np.stack([packed & 15, packed >> 4], 1).ravel().astype(np.int8)
            places = ((halves ^ 8) - 8)[: _size(tensor)].astype(np.int8)
            writer.put_data(model, tensor, places.view(np.uint8))
            tensor.type = _INT8
    for code, name in zip(model.operatorCodes, schema.op_names(model), strict=True):
        code.version = _WIDE_VERSIONS.get(name, code.version)
    return writer.pack(model)


def _size(tensor) -> int:
    return math.prod(schema.shape_of(tensor))


def _narrow(tensor, model, kind: str) -> bool:
    """Convert a tensor of weights to 4 bits; return whether they were on such a grid."""
    shape = schema.shape_of(tensor)
    integers = np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.int8).reshape(shape)
    along = [1] * len(shape)
    along[int(tensor.quantization.quantizedDimension)] = -1
    given = np.asarray(tensor.quantization.scale, np.float64)
    weights = integers * (given.reshape(along) if len(given) > 1 else given)
    others = tuple(i for i in range(len(shape)) if along[i] == 1)
    # The weights of dense layers have one scale.
    shared = None if kind == "FULLY_CONNECTED" else others
    most = np.abs(weights).max(shared, keepdims=True)
    # The bias counts in these steps, even if all weights are zero.
    empty = given.reshape(along) if len(given) > 1 else given.reshape([1] * len(shape))
    empty = empty.max(shared, keepdims=True) if shared is None else empty
    scales = np.where(most == 0, empty, most / _MOST)
    places = weights / scales
    grid = np.rint(places)
    if np.abs(places - grid).max() > _OFF:
        return False
    halves = grid.astype(np.int8).ravel() & 15
    halves = np.append(halves, np.zeros(len(halves) % 2, np.int8)).astype(np.uint8)
    writer.put_data(model, tensor, halves[0::2] | (halves[1::2] << 4))
    tensor.type = _INT4
    tensor.quantization.scale = scales.ravel().astype(np.float32)
    tensor.quantization.zeroPoint = np.zeros(scales.size, np.int64)
    return True
