"""Weights of 4 bits in an int8 file: two in a byte, in the place of one.

The converter packs them for some layers only, and refuses the scales of others. It gives each
weight 8 bits, in a scale of 1/127 of the largest weight of its channel. Where the weights are on
a grid of 4 bits whose end is that largest weight, their places on the grid follow.
"""

from __future__ import annotations

import numpy as np

from tfkd.errors import ConversionError, argument
from tfkd.export.tflite import schema, writer
from tfkd.export.tflite.model import TFLiteModel

#: Operators with a kernel for weights of 4 bits, and the version that says so in a file.
VERSIONS = {"FULLY_CONNECTED": 10, "CONV_2D": 7, "DEPTHWISE_CONV_2D": 7}
# The version with weights of 8 bits, by channel.
_WIDE_VERSIONS = {"FULLY_CONNECTED": 4, "CONV_2D": 3, "DEPTHWISE_CONV_2D": 3}
# Of a step of the grid: how far 8 bits put a weight from its place, at most 7 / 127 / 2.
_OFF = 0.06
_UNNAMED = "arith.constant"  # the name of a constant that the converter joined of several
_INT4, _INT8 = 17, 9  # the schema's TensorType
_MOST = 7


def narrow_weights(model, layers) -> bool:
    """Give the weights of some layers 4 bits; their biases are then in other steps than theirs.

    Args:
        model: A parsed int8 file.
        layers: Their scopes.

    Returns:
        Whether there were any.

    Raises:
        ConversionError: if weights are on no grid of 4 bits, or a layer has none in the file.
    """
    names, scopes = schema.op_names(model), {name: name for name in layers}
    done: dict[int, str] = {}
    for graph in model.subgraphs:
        for op in graph.operators:
            name = names[op.opcodeIndex]
            if name not in VERSIONS:
                continue
            weights = graph.tensors[op.inputs[1]]
            if not schema.is_constant(weights, model):
                continue
            # A kernel that is multiplied in several steps has no layer's name.
            called = (weights, graph.tensors[op.outputs[0]])
            found = [schema.layer_in(schema.name_of(tensor), scopes) for tensor in called]
            layer = found[0] or (found[1] if _UNNAMED in schema.name_of(weights) else None)
            if layer is None:
                continue
            if id(weights) not in done:
                _narrow(weights, model, layer, per_channel=name != "FULLY_CONNECTED")
                done[id(weights)] = layer
            code = model.operatorCodes[op.opcodeIndex]
            code.version = max(code.version, VERSIONS[name])
    missing = [repr(layer) for layer in layers if layer not in done.values()]
    if missing:
        raise ConversionError(
            f"No weights of {', '.join(missing)} are in the file under that name, and so they "
            f"could not get 4 bits; leave them out of {argument('bits', of='quantize_aware')}."
        )
    return bool(done)


def widened(file: TFLiteModel) -> bytes:
    """Return a file with its weights of 4 bits in 8, and the same numbers.

    Scales stay, and so every kernel computes the same; the reference kernels run it.
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
            size = int(np.prod(schema.shape_of(tensor)))
            places = ((halves ^ 8) - 8)[:size].astype(np.int8)
            writer.put_data(model, tensor, places.view(np.uint8))
            tensor.type = _INT8
    for code, name in zip(model.operatorCodes, schema.op_names(model), strict=True):
        code.version = _WIDE_VERSIONS.get(name, code.version)
    return writer.pack(model)


def _narrow(tensor, model, layer: str, per_channel: bool) -> None:
    """Give a tensor of weights 4 bits."""
    shape = schema.shape_of(tensor)
    integers = np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.int8).reshape(shape)
    along = [1] * len(shape)
    along[int(tensor.quantization.quantizedDimension)] = -1
    given = np.asarray(tensor.quantization.scale, np.float64)
    weights = integers * (given.reshape(along) if len(given) > 1 else given)
    others = tuple(i for i in range(len(shape)) if along[i] == 1) if per_channel else None
    scales = np.abs(weights).max(axis=others, keepdims=True) / _MOST
    scales = np.where(scales == 0, 1.0, scales)
    places = weights / scales
    grid = np.rint(places)
    if np.abs(places - grid).max() > _OFF:
        raise ConversionError(
            f"The weights of {layer!r} are on no grid of 4 bits in the file: something was folded "
            f"into them. Leave the layer out of {argument('bits', of='quantize_aware')}."
        )
    halves = grid.astype(np.int8).ravel() & 15
    halves = np.append(halves, np.zeros(len(halves) % 2, np.int8)).astype(np.uint8)
    writer.put_data(model, tensor, halves[0::2] | (halves[1::2] << 4))
    tensor.type = _INT4
    tensor.quantization.scale = scales.ravel().astype(np.float32)
    tensor.quantization.zeroPoint = np.zeros(scales.size, np.int64)
