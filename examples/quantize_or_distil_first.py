"""Distil and then quantize, quantize and then distil, or an int8 teacher: which int8 file is best?

python examples/quantize_or_distil_first.py
python examples/quantize_or_distil_first.py --bits 4
"""

import argparse
import importlib.util
import pathlib
import sys

import keras
import numpy as np
import tf_keras
from labelled_data import LAYOUT, scaled_parts

import tfkd
from tfkd.export import micro_bundle, to_tflite, verify

# Stages: whether the rounding is in them, who teaches, the share of the epochs. All have as many.
WAYS = {
    "alone, then quantized": [(False, None, 0.8), (True, None, 0.2)],
    "distilled, then rounded": [(False, "teacher", 1.0), (True, None, 0.0)],
    "distilled, then quantized alone": [(False, "teacher", 0.8), (True, None, 0.2)],
    "distilled, then quantized": [(False, "teacher", 0.8), (True, "teacher", 0.2)],
    "alone, then quantized, distilled": [(False, None, 0.8), (True, "teacher", 0.2)],
    "quantized at once, distilled": [(True, "teacher", 1.0)],
    "distilled by int8, then quantized": [(False, "int8", 0.8), (True, "int8", 0.2)],
}
AGAINST = "distilled, then quantized"  # the differences of all others are from it


def load(path):
    """Return rows of features in [0, 1] and class numbers, in three parts, and the classes."""
    parts, classes = scaled_parts(path)
    return [(x.reshape(len(x), -1), y) for x, y in parts], classes


def classifier(features, widths, classes):
    layers = keras.layers
    hidden = [layers.Dense(width, activation="relu") for width in widths]
    return keras.Sequential(
        [keras.Input((features,), name="features"), *hidden, layers.Dense(classes, name="logits")]
    )


def fit(model, x, y, epochs, learning_rate, teacher=None):
    """Train a model of Keras 3 or tf_keras, under a teacher (a model or a file) if there is one."""
    package = keras if isinstance(model, keras.Model) else tf_keras
    more = {}
    if teacher is not None:
        model = tfkd.Distiller(model, teacher, teacher_from_logits=True)
        more = {"cache_teacher": True}  # it is asked once
    hard = package.losses.SparseCategoricalCrossentropy(from_logits=True)
    decay = package.optimizers.schedules.CosineDecay(learning_rate, epochs * -(-len(x) // 32))
    model.compile(package.optimizers.Adam(decay), hard)
    model.fit(x, y, epochs=epochs, batch_size=32, verbose=0, **more)


def trained(stages, student, teachers, x, y, options):
    """Return the quantize-aware model that some stages make of a student."""
    for is_rounded, teacher, share in stages:
        if is_rounded:
            student = tfkd.quantize_aware(student, bits=options.bits)
        epochs = round(share * (5 if options.quick else 40))
        if epochs:
            rate = 5e-4 if share < 0.5 else 3e-3  # the last stage repairs, the others learn
            fit(student, x, y, epochs, rate, teachers.get(teacher))
        else:
            tfkd.quantization.calibrate(student, x)  # ranges alone; no training
    return student


def accuracy(answers, y):
    return 100 * float(np.mean(answers.argmax(-1) == y))


def spread(values, sign=""):
    """Write a mean over seeds and its standard deviation."""
    return f"{np.mean(values):{sign}.1f} ± {np.std(values, ddof=len(values) > 1):.1f}"


def main(args=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="an .npz file; without it scikit-learn's digits")
    parser.add_argument("--bits", type=int, choices=(4, 8), default=8, help="of the weights")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("quantize_or_distil"))
    parser.add_argument("--quick", action="store_true", help="a few seconds, for a first look")
    options = parser.parse_args(args)
    try:
        ((x, y), (x_val, y_val), (x_test, y_test)), classes = load(options.data)
    except tfkd.InputError as error:
        sys.exit(f"{error}\n{LAYOUT}")
    ways = WAYS
    if options.quick:
        options.seeds, ways = 1, {name: WAYS[name] for name in list(WAYS)[1::2]}
    found, chosen_by, kept = {name: [] for name in ways}, {name: [] for name in ways}, {}
    scores = []
    for seed in range(options.seeds):
        keras.utils.set_random_seed(seed)
        teacher = classifier(x.shape[1], (128, 128), classes)
        fit(teacher, x, y, 5 if options.quick else 30, 1e-3)
        teachers = {"teacher": teacher, "int8": to_tflite(teacher, "int8", x)}
        scores.append(accuracy(teacher.predict(x_test, verbose=0), y_test))
        for name, stages in ways.items():
            keras.utils.set_random_seed(seed)
            student = classifier(x.shape[1], (12,), classes)
            qat = trained(stages, student, teachers, x, y, options)
            file = to_tflite(qat, "int8")
            found[name].append(accuracy(file.predict(x_test), y_test))
            chosen_by[name].append(accuracy(file.predict(x_val), y_val))
            kept.setdefault(name, (qat, file))
    print(f"accuracy of the int8 files on test in %, {options.seeds} seeds; weights of "
          f"{options.bits} bits; teacher {spread(scores)}")  # fmt: skip
    for name, each in found.items():
        paired = spread(np.subtract(each, found[AGAINST]), "+")
        print(f"{name:34} {spread(each):>12}   {'' if name == AGAINST else paired}")
    print(f"The last column: the difference from '{AGAINST}', seed by seed. One that is smaller "
          "than its ± is none.")  # fmt: skip

    best = max(chosen_by, key=lambda name: np.mean(chosen_by[name]))
    qat, file = kept[best]
    print(f"\nBest on the validation part: {best}. The file of the first seed:")
    result = verify(file, qat, x_test, y_test)
    print(file.describe(), result, sep="\n")
    options.out.mkdir(parents=True, exist_ok=True)
    file.save(options.out / "student_int8.tflite")
    if importlib.util.find_spec("tflite_micro"):
        folder = options.out / "firmware"
        print(micro_bundle(file, folder, "student", x=x_test, y=y_test, force=True))
    return result


if __name__ == "__main__":
    main()
