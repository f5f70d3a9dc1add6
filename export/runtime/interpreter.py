"""Running `.tflite` files: the one place that opens an interpreter, in the worker only.

A file that keeps state is reset before every sequence. A step file, whose state is among its
inputs and outputs, is run over the sequence from a state of zero.
"""

from __future__ import annotations

import contextlib
import time

import numpy as np

from tfkd.errors import ConversionError, InputError, MissingDependencyError, WorkerError, argument
from tfkd.export.runtime import native_stderr, worker

#: LiteRT's kernels, with and without XNNPACK.
LITERT_ENGINES = ("xnnpack", "reference")
#: The kernels that run a file: `"xnnpack"` is the default on Android and desktops,
#: `"reference"` are TensorFlow Lite's plain kernels, `"tflm"` is TensorFlow Lite for
#: Microcontrollers itself, in its host build (extra `micro`).
ENGINES = (*LITERT_ENGINES, "tflm")

# Examples per call of a resized interpreter, and the fewest for which it is opened.
_BATCH_BYTES, _LEAST_BATCH = 64 << 20, 8
_ARENA_BYTES = 16 << 20


def check_engine(engine: str, allowed=ENGINES) -> None:
    """Raise an `InputError` for an engine that is not known."""
    if engine not in allowed:
        raise InputError(f"engine must be one of {tuple(allowed)}, got {engine!r}.")


def call_interpreter(function, *args, timeout: float):
    """Run a function that opens an interpreter in the shared worker, with a readable error."""
    try:
        return worker.shared().call(function, *args, timeout=timeout)
    except WorkerError as error:
        raise error.because("The interpreter could not run this file") from None


def check_answers(answers: list[np.ndarray], infos, rows: int | None = None) -> list[np.ndarray]:
    """Return a file's answers if they are plausible; the process that ran it is not trusted.

    Args:
        answers: One array per output.
        infos: `TensorInfo` of each output.
        rows: Number of examples that each must have; by default each has the shape of the file.

    Raises:
        WorkerError: for arrays of another number, dtype, shape or number of examples.
    """
    told = [(str(one.dtype), *(one.shape if rows is None else one.shape[:1])) for one in answers]
    wanted = [(info.dtype, *(info.shape if rows is None else [rows])) for info in infos]
    if told != wanted:
        raise WorkerError(
            f"The child process gave no valid answer: outputs {told} instead of {wanted}."
        )
    return answers


def open_interpreter(
    data: bytes, engine: str, threads: int = 1, times: int = 1, shapes=None, **options
):
    """Open a file in the LiteRT interpreter, tensors allocated; call it in a worker only.

    Args:
        data: The file's bytes.
        engine: `"xnnpack"` or `"reference"`.
        threads: Threads of the interpreter.
        times: Factor by which the batch is larger than the file's own.
        shapes: The shape of each input, if it is not the file's own.
        **options: Further arguments of `Interpreter`.

    Raises:
        InputError: for an unknown engine.
        ConversionError: if the interpreter refuses the file.
    """
    interpreter = _unallocated(data, engine, threads, **options)
    with _refusal(engine):
        for i, detail in enumerate(interpreter.get_input_details()):
            shape = tuple(detail["shape"]) if shapes is None else tuple(shapes[i])
            if times > 1:
                shape = (shape[0] * times, *shape[1:])
            if shape != tuple(detail["shape"]):
                interpreter.resize_tensor_input(detail["index"], shape)
        interpreter.allocate_tensors()
    return interpreter


def run_on_zeros(data: bytes, shapes=None) -> list[np.ndarray]:
    """Run a file once in XNNPACK, in a worker only; return its inputs.

    Args:
        data: The file's bytes.
        shapes: As in `open_interpreter`.
    """
    interpreter = open_interpreter(data, "xnnpack", shapes=shapes)
    interpreter.reset_all_variables()
    zeros = []
    for detail in interpreter.get_input_details():  # uninitialized memory may hold invalid indices
        zeros.append(np.zeros(detail["shape"], detail["dtype"]))
        interpreter.set_tensor(detail["index"], zeros[-1])
    interpreter.invoke()
    return zeros


def time_in_turns(files: dict[str, bytes], rounds: int = 40) -> dict[str, float]:
    """Time calls of several files on zeros, in turns; in a worker only.

    Args:
        files: Their bytes by name.
        rounds: Timed calls of each file, after one call that is not timed.

    Returns:
        Name → median of the file's calls in microseconds, in XNNPACK with one thread.
    """
    opened = {name: open_interpreter(data, "xnnpack") for name, data in files.items()}
    times: dict[str, list[int]] = {name: [] for name in opened}
    for interpreter in opened.values():
        for detail in interpreter.get_input_details():
            interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
        interpreter.invoke()
    for _ in range(rounds):
        for name, interpreter in opened.items():
            start = time.perf_counter_ns()
            interpreter.invoke()
            times[name].append(time.perf_counter_ns() - start)
    return {name: float(np.median(values)) / 1e3 for name, values in times.items()}


def _unallocated(data, engine, threads, **options):
    resolvers = {"xnnpack": "AUTO", "reference": "BUILTIN_REF"}
    check_engine(engine, resolvers)
    from ai_edge_litert import interpreter as module

    with _refusal(engine):
        return module.Interpreter(
            model_content=data,
            num_threads=threads,
            experimental_op_resolver_type=getattr(module.OpResolverType, resolvers[engine]),
            **options,
        )


@contextlib.contextmanager
def _refusal(engine):
    try:
        yield
    except (RuntimeError, ValueError) as error:
        # Its message is empty if an allocation fails.
        reason = " ".join(str(error).split()) or "probably out of memory"
        if "Flex delegate" in reason:
            reason = f"it needs the Flex delegate, which is not available here ({reason[-60:]})"
        raise ConversionError(
            f"The {engine} interpreter refuses this file: {reason}", code="interpreter-refused"
        ) from None


class _LiteRT:
    """A file in LiteRT, for a fixed number of examples per call."""

    def __init__(self, data, engine, threads, times=1, shapes=None):
        self.engine = engine
        self.interpreter = open_interpreter(data, engine, threads, times, shapes)
        with _refusal(engine):
            self.inputs = [detail["index"] for detail in self.interpreter.get_input_details()]
            self.outputs = [detail["index"] for detail in self.interpreter.get_output_details()]

    def reset(self):
        with _refusal(self.engine):
            self.interpreter.reset_all_variables()

    def __call__(self, arrays):
        with _refusal(self.engine):
            for index, array in zip(self.inputs, arrays, strict=True):
                self.interpreter.set_tensor(index, array)
            self.interpreter.invoke()
            return [self.interpreter.get_tensor(index) for index in self.outputs]


class _TFLM:
    """A file in the host build of TensorFlow Lite for Microcontrollers."""

    def __init__(self, data, outputs, arena_bytes):
        try:
            from tflite_micro.python.tflite_micro import runtime

            make = runtime.Interpreter.from_bytes
        except (ImportError, AttributeError) as error:  # absent, damaged, or another interface
            raise MissingDependencyError(
                f"TensorFlow Lite for Microcontrollers could not be imported ({error}). Its wheels "
                "are nightly builds for Linux x86-64; install one that tfkd is tested with: "
                "pip install --upgrade 'tfkd[micro]'."
            ) from error
        with _micro_refusal():
            self.interpreter = make(data, arena_size=arena_bytes)
        self.reset, self.outputs = self.interpreter.reset, outputs

    def __call__(self, arrays):
        with _micro_refusal():
            for i, array in enumerate(arrays):
                self.interpreter.set_input(array, i)
            self.interpreter.invoke()
            return [np.array(self.interpreter.get_output(i)) for i in range(self.outputs)]


@contextlib.contextmanager
def _micro_refusal():
    """Turn the runtime's exception into one that names the cause, which is only on stderr."""
    with native_stderr.captured() as said:
        try:
            yield
        except (RuntimeError, ValueError, IndexError) as error:
            reason = "; ".join(said()) or str(error)
            raise ConversionError(
                f"TensorFlow Lite for Microcontrollers refuses this file: {reason}",
                code="tflm-refused",
            ) from None


def open_runner(
    data: bytes,
    engine: str,
    threads: int,
    outputs: int,
    times: int = 1,
    arena_bytes: int | None = None,
    shapes=None,
):
    """Return a function from a list of input arrays to a list of output arrays.

    Args:
        data: The file's bytes.
        engine: One of `ENGINES`.
        threads: Threads of the interpreter.
        outputs: Number of the file's outputs.
        times: Factor by which the batch is larger than the file's own.
        arena_bytes: Size of the arena for `"tflm"`; the default is larger than any file needs.
        shapes: As in `open_interpreter`; not for `"tflm"`.
    """
    check_engine(engine)
    if engine == "tflm" and shapes is not None:
        raise InputError(
            "TensorFlow Lite for Microcontrollers runs no file with free sizes: fix them with "
            f"{argument('shapes', of='to_tflite')}."
        )
    if engine == "tflm":
        return _TFLM(data, outputs, arena_bytes or 4 * len(data) + _ARENA_BYTES)
    return _LiteRT(data, engine, threads, times, shapes)


def run(
    data, arrays, batch, engine, threads, outputs, states, resize, shapes=None
) -> list[np.ndarray]:
    """Run every example from a reset state; in the worker.

    Args:
        data: The file's bytes.
        arrays: One array (examples, ...) per input, in the dtype of the file; for a step
            file, `None` for a state and (examples, steps, ...) for a sequence.
        batch: Examples that the file takes a call.
        engine: One of `ENGINES`.
        threads: Threads of the interpreter.
        outputs: Number of the file's outputs.
        states: `Steps` of a step file, or `None`.
        resize: Whether to try an interpreter for many examples at once.
        shapes: Shapes of the inputs for one call, if the file leaves sizes free.

    Returns:
        One array (examples, ...) per output.
    """
    single = open_runner(data, engine, threads, outputs, shapes=shapes)
    call = _once if states is None else states.sequence
    count = len(next(array for array in arrays if array is not None))

    def rows(indices):
        return [None if array is None else array[indices] for array in arrays]

    def results(runner, size):
        parts = []
        for start in range(0, count, size):
            indices = np.arange(start, start + size) % count  # the last batch is filled up
            parts.append([_rows(one, size) for one in call(runner, rows(indices))])
        return [np.concatenate(part)[:count] for part in zip(*parts, strict=True)]

    if resize and engine != "tflm" and count >= _LEAST_BATCH * batch:
        example = sum(array[0].nbytes for array in arrays if array is not None)
        times = int(np.clip(_BATCH_BYTES // (64 * max(1, example) * batch), 1, count // batch))
        found = _resized(lambda: results(_LiteRT(data, engine, threads, times), times * batch))
        if found is not None and all(len(part) == count for part in found):
            # If the graph mixes examples, the first or the last of a batch shows it.
            ends = np.array([0, count - 1])
            alone = zip(*(call(single, rows(np.full(batch, end))) for end in ends), strict=True)
            if all(
                _same(part[ends], np.stack([_rows(one, batch)[0] for one in ones]))
                for part, ones in zip(found, alone, strict=True)
            ):
                return found
    return results(single, batch)


def _once(runner, rows):
    runner.reset()
    return runner(rows)


def _resized(attempt):
    try:
        return attempt()
    except (ConversionError, RuntimeError, ValueError, MemoryError):
        return None  # the graph contains the batch size


def _rows(result, size):
    """Return an output; raise unless it has a row for each input example."""
    if result.ndim == 0 or len(result) != size:
        raise ConversionError(
            f"The file has an output of shape {result.shape} for a batch of {size}: it does "
            "not show which row belongs to which example.",
            code="mixed-batch",
        )
    return result


def _same(a, b) -> bool:
    if a.shape != b.shape:
        return False
    if np.issubdtype(a.dtype, np.floating):
        return np.allclose(a, b, rtol=1e-4, atol=1e-5 * max(1.0, float(np.abs(b).max(initial=0))))
    return np.array_equal(a, b)


class Steps:
    """How a step file is run over a sequence; a part of `run` that travels to the worker.

    Args:
        initial: Per input, its shape without the batch, dtype and value of an initial state,
            or `None` for an input of data.
        moving: Indices of the inputs that take a step of a sequence.
        back: Pairs (output, input): where each state goes after a step.
        stacked: Indices of the outputs that are given for every step.
    """

    def __init__(self, initial, moving, back, stacked):
        self.initial, self.moving, self.back, self.stacked = initial, moving, back, stacked

    def sequence(self, runner, rows):
        """Return the outputs: stacked ones at every step, the others after the last step."""
        size = len(next(row for row in rows if row is not None))
        feed = [
            row if state is None else np.full((size, *state[0]), state[2], state[1])
            for row, state in zip(rows, self.initial, strict=True)
        ]
        every = []
        for step in range(rows[self.moving[0]].shape[1]):
            for i in self.moving:
                feed[i] = np.ascontiguousarray(rows[i][:, step : step + 1])
            every.append(runner(feed))
            for source, target in self.back:
                feed[target] = every[-1][source]
        return [
            np.concatenate([results[i] for results in every], axis=1)
            if i in self.stacked
            else every[-1][i]
            for i in range(len(every[-1]))
        ]
