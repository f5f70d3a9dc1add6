"""Weights of 4 bits in an int8 file: two in a byte, in the place of one.

The converter knows no such weights that are constants, or refuses where their scales are. It
gives each weight 8 bits, in a scale of 1/127 of the largest of its channel. Where the weights
are on a grid of 4 bits, whose end is that largest weight, their places on it follow.
"""

from __future__ import annotations

import numpy as np

from tfkd.errors import ConversionError, argument
from tfkd.export.tflite import schema, writer

#: Operators with a kernel for weights of 4 bits, and the version that says so in a file.
VERSIONS = {"FULLY_CONNECTED": 10, "CONV_2D": 7, "DEPTHWISE_CONV_2D": 7}
# Of a step of the grid: how far 8 bits put a weight from its place, at most 7 / 127 / 2.
_OFF = 0.06
_INT4 = 17
_MOST = 7


def narrowed(data: bytes, layers) -> bytes:
    """Return an int8 file in which the weights of some layers have 4 bits.

    Biases that several operations share are left to `repairs`.

    Args:
        data: A `.tflite` file.
        layers: Their scopes.

    Raises:
        ConversionError: if weights are on no grid of 4 bits, or a layer has none in the file.
    """
    model = schema.parse(data)
    names, scopes = schema.op_names(model), {name: name for name in layers}
    done: dict[int, str] = {}
    for graph in model.subgraphs:
        read = [int(i) for op in graph.operators for i in op.inputs]
        for op in graph.operators:
            name = names[op.opcodeIndex]
            if name not in VERSIONS:
                continue
            weights = graph.tensors[op.inputs[1]]
            layer = _layer_of(weights, scopes)
            if layer is None or not schema.is_constant(weights, model):
                continue
            if id(weights) not in done:
                _narrow(weights, model, layer, per_channel=name != "FULLY_CONNECTED")
                done[id(weights)] = layer
            if len(op.inputs) > 2 and read.count(int(op.inputs[2])) == 1:
                _rescale_bias(op, graph, model)
            code = model.operatorCodes[op.opcodeIndex]
            code.version = max(code.version, VERSIONS[name])
    missing = [repr(layer) for layer in layers if layer not in done.values()]
    if missing:
        raise ConversionError(
            f"No weights of {', '.join(missing)} are in the file under that name, and so they "
            f"could not get 4 bits; leave them out of {argument('bits', of='quantize_aware')}."
        )
    return writer.pack(model)


def _layer_of(tensor, scopes) -> str | None:
    """Return the layer whose weights a tensor holds: any part of its name tells."""
    parts = schema.name_of(tensor).split(";")
    return next(filter(None, (schema.layer_in(part, scopes) for part in parts)), None)


def _narrow(tensor, model, layer: str, per_channel: bool) -> None:
    """Give a tensor of weights 4 bits."""
    buffer = model.buffers[tensor.buffer]
    shape = [int(size) for size in tensor.shape]
    integers = np.frombuffer(bytes(buffer.data), np.int8).reshape(shape)
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
    # Several tensors may share a buffer: this one gets its own.
    own = type(buffer)()
    own.data = halves[0::2] | (halves[1::2] << 4)
    if sum(t.buffer == tensor.buffer for g in model.subgraphs for t in g.tensors) > 1:
        tensor.buffer = len(model.buffers)
        model.buffers.append(own)
    else:
        model.buffers[tensor.buffer] = own
    tensor.type = _INT4
    tensor.quantization.scale = scales.ravel().astype(np.float32)
    tensor.quantization.zeroPoint = np.zeros(scales.size, np.int64)


def _rescale_bias(op, graph, model) -> None:
    """Count a bias in the steps of the input times those of the weights."""
    bias = graph.tensors[op.inputs[2]]
    if op.inputs[2] < 0 or not schema.is_constant(bias, model):
        return
    given, weights = (graph.tensors[op.inputs[i]].quantization.scale for i in (0, 1))
    scales = np.asarray(given, np.float64) * np.asarray(weights, np.float64)
    buffer = model.buffers[bias.buffer]
    steps = np.frombuffer(bytes(buffer.data), np.int32)
    values = steps * np.asarray(bias.quantization.scale, np.float64)
    buffer.data = np.frombuffer(np.rint(values / scales).astype(np.int32).tobytes(), np.uint8)
    bias.quantization.scale = scales.astype(np.float32)
    bias.quantization.zeroPoint = np.zeros(len(scales), np.int64)
