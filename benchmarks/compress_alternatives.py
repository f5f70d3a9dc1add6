"""`tfkd.compress` against what a person would do instead in the same wall time.

    python benchmarks/compress_alternatives.py --data DIR --out RESULTS [--tasks digits] [--seeds 0]

The teachers are those of `compress_tasks.py` (read from RESULTS if they exist). `compress` gets the
board, half a point and `--budget`; each alternative gets the seconds that `compress` took:

    by hand    a student of README's kind, under `Distiller` with its defaults and Adam as Keras
               has it, for three quarters of the time; then quantization-aware under the teacher
    one shot   the teacher, pruned once to the parameters of the student that `compress` found;
               then trained likewise
    random     students of random kind and width, each trained for `--epochs` epochs, for half of
               the time; the smallest within half a point on the validation part (else the best)
               is trained on likewise

All end in an int8 file. The script prints its bytes, its loss of accuracy against the teacher in
points on the test part, which chose nothing, and whether the loss is half a point or less.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import time

import compress_tasks
import keras
import numpy as np
import tf_keras

import tfkd
from tfkd import export
from tfkd.compression import candidates
from tfkd.data import representative
from tfkd.model import cost
from tfkd.quantization import export_form
from tfkd.translation.copies import copy_of

DROP = 0.005


def accuracy(predict, part) -> float:
    return float((predict(part.x).argmax(-1) == np.asarray(part.y).ravel()).mean())


def until(package, end):
    """Return a callback that ends training at a time."""

    class Until(package.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if time.monotonic() > end:
                self.model.stop_training = True

    return Until()


def taught(student, teacher, data, package, end, epochs=100_000):
    distiller = tfkd.Distiller(student, teacher)
    loss = package.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile("adam", loss)
    distiller.fit(
        data.train.x, data.train.y, epochs=epochs, verbose=0,
        cache_teacher=True, callbacks=[until(package, end)],
    )  # fmt: skip


def finished(student, teacher, data, seconds):
    """Train a student for the seconds, a quarter of them quantization-aware; return its file."""
    start = time.monotonic()
    taught(student, teacher, data, keras, start + 0.75 * seconds)
    qat = tfkd.quantize_aware(student)
    taught(qat, teacher, data, tf_keras, start + seconds)
    recurrent = export_form.needs_calibration(qat)
    return export.to_tflite(qat, "int8", representative(data.train) if recurrent else None)


def by_hand(data, width=6):
    """Return README's student: of one more layer where the input is larger."""
    layers = keras.layers
    shape = data.train.x.shape[1:]
    if len(shape) == 2:
        head = [layers.GRU(2 * width)]
    else:
        head = [
            layers.Conv2D(width, 3, padding="same", activation="relu"),
            layers.Conv2D(2 * width, 3, strides=2, padding="same", activation="relu"),
            layers.Flatten(),
        ]
    classes = int(data.train.y.max()) + 1
    return keras.Sequential([keras.Input(shape), *head, layers.Dense(classes)])


def at_random(teacher, data, seed, seconds, epochs):
    """Return the smallest of some random students that is near the teacher, else the best."""
    rng, end = np.random.default_rng(seed), time.monotonic() + seconds
    found = candidates.families(teacher, data.train.head(256).x, seed)
    every = [one for family in found for one in map(family.candidate, family.sizes) if one]
    most = cost.measure(teacher).parameters
    every = [one for one in every if one.parameters < most]
    wanted = accuracy(lambda x: teacher.predict(x, verbose=0), data.validation) - DROP
    tried = []
    while every and (not tried or time.monotonic() < end):
        one = every.pop(rng.integers(len(every)))
        model = copy_of(one.model)
        package = keras if isinstance(model, keras.Model) else tf_keras
        taught(model, teacher, data, package, end, epochs)
        score = accuracy(lambda x, model=model: model.predict(x, verbose=0), data.validation)
        tried.append((one.parameters, score, model))
    near = [one for one in tried if one[1] >= wanted]
    return min(near)[2] if near else max(tried, key=lambda one: one[1])[2]


def run(task, seed, options) -> dict:
    load, build, epochs, board, settings = compress_tasks.TASKS[task]
    data = load(options.data)
    path = options.out / f"{task}-teacher.keras"
    teacher = compress_tasks.teacher_of(task, data, build, epochs, path)
    of_teacher = accuracy(lambda x: teacher.predict(x, verbose=0), data.test)
    start = time.monotonic()
    made = tfkd.compress(
        teacher, data, target={"drop": DROP}, board=board, budget=options.budget,
        recipe=tfkd.Recipe(**settings, seed=seed), out=options.out / f"{task}-{seed}",
    )  # fmt: skip
    seconds = time.monotonic() - start
    files = {"compress": made.files["int8"]}
    keras.utils.set_random_seed(seed)
    files["by hand"] = finished(by_hand(data), teacher, data, seconds)
    parameters = cost.measure(made.student).parameters
    pruned = tfkd.prune_channels(teacher, metric="parameters", target=parameters, round_to=4)
    files["one shot"] = finished(pruned, teacher, data, seconds)
    found = at_random(teacher, data, seed, seconds / 2, options.epochs)
    files["random"] = finished(found, teacher, data, seconds / 2)
    return {
        "seconds": seconds,
        **{
            name: {"bytes": file.size, "drop": of_teacher - accuracy(file.predict, data.test)}
            for name, file in files.items()
        },
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path())
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--tasks", nargs="+", default=["digits"], choices=compress_tasks.TASKS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--budget", default="5min")
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for task in options.tasks:
        for seed in options.seeds:
            path = options.out / f"{task}-{seed}.json"
            if not path.exists():
                path.write_text(json.dumps(run(task, seed, options), indent=1))
            found = json.loads(path.read_text())
            print(f"{task}, seed {seed}, {found.pop('seconds'):.0f} s each")
            for name, one in found.items():
                met = "met" if one["drop"] <= DROP else "missed"
                print(f"| {name} | {one['bytes']:,} | {100 * one['drop']:+.2f} | {met} |")


if __name__ == "__main__":
    main()
