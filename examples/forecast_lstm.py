"""Forecast a series with an LSTM that a larger one bounds, in int8, and step by step.

python examples/forecast_lstm.py
python examples/forecast_lstm.py --data ETTh1.csv --column OT --steps 14400 --out forecast
"""

import argparse
import csv
import importlib.util
import pathlib
import sys

import keras
import numpy as np
import tf_keras
from ai_edge_litert.interpreter import Interpreter

import tfkd
from tfkd.export import micro_bundle, to_tflite, verify

LAYOUT = """Expected: a .csv file with a header, a line for each time step and numbers in --column:
date,OT / 2016-07-01 00:00:00,30.53 / 2016-07-01 01:00:00,27.79"""
LENGTH, HORIZON = 96, 24
UNITS = {"teacher": 48, "student alone": 12, "student, teacher-bounded": 12}


def series_of(options):
    """Return a series (steps,)."""
    if options.data:
        with open(options.data, encoding="utf-8-sig") as lines:
            values = np.array([float(row[options.column]) for row in csv.DictReader(lines)])
        if not np.isfinite(values).all():
            raise ValueError(f"column {options.column!r} has gaps; fill them first")
        return values[: options.steps]
    steps = 1000 if options.quick else 4000
    rng, hours = np.random.default_rng(0), np.arange(steps)  # daily, weekly, and what drifts
    daily = np.sin(2 * np.pi * hours / 24) * (1 + 0.3 * np.sin(2 * np.pi * hours / 168))
    return daily + np.cumsum(rng.normal(0, 0.05, steps)) + rng.normal(0, 0.1, steps)


def load(options):
    """Return differences (windows, 96, 1), and targets (windows, 24) relative to the last value.

    The input of a step thus does not depend on the window, and the state can be carried on. Errors
    are in standard deviations of the training part, as in the literature.
    """
    data = tfkd.windows(series_of(options), LENGTH + 1, HORIZON)
    level, change = data.train.x.std(), np.diff(data.train.x, axis=1).std()
    return [
        ((np.diff(part.x, axis=1) / change).astype("float32"),
         ((part.y - part.x[:, -1]) / level).astype("float32"))
        for part in (data.train, data.validation, data.test)
    ]  # fmt: skip


def forecaster(units):
    hidden, forecast = keras.layers.LSTM(units), keras.layers.Dense(HORIZON)
    return keras.Sequential([keras.Input((LENGTH, 1), name="x"), hidden, forecast])


def fit(model, x, y, epochs, learning_rate, teacher=None):
    """Train a model; where the student is better than its teacher, only the labels count."""
    package = keras if isinstance(model, keras.Model) else tf_keras
    if teacher is not None:
        model = tfkd.Distiller(model, teacher, soft_loss="teacher_bounded", alpha=0.5)
    decay = package.optimizers.schedules.CosineDecay(learning_rate, epochs * -(-len(x) // 64))
    model.compile(package.optimizers.Adam(decay), "mse")
    model.fit(x, y, epochs=epochs, batch_size=64, verbose=0)


def carried_on(file, x):
    """Forecast as a device does: one call for each new value, the state never reset.

    Args:
        file: A step file; its state is copied from its outputs to its inputs, byte by byte.
        x: Windows (windows, steps, 1), each a step later than the window before.
    """
    interpreter = Interpreter(model_content=file.data)
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner()
    given, made = ({info.name: info for info in infos} for infos in (file.inputs, file.outputs))
    (data,) = (info for name, info in given.items() if name.startswith("step_"))
    (answer,) = (info for name, info in made.items() if name not in dict(file.states).values())
    state = {i: np.full(given[i].shape, given[i].zero_point, "int8") for i, _ in file.states}
    answers = []
    for value in (*x[0], *x[1:, -1]):
        outputs = runner(**state, **{data.name: data.quantize(value.reshape(data.shape))})
        state = {name: outputs[made_by] for name, made_by in file.states}
        answers.append(answer.dequantize(outputs[answer.name])[0])
    return np.array(answers[x.shape[1] - 1 :])


def show(name, answers, y):
    mse, mae = np.square(answers - y).mean(), np.abs(answers - y).mean()
    print(f"{name:34} {mse:8.4f} {mae:8.4f}", flush=True)
    return mse


def main(args=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="a .csv file; without it a series is generated")
    parser.add_argument("--column", default="OT", help="of the file; default OT")
    parser.add_argument("--steps", type=int, help="take so many lines of the file; default all")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("forecast_lstm"))
    parser.add_argument("--quick", action="store_true", help="a few seconds, for a first look")
    options = parser.parse_args(args)
    try:
        (x, y), _, (x_test, y_test) = load(options)
    except (OSError, KeyError, TypeError, ValueError) as error:
        sys.exit(f"{options.data} can't be read: {error}\n{LAYOUT}")
    few = 16 if options.quick else 4  # neighbouring windows teach nearly the same
    train, epochs = (x[::few], y[::few]), 1 if options.quick else 15

    print(f"{len(train[0])} windows to train on, {len(x_test)} to test on; {'MSE':>5} {'MAE':>8}")
    show("the last value repeated", np.zeros_like(y_test), y_test)
    saved = []
    for seed in range(options.seeds):
        models, mse = {}, {}
        for name, units in UNITS.items():
            keras.utils.set_random_seed(seed)
            models[name] = forecaster(units)
            fit(models[name], *train, epochs, 3e-3, models["teacher"] if "bound" in name else None)
            answers = models[name].predict(x_test, verbose=0)
            mse[name] = show(f"{name}, seed {seed}", answers, y_test)
        saved.append(mse["student alone"] - mse["student, teacher-bounded"])
    spread = np.std(saved, ddof=len(saved) > 1)
    print(f"MSE saved by the teacher: {np.mean(saved):.4f} ± {spread:.4f}, seeds: {len(saved)}")

    qat = tfkd.quantize_aware(models["student, teacher-bounded"])
    fit(qat, *train, 1 if options.quick else 3, 3e-4, models["teacher"])
    file = to_tflite(qat, "int8", x[:200], recurrent="fused")
    step = to_tflite(qat, "int8", x[:200], recurrent="step")
    show("int8, whole window (fused)", file.predict(x_test), y_test)
    show("int8, step by step from zero", step.predict(x_test), y_test)
    show("int8, step, state carried on", carried_on(step, x_test), y_test)
    result = verify(file, qat, x_test, y_test)
    print(file.describe(), step.describe(), result, sep="\n")
    options.out.mkdir(parents=True, exist_ok=True)
    file.save(options.out / "student_int8.tflite")
    step.save(options.out / "student_step_int8.tflite")
    if importlib.util.find_spec("tflite_micro"):
        folder = options.out / "firmware"
        print(micro_bundle(step, folder, "student", x=x_test[:20], y=y_test[:20], force=True))
    return result


if __name__ == "__main__":
    main()
