"""`tfkd.compress` as a person would call it: teacher, data, a board and half a point; five tasks.

    python benchmarks/compress_tasks.py --data DIR --out RESULTS [--tasks digits] [--budget 60min]

The script first trains a teacher for each task (and keeps it in RESULTS, to read it the next time);
then `compress` looks for a student and finishes it, given only the board, the drop and the budget.
The script prints the verdict on the test part, which chose nothing, and the wall time of the call.
DIR holds spoken_digits.npz, cifar10.npz, japanese_vowels/ and etth1/; `digits` needs none. A call
that was cut short continues when it is made again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import time

import keras
import numpy as np
import pruning

import tfkd
from tfkd import data as tfkd_data
from tfkd.compression import demo
from tfkd.loading import models


def etth1(path, steps=96, horizon=24):
    """Return windows of the oil temperature: of 12 months to train on, 4 to choose, 4 to report."""
    rows = path.read_text().splitlines()[1:]
    series = np.array([float(row.rsplit(",", 1)[1]) for row in rows], "float32")
    month = 30 * 24
    mean, std = series[: 12 * month].mean(), series[: 12 * month].std()
    series = (series - mean) / std

    def part(start, end):
        windows = np.lib.stride_tricks.sliding_window_view(
            series[max(start - steps, 0) : end], steps + horizon
        )
        return tfkd.Samples(windows[:, :steps, None].copy(), windows[:, steps:].copy())

    parts = [part(a * month, b * month) for a, b in ((0, 12), (12, 16), (16, 20))]
    return tfkd.Data("ETTh1, oil temperature, 24 hours ahead", *parts)


def lstm():
    layers = keras.layers
    return keras.Sequential([keras.Input((96, 1)), layers.LSTM(128), layers.Dense(24)])


#: Task → (data from DIR, an untrained teacher, its epochs, the board, what else `compress` takes).
TASKS = {
    "digits": (lambda _: tfkd_data.load_digits(), demo.teacher, 40, "pico", {}),
    "spoken": (
        lambda folder: pruning.load("spoken", [folder / "spoken_digits.npz"]),
        *(pruning.spoken_net, 30, "pico", {}),
    ),
    "vowels": (
        lambda folder: pruning.load(
            "vowels", sorted(folder.glob("japanese_vowels/*_T*.ts"), reverse=True)
        ),
        *(pruning.vowels_net, 60, "pico", {}),
    ),
    "etth1": (
        lambda folder: etth1(folder / "etth1" / "ETTh1.csv"),
        *(lstm, 8, "pico", {"epochs": 12, "qat_epochs": 4, "batch_size": 64}),
    ),
    "cifar": (
        lambda folder: pruning.load("cifar", [folder / "cifar10.npz"]),
        *(lambda: pruning.resnet(8, 16), 20, "nano-33-ble-sense"),
        {
            "epochs": 20, "qat_epochs": 8, "batch_size": 128, "optimizer": "sgd",
            "learning_rate": 0.1, "augment": pruning.shifted_and_flipped, "search_epochs": 3,
        },
    ),
    # As accurate as ResNet-8 in 33 kB: the best student of a wider ResNet in so many bytes.
    "cifar_33kb": (
        lambda folder: pruning.load("cifar", [folder / "cifar10.npz"]),
        *(lambda: pruning.resnet(8, 32), 20, "nano-33-ble-sense"),
        {
            "epochs": 30, "qat_epochs": 10, "batch_size": 128, "optimizer": "sgd",
            "learning_rate": 0.1, "augment": pruning.shifted_and_flipped, "search_epochs": 2,
            "candidates": 6,
        },
    ),
}  # fmt: skip
#: Task → what its file must meet, where it is not the drop of `--drop` alone.
TARGETS = {"cifar_33kb": {"bytes": 33_000}}


def teacher_of(task, data, build, epochs, path):
    if path.exists():
        return models.load_model(path)
    if task.startswith("cifar"):
        how = dataclasses.replace(pruning.TASKS["cifar"], build=build)
        return pruning.teacher_of(how, data, 0, path)
    keras.utils.set_random_seed(100)
    model = build()
    training = tfkd.Training(epochs=epochs, learning_rate=3e-3)
    trainer_of(data, training).fit("teacher", model, validate=False)
    model.save(path)
    return model


def trainer_of(data, training):
    from tfkd.compression.trainer import Trainer

    return Trainer(data, training)


def run(task, options):
    load, build, epochs, board, settings = TASKS[task]
    data = load(options.data)
    teacher = teacher_of(task, data, build, epochs, options.out / f"{task}-teacher.keras")
    start = time.monotonic()
    stages = []

    def progress(stage, done, total):
        if not stages or stages[-1] != stage:
            stages.append(stage)
            print(f"{time.monotonic() - start:8.1f} s  {stage}", flush=True)

    target = TARGETS.get(task, {"drop": options.drop})
    made = tfkd.compress(
        teacher, data, target=target, board=board, budget=options.budget,
        recipe=tfkd.Recipe(**settings), out=options.out / task, progress=progress,
    )  # fmt: skip
    seconds = time.monotonic() - start
    print(f"== {task}, {seconds / 60:.1f} min\n{made}", flush=True)
    entries = {entry.name: entry for entry in made.report.models}
    return {
        "minutes": seconds / 60,
        "verdict": made.verdict.to_json(),
        "student": next(one.name for one in made.report.front.candidates if one.chosen),
        "bytes": entries["student_int8"].bytes,
        "of_teacher": entries["teacher_float32"].bytes / entries["student_int8"].bytes,
        "arena": entries["student_int8"].micro and entries["student_int8"].micro["arena_bytes"],
        "metrics": {name: entry.metrics for name, entry in entries.items()},
        "teaching": made.report.teaching["summary"],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--budget", default="60min")
    parser.add_argument("--drop", type=float, default=0.005)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for task in options.tasks:
        found = run(task, options)
        (options.out / f"{task}.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
