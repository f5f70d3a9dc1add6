"""What `compress` costs with a given student, now and in an earlier tfkd.

    python benchmarks/compress_cost.py --before OLD/bin/python --out RESULTS --data DIR

OLD is an environment with the earlier tfkd installed (`pip install -e CHECKOUT`). Both make the
same call: the same teacher, student, data, epochs and loss (KL, alpha 0.1, T 4). Each run is a
process of its own; the clock runs from the call of `compress` to its return, files, verification,
times and report included. Runs take turns. The script prints the ratio of now to before within a
round, and the accuracy of the int8 files. DIR holds spoken_digits.npz and cifar10.npz (the models
train on 8,000 of its images); `digits` needs none.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

SETTINGS = {"alpha": 0.1, "temperature": 4.0}
#: Task → what a `Recipe` gets beside them.
TASKS = {
    "digits": {"epochs": 40, "qat_epochs": 15},
    "spoken": {"epochs": 30, "qat_epochs": 10},
    "cifar": {"epochs": 10, "qat_epochs": 4, "batch_size": 64},
}


def convolutions(shape, widths):
    import keras

    layers = keras.layers
    inputs = x = keras.Input(shape)
    for width in widths:
        x = layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.ReLU()(x)
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def prepared(task, folder, data):
    """Write data, teacher and student of a task into a folder, unless they are there."""
    import keras
    import numpy as np
    import pruning

    from tfkd.data import load_digits

    if (folder / "student.keras").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    if task == "digits":
        data = load_digits()
    else:
        name = {"spoken": "spoken_digits.npz", "cifar": "cifar10.npz"}[task]
        data = pruning.load(task, [data / name])
    counts = {"train": 8000, "validation": 2000, "test": 2000}
    parts = {
        f"{which}_{part}": np.asarray(getattr(getattr(data, part), which)[:count])
        for part, count in counts.items()
        for which in "xy"
    }
    np.savez(folder / "data.npz", **parts)
    shape = parts["x_train"].shape[1:]
    keras.utils.set_random_seed(0)
    teacher = convolutions(shape, (32, 64, 96))
    teacher.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    teacher.fit(parts["x_train"], parts["y_train"], epochs=10, verbose=0)
    teacher.save(folder / "teacher.keras")
    convolutions(shape, (12, 24, 32)).save(folder / "student.keras")


def measure(task, folder) -> dict:
    """Return the seconds of one call in this process, and the accuracy of its int8 file."""
    import keras
    import numpy as np

    import tfkd

    with np.load(folder / "data.npz") as file:
        parts = [
            tfkd.Samples(file[f"x_{part}"], file[f"y_{part}"])
            for part in ("train", "validation", "test")
        ]
    data = tfkd.Data(train=parts[0], validation=parts[1], test=parts[2], name=task)
    teacher, student = (
        keras.models.load_model(folder / f"{name}.keras") for name in ("teacher", "student")
    )
    recipe = tfkd.Recipe(**SETTINGS, **TASKS[task])
    with tempfile.TemporaryDirectory() as out:
        started = time.perf_counter(), sum(os.times()[:4])
        made = tfkd.compress(
            teacher, data, student=student, out=pathlib.Path(out, "made"), recipe=recipe
        )
        # The processor's time of the children counts too.
        wall, cpu = time.perf_counter() - started[0], sum(os.times()[:4]) - started[1]
    answers = made.files["int8"].predict(data.test.x)
    right = answers.argmax(-1) == np.asarray(data.test.y).ravel()
    return {"wall": wall, "cpu": cpu, "accuracy": float(right.mean())}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path())
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=TASKS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options.only, options.out / options.only)))
        return
    import numpy as np

    contenders = {"now": sys.executable, "before": options.before}
    for task in options.tasks:
        prepared(task, options.out / task, options.data)
        found = {name: [] for name in contenders}
        for _ in range(options.rounds):
            for name, python in contenders.items():
                command = [python, __file__, "--out", options.out, "--only", task]
                run = subprocess.run(command, capture_output=True, text=True)
                if run.returncode:
                    sys.exit(f"{task}, {name}:\n{run.stderr[-2000:]}")
                found[name].append(json.loads(run.stdout.splitlines()[-1]))
                print(task, name, found[name][-1], flush=True)
        (options.out / f"{task}.json").write_text(json.dumps(found, indent=1))
        cells = []
        for clock in ("cpu", "wall"):
            pairs = zip(found["now"], found["before"], strict=True)
            ratios = [now[clock] / before[clock] for now, before in pairs]
            cells.append(f"{np.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})")
        cells += [
            f"{100 * np.mean([run['accuracy'] for run in runs]):.2f}" for runs in found.values()
        ]
        print(f"| {task} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
