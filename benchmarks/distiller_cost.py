"""What distillation costs: ours, cached and not, against its parts and against its peers.

    python benchmarks/distiller_cost.py --rounds 9 --out results.json
    python benchmarks/distiller_cost.py --part keys

All contenders take turns in every round, so that a change of the machine's speed affects all
alike. The script reports the median of the ratios within a round and its 95 % interval (bootstrap
over rounds). One measurement is two epochs of `fit` after a warm-up call.
"""

import argparse
import gc
import json
import pathlib
import time

import keras
import numpy as np
import tensorflow as tf
import tf_keras

import tfkd
from tfkd.model import cost
from tfkd.model.examples import keys_at_once

# Steps of a tenth of a second and more: shorter ones end on a tick of the scheduler (10 ms
# here), and ratios of ticks are not ratios of work.
EXAMPLES, SIZE, BATCH, EPOCHS = 1024, 32, 128, 2


def cnn(package, width, depth=3):
    layers = package.layers
    inputs = x = package.Input((SIZE, SIZE, 3))
    for i in range(depth):
        x = layers.Conv2D(width, 3, strides=2 if i == 1 else 1, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(name=f"tap{i}")(x)
        x = layers.ReLU()(x)
    return package.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def teacher_of(times):
    """Return a Keras 3 teacher of about `times` the student's multiply-accumulates."""
    target = times * cost.measure(cnn(keras, 16)).macs
    width = min(range(8, 160, 2), key=lambda w: abs(cost.measure(cnn(keras, w)).macs - target))
    return cnn(keras, width)


def hard(package):
    return package.losses.SparseCategoricalCrossentropy(from_logits=True)


class Tutorial(keras.Model):
    """Distillation as tutorials write it: a train_step with a softmax KL and no T²."""

    def __init__(self, student, teacher, temperature=4.0):
        super().__init__()
        self.student, self.teacher, self.temperature = student, teacher, temperature
        self.kl = keras.losses.KLDivergence()

    def call(self, x, training=None):
        return self.student(x, training=training)

    def train_step(self, data):
        x, y = data
        answers = self.teacher(x, training=False)
        with tf.GradientTape() as tape:
            y_pred = self.student(x, training=True)
            loss = 0.1 * self.compute_loss(x, y, y_pred) + 0.9 * self.kl(
                tf.nn.softmax(answers / self.temperature), tf.nn.softmax(y_pred / self.temperature)
            )
        variables = self.student.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return {"loss": loss}


def peer(student, teacher, tap=None):
    kd = keras.distillation
    parts = [kd.LogitsDistillation(4.0)]
    if tap:
        parts.append(kd.FeatureDistillation("mse", tap, tap))
    return kd.Distiller(teacher, student, parts, student_loss_weight=0.1)


def contenders(package, teacher, x, y):
    """Return name → a function whose duration is measured."""

    def fitter(model, **kwargs):
        model.compile(package.optimizers.SGD(1e-3), hard(package))
        return lambda: model.fit(x, y, batch_size=BATCH, epochs=EPOCHS, verbose=0, **kwargs)

    def student():
        return cnn(package, 16)

    hint = [tfkd.losses.Hint("tap2", "tap2")]
    cache = tfkd.cache_teacher(x, teacher)
    found = {
        "student": fitter(student()),
        "teacher": lambda: [teacher.predict(x, batch_size=BATCH, verbose=0) for _ in range(EPOCHS)],
        "ours": fitter(tfkd.Distiller(student(), teacher, soft_loss="kl")),
        "ours, default loss": fitter(tfkd.Distiller(student(), teacher)),
        "ours, cached": fitter(
            tfkd.Distiller(student(), teacher, soft_loss="kl"), cache_teacher=cache
        ),
    }
    if package is keras:
        equal = cnn(keras, 16)  # a feature of the peer must have the student's width
        found["teacher of equal width"] = lambda: [
            equal.predict(x, batch_size=BATCH, verbose=0) for _ in range(EPOCHS)
        ]
        found["ours, features"] = fitter(
            tfkd.Distiller(student(), equal, soft_loss="kl", features=hint)
        )
        found["tutorial loop"] = fitter(Tutorial(student(), teacher))
        if hasattr(keras, "distillation"):
            found["keras.distillation"] = fitter(peer(student(), teacher))
            found["keras.distillation, features"] = fitter(peer(student(), equal, "tap2"))
    return found, cache


RATIOS = (
    ("ours", ("student", "teacher")),
    ("keras.distillation", ("student", "teacher")),
    ("tutorial loop", ("student", "teacher")),
    ("ours", ("keras.distillation",)),
    ("ours, default loss", ("ours",)),
    ("ours", ("tutorial loop",)),
    ("ours, features", ("student", "teacher of equal width")),
    ("ours, features", ("keras.distillation, features",)),
    ("ours, cached", ("student",)),
    ("keras.distillation", ("student",)),
)


def interval(values, seed=0):
    rng = np.random.default_rng(seed)
    draws = np.median(rng.choice(values, (4000, len(values))), axis=1)
    return float(np.median(values)), *(float(v) for v in np.percentile(draws, [2.5, 97.5]))


def keys():
    """Print how fast the keys are made by which a cache finds its answers, in MB/s."""
    rng = np.random.default_rng(0)
    data = {
        "images float32 (256, 224, 224, 3)": rng.random((256, 224, 224, 3), "float32"),
        "images float32 (1024, 32, 32, 3)": rng.random((1024, 32, 32, 3), "float32"),
        "images uint8 (4096, 28, 28)": rng.integers(0, 256, (4096, 28, 28), "uint8"),
        "rows float32 (65536, 16)": rng.random((65536, 16), "float32"),
        "text (4096, 32)": rng.integers(10**9, 10**10, (4096, 32)).astype("S10"),
    }
    for name, x in data.items():
        tensor = tf.constant(x)
        seconds = []
        for _ in range(9):
            start = time.perf_counter()
            keys_at_once(tensor)
            seconds.append(time.perf_counter() - start)
        print(f"  {name:36} {x.nbytes / 1e6 / np.median(seconds):7.0f} MB/s", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=["steps", "keys"], default="steps")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--packages", nargs="+", default=["keras", "tf_keras"])
    parser.add_argument("--times", type=int, nargs="+", default=[1, 5, 25])
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    if options.part == "keys":
        keys()
        return
    rng = np.random.default_rng(0)
    x = rng.random((EXAMPLES, SIZE, SIZE, 3), "float32")
    y = rng.integers(0, 10, EXAMPLES)
    results = {}
    for package in [{"keras": keras, "tf_keras": tf_keras}[name] for name in options.packages]:
        for times in options.times:
            teacher = teacher_of(times)
            functions, cache = contenders(package, teacher, x, y)
            for function in functions.values():
                function()
            # A full collection over TensorFlow's objects takes a third of a second, and
            # would fall on whoever is being timed.
            gc.collect()
            gc.freeze()
            gc.disable()
            seconds = {name: [] for name in functions}
            cpu = {name: [] for name in functions}
            for i in range(options.rounds):
                names = list(functions)
                for name in names[i % len(names) :] + names[: i % len(names)]:
                    start, busy = time.perf_counter(), time.process_time()
                    functions[name]()
                    seconds[name].append(time.perf_counter() - start)
                    cpu[name].append(time.process_time() - busy)
            macs = cost.measure(teacher).macs / cost.measure(cnn(keras, 16)).macs
            print(
                f"\n{package.__name__} student, teacher of {macs:.1f}× its MACs; "
                f"{options.rounds} rounds; cache {cache.bytes_per_example:.0f} B an example"
            )
            for name, values in seconds.items():
                print(f"  {name:32} {np.median(values):7.3f} s")
            for name, parts in RATIOS:
                if name in seconds and all(part in seconds for part in parts):
                    figures = []
                    for clock in (cpu, seconds):
                        whole = sum(np.array(clock[part]) for part in parts)
                        middle, low, high = interval(np.array(clock[name]) / whole)
                        figures.append(f"{middle:.3f} [{low:.3f}, {high:.3f}]")
                    print(
                        f"  {name + ' / (' + ' + '.join(parts) + ')':64} cpu {figures[0]}  "
                        f"wall {figures[1]}",
                        flush=True,
                    )
            gc.enable()
            results[f"{package.__name__} {times}"] = {"wall": seconds, "cpu": cpu}
    if options.out:
        options.out.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
