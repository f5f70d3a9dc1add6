"""The evidence beside the files: report.json, a page with pictures, a terminal table."""

from __future__ import annotations

import dataclasses
import datetime
import io
import json
import math
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tfkd.escaping import printable
from tfkd.export.latency.results import Benchmark, Latency
from tfkd.export.report import plots
from tfkd.export.report.plots import Picture, Point
from tfkd.export.runtime import host as machine
from tfkd.export.templating import environment
from tfkd.export.tflite.model import TFLiteModel
from tfkd.export.verification.verify import Verification
from tfkd.files import write_atomically
from tfkd.intervals import wilson
from tfkd.tables import Printed

if TYPE_CHECKING:
    from tfkd._typing import PathLike

SCHEMA = "tfkd.report/1"

# What the schema has of a `Latency`, under "latency_us" and beside it.
_TIMES = (
    *("median", "mean", "std", "p5", "p50", "p90", "p95", "p99", "min", "max"),
    *("runs", "ci95"),
)
_BESIDE = ("threads", "init_us", "first_us", "peak_rss_bytes")


@dataclasses.dataclass(frozen=True)
class ModelEntry:
    """One model in a report; what was not measured is `None`, never a guess.

    Attributes:
        name: Unique in the report.
        path: File name, relative to the report.
        stage: `"teacher"`, `"baseline"`, `"student"`, `"qat"` or `"export"`.
        format: `"keras"`, `"tf_keras"`, or the format of a `.tflite` file.
        bytes: Size of the file.
        gzip_bytes: Size of the file after gzip.
        weight_bytes: Bytes of constants in a `.tflite` file, of float32 weights in a model.
        parameters: Number of weights.
        macs: Multiply-accumulates for one example.
        metrics: For example `{"accuracy": 0.97}`, on the test split.
        metrics_engine: What ran it: `"keras"`, `"xnnpack"`, `"reference"` or `"tflm"`.
        parity: Agreement of a file with its model: `samples`, `argmax_agreement`,
            `max_abs_diff`, `max_lsb`, `engine`, `passed`.
        latency_us: Times of one call in microseconds, see `Latency`.
        init_us: Opening the file and allocating tensors.
        first_us: The first call.
        peak_rss_bytes: Largest resident memory of the benchmark's process.
        threads: Threads of the interpreter in the benchmark.
        ops: Operators and how often each occurs.
        integer_only: Whether no tensor of the file is floating-point.
        four_bit_weights: How many weights of the file have 4 bits.
        keeps_state: Whether the file must be reset before each new sequence.
        micro: Figures of TensorFlow Lite for Microcontrollers.
    """

    name: str
    stage: str
    format: str
    path: str | None = None
    bytes: int | None = None
    gzip_bytes: int | None = None
    weight_bytes: int | None = None
    parameters: int | None = None
    macs: int | None = None
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    metrics_engine: str | None = None
    parity: dict[str, Any] | None = None
    latency_us: dict[str, Any] | None = None
    init_us: float | None = None
    first_us: float | None = None
    peak_rss_bytes: int | None = None
    threads: int | None = None
    ops: dict[str, int] | None = None
    integer_only: bool | None = None
    four_bit_weights: int | None = None
    keeps_state: bool | None = None
    micro: dict[str, Any] | None = None

    @classmethod
    def of_file(
        cls,
        name: str,
        format: str,
        file: TFLiteModel,
        verification: Verification,
        latency: Latency | None = None,
        **more,
    ) -> ModelEntry:
        """Make the entry of a `.tflite` file from what was measured of it."""
        measured = {}
        if latency is not None:
            measured = {key: getattr(latency, key) for key in _BESIDE}
            measured["latency_us"] = {key: getattr(latency, key) for key in _TIMES}
        return cls(
            name=name,
            stage="export",
            format=format,
            bytes=file.size,
            gzip_bytes=file.gzip_size,
            weight_bytes=file.weight_bytes,
            metrics=verification.metrics,
            metrics_engine=verification.engine,
            parity={
                key: getattr(verification, key)
                for key in (
                    "samples",
                    "argmax_agreement",
                    "max_abs_diff",
                    "max_lsb",
                    "engine",
                    "passed",
                )
            },
            ops=file.ops,
            integer_only=file.integer_only,
            four_bit_weights=file.four_bit_weights,
            keeps_state=file.keeps_state,
            **measured,
            **more,
        )


@dataclasses.dataclass(frozen=True)
class Report(Printed):
    """What a run measured.

    Attributes:
        task: `"classification"`, `"multilabel"`, `"anomaly"` or `"regression"`.
        data: `{"name", "train", "validation", "test"}`, the counts of examples.
        models: One entry per model, in the order of the road.
        training: Model name → `{"val_accuracy": [...], ...}`, a value per epoch.
        settings: What was asked for, so that the run can be repeated.
        benchmark: The times of the files with their comparisons.
        teaching: What the teacher was worth, as `tfkd.distillation.worth.Worth.to_json` gives it:
            scores of the teacher and of the student with and without it, the difference and its
            interval, which student was kept, and all that in a sentence ("summary").
        verdict: What of a target and a board the main file meets: `file`, `drop` beside the
            teacher on the test part, `allowed`, `problems` (a line each) and `met`; `None` where
            it was not judged.
        front: The students that were tried, where one was looked for: `name`, `bytes`,
            `parameters`, `macs`, `arena`, `score` on the validation part after `epochs`, and
            whether it was `chosen`.
    """

    task: str
    data: dict[str, Any]
    models: tuple[ModelEntry, ...]
    training: dict[str, dict[str, list[float]]] = dataclasses.field(default_factory=dict)
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    benchmark: Benchmark | None = None
    teaching: dict[str, Any] | None = None
    verdict: dict[str, Any] | None = None
    front: list[dict[str, Any]] | None = None

    def entry(self, name: str) -> ModelEntry:
        """Return the entry of that name.

        Raises:
            KeyError: if there is none.
        """
        for model in self.models:
            if model.name == name:
                return model
        raise KeyError(name)

    def describe(self) -> str:
        """Return the table of models as text, and what the teacher was worth."""
        from rich.console import Console

        text = io.StringIO()
        print_table(self, Console(file=text, width=120))
        return text.getvalue().strip("\n")

    def to_json(self) -> dict[str, Any]:
        """Return the report in the schema `tfkd.report/1`, with versions and machine."""
        return {
            "schema": SCHEMA,
            "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "versions": machine.versions(),
            "machine": machine.describe(),
            **dataclasses.asdict(dataclasses.replace(self, benchmark=None)),
            "benchmark": None if self.benchmark is None else self.benchmark.to_json(),
        }


def write_report(report: Report, folder: PathLike) -> tuple[pathlib.Path, pathlib.Path]:
    """Write `report.json` and the self-contained page `report.html`.

    Args:
        report: What to write.
        folder: An existing folder.

    Returns:
        The paths of the two files.

    Raises:
        InputError: if the folder can't be written.
    """
    folder = pathlib.Path(folder)
    content = report.to_json()
    text = json.dumps(_plain(content), indent=2, allow_nan=False) + "\n"
    return (
        write_atomically(folder / "report.json", text.encode()),
        write_atomically(folder / "report.html", render_page(report, content).encode()),
    )


def _plain(value):
    """Return the same for JSON, which has no NaN, no infinity and nothing of NumPy's."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, (np.generic, np.ndarray)):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def write_benchmark_page(
    benchmark: Benchmark,
    path,
    scores: dict[str, float] | None = None,
    examples: int | None = None,
    metric: str = "accuracy",
) -> pathlib.Path:
    """Write a benchmark as a page of its own: one HTML file that loads nothing.

    Args:
        benchmark: What to write.
        path: The file to make; its folder exists.
        scores: Model name → score on the test split, for the pictures of the score against
            latency and size. Models without one are left out of them.
        examples: How many examples were scored; without it an accuracy has no interval.
        metric: What the scores are: `"accuracy"`, in [0, 1], or the name of an error, of which
            less is better.

    Returns:
        The path.

    Raises:
        InputError: if the file can't be written.
    """
    page = _render(
        "benchmark.html",
        content=benchmark.to_json(),
        latency=_latency_section(benchmark),
        pictures=_trade_offs_given(benchmark, scores or {}, examples, metric),
    )
    return write_atomically(path, page.encode())


def columns(report: Report) -> list[tuple[str, list[str]]]:
    """Return what the page and the terminal show of each model: (heading, cells) pairs."""
    metric = _metric(report)
    number = "{:.1%}" if metric == "accuracy" else "{:.4g}"
    models = report.models

    def agreement(model):
        parity = model.parity or {}
        if parity.get("argmax_agreement") is None:
            return "FAILED" if parity.get("passed") is False else None
        failed = " FAILED" if parity.get("passed") is False else ""
        return f"{parity['argmax_agreement']:.1%}{failed}"

    def time(model):
        timing = model.latency_us or {}
        return _with_interval(timing.get("median"), timing.get("ci95"), digits=1)

    def kilobytes(count):
        return None if count is None else f"{count / 1000:.1f}"

    def value(model):
        score = _score(model, metric)
        return None if score is None else number.format(score)

    cells = {
        "model": [model.name for model in models],
        "file, kB": [kilobytes(model.bytes) for model in models],
        "weights, kB": [kilobytes(model.weight_bytes) for model in models],
        metric: [value(model) for model in models],
        "run by": [model.metrics_engine for model in models],
        "agrees": [agreement(model) for model in models],
        "µs a call (95 %)": [time(model) for model in models],
    }
    if any(model.four_bit_weights for model in models):
        narrow = [model.four_bit_weights for model in models]
        cells["in 4 bits"] = [None if count is None else f"{count:,}" for count in narrow]
    if any(model.micro for model in models):
        arenas = [(model.micro or {}).get("arena_bytes") for model in models]
        cells["arena, kB"] = [kilobytes(arena) for arena in arenas]
    return [(heading, [cell or "–" for cell in column]) for heading, column in cells.items()]


def print_table(report: Report, console) -> None:
    """Print the table of models.

    Args:
        report: What to print.
        console: A `rich.console.Console`.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    def plain(text):
        return Text(printable(text))  # of a `str` rich reads [words] in brackets as styles

    title = f"{report.data.get('name', '–')}: {report.data.get('test', '–')} test examples"
    table = Table(title=plain(title), box=box.SIMPLE_HEAD)
    shown = [pair for pair in columns(report) if pair[0] not in ("weights, kB", "arena, kB")]
    for heading, _ in shown:
        table.add_column(heading, justify="left" if heading in ("model", "run by") else "right")
    for row in zip(*(cells for _, cells in shown), strict=True):
        table.add_row(*map(plain, row))
    console.print(table)
    if report.teaching is not None:
        console.print(plain(report.teaching.get("summary", "")))


def render_page(report: Report, content: dict[str, Any]) -> str:
    """Return the page: one HTML file that loads nothing."""
    curves = plots.training(report.training)
    return _render(
        "report.html",
        report=content,
        models=_table(columns(report)),
        pictures=_trade_offs_reported(report) + ([] if curves is None else [curves]),
        latency=None if report.benchmark is None else _latency_section(report.benchmark),
    )


def _render(template: str, **content) -> str:
    pages = environment(
        "report",
        autoescape=True,
        # Markup is what the macros wrote, with line ends of their own.
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    return pages.get_template(template).render(**content)


def _table(shown: list[tuple[str, list[str]]]) -> dict[str, Any]:
    """Return (heading, cells) pairs as the templates take a table."""
    headings, cells = zip(*shown, strict=True)
    return {"headings": headings, "rows": list(zip(*cells, strict=True))}


def _score(model: ModelEntry, metric: str) -> float | None:
    """Return a score, `None` where there is none: it was not measured, or it is NaN."""
    score = model.metrics.get(metric)
    return None if score is None or not math.isfinite(score) else score


def _metric(report: Report) -> str:
    return {"regression": "rmse", "anomaly": "auc"}.get(report.task, "accuracy")


def _with_interval(median: float | None, ci95, digits: int) -> str | None:
    if median is None:
        return None
    ends = "" if ci95 is None else f" ({ci95[0]:,.{digits}f}–{ci95[1]:,.{digits}f})"
    return f"{median:,.{digits}f}{ends}"


def _latency_section(benchmark: Benchmark) -> dict[str, Any]:
    """Return what the pages show of a benchmark."""
    against_models = [ratio for ratio in benchmark.ratios if ratio.name != ratio.baseline]
    against_themselves = [ratio for ratio in benchmark.ratios if ratio.name == ratio.baseline]
    drawn = (
        plots.call_times(benchmark.results),
        plots.ratios(against_models, "Time over that of the baseline"),
        plots.ratios(against_themselves, "Time over that of the same model in its first setting"),
    )
    return {
        "surroundings": list(_surroundings(benchmark.machine, benchmark.settings)),
        "warnings": benchmark.warnings,
        "results": _table(_result_columns(benchmark)),
        "ratios": _table(_ratio_columns(benchmark)),
        "failures": {name: str(error) for name, error in benchmark.failures.items()},
        "pictures": [picture for picture in drawn if picture is not None],
    }


def _surroundings(where: dict[str, Any], settings: dict[str, Any]) -> Iterator[str]:
    """Say where and how it was measured."""
    if where.get("cpu"):
        memory = where.get("memory_bytes")
        words = [
            where["cpu"],
            f"{where.get('cores') or 'an unknown number of'} cores",
            memory and f"{memory / (1 << 30):.0f} GiB of memory",
            where.get("system"),
            where.get("governor") and f"frequency governor {where['governor']}",
        ]
        yield "Measured on " + ", ".join(word for word in words if word) + "."
    if where.get("others") is None:
        yield "What else ran meanwhile is not known."
    else:
        stolen = where.get("stolen")
        host = f", the host of this virtual machine {stolen:g}" if stolen else ""
        yield f"Meanwhile other programs used {where['others']:g} of its cores on average{host}."
    processes = settings.get("processes")
    if processes:
        inputs = "random" if settings.get("inputs") == "random" else "the given"
        several = f"{processes} processes, one after the other," if processes > 1 else "one process"
        yield (
            f"Each model was measured in {several} on {inputs} inputs; in each process the models "
            "took turns."
        )


def _result_columns(benchmark: Benchmark) -> list[tuple[str, list[str]]]:
    results = benchmark.results

    def shown(value, unit=1.0, digits=0):
        return None if value is None else f"{value / unit:,.{digits}f}"

    def time(value):
        return shown(value, digits=plots.digits(value))

    cells = {
        "model": [one.name for one in results],
        "run by": [plots.setting(one) for one in results],
        "µs a call (95 %)": [
            _with_interval(one.median, one.ci95, plots.digits(one.median)) for one in results
        ],
        "95 % within": [time(one.p95) for one in results],
        "slowest": [time(one.max) for one in results],
        "first call": [shown(one.first_us) for one in results],
        "opening": [shown(one.init_us) for one in results],
        "calls": [shown(one.runs) for one in results],
        "file, kB": [shown(one.model_bytes, 1e3, 1) for one in results],
        "memory, MiB": [shown(one.peak_rss_bytes, 1 << 20) for one in results],
        "GMAC per s": [shown(one.macs_per_second, 1e9, 1) for one in results],
    }
    return [(heading, [cell or "–" for cell in column]) for heading, column in cells.items()]


def _ratio_columns(benchmark: Benchmark) -> list[tuple[str, list[str]]]:
    compared = benchmark.ratios
    return [
        ("model", [one.name for one in compared]),
        ("run by", [plots.setting(one) for one in compared]),
        ("time over that of", [one.against for one in compared]),
        (
            "ratio (95 %)",
            [f"{one.ratio:.3f} ({one.ci95[0]:.3f}–{one.ci95[1]:.3f})" for one in compared],
        ),
        ("verdict", [one.verdict for one in compared]),
    ]


def _trade_offs_reported(report: Report) -> list[Picture]:
    """Draw the test score of each file against its size and its latency."""
    metric = _metric(report)
    files = [model for model in report.models if model.stage == "export"]
    scored = [model for model in files if _score(model, metric) is not None]

    def point(model, cost, interval=None):
        score = model.metrics[metric]
        return Point(
            model.name, cost, score, interval, _interval(metric, score, report.data.get("test"))
        )

    sizes = [point(model, model.bytes / 1000) for model in scored if model.bytes]
    times = [
        point(model, model.latency_us["median"], model.latency_us.get("ci95"))
        for model in scored
        if model.latency_us and model.latency_us.get("median")
    ]
    return _trade_offs(metric, sizes, times, "time of one call, µs")


def _trade_offs_given(benchmark, scores, examples, metric) -> list[Picture]:
    """Draw given scores against what was measured."""
    axis, results = plots.comparable(benchmark.results)
    several = len({one.setting for one in results}) > 1
    sizes, times = {}, []
    for one in results:
        if one.name not in scores:
            continue
        score = scores[one.name]
        interval = _interval(metric, score, examples)
        if one.model_bytes:
            sizes[one.name] = Point(one.name, one.model_bytes / 1000, score, None, interval)
        if one.median:
            note = plots.setting(one) if several else ""
            times.append(Point(one.name, one.median, score, one.ci95, interval, note))
    return _trade_offs(metric, list(sizes.values()), times, axis)


def _trade_offs(metric, sizes, times, axis) -> list[Picture]:
    drawn = (
        plots.trade_off(sizes, metric, "size", "size, kB"),
        plots.trade_off(times, metric, "latency", axis),
    )
    return [picture for picture in drawn if picture is not None]


def _interval(metric: str, score: float, examples: int | None) -> tuple[float, float] | None:
    return wilson(score, examples) if metric == "accuracy" and examples else None
