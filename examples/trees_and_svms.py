"""What is no neural network teaches one: forest, boosting, SVM, a function → int8 student.

python examples/trees_and_svms.py
python examples/trees_and_svms.py --data mine.npz --out trees
"""

import argparse
import importlib.util
import pathlib
import sys

import keras
import numpy as np
import tf_keras
from labelled_data import LAYOUT, scaled_parts
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC

import tfkd
from tfkd.export import micro_bundle, to_tflite, verify


def load(path):
    """Return rows of features in [0, 1] and class numbers, in three parts, and the classes."""
    parts, classes = scaled_parts(path)
    counts = np.bincount(parts[0][1])
    if counts.min() < 5 or counts.sum() < 10 * classes:  # they keep some to calibrate and to stop
        raise tfkd.InputError(
            f"Of {counts.sum()} training examples, {counts.min()} are of class {counts.argmin()}: "
            "the teachers need 5 of each class, and 10 times as many as classes in all."
        )
    return [(x.reshape(len(x), -1), y) for x, y in parts], classes


def plain_function(x, y):
    """Return a function from a NumPy batch to logits; a teacher need be no more than that.

    A PyTorch model is wrapped the same way:
    lambda x: torch_model(torch.from_numpy(x)).detach().numpy()
    """
    net = MLPClassifier((128,), early_stopping=True, random_state=0).fit(x, y)
    (w1, w2), (b1, b2) = net.coefs_, net.intercepts_
    if len(b2) == 1:  # of two classes scikit-learn has one logit; that of the first class is 0
        w2, b2 = np.pad(w2, ((0, 0), (1, 0))), np.pad(b2, (1, 0))
    return lambda x: np.maximum(x @ w1 + b1, 0) @ w2 + b2


def teachers(x, y, quick):
    """Return name → (function from a batch to an output per class, whether these are logits)."""
    forest = RandomForestClassifier(20 if quick else 300, min_samples_leaf=2, random_state=0)
    boosting = HistGradientBoostingClassifier(max_iter=5 if quick else 100, random_state=0)
    svm = CalibratedClassifierCV(SVC(C=10.0), ensemble=False)  # scores → probabilities
    return {
        "random forest": (forest.fit(x, y).predict_proba, False),
        "gradient boosting": (boosting.fit(x, y).predict_proba, False),
        "SVM": (svm.fit(x, y).predict_proba, False),
        "plain function": (plain_function(x, y), True),
    }


def student_of(features, classes):
    hidden, logits = keras.layers.Dense(16, "relu"), keras.layers.Dense(classes, name="logits")
    return keras.Sequential([keras.Input((features,), name="features"), hidden, logits])


def fit(model, package, teacher, train, epochs, learning_rate):
    """Train a model of Keras 3 or tf_keras, under a teacher if there is one."""
    if teacher is not None:
        model = tfkd.Distiller(model, teacher[0], teacher_from_logits=teacher[1])
    hard = package.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(package.optimizers.Adam(learning_rate), hard)
    more = {} if teacher is None else {"cache_teacher": True}  # it is asked once per example
    model.fit(*train, epochs=epochs, batch_size=32, verbose=0, **more)


def accuracy(answers, y):
    return 100 * float(np.mean(answers.argmax(-1) == y))


def spread(values, sign=""):
    """Write a mean over seeds and its standard deviation."""
    return f"{np.mean(values):{sign}.1f} ± {np.std(values, ddof=len(values) > 1):.1f}"


def one_run(teacher, parts, classes, seed, quick):
    """Return test accuracies of student and file, the file's on validation, and both models."""
    (x, y), (x_val, y_val), (x_test, y_test) = parts
    keras.utils.set_random_seed(seed)
    student = student_of(x.shape[1], classes)
    fit(student, keras, teacher, (x, y), 3 if quick else 60, 2e-3)
    qat = tfkd.quantize_aware(student)
    fit(qat, tf_keras, teacher, (x, y), 1 if quick else 6, 2e-4)
    file = to_tflite(qat, "int8")
    score = accuracy(student.predict(x_test, verbose=0), y_test)
    chosen_by = accuracy(file.predict(x_val), y_val)
    return score, accuracy(file.predict(x_test), y_test), chosen_by, qat, file


def main(args=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="an .npz file; without it scikit-learn's digits")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("trees_and_svms"))
    parser.add_argument("--quick", action="store_true", help="a few seconds, for a first look")
    options = parser.parse_args(args)
    try:
        parts, classes = load(options.data)
    except tfkd.InputError as error:
        sys.exit(f"{error}\n{LAYOUT}")

    x_test, y_test = parts[2]
    seeds = range(1 if options.quick else 3)
    every = {"none": None} | teachers(*parts[0], options.quick)
    if options.quick:
        every = {name: every[name] for name in ("none", "SVM", "plain function")}
    print(f"{len(parts[0][0])} training and {len(x_test)} test examples; accuracy on test, in %")
    print(f"{'teacher':18} {'alone':>6}  {'student':>12}  {'int8 file':>12}  gain by the teacher")
    runs = {}
    for name, teacher in every.items():
        runs[name] = [one_run(teacher, parts, classes, seed, options.quick) for seed in seeds]
        floats, ints = (np.array([run[i] for run in runs[name]]) for i in (0, 1))
        gain = floats - [run[0] for run in runs["none"]]  # the same seed with and without
        alone = "" if teacher is None else f"{accuracy(teacher[0](x_test), y_test):.1f}"
        gain = "" if teacher is None else spread(gain, "+")
        print(f"{name:18} {alone:>6}  {spread(floats):>12}  {spread(ints):>12}  {gain}", flush=True)
    print(f"Seeds: {len(seeds)}. A gain that is smaller than its ± is none.")

    best = max(runs, key=lambda name: np.mean([run[2] for run in runs[name]]))
    *_, qat, file = runs[best][0]
    print(f"\nBest int8 files on the validation part: teacher {best}. That of the first seed:")
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
