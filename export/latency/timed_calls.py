"""The functions of a benchmark's processes: open a model, warm it up, time its calls."""

from __future__ import annotations

import gc
import importlib
import os
import time
import typing

import numpy as np

from tfkd.errors import ConversionError, argument
from tfkd.export.runtime import worker
from tfkd.export.runtime.interpreter import open_interpreter

# Seconds of calls that show how long one takes and whether the level has settled.
_CHUNK_SECONDS = 0.02
# Uncounted calls after the wait for a turn, when caches and clock are cold.
_LEAD_SECONDS, _LONG_CALL_SECONDS = 0.001, 0.02
_SETTLED = 0.05
_MOST_WARM_UP_SECONDS = 3.0

# The open models of this process, by the parent's keys.
_open: dict = {}


class Opened(typing.TypedDict):
    """The costs of opening a model: microseconds, and bytes of memory."""

    init_us: float
    first_us: float
    init_footprint: int | None


class Level(typing.TypedDict):
    """The result of a warm-up: its calls, their mean, the present time, whether it has settled."""

    runs: int
    mean_us: float
    call_us: float
    settled: bool


class Closed(typing.TypedDict):
    """The use of a process: its peak memory so far, the growth, and the total processor time."""

    peak_rss: int | None
    overall_footprint: int | None
    processor_seconds: float


class _Model:
    """A function to call, and a function that resets before each call."""

    def __init__(self, call, reset, owner, before):
        self.call, self.reset, self.owner, self.before = call, reset, owner, before

    def timed(self, count: int) -> np.ndarray:
        """Return the nanoseconds of each of `count` calls."""
        call, reset, clock = self.call, self.reset, time.perf_counter_ns
        times = np.empty(count, np.int64)
        collecting = gc.isenabled()
        gc.disable()
        try:
            for i in range(count):
                if reset is not None:
                    reset()
                start = clock()
                call()
                times[i] = clock() - start
        finally:
            if collecting:
                gc.enable()
        return times


def open_file(key, data, arrays, engine, threads, times, reset) -> Opened:
    """Open a `.tflite` file and call it once.

    Args:
        key: Key of the opened model in later calls.
        data: The file's bytes.
        arrays: One array per input.
        engine: `"xnnpack"` or `"reference"`.
        threads: Threads of the interpreter.
        times: Factor by which the batch is larger than the file's own.
        reset: Whether the file keeps state.

    Returns:
        `init_us`, `first_us`, and `init_footprint`: bytes of memory that opening took.

    Raises:
        ConversionError: if the interpreter refuses the file, or the batch.
    """
    before = _resident("VmRSS")
    start = time.perf_counter_ns()
    shapes = [values.shape for values in arrays]
    interpreter = open_interpreter(data, engine, threads, shapes=shapes)
    init = time.perf_counter_ns() - start
    footprint = _difference(_resident("VmRSS"), before)
    for detail, values in zip(interpreter.get_input_details(), arrays, strict=True):
        interpreter.set_tensor(detail["index"], values)
    # The bound method itself, since `Interpreter.invoke` does additional work.
    call = interpreter._interpreter.Invoke
    reset = interpreter.reset_all_variables if reset else None
    _open[key] = _Model(call, reset, interpreter, before)
    first = _open[key].timed(1)[0]
    if times > 1:
        _check_rows(interpreter, len(arrays[0]))
    return {"init_us": init / 1e3, "first_us": first / 1e3, "init_footprint": footprint}


def open_saved_model(key, folder, arrays, threads) -> Opened:
    """Open a SavedModel with one signature and call it once, as `open_file` does."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    before = _resident("VmRSS")
    start = time.perf_counter_ns()
    loaded = tf.saved_model.load(folder)
    function = loaded.signatures["serving_default"]
    init = time.perf_counter_ns() - start
    footprint = _difference(_resident("VmRSS"), before)
    tensors = {name: tf.constant(array) for name, array in arrays.items()}
    _open[key] = _Model(lambda: function(**tensors), None, loaded, before)
    first = _open[key].timed(1)[0]
    return {"init_us": init / 1e3, "first_us": first / 1e3, "init_footprint": footprint}


def warm_up(key, least_seconds: float) -> Level:
    """Call a model until its level has settled.

    Args:
        key: The model's key.
        least_seconds: Minimum duration of the warm-up.

    Returns:
        `runs` and `mean_us` of the warm-up, `call_us`, the present time of a call, and `settled`.
    """
    model, chunks, medians, count = _open[key], [], [], 1
    start = time.perf_counter()
    while True:
        chunks.append(model.timed(count))
        typical = float(np.median(chunks[-1]))
        medians.append(typical)
        count = max(1, int(_CHUNK_SECONDS * 1e9 / max(typical, 1.0)))
        elapsed = time.perf_counter() - start
        settled = _has_settled(medians)
        if elapsed >= least_seconds and (settled or elapsed >= _MOST_WARM_UP_SECONDS):
            break
        # A call that takes this long has no level to wait for.
        if typical >= _MOST_WARM_UP_SECONDS * 1e9:
            settled = True
            break
    times = np.concatenate(chunks)
    return {
        "runs": len(times),
        "mean_us": float(times.mean()) / 1e3,
        "call_us": float(np.median(np.concatenate(chunks[-3:]))) / 1e3,
        "settled": settled,
    }


def _has_settled(medians: list[float]) -> bool:
    """Tell whether the last third of the chunks is on the level of the previous third."""
    size = max(2, len(medians) // 3)
    if len(medians) < 2 * size:
        return False
    before, now = np.median(medians[-2 * size : -size]), np.median(medians[-size:])
    return abs(now - before) <= _SETTLED * before


def time_calls(key, count: int, call_us: float) -> np.ndarray:
    """Time `count` calls; earlier calls that bring the caches back don't count.

    Returns:
        Nanoseconds, int64 (count,).
    """
    model = _open[key]
    if call_us < _LONG_CALL_SECONDS * 1e6:
        model.timed(max(2, int(_LEAD_SECONDS * 1e6 / max(call_us, 0.1))))
    return model.timed(count)


def close(key) -> Closed:
    """Close a model.

    Returns:
        `peak_rss` of this process so far, and `overall_footprint`, the growth of its memory since
        before the model was opened, both in bytes; `None` if the system does not show them.
        `processor_seconds`: processor time of the process in total.
    """
    model = _open.pop(key)
    return {
        "peak_rss": _resident("VmHWM"),
        "overall_footprint": _difference(_resident("VmRSS"), model.before),
        "processor_seconds": time.process_time(),
    }


def ready(for_keras: bool) -> float:
    """Import the packages that the model needs; opening it does not include this.

    Returns:
        Microseconds between two readings of the clock, the least that a call can seem to take.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    importlib.import_module("tensorflow" if for_keras else "ai_edge_litert.interpreter")
    clock = time.perf_counter_ns
    return float(np.median([-clock() + clock() for _ in range(1001)])) / 1e3


def _check_rows(interpreter, rows: int) -> None:
    """Raise if a file opened for a larger batch does not return as many results."""
    shapes = [interpreter.get_tensor(d["index"]).shape for d in interpreter.get_output_details()]
    if any(not shape or shape[0] != rows for shape in shapes):
        raise ConversionError(
            f"The file has a fixed batch: for {rows} examples it returns outputs of shape "
            f"{', '.join(map(str, shapes))}; export it with "
            f"{argument('batch', rows, of='to_tflite')}."
        )


def _resident(name: str) -> int | None:
    # Not getrusage, whose ru_maxrss starts from the parent's value, across fork and exec.
    return next(iter(worker.sizes("/proc/self/status", name)), None)


def _difference(after: int | None, before: int | None) -> int | None:
    return None if after is None or before is None else max(0, after - before)
