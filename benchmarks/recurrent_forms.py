"""What LSTM and GRU cost as a file in each form and format, and how well each does.

    python benchmarks/recurrent_forms.py FOLDER --seeds 3
    python benchmarks/recurrent_forms.py --costs 29 150      sizes and times alone, of any weights

FOLDER holds JapaneseVowels_TRAIN.ts and JapaneseVowels_TEST.ts (sktime's format): 9 speakers,
12 channels, padded with zeros to 29 steps. Accuracy is that of the last epoch on the test
split; nothing is chosen on it. Arenas are the least in which the file runs on TensorFlow Lite
for Microcontrollers' host build (64 bit).
"""

from __future__ import annotations

import argparse
import pathlib
import tempfile

import keras
import numpy as np
import tensorflow as tf

from tfkd.errors import ConversionError, UnsupportedError
from tfkd.export import TFLiteModel, recurrent_forms, to_tflite
from tfkd.export.conversion import tracing
from tfkd.export.micro import evaluation
from tfkd.export.tflite import model as artifact

STEPS = 29
FORMATS = ("float32", "int8", "int16x8")
FORMS = ("fused", "unrolled", "loop", "step")


def read(path: pathlib.Path):
    """Return series (examples, steps, channels), padded, and class numbers."""
    lines = path.read_text().split("@data\n")[1].strip().splitlines()
    x = np.zeros((len(lines), STEPS, 12), "float32")
    y = np.zeros(len(lines), int)
    for row, line in enumerate(lines):
        *channels, label = line.split(":")
        for channel, values in enumerate(channels):
            values = [float(v) for v in values.split(",") if v != "NaN"]
            x[row, : len(values), channel] = values
        y[row] = int(label) - 1
    return x, y


def trained(kind: str, units: int, x, y, seed: int, epochs: int, unroll: bool = False):
    keras.utils.set_random_seed(seed)
    i = keras.Input((STEPS, 12))
    layer = getattr(keras.layers, kind)(units, unroll=unroll)
    model = keras.Model(i, keras.layers.Dense(9)(layer(i)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(5e-3), loss)
    model.fit(x, y, epochs=epochs, batch_size=16, verbose=0)
    return model


def kerass_own(model, x) -> TFLiteModel:
    """Convert a model with `unroll=True` as TensorFlow's documentation says."""
    with tempfile.TemporaryDirectory() as folder:
        tracing.save_model(model, folder, 1)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([row[None]] for row in x[:200])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        return TFLiteModel(converter.convert())


def without_reset(file, x):
    """Predict as an application does that forgets to reset."""
    interpreter = artifact.open_interpreter(file.data, "xnnpack")
    given, made = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    answers = []
    for row in file.inputs[0].quantize(x):
        interpreter.set_tensor(given["index"], row[None])
        interpreter.invoke()
        answers.append(interpreter.get_tensor(made["index"])[0])
    return file.outputs[0].dequantize(np.array(answers))


def arena(file) -> str:
    try:
        return f"{evaluation.least_arena(file):,}"
    except ConversionError:
        return "–"


def print_costs(kind: str, units: int, steps: int):
    """Print what `recurrent_forms` measures, and what `"auto"` takes for each target."""
    keras.utils.set_random_seed(0)
    i = keras.Input((steps, 12))
    model = keras.Model(i, keras.layers.Dense(9)(getattr(keras.layers, kind)(units)(i)))
    x = np.random.default_rng(0).normal(size=(100, steps, 12)).astype("float32")
    on_micro = to_tflite(model, "int8", x, micro=True).notes[0]
    micro_takes = [form for form in FORMS if f" {form} for" in on_micro]
    for form in recurrent_forms(model, "int8", x):
        if form.error is None:
            takes = ["phone"] * form.picked + ["microcontroller"] * (form.form in micro_takes)
            print(
                f"| {kind} {form.form} | {steps} | {form.ops} | {form.bytes:,} | "
                f"{form.arena_bytes or 0:,} | {form.latency_us:.1f} | {', '.join(takes)} |",
                flush=True,
            )


def accuracy(outputs, y) -> float:
    return 100 * float(np.mean(outputs.argmax(-1) == y))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, nargs="?")
    parser.add_argument("--costs", type=int, nargs="+", metavar="STEPS")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--units", type=int, default=24)
    options = parser.parse_args()
    if options.costs:
        for kind in ("LSTM", "GRU"):
            for steps in options.costs:
                print_costs(kind, options.units, steps)
        return
    x, y = read(options.folder / "JapaneseVowels_TRAIN.ts")
    test_x, test_y = read(options.folder / "JapaneseVowels_TEST.ts")
    for kind in ("LSTM", "GRU"):
        scores: dict = {}
        costs: dict = {}
        for seed in range(options.seeds):
            model = trained(kind, options.units, x, y, seed, options.epochs)
            made = {}
            for format in FORMATS:
                for form in FORMS:
                    data = x[:200] if format != "float32" else None
                    try:
                        made[format, form] = to_tflite(model, format, data, recurrent=form)
                    except UnsupportedError:
                        continue
            twin = trained(kind, options.units, x[:16], y[:16], seed, 1, unroll=True)
            twin.set_weights(model.get_weights())
            made["int8", "Keras's own unrolling"] = kerass_own(twin, x)
            outputs = {("Keras", ""): model.predict(test_x, verbose=0)}
            for name, file in made.items():
                outputs[name] = file.predict(test_x)
                if file.keeps_state:
                    outputs[(*name, "never reset")] = without_reset(file, test_x)
                if seed == 0:
                    costs[name] = sum(file.ops.values()), file.size, arena(file)
            for name, values in outputs.items():
                scores.setdefault(name, []).append(accuracy(values, test_y))
            print(kind, "seed", seed, {k: round(v[-1], 2) for k, v in scores.items()}, flush=True)
        print(f"\n{kind}: | form | ops | bytes | arena | test accuracy |")
        for name, values in scores.items():
            ops, size, least = costs.get(name, ("", "", ""))
            size = f"{size:,}" if size else ""
            spread = f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f} %"
            print(f"| {' '.join(name)} | {ops} | {size} | {least} | {spread} |")


if __name__ == "__main__":
    main()
