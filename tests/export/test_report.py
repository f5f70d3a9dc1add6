"""The report's two forms hold what was measured, and nothing that was not."""

import base64
import io
import json
import re

import pytest
from rich.console import Console
from tfkd.export import ModelEntry, Report, benchmark, verify, write_report
from tfkd.export.report import print_table, wilson


@pytest.fixture(scope="module")
def report(files, student, qat, digits):
    entries = [
        ModelEntry("student", "student", "keras", weight_bytes=10, metrics={"accuracy": 0.9})
    ]
    timings = benchmark({n: files[n] for n in ("float32", "int8")}, min_seconds=0.05)
    for timing in timings:
        model = qat if timing.name == "int8" else student
        checked = verify(files[timing.name], model, digits.test.x, digits.test.y)
        entries.append(
            ModelEntry.of_file(timing.name, timing.name, files[timing.name], checked, timing)
        )
    return Report(
        "classification",
        {"name": "digits <&>", "train": 1077, "validation": 360, "test": 360},
        tuple(entries),
        {"student": {"val_accuracy": [0.5, 0.9]}},
        {"seed": 0},
    )


def test_json_follows_the_schema(report, tmp_path, files):
    path, _ = write_report(report, tmp_path)
    content = json.loads(path.read_text())
    assert content["schema"] == "tfkd.report/1"
    assert {"created", "versions", "machine", "task", "data", "models"} <= set(content)
    assert content["versions"]["tensorflow"].startswith("2.")
    by_name = {model["name"]: model for model in content["models"]}
    int8 = by_name["int8"]
    assert int8["bytes"] == files["int8"].size and int8["ops"] == files["int8"].ops
    assert int8["integer_only"] is True and int8["keeps_state"] is False
    assert set(int8["latency_us"]) == {
        "median",
        "mean",
        "std",
        "p5",
        "p50",
        "p90",
        "p95",
        "p99",
        "min",
        "max",
        "runs",
        "ci95",
    }
    assert set(int8["parity"]) >= {"samples", "argmax_agreement", "max_abs_diff", "max_lsb"}
    for key in ("latency_us", "parity", "bytes", "micro", "peak_rss_bytes"):
        assert by_name["student"][key] is None  # not measured


def test_the_page_is_whole_and_loads_nothing(report, tmp_path):
    _, path = write_report(report, tmp_path)
    page = path.read_text()
    sources = re.findall(r'src="([^"]*)"', page)
    assert len(sources) == 3
    for source in sources:
        head, data = source.split(",", 1)
        assert head == "data:image/svg+xml;base64"
        assert b"<svg" in base64.b64decode(data)
    assert not re.search(r'(href|src)="(?!data:)', page)
    assert "digits &lt;&amp;&gt;" in page and "digits <&>" not in page


def test_the_table_fits_eighty_columns(report):
    out = io.StringIO()
    print_table(report, Console(file=out, width=80))
    text = out.getvalue()
    assert "…" not in text
    assert re.search(r"int8 +\d+\.\d +\d+\.\d% +xnnpack +\d+\.\d%", text)


def test_a_failed_verification_shows(report, files, qat, digits, tmp_path):
    with pytest.warns(UserWarning, match="VERIFICATION FAILED"):
        checked = verify(files["int8"], qat, digits.test.x, digits.test.y, threshold=1.01)
    failed = Report(
        report.task, report.data, (ModelEntry.of_file("x", "int8", files["int8"], checked),)
    )
    _, path = write_report(failed, tmp_path)
    assert "FAILED" in path.read_text()


def test_wilson_interval_against_published_values():
    # Newcombe 1998, table I: 81/263 and 0/20.
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(0.0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
