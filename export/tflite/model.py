"""`TFLiteModel`: the bytes of a `.tflite` file and their description.

Descriptions come from the file's flatbuffer (`schema`). The file runs in a child process
(`export.runtime`), so a malformed one crashes the child and not the caller.
"""

from __future__ import annotations

import dataclasses
import functools
import gzip
import math
import pathlib
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from tfkd import hashing
from tfkd.errors import InputError, UnsupportedError, WorkerError, argument
from tfkd.escaping import in_lines
from tfkd.export.runtime import interpreter, worker
from tfkd.export.runtime.interpreter import ENGINES, call_interpreter, open_interpreter
from tfkd.export.tflite import schema, structures, writer
from tfkd.export.tflite.schema import TensorInfo
from tfkd.files import write_atomically
from tfkd.model import binding, metrics
from tfkd.tables import Printed

if TYPE_CHECKING:
    from tfkd._typing import Arrays, PathLike

__all__ = ["ENGINES", "TFLiteModel", "TensorInfo", "call_interpreter", "open_interpreter"]

#: Most seconds for running a data set through a file.
_PREDICT_SECONDS = 900.0
# Allocations up to this many bytes are made without a check of the free memory.
_LARGE = 64 << 20

# Prefixes of names in a step file's signature: of states, and of the tensors of one step.
STATE_IN, STATE_OUT, STEP = "state_in_", "state_out_", "step_"


def _check_memory(size: int, what: str):
    """Raise if the memory that a file needs does not fit into this process."""
    free = worker.free_bytes() if size > _LARGE else None
    if free is not None and size > free:
        raise InputError(f"{what} take {size:,} bytes, but only {free:,} bytes of memory are free.")


@dataclasses.dataclass(frozen=True)
class TFLiteModel(Printed):
    """A `.tflite` file in memory.

    Args:
        data: The file's bytes.
        notes: Remarks of `to_tflite` on how it made the file; not part of the file.

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
    notes: tuple[str, ...] = dataclasses.field(default=(), repr=False, compare=False)

    def __post_init__(self):
        if not isinstance(self.data, (bytes, bytearray)):
            raise InputError(
                f"TFLiteModel takes the bytes of a file, got {type(self.data).__name__}; "
                "TFLiteModel.load(path) reads one."
            )
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

    def select(self, signature: str) -> TFLiteModel:
        """Return the file with only one of its signatures, which `predict` and others then run.

        Without a selection they run the first subgraph, whatever its signature.

        Args:
            signature: One of `signatures`.

        Raises:
            InputError: for a name that is not in `signatures`.
        """
        if signature not in self.signatures:
            raise InputError(
                f"The file has no signature {signature!r}; there are "
                f"{', '.join(map(repr, self.signatures)) or 'none'}."
            )
        model = schema.parse(self.data)
        chosen = model.signatureDefs[self.signatures.index(signature)]
        model.signatureDefs = [chosen]
        return dataclasses.replace(self, data=writer.with_main(model, chosen.subgraphIndex))

    def save(self, path: PathLike) -> pathlib.Path:
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
        return hashing.sha256(self.data)

    @functools.cached_property
    def ops(self) -> dict[str, int]:
        """How often each operator occurs, over all subgraphs; the most frequent first."""
        names = schema.op_names(self._parsed)
        counts = Counter(
            names[op.opcodeIndex] for graph in self._parsed.subgraphs for op in graph.operators
        )
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    @property
    def flex_ops(self) -> tuple[str, ...]:
        """TensorFlow operators that the runtime runs only with its Flex delegate."""
        return tuple(sorted(name for name in self.ops if name.startswith("Flex")))

    @functools.cached_property
    def custom_ops(self) -> tuple[str, ...]:
        """Operators that the runtime knows only if the application brings them."""
        known = schema.op_names_known()
        return tuple(sorted(set(self.ops) - known - set(self.flex_ops)))

    @functools.cached_property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """The inputs, in the order of the graph."""
        return self._infos("inputs")

    @functools.cached_property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """The outputs, in the order of the graph."""
        return self._infos("outputs")

    @functools.cached_property
    def signatures(self) -> tuple[str, ...]:
        """Names of the signatures, by which an application can call the file."""
        entries = self._parsed.signatureDefs
        return tuple((entry.signatureKey or b"?").decode(errors="replace") for entry in entries)

    @functools.cached_property
    def float_tensors(self) -> tuple[str, ...]:
        """Names of the tensors that hold floating-point numbers.

        Tensors that no operation reads or writes do not count: a fused LSTM's "intermediates"
        carry scales for its gates and no numbers.
        """
        return tuple(
            schema.name_of(graph.tensors[i])
            for graph in self._parsed.subgraphs
            for i in sorted(schema.touched(graph))
            if schema.dtype_of(graph.tensors[i]).startswith(("float", "complex", "bfloat"))
        )

    @property
    def integer_only(self) -> bool:
        """Whether none of the tensors, inputs and outputs included, is floating-point."""
        return not self.float_tensors

    @functools.cached_property
    def hybrid_ops(self) -> tuple[str, ...]:
        """Results of operations that multiply integer weights with floating-point numbers.

        float16 and dynamic-range files have them; microcontrollers' kernels do not.
        """
        return schema.hybrid_results(self._parsed)

    @functools.cached_property
    def sparse_tensors(self) -> tuple[str, ...]:
        """Names of the weights in a sparse format; microcontrollers read them as dense ones."""
        return tuple(
            schema.name_of(tensor)
            for graph in self._parsed.subgraphs
            for tensor in graph.tensors
            if tensor.sparsity is not None
        )

    @functools.cached_property
    def keeps_state(self) -> bool:
        """Whether a call changes the next call's answer (in fused recurrent kernels it does).

        Such a file must be reset before each new sequence; `predict`, `verify` and
        `benchmark` do so before each call.
        """
        variables = any(
            tensor.isVariable for graph in self._parsed.subgraphs for tensor in graph.tensors
        )
        return variables or "VAR_HANDLE" in self.ops

    @functools.cached_property
    def states(self) -> tuple[tuple[str, str], ...]:
        """The pairs (input, output) that carry the state of a step file; empty for other files.

        Start a sequence with zeros (their zero points) and copy each output to its input
        after every call: both have the same scale.
        """
        outputs = {info.name for info in self.outputs}
        names = sorted(info.name for info in self.inputs if info.name.startswith(STATE_IN))
        pairs = [(name, STATE_OUT + name.removeprefix(STATE_IN)) for name in names]
        return tuple(pair for pair in pairs if pair[1] in outputs)

    @functools.cached_property
    def wrong_scales(self) -> tuple[str, ...]:
        """Names of results that their kernels compute wrongly with the scales in the file."""
        return schema.wrong_scales(self._parsed)

    @functools.cached_property
    def weight_bytes(self) -> int:
        """Bytes of constant tensors; the rest of the file describes the graph."""
        return sum(len(buffer.data) for buffer in self._parsed.buffers if buffer.data is not None)

    @functools.cached_property
    def four_bit_weights(self) -> int:
        """How many weights have 4 bits; two of them take a byte."""
        return sum(
            math.prod(schema.shape_of(tensor))
            for graph in self._parsed.subgraphs
            for tensor in graph.tensors
            if schema.dtype_of(tensor) == "int4"
        )

    @functools.cached_property
    def activation_bytes(self) -> int:
        """Peak size in bytes of the activations that live at the same time.

        No arena can be smaller. A planner needs more, and adds its own records.
        """
        return schema.peak_activation_bytes(self._parsed)

    def predict(self, x: Arrays, engine: str = "xnnpack", threads: int = 1) -> Any:
        """Run the file on float data and return float results.

        Integer inputs are quantized and integer outputs dequantized with the file's own
        scales. Each example starts from a reset state; if the graph allows it, an interpreter
        with a larger batch runs many at once. A step file runs over the whole sequence and
        carries its state along. Everything runs in a worker process.

        Args:
            x: Array of shape (examples, ...), or for several inputs a list of them in the
                order of `inputs` or a dict by their names or the model's own keys. For a step
                file, sequences (examples, steps, ...), and nothing for its state.
            engine: `"xnnpack"`, `"reference"` or `"tflm"`.
            threads: Threads of the interpreter; not for `"tflm"`.

        Returns:
            Array of shape (examples, ...), or for several outputs a list of them in the order
            of `outputs`, or a dict if the model returns one. For a step file, the outputs that
            the model gives at every step (examples, steps, ...) and the others after the last
            step, without the states.

        Raises:
            InputError: if `x` does not fit the inputs, or for an unknown engine.
            ConversionError: if the interpreter refuses the file.
            WorkerError: if the interpreter dies on the file.
        """
        outputs = self._predict(x, engine, threads)
        form = self._form("outputs")
        if form is not None:
            by_name = {
                i.name: one for i, one in zip(self._visible("outputs"), outputs, strict=True)
            }
            return structures.filled(form, [by_name[name] for name in structures.names(form)])
        return outputs[0] if len(outputs) == 1 else outputs

    def _predict(self, x, engine: str = "xnnpack", threads: int = 1) -> list[np.ndarray]:
        """Return the results of `predict` as a flat list, in the order of the outputs."""
        interpreter.check_engine(engine)
        if engine == "tflm":
            self._check_dense()
        elif engine == "reference":
            self._check_widths()
        arrays = self.input_arrays(x)
        self._check_outputs(next(len(array) for array in arrays if array is not None))
        results = self._run(arrays, engine, threads)
        shown = self._visible("outputs")
        return [
            info.dequantize(values)
            for info, values in zip(self.outputs, results, strict=True)
            if info in shown
        ]

    def _check_dense(self):
        """Raise if weights are in a format that microcontrollers' kernels misread."""
        if self.sparse_tensors:
            raise UnsupportedError(
                "TensorFlow Lite for Microcontrollers would read the weights "
                f"{self.sparse_tensors[0]!r}, stored in a sparse format, as dense ones; convert "
                "the model without the converter's experimental sparsity.",
                code="sparse-format",
            )

    def _check_widths(self):
        """Raise if LiteRT has no reference kernel for the file's weights of 4 bits."""
        names = schema.op_names(self._parsed)
        for graph in self._parsed.subgraphs:
            for op in graph.operators:
                narrow = (
                    len(op.inputs) > 1 and schema.dtype_of(graph.tensors[op.inputs[1]]) == "int4"
                )
                if narrow and names[op.opcodeIndex] == "DEPTHWISE_CONV_2D":
                    raise UnsupportedError(
                        "LiteRT's reference kernels have no DEPTHWISE_CONV_2D with weights of 4 "
                        f"bits: use {argument('engine', 'xnnpack')} or 'tflm'.",
                        code="reference-four-bits",
                    )

    def _check_outputs(self, examples):
        """Raise if the results are not numbers, or too many."""
        for info in self.outputs:
            if not info.is_numeric:
                raise InputError(f"The output {info.name!r} holds {info.dtype}, not numbers.")
        # Raw and as float32; for sequences, at least one step.
        size = examples * sum(8 * math.prod(info.shape[1:]) for info in self.outputs)
        _check_memory(size, f"The results for {examples} examples")

    def _run(self, arrays, engine, threads) -> list[np.ndarray]:
        count = next(len(array) for array in arrays if array is not None)
        answers = self._answers(arrays, engine, threads)
        return interpreter.check_answers(answers, self.outputs, count)

    def _answers(self, arrays, engine, threads):
        steps, resize = None, not self.keeps_state
        batch = self.inputs[0].shape[0] if self.inputs[0].shape else 1
        if self.states:
            steps = self._steps(arrays)
        fixed = any(not info.shape or info.shape[0] != batch for info in self.inputs)
        if any(info.free for info in self.inputs):
            shapes = [
                (info.shape[0], *array.shape[1:])
                for info, array in zip(self.inputs, arrays, strict=True)
            ]
            return call_interpreter(
                interpreter.run,
                *(self.data, arrays, batch, engine, threads, len(self.outputs), None, False),
                shapes,
                timeout=_PREDICT_SECONDS,
            )
        arguments = (self.data, arrays, batch, engine, threads, len(self.outputs), steps)
        try:
            return call_interpreter(
                interpreter.run, *arguments, resize and not fixed, timeout=_PREDICT_SECONDS
            )
        except WorkerError as error:
            if error.signal is None or not resize:
                raise
        # Some graphs crash with any batch size but their own.
        return call_interpreter(interpreter.run, *arguments, False, timeout=_PREDICT_SECONDS)

    def _steps(self, arrays) -> interpreter.Steps:
        inputs = [info.name for info in self.inputs]
        outputs = [info.name for info in self.outputs]
        moving = [i for i, name in enumerate(inputs) if name.startswith(STEP)]
        if not moving:
            raise InputError(f"The file has a state, but no input is called {STEP}...: {inputs}.")
        return interpreter.Steps(
            initial=[self._initial(info) for info in self.inputs],
            moving=moving,
            back=[(outputs.index(out), inputs.index(name)) for name, out in self.states],
            stacked=[i for i, name in enumerate(outputs) if name.startswith(STEP)],
        )

    def _initial(self, info: TensorInfo):
        if not any(info.name == name for name, _ in self.states):
            return None
        return info.shape[1:], info.dtype, info.quantize(np.float32(0.0)).item()

    def evaluate(
        self, x: Arrays, y: Arrays, engine: str = "xnnpack", logits: bool | None = None
    ) -> Any:
        """Score the file's answers against labels.

        Args:
            x: As for `predict`.
            y: Labels (examples, ...): class numbers, one-hot rows, or values; also as a list
                or a dict of one.
            engine: As for `predict`.
            logits: For an output that separates two classes, or of several labels, whether it is a
                logit or a probability. Defaults to a probability for an output that ends in a
                sigmoid; for others only the metrics that need no threshold are computed.

        Returns:
            Metric name → value, see `metrics.score`.

        Raises:
            InputError: if `x` or `y` does not fit, or for a file with several outputs.
        """
        outputs = self._predict(x, engine)
        if len(outputs) > 1:
            raise InputError("evaluate takes files with one output; use verify for several.")
        return self._score(outputs[0], x, y, logits)

    def _score(self, answers, x, y, logits: bool | None = None) -> dict[str, float]:
        """Score the answers of a file with one output, by what its operators say of them."""
        (y,) = self._slots("outputs").bind(y, "y", arrays=True)
        x = self._slots("inputs").bind(x, "x", extra=True, arrays=True)
        (shown,) = self._visible("outputs")
        activation = self._activation(self.outputs.index(shown))
        return metrics.score(
            answers,
            y,
            np.asarray(x[0]) if len(x) == 1 else None,  # which the output may reconstruct
            logits=logits,
            # A linear output may hold logits or values, which only the labels tell here.
            activation=None if activation == "linear" else activation,
        )

    def input_arrays(self, x: Arrays) -> list[np.ndarray]:
        """Check data against the inputs and quantize it where they are integers.

        Args:
            x: As for `predict`.

        Returns:
            One array of the input's dtype per input, in the graph's order; `None` for the
            state of a step file.

        Raises:
            InputError: if `x` does not fit; the message has the given and the expected shape.
        """
        wanted = self._visible("inputs")
        if not wanted:
            raise InputError("The file has no inputs for data, so it can't run on data.")
        for info in self.inputs:
            if not info.is_numeric:
                raise InputError(f"The input {info.name!r} takes {info.dtype}, not numbers.")
            if not info.shape or 0 in info.shape:
                raise InputError(f"The input {info.name!r}, {list(info.shape)}, takes no examples.")
        x = self._slots("inputs").bind(x, "x", extra=True, arrays=True)
        given = [self._array(info, values) for info, values in zip(wanted, x, strict=True)]
        lengths = {len(array) for array in given}
        if len(lengths) > 1:
            raise InputError(f"The inputs have different numbers of examples: {sorted(lengths)}.")
        rest = iter(given)
        return [next(rest) if info in wanted else None for info in self.inputs]

    def _visible(self, which: str) -> tuple[TensorInfo, ...]:
        """Return the inputs or outputs that hold data: all except a step file's states."""
        states = {name for pair in self.states for name in pair}
        return tuple(info for info in getattr(self, which) if info.name not in states)

    def _activation(self, output: int) -> str | None:
        """Return an output's activation: `"softmax"`, `"sigmoid"` or `"linear"`; `None` if unknown.

        Args:
            output: Its place in `outputs`.
        """
        names, main = schema.op_names(self._parsed), self._parsed.subgraphs[0]
        made_by = schema.producers(main)
        tensor = int(main.outputs[output])
        while tensor in made_by:
            op = made_by[tensor]
            kind = names[op.opcodeIndex]
            if kind in ("QUANTIZE", "DEQUANTIZE"):
                tensor = int(op.inputs[0])
                continue
            if kind in ("FULLY_CONNECTED", "CONV_2D"):
                options = op.builtinOptions
                return None if options and options.fusedActivationFunction else "linear"
            return {"SOFTMAX": "softmax", "LOGISTIC": "sigmoid"}.get(kind)
        return None

    def _form(self, which: str):
        """Return the structure of inputs or outputs, see `structures`; `None` for a list."""
        form = structures.read(self._parsed).get(which)
        known = sorted(info.name for info in self._visible(which))
        return form if sorted(structures.names(form)) == known else None

    def _slots(self, which: str) -> binding.Slots:
        """Return inputs or outputs as slots that arrays bind to: by name, by key or in order."""
        infos = self._visible(which)
        names = [info.name for info in infos]
        shapes = [
            (None, *(None if i in info.free else n for i, n in enumerate(info.shape) if i))
            for info in infos
        ]
        slots = binding.named(names, which[:-1], "file", ordered=True, shapes=shapes)
        form = self._form(which)
        keys = {} if form is None else structures.names(form)
        entries = [dataclasses.replace(slot, key=keys.get(slot.name)) for slot in slots.entries]
        return dataclasses.replace(slots, entries=tuple(entries))

    def _array(self, info: TensorInfo, values) -> np.ndarray:
        values = binding.as_array(values, f"input {info.name!r}")
        # A step file's tensors hold one step of a sequence.
        free = 2 if self.states and info.name.startswith(STEP) else 1
        fits = values.ndim == len(info.shape) and all(
            values.shape[i] == info.shape[i] for i in range(free, values.ndim) if i not in info.free
        )
        if not fits:
            wanted = ", ".join(["examples", "steps"][:free] + [str(n) for n in info.sizes[free:]])
            raise InputError(
                f"Input {info.name!r} takes arrays of shape ({wanted}), got {values.shape}."
            )
        if values.size == 0:
            raise InputError(f"The data for input {info.name!r} is empty.")
        if values.dtype.kind not in "biuf":
            raise InputError(f"Input {info.name!r} takes numbers, got {values.dtype}.")
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise InputError(f"The data for input {info.name!r} holds NaN or infinite values.")
        if info.scale is None and info.dtype in schema.INTEGERS:
            limits = np.iinfo(info.dtype)
            if values.min() < limits.min or values.max() > limits.max:
                raise InputError(
                    f"Input {info.name!r} takes {info.dtype}, from {limits.min} to {limits.max}, "
                    f"got values from {values.min()} to {values.max()}."
                )
        return info.quantize(values)

    def first_call(self, x: Arrays, times: int = 1) -> list[np.ndarray]:
        """Return the tensors of one call: the first examples of `x`, for a step file a step.

        Args:
            x: As for `predict`.
            times: Factor by which the batch is larger than the file's own.

        Raises:
            InputError: as `input_arrays`.
        """
        tensors, arrays = [], self.input_arrays(x)
        self._check_call(times, drawn=False)
        for info, array in zip(self.inputs, arrays, strict=True):
            if array is None:
                shape, dtype, value = self._initial(info)
                array = np.full((1, *shape), value, dtype)
            elif self.states and info.name.startswith(STEP):
                array = array[:, :1]
            tensors.append(np.resize(array, (info.shape[0] * times, *array.shape[1:])))
        return tensors

    def _check_call(self, times: int = 1, most: float = math.inf, drawn: bool = True):
        """Raise if the inputs of a call are not numbers, or have more bytes than fit or allowed.

        Args:
            times: The ratio of the batch to the file's own batch.
            most: The most bytes allowed.
            drawn: Whether the numbers will be drawn at random: they are float64 at first.
        """
        size = 0
        for info in self.inputs:
            if not info.is_numeric:
                raise InputError(f"The input {info.name!r} takes {info.dtype}, not numbers.")
            bytes_each = max(8 * drawn, np.dtype(info.dtype).itemsize)
            size += times * math.prod(info.shape) * bytes_each
        if size > most:
            raise InputError(f"A call's inputs take {size:,} bytes; tfkd draws at most {most:,}.")
        _check_memory(size, f"A call's inputs ({', '.join(info.name for info in self.inputs)})")

    def to_json(self) -> dict:
        """Return a description of the file as plain values, with the keys of `tfkd inspect`."""
        return {
            "bytes": self.size,
            "gzip_bytes": self.gzip_size,
            "weight_bytes": self.weight_bytes,
            "four_bit_weights": self.four_bit_weights,
            "activation_bytes": self.activation_bytes,
            "sha256": self.digest,
            "inputs": [dataclasses.asdict(info) for info in self.inputs],
            "outputs": [dataclasses.asdict(info) for info in self.outputs],
            "signatures": list(self.signatures),
            "subgraphs": self._parts(),
            "ops": self.ops,
            "flex_ops": list(self.flex_ops),
            "custom_ops": list(self.custom_ops),
            "integer_only": self.integer_only,
            "float_tensors": list(self.float_tensors),
            "hybrid_ops": list(self.hybrid_ops),
            "keeps_state": self.keeps_state,
            "states": [list(pair) for pair in self.states],
            "wrong_scales": list(self.wrong_scales),
            "notes": list(self.notes),
        }

    def describe(self) -> str:
        """Describe the file in a few lines."""

        def line(info):
            text = f"{info.name} {info.dtype}[{', '.join(map(str, info.sizes))}]"
            if info.scale is None:
                return text
            return f"{text}, scale {info.scale:.6g}, zero point {info.zero_point}"

        def counted(ops):
            return ", ".join(f"{name} ×{count}" for name, count in ops.items()) or "none"

        def part(number, about):
            names = ", ".join(map(repr, about["signatures"]))
            yield f"subgraph {number}" + (f", signature {names}" if names else "")
            yield from (f"  input  {text}" for text in about["inputs"])
            yield from (f"  output {text}" for text in about["outputs"])
            yield f"  ops    {counted(about['ops'])}"

        parts = self._parts()
        several = len(parts) > 1 or len(self.signatures) > 1
        apart = [text for number, about in enumerate(parts) for text in part(number, about)]
        facts = ["integer only" if self.integer_only else "has float tensors"]
        if self.four_bit_weights:
            facts.append(f"{self.four_bit_weights:,} weights of 4 bits")
        if self.hybrid_ops:
            facts.append("integer or half weights with float arithmetic")
        if self.flex_ops:
            facts.append(f"needs the Flex delegate for {', '.join(self.flex_ops)}")
        if self.custom_ops:
            facts.append(f"needs custom operators: {', '.join(self.custom_ops)}")
        if self.keeps_state:
            facts.append("keeps state between calls: reset before each sequence")
        if self.states:
            pairs = ", ".join(f"{out} → {name}" for name, out in self.states)
            facts.append(f"takes one step a call; after it, copy {pairs}")
        if self.wrong_scales:
            facts.append(f"kernels compute something else at {', '.join(self.wrong_scales)}")
        return in_lines(
            [
                f"{self.size:,} bytes ({self.weight_bytes:,} of weights; "
                f"{self.activation_bytes:,} of activations at a time), {'; '.join(facts)}",
                *(f"input  {line(info)}" for info in self.inputs),
                *(f"output {line(info)}" for info in self.outputs),
                f"ops    {counted(self.ops)}",
                *(apart if several else ()),
                *(f"note   {note}" for note in self.notes),
            ]
        )

    def _parts(self) -> list[dict]:
        """Return signatures, inputs, outputs and operators of each subgraph."""
        model, names = self._parsed, schema.op_names(self._parsed)
        parts = []
        for number, graph in enumerate(model.subgraphs):
            entries = [one for one in model.signatureDefs if one.subgraphIndex == number]

            def shown(which, graph=graph, entries=entries):
                called = {
                    one.tensorIndex: (one.name or b"?").decode(errors="replace")
                    for entry in entries
                    for one in getattr(entry, which)
                }
                infos = [
                    schema.tensor_info(graph.tensors[i], called.get(int(i)))
                    for i in getattr(graph, which)
                ]
                return [f"{info.name} {info.dtype}{list(info.shape)}" for info in infos]

            counts = Counter(names[op.opcodeIndex] for op in graph.operators)
            parts.append(
                {
                    "signatures": [
                        (one.signatureKey or b"?").decode(errors="replace") for one in entries
                    ],
                    "inputs": shown("inputs"),
                    "outputs": shown("outputs"),
                    "ops": dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
                }
            )
        return parts

    @functools.cached_property
    def _parsed(self):
        return schema.parse(self.data)

    def _infos(self, which: str) -> tuple[TensorInfo, ...]:
        graph = self._parsed.subgraphs[0]
        names = {}
        for signature in self._parsed.signatureDefs:
            if signature.subgraphIndex == 0:
                names = {}
                for entry in getattr(signature, which):
                    name = (entry.name or b"?").decode(errors="replace")
                    names.setdefault(entry.tensorIndex, []).append(name)
        infos = []
        for index in getattr(graph, which):
            # One tensor may be several outputs, each with its own name.
            found = names.get(index, [None])
            name = found.pop(0) if len(found) > 1 else found[0]
            infos.append(schema.tensor_info(graph.tensors[index], name))
        return tuple(infos)
