"""A report's entries for models, layers and candidates."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfkd.export.latency.results import Latency
from tfkd.export.tflite.model import TFLiteModel
from tfkd.export.verification.layer_errors import LayerError, LayerErrors
from tfkd.export.verification.verify import Verification
from tfkd.model.cost import LayerCost

# Fields of a `Latency` in the schema, under "latency_us" and beside it.
_TIMES = (
    *("median", "mean", "std", "p5", "p50", "p90", "p95", "p99", "min", "max"),
    *("runs", "ci95"),
)
_BESIDE = ("threads", "init_us", "first_us", "peak_rss_bytes")


@dataclasses.dataclass(frozen=True)
class Layer:
    """The error that one layer of a file adds.

    Attributes:
        name: Name of the Keras layer, or of the file's tensor if the layer is not known.
        bits: Bits of its weights in the file; `None` without weights.
        added: The error that the layer makes by itself, as a share of the signal, see
            `LayerErrors.by_layer`; `None` if its float values don't vary.
        relative_error: The error of its last result, with the errors of all layers before it,
            likewise.
    """

    name: str
    bits: int | None
    added: float | None
    relative_error: float | None

    @classmethod
    def of(cls, errors: LayerErrors) -> tuple[Layer, ...]:
        """Return the layers of a table of errors, in the order of the graph."""
        rows: dict[str, list[LayerError]] = {}
        for row in errors.rows:
            rows.setdefault(row.layer or row.tensor, []).append(row)
        added = errors.by_layer()
        return tuple(
            cls(
                name,
                next((one.weight_bits for one in same if one.weight_bits is not None), None),
                None if all(one.added is None for one in same) else added[name],
                same[-1].relative_error,
            )
            for name, same in rows.items()
        )


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One student of a search.

    Attributes:
        name: A name that distinguishes it from the others.
        cost: Cost in the unit of its `Front`; less is better.
        score: Score on the part of its `Front`.
        chosen: Whether it became the student.
        score_interval: The 95 % interval of `score`, if it is known.
        epochs: Epochs that it was trained for: fewer if a smaller candidate beat it.
        parameters: Number of weights.
        macs: Multiply-accumulates of one example.
        arena_bytes: RAM on TensorFlow Lite for Microcontrollers, with its margin.
    """

    name: str
    cost: float
    score: float
    chosen: bool = False
    score_interval: tuple[float, float] | None = None
    epochs: int | None = None
    parameters: int | None = None
    macs: int | None = None
    arena_bytes: int | None = None


@dataclasses.dataclass(frozen=True)
class Front:
    """The students that a search tried, by cost and score.

    Attributes:
        candidates: The candidates in the order in which they were tried.
        unit: The kind of cost, with its unit: `"size, kB"`.
        metric: The metric of the scores, such as `"accuracy"`, in [0, 1]; for others see
            `tfkd.model.metrics.less_is_better`.
        part: The part of the data that the scores are from: `"validation"`.
    """

    candidates: tuple[Candidate, ...]
    unit: str
    metric: str
    part: str = "validation"


@dataclasses.dataclass(frozen=True)
class ModelEntry:
    """One model in a report; a figure that was not measured is `None`, never a guess.

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
        metrics_engine: The engine for these: `"keras"`, `"xnnpack"`, `"reference"` or `"tflm"`.
        parity: Agreement of a file with its model: `samples`, `argmax_agreement`,
            `max_abs_diff`, `max_lsb`, `engine`, `passed`.
        latency_us: Times of one call in microseconds, see `Latency`.
        init_us: Opening the file and allocating tensors.
        first_us: The first call.
        peak_rss_bytes: Largest resident memory of the benchmark's process.
        threads: Threads of the interpreter in the benchmark.
        ops: Operators and how often each occurs.
        integer_only: Whether no tensor of the file is floating-point.
        four_bit_weights: Number of weights of the file that have 4 bits.
        keeps_state: Whether the file must be reset before each new sequence.
        micro: Figures of TensorFlow Lite for Microcontrollers: `supported`, then `arena_bytes`,
            `margin_bytes`, `arena_basis` and `metrics`, or the `reason` why not.
        made_from: Name of the model whose training it continues, or whose file it is.
        architecture: The cost of each layer of a Keras model, in the order of their calls.
        layers: The error that each layer of a file adds.
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
    made_from: str | None = None
    architecture: tuple[LayerCost, ...] | None = None
    layers: tuple[Layer, ...] | None = None

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
        """Make the entry of a `.tflite` file from its measurements."""
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
            layers=None if verification.layers is None else Layer.of(verification.layers),
            **measured,
            **more,
        )
