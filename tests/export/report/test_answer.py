"""The first line sums up the figures, and states nothing that was not measured."""

import dataclasses
import json
import re

import numpy as np
import pytest
from report_pages import TEACHING, cells

from tfkd.export import ModelEntry, Report, write_report
from tfkd.export.latency.results import Benchmark
from tfkd.export.report import sections
from tfkd.export.report.answer import answer_of
from tfkd.export.report.predictions import judge
from tfkd.intervals import paired_shares


def entries(arena=6_000, **more):
    return (
        ModelEntry("teacher", "teacher", "keras", bytes=9_000_000),
        ModelEntry("big", "export", "float32", bytes=510_000, made_from="teacher"),
        ModelEntry(
            *("small", "export", "int8"),
            bytes=10_000,
            latency_us={"median": 12_345.0},
            micro={"supported": True, "arena_bytes": arena, "margin_bytes": 1_000},
            **more,
        ),
    )


def predictions(wrong, teacher_wrong, count=200):
    y = np.zeros(count, int)
    said = [np.eye(2)[(np.arange(count) < some).astype(int)] for some in (wrong, teacher_wrong)]
    return judge("small", said[0], "teacher", said[1], y, task="categorical")


def answered(models=None, found=None, teaching=TEACHING, machine=None, board="pico"):
    machine = {"cpu": "a CPU"} if machine is None else machine
    return answer_of(
        entries() if models is None else models, "small", found, teaching, machine, board
    )


def test_the_line_of_the_issue():
    answer = answered(found=predictions(6, 4))
    low, high = (100 * end for end in paired_shares(np.arange(200) >= 6, np.arange(200) >= 4))
    spare = (264 * 1024 - 7_000) / 1000
    assert answer.parts() == [
        "1/51 of the bytes of the teacher",
        f"−1.0 points ({low:+.1f} to {high:+.1f})".replace("-", "−"),
        "the teacher helped by 3.1 points (+1.0 to +5.2) on validation examples",
        f"fits the {answer.board} with {spare:.1f} kB of RAM to spare",
        "12 ms a call on a CPU",
    ]
    assert "Pico" in answer.board
    assert answer.to_json()["sentence"] == "; ".join(answer.parts()) + "."


def test_what_was_not_measured_is_not_said():
    bare = (ModelEntry("small", "export", "int8"),)
    assert answered(bare, teaching=None).sentence() == ""
    assert answered(bare, teaching={}).to_json()["bytes"] is None
    assert len(answered(machine={}, board=None, teaching=None).parts()) == 1
    unsupported = {"micro": {"supported": False, "reason": "no"}}
    models = (*entries()[:2], dataclasses.replace(entries()[2], **unsupported))
    assert answered(models).fits is None


@pytest.mark.parametrize(
    ("models", "more", "said"),
    [
        (entries(arena=300_000), {},
         "does not fit the Raspberry Pi Pico: 30.7 kB of RAM are missing"),
        (None, {"teaching": {**TEACHING, "kept": "alone", "difference": -0.02, "ci95": None}},
         "−2.0 points with the teacher on validation examples, so the student without it was kept"),
        (None, {"teaching": {**TEACHING, "difference": 0.0, "ci95": None}},
         "the teacher made no difference on validation examples: 0.0 points"),
        (None, {"teaching": {**TEACHING, "metric": "r2", "difference": 0.123, "ci95": [-0.1, 0.3]}},
         "the teacher helped by 0.123 of R² (−0.100 to +0.300) on validation examples"),
    ],
    ids=["too large", "harmed", "equal", "values"],
)  # fmt: skip
def test_the_other_ways_to_end(models, more, said):
    assert said in answered(models, **more).parts()


def test_a_file_that_grew_says_so():
    models = list(entries())
    models[1] = dataclasses.replace(models[1], bytes=9_000)
    assert answered(models).parts()[0] == "1.11 times the bytes of the teacher"


def test_errors_are_parts_of_the_teachers():
    rng = np.random.default_rng(0)
    y = rng.normal(size=(300, 1))
    teacher = y + rng.normal(0, 0.5, y.shape)
    found = judge("small", y + 1.1 * (teacher - y), "teacher", teacher, y, task="regression")
    answer = answered(found=found)
    assert answer.parts()[1].startswith("+10.0 % RMSE (+")
    low, high = re.search(r"\((\S+) to (\S+)\)", answer.parts()[1]).groups()
    assert [float(low), float(high)] == pytest.approx(
        [100 * end / found.against_score for end in found.ci95], abs=0.05
    )


def numbers(text):
    return [
        float(n.replace("−", "-").replace(",", ""))
        for n in re.findall(r"[+−]?\d[\d,.]*\d|\d", text)
    ]


def test_the_first_line_is_what_the_files_and_arrays_give(made, files, teacher, digits, tmp_path):
    """Recomputed from bytes, answers and labels; nothing of the report's own is used."""
    from tfkd.export import to_tflite

    (path, page) = write_report(made, tmp_path)
    answer = json.loads(path.read_text())["answer"]
    size, score, teaching, board, time = answer["sentence"].rstrip(".").split("; ")
    ratio = to_tflite(teacher, "float32").size / files["int8"].size
    assert numbers(size) == [1, round(ratio)]
    y, x = digits.test.y, digits.test.x
    right = files["int8"].predict(x).argmax(1) == y
    by_teacher = teacher.predict(x, verbose=0).argmax(1) == y
    gap = 100 * (right.mean() - by_teacher.mean())
    ends = [100 * end for end in paired_shares(right, by_teacher)]
    assert numbers(score) == pytest.approx([gap, *ends], abs=0.051)
    assert numbers(teaching) == [3.1, 1.0, 5.2]
    assert numbers(board)[-1] == pytest.approx((264 * 1024 - 9_200) / 1000, abs=0.051)
    median = made.benchmark["student_int8"].median
    assert numbers(time)[0] == pytest.approx(median, rel=0.06) and "µs a call on" in time
    for part in made.answer.parts():
        assert f"<li>{part}</li>" in page.read_text()


def test_the_tables_are_those_of_the_json(made, tmp_path):
    path, page = write_report(made, tmp_path)
    told = json.loads(path.read_text())
    tables = {tuple(rows[0][:2]): rows for rows in cells(page.read_text())}
    by_name = {model["name"]: model for model in told["models"]}
    heads, *rows = tables["model", "file, kB"]
    for row in rows:
        shown = dict(zip(heads, row, strict=True))
        model = by_name[shown["model"]]
        if model["stage"] == "export":
            assert shown["file, kB"] == f"{model['bytes'] / 1000:.1f}"
            assert shown["accuracy"] == f"{model['metrics']['accuracy']:.1%}"
            assert shown["µs a call (95 %)"].split()[0] == f"{model['latency_us']['median']:,.1f}"
        else:
            assert shown["file, kB"] == "–"  # a .keras file holds an optimizer
    found = told["predictions"]
    crossed = tables["", "<0>"]
    assert [[int(cell) for cell in row[1:]] for row in crossed[1:]] == found["confusion"]
    for row, one in zip(tables["class", "labelled"][1:], found["classes"], strict=True):
        assert row[:2] == [one["name"], str(one["labelled"])]
        assert row[3] == ("–" if one["recall"] is None else f"{one['recall']:.1%}")
    layers = by_name["student_int8"]["layers"]
    rows = tables["layer", "bits of its weights"][1:]
    assert [row[0] for row in rows] == [one["name"] for one in layers]
    assert [row[2] for row in rows] == [f"{one['added']:.2%}" for one in layers]
    assert {row[1] for row in rows} == {"8", "–"}
    costs = by_name["teacher"]["architecture"]
    assert [row[2] for row in tables["layer", "class"][1:]] == [
        f"{one['parameters']:,}" for one in costs
    ]
    tried = tables["candidate", "size, kB"][1:]
    assert [row[0] for row in tried] == ["w 0.5, chosen", "w <1>"]
    assert told["front"]["candidates"][0]["chosen"]
    ops = {row[0]: row[-1] for row in tables["operator", "teacher_float32"][1:]}
    assert {op: str(n) for op, n in by_name["student_int8"]["ops"].items()}.items() <= ops.items()
    assert told["data"]["class_names"] == ["<0>"]


def test_every_figure_of_the_page_is_in_the_json(made, tmp_path):
    path, page = write_report(made, tmp_path)
    known: set[float] = set()

    def walk(value):
        if isinstance(value, dict):
            walk(list(value.values()))
        elif isinstance(value, list):
            known.add(len(value))
            for one in value:
                walk(one)
        elif isinstance(value, (int, float)):
            known.add(value)

    walk(json.loads(path.read_text()))
    # As they are, in percent, in kB, in MiB, in units of 10^9.
    scaled = np.array([[v, 100 * v, v / 1e3, v / 2**20, v / 1e9] for v in known]).ravel()

    def is_known(text):
        digits = len(text.partition(".")[2])
        half = 0.5 * 10.0**-digits * (1 + 1e-9) + 1e-12
        return np.abs(scaled - float(text.replace(",", ""))).min() <= half

    checked = 0
    said = re.findall(r"<p>On .*?</p>", page.read_text(), re.DOTALL)
    shown = [cell for rows in cells(page.read_text()) for row in rows[1:] for cell in row[1:]]
    for cell in (*said, *shown):
        if "×" in cell or "thread" in cell:
            continue  # a factor, see `Ratio.in_words`; a setting
        for text in re.findall(r"(?<![\w.,])\d[\d,]*(?:\.\d+)?(?!\w)", cell):
            assert is_known(text.rstrip(",")), f"{text} of {cell!r}"
            checked += 1
    assert checked > 200 and not is_known("123456.7")


def test_links_and_commands_are_those_of_the_folder(made, tmp_path):
    page = write_report(made, tmp_path)[1].read_text()
    assert 'href="./student%20%3Cint8%3E.tflite"' in page
    assert "tfkd demo --seed 0 &gt; &#39;&lt;out&gt;&#39;" in page
    assert "tfkd inspect &#39;student &lt;int8&gt;.tflite&#39;" in page
    for raw in ("<0>", "<out>", "<int8>", "<1>"):
        assert raw not in page


def test_a_report_of_before_has_no_first_line(made, tmp_path):
    plain = dataclasses.replace(
        made, predictions=None, front=None, board=None, commands=(), benchmark=Benchmark(())
    )
    path, page = write_report(plain, tmp_path)
    told = json.loads(path.read_text())
    assert told["answer"] is told["predictions"] is told["front"] is None
    page = page.read_text()
    assert (
        'id="answer"' not in page and "What was tried" not in page and "What the file" not in page
    )


def test_the_worst_output_is_the_one_that_lost_most():
    """Without a verdict, and not the first; a verdict on another output is not contradicted."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=(200, 1))
    noise = rng.normal(0, 0.5, y.shape)
    found = {
        "colour": predictions(2, 2),
        "size": judge("small", y + 1.1 * noise, "teacher", y + noise, y, task="regression"),
        "shape": predictions(60, 2),
    }
    report = Report("classification", {}, entries(), predictions=found)
    assert "−29.0 points" in report.answer.sentence()
    assert "for shape, the worst output" in report.answer.sentence()
    del found["shape"]
    assert "for size, the worst output" in report.answer.sentence()
    judged = dataclasses.replace(report, verdict={"output": "anomaly"}).answer
    assert judged.difference is judged.output is None and "worst" not in judged.sentence()


def test_every_file_has_its_own_figures_of_the_board():
    models = (*entries(), ModelEntry("large", "export", "int8", bytes=9_000_000, micro={
        "supported": True, "arena_bytes": 900_000, "margin_bytes": 1_000,
    }))  # fmt: skip
    (_, small), (_, large) = (one.values() for one in sections.micro(models, "pico"))
    flash, ram = "flash of the Raspberry Pi Pico", "ram of the Raspberry Pi Pico"
    assert small[flash].startswith("10,000 of ") and small[ram].startswith("7,000 of ")
    assert large[flash].startswith("9,000,000 of ") and large[flash].endswith(" missing")
    assert large[ram] == f"901,000 of {264 * 1024:,} bytes; {901_000 - 264 * 1024:,} missing"
    assert flash not in sections.micro(models, None)[0]["facts"]


@pytest.mark.parametrize("flavour", ["keras", "tf_keras"])
def test_the_files_of_both_keras_are_models(flavour):
    models = (
        ModelEntry("student", "student", flavour, path="student.keras"),
        ModelEntry("small", "export", "int8", path="small.tflite"),
    )
    said = [one["what"] for one in sections.files(models)]
    assert said == ["Keras model", "int8 .tflite file"]
