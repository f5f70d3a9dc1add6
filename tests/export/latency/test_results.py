"""Measurements as JSON with LiteRT's names, as CSV and as text."""

import csv
import io
import json

import pytest

from tfkd.errors import InputError
from tfkd.export.latency.results import Benchmark, Latency, Ratio


def latency(name, median=100.0, **more):
    return Latency(
        name=name,
        engine="xnnpack",
        threads=more.pop("threads", 1),
        batch=more.pop("batch", 1),
        runs=500,
        median=median,
        mean=median * 1.1,
        std=2.0,
        min=median * 0.9,
        max=median * 2,
        p5=median * 0.95,
        p95=median * 1.2,
        **more,
    )


def ratio(low, value, high, name="b"):
    return Ratio(name, "xnnpack", 1, 1, "a", "a", value, (low, high))


@pytest.fixture
def found():
    return Benchmark(
        results=(
            latency("a", ci95=(99.0, 101.0), init_us=2000.0, first_us=300.0, model_bytes=52_000),
            latency(
                "b",
                50.0,
                ci95=(49.0, 51.5),
                macs=5_000_000,
                peak_rss_bytes=40 << 20,
                warm_up_us=60.0,
                warm_up_runs=9000,
            ),
        ),
        ratios=(ratio(0.49, 0.5, 0.51),),
        failures={"c": InputError("'c' is not a .tflite file")},
        machine={"cpu": "Some CPU", "cores": 2},
        warnings=("Other programs used 1 of 2 cores meanwhile.",),
    )


@pytest.mark.parametrize(
    ("low", "value", "high", "verdict"),
    [
        (0.49, 0.5, 0.51, "faster"),
        (1.9, 2.0, 2.1, "slower"),
        (0.9, 1.05, 1.2, "no difference seen"),
        (1.0, 1.05, 1.2, "no difference seen"),
        # Surely not 1, and too near to it to be worth a word.
        (1.001, 1.005, 1.009, "no difference seen"),
        (0.985, 0.9905, 0.995, "no difference seen"),
    ],
)
def test_plain_words(low, value, high, verdict):
    assert ratio(low, value, high).verdict == verdict


def test_json_has_the_names_of_litert_in_its_units(found):
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert told["schema"] == "tfkd.benchmark/1"
    a, b = told["results"]
    assert a["latency_metrics"] == {
        "init_ms": 2.0,
        "first_inference_ms": 0.3,
        "average_warm_up_ms": None,
        "avg_ms": pytest.approx(0.11),
        "min_ms": pytest.approx(0.09),
        "max_ms": 0.2,
        "stddev_ms": 0.002,
        "median_ms": 0.1,
        "p5_ms": pytest.approx(0.095),
        "p95_ms": pytest.approx(0.12),
    }
    assert a["misc_metrics"] == {
        "model_size_mb": 0.052,
        "num_runs": 500,
        "num_warmup_runs": None,
    }
    assert b["memory_metrics"]["peak_mem_mb"] == 40
    assert b["macs_per_second"] == pytest.approx(1e11) and a["macs_per_second"] is None
    assert b["latency_us"]["median"] == 50.0 and b["latency_us"]["ci95"] == [49.0, 51.5]
    assert told["ratios"][0]["verdict"] == "faster"
    assert told["failures"] == {"c": "'c' is not a .tflite file"}


def test_csv_has_a_line_per_result(found):
    first, second = csv.DictReader(io.StringIO(found.to_csv()))
    assert first["name"] == "a" and float(first["median_ms"]) == 0.1
    assert first["ratio"] == first["verdict"] == "" and first["num_warmup_runs"] == ""
    assert float(second["ratio"]) == 0.5 and second["verdict"] == "faster"
    assert (
        float(second["ratio_ci95_low"]) == 0.49 and float(second["median_ci95_high_ms"]) == 0.0515
    )
    assert Benchmark(results=()).to_csv().splitlines() == ["name"]


@pytest.mark.parametrize(
    ("low", "value", "high", "said"),
    [
        (0.07, 0.072, 0.075, "13.9× as fast"),
        (0.002, 0.002, 0.002, "500× as fast"),
        (1.2, 1.3, 1.4, "1.3× as long"),
        (0.97, 1.0, 1.04, "no difference seen"),
    ],
)
def test_a_ratio_is_said_as_a_factor(low, value, high, said):
    assert ratio(low, value, high).in_words == said


def test_described_in_words(found):
    lines = found.describe().splitlines()
    assert max(len(line) for line in lines) <= 100
    (row,) = [line for line in lines if line.startswith("b ") and "49.00–51.50" in line]
    assert row.split()[-1] == "100.0"  # GMAC/s
    (row,) = [line for line in lines if line.endswith("faster")]
    assert "0.500 (0.490–0.510)" in row
    assert "c: 'c' is not a .tflite file" in lines
    assert "warning: Other programs used 1 of 2 cores meanwhile." in lines
    assert "–" in next(line for line in lines if line.startswith("a "))  # what was not measured


def test_results_by_place_and_by_name(found):
    assert len(found) == 2 and [one.name for one in found] == ["a", "b"]
    assert found[1] is found["b"]
    with pytest.raises(InputError, match="'c' is not a"):
        found["c"]
    with pytest.raises(KeyError):
        found["d"]


def test_what_a_phone_does_not_tell_is_left_out():
    found = Benchmark(results=(latency("a"),), machine={"cpu": "Phone", "cores": None})
    text = found.describe()
    assert "100.0  " in text and "(" not in text.splitlines()[1]
    assert json.loads(json.dumps(found.to_json()))["results"][0]["latency_us"]["ci95"] is None
