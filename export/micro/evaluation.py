"""A file's arena and answers on TensorFlow Lite for Microcontrollers, found by running it there.

The file runs on the host build (PyPI `tflite-micro`, extra `micro`), always in a child process:
with too small an arena some files end the process that runs them.

    arena    head: activations, scratch   ->   <-   tail: records of the graph, kernels' own data
             |------------------------- free while it plans -------------------------|
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tfkd.errors import ConversionError, InputError, WorkerError
from tfkd.escaping import in_lines
from tfkd.export.runtime import native_stderr
from tfkd.export.runtime import worker as sandbox
from tfkd.export.runtime.interpreter import check_answers, open_runner
from tfkd.export.tflite import schema
from tfkd.export.tflite.golden import random_call
from tfkd.export.tflite.model import TFLiteModel
from tfkd.model import metrics
from tfkd.model import task as tasks
from tfkd.tables import Printed

if TYPE_CHECKING:
    from tfkd._typing import Arrays

# More than any microcontroller has.
# Arenas are aligned to 16 bytes.
_STEP = 16
_TRIAL_SECONDS = 60.0
# Most arenas to try; a file with stable answers takes about 30.
_MOST_TRIALS = 400
# How far above the smallest arena to try every power of two, too.
_CHECKED_BYTES = 1024
# Reserve for differences of a 32-bit target, another version or another alignment.
_LEAST_MARGIN = 1024
# Channels that CMSIS-NN's depthwise kernel for Helium processes at once (CH_IN_BLOCK_MVE).
_HELIUM_CHANNELS = 124
# Channels above which it runs a transposed convolution as a convolution of the spread-out input
# (REVERSE_TCOL_EFFICIENT_THRESHOLD).
_REVERSED_ABOVE = 16


def is_installed() -> bool:
    """Return whether the host build of TensorFlow Lite for Microcontrollers is installed."""
    return importlib.util.find_spec("tflite_micro") is not None


@dataclasses.dataclass(frozen=True, eq=False)
class MicroEvaluation(Printed):
    """The result of a file's run on TensorFlow Lite for Microcontrollers; see `evaluate_on_tflm`.

    Attributes:
        arena_bytes: The least arena in which the file runs, a multiple of 16. It is found by
            bisection on the host build; the file ran in all larger arenas that were tried, too.
        head_bytes: The part of an arena that is not persistent (activations, scratch buffers),
            as the runtime's recording allocator reports it; `None` if it does not.
        tail_bytes: The persistent part: records of the graph, data that kernels keep, variables.
            Head and tail together can be LESS than `arena_bytes`, since the runtime plans the
            head with records that it puts into the same arena and then drops.
        margin_bytes: Bytes to add on a target with other kernels, see `margin_for`. Start there
            with an arena of `recommended_bytes`.
        basis: How `arena_bytes` was found.
        samples: Number of examples on which runtime and reference kernels were compared.
        max_lsb: Their largest difference, in steps of an output's scale, counted on the
            integers; `None` without data or without integer outputs.
        max_abs_diff: The same in the output's unit; `None` without data.
        argmax_agreement: Share of examples (positions of a sequence) on which both pick the same
            class, for several outputs the worst; `None` without data or for values.
        metrics: Scores of the runtime's answers, as from `metrics.score`; for several outputs as
            `"name.accuracy"`. Empty without labels.
        golden_inputs: The tensors of one call in the order and dtypes of the file: the first
            example of the data (for a step file its first step, with a state of zero), or seeded
            random numbers without data.
        golden_outputs: The runtime's answer to `golden_inputs`, from a reset state.
    """

    arena_bytes: int
    head_bytes: int | None
    tail_bytes: int | None
    margin_bytes: int
    basis: str
    samples: int
    max_lsb: int | None
    max_abs_diff: float | None
    argmax_agreement: float | None
    metrics: dict[str, float]
    golden_inputs: tuple[np.ndarray, ...] = dataclasses.field(repr=False)
    golden_outputs: tuple[np.ndarray, ...] = dataclasses.field(repr=False)

    @property
    def recommended_bytes(self) -> int:
        """The arena to start with on a target: `arena_bytes` and the margin."""
        return self.arena_bytes + self.margin_bytes

    def describe(self) -> str:
        """Describe the figures in a few lines."""
        split = ""
        if self.head_bytes is not None and self.tail_bytes is not None:
            split = f"; {self.head_bytes:,} head, {self.tail_bytes:,} tail"
        lines = [
            f"arena: {self.arena_bytes:,} bytes ({self.basis}{split}), "
            f"{self.recommended_bytes:,} recommended"
        ]
        if self.samples:
            parts = []
            if self.max_abs_diff is not None:
                parts.append(f"largest difference {self.max_abs_diff:.3g}")
            if self.max_lsb is not None:
                parts.append(f"{self.max_lsb} integer step{'' if self.max_lsb == 1 else 's'}")
            if self.argmax_agreement is not None:
                parts.append(f"same class {self.argmax_agreement:.2%}")
            lines.append(
                f"against the reference kernels, {self.samples} examples: "
                f"{', '.join(parts) or 'nothing was compared'}"
            )
        lines += [f"{name}: {value:.4g}" for name, value in self.metrics.items()]
        return in_lines(lines)

    def to_json(self) -> dict[str, Any]:
        """Return everything but the golden tensors as plain values."""
        names = [field.name for field in dataclasses.fields(self)]
        values = {name: getattr(self, name) for name in names if not name.startswith("golden_")}
        return {**values, "recommended_bytes": self.recommended_bytes}


def evaluate_on_tflm(
    file: TFLiteModel, x: Arrays | None = None, y: Arrays | None = None, *, samples: int = 1000
) -> MicroEvaluation:
    """Run a file on TensorFlow Lite for Microcontrollers; return its arena and its answers.

    The kernels are the runtime's own reference kernels, compiled for this machine. Firmware
    with optimized kernels (CMSIS-NN, ESP-NN) may round differently: check it with the golden
    tensors.

    Args:
        file: The file.
        x: Data to compare on, as for `TFLiteModel.predict`. `None`: nothing is compared.
        y: Labels (examples, ...), see `metrics.score`; for several outputs a list in the file's
            order or a dict by name, `None` for an output that is not scored. A single output of a
            sigmoid is treated as a probability.
        samples: Maximum number of examples to use, evenly spread over `x`.

    Returns:
        A `MicroEvaluation`.

    Raises:
        MissingDependencyError: if tflite-micro is not installed.
        ConversionError: if the runtime refuses the file, in its own words.
        WorkerError: if it dies on the file in any arena, or a call takes a minute.
        InputError: if `x` or `y` does not fit the file.
    """
    if samples < 1:
        raise InputError(f"samples must be at least 1, got {samples}.")
    if x is None and y is not None:
        raise InputError("Labels were given without their data: give x, too.")
    call = random_call(file) if x is None else file.first_call(x)
    trial = _search(file, call)
    return MicroEvaluation(
        arena_bytes=trial.arena,
        head_bytes=trial.head,
        tail_bytes=trial.tail,
        margin_bytes=margin_for(file),
        basis="bisected on the 64-bit host build of tflite-micro "
        + importlib.metadata.version("tflite-micro"),
        golden_inputs=tuple(call),
        golden_outputs=tuple(trial.answers),
        **compared_with_reference(file, x, y, samples),
    )


def least_arena(file: TFLiteModel) -> int:
    """Find the smallest arena in which a file runs, by bisection in a child process.

    Too small an arena is refused, ends the process or spoils the answers; all count as too
    small. The host is a 64-bit machine: pointers are twice as long there as on most
    microcontrollers.

    Args:
        file: The file.

    Returns:
        Bytes, a multiple of 16.

    Raises:
        MissingDependencyError: if tflite-micro is not installed.
        ConversionError: if the runtime refuses the file in any arena, in its own words.
        WorkerError: if it dies on the file in any arena, or a call takes a minute.
    """
    return _search(file, random_call(file)).arena


def margin_for(file: TFLiteModel) -> int:
    """Return what to add to the least arena of the host build for a target.

    A 32-bit target itself needs less than the host, since records with pointers are shorter there.
    But its optimized kernels need scratch buffers that the reference kernels do not. The margin is
    the sum of 1 KB, the largest buffer that CMSIS-NN needs for any one operation (for its
    Cortex-M4/M7 and its Helium kernels, whichever is larger), and the sums of weights that its
    Helium kernels may keep for every dense layer. Whether an operation needs a buffer depends on
    its type, shapes, strides and dilations; operations on floats need none. If the buffer fits into
    free room of the host's arena, the margin is larger than needed. Other kernels can take more:
    ESP-NN on an ESP32-S3 copies input and filter of a convolution. On the target,
    `interpreter.arena_used_bytes()` returns the true size.

    Source: CMSIS-NN 7's `arm_*_get_buffer_size*` functions
    (https://github.com/ARM-software/CMSIS-NN, Source), as the kernels in
    `tensorflow/lite/micro/kernels/cmsis_nn` of https://github.com/tensorflow/tflite-micro
    call them.

    Args:
        file: The file.

    Returns:
        Bytes, a multiple of 16.
    """
    model = file._parsed
    names = schema.op_names(model)
    largest, kept = 0, 0
    for graph in model.subgraphs:
        for op in graph.operators:
            find = _CMSIS_NN.get(names[op.opcodeIndex])
            if find is not None and op.builtinOptions is not None:
                scratch, sums = find(_Operation(graph, op))
                largest, kept = max(largest, scratch), kept + sums
    return _round_up(_LEAST_MARGIN + largest + kept)


class _Operation:
    """Types and shapes of an operation, as CMSIS-NN's functions need them."""

    def __init__(self, graph, op):
        self.options = op.builtinOptions
        tensors = [graph.tensors[i] if i >= 0 else None for i in (*op.inputs, *op.outputs[:1])]
        self.types = [None if one is None else schema.dtype_of(one) for one in tensors]
        self.shapes = [
            () if one is None or one.shape is None else tuple(map(int, one.shape))
            for one in tensors
        ]
        self.input, self.output = self.shapes[0], self.shapes[-1]
        self.filter = self.shapes[1] if len(self.shapes) > 2 else ()

    @property
    def strides(self) -> tuple[int, int]:
        return self.options.strideH, self.options.strideW

    @property
    def is_dilated(self) -> bool:
        return (self.options.dilationHFactor, self.options.dilationWFactor) != (1, 1)


def _conv_scratch(op: _Operation) -> tuple[int, int]:
    if op.types[0] not in ("int8", "int16"):
        return 0, 0
    column = math.prod(op.filter[1:])
    if op.types[0] == "int16":  # four columns of the image, whole vectors of 16 bytes
        return 4 * _round_up(2 * column), 0
    # A 1×1 kernel is never padded. With groups, it is a convolution like others.
    if op.filter[1:3] == (1, 1) and not op.is_dilated and op.input[3] == op.filter[3]:
        return 4 * op.input[3] * (op.strides == (1, 1)), 0
    return 4 * _round_up(column), 0


def _depthwise_scratch(op: _Operation) -> tuple[int, int]:
    if op.types[0] != "int8":
        return 0, 0
    (batch, *_, given), (_, height, width, made) = op.input, op.filter
    field, size = height * width, 0
    if given == made and batch == 1 and not op.is_dilated:
        size = field * max(2 * given, 4 * _HELIUM_CHANNELS)
    if given == 1 and made > 1 and op.types[1] == "int8":
        # Helium reverses the filter and convolves.
        single = field == 1 and not op.is_dilated
        columns = 4 * (op.strides == (1, 1)) if single else 4 * _round_up(field)
        size = max(size, columns + field * made)
    return size, 0


def _transposed_scratch(op: _Operation) -> tuple[int, int]:
    if op.types[2] != "int8":
        return 0, 0
    (_, _, width, channels), (made, *field, _) = op.shapes[2], op.filter
    if max(op.strides) <= 2 and channels > _REVERSED_ABOVE:
        return 4 * _round_up(math.prod(field) * channels) + math.prod(op.filter), 0
    high, wide = (max(size, op.options.strideH) for size in field)
    return 4 * made * high * ((width - 1) * op.options.strideW + wide), 0


def _dense_scratch(op: _Operation) -> tuple[int, int]:
    if op.types[:2] != ["int8", "int8"]:
        return 0, 0
    made, read = op.filter
    if len(op.output) > 2 and read % 4 == 0:  # a convolution of 1×1, with a scale per channel
        return 4 * read + 8 * made, 0
    return 0, 4 * made


def _pool_scratch(op: _Operation) -> tuple[int, int]:
    return 4 * op.input[3] * (op.types[0] in ("int8", "int16")), 0


def _matmul_scratch(op: _Operation) -> tuple[int, int]:
    return 4 * op.output[-1] * (op.types[0] == "int8"), 0


#: Operator → bytes that CMSIS-NN needs during a call, and bytes that it may keep.
_CMSIS_NN = {
    "CONV_2D": _conv_scratch,
    "DEPTHWISE_CONV_2D": _depthwise_scratch,
    "TRANSPOSE_CONV": _transposed_scratch,
    "FULLY_CONNECTED": _dense_scratch,
    "AVERAGE_POOL_2D": _pool_scratch,
    "BATCH_MATMUL": _matmul_scratch,
}


def _round_up(size: int) -> int:
    return -(-size // _STEP) * _STEP


@dataclasses.dataclass(frozen=True)
class _Trial:
    arena: int
    head: int | None
    tail: int | None
    answers: list[np.ndarray]


def _search(file: TFLiteModel, call) -> _Trial:
    """Find the smallest arena in which a call has the same answer as in a large arena."""
    file._check_dense()
    outputs = len(file.outputs)
    enough = 16 * _round_up(file.activation_bytes + file.size) + (1 << 20)
    with sandbox.Worker() as worker:

        def run(size):
            answers, *sizes = worker.call(
                _answer, file.data, size, call, outputs, timeout=_TRIAL_SECONDS
            )
            return check_answers(answers, file.outputs), *sizes

        spoiled = False  # whether this process survived a run in too small an arena
        trials = 0

        def fits(size):
            nonlocal spoiled, trials
            trials += 1
            if trials > _MOST_TRIALS:
                raise ConversionError(
                    "TensorFlow Lite for Microcontrollers gives a different answer in each call, "
                    f"in {_MOST_TRIALS} arenas: the file makes it read uninitialized memory. "
                    "Convert the model again.",
                    code="tflm-unstable",
                )
            while True:
                try:
                    answers = run(size)[0]
                except ConversionError:
                    spoiled = True
                    return False
                except WorkerError as error:
                    if error.timed_out:
                        raise
                    if not spoiled:
                        return False
                    spoiled = False  # an earlier trial may have killed it: retry in a new one
                    continue
                same = [a.tobytes() == b.tobytes() for a, b in zip(answers, want, strict=True)]
                spoiled = spoiled or not all(same)
                return all(same)

        try:
            want, head, tail = run(enough)
        except ConversionError as error:
            if not file.hybrid_ops:
                raise
            raise ConversionError(
                f"{error}. The file multiplies floating-point numbers with narrower weights, as "
                "float16 and dynamic files do; the kernels of microcontrollers do not: convert "
                "to 'int8', 'int16x8' or 'float32'.",
                code="tflm-mixed",
            ) from None
        except WorkerError as error:
            raise error.because(
                f"TensorFlow Lite for Microcontrollers in an arena of {enough:,} bytes"
            ) from None
        start = file.activation_bytes if head is None or tail is None else head + tail
        return _Trial(least_size(fits, _round_up(start), enough), head, tail, want)


def least_size(fits: Callable[[int], bool], start: int, enough: int) -> int:
    """Return the least size that fits and above which no other tried size fails.

    Args:
        fits: Tells whether a size, a multiple of 16, is enough.
        start: The size to try first; the runtime's report is right for many files.
        enough: A size that is known to fit.
    """

    def bracket(at):
        """Return a size that fails and a size that fits, found with growing strides."""
        stride = _STEP
        if fits(at):
            while at > stride and fits(at - stride):
                at, stride = at - stride, 2 * stride
            return max(0, at - stride), at
        while at + stride < enough and not fits(at + stride):
            at, stride = at + stride, 2 * stride
        return at, min(at + stride, enough)

    small, large = bracket(start)
    while True:
        while large - small > _STEP:
            middle = (small + large) // 2 // _STEP * _STEP
            small, large = (small, middle) if fits(middle) else (middle, large)
        strides = [_STEP << i for i in range((_CHECKED_BYTES // _STEP).bit_length())]
        holes = [large + s for s in strides if large + s < enough and not fits(large + s)]
        if not holes:
            return large
        small, large = bracket(max(holes))


def _answer(
    data: bytes, size: int, call, outputs: int
) -> tuple[list[np.ndarray], int | None, int | None]:
    """Run one call in an arena, in the worker; return answers, and the bytes of head and tail."""
    runner = open_runner(data, "tflm", 1, outputs, arena_bytes=size)
    runner.reset()
    answers = runner(call)
    return answers, *_head_and_tail(runner.interpreter)


def _head_and_tail(interpreter) -> tuple[int | None, int | None]:
    """Return the report of an interpreter's recording allocator, which it can only print."""
    with native_stderr.captured() as said:
        interpreter.print_allocations()
        found = dict(re.findall(r"allocation (head|tail) (\d+) bytes", "\n".join(said())))
    return tuple(int(found[part]) if part in found else None for part in ("head", "tail"))


def compared_with_reference(file: TFLiteModel, x: Any, y: Any, samples: int) -> dict[str, Any]:
    """Return the fields of the result that compare the runtime with the reference kernels."""
    if x is None:
        nothing = dict.fromkeys(("max_lsb", "max_abs_diff", "argmax_agreement"))
        return {"samples": 0, "metrics": {}, **nothing}
    arrays = file.input_arrays(x)
    count = next(len(array) for array in arrays if array is not None)
    rows = np.linspace(0, count - 1, min(samples, count)).round().astype(int)
    labels = _labels(file, y, count)
    arrays = [None if array is None else array[rows] for array in arrays]
    file._check_outputs(len(rows))
    results = zip(*(file._run(arrays, engine, 1) for engine in ("tflm", "reference")), strict=True)
    x, hidden = _only(file, x), {output for _, output in file.states}
    figures, scores = [], {}
    for i, (info, (got, want)) in enumerate(zip(file.outputs, results, strict=True)):
        if info.name in hidden:
            continue
        truth, given = (None if values is None else values[rows] for values in (labels[i], x))
        sigmoid = file._activation(i) == "sigmoid"
        steps = None if info.scale is None else int(np.abs(got.astype(np.int64) - want).max())
        got, want = info.dequantize(got), info.dequantize(want)
        difference = float(np.abs(got.astype(np.float64) - want).max())
        figures.append((steps, difference, class_agreement(got, want, truth, given, sigmoid)))
        if truth is not None:
            scored = metrics.score(got, truth, given, activation="sigmoid" if sigmoid else None)
            alone = len(file.outputs) - len(hidden) == 1
            scores |= scored if alone else {f"{info.name}.{k}": v for k, v in scored.items()}
    lsb, differences, agreements = (
        [value for value in column if value is not None] for column in zip(*figures, strict=True)
    )
    return {
        "samples": len(rows),
        "max_lsb": max(lsb, default=None),
        "max_abs_diff": max(differences),
        "argmax_agreement": min(agreements, default=None),
        "metrics": scores,
    }


def class_agreement(
    got: np.ndarray, want: np.ndarray, y: np.ndarray | None, x: np.ndarray | None, sigmoid: bool
) -> float | None:
    """Return the share of the examples for which two answers are the same class.

    Args:
        got: Answers (examples, ...).
        want: The answers to compare with, of the same shape.
        y: Labels, from which the task is read, if there are any.
        x: Data, from which the task is read otherwise.
        sigmoid: Whether the answers are probabilities of a sigmoid.

    Returns:
        The share; `None` if the answers are no classes.
    """
    activation = "sigmoid" if sigmoid else None
    if y is None:
        task = tasks.without_labels(got.shape, x, activation)
    else:
        task = tasks.task_of(y, got.shape, x, activation)
    if task == "categorical":
        return float(np.mean(got.argmax(-1) == want.argmax(-1)))
    threshold = sigmoid and task in ("binary", "multilabel")
    return float(np.mean((got > 0.5) == (want > 0.5))) if threshold else None


def _labels(file: TFLiteModel, y, count: int) -> list[np.ndarray | None]:
    """Return labels, or `None`, for each output of the file, states included."""
    slots, shown = file._slots("outputs"), file._visible("outputs")
    given = [None] * len(slots) if y is None else slots.bind(y, "y", missing=True, arrays=True)
    rest = iter(None if values is None else np.asarray(values) for values in given)
    labels = [next(rest) if info in shown else None for info in file.outputs]
    for values in labels:
        if values is not None and len(values) != count:
            raise InputError(f"There are {count} examples but {len(values)} labels.")
    return labels


def _only(file: TFLiteModel, x) -> np.ndarray | None:
    """Return the data as an array if there is a single input for it."""
    values = file._slots("inputs").bind(x, "x", extra=True, arrays=True)
    return np.asarray(values[0]) if len(values) == 1 else None
