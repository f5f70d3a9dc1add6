"""Find anomalies with an autoencoder in int8: AUC, and a threshold chosen on validation.

python examples/anomaly_autoencoder.py
python examples/anomaly_autoencoder.py --data machine.npz --out anomaly
"""

import argparse
import functools
import importlib.util
import pathlib
import sys

import keras
import numpy as np
import tf_keras
from labelled_data import parts_of

import tfkd
from tfkd.export import micro_bundle, to_tflite, verify

LAYOUT = """Expected: an .npz file with x (examples, values) and y, 0 (normal) or 1 (anomaly):
np.savez("machine.npz", x=np.random.randn(2000, 64), y=np.random.randint(0, 2, 2000))"""
FALSE_ALARMS = 0.02  # that the threshold allows among normal examples of the validation part


def vibrations(examples=8000, steps=64, seed=0):
    """Return windows of a machine's vibration, and which of them show a fault.

    Normal windows have three harmonics of a speed that varies by 2 %, with noise. A fault is a
    train of short impulses, a stronger second harmonic, or a fourth harmonic.
    """
    rng = np.random.default_rng(seed)
    y = (rng.random(examples) < 0.15).astype(int)
    time = np.arange(steps) / steps
    x = rng.normal(0, 0.15, (examples, steps))
    for row, is_fault in zip(x, y, strict=True):
        speed, phase = 3 * rng.normal(1, 0.02), rng.uniform(0, 2 * np.pi, 4)
        size = np.array([1.0, 0.5, 0.25, 0.0]) * rng.uniform(0.8, 1.2, 4)
        kind = rng.integers(3) if is_fault else None
        if kind == 0:
            row[rng.integers(12) :: 12] += rng.uniform(0.4, 1.2)
        elif kind is not None:
            size[kind * 2 - 1] += rng.uniform(0.2, 0.6)
        for order in range(4):
            row += size[order] * np.sin(2 * np.pi * (order + 1) * speed * time + phase[order])
    return x.astype("float32"), y


def load(path):
    """Return standardized examples: normal ones to train, validation and test with labels."""
    data = tfkd.as_data(path or vibrations(), class_names=("normal", "anomaly"))
    parts, classes = parts_of(data)
    if classes != 2 or min(len(np.unique(y)) for _, y in parts) < 2:
        raise tfkd.InputError("The labels must be 0 and 1, with both of them in each part.")
    normal = parts[0][0][parts[0][1] == 0]
    mean, scale = normal.mean(), normal.std() + 1e-9  # what a device subtracts and divides by
    (train, y), validation, test = (
        (((x - mean) / scale).reshape(len(x), -1).astype("float32"), y) for x, y in parts
    )
    return train[y == 0], validation, test


def autoencoder(values, width, code):
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((values,), name="x"),
            layers.Dense(width, activation="relu"),
            layers.Dense(code),
            layers.Dense(width, activation="relu"),
            layers.Dense(values, name="reconstruction"),
        ]
    )


def fit(model, x, epochs, learning_rate, teacher=None):
    """Train a model to reproduce its input; a teacher's answers have less noise than the input."""
    package = keras if isinstance(model, keras.Model) else tf_keras
    if teacher is not None:
        model = tfkd.Distiller(model, teacher)
    decay = package.optimizers.schedules.CosineDecay(learning_rate, epochs * -(-len(x) // 64))
    model.compile(package.optimizers.Adam(decay), "mse")
    model.fit(x, x, epochs=epochs, batch_size=64, verbose=0)


def figures(answer, validation, test):
    """Return AUC, faults found and false alarms on test, in %, of a function of x."""

    def error(x):
        return np.square(answer(x) - x).mean(-1)

    normal = validation[0][validation[1] == 0]
    threshold = np.quantile(error(normal), 1 - FALSE_ALARMS)  # of this very model or file
    errors, faulty = error(test[0]), test[1] == 1
    auc = tfkd.model.metrics.score(answer(test[0]), test[1], x=test[0], task="anomaly")["auc"]
    alarms = errors > threshold
    return 100 * auc, 100 * alarms[faulty].mean(), 100 * alarms[~faulty].mean(), threshold


def main(args=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="an .npz file; without it vibrations are generated")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("anomaly_autoencoder"))
    parser.add_argument("--quick", action="store_true", help="a few seconds, for a first look")
    options = parser.parse_args(args)
    try:
        train, validation, test = load(options.data)
    except tfkd.InputError as error:
        sys.exit(f"{error}\n{LAYOUT}")
    epochs, seeds = (2, 1) if options.quick else (60, 3)

    found = {}
    for seed in range(seeds):
        models = {}
        for name, width, code in (("teacher", 128, 12), ("alone", 32, 10), ("distilled", 32, 10)):
            keras.utils.set_random_seed(seed)
            models[name] = autoencoder(train.shape[1], width, code)
            taught_by = models["teacher"] if name == "distilled" else None
            fit(models[name], train, epochs, 2e-3, taught_by)
            answer = functools.partial(models[name].predict, verbose=0)
            found.setdefault(name, []).append(answer)
        for name in ("alone", "distilled"):
            qat = tfkd.quantize_aware(models[name])
            taught_by = models["teacher"] if name == "distilled" else None
            fit(qat, train, 1 if options.quick else 5, 3e-4, taught_by)
            file = to_tflite(qat, "int8")
            found.setdefault(f"{name}, int8", []).append(file.predict)

    print(f"{len(train)} normal examples to train on; {seeds} seeds; test, in %")
    print(f"{'':16} {'AUC':>12} {'faults found':>14} {'false alarms':>14}")
    for name, each in found.items():
        rows = [figures(answer, validation, test) for answer in each]
        mean, sd = np.mean(rows, 0), np.std(rows, 0, ddof=len(rows) > 1)
        shown = [f"{m:.1f} ± {s:.1f}" for m, s in zip(mean[:3], sd[:3], strict=True)]
        print(f"{name:16} {shown[0]:>12} {shown[1]:>14} {shown[2]:>14}")
    print(f"A threshold is the error that {FALSE_ALARMS:.0%} of normal validation examples exceed.")

    threshold = figures(file.predict, validation, test)[3]
    print(f"\nThe last distilled file; an anomaly is a mean square above {threshold:.4f}:")
    result = verify(file, qat, *test, task="anomaly")
    print(file.describe(), result, sep="\n")
    options.out.mkdir(parents=True, exist_ok=True)
    file.save(options.out / "student_int8.tflite")
    if importlib.util.find_spec("tflite_micro"):
        print(micro_bundle(file, options.out / "firmware", "student", x=test[0], force=True))
    return result


if __name__ == "__main__":
    main()
