"""The work in each operator of a file: its multiply-accumulates, counted, and its time, measured.

    operators(file)   read from the flatbuffer: MACs and bytes; nothing is executed
    profile(file)     run in LiteRT's own profiler: microseconds (see `litert_profiler`)

XNNPACK makes operators of its own from the file's. What one of its rows stands for is said
where the file leaves no choice, and left open elsewhere.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np

from tfkd.errors import InputError, UnsupportedError, WorkerError, argument
from tfkd.escaping import printable
from tfkd.export.latency import litert_profiler
from tfkd.export.runtime import worker as sandbox
from tfkd.export.runtime.interpreter import check_engine
from tfkd.export.tflite import schema
from tfkd.export.tflite.model import TFLiteModel
from tfkd.tables import Printed

# Of its kernel (input 1), the dimensions that are summed up for each number of a result.
_SUMMED = {
    "CONV_2D": slice(1, None),
    "DEPTHWISE_CONV_2D": slice(1, 3),
    "CONV_3D": slice(0, -1),
    "FULLY_CONNECTED": slice(-1, None),
}
_LSTM = (*range(1, 9), 16)
# The inputs that hold weights, each of them applied once to every vector that comes in: to every
# position of an image, every step of a sequence. What is element-wise (biases, peepholes) is not
# among them.
_APPLIED = {
    "TRANSPOSE_CONV": (1,),
    "CONV_3D_TRANSPOSE": (1,),
    "RNN": (1, 2),
    "UNIDIRECTIONAL_SEQUENCE_RNN": (1, 2),
    "BIDIRECTIONAL_SEQUENCE_RNN": (1, 2, 5, 6, 10, 11),
    "LSTM": _LSTM,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _LSTM,
    "BIDIRECTIONAL_SEQUENCE_LSTM": (*_LSTM, *(i + 17 for i in _LSTM), *range(40, 48)),
    "SVDF": (1, 2),
}
# Those have what comes in as input 2, the others as input 0.
_TRANSPOSED = ("TRANSPOSE_CONV", "CONV_3D_TRANSPOSE")
# An older LSTM, whose four gates are one matrix.
_BASIC_LSTM = 1
# Where an operator says what graphs it runs: a loop's condition and body, a branch's two, a call's.
_INSIDE = (
    "condSubgraphIndex",
    "bodySubgraphIndex",
    "thenSubgraphIndex",
    "elseSubgraphIndex",
    "subgraph",
)
# How XNNPACK calls its kernels, and the operators of a file that one can stand for.
_STANDS_FOR = {
    "Convolution": ("CONV_2D", "DEPTHWISE_CONV_2D"),
    "Deconvolution": ("TRANSPOSE_CONV",),
    "Fully Connected": ("FULLY_CONNECTED", "CONV_2D"),
    "Batch Matrix Multiply": ("BATCH_MATMUL",),
}
# Below this a time is too coarse for a rate: XNNPACK's lacks up to a microsecond a call.
_SHORTEST_US = {"xnnpack": 10.0, "builtin": 2.0}
# Rows that a table shows, and the widths of its columns of text.
_SHOWN, _OP, _NAME = 25, 32, 18


@dataclasses.dataclass(frozen=True)
class Operator:
    """One operator of a file, for one call at the file's own batch.

    Attributes:
        index: Its place in the main graph, which is the order of execution.
        op: What it does, for example `"CONV_2D"`.
        name: Name of its (first) result; the converter writes the layers' names into it.
        macs: Multiply-accumulates. `None` where the file does not tell: an operator that is not
            TFLite's, a loop whose turns are not in the file, a size that is free.
        weight_bytes: Of the constants that it reads. What several operators read counts for each.
        activation_bytes: Of the other tensors that it reads and writes.
    """

    index: int
    op: str
    name: str
    macs: int | None
    weight_bytes: int
    activation_bytes: int


def operators(file: TFLiteModel) -> list[Operator]:
    """Count the work and the bytes of each operator of a file.

    Kernels count (convolutions, dense and recurrent layers, products of matrices) and
    element-wise work is zero, as in `tfkd.model.cost`. The sum is that of the Keras model but where
    the converter leaves work out (an unrolled layer's first step multiplies a state of zeros),
    a step file does one step, or the batch is not one. Of a free batch one example is counted.

    A loop or branch is one operator with the work and the constants of all that it runs.

    Args:
        file: The file; it is not run.

    Returns:
        The operators of the main graph, in their order.

    Example:
        >>> import keras
        >>> from tfkd.export import to_tflite
        >>> from tfkd.export.latency.operators import operators
        >>> file = to_tflite(keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)]))
        >>> [(one.op, one.macs, one.weight_bytes) for one in operators(file)]
        [('FULLY_CONNECTED', 32, 128)]
    """
    _check(file)
    return _Counter(file._parsed).graph(0)


def macs(file: TFLiteModel) -> int | None:
    """Return a file's multiply-accumulates for one call, `None` if an operator's are not known."""
    return _sum(one.macs for one in operators(file))


def _check(file):
    if not isinstance(file, TFLiteModel):
        raise InputError(
            f"file must be a TFLiteModel, got {type(file).__name__}; read one with "
            "TFLiteModel.load(path)."
        )


def _sum(numbers: Iterable[int | None]) -> int | None:
    numbers = list(numbers)
    return None if None in numbers else sum(numbers)


@dataclasses.dataclass(frozen=True)
class Row:
    """What one operator of the runtime takes.

    Attributes:
        op: The operator, or XNNPACK's name for one of its own.
        operator: Which of the file's it is; `None` for one of XNNPACK's that stands for no
            kernel, or for an unknown one.
        calls: How often a call of the file runs it: more than once in a loop.
        us: Microseconds, all calls together. XNNPACK counts whole ones and drops the rest.
        share: Of the whole call, or of all rows together where profiling makes those longer.
        macs: Multiply-accumulates, all calls together, or `None` if not known.
        macs_per_second: Those in this time, or `None` if not known or the time is too short.
    """

    op: str
    operator: Operator | None
    calls: int
    us: float
    share: float
    macs: int | None
    macs_per_second: float | None

    @property
    def name(self) -> str:
        """Name of the result in the file, or `""`."""
        return self.operator.name if self.operator else ""

    @property
    def bytes(self) -> int | None:
        """Weights and activations that the file's operator reads and writes, where it is known."""
        if self.operator is None:
            return None
        return self.operator.weight_bytes + self.operator.activation_bytes


@dataclasses.dataclass(frozen=True)
class Profile(Printed):
    """Where the time of a file goes.

    Attributes:
        engine: Kernels that ran it.
        threads: That they could use.
        runs: With the profiler; as many were made without.
        total_us: Microseconds of a whole call, without the profiler.
        release: Of ai-edge-litert.
        rows: In the order in which they are run.
    """

    engine: str
    threads: int
    runs: int
    total_us: float
    release: str
    rows: tuple[Row, ...]

    @property
    def rest_us(self) -> float:
        """What of the whole call is in no row; less than 0 where profiling makes rows longer."""
        return self.total_us - sum(row.us for row in self.rows)

    def to_json(self) -> dict:
        """Return the figures as plain values."""
        rows = []
        for row in self.rows:
            one = dataclasses.asdict(row)
            operator = one.pop("operator") or {}
            of_file = {key: operator.get(key) for key in ("weight_bytes", "activation_bytes")}
            rows.append({**one, "name": row.name, "file_op": operator.get("op"), **of_file})
        return {**dataclasses.asdict(self), "rest_us": self.rest_us, "rows": rows}

    def describe(self) -> str:
        """Return a table as text: a line for each of the longest rows, in the order of a run."""
        longest = sorted(self.rows, key=lambda row: -row.us)[:_SHOWN]
        shown = [row for row in self.rows if any(row is one for one in longest)]
        lines = [("operator", "result", "µs", "share", "MACs", "bytes", "GMAC/s")]
        for row in shown:
            rate = "" if row.macs_per_second is None else f"{row.macs_per_second / 1e9:.2f}"
            count = "?" if row.macs is None else f"{row.macs:,}"
            size = "" if row.bytes is None else f"{row.bytes:,}"
            op = row.op if row.calls == 1 else f"{row.calls}× {row.op}"
            name = printable(row.name.split(";")[0])
            name = name if len(name) <= _NAME else f"…{name[1 - _NAME :]}"
            lines.append((op[:_OP], name, f"{row.us:,.1f}", f"{row.share:.1%}", count, size, rate))
        if len(shown) < len(self.rows):
            us = sum(row.us for row in self.rows) - sum(row.us for row in shown)
            lines.append((f"{len(self.rows) - len(shown)} others", "", f"{us:,.1f}", *[""] * 4))
        lines.append(("rest", "", f"{self.rest_us:,.1f}", *[""] * 4))
        lines = [tuple(map(printable, line)) for line in lines]
        sizes = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = [
            f"{self.total_us:,.1f} µs a call; {self.engine}, {self.threads} "
            f"thread{'s' if self.threads > 1 else ''}, {self.runs} runs, "
            f"ai-edge-litert {self.release}"
        ]
        for line in lines:
            cells = [cell.ljust(size) for cell, size in zip(line[:2], sizes, strict=False)]
            cells += [cell.rjust(size) for cell, size in zip(line[2:], sizes[2:], strict=True)]
            text.append("  ".join(cells).rstrip())
        if self.engine == "xnnpack" and self.rest_us > self.total_us / 2:
            text.append(
                "XNNPACK counts whole microseconds and drops the rest: most rows are too short.\n"
                f"{argument('engine', 'builtin')} has finer times, of other kernels."
            )
        return "\n".join(text)


def profile(
    file: TFLiteModel,
    arrays: Sequence[np.ndarray] | None = None,
    *,
    engine: str = "xnnpack",
    threads: int = 1,
    runs: int | None = None,
    timeout: float = 300.0,
) -> Profile:
    """Measure the time of each operator of a file on this machine, in a process of its own.

    To see where the time goes; `benchmark` tells more exactly how long a call takes. Whole calls
    go through LiteRT's "compiled model" here, which adds about 3 µs to the interpreter's. Of
    either kind of run the fastest four in five count. Of the rows' times:

    - `"builtin"` (TensorFlow Lite's kernels without XNNPACK): whole microseconds too, but right on
      average over many runs. Each call of an operator is 0.1 to 0.2 µs too long, by the profiler's
      own work, and the first one up to 3 µs, with caches that it has emptied. All rows together
      were within 4 % for files of 70 µs and more, 2 to 4 µs too long for a convolutional one of
      7 to 10 µs, and 50 to 90 % too long for 70 operators that take 10 to 20 µs.
    - `"xnnpack"`: each call of an operator is cut to whole microseconds, so what takes less than
      one shows 0, and others lack half of one on average. All rows together lacked less than
      1 % of 1.6 ms, an eighth of 22 µs, a fifth of 13 µs, and everything of 2 µs.

    A file that keeps state is not reset between runs, which LiteRT has no way for here; times
    stayed the same from the first run on.

    Args:
        file: The file.
        arrays: Real inputs, as for `TFLiteModel.predict`; the first example is fed. Defaults to
            random numbers.
        engine: `"xnnpack"` or `"builtin"`. The plain kernels, `"reference"`, are not to be had
            with a profiler.
        threads: Threads of the kernels.
        runs: How many with the profiler, and as many without. Defaults to about a second of them.
        timeout: Seconds after which the process is ended.

    Returns:
        A `Profile`.

    Raises:
        InputError: for an unknown engine or inputs of the wrong shape.
        MissingDependencyError: if this release of ai-edge-litert gives no time per operator, or
            is not one of `litert_profiler.RELEASES`.
        UnsupportedError: for a file that LiteRT's compiled model can't take, or with an input
            whose size is free but for the batch.
        ConversionError: if it refuses the file.
        WorkerError: if it dies on the file, or takes longer than `timeout`.
    """
    _check(file)
    if engine == "reference":
        raise InputError(
            f"LiteRT's profiler has no reference kernels; take {argument('engine', 'builtin')}, "
            f"TensorFlow Lite's own without XNNPACK, or {argument('engine', 'xnnpack')}."
        )
    check_engine(engine, litert_profiler.ENGINES)
    for name, value in (("threads", threads), ("runs", 1 if runs is None else runs)):
        if not isinstance(value, int) or value < 1:
            raise InputError(f"{name} must be an integer of at least 1, got {value!r}.")
    file._check_call()
    model = file._parsed
    main = model.subgraphs[0]
    free = [i for i in main.inputs if any(place > 0 for place in _free(main.tensors[i]))]
    if free:
        raise UnsupportedError(
            f"The input {schema.name_of(main.tensors[free[0]])!r} has a free size, so the "
            "work of a call is not fixed; convert the model with fixed sizes."
        )
    arguments = (
        file.data,
        file.inputs,
        [int(i) for i in main.inputs],
        _signature(model),
        None if arrays is None else file.first_call(arrays),
        engine,
        threads,
        runs,
    )
    with sandbox.Worker() as worker:
        try:
            trace = worker.call(litert_profiler.run, *arguments, timeout=timeout)
        except WorkerError as error:
            raise error.because("Profiling this file failed") from None
    whole = max(trace.total_us, sum(step.us for step in trace.steps))
    return Profile(
        engine=engine,
        threads=threads,
        runs=trace.runs,
        total_us=trace.total_us,
        release=trace.release,
        rows=tuple(
            _row(step, operator, macs, whole, engine)
            for step, operator, macs in _assigned(_Counter(model), trace.steps)
        ),
    )


def _signature(model) -> int:
    """Return the index of the signature that runs the main graph."""
    graphs = [entry.subgraphIndex for entry in model.signatureDefs]
    if graphs and 0 not in graphs:
        raise UnsupportedError(
            "No signature of this file runs its main graph, so LiteRT's profiler can't run it."
        )
    return graphs.index(0) if graphs else 0


def _row(step, operator, macs, whole, engine) -> Row:
    shortest = _SHORTEST_US[engine] * step.calls
    rate = None if macs is None or step.us < shortest else macs / step.us * 1e6
    share = step.us / whole if whole else 0.0
    return Row(step.tag, operator, step.calls, step.us, share, macs, rate)


def _assigned(counter, steps) -> list[tuple]:
    """Return each step with the operator that it is and its MACs, as far as they are certain."""
    found = {}
    for number in {step.graph for step in steps}:
        if not 0 <= number < len(counter.model.subgraphs):
            raise litert_profiler.nonsense(f"operators in graph {number}")
        ops = counter.graph(number)
        here = {i: step for i, step in enumerate(steps) if step.graph == number}
        for step in here.values():
            if step.calls < 1 or step.us < 0:
                raise litert_profiler.nonsense(f"{step.calls} calls of {step.us:g} µs")
            if step.index is not None and not (
                0 <= step.index < len(ops) and ops[step.index].op == step.tag
            ):
                raise litert_profiler.nonsense(f"a {step.tag} as operator {step.index}")
        kernels, own = _own(here, ops)
        for i, step in here.items():
            operator = own.get(i) if step.index is None else ops[step.index]
            # What XNNPACK makes besides kernels (copies, sums) counts as zero, as in a file; if
            # kernels are missing, this may be one.
            macs = operator.macs if operator else None if kernels is None or i in kernels else 0
            found[i] = (step, operator, None if macs is None else macs * step.calls)
    return [found[i] for i in range(len(steps))]


def _own(steps: dict, ops) -> tuple[dict | None, dict]:
    """Return XNNPACK's kernels, and which of the file's operators they stand for.

    The kernels are `None` if they are not as many as the file's that the runtime does not run
    itself. Which is which is certain if they come in the order of the file, each of a kind that
    can do the operator in its place, with those that the runtime runs itself between them. Where
    XNNPACK got several parts of a graph, these can run in another order: then nothing is said.
    """
    alone = {step.index for step in steps.values()}
    control = litert_profiler.CONTROL
    left = [op for op in ops if op.macs != 0 and op.index not in alone and op.op not in control]
    kernels = {i: kind for i, step in steps.items() if (kind := _kernel(step)) is not None}
    if len(left) != len(kernels):
        return None, {}
    own = dict(zip(kernels, left, strict=True))
    order = [own[i].index if i in own else step.index for i, step in steps.items()]
    order = [index for index in order if index is not None]
    certain = order == sorted(order) and all(own[i].op in kernels[i] for i in own)
    return kernels, own if certain else {}


def _kernel(step) -> tuple[str, ...] | None:
    """Return what a step of XNNPACK's can stand for, `None` for one that is no kernel."""
    if step.index is not None:
        return None
    return next((ops for tag, ops in _STANDS_FOR.items() if step.tag.startswith(tag)), None)


class _Counter:
    """Counts over the graphs of a file, each once however often it is run."""

    def __init__(self, model):
        self.model, self.codes = model, schema.op_names(model)
        self.known = schema.op_names_known()
        self.sums: dict[int, int | None] = {}
        self.sizes: dict[int, int] = {}
        self.doubtful: dict[int, set[int]] = {}

    def graph(self, number: int) -> list[Operator]:
        count = len(self.model.subgraphs[number].operators)
        try:
            return [self._operator(number, index) for index in range(count)]
        except RecursionError:
            raise InputError("The file's graphs run each other too deeply to be counted.") from None

    def _operator(self, number: int, index: int) -> Operator:
        graph = self.model.subgraphs[number]
        op = graph.operators[index]
        read = {int(i) for i in op.inputs if i >= 0}
        constant = {i for i in read if schema.is_constant(graph.tensors[i], self.model)}
        weights = sum(len(self._data(graph, i)) for i in constant)
        touched = (read - constant) | {int(i) for i in op.outputs}
        return Operator(
            index=index,
            op=self._kind(op),
            name=schema.name_of(graph.tensors[op.outputs[0]]) if len(op.outputs) else "",
            macs=self._macs(number, op),
            weight_bytes=weights + sum(map(self._graph_bytes, _inside(op))),
            activation_bytes=sum(_bytes(graph.tensors[i]) for i in touched),
        )

    def _kind(self, op) -> str:
        return self.codes[op.opcodeIndex]

    def _macs(self, number: int, op) -> int | None:
        graph, kind = self.model.subgraphs[number], self._kind(op)
        if kind in ("WHILE", "IF", "CALL"):
            parts = [self._graph_macs(inside) for inside in _inside(op)]
            if not parts or None in parts:
                return None
            if kind == "WHILE":
                turns = self._turns(graph, op) if len(parts) == 2 else None
                return None if turns is None else turns * sum(parts)
            return parts[0] if len(set(parts)) == 1 else None
        if kind not in self.known or kind.startswith("STABLEHLO_"):
            return None
        if kind not in _SUMMED and kind not in _APPLIED and kind != "BATCH_MATMUL":
            return 0
        if {int(i) for i in (*op.inputs, *op.outputs)} & self._doubtful(number):
            return None
        try:
            return _kernel_macs(kind, op, [_shape(graph, i) for i in op.inputs], _result(graph, op))
        except (IndexError, TypeError):  # fewer inputs or dimensions than it must have
            return None

    def _graph_macs(self, number: int) -> int | None:
        if number not in self.sums:
            self.sums[number] = None  # what a graph that runs itself would find
            if 0 <= number < len(self.model.subgraphs):
                ops = self.model.subgraphs[number].operators
                self.sums[number] = _sum(self._macs(number, op) for op in ops)
        return self.sums[number]

    def _graph_bytes(self, number: int) -> int:
        if number not in self.sizes:
            self.sizes[number] = 0
            if 0 <= number < len(self.model.subgraphs):
                self.sizes[number] = sum(op.weight_bytes for op in self.graph(number))
        return self.sizes[number]

    def _data(self, graph, index: int):
        return self.model.buffers[graph.tensors[index].buffer].data

    def _doubtful(self, number: int) -> set[int]:
        """Find the tensors whose size at run time may differ from the one in the file.

        The converter writes 1 for a size that is free. That is right for a free batch, and for
        what follows from it alone.
        """
        if number in self.doubtful:
            return self.doubtful[number]
        graph = self.model.subgraphs[number]
        free = {i: _free(tensor) for i, tensor in enumerate(graph.tensors)}
        found = {int(i) for i in graph.inputs if any(place > 0 for place in free[int(i)])}
        for op in graph.operators:
            read = {int(i) for i in op.inputs if i >= 0}
            results = {int(i) for i in op.outputs if free[int(i)]}
            # A batch that is merged with steps: [-1, 6, 32] as [-1, 32] is written [1, 32].
            merged = self._kind(op) == "RESHAPE" and _numbers(graph, op.inputs) != _numbers(
                graph, op.outputs
            )
            if merged or read & found or not any(free[i] for i in read):
                found |= results
        self.doubtful[number] = found
        return found

    def _turns(self, graph, op) -> int | None:
        """Tell how often a WHILE runs whose counters start, grow and end by constants."""
        condition, body = (self.model.subgraphs[number] for number in _inside(op))
        made_by = {int(i): one for one in condition.operators for i in one.outputs}
        counters = [int(i) for i in condition.inputs]
        turns, waiting = [], [int(i) for i in condition.outputs]
        while waiting:
            test = made_by.pop(waiting.pop(), None)
            if test is None or len(test.inputs) != 2:
                return None
            if self._kind(test) == "LOGICAL_AND":
                waiting += map(int, test.inputs)
                continue
            if self._kind(test) != "LESS" or int(test.inputs[0]) not in counters:
                return None
            place = counters.index(int(test.inputs[0]))
            start = self._number(graph, op.inputs, place)
            end, step = self._number(condition, test.inputs, 1), self._growth(body, place)
            if start is None or end is None or step is None:
                return None
            turns.append(max(0, math.ceil((end - start) / step)))
        return min(turns, default=None)

    def _growth(self, body, place: int) -> int | None:
        """Return by how much a turn of a loop raises its counter."""
        if not place < min(len(body.inputs), len(body.outputs)):
            return None
        for op in body.operators:
            if self._kind(op) == "ADD" and list(op.outputs) == [body.outputs[place]]:
                step = self._number(body, op.inputs, 1)
                same = list(op.inputs[:1]) == [body.inputs[place]]
                return step if same and step is not None and step > 0 else None
        return None

    def _number(self, graph, indices, place: int) -> int | None:
        if not place < len(indices) or indices[place] < 0:
            return None
        tensor = graph.tensors[indices[place]]
        kind = schema.dtype_of(tensor)
        if not schema.is_constant(tensor, self.model) or kind not in ("int32", "int64"):
            return None
        data = bytes(self._data(graph, indices[place]))
        size = np.dtype(kind).itemsize
        return int.from_bytes(data, "little", signed=True) if len(data) == size else None


def _inside(op) -> list[int]:
    """Return the graphs that an operator runs."""
    options = _options(op)
    return [int(options[name]) for name in _INSIDE if name in options]


def _options(op) -> dict:
    return vars(op.builtinOptions) if op.builtinOptions is not None else {}


def _shape(graph, index) -> tuple[int, ...] | None:
    if index < 0:
        return None
    shape = graph.tensors[index].shape
    return tuple(int(size) for size in (shape if shape is not None else ()))


def _result(graph, op) -> tuple[int, ...]:
    return _shape(graph, op.outputs[0]) if len(op.outputs) else ()


def _numbers(graph, indices) -> int:
    """Return how many numbers the first of some tensors holds."""
    return math.prod(_shape(graph, indices[0]) or ()) if len(indices) else 0


def _free(tensor) -> list[int]:
    """Return the places of a tensor's free sizes."""
    signature = tensor.shapeSignature
    return [] if signature is None else [i for i, size in enumerate(signature) if size < 0]


def _kernel_macs(kind: str, op, shapes, result) -> int | None:
    if kind == "BATCH_MATMUL":
        return math.prod(result) * shapes[0][-2 if _options(op).get("adjX") else -1]
    if kind in _SUMMED:
        return math.prod(result) * math.prod(shapes[1][_SUMMED[kind]])
    given = shapes[2 if kind in _TRANSPOSED else 0]
    places = _APPLIED[kind]
    if kind == "LSTM" and _options(op).get("kernelType") == _BASIC_LSTM:
        places = (2,)
    weights = [shapes[i] for i in places if i < len(shapes) and shapes[i] is not None]
    if not given or not weights:
        return None
    return math.prod(given[:-1]) * sum(map(math.prod, weights))


def _bytes(tensor) -> int:
    return schema.size_of(tensor) or 0
