"""`TFLiteModel`: the bytes of a `.tflite` file and what they are.

Everything that is said of a file here is read from its flatbuffer with the schema's own
reader, in Python; running it happens in the worker of `sandbox`, so that a malformed
file can take nothing down. `open_interpreter` is the one place where an interpreter is
opened.
"""

from __future__ import annotations

import dataclasses
import functools
import gzip
import hashlib
import pathlib
from collections import Counter

import numpy as np

from tfkd.errors import ConversionError, InputError, WorkerError
from tfkd.files import write_atomically

from . import sandbox

#: Which kernels run a file: `"xnnpack"` is what Android and desktops use by default,
#: `"reference"` the plain kernels that TensorFlow Lite for Microcontrollers follows.
ENGINES = ("xnnpack", "reference")

_PREDICT_SECONDS = 900.0


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


@dataclasses.dataclass(frozen=True)
class TFLiteModel:
    """A `.tflite` file in memory.

    Args:
        data: The file's bytes.

    Raises:
        InputError: if the bytes are not a TFLite flatbuffer.

    Example:
        >>> from tfkd.export import TFLiteModel
        >>> TFLiteModel(b"not a model")
        Traceback (most recent call last):
        ...
        tfkd.errors.InputError: These 11 bytes are not a .tflite file.
    """

    data: bytes = dataclasses.field(repr=False)

    def __post_init__(self):
        self._parsed  # noqa: B018  read at the door, so that later properties can't fail

    @classmethod
    def load(cls, path) -> TFLiteModel:
        """Read a file.

        Raises:
            InputError: if it can't be read or is not a `.tflite` file.
        """
        try:
            data = pathlib.Path(path).read_bytes()
        except OSError as error:
            raise InputError(f"Cannot read {str(path)!r}: {error.strerror}.") from error
        try:
            return cls(data)
        except InputError as error:
            raise InputError(f"{str(path)!r} is not a .tflite file ({error})") from error

    def save(self, path) -> pathlib.Path:
        """Write the file, whole or not at all.

        Returns:
            The path.

        Raises:
            InputError: if the folder can't be written.
        """
        return write_atomically(path, self.data)

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return len(self.data)

    @functools.cached_property
    def gzip_size(self) -> int:
        """Bytes of the file after gzip at its highest level, as a download would be."""
        return len(gzip.compress(self.data, 9, mtime=0))

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the bytes, in hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()

    @functools.cached_property
    def ops(self) -> dict[str, int]:
        """How often each operator occurs, over all subgraphs; the most frequent first."""
        codes = self._parsed.operatorCodes or []
        names = [_op_name(code) for code in codes]
        counts = Counter(
            names[op.opcodeIndex] for graph in self._parsed.subgraphs for op in graph.operators
        )
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    @functools.cached_property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """The inputs, in the order of the graph."""
        return self._infos("inputs")

    @functools.cached_property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """The outputs, in the order of the graph."""
        return self._infos("outputs")

    @functools.cached_property
    def float_tensors(self) -> tuple[str, ...]:
        """Names of the tensors that hold floating-point numbers.

        Those that no operation reads or writes do not count: a fused LSTM's "intermediates"
        carry scales for its gates and no numbers.
        """
        return tuple(
            (graph.tensors[i].name or b"?").decode(errors="replace")
            for graph in self._parsed.subgraphs
            for i in sorted(_touched(graph))
            if _dtype(graph.tensors[i].type).startswith(("float", "complex"))
        )

    @property
    def integer_only(self) -> bool:
        """Whether no tensor at all, input and output included, is floating-point."""
        return not self.float_tensors

    @functools.cached_property
    def keeps_state(self) -> bool:
        """Whether a call changes what the next one answers (fused recurrent kernels do).

        Such a file must be reset before each new sequence; `predict`, `verify` and
        `benchmark` do so before each call.
        """
        variables = any(
            tensor.isVariable for graph in self._parsed.subgraphs for tensor in graph.tensors
        )
        return variables or "VAR_HANDLE" in self.ops

    @functools.cached_property
    def wrong_scales(self) -> tuple[str, ...]:
        """Names of results whose kernel computes something else with the scales in the file.

        A fused LSTM takes its output's scale for its state's and can't count a cell in steps
        of less than 2⁻¹⁵; REVERSE_V2 copies integers. The converter can write files in which
        that does not fit (see `export/recurrent.py`).
        """
        names = [_op_name(code) for code in self._parsed.operatorCodes or []]
        found = []
        for graph in self._parsed.subgraphs:
            for op in graph.operators or []:
                kind = names[op.opcodeIndex]
                if kind not in ("UNIDIRECTIONAL_SEQUENCE_LSTM", "REVERSE_V2"):
                    continue
                result = graph.tensors[op.outputs[0]]
                fused = kind != "REVERSE_V2"
                other = _scale(graph.tensors[op.inputs[LSTM_STATE if fused else 0]])
                if other is None or _scale(result) is None:
                    continue
                wrong = abs(_scale(result) / other - 1.0) > 1e-6
                if fused:
                    wrong |= _scale(graph.tensors[op.inputs[LSTM_CELL]]) < LEAST_CELL_SCALE
                if wrong:
                    found.append((result.name or b"?").decode(errors="replace"))
        return tuple(found)

    @functools.cached_property
    def weight_bytes(self) -> int:
        """Bytes of constant tensors; the rest of the file describes the graph."""
        return sum(
            len(buffer.data) for buffer in self._parsed.buffers or [] if buffer.data is not None
        )

    def predict(self, x, engine: str = "xnnpack", threads: int = 1):
        """Run the file on float data and return float results.

        Integer inputs are quantized and integer outputs dequantized with the file's own
        scales. Examples are run one at a time (or in the file's fixed batch), each from a
        reset state, in a worker process.

        Args:
            x: Array of shape (examples, ...), or a list or dict (by input name) of them.
            engine: `"xnnpack"` or `"reference"`.
            threads: Threads of the interpreter.

        Returns:
            Array of shape (examples, ...), or a list of them for several outputs.

        Raises:
            InputError: if `x` does not fit the inputs.
            WorkerError: if the interpreter refuses the file or dies on it.
        """
        arrays = self.input_arrays(x)
        results = call_interpreter(
            _predict,
            self.data,
            arrays,
            self.inputs[0].shape[0],
            engine,
            threads,
            timeout=_PREDICT_SECONDS,
        )
        outputs = [
            info.dequantize(values) for info, values in zip(self.outputs, results, strict=True)
        ]
        return outputs[0] if len(outputs) == 1 else outputs

    def input_arrays(self, x) -> list[np.ndarray]:
        """Check data against the inputs and quantize it where they are integers.

        Args:
            x: As for `predict`.

        Returns:
            One array of the input's dtype per input, in the graph's order.

        Raises:
            InputError: naming the shape given and the one wanted.
        """
        if isinstance(x, dict):
            missing = [info.name for info in self.inputs if info.name not in x]
            if missing:
                raise InputError(f"No data for input {missing}; given: {sorted(x)}.")
            x = [x[info.name] for info in self.inputs]
        elif not isinstance(x, (list, tuple)):
            x = [x]
        if len(x) != len(self.inputs):
            raise InputError(f"The file has {len(self.inputs)} inputs, got data for {len(x)}.")
        arrays = []
        for info, values in zip(self.inputs, x, strict=True):
            values = np.asarray(values)
            if values.ndim != len(info.shape) or values.shape[1:] != info.shape[1:]:
                wanted = ", ".join(map(str, info.shape[1:]))
                raise InputError(
                    f"Input {info.name!r} takes arrays of shape (examples, {wanted}), "
                    f"got {values.shape}."
                )
            if len(values) == 0:
                raise InputError(f"The data for input {info.name!r} is empty.")
            arrays.append(info.quantize(values))
        return arrays

    def describe(self) -> str:
        """Say in a few lines what the file is."""

        def line(info):
            text = f"{info.name} {info.dtype}{list(info.shape)}"
            if info.scale is None:
                return text
            return f"{text}, scale {info.scale:.6g}, zero point {info.zero_point}"

        ops = ", ".join(f"{name} ×{count}" for name, count in self.ops.items())
        facts = ["integer only" if self.integer_only else "has float tensors"]
        if self.keeps_state:
            facts.append("keeps state between calls: reset before each sequence")
        return "\n".join(
            [
                f"{self.size:,} bytes ({self.weight_bytes:,} of weights), {'; '.join(facts)}",
                *(f"input  {line(info)}" for info in self.inputs),
                *(f"output {line(info)}" for info in self.outputs),
                f"ops    {ops}",
            ]
        )

    @functools.cached_property
    def _parsed(self):
        from ai_edge_litert import schema_py_generated as schema

        if self.data[4:8] != b"TFL3":
            raise InputError(f"These {len(self.data)} bytes are not a .tflite file.")
        try:
            model = schema.ModelT.InitFromPackedBuf(self.data, 0)
            graphs = model.subgraphs or []
            complete = graphs and all(
                graph.tensors is not None
                and graph.inputs is not None
                and graph.outputs is not None
                and graph.operators is not None
                and all(0 <= i < len(graph.tensors) for i in [*graph.inputs, *graph.outputs])
                and all(0 <= op.opcodeIndex < len(model.operatorCodes) for op in graph.operators)
                for graph in graphs
            )
        except Exception as error:  # whatever a malformed buffer makes the reader raise
            raise InputError(
                f"These {len(self.data)} bytes are a damaged .tflite file ({error})."
            ) from error
        if not complete:
            raise InputError(f"These {len(self.data)} bytes are an incomplete .tflite file.")
        return model

    def _infos(self, which: str) -> tuple[TensorInfo, ...]:
        graph = self._parsed.subgraphs[0]
        names = {}
        for signature in self._parsed.signatureDefs or []:
            if signature.subgraphIndex == 0:
                names = {
                    entry.tensorIndex: entry.name.decode()
                    for entry in getattr(signature, which) or []
                }
        return tuple(
            _tensor_info(graph.tensors[index], names.get(index)) for index in getattr(graph, which)
        )


def _tensor_info(tensor, name) -> TensorInfo:
    quantization = tensor.quantization
    scaled = (
        quantization is not None
        and quantization.scale is not None
        and len(quantization.scale) == 1
        and _dtype(tensor.type) in ("int8", "uint8", "int16")
    )
    return TensorInfo(
        name=name or (tensor.name or b"").decode(errors="replace"),
        shape=tuple(int(size) for size in (tensor.shape if tensor.shape is not None else ())),
        dtype=_dtype(tensor.type),
        scale=float(quantization.scale[0]) if scaled else None,
        zero_point=int(quantization.zeroPoint[0]) if scaled else None,
    )


@functools.cache
def _enum_names(kind: str) -> dict[int, str]:
    from ai_edge_litert import schema_py_generated as schema

    return {value: name for name, value in vars(getattr(schema, kind)).items() if name.isupper()}


# Of UNIDIRECTIONAL_SEQUENCE_LSTM's 24 inputs, those that hold the output's and cell's state.
LSTM_STATE, LSTM_CELL = 18, 19
#: The int8 kernel's tanh knows no finer steps of the 16-bit cell.
LEAST_CELL_SCALE = 2.0**-15


def _scale(tensor) -> float | None:
    quantization = tensor.quantization
    if quantization is None or quantization.scale is None or not len(quantization.scale):
        return None
    return float(quantization.scale[0])


def _touched(graph) -> set[int]:
    """Return the indices of the tensors that are computed with."""
    lists = [graph.inputs, graph.outputs]
    for op in graph.operators or []:
        lists += [op.inputs, op.outputs]
    return {int(i) for indices in lists if indices is not None for i in indices if i >= 0}


def _dtype(tensor_type: int) -> str:
    return _enum_names("TensorType").get(tensor_type, f"type{tensor_type}").lower()


def _op_name(code) -> str:
    # Files older than schema version 3a keep the code in the deprecated, 8-bit field.
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    name = _enum_names("BuiltinOperator").get(number, f"BUILTIN_{number}")
    if name == "CUSTOM" and code.customCode:
        return code.customCode.decode(errors="replace")
    return name


def call_interpreter(function, *args, timeout: float):
    """Run a function that opens an interpreter in the shared worker, with a readable error."""
    try:
        return sandbox.shared().call(function, *args, timeout=timeout)
    except WorkerError as error:
        raise error.because("The interpreter could not run this file") from None


def open_interpreter(data: bytes, engine: str, threads: int):
    """Open a file in the LiteRT interpreter, tensors allocated; call it in a worker only.

    Args:
        data: The file's bytes.
        engine: One of `ENGINES`.
        threads: Threads of the interpreter.

    Raises:
        InputError: for an unknown engine.
        ConversionError: if the interpreter refuses the file.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = {"xnnpack": OpResolverType.AUTO, "reference": OpResolverType.BUILTIN_REF}
    if engine not in resolver:
        raise InputError(f"engine must be one of {ENGINES}, got {engine!r}.")
    try:
        interpreter = Interpreter(
            model_content=data,
            num_threads=threads,
            experimental_op_resolver_type=resolver[engine],
        )
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise ConversionError(
            f"The {engine} interpreter refuses this file: {' '.join(str(error).split())}"
        ) from None
    return interpreter


def _predict(data, arrays, batch, engine, threads):
    """Run every example from a reset state; in the worker."""
    interpreter = open_interpreter(data, engine, threads)
    inputs = [detail["index"] for detail in interpreter.get_input_details()]
    outputs = [detail["index"] for detail in interpreter.get_output_details()]
    count = len(arrays[0])
    results = [[] for _ in outputs]
    for start in range(0, count, batch):
        rows = np.arange(start, start + batch) % count  # the last batch is filled up
        interpreter.reset_all_variables()
        for index, array in zip(inputs, arrays, strict=True):
            interpreter.set_tensor(index, array[rows])
        interpreter.invoke()
        for result, index in zip(results, outputs, strict=True):
            result.append(interpreter.get_tensor(index))
    return [np.concatenate(result)[:count] for result in results]
