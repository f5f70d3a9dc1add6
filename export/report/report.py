"""The evidence beside the files: report.json, a page with pictures, a terminal table."""

from __future__ import annotations

import dataclasses
import datetime
import io
import json
import math
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np

from tfkd.escaping import printable
from tfkd.export.latency.results import Benchmark
from tfkd.export.micro.boards import Board
from tfkd.export.report import sections
from tfkd.export.report.answer import Answer, answer_of
from tfkd.export.report.benchmark_page import (
    Table,
    latency_section,
    render,
    score_interval,
    trade_offs,
    with_interval,
)
from tfkd.export.report.entries import Front, ModelEntry
from tfkd.export.report.plots import Point
from tfkd.export.report.predictions import METRICS, Predictions
from tfkd.export.report.svg import Picture
from tfkd.export.runtime import host as machine
from tfkd.files import write_atomically
from tfkd.tables import Printed

if TYPE_CHECKING:
    from tfkd._typing import PathLike

SCHEMA = "tfkd.report/1"
# The least error of a teacher that another is divided by.
_TINY = 1e-100


@dataclasses.dataclass(frozen=True)
class Report(Printed):
    """The measurements of a run.

    Attributes:
        task: `"classification"`, `"multilabel"`, `"anomaly"` or `"regression"`; for several
            outputs a dict by name.
        data: `{"name", "train", "validation", "test", "class_names"}`, the counts of examples
            and a name per class, if there are classes (for several outputs a dict of them).
        models: One entry per model, in the order of the stages.
        training: Model name → `{"val_accuracy": [...], ...}`, a value per epoch.
        settings: The settings of the run, so that it can be repeated.
        benchmark: The times of the files with their comparisons.
        teaching: The worth of the teacher, as from `tfkd.distillation.worth.Worth.to_json`:
            scores of the teacher and of the student with and without it, the difference and its
            interval, the student that was kept, and a sentence about all of these ("summary").
        predictions: The answers of the report's main file, beside the teacher's; for several
            outputs a dict by name.
        front: The students that a search tried.
        board: A name in `tfkd.export.micro.boards.BOARDS`, or a `Board`: the page says whether the
            file fits.
        commands: The commands, or calls in Python, that made all this.
        verdict: Whether the main file meets a target and a board: `file`, `drop` beside the
            teacher on the test part, `allowed`, `problems` (a line each) and `met`; `None` if
            it was not judged.
        rounding: The worth of quantization-aware training, in the form of `teaching`: scores with
            and without it, the student that was kept, and a sentence.
    """

    task: str | dict[str, str]
    data: dict[str, Any]
    models: tuple[ModelEntry, ...]
    training: dict[str, dict[str, list[float]]] = dataclasses.field(default_factory=dict)
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    benchmark: Benchmark | None = None
    teaching: dict[str, Any] | None = None
    predictions: Predictions | dict[str, Predictions] | None = None
    front: Front | None = None
    board: str | Board | None = None
    commands: tuple[str, ...] = ()
    verdict: dict[str, Any] | None = None
    rounding: dict[str, Any] | None = None

    @property
    def answer(self) -> Answer | None:
        """The figures of the page's first line; `None` without `predictions`."""
        if not self.predictions:
            return None
        where = machine.describe() if self.benchmark is None else self.benchmark.machine
        output, found = None, self.predictions
        if isinstance(found, dict):
            judged = (self.verdict or {}).get("output")
            output = judged or max(found, key=lambda name: _drop(found[name]))
            name = next(iter(found.values())).name
            found = found.get(output)
            output = None if found is None else output
        else:
            name = found.name
        return answer_of(self.models, name, found, self.teaching, where, self.board, output)

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
        """Return the table of models, the answer, and the worth of teacher and rounding as text."""
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
            **dataclasses.asdict(
                dataclasses.replace(self, benchmark=None, predictions=None, board=None)
            ),
            "board": self.board.to_json() if isinstance(self.board, Board) else self.board,
            "benchmark": None if self.benchmark is None else self.benchmark.to_json(),
            "predictions": _as_json(self.predictions),
            "answer": None if self.answer is None else self.answer.to_json(),
        }


def write_report(report: Report, folder: PathLike) -> tuple[pathlib.Path, pathlib.Path]:
    """Write `report.json` and the self-contained page `report.html`.

    Args:
        report: The report to write.
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


def _drop(found: Predictions) -> float:
    """Return how much worse than the teacher's an output is, as a verdict compares outputs."""
    if found.metric == "accuracy":
        return -found.difference
    return found.difference / max(found.against_score, _TINY)


def _as_json(found: Predictions | dict[str, Predictions] | None) -> dict[str, Any] | None:
    if isinstance(found, dict):
        return {output: one.to_json() for output, one in found.items()}
    return None if found is None else found.to_json()


def _plain(value):
    """Return a value for JSON, which has no NaN, no infinity and no NumPy types."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, (np.generic, np.ndarray)):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def columns(report: Report) -> list[tuple[str, list[str]]]:
    """Return the table of models, for page and terminal, as (heading, cells) pairs."""
    models = report.models

    def agreement(model):
        parity = model.parity or {}
        if parity.get("argmax_agreement") is None:
            return "FAILED" if parity.get("passed") is False else None
        failed = " FAILED" if parity.get("passed") is False else ""
        return f"{parity['argmax_agreement']:.1%}{failed}"

    def time(model):
        timing = model.latency_us or {}
        return with_interval(timing.get("median"), timing.get("ci95"), digits=1)

    def kilobytes(count):
        return None if count is None else f"{count / 1000:.1f}"

    def values(metric):
        number = "{:.1%}" if metric.endswith("accuracy") else "{:.4g}"
        scores = [_score(model, metric) for model in models]
        return [None if score is None else number.format(score) for score in scores]

    cells = {
        "model": [model.name for model in models],
        # A .keras file may contain the optimizer's state, so its size is not that of the model.
        "file, kB": [kilobytes(m.bytes) if m.stage == "export" else None for m in models],
        "weights, kB": [kilobytes(model.weight_bytes) for model in models],
        **{heading: values(metric) for heading, metric in _metrics(report).items()},
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
    """Print the table of models, the answer, and the worth of the teacher and of rounding.

    Args:
        report: The report to print.
        console: A `rich.console.Console`.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    def plain(text):
        return Text(printable(text))  # rich reads [words] in brackets in a `str` as styles

    title = f"{report.data.get('name', '–')}: {report.data.get('test', '–')} test examples"
    table = Table(title=plain(title), box=box.SIMPLE_HEAD)
    shown = [pair for pair in columns(report) if pair[0] not in ("weights, kB", "arena, kB")]
    for heading, _ in shown:
        table.add_column(heading, justify="left" if heading in ("model", "run by") else "right")
    for row in zip(*(cells for _, cells in shown), strict=True):
        table.add_row(*map(plain, row))
    console.print(table)
    if report.answer is not None:
        console.print(plain(report.answer.sentence()))
    for decision in (report.teaching, report.rounding):
        if decision is not None:
            console.print(plain(decision.get("summary", "")))


def render_page(report: Report, content: dict[str, Any]) -> str:
    """Return the page: one HTML file that loads nothing.

    Args:
        report: The report to show.
        content: The report as from `to_json`.
    """
    joined = {m.name: m.made_from for m in report.models if m.made_from and m.stage != "export"}
    answer = report.answer
    models = report.models
    answers = sections.answers(report.predictions)
    of_answer = [one for one in answers if answer and one["output"] == answer.output]
    return render(
        "report.html",
        report=content,
        answer=answer,
        models=Table.of("Scores, sizes and times", [(h, _known(c)) for h, c in columns(report)]),
        has_baseline=any(model.name == "baseline" for model in models),
        front=sections.front(report.front),
        pictures=[
            picture
            for heading, key in _metrics(report).items()
            for picture in _trade_offs(report, heading, key)
        ],
        answers=answers,
        interval=of_answer[0]["interval"] if of_answer else None,
        layers=sections.layers(models),
        training=sections.training(report.training, joined, report.task),
        architectures=sections.architectures(models),
        micro=sections.micro(models, report.board),
        latency=None if report.benchmark is None else latency_section(report.benchmark),
        operators=sections.operators(models),
        notes=sections.notes(models),
        files=sections.files(models),
        commands=sections.commands(models, report.commands),
    )


def _known(cells: list[str]) -> list[str | None]:
    return [None if cell == "–" else cell for cell in cells]


def _score(model: ModelEntry, metric: str) -> float | None:
    """Return a score; `None` if it was not measured or is NaN."""
    score = model.metrics.get(metric)
    return None if score is None or not math.isfinite(score) else score


def _metrics(report: Report) -> dict[str, str]:
    """Return the metrics of a report: heading → key in the metrics of its entries."""
    if not isinstance(report.task, dict):
        metric = METRICS.get(report.task, "accuracy")
        return {metric: metric}
    found = {output: METRICS.get(task, "accuracy") for output, task in report.task.items()}
    return {f"{output} {metric}": f"{output}.{metric}" for output, metric in found.items()}


def _trade_offs(report: Report, heading: str, key: str) -> list[Picture]:
    """Draw a test score of each file against its size and its latency."""
    metric = key.rsplit(".", 1)[-1]
    files = [model for model in report.models if model.stage == "export"]
    scored = [model for model in files if _score(model, key) is not None]

    def point(model, cost, interval=None):
        score = model.metrics[key]
        sure = score_interval(metric, score, report.data.get("test"))
        return Point(model.name, cost, score, interval, sure)

    sizes = [point(model, model.bytes / 1000) for model in scored if model.bytes]
    times = [
        point(model, model.latency_us["median"], model.latency_us.get("ci95"))
        for model in scored
        if model.latency_us and model.latency_us.get("median")
    ]
    return trade_offs(heading, sizes, times, "time of one call, µs")
