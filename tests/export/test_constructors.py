"""Objects that users create with documented defaults can be printed, drawn and written."""

import dataclasses
import json

import numpy as np
import pytest
from rich.console import Console

import tfkd
from tfkd.errors import InputError
from tfkd.export import (
    Benchmark,
    Latency,
    MicroEvaluation,
    ModelEntry,
    Profile,
    Report,
    TFLiteModel,
    Verification,
    write_report,
)
from tfkd.export.report.benchmark_page import write_benchmark_page
from tfkd.export.report.report import columns, print_table
from tfkd.export.verification import layer_errors
from tfkd.pruning.iterative.result import Measured, Round, Spiral

NOTHING = Latency("a", "xnnpack", 1, 1, 5, None, None, None, None, None)
TIMES = Latency("b", "xnnpack", 1, 1, 5, 3.0, 3.0, None, 1.0, 5.0)


@pytest.mark.parametrize(
    "entry",
    [
        ModelEntry("a", "teacher", "keras"),
        ModelEntry("a", "export", "int8", ops={"CONV_2D": 1}),
        ModelEntry("a", "export", "int8", bytes=9, metrics={"accuracy": np.float32(0.5)}),
        ModelEntry("a", "export", "int8", bytes=9, metrics={"accuracy": float("nan")}),
        ModelEntry("a", "export", "int8", ops={"A": 1}, parity={"samples": 1}, micro={}),
        ModelEntry("a", "export", "int8", bytes=9, latency_us={"median": 2.0}),
    ],
    ids=["defaults", "operators", "NumPy", "NaN", "half a parity", "half a latency"],
)
@pytest.mark.parametrize(
    "more",
    [
        {"data": {}},
        {"data": {"name": "d", "train": 1, "test": 2}, "task": "regression", "teaching": {}},
        {"data": {"name": "d"}, "benchmark": Benchmark((NOTHING, TIMES), machine={"cpu": "x"})},
        {"data": {"test": 2}, "settings": {"rate": np.float32(0.1), "of": np.arange(2)}},
    ],
    ids=["no data", "two parts", "a benchmark", "settings"],
)
def test_a_report_of_what_little_was_measured(entry, more, tmp_path):
    report = Report(**{"task": "classification", "models": (entry,), **more})
    written, page = write_report(report, tmp_path)
    (model,) = json.loads(written.read_text())["models"]
    assert model["name"] == "a" and (model["parity"] is None) == (entry.parity is None)
    assert "<h1>" in page.read_text()
    cells = dict(columns(report))
    accuracy = entry.metrics.get("accuracy")
    if report.task == "classification":
        assert cells["accuracy"] == ["50.0%" if accuracy == 0.5 else "–"]
        assert model["metrics"].get("accuracy") == (0.5 if accuracy == 0.5 else None)
    print_table(report, Console(quiet=True))


@pytest.mark.parametrize(
    "benchmark",
    [
        Benchmark(()),
        Benchmark((NOTHING,)),
        Benchmark((NOTHING, TIMES), machine={"cpu": "x", "others": 1.0}),
        Benchmark((), failures={"a": InputError("no")}, warnings=("busy",)),
    ],
    ids=["nothing", "no times", "half a machine", "failures"],
)
def test_a_benchmark(benchmark, tmp_path):
    assert isinstance(benchmark.describe(), str) and isinstance(benchmark.to_csv(), str)
    json.dumps(benchmark.to_json())
    write_benchmark_page(benchmark, tmp_path / "b.html", {"b": 0.5}, 10)


def test_results_without_what_was_not_measured():
    proof = MicroEvaluation(10, None, None, 1, "found", 3, None, None, None, {}, (), ())
    assert "3 examples: nothing was compared" in proof.describe()
    scores = {"accuracy": 0.5}
    result = Verification("xnnpack", 1, None, 0.0, 0.0, None, scores, {}, True, None)
    assert result.describe().endswith("accuracy: 0.5")
    assert Profile("xnnpack", 1, 1, 0.0, "2.3.0", ()).describe()
    for op, scale in (("INPUT", None), ("CONV_2D", 0.1)):
        error = layer_errors.LayerError("a", op, "t", scale, 0.0, 0.0, None, None, 1.0, ())
        assert "a adds most of the error" in layer_errors.LayerErrors((error,), 1, 1, 1).describe()


def test_a_spiral_without_scores_is_drawn(tmp_path):
    point = Measured(10, None)
    spiral = Spiral(point, point, point, (), "accuracy", {"macs": 5.0}, None, True, "x", 0)
    spiral.plot(tmp_path / "a.svg")
    turn = Round(1, 0.2, dataclasses.replace(point, validation=0.5), True, 0.5, 1.0)
    spiral = dataclasses.replace(spiral, rounds=(turn,), target={}, alternatives={"a": point})
    spiral.plot(tmp_path / "b.svg")
    assert "<svg" in (tmp_path / "b.svg").read_text()


@pytest.mark.parametrize("data", [None, "model.tflite", 5, [1]])
def test_a_file_is_bytes(data):
    with pytest.raises(InputError, match=r"takes the bytes of a file.*load\(path\) reads one"):
        TFLiteModel(data)


@pytest.mark.parametrize("x", [None, 5, np.array("a")])
def test_examples_are_arrays(x):
    for arguments in ((x, [1]), ([1], x)):
        with pytest.raises(InputError, match=r"must be an array of shape \(examples, ...\), got"):
            tfkd.Samples(*arguments)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"formats": ("int9",)}, r"formats must be one or more of \('float32', .*got \('int9',\)"),
        ({"formats": "int8"}, "formats must be one or more of"),
        ({"formats": ()}, "formats must be one or more of"),
        ({"seed": -1}, "seed must be an integer from 0"),
        ({"alpha": 1.5}, "alpha must be from 0 to 1, got 1.5"),
        ({"temperature": 0}, "temperature must be a number > 0, got 0"),
    ],
)
def test_a_recipe_is_checked_before_anything_is_trained(setting, message):
    with pytest.raises(InputError, match=message):
        tfkd.Recipe(**setting)
