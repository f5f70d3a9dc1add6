"""A benchmark as a page, and the parts of every page: tables, sections, the templates."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tfkd.escaping import printable
from tfkd.export.latency.results import Benchmark
from tfkd.export.report import plots
from tfkd.export.report.plots import Point
from tfkd.export.report.svg import Picture
from tfkd.export.templating import environment
from tfkd.files import write_atomically
from tfkd.intervals import wilson

if TYPE_CHECKING:
    from markupsafe import Markup

    from tfkd._typing import PathLike

# A word of up to this many letters is not broken; a run of letters without a place to break is
# broken after this many.
_SHORT, _UNBROKEN = 20, 24


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        caption: The table's subject, for a heading that moves with it.
        headings: Headings of the columns.
        rows: Rows of cells, as many as headings; the first cell names the row.
        is_numbers: Whether the cells after the first are numbers, aligned at the right.
    """

    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    is_numbers: bool = True

    @classmethod
    def of(cls, caption: str, columns: Sequence[tuple[str, Sequence[str | None]]], **more) -> Table:
        """Make a table from (heading, cells) pairs, without the columns that have no cell."""
        shown = [(heading, cells) for heading, cells in columns if any(cells)]
        rows = zip(*([cell or "–" for cell in cells] for _, cells in shown), strict=True)
        return cls(caption, [heading for heading, _ in shown], list(rows), **more)


def write_benchmark_page(
    benchmark: Benchmark,
    path: PathLike,
    scores: dict[str, float] | None = None,
    examples: int | None = None,
    metric: str = "accuracy",
) -> pathlib.Path:
    """Write a benchmark as a page of its own: one HTML file that loads nothing.

    Args:
        benchmark: What to write.
        path: The file to make; its folder exists.
        scores: Model name → score on the test split, for the pictures of the score against
            latency and size. Models without a score are left out of the pictures.
        examples: Number of examples that were scored; without it an accuracy has no interval.
        metric: The metric of the scores, such as `"accuracy"`, in [0, 1]; for others see
            `tfkd.model.metrics.less_is_better`.

    Returns:
        The path.

    Raises:
        InputError: if the file can't be written.
    """
    page = render(
        "benchmark.html",
        content=benchmark.to_json(),
        latency=latency_section(benchmark),
        pictures=_trade_offs_given(benchmark, scores or {}, examples, metric),
    )
    return write_atomically(path, page.encode())


def render(template: str, **content: Any) -> str:
    """Return a page made from a template of `templates/`."""
    pages = environment(
        "report",
        autoescape=True,
        # The macros' text is Markup, with its own line ends.
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    pages.filters["breakable"] = breakable
    return pages.get_template(template).render(**content)


def breakable(text: str) -> Markup:
    """Return a text as markup whose long words break after `_`, `/`, `-` and `.` if they must."""
    from markupsafe import Markup, escape

    pieces = []
    for word in re.split(r"(?<= )", printable(str(text))):
        parts = [word]
        if len(word) > _SHORT:
            parts = re.findall(r"[^_/.\-]*[_/.\-]+|[^_/.\-]+", word)
        parts = [
            part[at : at + _UNBROKEN] for part in parts for at in range(0, len(part), _UNBROKEN)
        ]
        pieces.append(Markup("<wbr>").join(escape(part) for part in parts))
    return Markup("").join(pieces)


def with_interval(median: float | None, ci95: Sequence[float] | None, digits: int) -> str | None:
    """Return a time and its interval with a number of digits; `None` stays `None`."""
    if median is None:
        return None
    ends = "" if ci95 is None else f" ({ci95[0]:,.{digits}f}–{ci95[1]:,.{digits}f})"
    return f"{median:,.{digits}f}{ends}"


def latency_section(benchmark: Benchmark) -> dict[str, Any]:
    """Return the section of a page about a benchmark."""
    against_models = [ratio for ratio in benchmark.ratios if ratio.name != ratio.baseline]
    against_themselves = [ratio for ratio in benchmark.ratios if ratio.name == ratio.baseline]
    drawn = (
        plots.call_times(benchmark.results),
        plots.ratios(against_models, _over(against_models)),
        plots.ratios(against_themselves, "Time over that of the same model in its first setting"),
    )
    return {
        "surroundings": list(_surroundings(benchmark.machine, benchmark.settings)),
        "warnings": benchmark.warnings,
        "results": Table.of("Times of each file", _result_columns(benchmark)),
        "ratios": Table.of("How fast, one beside the other", _ratio_columns(benchmark)),
        "failures": {name: str(error) for name, error in benchmark.failures.items()},
        "pictures": [picture for picture in drawn if picture is not None],
    }


def _over(compared) -> str:
    names = {ratio.against for ratio in compared}
    return f"Time over that of {names.pop()}" if len(names) == 1 else "Time over that of another"


def _surroundings(where: dict[str, Any], settings: dict[str, Any]) -> Iterator[str]:
    """Describe the machine and the settings of the measurement."""
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
            with_interval(one.median, one.ci95, plots.digits(one.median)) for one in results
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
    return list(cells.items())


def _ratio_columns(benchmark: Benchmark) -> list[tuple[str, list[str]]]:
    compared = benchmark.ratios
    return [
        ("model", [one.name for one in compared]),
        ("run by", [plots.setting(one) for one in compared]),
        ("time over that of", [one.against for one in compared]),
        (
            "share (95 %)",
            [f"{one.ratio:.3f} ({one.ci95[0]:.3f}–{one.ci95[1]:.3f})" for one in compared],
        ),
        ("in words", [one.in_words for one in compared]),
    ]


def _trade_offs_given(benchmark, scores, examples, metric) -> list[Picture]:
    """Draw given scores against the measured times and sizes."""
    axis, results = plots.comparable(benchmark.results)
    several = len({one.setting for one in results}) > 1
    sizes, times = {}, []
    for one in results:
        if one.name not in scores:
            continue
        score = scores[one.name]
        interval = score_interval(metric, score, examples)
        if one.model_bytes:
            sizes[one.name] = Point(one.name, one.model_bytes / 1000, score, None, interval)
        if one.median:
            note = plots.setting(one) if several else ""
            times.append(Point(one.name, one.median, score, one.ci95, interval, note))
    return trade_offs(metric, list(sizes.values()), times, axis)


def trade_offs(
    metric: str, sizes: Sequence[Point], times: Sequence[Point], axis: str
) -> list[Picture]:
    """Draw a score against size and against time, if there is something to draw."""
    drawn = (
        plots.trade_off(sizes, metric, "size", "size, kB"),
        plots.trade_off(times, metric, "latency", axis),
    )
    return [picture for picture in drawn if picture is not None]


def score_interval(metric: str, score: float, examples: int | None) -> tuple[float, float] | None:
    """Return the 95 % interval of an accuracy; `None` for other metrics."""
    return wilson(score, examples) if metric == "accuracy" and examples else None
