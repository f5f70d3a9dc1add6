"""The work in each operator of a file: multiply-accumulates and bytes, counted.

The counts are read from the flatbuffer; nothing is executed. `profiler` measures the time.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

import numpy as np

from tfkd.errors import InputError
from tfkd.export.tflite import schema
from tfkd.export.tflite.model import TFLiteModel

# Dimensions of the kernel (input 1) that are summed for each number of a result.
_SUMMED = {
    "CONV_2D": slice(1, None),
    "DEPTHWISE_CONV_2D": slice(1, 3),
    "CONV_3D": slice(0, -1),
    "FULLY_CONNECTED": slice(-1, None),
}
_LSTM = (*range(1, 9), 16)
# Inputs with weights that are applied once to every input vector: to every position of an image
# or every step of a sequence. Element-wise weights (biases, peepholes) are not among them.
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
# These operators have the data as input 2, the others as input 0.
_TRANSPOSED = ("TRANSPOSE_CONV", "CONV_3D_TRANSPOSE")
# An older LSTM, whose four gates are one matrix.
_BASIC_LSTM = 1
# Options with an operator's graphs: a loop's condition and body, a branch's two, a call's.
_INSIDE = (
    "condSubgraphIndex",
    "bodySubgraphIndex",
    "thenSubgraphIndex",
    "elseSubgraphIndex",
    "subgraph",
)


@dataclasses.dataclass(frozen=True)
class Operator:
    """One operator of a file, for one call at the file's own batch.

    Attributes:
        index: Its place in the main graph, which is the order of execution.
        op: What it does, for example `"CONV_2D"`.
        name: Name of its (first) result; the converter writes the layers' names into it.
        macs: Multiply-accumulates. `None` if they don't follow from the file: for an operator that
            is not TFLite's, a loop without a number of turns in the file, or a free size.
        weight_bytes: Bytes of the constants that it reads. A constant that several operators read
            counts for each.
        activation_bytes: Bytes of the other tensors that it reads and writes.
        weight_type: Type of the largest constant, such as `"int4"`; `None` without constants.
    """

    index: int
    op: str
    name: str
    macs: int | None
    weight_bytes: int
    activation_bytes: int
    weight_type: str | None = None


def operators(file: TFLiteModel) -> list[Operator]:
    """Count the work and the bytes of each operator of a file.

    Kernels count (convolutions, dense and recurrent layers, products of matrices) and
    element-wise work is zero, as in `tfkd.model.cost`. The sum equals that of the Keras model,
    except if the converter leaves work out (an unrolled layer's first step multiplies a state of
    zeros), for a step file, which does one step, and for a batch other than one. A free batch
    counts as one example.

    A loop or branch is one operator that has the work and the constants of all operators it runs.

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
    check_file(file)
    return Counter(file._parsed).graph(0)


def macs(file: TFLiteModel) -> int | None:
    """Return a file's multiply-accumulates for one call, `None` if those of any are unknown."""
    return _sum(one.macs for one in operators(file))


def check_file(file) -> None:
    """Raise an `InputError` for a value that is no file."""
    if not isinstance(file, TFLiteModel):
        raise InputError(
            f"file must be a TFLiteModel, got {type(file).__name__}; read one with "
            "TFLiteModel.load(path)."
        )


def _sum(numbers: Iterable[int | None]) -> int | None:
    numbers = list(numbers)
    return None if None in numbers else sum(numbers)


class Counter:
    """Counts over the graphs of a file; each graph is counted once, however often it runs."""

    def __init__(self, model):
        self.model, self.codes = model, schema.op_names(model)
        self.known = schema.op_names_known()
        self.sums: dict[int, int | None] = {}
        self.sizes: dict[int, int] = {}
        self.doubtful: dict[int, set[int]] = {}

    def graph(self, number: int) -> list[Operator]:
        """Return the operators of a graph, counted."""
        count = len(self.model.subgraphs[number].operators)
        try:
            return [self._operator(number, index) for index in range(count)]
        except RecursionError:
            raise InputError(
                "The file's graphs call each other too deeply to be counted."
            ) from None

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
            weight_type=max(
                ((len(self._data(graph, i)), schema.dtype_of(graph.tensors[i])) for i in constant),
                default=(0, None),
            )[1],
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
            self.sums[number] = None  # for a graph that runs itself
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

        The converter writes 1 for a free size. That is right for a free batch, and for sizes
        that follow only from it.
        """
        if number in self.doubtful:
            return self.doubtful[number]
        graph = self.model.subgraphs[number]
        free = {i: free_sizes(tensor) for i, tensor in enumerate(graph.tensors)}
        found = {int(i) for i in graph.inputs if any(place > 0 for place in free[int(i)])}
        for op in graph.operators:
            read = {int(i) for i in op.inputs if i >= 0}
            results = {int(i) for i in op.outputs if free[int(i)]}
            # A batch merged with steps: [-1, 6, 32] as [-1, 32] is written as [1, 32].
            merged = self._kind(op) == "RESHAPE" and _numbers(graph, op.inputs) != _numbers(
                graph, op.outputs
            )
            if merged or read & found or not any(free[i] for i in read):
                found |= results
        self.doubtful[number] = found
        return found

    def _turns(self, graph, op) -> int | None:
        """Return the turns of a WHILE whose counter starts, grows and ends by constants."""
        condition, body = (self.model.subgraphs[number] for number in _inside(op))
        made_by = schema.producers(condition)
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
        """Return the amount by which a turn of a loop increases its counter."""
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
    """Return the number of elements of the first of some tensors."""
    return math.prod(_shape(graph, indices[0]) or ()) if len(indices) else 0


def free_sizes(tensor) -> list[int]:
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
