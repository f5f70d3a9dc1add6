"""The operators of TensorFlow Lite for Microcontrollers, and what to do about the others.

The table is read from its header micro_mutable_op_resolver.h. It shows only that a kernel exists;
whether the kernel takes a file's types and shapes, only a run of the file shows.
"""

from __future__ import annotations

from tfkd.errors import UnsupportedError, raise_all
from tfkd.export.tflite import schema
from tfkd.export.tflite.model import TFLiteModel

#: Builtin operator → the method of `tflite::MicroMutableOpResolver` that adds its kernel.
METHODS = {
    "ABS": "AddAbs",
    "ADD": "AddAdd",
    "ADD_N": "AddAddN",
    "ARG_MAX": "AddArgMax",
    "ARG_MIN": "AddArgMin",
    "ASSIGN_VARIABLE": "AddAssignVariable",
    "AVERAGE_POOL_2D": "AddAveragePool2D",
    "BATCH_MATMUL": "AddBatchMatMul",
    "BATCH_TO_SPACE_ND": "AddBatchToSpaceNd",
    "BROADCAST_ARGS": "AddBroadcastArgs",
    "BROADCAST_TO": "AddBroadcastTo",
    "CALL_ONCE": "AddCallOnce",
    "CAST": "AddCast",
    "CEIL": "AddCeil",
    "CONCATENATION": "AddConcatenation",
    "CONV_2D": "AddConv2D",
    "COS": "AddCos",
    "CUMSUM": "AddCumSum",
    "DEPTHWISE_CONV_2D": "AddDepthwiseConv2D",
    "DEPTH_TO_SPACE": "AddDepthToSpace",
    "DEQUANTIZE": "AddDequantize",
    "DIV": "AddDiv",
    "DYNAMIC_UPDATE_SLICE": "AddDynamicUpdateSlice",
    "ELU": "AddElu",
    "EMBEDDING_LOOKUP": "AddEmbeddingLookup",
    "EQUAL": "AddEqual",
    "EXP": "AddExp",
    "EXPAND_DIMS": "AddExpandDims",
    "FILL": "AddFill",
    "FLOOR": "AddFloor",
    "FLOOR_DIV": "AddFloorDiv",
    "FLOOR_MOD": "AddFloorMod",
    "FULLY_CONNECTED": "AddFullyConnected",
    "GATHER": "AddGather",
    "GATHER_ND": "AddGatherNd",
    "GREATER": "AddGreater",
    "GREATER_EQUAL": "AddGreaterEqual",
    "HARD_SWISH": "AddHardSwish",
    "IF": "AddIf",
    "L2_NORMALIZATION": "AddL2Normalization",
    "L2_POOL_2D": "AddL2Pool2D",
    "LEAKY_RELU": "AddLeakyRelu",
    "LESS": "AddLess",
    "LESS_EQUAL": "AddLessEqual",
    "LOG": "AddLog",
    "LOGICAL_AND": "AddLogicalAnd",
    "LOGICAL_NOT": "AddLogicalNot",
    "LOGICAL_OR": "AddLogicalOr",
    "LOGISTIC": "AddLogistic",
    "LOG_SOFTMAX": "AddLogSoftmax",
    "MAXIMUM": "AddMaximum",
    "MAX_POOL_2D": "AddMaxPool2D",
    "MEAN": "AddMean",
    "MINIMUM": "AddMinimum",
    "MIRROR_PAD": "AddMirrorPad",
    "MUL": "AddMul",
    "NEG": "AddNeg",
    "NOT_EQUAL": "AddNotEqual",
    "PACK": "AddPack",
    "PAD": "AddPad",
    "PADV2": "AddPadV2",
    "PRELU": "AddPrelu",
    "QUANTIZE": "AddQuantize",
    "READ_VARIABLE": "AddReadVariable",
    "REDUCE_ALL": "AddReduceAll",
    "REDUCE_MAX": "AddReduceMax",
    "REDUCE_MIN": "AddReduceMin",
    "RELU": "AddRelu",
    "RELU6": "AddRelu6",
    "RESHAPE": "AddReshape",
    "RESIZE_BILINEAR": "AddResizeBilinear",
    "RESIZE_NEAREST_NEIGHBOR": "AddResizeNearestNeighbor",
    "REVERSE_V2": "AddReverseV2",
    "ROUND": "AddRound",
    "RSQRT": "AddRsqrt",
    "SELECT_V2": "AddSelectV2",
    "SHAPE": "AddShape",
    "SIN": "AddSin",
    "SLICE": "AddSlice",
    "SOFTMAX": "AddSoftmax",
    "SPACE_TO_BATCH_ND": "AddSpaceToBatchNd",
    "SPACE_TO_DEPTH": "AddSpaceToDepth",
    "SPLIT": "AddSplit",
    "SPLIT_V": "AddSplitV",
    "SQRT": "AddSqrt",
    "SQUARE": "AddSquare",
    "SQUARED_DIFFERENCE": "AddSquaredDifference",
    "SQUEEZE": "AddSqueeze",
    "STRIDED_SLICE": "AddStridedSlice",
    "SUB": "AddSub",
    "SUM": "AddSum",
    "SVDF": "AddSvdf",
    "TANH": "AddTanh",
    "TRANSPOSE": "AddTranspose",
    "TRANSPOSE_CONV": "AddTransposeConv",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "AddUnidirectionalSequenceLSTM",
    "UNPACK": "AddUnpack",
    "VAR_HANDLE": "AddVarHandle",
    "WHILE": "AddWhile",
    "ZEROS_LIKE": "AddZerosLike",
}
#: The same for TFLM's own custom operators: detection and audio front ends.
CUSTOM_METHODS = {
    "CIRCULAR_BUFFER": "AddCircularBuffer",
    "SignalDelay": "AddDelay",
    "SignalEnergy": "AddEnergy",
    "SignalFftAutoScale": "AddFftAutoScale",
    "SignalFilterBank": "AddFilterBank",
    "SignalFilterBankLog": "AddFilterBankLog",
    "SignalFilterBankSpectralSubtraction": "AddFilterBankSpectralSubtraction",
    "SignalFilterBankSquareRoot": "AddFilterBankSquareRoot",
    "SignalFramer": "AddFramer",
    "SignalIrfft": "AddIrfft",
    "SignalOverlapAdd": "AddOverlapAdd",
    "SignalPCAN": "AddPCAN",
    "SignalRfft": "AddRfft",
    "SignalStacker": "AddStacker",
    "SignalWindow": "AddWindow",
    "TFLite_Detection_PostProcess": "AddDetectionPostprocess",
    "ethos-u": "AddEthosU",
}
#: The operator into which Arm's compiler Vela turns others; only the chip runs it.
NPU = "ethos-u"

_RECURRENT = "tfkd's to_tflite writes such a layer in operators that it has"
#: Replacements in Keras.
_INSTEAD = {
    # Keras's approximate=True ends as GELU, too.
    "GELU": "use relu6 or silu, or write out x·sigmoid(1.702·x) or the tanh form",
    "SELECT": "use elu for selu; relu, maximum and minimum for where",
    "ONE_HOT": "make one-hot rows an input",
    "TILE": "concatenate the tensor with itself, or let an addition or product broadcast",
    "TOPK_V2": "return all scores and sort them in the application",
    "POW": "multiply, or use square and sqrt",
    "SIGN": "compare and subtract in the application",
    "REDUCE_PROD": "multiply the parts, or sum their logarithms",
    "REDUCE_ANY": "use the maximum (REDUCE_MAX) of numbers",
    "LOCAL_RESPONSE_NORMALIZATION": "use BatchNormalization, which costs nothing when folded",
    "CONV_3D": "use Conv2D with the frames as channels",
    "BIDIRECTIONAL_SEQUENCE_LSTM": "tfkd's to_tflite writes the layer as two LSTMs",
    "BIDIRECTIONAL_SEQUENCE_RNN": _RECURRENT,
    "UNIDIRECTIONAL_SEQUENCE_RNN": _RECURRENT,
    "LSTM": _RECURRENT,
    "RNN": _RECURRENT,
}
_REPLACE = "replace the layer"
# Types that TFLM's kernels neither compute with nor convert; int64 for biases is fine.
_STRANGE = (
    *("int64", "uint64", "float16", "bfloat16", "float64", "complex64", "complex128"),
    *("string", "variant"),
)
_SHOWN = 3


def resolver_calls(file: TFLiteModel) -> list[str]:
    """Return the methods that add a file's kernels, and no others, to a `MicroMutableOpResolver`.

    Args:
        file: The file; the operators of all its subgraphs count.

    Returns:
        Sorted names, such as `["AddConv2D", "AddSoftmax"]`; their number is the resolver's size.

    Raises:
        UnsupportedError: as `check`.
    """
    check(file)
    return sorted((METHODS | CUSTOM_METHODS)[name] for name in file.ops)


def check(file: TFLiteModel, layers: dict[str, str] | None = None) -> None:
    """Raise if TensorFlow Lite for Microcontrollers can't run a file.

    Args:
        file: The file.
        layers: The layers' scopes (see `tracing.scope_of`) → the layers' names for messages;
            without it messages use the names in the file.

    Raises:
        UnsupportedError: with the names of the layers, and replacements for them.
    """
    problems = list(_problems(file, layers or {}))
    if problems:
        problems[0] = f"TensorFlow Lite for Microcontrollers can't run this file: {problems[0]}"
    raise_all(problems, UnsupportedError, code="tflm-operators")


def _problems(file, layers):
    model = file._parsed
    kinds = schema.op_names(model)
    # The converter names an output by its place in the graph; the signature names its layer.
    outputs = model.subgraphs[0].outputs
    ends = {
        schema.name_of(model.subgraphs[0].tensors[i]): info.name
        for i, info in zip(outputs, file.outputs, strict=True)
    }

    def at(names):
        found = [_layer(ends.get(name, name), layers) for name in names]
        found = list(dict.fromkeys(found))
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        return ", ".join(map(repr, found[:_SHOWN])) + more

    missing: dict[str, list[str]] = {}
    gathers, strange = [], {}
    for graph in model.subgraphs:
        for op in graph.operators:
            kind = kinds[op.opcodeIndex]
            result = schema.name_of(graph.tensors[op.outputs[0]]) if len(op.outputs) else "?"
            if kind not in METHODS and kind not in CUSTOM_METHODS:
                missing.setdefault(kind, []).append(result)
            elif kind == "GATHER" and "int16" in _dtypes(graph, op.inputs[:1]):
                gathers.append(result)
        # TFLM's custom operators exchange types that other operators do not take.
        own = [op for op in graph.operators if kinds[op.opcodeIndex] in CUSTOM_METHODS]
        others = [op for op in graph.operators if kinds[op.opcodeIndex] not in CUSTOM_METHODS]
        between = _tensors(own) - _tensors(others)
        for i in sorted(schema.touched(graph) - between):
            tensor = graph.tensors[i]
            dtype = schema.dtype_of(tensor)
            if dtype in _STRANGE and not schema.is_constant(tensor, model):
                strange.setdefault(dtype, []).append(schema.name_of(tensor))
    known = schema.op_names_known()
    for kind, names in missing.items():
        if kind in known:
            yield f"it has no {kind} (at {at(names)}): {_INSTEAD.get(kind, _REPLACE)}"
        else:
            what = "TensorFlow's own operator" if kind.startswith("Flex") else "the custom operator"
            yield f"it does not have {what} {kind} (at {at(names)}): {_REPLACE}"
    if file.hybrid_ops:
        yield (
            f"the weights at {at(file.hybrid_ops)} are narrower than the arithmetic there, as in "
            "float16, dynamic-range and int4 files: convert to 'int8'"
        )
    if file.sparse_tensors:
        yield (
            f"it would read the weights at {at(file.sparse_tensors)}, which are in a sparse "
            "format, as dense ones: convert without the converter's experimental sparsity"
        )
    if gathers:
        yield (
            f"its GATHER (at {at(gathers)}) has no 16-bit kernel: convert to 'int8', or look the "
            "vectors up in the application"
        )
    for dtype, names in strange.items():
        instead = "int32 for class numbers and counts" if "int" in dtype else "float32"
        yield f"its kernels do not compute with {dtype} (at {at(names)}): use {instead}"


def _tensors(operators) -> set[int]:
    return {int(i) for op in operators for i in (*op.inputs, *op.outputs)}


def _dtypes(graph, indices) -> list[str]:
    return [schema.dtype_of(graph.tensors[i]) for i in indices if i >= 0]


def _layer(name: str, layers: dict[str, str]) -> str:
    """Return the layer of a tensor by its name, or the part of the name that shows it."""
    found = schema.layer_in(name, layers)
    return found or name.split(";")[0].rpartition("/")[0] or name
