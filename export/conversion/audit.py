"""Does a file match the request, and does it run?"""

from __future__ import annotations

import math

import numpy as np

from tfkd.errors import ConversionError, UnsupportedError, WorkerError, argument
from tfkd.export.conversion import converter, diagnosis
from tfkd.export.conversion.formats import INTEGER
from tfkd.export.conversion.lowering import Lowered
from tfkd.export.runtime import interpreter, worker
from tfkd.export.tflite import schema, tflm_kernels, writer
from tfkd.export.tflite.model import TFLiteModel

# Values to try for the free sizes of a file's inputs.
_TRIED = tuple(2**n for n in range(9))


def try_out(file: TFLiteModel, source: Lowered, job, timeout: float) -> list[str]:
    """Run a file once (with free sizes: at several sizes) and return notes about it."""
    if any(info.free for info in file.inputs):
        return [_try_sizes(file, source, timeout)]
    what = f"The first run of {source.name!r} in {job.format}"
    try:
        worker.shared().call(converter.try_out, file.data, source.request.micro, timeout=timeout)
    except WorkerError as error:
        raise diagnosis.crash_error(error, what, job, source.scopes, file.data) from error
    return []


def _try_sizes(file: TFLiteModel, source: Lowered, timeout: float) -> str:
    ran, reason = [], None
    for size in _TRIED:
        shapes = [
            tuple(size if i in info.free else n for i, n in enumerate(info.shape))
            for info in file.inputs
        ]
        try:
            worker.shared().call(interpreter.run_on_zeros, file.data, shapes, timeout=timeout)
            ran.append(str(size))
        except (ConversionError, WorkerError) as error:
            reason = reason or error
    free = ", ".join(f"{i.name} [{', '.join(map(str, i.sizes))}]" for i in file.inputs if i.free)
    if not ran:
        raise ConversionError(
            f"The file of {source.name!r} with free sizes ({free}) runs at none of the sizes "
            f"tried, {_TRIED[0]} to {_TRIED[-1]}: fix them with {argument('shapes')}. The first "
            f"error: {reason}",
            code="free-sizes",
        )
    return (
        f"free sizes: {free}; tried {', '.join(map(str, _TRIED))} for each: it ran at "
        f"{', '.join(ran)}; resize the inputs before a call, or fix them with {argument('shapes')}"
    )


def check(file: TFLiteModel, source: Lowered):
    """Raise if a file does not match the request."""
    request = source.request
    what = f"Converting {source.name!r} to {request.format}"
    if file.wrong_scales:
        raise ConversionError(
            f"{what} gave the operation {file.wrong_scales[0]!r} scales with which its kernel "
            f"computes something else. For an LSTM, {argument('recurrent', 'unrolled')} avoids "
            "this.",
            code="wrong-scales",
        )
    if file.flex_ops and not request.flex:
        raise ConversionError(
            f"{what} needs TensorFlow's own operators ({', '.join(file.flex_ops)}): replace the "
            f"layers, or give {argument('allow_flex', True)} for a file that needs the Flex "
            "delegate.",
            code="flex-operators",
        )
    if file.custom_ops and not request.custom:
        raise ConversionError(
            f"{what} needs operators that TFLite does not have ({', '.join(file.custom_ops)}): "
            f"replace the layers, or give {argument('allow_custom', True)} if your application "
            "provides them.",
            code="custom-operators",
        )
    if request.format in INTEGER and not source.kept:
        left = _left_float(file, request.float_io)
        unread = [info.name for info in _unread(file) if info.dtype == "float32"]
        if unread and not request.float_io:
            raise UnsupportedError(
                f"{what}: nothing reads the input {', '.join(map(repr, unread))}, so there is no "
                f"scale for it. Build the model without it, or give {argument('float_io', True)}.",
                code="unread-input",
            )
        if left:
            layers = {schema.layer_in(name, source.scopes) for name in left} - {None}
            where = f"of {', '.join(map(repr, sorted(layers)))} " if layers else ""
            raise ConversionError(
                f"{what} left {len(left)} tensors {where}in floating point "
                f"({', '.join(left[:3])}); use {argument('format', 'dynamic')} if that is "
                f"acceptable, name the layers in {argument('skip')} (int8), or replace them.",
                code="left-in-float",
            )
    if request.micro:
        tflm_kernels.check(file, source.scopes)


def larger_than_float(file: TFLiteModel) -> list[str]:
    """Return a note if an integer file is larger than the same operators would be in float32.

    Weights take a quarter of the bytes, but scales are added. In a model with few weights the
    scales take more than the weights save.
    """
    if 4 * file.weight_bytes >= file.size:
        return []  # the weights save more than all else takes
    model = schema.parse(file.data)
    for part in model.subgraphs:
        for tensor in part.tensors:
            buffer = model.buffers[tensor.buffer]
            times = {"int8": 4, "int4": 8}.get(schema.dtype_of(tensor))
            if times and schema.is_constant(tensor, model):
                buffer.data = np.zeros(times * len(buffer.data), np.uint8)
            tensor.quantization = None
    size = len(writer.pack(model))
    if size >= file.size:
        return []
    return [
        f"this file of {file.size:,} bytes is larger than the same operators in float32, about "
        f"{size:,} bytes: its scales take more space than its weights save"
    ]


def cost_of_four_bits(file: TFLiteModel, micro: bool) -> list[str]:
    """Return a note about the cost of 4-bit weights in the runtime of the file.

    XNNPACK has no convolutions with 4-bit weights; LiteRT's own kernels take 1.3 to 5 times as long
    as with 8 bits (x86-64, LiteRT 2.3). TFLM's portable kernels unpack the weights of the layer
    that runs.
    """
    model = schema.parse(file.data)
    names = schema.op_names(model)
    sizes = [
        (names[op.opcodeIndex], math.prod(schema.shape_of(weights)))
        for part in model.subgraphs
        for op in part.operators
        for weights in (part.tensors[place] for place in op.inputs if place >= 0)
        if schema.dtype_of(weights) == "int4"
    ]
    if micro and sizes:
        return [
            f"weights of 4 bits are unpacked in the arena, a layer at a time: it needs up to "
            f"{max(size for _, size in sizes):,} bytes more than with 8 bits"
        ]
    slow = [name for name, _ in sizes if name in ("CONV_2D", "DEPTHWISE_CONV_2D")]
    if micro or not slow:
        return []
    return [
        f"XNNPACK has no convolutions with weights of 4 bits: {len(slow)} of them run in slower "
        "kernels on a phone or a computer; 4 bits in dense and recurrent layers alone cost no time"
    ]


def _unread(file: TFLiteModel):
    """Return the inputs that no operation reads."""
    main = file._parsed.subgraphs[0]
    read = {int(i) for op in main.operators for i in op.inputs} | set(map(int, main.outputs))
    return [info for info, i in zip(file.inputs, main.inputs, strict=True) if int(i) not in read]


def _left_float(file: TFLiteModel, float_io: bool) -> list[str]:
    """Return the float tensors of an integer file that do not belong to its float ends."""
    if not float_io:
        return list(file.float_tensors)
    model = file._parsed
    names = schema.op_names(model)
    inner = []
    for subgraph in model.subgraphs:
        ends = set()
        if subgraph is model.subgraphs[0]:
            ends |= {int(i) for i in subgraph.inputs} - {
                int(i) for op in subgraph.operators for i in op.inputs
            }
        for op in subgraph.operators:
            if names[op.opcodeIndex] == "QUANTIZE":
                ends |= set(map(int, op.inputs)) & set(map(int, subgraph.inputs))
            if names[op.opcodeIndex] == "DEQUANTIZE":
                ends |= set(map(int, op.outputs)) & set(map(int, subgraph.outputs))
        inner += [
            schema.name_of(subgraph.tensors[i])
            for i in sorted(schema.touched(subgraph) - ends)
            if schema.dtype_of(subgraph.tensors[i]).startswith("float")
        ]
    return inner
