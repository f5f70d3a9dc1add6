"""What the nets of the examples cost: multiply-accumulates, arena and time of a call.

    python benchmarks/example_costs.py --data DIR [--examples keywords_dscnn text_lstm]

None of these costs depends on the weights, so each example runs as in its page's full command, but
every `fit` ends after its first steps. For each example the script prints the multiply-accumulates
of the largest teacher and of the last student, the bytes of the last int8 file and of the teacher's
float32 file, the least arena of TensorFlow Lite for Microcontrollers with its margin (`None` if it
does not run the file), and the median time of a call of both files. DIR holds spoken_digits.npz,
japanese_vowels/, etth1/ and sst2/. `image_resnet` is not among the examples: the shape of its
pruned student, and so its costs, depend on the weights.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.util
import pathlib
import sys
import tempfile
import unittest.mock
import warnings

import keras
import tf_keras

import tfkd
from tfkd.errors import TfkdError
from tfkd.export import benchmark, to_tflite
from tfkd.export.micro import evaluation
from tfkd.model import backends, cost

FOLDER = pathlib.Path(__file__).parent.parent / "examples"
#: Example → what its full command is given beside `--out`, from the folder of the data.
COMMANDS = {
    "trees_and_svms": lambda data: [],
    "imbalanced": lambda data: [],
    "anomaly_autoencoder": lambda data: [],
    "forecast_lstm": lambda data: ["--data", data / "etth1/ETTh1.csv", "--column", "OT"],
    "series_gru": lambda data: ["--data", data / "japanese_vowels"],
    "text_lstm": lambda data: ["--data", data / "sst2"],
    "keywords_dscnn": lambda data: ["--data", data / "spoken_digits.npz"],
    "detection": lambda data: [],
    "segmentation": lambda data: [],
    "translation_or_sequence": lambda data: [],
    "quantize_or_distil_first": lambda data: ["--seeds", "1"],
}


def few(fit):
    """Return a `fit` that makes two steps of one epoch."""

    @functools.wraps(fit)
    def short(self, *args, **kwargs):
        kwargs |= {"epochs": 1, "steps_per_epoch": 2}
        return fit(self, *args, **kwargs)

    return short


@contextlib.contextmanager
def watched(seen):
    """Shorten every training; note teachers, students and int8 files of what runs inside."""

    def distiller(student, teacher=None, **kwargs):
        if backends.flavour(teacher) is not None:
            seen["teacher"].append(teacher)
        if not backends.is_quantize_aware(student):
            seen["student"].append(student)
        return tfkd_distiller(student, teacher, **kwargs)

    def exported(model, format="int8", *args, **kwargs):
        file = to_tflite(model, format, *args, **kwargs)
        if format == "int8":
            seen["file"].append(file)
        return file

    tfkd_distiller = tfkd.Distiller
    patch = unittest.mock.patch
    with contextlib.ExitStack() as stack:
        for model in (keras.Model, tf_keras.Model):
            stack.enter_context(patch.object(model, "fit", few(model.fit)))
        stack.enter_context(patch.object(tfkd, "Distiller", distiller))
        stack.enter_context(patch.object(tfkd.export, "to_tflite", exported))
        yield


def run(name, data, folder):
    """Return the costs of an example's nets."""
    seen = {"teacher": [], "student": [], "file": []}
    with watched(seen):
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        example = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(example)
        words = [str(one) for one in COMMANDS[name](data)]
        example.main([*words, "--out", str(folder / name)])
    teachers = {id(one): one for one in seen["teacher"]}.values()
    costs = {id(one): cost.measure(one) for one in (*teachers, seen["student"][-1])}
    teacher = max(teachers, key=lambda one: costs[id(one)].parameters, default=None)
    files = {"student": seen["file"][-1]}
    if teacher is not None:
        files = {"teacher": to_tflite(teacher, "float32"), **files}
    timed = {one.name: one.median for one in benchmark(files)}
    try:
        arena = evaluation.least_arena(files["student"]) + evaluation.margin_for(files["student"])
    except TfkdError:
        arena = None
    return {
        "teacher's MACs": teacher and costs[id(teacher)].macs,
        "student's MACs": costs[id(seen["student"][-1])].macs,
        "bytes": files["student"].size,
        "teacher's bytes": teacher and files["teacher"].size,
        "arena": arena,
        "µs": timed["student"],
        "teacher's µs": timed.get("teacher"),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--examples", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    options = parser.parse_args()
    sys.path.insert(0, str(FOLDER))
    warnings.simplefilter("ignore")
    rows = {}
    for name in options.examples:
        with tempfile.TemporaryDirectory() as folder:
            rows[name] = run(name, options.data, pathlib.Path(folder))
    for name, row in rows.items():
        print(name, *(f"{key} {value}" for key, value in row.items()), sep="   ")


if __name__ == "__main__":
    main()
