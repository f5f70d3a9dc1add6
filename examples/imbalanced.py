"""Rare classes: class weights in the hard and in the soft loss, and the recall of each class.

python examples/imbalanced.py
python examples/imbalanced.py --data mine.npz --out imbalanced
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
from tfkd.data import load_digits
from tfkd.export import micro_bundle, to_tflite, verify


def thinned_digits(rare=(3, 8, 9), keep=8):
    """Return the digits with a few training examples of some classes; the test part is whole."""
    data = load_digits()
    kept = np.ones(len(data.train), bool)
    for label in rare:
        kept[np.flatnonzero(data.train.y == label)[keep:]] = False
    train = (data.train.x[kept], data.train.y[kept])
    return {"train": train, "validation": data.validation, "test": data.test}


def load(path):
    """Return three parts of (x in [0, 1], class numbers), and a weight for each class."""
    data = tfkd.as_data(path or thinned_digits(), class_weight="balanced")
    parts, classes = scaled_parts(data)
    if lacking := sorted(set(range(classes)) - set(parts[1][1].tolist())):
        raise tfkd.InputError(
            f"The validation part, which decides between the ways, has no examples of {lacking}: "
            "give x_validation and y_validation with some of each class, beside train and test."
        )
    return parts, [data.class_weight[label] for label in range(classes)]


def classifier(shape, widths, classes):
    layers = keras.layers
    hidden = [layers.Dense(width, activation="relu") for width in widths]
    return keras.Sequential(
        [keras.Input(shape, name="x"), layers.Flatten(), *hidden, layers.Dense(classes)]
    )


def fit(model, train, weights, epochs, learning_rate, teacher=None, soft_loss="auto"):
    """Train a model; `weights` are those of the classes, or `None`.

    `class_weight` weighs examples, by their label, in the hard and in the soft loss.
    `KLDivergence(class_weights=)` weighs the classes within the teacher's answer, too.
    """
    package = keras if isinstance(model, keras.Model) else tf_keras
    if teacher is not None:
        model = tfkd.Distiller(model, teacher, soft_loss=soft_loss)
    hard = package.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(package.optimizers.Adam(learning_rate), hard)
    by_class = None if weights is None else dict(enumerate(weights))
    model.fit(*train, class_weight=by_class, epochs=epochs, batch_size=32, verbose=0)


def recalls(answers, y):
    """Return the recall of each class, in %; NaN for a class without examples."""
    hits, classes = answers.argmax(-1) == y, answers.shape[-1]
    with np.errstate(invalid="ignore"):
        return 100 * np.bincount(y, hits, classes) / np.bincount(y, minlength=classes)


def main(args=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="an .npz file; without it digits, three of them rare")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("imbalanced"))
    parser.add_argument("--quick", action="store_true", help="a few seconds, for a first look")
    options = parser.parse_args(args)
    try:
        (train, validation, test), weights = load(options.data)
    except tfkd.InputError as error:
        sys.exit(f"{error}\n{LAYOUT}")
    epochs, seeds = (3, 1) if options.quick else (40, 5)
    shape, classes = train[0].shape[1:], len(weights)

    counts = np.bincount(train[1])
    rare = np.flatnonzero(counts < counts.mean() / 2)
    print("training examples of each class:", *counts)
    weighted_soft = tfkd.losses.KLDivergence(class_weights=weights)
    ways = {  # class weights, whether there is a teacher, soft loss
        "student alone": (None, False, None),
        "alone, class_weight": (weights, False, None),
        "distilled": (None, True, "auto"),
        "distilled, class_weight": (weights, True, "auto"),
        "distilled, weighted KL too": (weights, True, weighted_soft),
    }
    found = {name: [] for name in ("teacher, class_weight", *ways)}
    for seed in range(seeds):
        keras.utils.set_random_seed(seed)
        teacher = classifier(shape, (128, 128), classes)
        fit(teacher, train, weights, epochs, 1e-3)
        found["teacher, class_weight"].append(teacher)
        for name, (by_class, taught, soft_loss) in ways.items():
            keras.utils.set_random_seed(seed)
            student = classifier(shape, (12,), classes)
            fit(student, train, by_class, epochs, 3e-3, teacher if taught else None, soft_loss)
            found[name].append(student)

    def row(name, models, x, y):
        each = np.array([recalls(model.predict(x, verbose=0), y) for model in models])
        mean = np.nanmean(each, 1)  # the test part may lack a class
        if name:
            sd = mean.std(ddof=len(each) > 1)
            shown = "  ".join(f"{recall:5.1f}" for recall in each.mean(0)[rare])
            print(f"{name:27} {mean.mean():5.1f} ± {sd:3.1f}   {shown}")
        return mean.mean()

    print(f"\nrecall in % on test, {seeds} seeds" + " " * 5 + "all   rare:", *rare)
    for name, models in found.items():
        row(name, models, *test)
    best = max(ways, key=lambda name: row("", found[name], *validation))
    print(f"Best mean recall on the validation part: {best}. Its first seed as int8:\n")

    by_class, taught, soft_loss = ways[best]
    student, teacher = found[best][0], found["teacher, class_weight"][0]
    qat = tfkd.quantize_aware(student)
    few = 1 if options.quick else 5
    fit(qat, train, by_class, few, 3e-4, teacher if taught else None, soft_loss)
    file = to_tflite(qat, "int8")
    print("class", *(f"{label:5d}" for label in range(classes)))
    for name, answers in (("float", student.predict(test[0], verbose=0)),
                          ("int8 ", file.predict(test[0]))):  # fmt: skip
        print(name, *(f"{recall:5.1f}" for recall in recalls(answers, test[1])))
    result = verify(file, qat, *test)
    print(file.describe(), result, sep="\n")
    options.out.mkdir(parents=True, exist_ok=True)
    file.save(options.out / "student_int8.tflite")
    if importlib.util.find_spec("tflite_micro"):
        folder = options.out / "firmware"
        print(micro_bundle(file, folder, "student", x=test[0], y=test[1], force=True))
    return result


if __name__ == "__main__":
    main()
