"""`benchmark`: how long one call takes, with its uncertainty, each file in its own process.

The method is that of LiteRT's `benchmark_model` (warm-up of at least one run and half a
second, then at least 50 runs and one second, timed around `invoke` alone), with two
additions: the files take turns in short rounds, so that a drift of the machine's speed hits
all alike, and every median has a confidence interval.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import pathlib
import re
import time

import numpy as np

from tfkd.errors import InputError, TfkdError, WorkerError

from . import sandbox
from .artifact import TFLiteModel
from .interpreter import LITERT_ENGINES, check_engine, open_interpreter

_ROUND_SECONDS = 0.05
_WARM_UP_SECONDS = 0.5
_CALL_SECONDS = 300.0


@dataclasses.dataclass(frozen=True)
class Latency:
    """Measured times of one file; all times in microseconds.

    Attributes:
        name: As given to `benchmark`.
        engine: Kernels that ran it.
        threads: Threads of the interpreter.
        runs: Timed calls.
        median: With `ci95`, its 95 % interval (bootstrap over rounds).
        mean: Arithmetic mean.
        std: Standard deviation of single calls.
        min: Fastest call.
        max: Slowest call.
        p5: 5th percentile; `p50`, `p90`, `p95`, `p99` likewise.
        ci95: Lower and upper end of the median's interval.
        init_us: Opening the file and allocating tensors.
        first_us: The first call, before caches and threads are warm.
        peak_rss_bytes: Largest resident memory of the process that ran only this file,
            the Python interpreter included; `None` where the system does not tell.
        round_medians: Median of each round, in the order measured.
    """

    name: str
    engine: str
    threads: int
    runs: int
    median: float
    mean: float
    std: float
    min: float
    max: float
    p5: float
    p50: float
    p90: float
    p95: float
    p99: float
    ci95: tuple[float, float]
    init_us: float
    first_us: float
    peak_rss_bytes: int | None
    round_medians: tuple[float, ...] = dataclasses.field(repr=False)


def benchmark(
    models,
    inputs=None,
    *,
    threads: int = 1,
    engine: str = "xnnpack",
    min_runs: int = 50,
    min_seconds: float = 1.0,
    seed: int = 0,
) -> list[Latency]:
    """Measure the latency of `.tflite` files on this machine.

    Each file runs in a process of its own; timed rounds go A B A B across the files. A
    file that keeps state is reset before each call, outside the clock. A figure from a
    desktop says little of a phone or a microcontroller: compare files, not devices.

    Args:
        models: A mapping from name to `TFLiteModel` or path, or a list of paths.
        inputs: Array of shape (examples, ...) of real inputs; the first example is fed.
            Defaults to random numbers from `seed`.
        threads: Threads of the interpreter.
        engine: `"xnnpack"` or `"reference"`.
        min_runs: Timed calls at least, per file.
        min_seconds: Time in timed calls at least, per file.
        seed: Seed of random inputs and of the bootstrap.

    Returns:
        One `Latency` per file, in the order given.

    Raises:
        InputError: for no models, an unreadable file or inputs of the wrong shape.
        WorkerError: if the interpreter dies on a file; the message names it.
    """
    check_engine(engine, LITERT_ENGINES)
    for name, value, least in (("threads", threads, 1), ("min_runs", min_runs, 2)):
        if not isinstance(value, int) or value < least:
            raise InputError(f"{name} must be an integer of at least {least}, got {value!r}.")
    if not isinstance(models, dict):
        models = {os.fspath(path): path for path in models}
    if not models:
        raise InputError("There is no model to benchmark.")
    files = {
        name: model if isinstance(model, TFLiteModel) else TFLiteModel.load(model)
        for name, model in models.items()
    }
    with contextlib.ExitStack() as stack:
        runs = [
            _Run(name, file, stack.enter_context(sandbox.Worker())) for name, file in files.items()
        ]
        for run in runs:
            run.prepare(_example(run.file, inputs, seed), engine, threads)
        while waiting := [run for run in runs if not run.done(min_runs, min_seconds)]:
            for run in waiting:
                run.round()
        return [run.result(engine, threads, seed) for run in runs]


class _Run:
    """One file being measured: its process and the times so far."""

    def __init__(self, name, file, worker):
        self.name, self.file, self.worker = name, file, worker
        self.rounds: list[np.ndarray] = []
        self.seconds = 0.0

    def call(self, function, *args):
        try:
            return self.worker.call(function, *args, timeout=_CALL_SECONDS)
        except WorkerError as error:
            raise error.because(f"Benchmarking {self.name!r} failed") from None
        except TfkdError as error:
            raise type(error)(f"Benchmarking {self.name!r} failed: {error}") from None

    def prepare(self, example, engine, threads):
        self.init_us, self.first_us, call_us = self.call(
            _prepare, self.file.data, example, engine, threads, self.file.keeps_state
        )
        self.count = max(5, int(_ROUND_SECONDS * 1e6 / max(call_us, 0.1)))

    def round(self):
        times = np.frombuffer(self.call(_round, self.count), np.int64)
        self.rounds.append(times)
        self.seconds += times.sum() / 1e9

    def done(self, min_runs, min_seconds):
        return len(self.rounds) * self.count >= min_runs and self.seconds >= min_seconds

    def result(self, engine, threads, seed) -> Latency:
        times = np.concatenate(self.rounds) / 1e3
        p5, p50, p90, p95, p99 = np.percentile(times, [5, 50, 90, 95, 99])
        medians = np.array([np.median(block) for block in self.rounds]) / 1e3
        return Latency(
            name=self.name,
            engine=engine,
            threads=threads,
            runs=len(times),
            median=float(p50),
            mean=float(times.mean()),
            std=float(times.std(ddof=1)),
            min=float(times.min()),
            max=float(times.max()),
            p5=float(p5),
            p50=float(p50),
            p90=float(p90),
            p95=float(p95),
            p99=float(p99),
            ci95=_median_interval(self.rounds, seed),
            init_us=self.init_us,
            first_us=self.first_us,
            peak_rss_bytes=self.call(_peak_rss),
            round_medians=tuple(float(m) for m in medians),
        )


def _median_interval(rounds, seed, resamples: int = 1000) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the median, in µs.

    Whole rounds are drawn, since calls next to each other share the machine's mood
    (a block bootstrap, Künsch 1989).
    """
    rng = np.random.default_rng(seed)
    # Enough of each round for its shape; thousands of 10 µs calls add nothing.
    thinned = [block[:: max(1, len(block) // 200)] for block in rounds]
    medians = [
        np.median(
            np.concatenate([thinned[i] for i in rng.integers(len(thinned), size=len(thinned))])
        )
        for _ in range(resamples)
    ]
    low, high = np.percentile(medians, [2.5, 97.5]) / 1e3
    return float(low), float(high)


def _example(file: TFLiteModel, inputs, seed) -> list[np.ndarray]:
    if inputs is not None:
        return file.first_call(inputs)
    rng = np.random.default_rng(seed)
    return [info.quantize(rng.random(info.shape, np.float32)) for info in file.inputs]


# What follows runs in the worker, which keeps the interpreter between calls.
_state: dict = {}


def _prepare(data, example, engine, threads, keeps_state):
    """Open the file, warm up; return init, first call and a typical call, in µs."""
    start = time.perf_counter_ns()
    interpreter = open_interpreter(data, engine, threads)
    init = time.perf_counter_ns() - start
    for detail, values in zip(interpreter.get_input_details(), example, strict=True):
        interpreter.set_tensor(detail["index"], values)
    _state.update(interpreter=interpreter, reset=keeps_state)
    first = _timed(1)[0]
    times = [first]
    end = time.perf_counter() + _WARM_UP_SECONDS
    while time.perf_counter() < end:
        times.append(_timed(1)[0])
    return init / 1e3, first / 1e3, float(np.median(times)) / 1e3


def _round(count):
    """Time `count` calls; the two before them, after the wait for a turn, don't count."""
    _timed(2)
    return _timed(count).tobytes()


def _timed(count) -> np.ndarray:
    interpreter, reset = _state["interpreter"], _state["reset"]
    invoke, clock = interpreter._interpreter.Invoke, time.perf_counter_ns
    times = np.empty(count, np.int64)
    collecting = gc.isenabled()
    gc.disable()
    try:
        for i in range(count):
            if reset:
                interpreter.reset_all_variables()
            start = clock()
            invoke()
            times[i] = clock() - start
    finally:
        if collecting:
            gc.enable()
    return times


def _peak_rss() -> int | None:
    # Not getrusage: its ru_maxrss starts from the parent's, across fork and exec.
    try:
        status = pathlib.Path("/proc/self/status").read_text()
    except OSError:
        return None
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(found.group(1)) * 1024 if found else None
