"""What a `.tflite` file says of itself, read in Python with the schema's own reader.

Nothing is executed, and whatever a damaged file makes the reader do ends as an `InputError`.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from tfkd.errors import InputError

# Of UNIDIRECTIONAL_SEQUENCE_LSTM's 24 inputs, those that hold the output's and cell's state.
LSTM_STATE, LSTM_CELL = 18, 19
#: The int8 kernel's tanh knows no finer steps of the 16-bit cell.
LEAST_CELL_SCALE = 2.0**-15

_INTEGERS = ("int8", "uint8", "int16")


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """An input or output of a file.

    Attributes:
        name: Its name in the signature, or else in the graph.
        shape: With the batch dimension.
        dtype: NumPy's name, for example `"int8"`.
        scale: Real value of one step, or `None` if the tensor is not quantized.
        zero_point: The integer that stands for 0.0, or `None`.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None
    zero_point: int | None

    def quantize(self, values: np.ndarray) -> np.ndarray:
        """Round real values onto this tensor's integers, half away from zero, clipped."""
        if self.scale is None:
            return np.ascontiguousarray(values, dtype=self.dtype)
        scaled = np.asarray(values, np.float64) / self.scale
        steps = np.trunc(scaled + np.copysign(0.5, scaled)) + self.zero_point
        limits = np.iinfo(self.dtype)
        return np.clip(steps, limits.min, limits.max).astype(self.dtype)

    def dequantize(self, values: np.ndarray) -> np.ndarray:
        """Return the real values (float32) that this tensor's integers stand for."""
        if self.scale is None:
            return values
        return ((values.astype(np.float32) - self.zero_point) * self.scale).astype(np.float32)


def parse(data: bytes):
    """Read a file into the schema's object form.

    Returns:
        A `schema.ModelT` in which every index that is used later lies in its list.

    Raises:
        InputError: if the bytes are no `.tflite` file, or a damaged one.
    """
    from ai_edge_litert import schema_py_generated as schema

    if data[4:8] != b"TFL3":
        raise InputError(f"These {len(data)} bytes are not a .tflite file.")
    try:
        model = schema.ModelT.InitFromPackedBuf(data, 0)
        complete = bool(model.subgraphs) and all(
            _is_complete(graph, model) for graph in model.subgraphs
        )
    except Exception as error:  # whatever a malformed buffer makes the reader raise
        raise InputError(
            f"These {len(data)} bytes are a damaged .tflite file ({error})."
        ) from error
    if not complete:
        raise InputError(f"These {len(data)} bytes are an incomplete .tflite file.")
    return model


def _is_complete(graph, model) -> bool:
    lists = (graph.tensors, graph.inputs, graph.outputs, graph.operators)
    if any(one is None for one in lists):
        return False

    def within(indices, least):
        return all(least <= i < len(graph.tensors) for i in ([] if indices is None else indices))

    return (
        within(graph.inputs, 0)
        and within(graph.outputs, 0)
        and all(
            0 <= op.opcodeIndex < len(model.operatorCodes or [])
            and within(op.inputs, -1)  # -1 stands for an input that is left out
            and within(op.outputs, 0)
            for op in graph.operators
        )
        and all(
            tensor.shape is None or (np.asarray(tensor.shape) >= 0).all()
            for tensor in graph.tensors
        )
    )


def op_names(model) -> list[str]:
    """Return the name of each operator code of a file; `Flex...` for TensorFlow's own."""
    return [_op_name(code) for code in model.operatorCodes or []]


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
    buffers = model.buffers or []
    return 0 < tensor.buffer < len(buffers) and buffers[tensor.buffer].data is not None


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
        and dtype_of(tensor) in _INTEGERS
    )
    return TensorInfo(
        name=name or name_of(tensor),
        shape=tuple(int(size) for size in (tensor.shape if tensor.shape is not None else ())),
        dtype=dtype_of(tensor),
        scale=float(quantization.scale[0]) if scaled else None,
        zero_point=int(quantization.zeroPoint[0]) if scaled else None,
    )


def touched(graph) -> set[int]:
    """Return the indices of the tensors that are computed with."""
    lists = [graph.inputs, graph.outputs]
    for op in graph.operators:
        lists += [op.inputs, op.outputs]
    return {int(i) for indices in lists if indices is not None for i in indices if i >= 0}


def op_names_known() -> frozenset[str]:
    """Return the names of TFLite's builtin operators."""
    return frozenset(_enum_names("BuiltinOperator").values()) - {"CUSTOM"}


def hybrid_results(model) -> tuple[str, ...]:
    """Return names of float results for which constants of another type are read."""
    names, found = op_names(model), []
    for graph in model.subgraphs:
        narrow = set()  # 16-bit and integer weights, and what DEQUANTIZE makes of them
        for op in graph.operators:
            read = [int(i) for i in (op.inputs if op.inputs is not None else []) if i >= 0]
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
            for i in [] if op.inputs is None else op.inputs:
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
            if not fused and kind != "REVERSE_V2":
                continue
            result = graph.tensors[op.outputs[0]]
            other = scale_of(graph.tensors[op.inputs[LSTM_STATE if fused else 0]])
            if other is None or scale_of(result) is None:
                continue
            wrong = abs(scale_of(result) / other - 1.0) > 1e-6
            if fused:
                wrong |= scale_of(graph.tensors[op.inputs[LSTM_CELL]]) < LEAST_CELL_SCALE
            if wrong:
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
