"""A report as `compress` makes it, of trained models."""

import pytest
from report_pages import TEACHING

from tfkd.export import ModelEntry, Report, benchmark, to_tflite, verify
from tfkd.export.report.entries import Candidate, Front
from tfkd.export.report.predictions import judge
from tfkd.model import cost


@pytest.fixture(scope="module")
def made(files, teacher, qat, student, digits):
    """Return a teacher and student on digits, with everything that a page can show."""
    test, big = digits.test, to_tflite(teacher, "float32")
    timings = benchmark(
        {"teacher_float32": big, "student_int8": files["int8"]}, min_seconds=0.05, processes=2
    )
    checked = [
        verify(big, teacher, test.x, test.y),
        verify(files["int8"], qat, test.x, test.y, layers=True),
    ]
    micro = {"supported": True, "arena_bytes": 8_000, "margin_bytes": 1_200}
    models = (
        ModelEntry(
            *("teacher", "teacher", "keras", "teacher.keras"),
            bytes=10**7,
            architecture=cost.measure(teacher).layers,
        ),
        ModelEntry.of_file(
            *("teacher_float32", "float32", big, checked[0], timings["teacher_float32"]),
            made_from="teacher",
            path="teacher_float32.tflite",
        ),
        ModelEntry.of_file(
            *("student_int8", "int8", files["int8"], checked[1], timings["student_int8"]),
            micro=micro,
            path="student <int8>.tflite",
        ),
    )
    return Report(
        "classification",
        {"name": "digits", "train": 1, "validation": 1, "test": len(test), "class_names": ["<0>"]},
        models,
        {"teacher": {"val_accuracy": [0.5, 0.9]}},
        benchmark=timings,
        teaching=TEACHING,
        predictions=judge(
            *("student_int8", files["int8"].predict(test.x)),
            *("teacher", teacher.predict(test.x, verbose=0), test.y),
            task="categorical",
            class_names=["<0>"],
            x=test.x,
        ),
        front=Front(
            (Candidate("w 0.5", 20.0, 0.9, chosen=True), Candidate("w <1>", 80.0, 0.95)),
            "size, kB",
            "accuracy",
        ),
        board="pico",
        commands=("tfkd demo --seed 0 > '<out>'",),
    )
