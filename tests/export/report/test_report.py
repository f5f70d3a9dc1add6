"""The report's two forms contain all that was measured, and nothing else."""

import dataclasses
import io
import json
import re

import pytest
from report_pages import cells, pictures
from rich.console import Console

from tfkd.errors import InputError
from tfkd.export import ModelEntry, Report, benchmark, verify, write_report
from tfkd.export.latency.results import Benchmark, Latency, Ratio
from tfkd.export.report.benchmark_page import write_benchmark_page
from tfkd.export.report.report import columns, print_table
from tfkd.intervals import wilson

SCHEMA_OF_TIMES = {
    *("median", "mean", "std", "p5", "p50", "p90", "p95", "p99", "min", "max"),
    *("runs", "ci95"),
}


@pytest.fixture(scope="module")
def timings(files):
    chosen = {name: files[name] for name in ("float32", "int8")}
    return benchmark(chosen, min_seconds=0.05, processes=2)


@pytest.fixture(scope="module")
def report(files, timings, student, qat, digits):
    entries = [
        ModelEntry("student", "student", "keras", weight_bytes=10, metrics={"accuracy": 0.9})
    ]
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
    assert set(int8["latency_us"]) == SCHEMA_OF_TIMES
    assert int8["threads"] == 1 and int8["init_us"] > 0 and int8["first_us"] > 0
    assert set(int8["parity"]) >= {"samples", "argmax_agreement", "max_abs_diff", "max_lsb"}
    for key in ("latency_us", "parity", "bytes", "micro", "peak_rss_bytes"):
        assert by_name["student"][key] is None  # not measured
    assert content["benchmark"] is None


def test_the_page_is_whole_and_loads_nothing(report, tmp_path):
    _, path = write_report(report, tmp_path)
    page = path.read_text()
    assert len(pictures(page)) == 3
    assert "digits &lt;&amp;&gt;" in page and "digits <&>" not in page
    assert ">Latency</h2>" not in page


def test_the_report_holds_the_benchmark(report, timings, tmp_path):
    json_path, page_path = write_report(dataclasses.replace(report, benchmark=timings), tmp_path)
    told = json.loads(json_path.read_text())["benchmark"]
    assert [one["name"] for one in told["results"]] == ["float32", "int8"]
    assert told["ratios"][0]["verdict"] == timings.ratios[0].verdict
    page = page_path.read_text()
    # Against size and latency, training; call times and ratios.
    assert len(pictures(page)) == 5
    assert ">Latency</h2>" in page and "processes, one after the other" in page
    results, ratios = cells(page)[1:3]
    assert [row[:2] for row in results[1:]] == [
        [name, "xnnpack, 1\N{NO-BREAK SPACE}thread"] for name in ("float32", "int8")
    ]
    assert ratios[1][0] == "int8" and ratios[1][-1] == timings.ratios[0].in_words


def latency(name, median, **more):
    keys = ("mean", "min", "max", "p5", "p50", "p90", "p95", "p99")
    times = {**dict.fromkeys(keys, median), "std": 1.0, **more}
    return Latency(name, "xnnpack", 1, 1, 500, median, **times)


@pytest.fixture
def by_hand():
    """Two measured, one of them with nothing but a median, and one that failed."""
    return Benchmark(
        results=(
            latency("a <&>", 200.0, ci95=(195.25, 204.75), quantiles=tuple(range(150, 251))),
            latency("b", 99.5, p5=None, p95=None, max=None),
        ),
        ratios=(Ratio("b", "xnnpack", 1, 1, "a <&>", "a <&>", 0.4975, (0.48, 0.51)),),
        failures={"c </dd>": InputError("Cannot read 'c <b>': it is empty.")},
        machine={"cpu": "CPU <i>", "cores": 2, "others": 0.31, "stolen": 0.0},
        settings={"processes": 5, "inputs": "random"},
        warnings=("Other programs used <a lot>.",),
    )


def test_a_page_of_a_benchmark_alone(by_hand, tmp_path):
    page = write_benchmark_page(by_hand, tmp_path / "b.html").read_text()
    assert len(pictures(page)) == 2  # there are no scores to draw
    results, ratios = cells(page)
    heads, first, second = results
    a, b = (dict(zip(heads, row, strict=True)) for row in (first, second))
    assert a["model"] == "a <&>" and a["µs a call (95 %)"] == "200.0 (195.2–204.8)"
    assert b["µs a call (95 %)"] == "99.50"
    for key in ("95 % within", "slowest"):
        assert b[key] == "–"
    assert a["95 % within"] == "200.0"
    # Of neither: not shown at all.
    assert not {"first call", "opening", "file, kB", "memory, MiB"} & set(heads)
    assert ratios[1] == [
        *("b", "xnnpack, 1\N{NO-BREAK SPACE}thread", "a <&>", "0.497 (0.480–0.510)"),
        "2.01× as fast",
    ]
    assert "Cannot read &#39;c &lt;b&gt;&#39;: it is empty." in page
    assert "<dt>c &lt;/dd&gt;</dt>" in page
    assert "Other programs used &lt;a lot&gt;." in page
    assert "Measured on CPU &lt;i&gt;, 2 cores." in page
    assert "other programs used 0.31 of its cores on average." in page
    assert "measured in 5 processes, one after the other, on random inputs" in page
    for raw in ("a <&>", "<b>", "<i>", "<a lot>", "c </dd>"):
        assert raw not in page


def test_scores_add_their_pictures_to_the_page(by_hand, tmp_path):
    sized = dataclasses.replace(
        by_hand, results=tuple(dataclasses.replace(r, model_bytes=9_000) for r in by_hand.results)
    )

    def page(*arguments):
        return write_benchmark_page(sized, tmp_path / "b.html", *arguments).read_text()

    both = page({"a <&>": 0.9, "b": 0.95, "unknown": 0.1}, 360)
    assert len(pictures(both)) == 4
    assert "intervals of the accuracy (Wilson) and of the median time" in both
    without_count = page({"b": 0.95})
    assert len(pictures(without_count)) == 4 and "Wilson" not in without_count
    errors = page({"b": 3.5}, 360, "rmse")
    assert "RMSE against latency" in errors and "Wilson" not in errors
    assert "Left and down is better" in errors and "Left and up is better" in both
    assert len(pictures(page({"unknown": 0.1}, 360))) == 2


def test_a_page_where_everything_failed_says_why(by_hand, tmp_path):
    nothing = Benchmark((), failures=by_hand.failures)
    page = write_benchmark_page(nothing, tmp_path / "b.html").read_text()
    assert pictures(page) == [] and cells(page) == []
    assert "Not measured" in page and "it is empty." in page
    assert "What else ran meanwhile is not known." in page


def test_the_report_tells_of_failures_when_nothing_was_measured(report, by_hand, tmp_path):
    failed = dataclasses.replace(report, benchmark=Benchmark((), failures=by_hand.failures))
    json_path, page_path = write_report(failed, tmp_path)
    assert "it is empty." in page_path.read_text()
    assert "it is empty." in json.loads(json_path.read_text())["benchmark"]["failures"]["c </dd>"]


def test_a_page_is_not_left_half_written(by_hand, tmp_path):
    with pytest.raises(InputError, match="Cannot write"):
        write_benchmark_page(by_hand, tmp_path / "missing" / "b.html")
    assert list(tmp_path.iterdir()) == []


def test_an_entry_takes_a_latency_without_an_interval(report, by_hand, files, qat, digits):
    checked = verify(files["int8"], qat, digits.test.x, digits.test.y)
    for timing, shown in zip(by_hand, ("200.0 (195.2–204.8)", "99.5"), strict=True):
        entry = ModelEntry.of_file("x", "int8", files["int8"], checked, timing)
        assert set(entry.latency_us) == SCHEMA_OF_TIMES and entry.peak_rss_bytes is None
        (cell,) = dict(columns(dataclasses.replace(report, models=(entry,))))["µs a call (95 %)"]
        assert cell == shown


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


@pytest.mark.parametrize(
    ("met", "said"),
    [
        (True, "<strong>The target is met.</strong>"),
        (False, "<strong>The target is not met: drop: 0.1 &lt;much&gt;.</strong>"),
        (None, None),
    ],
)
def test_the_page_opens_with_the_verdict(report, tmp_path, met, said):
    problems = ["drop: 0.1 <much>"] if met is False else []
    verdict = {"file": "a.tflite", "drop": 0.1, "met": met, "problems": problems}
    _, page = write_report(dataclasses.replace(report, verdict=verdict), tmp_path)
    text = " ".join(page.read_text().split())
    if said is None:
        assert "The target is" not in text
    else:
        assert text.index(said) < text.index("<nav")
