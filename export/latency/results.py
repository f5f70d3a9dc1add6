"""The results of `benchmark`: times with their uncertainty, comparisons, and the machine."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import io
from collections.abc import Iterator
from typing import Any

from tfkd.errors import TfkdError
from tfkd.escaping import printable
from tfkd.tables import Printed, aligned

SCHEMA = "tfkd.benchmark/1"

# Two runs of one file may differ by this much (measured, see docs/results/latency.md).
_SAME = 0.01


@dataclasses.dataclass(frozen=True)
class Latency:
    """Measured times of one model in one setting; all times in microseconds.

    A figure that was not measured is `None`: a phone's tool gives no interval and fewer
    percentiles.

    Attributes:
        name: As given to `benchmark`.
        engine: What ran it: `"xnnpack"` or `"reference"`, `"keras"` for a Keras model (its
            forward pass as a TensorFlow graph), on a phone `"xnnpack"`, `"builtin"` or `"gpu"`.
        threads: Threads of the interpreter.
        batch: Examples a call.
        runs: Timed calls.
        median: Median of all calls, with `ci95`.
        mean: Arithmetic mean.
        std: Standard deviation of single calls.
        min: Fastest call.
        max: Slowest call.
        p5: 5th percentile; `p50`, `p90`, `p95`, `p99` likewise.
        ci95: Lower and upper end of the median's 95 % interval, see `statistics`.
        init_us: Opening the file and allocating tensors; the median over processes.
        first_us: The first call, before caches and threads are warm; the median over processes.
        warm_up_us: Mean of the calls before the timed ones.
        warm_up_runs: Number of calls before the timed ones.
        processes: Number of processes, one after the other, that measured the model.
        settled: Whether the level had settled when the clock was started.
        model_bytes: Size of the file, of a Keras model's weights.
        four_bit_weights: How many of the file's weights have 4 bits.
        macs: Multiply-accumulates of one call, `None` where unknown.
        init_footprint_bytes: Memory that opening took.
        overall_footprint_bytes: Memory taken until the end.
        peak_rss_bytes: Largest resident memory of a process that ran only this model, the
            Python interpreter included.
        quantiles: 0th, 1st, ..., 100th percentile.
        round_medians: Median of each turn, process by process, in the order measured.
    """

    name: str
    engine: str
    threads: int
    batch: int
    runs: int
    median: float | None
    mean: float | None
    std: float | None
    min: float | None
    max: float | None
    p5: float | None = None
    p50: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None
    ci95: tuple[float, float] | None = None
    init_us: float | None = None
    first_us: float | None = None
    warm_up_us: float | None = None
    warm_up_runs: int | None = None
    processes: int = 1
    settled: bool | None = None
    model_bytes: int | None = None
    four_bit_weights: int = 0
    macs: int | None = None
    init_footprint_bytes: int | None = None
    overall_footprint_bytes: int | None = None
    peak_rss_bytes: int | None = None
    quantiles: tuple[float, ...] | None = dataclasses.field(default=None, repr=False)
    round_medians: tuple[float, ...] = dataclasses.field(default=(), repr=False)

    @property
    def setting(self) -> tuple[str, int, int]:
        """The engine, threads and batch."""
        return self.engine, self.threads, self.batch

    @property
    def label(self) -> str:
        """Name and setting in words."""
        return f"{self.name} ({_setting(self)})"

    @property
    def macs_per_second(self) -> float | None:
        """Multiply-accumulates achieved, from the median."""
        if self.macs is None or not self.median:
            return None
        return self.macs / self.median * 1e6

    def to_json(self) -> dict[str, Any]:
        """Return plain values: ours, and those of LiteRT's BenchmarkResult under its names."""

        def scaled(value, unit):
            return None if value is None else value / unit

        own = dataclasses.asdict(self)
        times = (
            *("median", "mean", "std", "min", "max", "p5", "p50", "p90", "p95", "p99"),
            *("runs", "ci95", "quantiles", "round_medians"),
        )
        latency = {key: own.pop(key) for key in times}
        milliseconds = {
            "init_ms": self.init_us,
            "first_inference_ms": self.first_us,
            "average_warm_up_ms": self.warm_up_us,
            "avg_ms": self.mean,
            "min_ms": self.min,
            "max_ms": self.max,
            "stddev_ms": self.std,
            "median_ms": self.median,
            "p5_ms": self.p5,
            "p95_ms": self.p95,
        }
        return {
            **own,
            "latency_us": latency,
            "macs_per_second": self.macs_per_second,
            # tflite/tools/benchmark/proto/benchmark_result.proto of LiteRT
            "latency_metrics": {name: scaled(us, 1e3) for name, us in milliseconds.items()},
            "memory_metrics": {
                "init_footprint_kb": scaled(self.init_footprint_bytes, 1024),
                "overall_footprint_kb": scaled(self.overall_footprint_bytes, 1024),
                "peak_mem_mb": scaled(self.peak_rss_bytes, 1024 * 1024),
            },
            "misc_metrics": {
                "model_size_mb": scaled(self.model_bytes, 1e6),
                "num_runs": self.runs,
                "num_warmup_runs": self.warm_up_runs,
            },
        }


@dataclasses.dataclass(frozen=True)
class Ratio:
    """The time of one model in units of another's; batches are compared by the example.

    Attributes:
        name: The model's name.
        engine: What ran it; `threads` and `batch` likewise.
        threads: Threads of the interpreter.
        batch: Examples a call.
        baseline: Name of the model that it is compared with.
        against: The baseline in words: its name, or the part of its setting that differs.
        ratio: Time over the baseline's time: the median over neighbouring turns, which a drift of
            the machine does not affect. It may differ a little from the ratio of the medians.
        ci95: Its 95 % interval.
    """

    name: str
    engine: str
    threads: int
    batch: int
    baseline: str
    against: str
    ratio: float
    ci95: tuple[float, float]

    @property
    def verdict(self) -> str:
        """`"faster"`, `"slower"`, or `"no difference seen"`.

        `"no difference seen"` if the interval holds 1, or the ratio is within 1 % of 1.
        """
        low, high = self.ci95
        if low <= 1.0 <= high or abs(self.ratio - 1.0) < _SAME:
            return "no difference seen"
        return "faster" if self.ratio < 1.0 else "slower"

    @property
    def in_words(self) -> str:
        """How fast it is in units of the other, such as `"13.9× as fast"`, `"1.3× as long"`."""
        if self.verdict == "no difference seen":
            return self.verdict
        times, what = (1 / self.ratio, "fast") if self.ratio < 1 else (self.ratio, "long")
        return f"{times:,.0f}× as {what}" if times >= 100 else f"{times:.3g}× as {what}"

    def to_json(self) -> dict[str, Any]:
        """Return plain values, the verdict among them."""
        return {**dataclasses.asdict(self), "verdict": self.verdict}


@dataclasses.dataclass(frozen=True)
class Benchmark(Printed):
    """The results of one run; as a sequence, those that could be measured.

    Attributes:
        results: One `Latency` per model and setting, in the order given.
        ratios: Comparisons with the baseline.
        failures: Name of each model that could not be measured, with the setting if there are
            several → the error.
        machine: The machine, see `host.describe`, and what else ran on it meanwhile.
        versions: Versions of the packages.
        settings: The settings of the measurement.
        warnings: Reasons not to rely on the results.

    Example:
        >>> result = benchmark({"a": "a.tflite", "b": "b.tflite"})  # doctest: +SKIP
        >>> print(result.describe())  # doctest: +SKIP
        >>> result["b"].median, result.ratios[0].verdict  # doctest: +SKIP
    """

    results: tuple[Latency, ...]
    ratios: tuple[Ratio, ...] = ()
    failures: dict[str, TfkdError] = dataclasses.field(default_factory=dict)
    machine: dict[str, Any] = dataclasses.field(default_factory=dict)
    versions: dict[str, str | None] = dataclasses.field(default_factory=dict)
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[Latency]:
        return iter(self.results)

    def __getitem__(self, key) -> Latency:
        """Return a result by position or by name; the first, if there are several settings.

        Raises:
            TfkdError: if the model could not be measured; this is the model's error.
            KeyError: if there is no result of that name.
        """
        if not isinstance(key, str):
            return self.results[key]
        for result in self.results:
            if result.name == key:
                return result
        for name, error in self.failures.items():
            if name == key or name.startswith(f"{key} ("):
                raise error
        raise KeyError(key)

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values, in the schema `tfkd.benchmark/1`."""
        return {
            "schema": SCHEMA,
            "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "versions": self.versions,
            "machine": self.machine,
            "settings": self.settings,
            "warnings": list(self.warnings),
            "results": [result.to_json() for result in self.results],
            "ratios": [ratio.to_json() for ratio in self.ratios],
            "failures": {name: str(error) for name, error in self.failures.items()},
        }

    def to_csv(self) -> str:
        """Return a table with a line per result; milliseconds, by LiteRT's names."""
        rows = []
        for result in self.results:
            told = result.to_json()
            row = {name: told[name] for name in ("name", "engine", "threads", "batch", "macs")}
            for group in ("latency_metrics", "memory_metrics", "misc_metrics"):
                row.update(told[group])
            low, high = (None, None) if result.ci95 is None else result.ci95
            row["median_ci95_low_ms"] = None if low is None else low / 1e3
            row["median_ci95_high_ms"] = None if high is None else high / 1e3
            ratio = next(iter(self.ratios_of(result)), None)
            row["baseline"] = ratio and ratio.against
            row["ratio"] = ratio and ratio.ratio
            row["ratio_ci95_low"], row["ratio_ci95_high"] = ratio.ci95 if ratio else (None, None)
            row["verdict"] = ratio and ratio.verdict
            rows.append(row)
        out = io.StringIO()
        writer = csv.DictWriter(out, list(rows[0]) if rows else ["name"], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: printable(v) if isinstance(v, str) else v for k, v in row.items()})
        return out.getvalue()

    def ratios_of(self, result: Latency) -> list[Ratio]:
        """Return the comparisons of one result."""
        return [
            ratio
            for ratio in self.ratios
            if (ratio.name, ratio.engine, ratio.threads, ratio.batch)
            == (result.name, *result.setting)
        ]

    def describe(self) -> str:
        """Return tables of the times and the comparisons, the machine, and the warnings."""
        lines = [_table(self._rows(), left=2)] if self.results else []
        if self.ratios:
            rows = [("", "", "time over that of", "ratio (95 %)", "")]
            rows += [
                (
                    ratio.name,
                    _setting(ratio),
                    ratio.against,
                    f"{ratio.ratio:.3f} ({ratio.ci95[0]:.3f}–{ratio.ci95[1]:.3f})",
                    ratio.verdict,
                )
                for ratio in self.ratios
            ]
            lines.append(_table(rows, left=(0, 1, 2, 4)))
        narrow = {one.name: one.four_bit_weights for one in self.results if one.four_bit_weights}
        lines += [printable(f"{name}: {n:,} weights of 4 bits\n") for name, n in narrow.items()]
        failures = (printable(f"{name}: {error}") for name, error in self.failures.items())
        lines.append("".join(f"{failure}\n" for failure in failures))
        if self.machine:
            cpu, cores = self.machine.get("cpu") or "an unknown CPU", self.machine.get("cores")
            lines.append(
                f"{cpu}, {cores} cores; compare files by this, not devices.\n"
                if cores
                else f"{cpu}\n"
            )
        lines.append("".join(f"warning: {printable(warning)}\n" for warning in self.warnings))
        return "\n".join(filter(None, lines)).rstrip()

    def _rows(self):
        def shown(value, unit=1.0, digits=1):
            return "–" if value is None else f"{value / unit:,.{digits}f}"

        rows = [("", "", "µs a call (95 %)", "p95", "first", "init", "kB", "memory, MB", "GMAC/s")]
        for result in self.results:
            timing = shown(result.median, digits=2 if (result.median or 0) < 100 else 1)
            if result.ci95 is not None:
                low, high = result.ci95
                digits = 2 if result.median < 100 else 1
                timing += f" ({low:,.{digits}f}–{high:,.{digits}f})"
            rows.append(
                (
                    result.name,
                    _setting(result),
                    timing,
                    shown(result.p95),
                    shown(result.first_us, digits=0),
                    shown(result.init_us, digits=0),
                    shown(result.model_bytes, 1e3),
                    shown(result.peak_rss_bytes, 1 << 20, 0),
                    shown(result.macs_per_second, 1e9),
                )
            )
        return rows


def _setting(one: Latency | Ratio) -> str:
    words = [one.engine, f"×{one.threads}"]
    return " ".join(words + ([f"batch {one.batch}"] if one.batch > 1 else []))


def _table(rows: list[tuple[str, ...]], left: int | tuple[int, ...]) -> str:
    return "".join(f"{line}\n" for line in aligned(rows, left))
