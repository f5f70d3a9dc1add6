"""The declarations of a `.tflite` file, read in Python with the schema's own reader.

Nothing is executed, and any failure of the reader on a damaged file becomes an `InputError`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import numpy as np

from tfkd.errors import InputError

# Indices of output state and cell state among UNIDIRECTIONAL_SEQUENCE_LSTM's 24 inputs.
LSTM_STATE, LSTM_CELL = 18, 19
#: The finest scale of the 16-bit cell that the int8 kernel's tanh supports.
LEAST_CELL_SCALE = 2.0**-15

_QUANTIZED = ("int8", "uint8", "int16")
INTEGERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
# Numbers quantized at a time, in float64.
_BLOCK = 1 << 20
# Types without a fixed size (strings, handles) have none.
_BITS = {
    **{name: int(name.lstrip("uint")) for name in (*INTEGERS, "int4", "uint4", "int2")},
    **{"bool": 8, "float16": 16, "bfloat16": 16, "float32": 32, "float64": 64},
    **{"complex64": 64, "complex128": 128, "float8_e4m3fn": 8, "float8_e5m2": 8},
}
_LIMITS = {
    **{name: (np.iinfo(name).min, np.iinfo(name).max) for name in INTEGERS},
    **{"int4": (-8, 7), "uint4": (0, 15), "int2": (-2, 1)},
}
_NUMBERS = (*INTEGERS, "bool", "float16", "float32", "float64", "complex64", "complex128")


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """An input or output of a file.

    Attributes:
        name: Its name in the signature, or else in the graph.
        shape: The shape, with the batch dimension.
        dtype: NumPy's name, for example `"int8"`.
        scale: Real value of one step, or `None` if the tensor is not quantized.
        zero_point: The integer that represents 0.0, or `None`.
        free: Axes other than the batch whose size a call may choose, by resizing the input;
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
        """The shape, with `"?"` for each free size."""
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
            with np.errstate(over="ignore"):  # infinite numbers of steps are clipped like others
                scaled = given[block].astype(np.float64) / self.scale
            rounded = np.trunc(scaled + np.copysign(0.5, scaled)) + self.zero_point
            made[block] = np.clip(rounded, limits.min, limits.max)
        return steps

    def dequantize(self, values: np.ndarray) -> np.ndarray:
        """Return the real values (float32) that this tensor's integers represent."""
        if self.scale is None:
            return values
        with np.errstate(over="ignore"):
            return ((values.astype(np.float32) - self.zero_point) * self.scale).astype(np.float32)


def parse(data: bytes):
    """Read a file into the schema's object form.

    Returns:
        A `schema.ModelT` in which no list is `None` except tensors' shapes and buffers' data,
        every index lies in its list, and inputs and outputs have valid scales.

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
    except Exception as error:  # the reader raises many types for a malformed buffer
        raise _damaged(data, str(error) or type(error).__name__) from error
    if flaw is None:
        _fill_in(model, data)
        flaw = next(_flaws(model), None)
    if flaw is not None:
        raise _damaged(data, flaw)
    return model


def _damaged(data: bytes, flaw: str) -> InputError:
    return InputError(
        f"These {len(data)} bytes are a damaged .tflite file ({' '.join(flaw.split())}): copy the "
        "file again, or convert the model again."
    )


# A table takes at least its entry in a list and the offset of its layout. The verifier of
# flatbuffers, which the interpreters call, stops at a million tables.
_LEAST_TABLE, _MOST_TABLES = 8, 1_000_000
# Kernels count the numbers in a tensor in 32 bits.
_MOST_NUMBERS = 2**31


def _too_much(root, most: int) -> str | None:
    """Add up the lengths of lists before each entry becomes an object."""
    count = root.SubgraphsLength() + root.OperatorCodesLength() + root.BuffersLength()
    count += root.SignatureDefsLength() + root.MetadataLength()
    for i in range(root.SubgraphsLength()):
        if count > most:
            return f"its lists have {count} entries or more"
        count += root.Subgraphs(i).TensorsLength() + root.Subgraphs(i).OperatorsLength()
    return None if count <= most else f"its lists have {count} entries or more"


def _fill_in(model, data: bytes):
    """Add empty lists that a writer has left out, and data that lie behind the flatbuffer."""

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
    for buffer in model.buffers:  # 0 and 1 are not offsets
        if buffer.data is None and 1 < buffer.offset <= buffer.offset + buffer.size <= len(data):
            buffer.data = np.frombuffer(data, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0


def _flaws(model):
    """Yield the flaws of a file."""
    if not model.subgraphs or not len(model.subgraphs[0].outputs):
        yield "it has no output"
        return
    for i, buffer in enumerate(model.buffers):
        if buffer.data is None and buffer.offset > 1:
            yield f"buffer {i} has {buffer.size} bytes at {buffer.offset}, past the end"
    for number, graph in enumerate(model.subgraphs):
        for i, tensor in enumerate(graph.tensors):
            for flaw in _flaws_of_tensor(tensor, model):
                yield f"tensor {i}, {name_of(tensor)[:80]!r}, of subgraph {number} {flaw}"
                return
        count = len(graph.tensors)
        if not _inside(graph.inputs, 0, count) or not _inside(graph.outputs, 0, count):
            yield f"subgraph {number} has inputs or outputs that do not exist"
            return
        for i, op in enumerate(graph.operators):
            for flaw in _flaws_of_operator(op, graph, model):
                yield f"operator {i} of subgraph {number} {flaw}"
                return
        yield from (f"subgraph {number} {flaw}" for flaw in _flaws_of_order(graph, model))
    for i, signature in enumerate(model.signatureDefs):
        yield from (f"signature {i} {flaw}" for flaw in _flaws_of_signature(signature, model))
    main = model.subgraphs[0]
    for i in (*main.inputs, *main.outputs):
        if scale_of(main.tensors[i]) == 0.0 and dtype_of(main.tensors[i]) in _QUANTIZED:
            yield f"tensor {i}, {name_of(main.tensors[i])[:80]!r}, has the scale 0"


def _inside(indices, least: int, count: int) -> bool:
    return all(least <= int(i) < count for i in indices)


def _flaws_of_tensor(tensor, model):
    shape = list(shape_of(tensor))
    if any(size < 0 for size in shape) or math.prod(shape) >= _MOST_NUMBERS:
        yield f"has the shape {shape[:8]}"
    signature = tensor.shapeSignature
    if signature is not None and len(signature) not in (0, len(shape)):
        yield f"has a shape of {len(shape)} sizes and a signature of {len(signature)}"
    if tensor.buffer >= max(1, len(model.buffers)):
        yield "has a buffer that does not exist"
        return
    if getattr(tensor, "externalBuffer", 0):  # not in schemas before ai-edge-litert 2
        yield "has its values in another file, which is not read"
    yield from _flaws_of_quantization(tensor, shape)
    if tensor.sparsity is not None:
        yield from _flaws_of_sparsity(tensor.sparsity, len(shape))
    elif is_constant(tensor, model):
        held, wanted = len(model.buffers[tensor.buffer].data), size_of(tensor)
        if wanted is not None and held < wanted:
            yield f"has {held} bytes of the {wanted} for {dtype_of(tensor)}{shape[:8]}"


def _flaws_of_quantization(tensor, shape):
    parts = tensor.quantization
    if parts is None or parts.scale is None or not len(parts.scale):
        return
    points = [] if parts.zeroPoint is None else [int(point) for point in parts.zeroPoint]
    if len(parts.scale) != len(points):
        yield f"has {len(parts.scale)} scales and {len(points)} zero points"
    bad = [scale for scale in parts.scale if not 0.0 <= scale < np.inf]
    if bad:
        yield f"has the scale {bad[0]:g}"
    limits = _LIMITS.get(dtype_of(tensor))
    for point in points:
        if limits is not None and not limits[0] <= point <= limits[1]:
            yield f"has the zero point {point}"
    if len(points) > 1:
        axis = parts.quantizedDimension
        if not 0 <= axis < len(shape) or shape[axis] != len(points):
            yield f"has {len(points)} scales along axis {axis} of {shape[:8]}"


def _flaws_of_sparsity(parts, rank: int):
    blocks = [int(i) for i in (parts.blockMap if parts.blockMap is not None else ())]
    order = [int(i) for i in (parts.traversalOrder if parts.traversalOrder is not None else ())]
    dimensions = parts.dimMetadata or []
    every = list(range(rank + len(blocks)))
    if sorted(order) != every or len(dimensions) != len(every) or not _inside(blocks, 0, rank):
        yield f"has a sparse format that does not fit its {rank} dimensions"
    for i, part in enumerate(dimensions):
        lists = [part.arraySegments, part.arrayIndices]
        if part.format not in _enum_names("DimensionType"):
            yield f"has the format {part.format} in sparse dimension {i}"
        elif part.format and any(one is None or one.values is None for one in lists):
            yield f"has no segments or indices in sparse dimension {i}"
        elif part.format and not _is_list_of_rows(*(one.values for one in lists)):
            yield f"has segments that do not fit the indices in sparse dimension {i}"


def _is_list_of_rows(segments, indices) -> bool:
    ends = np.asarray(segments).astype(np.int64)
    rising = len(ends) > 0 and ends[0] == 0 and (np.diff(ends) >= 0).all()
    return bool(rising) and ends[-1] == len(indices) and (np.asarray(indices) >= 0).all()


# Requirements for operators whose parts are read: the class of their options, and the number of
# dimensions of their inputs by place (`None`: any number).
_PARTS = {
    "AVERAGE_POOL_2D": ("Pool2DOptions", {0: 4}),
    "BATCH_MATMUL": ("BatchMatMulOptions", {0: None, 1: None}),
    "CALL_ONCE": ("CallOnceOptions", {}),
    "CONV_2D": ("Conv2DOptions", {0: 4, 1: 4}),
    "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", {0: 4, 1: 4}),
    "DEQUANTIZE": (None, {0: None}),
    "FULLY_CONNECTED": ("FullyConnectedOptions", {0: None, 1: 2}),
    "IF": ("IfOptions", {0: None}),
    "L2_POOL_2D": ("Pool2DOptions", {0: 4}),
    "MAX_POOL_2D": ("Pool2DOptions", {0: 4}),
    "QUANTIZE": (None, {0: None}),
    "TRANSPOSE_CONV": ("TransposeConvOptions", {1: 4, 2: 4}),
    "WHILE": ("WhileOptions", {}),
}


def _flaws_of_operator(op, graph, model):
    if not 0 <= op.opcodeIndex < len(model.operatorCodes):
        yield "has no code"
        return
    count = len(graph.tensors)
    among = [indices for indices in (op.inputs, op.intermediates) if indices is not None]
    # -1 marks an omitted input.
    if not all(_inside(indices, -1, count) for indices in among) or not _inside(
        op.outputs, 0, count
    ):
        yield "has tensors that do not exist"
        return
    kind = _op_name(model.operatorCodes[op.opcodeIndex])
    wanted, ranks = _PARTS.get(kind, (None, {}))
    options = [one for one in (op.builtinOptions, op.builtinOptions2) if one is not None]
    # Omitted options have the schema's defaults.
    if wanted is not None and any(type(one).__name__ != f"{wanted}T" for one in options):
        yield f"is a {kind} with {type(options[0]).__name__.removesuffix('T')}, not {wanted}"
    if kind in _PARTS and kind not in _CONTROL and not len(op.outputs):
        yield f"is a {kind} without an output"
    for place, rank in ranks.items():
        if place >= len(op.inputs) or op.inputs[place] < 0:
            yield f"is a {kind} without input {place}"
            return
        shape = shape_of(graph.tensors[op.inputs[place]])
        # An empty shape may be unknown until the file runs.
        if shape and rank is not None and len(shape) != rank:
            yield f"is a {kind} with input {place} of {len(shape)} dimensions, not {rank}"
    if kind in _CONTROL:
        numbers = [
            number for one in options for name, number in vars(one).items() if "ubgraph" in name
        ]
        if not numbers or not _inside(numbers, 0, len(model.subgraphs)):
            yield f"is a {kind} of a subgraph that does not exist"


_CONTROL = ("CALL_ONCE", "IF", "WHILE")


def _flaws_of_order(graph, model):
    """Yield tensors that are read before they are written, or written twice."""
    there = {int(i) for i in graph.inputs}
    free = set()  # tensors that need no operator, but may have one
    for i, tensor in enumerate(graph.tensors):
        if is_constant(tensor, model):
            there.add(i)
        elif tensor.isVariable or 0 in shape_of(tensor):
            free.add(i)
    made = {int(i) for op in graph.operators for i in op.outputs}
    for number, op in enumerate(graph.operators):
        kind = _op_name(model.operatorCodes[op.opcodeIndex])
        missing = ({int(i) for i in op.inputs} & made) - there - free
        if missing:
            yield f"has operator {number}, {kind}, read tensor {min(missing)} before it is made"
        for i in map(int, op.outputs):
            if i in there and i not in free:
                yield f"has operator {number}, {kind}, make tensor {i}, which is there before"
            there.add(i)
    missing = {int(i) for i in graph.outputs} - there - free
    if missing:
        yield f"has the output {min(missing)}, which no operator makes"


def _flaws_of_signature(signature, model):
    if signature.subgraphIndex >= len(model.subgraphs):
        yield "has a subgraph that does not exist"
        return
    graph = model.subgraphs[signature.subgraphIndex]
    for what in ("inputs", "outputs"):
        known = {int(i) for i in getattr(graph, what)}
        strange = {entry.tensorIndex for entry in getattr(signature, what)} - known
        if strange:
            yield f"has the tensor {min(strange)}, which is none of its subgraph's {what}"


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


def shape_of(tensor) -> tuple[int, ...]:
    """Return a tensor's shape, `()` if the file has none."""
    return () if tensor.shape is None else tuple(int(size) for size in tensor.shape)


def size_of(tensor) -> int | None:
    """Return the size of a tensor's numbers in bytes, `None` for a type without a fixed size."""
    bits = _BITS.get(dtype_of(tensor))
    return None if bits is None else (math.prod(shape_of(tensor)) * bits + 7) // 8


def is_constant(tensor, model) -> bool:
    """Return whether the file holds a tensor's values."""
    data = model.buffers[tensor.buffer].data if tensor.buffer > 0 else None
    return data is not None and (len(data) > 0 or 0 in shape_of(tensor))


def scale_of(tensor) -> float | None:
    """Return a tensor's (first) scale, or `None`."""
    quantization = tensor.quantization
    if quantization is None or quantization.scale is None or not len(quantization.scale):
        return None
    return float(quantization.scale[0])


def tensor_info(tensor, name: str | None) -> TensorInfo:
    """Describe an input or output; `name` is its name in the signature."""
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
        shape=shape_of(tensor),
        dtype=dtype_of(tensor),
        scale=float(quantization.scale[0]) if scaled else None,
        zero_point=int(quantization.zeroPoint[0]) if scaled else None,
        free=tuple(i for i, size in enumerate(signature) if i and size < 0),
    )


def producers(graph) -> dict[int, Any]:
    """Return tensor number → the operator that computes it, for a subgraph."""
    return {int(i): op for op in graph.operators for i in op.outputs}


def touched(graph) -> set[int]:
    """Return the indices of the tensors of a graph's inputs, outputs and operators."""
    lists = [graph.inputs, graph.outputs]
    for op in graph.operators:
        lists += [op.inputs, op.outputs]
    return {int(i) for indices in lists for i in indices if i >= 0}


@functools.cache
def op_names_known() -> frozenset[str]:
    """Return the names of TFLite's builtin operators."""
    return frozenset(_enum_names("BuiltinOperator").values()) - {"CUSTOM"}


def hybrid_results(model) -> tuple[str, ...]:
    """Return names of float results whose operators read constants of another type."""
    names, found = op_names(model), []
    for graph in model.subgraphs:
        narrow = set()  # 16-bit and integer weights, and their results of DEQUANTIZE
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


def peak_activation_bytes(model) -> int:
    """Return the peak size in bytes of live activations, over all subgraphs."""
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
                change[time] += size_of(graph.tensors[i]) or 0
                change[dies[i] + 1] -= size_of(graph.tensors[i]) or 0
        peaks.append(int(change.cumsum().max()))
    return max(peaks)


# The places of operators' inputs, weights and biases.
_BIASED = {
    "CONV_2D": (0, 1, 2),
    "DEPTHWISE_CONV_2D": (0, 1, 2),
    "FULLY_CONNECTED": (0, 1, 2),
    "TRANSPOSE_CONV": (2, 1, 3),
}
# Larger than the rounding difference between products of two float32 numbers.
_SAME_SCALE = 1e-5


def wrong_biases(model) -> list[tuple]:
    """Return the operations whose bias has other scales than input × weights.

    The kernels add the bias's integers to the sum of products without rescaling. In int16x8 files
    the converter stores equal biases once, with the scales of one of the operations that read them.

    Returns:
        For each operation its subgraph, the operation, the place of the bias among its inputs,
        and the scales (float32) that the bias should have.
    """
    names, found = op_names(model), []
    for graph in model.subgraphs:
        for op in graph.operators:
            places = _BIASED.get(names[op.opcodeIndex])
            if places is None or len(op.inputs) <= places[2] or op.inputs[places[2]] < 0:
                continue
            given, weights, bias = (_scales(graph.tensors[op.inputs[i]]) for i in places)
            if given is None or weights is None or bias is None:
                continue
            wanted = given.astype(np.float64) * weights
            if not (np.abs(bias - wanted) <= _SAME_SCALE * wanted).all():
                found.append((graph, op, places[2], wanted))
    return found


def _scales(tensor) -> np.ndarray | None:
    if scale_of(tensor) is None:
        return None
    return np.asarray(tensor.quantization.scale, np.float32)


def wrong_scales(model) -> tuple[str, ...]:
    """Return names of results that their kernels compute wrongly with the file's scales.

    A fused LSTM uses its output's scale for its state and supports no cell scale below 2⁻¹⁵;
    REVERSE_V2 copies integers; a bias must have the scale of the products.
    The converter can write files that violate these rules (see `conversion/recurrent/forms.py`).
    """
    names = op_names(model)
    found = [name_of(graph.tensors[op.outputs[0]]) for graph, op, *_ in wrong_biases(model)]
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
    """Find the Keras layer of a tensor.

    Args:
        name: The tensor's name, such as `"act/Relu;conv1/Conv2D"`: the converter joins the names
            of fused operations, the last operation first.
        layers: The layers' scopes (see `tracing.scope_of`) → the names to return.

    Returns:
        The name for the longest scope around the first joined name that lies in any scope, or
        `None` if there is none.
    """
    for path in name.split(";"):
        found = [layer for layer in layers if path == layer or path.startswith(f"{layer}/")]
        if found:
            return layers[max(found, key=len)]
    return None


def layers_of(op, graph, model, layers) -> set[str]:
    """Find the Keras layers of an operation, by the names of its results and its constants.

    The last operation's result has the output's name, and its weights the layer's name. A fused
    operation is of each of its layers. What it reads from other operations does not count.

    Args:
        op: The operation.
        graph: Its subgraph.
        model: The parsed file.
        layers: As for `layer_in`.
    """
    read = [graph.tensors[i] for i in op.inputs if i >= 0]
    named = [graph.tensors[i] for i in op.outputs]
    named += [tensor for tensor in read if is_constant(tensor, model)]
    parts = [part for tensor in named for part in name_of(tensor).split(";")]
    return {layer for part in parts if (layer := layer_in(part, layers)) is not None}


def float_results(model, but) -> list[str]:
    """Return names of the results of operations that compute in floating point.

    Args:
        model: The parsed file.
        but: Scopes of layers whose operations are left out. The last operation has the name of
            the output, and is taken for one of the layer whose float result it reads.
    """
    names, layers = op_names(model), {name: name for name in but}
    graph = model.subgraphs[0]  # its operations call the others
    ends = set(map(int, graph.outputs))
    ends |= {
        int(op.inputs[0])
        for op in graph.operators
        if names[op.opcodeIndex] == "QUANTIZE" and int(op.outputs[0]) in ends
    }
    found, passed = [], set()
    for op in graph.operators:
        results = [int(i) for i in op.outputs]
        if names[op.opcodeIndex] in ("QUANTIZE", "DEQUANTIZE") or not any(
            dtype_of(graph.tensors[i]).startswith("float") for i in results
        ):
            continue
        is_last = ends.intersection(results) and passed.intersection(map(int, op.inputs))
        if is_last or layers_of(op, graph, model, layers):
            passed.update(results)
        else:
            found.append(name_of(graph.tensors[results[0]]))
    return found
