"""The operators of a file that LiteRT's GPU delegate would hand back to the CPU.

The rules were read on 2026-11-30 from github.com/google-ai-edge/LiteRT as of 2026-08-21: the
parsers and tensor types of `ml_drift_delegate/tflite/model_builder.cc`, and the conditions of
`tflite/tools/versioning/gpu_compatibility.cc`. This is the delegate behind CompiledModel's GPU on
Android. Nothing is run: versions of operators, values of constants beyond those below, and
refusals of a device's driver are not checked.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable

import numpy as np

from tfkd.export.tflite import schema
from tfkd.export.tflite.model import TFLiteModel

#: Source and date of the rules.
SOURCE = "LiteRT's sources of 2026-08-21"

#: Operators with one computed tensor and no constants.
_OF_ONE = {
    *("ABS", "CEIL", "COS", "ELU", "EXP", "FLOOR", "GELU", "LOG", "LOGICAL_NOT", "LOGISTIC"),
    *("NEG", "ROUND", "RSQRT", "SIGN", "SIN", "SQRT", "SQUARE", "TANH", "SOFTMAX"),
}
_COMPARISONS = {"EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "NOT_EQUAL"}
#: Operators with two tensors, one of which may be constant.
_OF_TWO = _COMPARISONS | {
    *("ATAN2", "DIV", "FLOOR_DIV", "FLOOR_MOD", "LOGICAL_AND", "LOGICAL_OR", "MAXIMUM"),
    *("MINIMUM", "POW", "RIGHT_SHIFT", "SQUARED_DIFFERENCE", "SUB", "BITWISE_XOR"),
}
_REDUCTIONS = {
    *("MEAN", "REDUCE_ALL", "REDUCE_ANY", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "SUM"),
    "REVERSE_V2",
}
#: Operators with one computed tensor and any constants.
_OF_ONE_AND_CONSTANTS = _REDUCTIONS | {
    *("ARG_MAX", "AVERAGE_POOL_2D", "BITCAST", "CAST", "CUMSUM", "DEPTH_TO_SPACE", "HARD_SWISH"),
    *("MAX_POOL_2D", "MIRROR_PAD", "PAD", "PADV2", "QUANTIZE", "RESHAPE", "RESIZE_BILINEAR"),
    *("RESIZE_NEAREST_NEIGHBOR", "SPACE_TO_DEPTH", "TILE", "TOPK_V2", "TRANSPOSE"),
}
OPERATORS = frozenset(
    _OF_ONE
    | _OF_TWO
    | _OF_ONE_AND_CONSTANTS
    | {
        *("ADD", "ADD_N", "BATCH_MATMUL", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D"),
        *("DEQUANTIZE", "DYNAMIC_UPDATE_SLICE", "EMBEDDING_LOOKUP", "FULLY_CONNECTED", "GATHER"),
        *("LEAKY_RELU", "LSTM", "MUL", "ONE_HOT", "PACK", "PRELU", "RELU", "RELU6"),
        *("RELU_0_TO_1", "RELU_N1_TO_1", "SELECT", "SELECT_V2", "SLICE", "SPLIT", "SPLIT_V"),
        *("STRIDED_SLICE", "TRANSPOSE_CONV", "UNPACK"),
    }
)

_FLOATS = {"float32", "float16"}
_SIGNED = {"int8", "int16", "int32"}
_WHOLE = _SIGNED | {"uint8", "uint16", "uint32"}
_LOGICAL = {"LOGICAL_AND", "LOGICAL_OR", "LOGICAL_NOT", "BITWISE_XOR"}
_TAKES_INTEGERS = {
    *("ABS", "ADD", "ATAN2", "COS", "DIV", "FLOOR_DIV", "FLOOR_MOD", "MAXIMUM", "MINIMUM", "MUL"),
    *("NEG", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "RIGHT_SHIFT", "SIGN", "SIN", "SUB"),
    *("SUM", "TILE"),
}
_MOVES_NUMBERS = {
    *("BITCAST", "CAST", "CONCATENATION", "DYNAMIC_UPDATE_SLICE", "GATHER", "PACK", "PAD"),
    *("PADV2", "RESHAPE", "REVERSE_V2", "SELECT", "SELECT_V2", "SLICE", "STRIDED_SLICE"),
    "TRANSPOSE",
}


@dataclasses.dataclass(frozen=True)
class CpuOperator:
    """An operator that the GPU delegate leaves to the CPU.

    Attributes:
        op: The operator's name.
        count: How often it is left for this reason.
        reason: The reason in words.
    """

    op: str
    count: int
    reason: str


@dataclasses.dataclass(frozen=True)
class _Call:
    """One operator in its graph."""

    op: str
    options: object
    inputs: list
    outputs: list
    constant: list[bool]
    buffers: list

    @property
    def computed(self) -> int:
        return self.constant.count(False)

    def option(self, name: str, default=0):
        return getattr(self.options, name, default)

    def whole_numbers(self, place: int) -> np.ndarray:
        """Return the values of a constant int32 input."""
        return np.frombuffer(bytes(self.buffers[self.inputs[place].buffer].data), "<i4")

    def rank(self, place: int) -> int:
        return len(schema.shape_of(self.inputs[place]))


def cpu_operators(file: TFLiteModel) -> tuple[CpuOperator, ...]:
    """Return the operators of a file that the GPU delegate would hand back to the CPU.

    Args:
        file: The file.

    Returns:
        The operators, each with a count and a reason; empty if the GPU takes the whole file.
    """
    model = file._parsed
    names = schema.op_names(model)
    found: Counter[tuple[str, str]] = Counter()
    for graph in model.subgraphs:
        constant = _constants(graph, model, names)
        for operator in graph.operators:
            op = names[operator.opcodeIndex]
            inputs = [int(i) for i in operator.inputs if i >= 0]
            call = _Call(
                op,
                operator.builtinOptions,
                [graph.tensors[i] for i in inputs],
                [graph.tensors[int(i)] for i in operator.outputs],
                [i in constant for i in inputs],
                model.buffers,
            )
            reason = _refusal(call)
            if reason is not None:
                found[op, reason] += 1
    return tuple(CpuOperator(op, count, reason) for (op, reason), count in sorted(found.items()))


def _constants(graph, model, names) -> set[int]:
    """Return the tensors with constants, including float16 ones converted to float32."""
    constant = {i for i, one in enumerate(graph.tensors) if schema.is_constant(one, model)}
    for operator in graph.operators:
        if names[operator.opcodeIndex] == "DEQUANTIZE" and int(operator.inputs[0]) in constant:
            constant.add(int(operator.outputs[0]))
    return constant


def _refusal(call: _Call) -> str | None:
    """Return why the delegate refuses an operator, or `None` if it accepts it."""
    if call.op not in OPERATORS:
        return "the GPU has no such operator"
    if any(len(schema.shape_of(one)) > 4 for one in (*call.inputs, *call.outputs)):
        return "a tensor has more than four axes"
    reason = _refusal_of_number(call)
    if reason is None and call.op in _CONDITIONS:
        reason = _CONDITIONS[call.op](call)
    return reason or _refusal_of_type(call)


def _refusal_of_number(call: _Call) -> str | None:
    """Check how many inputs are computed and how many are constant."""
    constants = len(call.constant) - call.computed
    if call.op in _OF_ONE and (call.computed, constants) != (1, 0):
        return "it takes one tensor that is computed"
    if call.op in _OF_TWO and (call.computed, constants) not in ((2, 0), (1, 1)):
        return "it takes two tensors, of which one may be constant"
    if call.op in _OF_ONE_AND_CONSTANTS and call.computed != 1:
        return "it takes one tensor that is computed, and constants"
    return None


def _refusal_of_type(call: _Call) -> str | None:
    """Check the types of the computed tensors."""
    taken = _FLOATS | {"bool", "int8", "uint8", "int4", "int2"}
    given = _FLOATS | {"int8", "uint8"}
    if call.op in _LOGICAL:
        taken = given = {"bool"} | _SIGNED
    elif call.op in ("REDUCE_ALL", "REDUCE_ANY"):
        taken = given = {"bool"}
    elif call.op == "ARG_MAX":
        given = {"int32"}
    elif call.op == "TOPK_V2":
        given = given | {"int32"}
    elif call.op in ("EMBEDDING_LOOKUP", "ONE_HOT"):
        taken = taken | {"int32"}
    elif call.op in _COMPARISONS:
        taken, given = taken | _WHOLE, given | {"bool"}
    elif call.op in _TAKES_INTEGERS:
        taken, given = taken | _SIGNED, given | _SIGNED
    elif call.op in _MOVES_NUMBERS:
        taken, given = taken | _WHOLE, given | _WHOLE | {"bool"}
    for one, constant in zip(call.inputs, call.constant, strict=True):
        if not constant and schema.dtype_of(one) not in taken:
            return f"it takes no {schema.dtype_of(one)}"
    for one in call.outputs:
        if schema.dtype_of(one) not in given:
            return f"it gives no {schema.dtype_of(one)}"
    return None


def _add_or_mul(call: _Call) -> str | None:
    if len(call.inputs) != 2:
        return "it takes two tensors"
    short, long = sorted((schema.shape_of(one) for one in call.inputs), key=len)
    pairs = zip(reversed(short), reversed(long), strict=False)
    if (
        len(short) != len(long)
        and len(short) > 1
        and any(1 not in p and p[0] != p[1] for p in pairs)
    ):
        return f"shapes {list(short)} and {list(long)} can't be broadcast"
    return None


def _axes(call: _Call) -> str | None:
    fixed = len(call.inputs) == 2 and call.constant[1]
    if not fixed or schema.dtype_of(call.inputs[1]) != "int32":
        return "its axes must be int32 constants"
    return None


def _cast(call: _Call) -> str | None:
    one, other = (schema.dtype_of(tensor) for tensor in (call.inputs[0], call.outputs[0]))
    floats_and_bool = {one, other} & {"bool"} and {one, other} & _FLOATS
    if floats_and_bool or {one, other} <= {"float32", "int32"}:
        return None
    return f"it does not make {other} of {one}"


def _fully_connected(call: _Call) -> str | None:
    if call.computed > 2 or call.constant[0]:
        return "its input must be computed, and its weights and biases not both"
    if call.option("weightsFormat"):
        return "its weights are shuffled"
    if call.option("keepNumDims") and call.rank(0) != len(schema.shape_of(call.outputs[0])):
        return "its output has another number of axes than its input"
    return None


def _gather(call: _Call) -> str | None:
    if call.rank(1) != 1:
        return f"its indices must have one axis, and have {call.rank(1)}"
    if schema.dtype_of(call.inputs[1]) != "int32":
        return f"its indices must be int32, not {schema.dtype_of(call.inputs[1])}"
    return None


def _padding(call: _Call) -> str | None:
    shape = schema.shape_of(call.inputs[1])
    if call.op == "MIRROR_PAD" and call.option("mode"):
        return "it pads by symmetry, not by reflection"
    return None if shape in ((3, 2), (4, 2)) else f"it pads {shape[0]} axes, not 3 or 4"


def _strided_slice(call: _Call) -> str | None:
    if call.option("shrinkAxisMask"):
        return "it removes an axis (shrink_axis_mask)"
    if call.option("newAxisMask") or call.option("ellipsisMask"):
        return "it has new axes or an ellipsis"
    if not all(call.constant[1:]):
        return "its begin, end and strides must be constant"
    return "it goes backwards" if (call.whole_numbers(3) < 0).any() else None


def _select(call: _Call) -> str | None:
    if schema.dtype_of(call.inputs[0]) not in _FLOATS | {"bool"}:
        return f"its condition must not be {schema.dtype_of(call.inputs[0])}"
    want = schema.shape_of(call.outputs[0])
    for one in call.inputs[1:]:
        shape = schema.shape_of(one)
        if shape not in ((), (1,), want):
            return f"it chooses between shapes other than {list(want)}"
    return None


def _one_hot(call: _Call) -> str | None:
    if schema.dtype_of(call.inputs[0]) != "int32" or not all(call.constant[2:4]):
        return "its indices must be int32, its values constant"
    if call.option("axis", -1) != -1 or any(n != 1 for n in schema.shape_of(call.inputs[0])[:-1]):
        return "it takes one row of indices, along the last axis"
    return None


_CONDITIONS: dict[str, Callable[[_Call], str | None]] = {
    **dict.fromkeys(("ADD", "MUL"), _add_or_mul),
    **dict.fromkeys(_REDUCTIONS | {"CUMSUM"}, _axes),
    **dict.fromkeys(("PAD", "PADV2", "MIRROR_PAD"), _padding),
    **dict.fromkeys(("SELECT", "SELECT_V2"), _select),
    "CAST": _cast,
    "FULLY_CONNECTED": _fully_connected,
    "GATHER": _gather,
    "ONE_HOT": _one_hot,
    "STRIDED_SLICE": _strided_slice,
    "ADD_N": lambda call: None if len(call.inputs) == 2 else "it takes two tensors",
    "DEQUANTIZE": lambda call: (
        "it takes no int16" if schema.dtype_of(call.inputs[0]) == "int16" else None
    ),
    "EMBEDDING_LOOKUP": lambda call: (
        None if call.rank(0) == 1 else "its indices must have one axis"
    ),
    "SLICE": lambda call: (
        None if call.rank(0) in (3, 4) else f"it takes 3 or 4 axes, not {call.rank(0)}"
    ),
    "SOFTMAX": lambda call: None if call.option("beta", 1) == 1 else "its beta is not 1",
}
