"""What a `.tflite` file says of itself, read in Python with the schema's own reader.

Nothing is executed, and whatever a damaged file makes the reader do ends as an `InputError`.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np

from tfkd.errors import InputError

# Of UNIDIRECTIONAL_SEQUENCE_LSTM's 24 inputs, those that hold the output's and cell's state.
LSTM_STATE, LSTM_CELL = 18, 19
#: The int8 kernel's tanh knows no finer steps of the 16-bit cell.
LEAST_CELL_SCALE = 2.0**-15

_QUANTIZED = ("int8", "uint8", "int16")
INTEGERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
# Numbers that are quantized at a time, in float64.
_BLOCK = 1 << 20
_NUMBERS = (*INTEGERS, "bool", "float16", "float32", "float64", "complex64", "complex128")


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """An input or output of a file.

    Attributes:
        name: Its name in the signature, or else in the graph.
        shape: With the batch dimension.
        dtype: NumPy's name, for example `"int8"`.
        scale: Real value of one step, or `None` if the tensor is not quantized.
        zero_point: The integer that stands for 0.0, or `None`.
        free: Places of sizes besides the batch that a call may choose, by resizing the input;
            `shape` has 1 there.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None
    zero_point: int | None
    free: tuple[int, ...] = ()

    @property
    def sizes(self) -> list:
        """The shape with `"?"` where a size is free."""
        return ["?" if i in self.free else size for i, size in enumerate(self.shape)]

    @property
    def is_numeric(self) -> bool:
        """Whether NumPy has arrays of this type."""
        return self.dtype in _NUMBERS

    def quantize(self, values: np.ndarray) -> np.ndarray:
        """Round real values onto this tensor's integers, half away from zero, clipped."""
        if self.scale is None:
            return np.ascontiguousarray(values, dtype=self.dtype)
        values = np.asarray(values)
        limits = np.iinfo(self.dtype)
        steps = np.empty(values.shape, self.dtype)
        given, made = values.reshape(-1), steps.reshape(-1)
        for start in range(0, len(given), _BLOCK):
            block = slice(start, start + _BLOCK)
            with np.errstate(over="ignore"):  # infinite steps are clipped like others
                scaled = given[block].astype(np.float64) / self.scale
            rounded = np.trunc(scaled + np.copysign(0.5, scaled)) + self.zero_point
            made[block] = np.clip(rounded, limits.min, limits.max)
        return steps

    def dequantize(self, values: np.ndarray) -> np.ndarray:
        """Return the real values (float32) that this tensor's integers stand for."""
        if self.scale is None:
            return values
        with np.errstate(over="ignore"):
            return ((values.astype(np.float32) - self.zero_point) * self.scale).astype(np.float32)


def parse(data: bytes):
    """Read a file into the schema's object form.

    Returns:
        A `schema.ModelT` in which no list is `None` but tensors' shapes and buffers' data, every
        index lies in its list, and inputs and outputs have scales that can be computed with.

    Raises:
        InputError: if the bytes are no `.tflite` file, or a damaged one.
    """
    from ai_edge_litert import schema_py_generated as schema

    if data[4:8] != b"TFL3":
        raise InputError(f"These {len(data)} bytes are not a .tflite file.")
    try:
        root = schema.Model.GetRootAs(data, 0)
        flaw = _too_much(root, min(len(data) // _LEAST_TABLE, _MOST_TABLES))
        if flaw is None:
            model = schema.ModelT.InitFromPackedBuf(data, 0)
            _fill_in(model)
            flaw = next(_flaws(model), None)
    except Exception as error:  # whatever a malformed buffer makes the reader raise
        raise InputError(
            f"These {len(data)} bytes are a damaged .tflite file ({error})."
        ) from error
    if flaw is not None:
        raise InputError(f"These {len(data)} bytes are a damaged .tflite file ({flaw}).")
    return model


# A table is at least its place in a list and the distance to its layout. The verifier of
# flatbuffers, which the interpreters call, stops at a million of them.
_LEAST_TABLE, _MOST_TABLES = 8, 1_000_000
# Kernels count the numbers in a tensor in 32 bits.
_MOST_NUMBERS = 2**31


def _too_much(root, most: int) -> str | None:
    """Add up the lengths of lists, before each entry becomes an object."""
    count = root.SubgraphsLength() + root.OperatorCodesLength() + root.BuffersLength()
    count += root.SignatureDefsLength() + root.MetadataLength()
    for i in range(root.SubgraphsLength()):
        if count > most:
            return f"its lists have {count} entries or more"
        count += root.Subgraphs(i).TensorsLength() + root.Subgraphs(i).OperatorsLength()
    return None if count <= most else f"its lists have {count} entries or more"


def _fill_in(model):
    """Put empty lists where a writer has left them out."""

    def fill(thing, names, make=list):
        for name in names:
            if getattr(thing, name) is None:
                setattr(thing, name, make())

    def none():
        return np.empty(0, np.int32)

    fill(model, ("subgraphs", "operatorCodes", "buffers", "signatureDefs"))
    for graph in model.subgraphs:
        fill(graph, ("tensors", "operators"))
        fill(graph, ("inputs", "outputs"), none)
        for op in graph.operators:
            fill(op, ("inputs", "outputs"), none)
    for signature in model.signatureDefs:
        fill(signature, ("inputs", "outputs"))


def _flaws(model):
    """Yield what is wrong with a file."""
    if not model.subgraphs or not len(model.subgraphs[0].outputs):
        yield "it has no output"
        return
    for number, graph in enumerate(model.subgraphs):
        count = len(graph.tensors)

        def outside(indices, least, count=count):
            return any(not least <= int(i) < count for i in indices)

        if outside(graph.inputs, 0) or outside(graph.outputs, 0):
            yield f"subgraph {number} has inputs or outputs that do not exist"
        for i, tensor in enumerate(graph.tensors):
            for flaw in _flaws_of(tensor, len(model.buffers)):
                yield f"tensor {i} of subgraph {number} {flaw}"
        for i, op in enumerate(graph.operators):
            if not 0 <= op.opcodeIndex < len(model.operatorCodes):
                yield f"operator {i} of subgraph {number} has no code"
            # -1 stands for an input that is left out.
            if outside(op.inputs, -1) or outside(op.outputs, 0):
                yield f"operator {i} of subgraph {number} has tensors that do not exist"
    for signature in model.signatureDefs:
        if signature.subgraphIndex >= len(model.subgraphs):
            yield "a signature has a subgraph that does not exist"
            return
        count = len(model.subgraphs[signature.subgraphIndex].tensors)
        if any(not entry.tensorIndex < count for entry in signature.inputs + signature.outputs):
            yield "a signature has tensors that do not exist"
    main = model.subgraphs[0]
    for i in (*main.inputs, *main.outputs):
        info = tensor_info(main.tensors[i], None)
        if info.scale is None:
            continue
        limits = np.iinfo(info.dtype)
        if not (0.0 < info.scale < np.inf and limits.min <= info.zero_point <= limits.max):
            yield f"tensor {i} has the scale {info.scale:g} and zero point {info.zero_point}"


def _flaws_of(tensor, buffers: int):
    if tensor.shape is not None:
        shape = [int(size) for size in tensor.shape]
        if any(size < 0 for size in shape) or math.prod(shape) >= _MOST_NUMBERS:
            yield f"has the shape {shape[:8]}"
    if tensor.buffer >= max(1, buffers):
        yield "has a buffer that does not exist"
    quantization = tensor.quantization
    if quantization is not None:
        scales, zero_points = quantization.scale, quantization.zeroPoint
        if scales is not None and zero_points is not None and len(scales) != len(zero_points):
            yield f"has {len(scales)} scales and {len(zero_points)} zero points"


def op_names(model) -> list[str]:
    """Return the name of each operator code of a file; `Flex...` for TensorFlow's own."""
    return [_op_name(code) for code in model.operatorCodes]


def _op_name(code) -> str:
    # Files older than schema version 3a keep the code in the deprecated, 8-bit field.
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    name = _enum_names("BuiltinOperator").get(number, f"BUILTIN_{number}")
    if name == "CUSTOM" and code.customCode:
        return code.customCode.decode(errors="replace")
    return name


@functools.cache
def _enum_names(kind: str) -> dict[int, str]:
    from ai_edge_litert import schema_py_generated as schema

    return {value: name for name, value in vars(getattr(schema, kind)).items() if name.isupper()}


def dtype_of(tensor) -> str:
    """Return a tensor's data type as NumPy names it, `"int4"` and the like included."""
    return _enum_names("TensorType").get(tensor.type, f"type{tensor.type}").lower()


def name_of(tensor) -> str:
    """Return a tensor's name."""
    return (tensor.name or b"?").decode(errors="replace")


def is_constant(tensor, model) -> bool:
    """Tell whether a tensor's values stand in the file."""
    return tensor.buffer > 0 and model.buffers[tensor.buffer].data is not None


def scale_of(tensor) -> float | None:
    """Return a tensor's (first) scale, or `None`."""
    quantization = tensor.quantization
    if quantization is None or quantization.scale is None or not len(quantization.scale):
        return None
    return float(quantization.scale[0])


def tensor_info(tensor, name: str | None) -> TensorInfo:
    """Describe an input or output; `name` is that of the signature."""
    quantization = tensor.quantization
    scaled = (
        scale_of(tensor) is not None
        and len(quantization.scale) == 1
        and quantization.zeroPoint is not None
        and len(quantization.zeroPoint) == 1
        and dtype_of(tensor) in _QUANTIZED
    )
    signature = () if tensor.shapeSignature is None else tensor.shapeSignature
    return TensorInfo(
        name=name or name_of(tensor),
        shape=tuple(int(size) for size in (tensor.shape if tensor.shape is not None else ())),
        dtype=dtype_of(tensor),
        scale=float(quantization.scale[0]) if scaled else None,
        zero_point=int(quantization.zeroPoint[0]) if scaled else None,
        free=tuple(i for i, size in enumerate(signature) if i and size < 0),
    )


def touched(graph) -> set[int]:
    """Return the indices of the tensors that are computed with."""
    lists = [graph.inputs, graph.outputs]
    for op in graph.operators:
        lists += [op.inputs, op.outputs]
    return {int(i) for indices in lists for i in indices if i >= 0}


def op_names_known() -> frozenset[str]:
    """Return the names of TFLite's builtin operators."""
    return frozenset(_enum_names("BuiltinOperator").values()) - {"CUSTOM"}


def hybrid_results(model) -> tuple[str, ...]:
    """Return names of float results for which constants of another type are read."""
    names, found = op_names(model), []
    for graph in model.subgraphs:
        narrow = set()  # 16-bit and integer weights, and what DEQUANTIZE makes of them
        for op in graph.operators:
            read = [int(i) for i in op.inputs if i >= 0]
            constant = {
                i
                for i in read
                if is_constant(graph.tensors[i], model)
                and dtype_of(graph.tensors[i]) in ("int4", "int8", "float16")
            }
            results = [int(i) for i in op.outputs]
            if names[op.opcodeIndex] == "DEQUANTIZE" and constant:
                narrow.update(results)
            elif (constant or narrow & set(read)) and any(
                dtype_of(graph.tensors[i]) == "float32" for i in results
            ):
                found.append(name_of(graph.tensors[results[0]]))
    return tuple(found)


_BITS = {"int4": 4, "uint4": 4, "int2": 2, "bool": 8}


def peak_activation_bytes(model) -> int:
    """Return the bytes of activations that live at the same time, at most, in any subgraph."""

    def size(tensor) -> int:
        kind = dtype_of(tensor)
        if kind not in _BITS:
            digits = "".join(c for c in kind if c.isdigit())
            _BITS[kind] = int(digits) if digits else 32
        shape = np.asarray(tensor.shape if tensor.shape is not None else (), np.float64)
        return int(np.prod(shape)) * _BITS[kind] // 8

    peaks = []
    for graph in model.subgraphs:
        last = len(graph.operators)
        born = {int(i): 0 for i in graph.inputs}
        dies = {int(i): 0 for i in graph.inputs}
        for time, op in enumerate(graph.operators):
            for i in op.inputs:
                dies[int(i)] = time
            for i in op.outputs:
                born.setdefault(int(i), time)
                dies.setdefault(int(i), time)
        for i in graph.outputs:
            dies[int(i)] = last
        for i, tensor in enumerate(graph.tensors):
            if tensor.isVariable:
                born[i], dies[i] = 0, last
        change = np.zeros(last + 2, np.int64)
        for i, time in born.items():
            if not is_constant(graph.tensors[i], model):
                change[time] += size(graph.tensors[i])
                change[dies[i] + 1] -= size(graph.tensors[i])
        peaks.append(int(change.cumsum().max()))
    return max(peaks)


def wrong_scales(model) -> tuple[str, ...]:
    """Return names of results whose kernel computes something else with the file's scales.

    A fused LSTM takes its output's scale for its state's and can't count a cell in steps of
    less than 2⁻¹⁵; REVERSE_V2 copies integers. The converter can write files in which that
    does not fit (see `recurrent.py`).
    """
    names = op_names(model)
    found = []
    for graph in model.subgraphs:
        for op in graph.operators:
            kind = names[op.opcodeIndex]
            fused = kind == "UNIDIRECTIONAL_SEQUENCE_LSTM" and len(op.inputs) > LSTM_CELL
            if not (fused or kind == "REVERSE_V2") or not len(op.inputs) or not len(op.outputs):
                continue
            read = [scale_of(graph.tensors[i]) if i >= 0 else None for i in op.inputs]
            result, other = graph.tensors[op.outputs[0]], read[LSTM_STATE if fused else 0]
            if other is None or scale_of(result) is None:
                continue
            cell = read[LSTM_CELL] if fused else None
            if not math.isclose(scale_of(result), other, rel_tol=1e-6) or (
                cell is not None and cell < LEAST_CELL_SCALE
            ):
                found.append(name_of(result))
    return tuple(found)


def layer_in(name: str, layers) -> str | None:
    """Find which Keras layer a tensor belongs to.

    Args:
        name: Of the tensor, such as `"act/Relu;conv1/Conv2D"`: the converter joins the names
            of what it fused, the last operation first.
        layers: The layers' scopes (see `tracing.scope_of`) → what to call them.

    Returns:
        What belongs to the longest scope that the first of the names with one lies in, or
        `None`.
    """
    for path in name.split(";"):
        found = [layer for layer in layers if path == layer or path.startswith(f"{layer}/")]
        if found:
            return layers[max(found, key=len)]
    return None
