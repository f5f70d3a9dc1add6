"""`benchmark`: how long one call takes, with its uncertainty, each model in its own processes.

The method is that of LiteRT's `benchmark_model` (warm-up of at least one run and half a second,
then at least 50 runs and one second, timed around `invoke` alone), with three additions. The
models take turns, so that a drift of the machine's speed affects all alike. Each model is measured
in several processes, one after the other, since two processes of one file differ. Every figure
that is compared has a confidence interval (`statistics`).

    process 1:  open A, B · warm up · A B · B A · A B · ...  · close
    process 2:  open A, B · warm up · A B · B A · ...

A figure from this machine says little about a phone (see `android_device`) or a
microcontroller.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfkd.errors import InputError, TfkdError, WorkerError, argument, raise_all
from tfkd.export.latency import candidates, statistics, timed_calls
from tfkd.export.latency.candidates import Candidate
from tfkd.export.latency.results import Benchmark, Latency, Ratio
from tfkd.export.runtime import host, worker
from tfkd.export.runtime.interpreter import LITERT_ENGINES, check_engine

if TYPE_CHECKING:
    from tfkd._typing import Arrays, PathLike

__all__ = ["Benchmark", "Latency", "Ratio", "benchmark"]

_TURN_SECONDS = 0.01
_WARM_UP_SECONDS = 0.5
# After the first process, only a process's own memory is cold, not the machine.
_WARM_UP_AGAIN_SECONDS = 0.1
_START_SECONDS = 120.0
_GRACE_SECONDS = 5.0
# Limits above which there is a warning: cores used by others or taken by the host, and half the
# width of an interval.
_BUSY, _STOLEN, _WIDE = 0.2, 0.05, 0.05


def benchmark(
    models: Mapping[str, Any] | Sequence[PathLike],
    inputs: Arrays | None = None,
    *,
    threads: int | Sequence[int] = 1,
    engine: str | Sequence[str] = "xnnpack",
    batch: int | Sequence[int] | None = None,
    baseline: str | None = None,
    min_runs: int = 50,
    min_seconds: float = 1.0,
    max_seconds: float = 150.0,
    processes: int = 5,
    isolate: bool = True,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Benchmark:
    """Measure the latency of models on this machine and compare them.

    A file that keeps state is reset before each call, outside the clock. A Keras model runs as
    a TensorFlow graph of its forward pass, which is faster than its `predict`. Give sequences of
    `threads`, `engine` and `batch` to measure every combination.

    Args:
        models: A mapping from name to `TFLiteModel`, Keras model or path, or a list of paths
            (`.tflite`, `.keras`, `.h5`, tf_keras SavedModel folder).
        inputs: Real inputs, of shape (examples, ...), for every model, or a mapping from the
            name of each model to its inputs. The first examples are fed. Defaults to random
            numbers.
        threads: Threads of the interpreter; of TensorFlow's operations for a Keras model.
        engine: `"xnnpack"` or `"reference"`; has no meaning for Keras models.
        batch: Examples a call. Defaults to the file's own batch; other values must be a
            multiple of it.
        baseline: Name of the model that the others are compared with. Defaults to the first.
        min_runs: Minimum number of timed calls of each model, over all processes.
        min_seconds: Approximate time in timed calls of each model, over all processes.
        max_seconds: Maximum time in timed calls, apart from one call in each process; also the
            limit for opening a model with its first call, and for a single turn.
        processes: Number of processes, one after the other, in which each model is measured.
            With one process the intervals don't include the differences between processes, and
            are too narrow.
        isolate: Whether each model has processes of its own. Otherwise all models share one at a
            time, which takes less memory; the memory of each model is then unknown.
        seed: Seed of random inputs and of the bootstrap.
        progress: Called as `progress("benchmark", done, total)` while it works.

    Returns:
        A `Benchmark`: a sequence of one `Latency` per model and setting, with ratios. Models
        that fail are in its `failures`, and a warning names them.

    Raises:
        TfkdError: if no model could be measured; it is the error of the first model. An
            `InputError` for an invalid argument or file, a `WorkerError` if the interpreter dies
            or hangs.
    """
    threads, engines, batches = _sequence(threads), _sequence(engine), _sequence(batch)
    for name in engines:
        check_engine(name, LITERT_ENGINES)
    _check_numbers(threads, batches, min_runs, min_seconds, max_seconds, processes)
    models = _named(models)
    baseline = next(iter(models)) if baseline is None else baseline
    if baseline not in models:
        raise InputError(f"baseline must be one of {list(models)}, got {baseline!r}.")
    settings = {
        "min_runs": min_runs,
        "min_seconds": min_seconds,
        "max_seconds": max_seconds,
        "processes": processes,
        "isolate": isolate,
        "seed": seed,
        "inputs": "random" if inputs is None else "given",
        "baseline": baseline,
    }
    failures: dict[str, TfkdError] = {}
    with tempfile.TemporaryDirectory() as folder:
        found: list[Candidate] = []
        for name, model in models.items():
            try:
                given = _inputs_of(name, inputs, models)
                settings_of_it = (threads, engines, batches)
                one = candidates.of_model(name, model, given, *settings_of_it, seed, folder)
                if not isolate and len(threads) > 1 and one[0].engine == "keras":
                    raise InputError(
                        "TensorFlow sets its threads once per process: give "
                        f"{argument('isolate', True)} to measure a Keras model with several "
                        "numbers of threads."
                    )
                found += one
            except TfkdError as error:
                failures[name] = _named_error(name, error)
        before, others = host.describe(), host.Others()
        session = _Session(found, min_runs, min_seconds, max_seconds, processes, isolate)
        used = session.run(progress or (lambda stage, done, total: None))
        meanwhile = others.since(used)
    failures.update(session.failures(len(models) > 1 or len(found) > 1))
    measured = [candidate for candidate in found if candidate.error is None]
    if not measured:
        raise next(iter(failures.values()))
    results = tuple(candidate.result(seed) for candidate in measured)
    result = Benchmark(
        results=results,
        ratios=tuple(_ratios(measured, results, baseline, seed)),
        failures=failures,
        machine={**before, **meanwhile, "clock_us": session.clock_us},
        versions=host.versions(),
        settings=settings,
        warnings=tuple(_warnings(results, before, meanwhile)),
    )
    for error in failures.values():
        warnings.warn(f"Not measured: {error}", stacklevel=2)
    return result


class _Session:
    """All candidates, one process after another."""

    def __init__(self, candidates, min_runs, min_seconds, max_seconds, processes, isolate):
        self.candidates, self.isolate, self.processes = candidates, isolate, processes
        for key, candidate in enumerate(candidates):
            candidate.key = key
        self.min_runs, self.min_seconds, self.max_seconds = min_runs, min_seconds, max_seconds
        self.turns = 1
        self.clock_us: float | None = None

    @property
    def alive(self) -> list[Candidate]:
        return [candidate for candidate in self.candidates if candidate.error is None]

    def failures(self, several: bool) -> dict[str, TfkdError]:
        return {
            candidate.label if several else candidate.name: candidate.error
            for candidate in self.candidates
            if candidate.error is not None
        }

    def run(self, progress) -> float:
        """Measure; return the seconds of CPU time of our own processes."""
        used = 0.0
        for process in range(self.processes):
            began = os.times()
            with contextlib.ExitStack() as stack:
                self._open(stack, first=process == 0)
                if process == 0:
                    self._plan()
                for turn in range(self.turns):
                    for candidate in self.alive[:: 1 if turn % 2 == 0 else -1]:
                        self._turn(candidate)
                    done = process * self.turns + turn + 1
                    progress("benchmark", done, self.processes * self.turns)
                used += self._close()
            ended = os.times()
            used += ended.user - began.user + ended.system - began.system
        return used

    def _open(self, stack, first: bool):
        """Open every model in a fresh process and warm it up."""
        shared = None if self.isolate else stack.enter_context(worker.Worker())
        for candidate in self.alive:
            candidate.worker = shared or stack.enter_context(worker.Worker())
            candidate.worker.start()  # all import at once
        for candidate in self.alive:
            call = functools.partial(self._call, candidate)
            clock = call(timed_calls.ready, candidate.engine == "keras", timeout=_START_SECONDS)
            function, *arguments = candidate.opening
            told = call(function, candidate.key, *arguments) or {}
            least = _WARM_UP_SECONDS if first else _WARM_UP_AGAIN_SECONDS
            told |= call(timed_calls.warm_up, candidate.key, least) or {}
            if candidate.error is None and told["runs"] < 1:
                candidate.error = WorkerError(
                    f"{candidate.name}: the child process gave no valid answer: a warm-up without "
                    "a call."
                )
            if candidate.error is None:
                self.clock_us = clock
                candidate.told.append(told)
                candidate.times.append([])

    def _plan(self):
        """Set the number of turns, equal for all processes, and the calls per turn."""
        calls = {
            candidate: max(candidate.told[0]["call_us"], 0.1) / 1e6 for candidate in self.alive
        }
        if not calls:
            return
        # A single turn in total would give no interval.
        least = 2 if self.processes == 1 else 1
        self.turns = max(least, math.ceil(self.min_seconds / self.processes / _TURN_SECONDS))
        for call in calls.values():
            wanted = math.ceil(max(self.min_runs, self.min_seconds / call) / self.processes)
            possible = int(self.max_seconds / call / self.processes)
            self.turns = max(least, min(self.turns, wanted, possible))
        for candidate, call in calls.items():
            wanted = max(self.min_runs, 1.1 * self.min_seconds / call)
            wanted = min(wanted, self.max_seconds / call) / (self.processes * self.turns)
            candidate.count = max(1, math.ceil(wanted))

    def _turn(self, candidate):
        call_us = candidate.told[-1]["call_us"]
        times = self._call(
            candidate, timed_calls.time_calls, candidate.key, candidate.count, call_us
        )
        if times is None:
            return
        if (times.dtype, times.shape) != (np.int64, (candidate.count,)):
            candidate.error = WorkerError(
                f"{candidate.name}: the child process gave no valid answer: {times.dtype} "
                f"{times.shape} instead of {candidate.count} times."
            )
            return
        candidate.times[-1].append(times / 1e3)

    def _close(self) -> float:
        seconds = {}
        for candidate in self.alive:
            told = self._call(candidate, timed_calls.close, candidate.key)
            if told is None:
                continue
            seconds[candidate.worker] = told.pop("processor_seconds")
            if not self.isolate:  # it would be the memory of all models
                told = dict.fromkeys(told)
            candidate.told[-1] |= told
        return sum(seconds.values())

    def _call(self, candidate, function, *arguments, timeout=None):
        """Run a step of one candidate in its process; an error fails only this candidate."""
        if candidate.error is not None:
            return None
        limit = self.max_seconds + _GRACE_SECONDS if timeout is None else timeout
        try:
            return candidate.worker.call(function, *arguments, timeout=limit)
        except TfkdError as error:
            candidate.error = _named_error(candidate.name, error)
            if getattr(error, "timed_out", False):
                candidate.error = WorkerError(
                    f"{candidate.error} Opening it with its first call, or a turn, may take "
                    f"{argument('max_seconds', self.max_seconds)}.",
                    timed_out=True,
                )
            if not self.isolate and not candidate.worker.alive:
                for other in self.alive:
                    other.error = candidate.error
            return None


def _ratios(candidates, results, baseline, seed):
    """Compare each model with the baseline in the same setting, and with its own first setting."""
    pairs = list(zip(candidates, results, strict=True))
    for candidate, result in pairs:
        if candidate.name != baseline:
            of_baseline = [pair for pair in pairs if pair[0].name == baseline]
            same = [
                other
                for other, its in of_baseline
                if its.threads == result.threads
                and ("keras" in (its.engine, result.engine) or its.engine == result.engine)
            ]
            same.sort(key=lambda other: other.batch != candidate.batch)
            for other in same[:1]:
                by_example = f", batch {other.batch}, an example"
                against = other.name + by_example * (other.batch != candidate.batch)
                yield _ratio(candidate, other, against, seed)
        first, first_result = next(pair for pair in pairs if pair[0].name == candidate.name)
        if first is not candidate:
            yield _ratio(candidate, first, _difference(result, first_result), seed)


def _ratio(candidate, other, against, seed) -> Ratio:
    ratio, ci95 = statistics.ratio(
        candidate.turns / candidate.batch, other.turns / other.batch, seed
    )
    return Ratio(
        name=candidate.name,
        engine=candidate.engine,
        threads=candidate.threads,
        batch=candidate.batch,
        baseline=other.name,
        against=against,
        ratio=ratio,
        ci95=ci95,
    )


def _difference(result: Latency, first: Latency) -> str:
    """Describe the values of a model's first setting that differ from this setting."""
    words = []
    if first.engine != result.engine:
        words.append(first.engine)
    if first.threads != result.threads:
        words.append(f"{first.threads} thread" + "s" * (first.threads > 1))
    if first.batch != result.batch:
        words.append(f"batch {first.batch}, an example")
    return "itself, " + ", ".join(words)


def _warnings(results, before, meanwhile):
    cores = before["cores"]
    most = max(result.threads for result in results)
    if results[0].processes == 1:
        yield "One process: the intervals miss differences between processes, and are too narrow."
    if most > cores:
        yield f"{most} threads on {cores} cores wait for each other."
    if (meanwhile["others"] or 0.0) > _BUSY:
        yield (
            f"Other programs used {meanwhile['others']:g} of {cores} cores meanwhile; this "
            "affects ratios less than times."
        )
    if (meanwhile["stolen"] or 0.0) > _STOLEN:
        yield f"The host of this virtual machine kept {meanwhile['stolen']:g} cores to itself."
    known = {
        result.label: (result.ci95[1] - result.ci95[0]) / 2 / result.median for result in results
    }
    wide = [f"{label} to {width:.0%}" for label, width in known.items() if width > _WIDE]
    if wide:
        yield (
            f"Medians known no better than {_WIDE:.0%}: {', '.join(wide)}; raise "
            f"{argument('min_seconds', alone=True)}, or measure on a quieter machine."
        )
    moving = [result.label for result in results if not result.settled]
    if moving:
        yield f"Timing began before the times had settled: {', '.join(moving)}."


def _named(models) -> dict:
    if not isinstance(models, dict):
        paths = [os.fspath(path) for path in models]
        twice = sorted({path for path in paths if paths.count(path) > 1})
        if twice:
            raise InputError(
                f"{', '.join(map(repr, twice))} given more than once; to compare a file with "
                "itself, give a mapping with two names."
            )
        models = dict(zip(paths, paths, strict=True))
    if not models:
        raise InputError("There is no model to benchmark.")
    return models


def _inputs_of(name, inputs, models):
    if isinstance(inputs, dict) and set(models) <= set(inputs):
        return inputs[name]
    return inputs


def _named_error(name, error: TfkdError) -> TfkdError:
    context = f"Benchmarking {name!r} failed"
    if isinstance(error, WorkerError):
        return error.because(context)
    return type(error)(f"{context}: {error}")


def _sequence(value) -> tuple:
    return tuple(value) if isinstance(value, (list, tuple, range)) else (value,)


def _check_numbers(threads, batches, min_runs, min_seconds, max_seconds, processes):
    problems = [
        f"{argument(name, alone=True)} must be an integer of at least {least}, got {value!r}"
        for name, values, least in (
            ("threads", threads, 1),
            ("batch", [batch for batch in batches if batch is not None], 1),
            ("min_runs", [min_runs], 2),
            ("processes", [processes], 1),
        )
        for value in values
        if not isinstance(value, int) or isinstance(value, bool) or value < least
    ]
    problems += [
        f"{argument(name, alone=True)} must be a number of seconds > 0, got {value!r}"
        for name, value in (("min_seconds", min_seconds), ("max_seconds", max_seconds))
        if not isinstance(value, (int, float)) or not 0 < value < math.inf
    ]
    problems += [
        f"{name} is empty" for name, v in (("threads", threads), ("batch", batches)) if not v
    ]
    raise_all(problems)
