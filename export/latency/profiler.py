"""The time of each operator of a file, measured by LiteRT's own profiler (see `litert_profiler`).

XNNPACK makes its own operators from those of the file. A row of XNNPACK names an operator of the
file only if there is no other choice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfkd.errors import InputError, UnsupportedError, WorkerError, argument
from tfkd.escaping import printable
from tfkd.export.latency import litert_profiler, operators
from tfkd.export.runtime import worker as sandbox
from tfkd.export.runtime.interpreter import check_engine
from tfkd.export.tflite import schema
from tfkd.export.tflite.model import TFLiteModel
from tfkd.tables import Printed, aligned

# XNNPACK's names of kernels, and the operators of a file that each may run.
_STANDS_FOR = {
    "Convolution": ("CONV_2D", "DEPTHWISE_CONV_2D"),
    "Deconvolution": ("TRANSPOSE_CONV",),
    "Fully Connected": ("FULLY_CONNECTED", "CONV_2D"),
    "Batch Matrix Multiply": ("BATCH_MATMUL",),
}
# Shorter times are too coarse for a rate: XNNPACK's lack up to a microsecond per call.
_SHORTEST_US = {"xnnpack": 10.0, "builtin": 2.0}
# Rows of a table, and the widths of its text columns.
_SHOWN, _OP, _NAME = 25, 32, 18
# Attributes of `operators.Operator` in the plain values of a row.
_OF_FILE = ("weight_bytes", "weight_type", "activation_bytes")


@dataclasses.dataclass(frozen=True)
class Row:
    """The time of one operator of the runtime.

    Attributes:
        op: The operator, or XNNPACK's name for one of its own.
        operator: The file's operator that it runs; `None` for an operator of XNNPACK that runs
            none of the file's kernels, or an unknown one.
        calls: How often a call of the file runs it: more than once in a loop.
        us: Microseconds, all calls together. XNNPACK counts whole ones and drops the rest.
        share: Share of the whole call, or of all rows together if profiling makes those longer.
        macs: Multiply-accumulates, all calls together, or `None` if not known.
        macs_per_second: `macs` per second, or `None` if not known or the time is too short.
    """

    op: str
    operator: operators.Operator | None
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
        engine: Kernels that ran the file.
        threads: Threads that the kernels could use.
        runs: Number of runs with the profiler, and of runs without.
        total_us: Microseconds of a whole call, without the profiler.
        release: The release of ai-edge-litert.
        rows: The operators in the order in which they run.
    """

    engine: str
    threads: int
    runs: int
    total_us: float
    release: str
    rows: tuple[Row, ...]

    @property
    def rest_us(self) -> float:
        """Time of the whole call that is in no row; below 0 if profiling makes rows longer."""
        return self.total_us - sum(row.us for row in self.rows)

    def to_json(self) -> dict:
        """Return the figures as plain values."""
        rows = []
        for row in self.rows:
            one = dataclasses.asdict(row)
            operator = one.pop("operator") or {}
            of_file = {key: operator.get(key) for key in _OF_FILE}
            rows.append({**one, "name": row.name, "file_op": operator.get("op"), **of_file})
        return {**dataclasses.asdict(self), "rest_us": self.rest_us, "rows": rows}

    def describe(self) -> str:
        """Return a table as text: a line for each of the longest rows, in the order of a run."""
        longest = sorted(self.rows, key=lambda row: -row.us)[:_SHOWN]
        shown = [row for row in self.rows if any(row is one for one in longest)]
        lines = [("operator", "result", "weights", "µs", "share", "MACs", "bytes", "GMAC/s")]
        for row in shown:
            rate = "" if row.macs_per_second is None else f"{row.macs_per_second / 1e9:.2f}"
            count = "?" if row.macs is None else f"{row.macs:,}"
            size = "" if row.bytes is None else f"{row.bytes:,}"
            op = row.op if row.calls == 1 else f"{row.calls}× {row.op}"
            name = printable(row.name.split(";")[0])
            name = name if len(name) <= _NAME else f"…{name[1 - _NAME :]}"
            weights = (row.operator and row.operator.weight_type) or ""
            times = f"{row.us:,.1f}", f"{row.share:.1%}"
            lines.append((op[:_OP], name, weights, *times, count, size, rate))
        if len(shown) < len(self.rows):
            us = sum(row.us for row in self.rows) - sum(row.us for row in shown)
            lines.append(
                (f"{len(self.rows) - len(shown)} others", *[""] * 2, f"{us:,.1f}", *[""] * 4)
            )
        lines.append(("rest", *[""] * 2, f"{self.rest_us:,.1f}", *[""] * 4))
        text = [
            f"{self.total_us:,.1f} µs a call; {self.engine}, {self.threads} "
            f"thread{'s' if self.threads > 1 else ''}, {self.runs} runs, "
            f"ai-edge-litert {self.release}",
            *aligned(lines, left=3),
        ]
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

    Use it to see where the time goes; `benchmark` measures more exactly how long a call takes.
    Whole calls go through LiteRT's "compiled model" here, which adds about 3 µs to the
    interpreter's. Of the runs with the profiler, and of those without, the fastest four in five
    count. The rows' times have these errors:

    - `"builtin"` (TensorFlow Lite's kernels without XNNPACK): whole microseconds too, but right on
      average over many runs. The profiler's own work makes each call of an operator 0.1 to 0.2 µs
      too long, and the first one up to 3 µs, because of the emptied caches. All rows together
      were within 4 % for files of 70 µs and more, 2 to 4 µs too long for a convolutional one of
      7 to 10 µs, and 50 to 90 % too long for 70 operators that take 10 to 20 µs.
    - `"xnnpack"`: the time of each call of an operator is cut to whole microseconds, so a shorter
      call shows 0, and others lack half a microsecond on average. All rows together lacked less
      than 1 % of 1.6 ms, an eighth of 22 µs, a fifth of 13 µs, and everything of 2 µs.

    A file that keeps state is not reset between runs, since LiteRT has no function for it here;
    times stayed the same from the first run on.

    Args:
        file: The file.
        arrays: Real inputs, as for `TFLiteModel.predict`; the first example is fed. Defaults to
            random numbers.
        engine: `"xnnpack"` or `"builtin"`. There is no profiler for the plain kernels,
            `"reference"`.
        threads: Threads of the kernels.
        runs: Runs with the profiler, and as many without. Defaults to about a second of runs.
        timeout: Seconds after which the process is ended.

    Returns:
        A `Profile`.

    Raises:
        InputError: for an unknown engine or inputs of the wrong shape.
        MissingDependencyError: if this release of ai-edge-litert gives no time per operator, or
            is not one of `litert_profiler.RELEASES`.
        UnsupportedError: for a file that LiteRT's compiled model can't run, or that has an input
            with a free size other than the batch.
        ConversionError: if the compiled model refuses the file.
        WorkerError: if the process dies on the file, or takes longer than `timeout`.
    """
    operators.check_file(file)
    if engine == "reference":
        raise InputError(
            f"LiteRT's profiler has no reference kernels; use {argument('engine', 'builtin')}, "
            f"TensorFlow Lite's own without XNNPACK, or {argument('engine', 'xnnpack')}."
        )
    check_engine(engine, litert_profiler.ENGINES)
    for name, value in (("threads", threads), ("runs", 1 if runs is None else runs)):
        if not isinstance(value, int) or value < 1:
            raise InputError(f"{name} must be an integer of at least 1, got {value!r}.")
    file._check_call()
    model = file._parsed
    main = model.subgraphs[0]
    free = [
        i for i in main.inputs if any(place > 0 for place in operators.free_sizes(main.tensors[i]))
    ]
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
            for step, operator, macs in _assigned(operators.Counter(model), trace.steps)
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
    """Return each step with its operator and MACs, if they are certain."""
    found = {}
    for number in {step.graph for step in steps}:
        if not 0 <= number < len(counter.model.subgraphs):
            raise litert_profiler.impossible_report(f"operators in graph {number}")
        ops = counter.graph(number)
        here = {i: step for i, step in enumerate(steps) if step.graph == number}
        for step in here.values():
            if step.calls < 1 or step.us < 0:
                raise litert_profiler.impossible_report(f"{step.calls} calls of {step.us:g} µs")
            if step.index is not None and not (
                0 <= step.index < len(ops) and ops[step.index].op == step.tag
            ):
                raise litert_profiler.impossible_report(f"a {step.tag} as operator {step.index}")
        kernels, own = operators_of_kernels(here, ops)
        for i, step in here.items():
            operator = own.get(i) if step.index is None else ops[step.index]
            # XNNPACK's steps that are not kernels (copies, sums) count as zero, as in a file; if
            # kernels are missing, this step may be one.
            macs = operator.macs if operator else None if kernels is None or i in kernels else 0
            found[i] = (step, operator, None if macs is None else macs * step.calls)
    return [found[i] for i in range(len(steps))]


def operators_of_kernels(steps: dict, ops: Sequence[Any]) -> tuple[dict | None, dict]:
    """Return XNNPACK's kernels, and the operators of the file that they run.

    The kernels are `None` if their number differs from the number of the file's operators that the
    runtime does not run itself. The assignment is certain if the kernels come in the order of the
    file, each of a kind that can do the operator in its place, with the operators that the runtime
    runs itself between them. Several parts of a graph in XNNPACK can run in another order: then no
    operators are assigned.
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
    """Return the operators that a step of XNNPACK may run; `None` if it is not a kernel."""
    if step.index is not None:
        return None
    return next((ops for tag, ops in _STANDS_FOR.items() if step.tag.startswith(tag)), None)
