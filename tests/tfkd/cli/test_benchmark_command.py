"""`tfkd benchmark`: what it prints, writes and returns."""

import csv
import json
import re

import keras
import numpy as np
import pytest

from tfkd.cli.parser import main

QUICK = ("--min-seconds", "0.05", "--processes", "2")


@pytest.fixture
def place(files, digits, tmp_path, monkeypatch):
    """A folder of a user's: two files and data."""
    files["float32"].save(tmp_path / "a.tflite")
    files["int8"].save(tmp_path / "b.tflite")
    split = {"x_train": digits.train.x[:50], "y_train": digits.train.y[:50]}
    np.savez(tmp_path / "digits.npz", **split, x_test=digits.test.x, y_test=digits.test.y)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_two_files_are_measured_and_compared(place, capsys):
    arguments = ["a.tflite", "b.tflite", "--baseline", "b.tflite", "--threads", "1", "2"]
    outputs = ["--json", "out.json", "--csv", "out.csv", "--html", "out.html"]
    assert main(["benchmark", *arguments, *outputs, *QUICK]) == 0
    out, err = capsys.readouterr()
    assert not [line for line in err.splitlines() if not line.startswith("warning: ")]
    for line in (r"a\.tflite +xnnpack ×1 +[\d.,]+ \(", r"b\.tflite +xnnpack ×2 +[\d.,]+ \("):
        assert re.search(line, out)
    told = json.loads((place / "out.json").read_text())
    assert [(r["name"], r["threads"]) for r in told["results"]] == [
        *(("a.tflite", 1), ("a.tflite", 2), ("b.tflite", 1), ("b.tflite", 2)),
    ]
    assert told["settings"]["baseline"] == "b.tflite" and told["machine"]["cores"] >= 1
    assert told["results"][0]["latency_metrics"]["median_ms"] > 0
    assert {ratio["against"] for ratio in told["ratios"]} == {"b.tflite", "itself, 1 thread"}
    rows = list(csv.DictReader((place / "out.csv").read_text().splitlines()))
    assert len(rows) == 4 and rows[0]["verdict"] in ("faster", "slower", "no difference seen")
    assert "a.tflite" in (place / "out.html").read_text()


def test_json_alone_goes_to_stdout(place, capsys):
    assert main(["benchmark", "a.tflite", *QUICK, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["results"][0]["name"] == "a.tflite"


def test_data_are_fed_and_scored(place, capsys):
    arguments = ["a.tflite", "--data", "digits.npz", "--profile", "--json", *QUICK]
    assert main(["benchmark", *arguments]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["settings"]["inputs"] == "given"
    assert told["scores"]["a.tflite"]["accuracy"] > 0.9
    assert told["profiles"]["a.tflite"]["rows"]


def test_a_keras_model_of_two_outputs_is_measured_and_not_scored(place, capsys):
    inputs = keras.Input((8, 8, 1))
    flat = keras.layers.Flatten()(inputs)
    keras.Model(inputs, [keras.layers.Dense(n)(flat) for n in (10, 1)]).save(place / "two.keras")
    assert main(["benchmark", "two.keras", "--data", "digits.npz", "--json", *QUICK]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert told["results"][0]["latency_us"]["median"] > 0 and told["scores"] == {}
    assert "warning: two.keras is not scored: the model has 2 outputs; tfkd verify" in err


@pytest.mark.slow
def test_a_keras_model_is_scored_beside_its_file(place, student, capsys):
    student.save(place / "m.keras")
    arguments = ["m.keras", "a.tflite", "--data", "digits.npz", "--json", *QUICK]
    assert main(["benchmark", *arguments]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [result["engine"] for result in told["results"]] == ["keras", "xnnpack"]
    scores = told["scores"]
    assert scores["m.keras"]["accuracy"] == pytest.approx(scores["a.tflite"]["accuracy"], abs=0.01)


def test_what_fails_is_told_beside_what_is_measured(place, capsys):
    (place / "text.tflite").write_text("no model")
    assert main(["benchmark", "a.tflite", "none.tflite", "text.tflite", *QUICK]) == 2
    out, err = capsys.readouterr()
    assert re.search(r"a\.tflite +xnnpack ×1 +[\d.,]+ \(", out)
    assert "none.tflite: Benchmarking 'none.tflite' failed: Cannot read" in out
    assert "text.tflite" in out and "Traceback" not in err
    failed = [line for line in err.splitlines() if not line.startswith("warning: ")]
    assert len(failed) == 1 and failed[0].startswith("error: not measured: none.tflite: ")
    assert "; text.tflite: " in failed[0] and "Not measured" not in err


def test_what_fails_is_told_quietly_too(place, capsys):
    assert main(["benchmark", "a.tflite", "none.tflite", "--quiet", *QUICK]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: not measured: none.tflite: ")
    assert err.count("\n") == 1


def test_quiet_says_nothing(place, capsys):
    assert main(["benchmark", "b.tflite", "--quiet", "--csv", "b.csv", *QUICK]) == 0
    assert capsys.readouterr() == ("", "") and (place / "b.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.tflite"], "Cannot read 'none.tflite'"),
        (["a.tflite", "--baseline", "c"], "baseline must be one of ['a.tflite'], got 'c'"),
        (["a.tflite", "a.tflite"], "'a.tflite' given more than once"),
        (["a.tflite", "--threads", "0"], "must be a whole number of at least 1, got '0'"),
        (["a.tflite", "--engine", "gpu"], "invalid choice: 'gpu'"),
        (["a.tflite", "--min-seconds", "0"], "must be a number of seconds > 0, got '0'"),
        (["a.tflite", "--json", "b.tflite"], "'b.tflite' looks like a model or data"),
        (["a.tflite", "--csv", "digits.npz"], "'digits.npz' looks like a model or data"),
        (["a.tflite", "--html", "mine.html"], "'mine.html' exists; name another file"),
        (["a.tflite", "--csv", "x", "--html", "x"], "must name different files"),
        (["a.tflite", "--csv", "nowhere/x.csv"], "There is no folder"),
        (["a.tflite", "--data", "none.npz"], "There is no file 'none.npz' for --data"),
        (
            ["a.tflite", "--android", "--engine", "reference", "--baseline", "a.tflite"],
            "With --android leave out --engine, --baseline, --processes: benchmark_model runs one",
        ),
        (["a.tflite", "--android", "--no-isolate"], "leave out --processes, --no-isolate: bench"),
    ],
)
def test_bad_input_is_one_line_and_status_2(place, capsys, arguments, message):
    (place / "mine.html").write_text("the user's")
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    try:
        status = main(["benchmark", *arguments, *QUICK])
    except SystemExit as error:
        status = error.code
    out, err = capsys.readouterr()
    assert status == 2 and out == ""
    assert err.startswith("error: ") and message in err and err.count("\n") == 1
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before


def test_an_old_file_is_replaced_when_asked(place, capsys):
    (place / "mine.csv").write_text("old")
    assert main(["benchmark", "a.tflite", "--csv", "mine.csv", "--force", *QUICK]) == 0
    assert (place / "mine.csv").read_text().startswith("name,engine,threads,batch")
