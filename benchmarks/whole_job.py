"""A whole training from its first trace: the student alone, keras.distillation, and tfkd.

    python benchmarks/whole_job.py --student tiny --rounds 5 [--out RESULTS.json]

Each run is a process of its own, which imports, builds models and data, and then trains a student
of convolutions on 4,000 images of 32 x 32 for ten epochs (batch 32, Adam). The clock runs from the
first call of `fit` (or of the function that asks the teacher) to the end of the last epoch, tracing
included. `tfkd` trains as `compress`, `spiral` and `compare` do: answers asked once, several steps
a call. The teacher takes about five times the student's multiply-accumulates. Runs take turns; the
script prints the ratios to the plain fit within a round, of CPU and of wall-clock time.
"""

from __future__ import annotations

import argparse
import functools
import json
import pathlib
import subprocess
import sys
import time

import numpy as np

EXAMPLES, EPOCHS, BATCH = 4000, 10, 32
CONTENDERS = ("plain", "tfkd", "tfkd, a step a call", "tfkd, uncached", "keras.distillation")


def cnn(widths):
    import keras

    inputs = x = keras.Input((32, 32, 3))
    for width in widths:
        x = keras.layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False)(x)
        x = keras.layers.BatchNormalization()(x)
        x = keras.layers.ReLU()(x)
    return keras.Model(inputs, keras.layers.Dense(10)(keras.layers.GlobalAveragePooling2D()(x)))


def student_and_teacher(kind):
    import keras
    import micro_nets

    if kind == "tiny":
        return cnn((8, 16, 32)), cnn((20, 40, 80))
    inputs = keras.Input((32, 32, 3))
    student = keras.Model(inputs, micro_nets.resnet_8(inputs))
    student.layers[-1].activation = keras.activations.linear
    return student, cnn((128, 192, 256))


def measure(kind, contender) -> dict:
    """Return the seconds of one training in this process."""
    import keras

    import tfkd
    from tfkd.compression.trainer import Trainer

    rng = np.random.default_rng(0)
    x = rng.normal(size=(EXAMPLES, 32, 32, 3)).astype("float32")
    y = rng.integers(0, 10, EXAMPLES)
    part = tfkd.Samples(x, y)
    data = tfkd.Data(train=part, validation=part, test=part, name="random")
    keras.utils.set_random_seed(0)
    student, teacher = student_and_teacher(kind)
    hard = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    started = time.perf_counter(), time.process_time()
    if contender.startswith("tfkd"):
        at_once = {"steps_per_execution": 1} if contender.endswith("a call") else {}
        training = tfkd.Training(epochs=EPOCHS, learning_rate=1e-3, batch_size=BATCH, **at_once)
        cached = not contender.endswith("uncached")
        trainer = Trainer(data, training)
        teach = functools.partial(tfkd.Distiller, teacher=teacher)
        trainer.fit("student", student, teach, validate=False, cache_teacher=cached)
    else:
        model = student
        if contender == "keras.distillation":
            part = keras.distillation.LogitsDistillation(4.0)
            model = keras.distillation.Distiller(teacher, student, [part], student_loss_weight=0.1)
        model.compile(keras.optimizers.Adam(1e-3), hard, metrics=["accuracy"])
        model.fit(x, y, batch_size=BATCH, epochs=EPOCHS, verbose=0)
    return {
        "wall": time.perf_counter() - started[0],
        "cpu": time.process_time() - started[1],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--student", choices=["tiny", "resnet8"], default="tiny")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--only", choices=CONTENDERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options.student, options.only)))
        return
    found = {name: [] for name in CONTENDERS}
    for _ in range(options.rounds):
        for name in CONTENDERS:
            command = [sys.executable, __file__, "--student", options.student, "--only", name]
            run = subprocess.run(command, check=True, capture_output=True, text=True)
            found[name].append(json.loads(run.stdout.splitlines()[-1]))
            print(name, found[name][-1], flush=True)
    if options.out:
        options.out.write_text(json.dumps({"student": options.student, "seconds": found}, indent=1))
    for name, runs in found.items():
        cells = []
        for clock in ("cpu", "wall"):
            ratios = [a[clock] / b[clock] for a, b in zip(runs, found["plain"], strict=True)]
            cells.append(f"{np.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})")
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
