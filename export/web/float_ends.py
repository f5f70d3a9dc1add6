"""A file with float32 inputs and outputs, for runtimes that take no integers there."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfkd.export.tflite import schema as flatbuffer
from tfkd.export.tflite import writer
from tfkd.export.tflite.metadata import parsed_anew
from tfkd.export.tflite.model import TFLiteModel


def with_float_ends(file: TFLiteModel) -> TFLiteModel:
    """Put QUANTIZE before each quantized input, and DEQUANTIZE behind each quantized output.

    Between them the file computes as before: a real number that is one of the tensor's own steps
    becomes that step, and each output step becomes the real number that it represents.

    Args:
        file: The file.

    Returns:
        A file with the same names, whose quantized inputs and outputs are now float32; the
        same file if there are none. States of a step file are inputs and outputs, too.

    Raises:
        InputError: as `with_metadata`, for a file that can't be rewritten.
    """
    ends = (file.inputs, file.outputs)
    if not any(info.scale is not None for infos in ends for info in infos):
        return file
    model = parsed_anew(file)
    graph = model.subgraphs[0]
    before, behind, places = [], [], {}
    for infos, indices in zip(ends, (graph.inputs, graph.outputs), strict=True):
        given = indices is graph.inputs
        for info, index in zip(infos, map(int, indices), strict=True):
            if info.scale is None or (given, index) in places:
                continue
            places[given, index] = len(graph.tensors)
            graph.tensors.append(_real(graph.tensors[index], "" if given else "_real"))
            pair = [places[given, index], index]
            kind = "QUANTIZE" if given else "DEQUANTIZE"
            (before if given else behind).append(
                _operator(model, kind, *pair[:: 1 if given else -1])
            )
    graph.operators = [*before, *graph.operators, *behind]
    for which, given in (("inputs", True), ("outputs", False)):
        old = [int(i) for i in getattr(graph, which)]
        setattr(graph, which, np.int32([places.get((given, i), i) for i in old]))
    for signature in model.signatureDefs:
        if signature.subgraphIndex == 0:
            for entry, given in (
                *((entry, True) for entry in signature.inputs),
                *((entry, False) for entry in signature.outputs),
            ):
                entry.tensorIndex = places.get((given, entry.tensorIndex), entry.tensorIndex)
    return dataclasses.replace(file, data=writer.pack(model))


def _real(tensor, suffix: str):
    """Return a tensor like another, but with real numbers."""
    from ai_edge_litert import schema_py_generated as schema

    made = schema.TensorT()
    made.name = (flatbuffer.name_of(tensor) + suffix).encode()
    made.shape, made.shapeSignature = tensor.shape, tensor.shapeSignature
    made.hasRank = tensor.hasRank
    made.type = schema.TensorType.FLOAT32
    made.buffer = 0
    if not suffix:
        tensor.name = f"{flatbuffer.name_of(tensor)}_steps".encode()
    return made


def _operator(model, kind: str, source: int, target: int):
    """Return an operator with one input and one output."""
    from ai_edge_litert import schema_py_generated as schema

    builtin = getattr(schema.BuiltinOperator, kind)
    names = flatbuffer.op_names(model)
    if kind not in names:
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = builtin
        code.version = 1
        model.operatorCodes.append(code)
        names.append(kind)
    made = schema.OperatorT()
    made.opcodeIndex = names.index(kind)
    made.inputs, made.outputs = np.int32([source]), np.int32([target])
    return made
