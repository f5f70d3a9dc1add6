"""The evidence beside the files: report.json, a page with pictures, a terminal table."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import importlib.metadata
import io
import json
import math
import os
import pathlib
import platform
from typing import Any

from tfkd.files import write_atomically

from .artifact import TFLiteModel
from .latency import Latency
from .verification import Verification

SCHEMA = "tfkd.report/1"

_PACKAGES = (
    "tfkd",
    "tensorflow",
    "keras",
    "tf_keras",
    "tensorflow-model-optimization",
    "ai-edge-litert",
    "numpy",
)


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
            timing = dataclasses.asdict(latency)
            for key in ("name", "engine", "round_medians"):
                timing.pop(key)
            measured = {
                key: timing.pop(key) for key in ("threads", "init_us", "first_us", "peak_rss_bytes")
            }
            measured["latency_us"] = timing
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
            keeps_state=file.keeps_state,
            **measured,
            **more,
        )


@dataclasses.dataclass(frozen=True)
class Report:
    """What a run measured.

    Attributes:
        task: `"classification"` or `"regression"`.
        data: `{"name", "train", "validation", "test"}`, the counts of examples.
        models: One entry per model, in the order of the road.
        training: Model name → `{"val_accuracy": [...], ...}`, a value per epoch.
        settings: What was asked for, so that the run can be repeated.
    """

    task: str
    data: dict[str, Any]
    models: tuple[ModelEntry, ...]
    training: dict[str, dict[str, list[float]]] = dataclasses.field(default_factory=dict)
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)

    def entry(self, name: str) -> ModelEntry:
        """Return the entry of that name.

        Raises:
            KeyError: if there is none.
        """
        for model in self.models:
            if model.name == name:
                return model
        raise KeyError(name)

    def to_json(self) -> dict[str, Any]:
        """Return the report in the schema `tfkd.report/1`, with versions and machine."""
        return {
            "schema": SCHEMA,
            "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "versions": _versions(),
            "machine": machine(),
            **dataclasses.asdict(self),
        }


def write_report(report: Report, folder) -> tuple[pathlib.Path, pathlib.Path]:
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
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    return (
        write_atomically(folder / "report.json", text.encode()),
        write_atomically(folder / "report.html", render_page(report, content).encode()),
    )


def machine() -> dict[str, Any]:
    """Describe this machine: processor, cores, memory, system, load."""
    cpu = platform.processor() or platform.machine()
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                cpu = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load": [round(value, 2) for value in os.getloadavg()]
        if hasattr(os, "getloadavg")
        else None,
    }


def _versions() -> dict[str, str | None]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return versions


def wilson(share: float, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share seen in `count` trials (Wilson 1927)."""
    z = 1.959964
    centre = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return (centre - spread) / scale, (centre + spread) / scale


def columns(report: Report) -> list[tuple[str, list[str]]]:
    """Return what the page and the terminal show of each model: (heading, cells) pairs."""
    metric = "accuracy" if report.task == "classification" else "rmse"
    number = "{:.1%}" if metric == "accuracy" else "{:.4g}"
    models = report.models

    def agreement(model):
        parity = model.parity or {}
        if parity.get("argmax_agreement") is None:
            return None if not parity or parity["passed"] else "FAILED"
        return f"{parity['argmax_agreement']:.1%}" + ("" if parity["passed"] else " FAILED")

    def time(model):
        timing = model.latency_us
        return timing and "{:.1f} ({:.1f}–{:.1f})".format(timing["median"], *timing["ci95"])

    def kilobytes(count):
        return None if count is None else f"{count / 1000:.1f}"

    def value(model):
        return number.format(model.metrics[metric]) if metric in model.metrics else None

    cells = {
        "model": [model.name for model in models],
        "file, kB": [kilobytes(model.bytes) for model in models],
        "weights, kB": [kilobytes(model.weight_bytes) for model in models],
        metric: [value(model) for model in models],
        "run by": [model.metrics_engine for model in models],
        "agrees": [agreement(model) for model in models],
        "µs a call (95 %)": [time(model) for model in models],
    }
    return [(heading, [cell or "–" for cell in column]) for heading, column in cells.items()]


def print_table(report: Report, console) -> None:
    """Print the table of models.

    Args:
        report: What to print.
        console: A `rich.console.Console`.
    """
    from rich import box
    from rich.table import Table

    table = Table(
        title=f"{report.data['name']}: {report.data['test']} test examples", box=box.SIMPLE_HEAD
    )
    shown = [pair for pair in columns(report) if pair[0] != "weights, kB"]
    for heading, _ in shown:
        table.add_column(heading, justify="left" if heading in ("model", "run by") else "right")
    for row in zip(*(cells for _, cells in shown), strict=True):
        table.add_row(*row)
    console.print(table)


def render_page(report: Report, content: dict[str, Any]) -> str:
    """Return the page: one HTML file that loads nothing."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tfkd.export", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    headings, cells = zip(*columns(report), strict=True)
    return environment.get_template("report.html").render(
        report=content,
        headings=headings,
        rows=list(zip(*cells, strict=True)),
        pictures=_pictures(report),
    )


def _pictures(report: Report) -> list[dict[str, str]]:
    """Draw what there is data for."""
    drawn = (
        (
            "Accuracy against size",
            "Test accuracy of each file with its 95 % interval (Wilson), against its size.",
            _draw_accuracy,
        ),
        (
            "Latency",
            "Median of one call with its 95 % interval (thick) and the 5th to 95th percentile "
            "(thin), on the machine named below; not a phone's or a microcontroller's.",
            _draw_latency,
        ),
        (
            "Training",
            "Accuracy on the validation split after each epoch; the last epoch is reported.",
            _draw_training,
        ),
    )
    pictures = []
    for title, caption, draw in drawn:
        source = draw(report)
        if source is not None:
            pictures.append({"title": title, "caption": caption, "source": source})
    return pictures


_COLOURS = ("#0b6e99", "#c2571a", "#3c7a3b", "#7b3f98", "#8c6d1f", "#9c2a4a")


def _figure():
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 3.4), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _source(figure) -> str:
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "tfkd"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def _draw_accuracy(report: Report) -> str | None:
    models = [m for m in report.models if m.stage == "export" and "accuracy" in m.metrics]
    if not models:
        return None
    figure, axes = _figure()
    for model, colour in zip(models, _COLOURS * 9, strict=False):
        value = model.metrics["accuracy"]
        low, high = wilson(value, report.data["test"])
        axes.errorbar(
            model.bytes / 1000,
            value,
            yerr=[[max(0.0, value - low)], [max(0.0, high - value)]],
            fmt="o",
            color=colour,
            capsize=3,
            label=model.name,
        )
    axes.set_xscale("log")
    sizes = [model.bytes / 1000 for model in models]
    axes.set_xlim(min(sizes) / 1.6, max(sizes) * 1.6)
    axes.set_xticks(sizes, [f"{size:.0f}" for size in sizes])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.1%}" if value <= 1 else "")
    axes.set_xlabel("file size, kB")
    axes.set_ylabel("test accuracy")
    figure.legend(loc="outside upper center", ncols=2, fontsize=9, frameon=False)
    return _source(figure)


def _draw_latency(report: Report) -> str | None:
    models = [m for m in report.models if m.latency_us is not None][::-1]
    if not models:
        return None
    figure, axes = _figure()
    for row, model in enumerate(models):
        timing = model.latency_us
        axes.plot([timing["p5"], timing["p95"]], [row, row], color=_COLOURS[0], linewidth=1.2)
        axes.plot(
            timing["ci95"],
            [row, row],
            color=_COLOURS[0],
            linewidth=6,
            alpha=0.45,
            solid_capstyle="butt",
        )
        axes.plot(timing["median"], row, "o", color=_COLOURS[0], markersize=5)
        axes.annotate(
            f"{timing['median']:.1f} µs",
            (timing["median"], row),
            (0, 8),
            textcoords="offset points",
            ha="center",
            fontsize=9,
        )
    axes.set_yticks(range(len(models)), [model.name for model in models])
    axes.set_ylim(-0.5, len(models) - 0.3)
    axes.set_xlim(0, max(m.latency_us["p95"] for m in models) * 1.15)
    axes.set_xlabel("time of one call, µs")
    return _source(figure)


def _draw_training(report: Report) -> str | None:
    curves = {
        name: history["val_accuracy"]
        for name, history in report.training.items()
        if history.get("val_accuracy")
    }
    if not curves:
        return None
    figure, axes = _figure()
    for (name, values), colour in zip(curves.items(), _COLOURS * 9, strict=False):
        axes.plot(range(1, len(values) + 1), values, color=colour, label=name, linewidth=1.5)
    # The first epochs of a fresh model are far below what is worth telling apart.
    axes.set_ylim(bottom=max(0.0, min(max(v) for v in curves.values()) - 0.2))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}" if value <= 1 else "")
    axes.set_xlabel("epoch")
    axes.set_ylabel("validation accuracy")
    axes.legend(fontsize=9, frameon=False)
    return _source(figure)
