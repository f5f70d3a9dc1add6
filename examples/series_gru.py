"""Classify series of different lengths with a GRU: each form of its file, at the true lengths.

python examples/series_gru.py
python examples/series_gru.py --data JapaneseVowels --layer LSTM
"""

import argparse
import importlib.util
import pathlib
import sys

import keras
import numpy as np
import tf_keras

import tfkd
from tfkd.export import micro_bundle, to_tflite, verify

LAYOUT = """Expected: a folder with *_TRAIN.ts and *_TEST.ts (sktime); a line is channels:...:class,
@data / 1.8,1.9,1.7:0.2,0.1,0.3:speaker1 / 0.9,1.1:-0.3,0.2:speaker2"""


def read(path):
    """Return a list of series (steps, channels) and the texts of their classes."""
    _, _, lines = path.read_text().partition("@data\n")
    rows = [line.split(":") for line in lines.split("\n") if line.strip()]
    values = [[[float(v) for v in c.split(",") if v != "NaN"] for c in row[:-1]] for row in rows]
    return [np.array(one, "float32").T for one in values], [row[-1].strip() for row in rows]


def generated(examples, longest, seed):
    """Return noisy sweeps of 7 to `longest` steps in 3 channels, and which of 6 kinds each is."""
    rng, series = np.random.default_rng(seed), []
    kinds = rng.integers(6, size=examples)
    for kind in kinds:
        steps, phase = rng.integers(7, longest + 1), rng.uniform(0, 2 * np.pi)
        angle = phase + (0.5 + 0.12 * kind + rng.normal(0, 0.04)) * np.arange(steps)
        clean = np.stack([np.sin(angle), np.cos(angle), np.sin(2 * angle)], 1)
        series.append(clean + rng.normal(0, 0.4, clean.shape))
    return series, [str(kind) for kind in kinds]


def load(options):
    """Return (x padded in front, class numbers, steps) of the training and the test part."""
    if options.data is None:
        few, longest = (100, 8) if options.quick else (400, 29)
        parts = [generated(few, longest, seed=0), generated(few, longest, seed=1)]
    else:
        both = [path for end in ("TRAIN", "TEST") for path in options.data.glob(f"*_{end}.ts")]
        parts = [read(path) for path in both]
        if len(parts) != 2 or not all(labels for _, labels in parts):
            raise ValueError("there must be two files with lines after @data")
    names = sorted(set(parts[0][1]))
    every = np.concatenate(parts[0][0])
    longest = max(len(one) for series, _ in parts for one in series)
    for series, labels in parts:
        x = np.zeros((len(series), longest, every.shape[1]), "float32")
        for row, one in zip(x, series, strict=True):
            row[longest - len(one) :] = (one - every.mean(0)) / (every.std(0) + 1e-6)
        y, steps = [names.index(label) for label in labels], [len(one) for one in series]
        yield x, np.array(y), np.array(steps)


def student_of(kind, shape, classes):
    """Return a student without masks, which integer files lack: it learns to ignore the padding."""
    recurrent = getattr(keras.layers, kind)(24)
    return keras.Sequential([keras.Input(shape, name="x"), recurrent, keras.layers.Dense(classes)])


def teacher_of(shape, classes):
    """Return a bidirectional teacher with masked padding; it need not fit into any file."""
    layers = keras.layers
    hidden = [layers.Masking(), layers.Bidirectional(layers.GRU(64)), layers.Dropout(0.3)]
    return keras.Sequential([keras.Input(shape, name="x"), *hidden, layers.Dense(classes)])


def fit(model, x, y, epochs, learning_rate, teacher=None):
    """Train a model of Keras 3 or tf_keras, under a teacher if there is one."""
    package = keras if isinstance(model, keras.Model) else tf_keras
    if teacher is not None:
        model = tfkd.Distiller(model, teacher)
    hard = package.losses.SparseCategoricalCrossentropy(from_logits=True)
    decay = package.optimizers.schedules.CosineDecay(learning_rate, epochs * -(-len(x) // 16))
    model.compile(package.optimizers.Adam(decay), hard)
    model.fit(x, y, epochs=epochs, batch_size=16, verbose=0)


def accuracy(answers, y):
    return 100 * float(np.mean(answers.argmax(-1) == y))


def at_true_lengths(file, x, steps, classes):
    """Run a step file on the true steps of each series, without the padding."""
    answers = np.zeros((len(x), classes))
    for length in np.unique(steps):
        answers[steps == length] = file.predict(x[steps == length, -length:])
    return answers


def main(args=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, help="a folder; without it series are made")
    parser.add_argument("--layer", choices=("GRU", "LSTM"), default="GRU")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("series_gru"))
    parser.add_argument("--quick", action="store_true", help="a few seconds, for a first look")
    options = parser.parse_args(args)
    try:
        (x, y, _), (x_test, y_test, steps) = load(options)
    except (OSError, ValueError) as error:
        sys.exit(f"{options.data} can't be read: {error}\n{LAYOUT}")
    shape, classes, epochs = x.shape[1:], int(y.max()) + 1, 1 if options.quick else 60
    print(f"{len(x)} series to train on, {len(x_test)} to test on; accuracy on test in %")
    gains = []
    for seed in range(options.seeds):
        keras.utils.set_random_seed(seed)
        models, scores = {"teacher": teacher_of(shape, classes)}, {}
        for name in ("teacher", "student alone", "distilled"):
            keras.utils.set_random_seed(seed)
            model = models.setdefault(name, student_of(options.layer, shape, classes))
            fit(model, x, y, epochs, 5e-3, models["teacher"] if name == "distilled" else None)
            scores[name] = accuracy(model.predict(x_test, verbose=0), y_test)
        print(f"seed {seed}", *(f"{name} {score:.1f}" for name, score in scores.items()), sep="   ")
        gains.append(scores["distilled"] - scores["student alone"])
    print(f"gain by the teacher {np.mean(gains):+.1f} ± {np.std(gains, ddof=len(gains) > 1):.1f}")
    qat = tfkd.quantize_aware(models["distilled"])
    fit(qat, x, y, 1 if options.quick else 8, 5e-4, models["teacher"])
    print(f"\n{options.layer}, distilled    test  operators    bytes")
    for format, model in (("float16", models["distilled"]), ("int8", qat)):
        for form in ("fused", "unrolled", "loop", "step"):
            try:
                file = to_tflite(model, format, x[:200], recurrent=form)
            except tfkd.UnsupportedError as error:
                print(f"{format:8} {form:9} none: {str(error).split(':')[0]}")
                continue
            score = accuracy(file.predict(x_test), y_test)
            print(f"{format:8} {form:9} {score:5.1f}  {sum(file.ops.values()):9} {file.size:8,}")
        score = accuracy(at_true_lengths(file, x_test, steps, classes), y_test)
        print(f"{format:8} step      {score:5.1f}  on the true steps alone", flush=True)
    result = verify(file, qat, x_test, y_test)
    print(file.describe(), result, sep="\n")
    options.out.mkdir(parents=True, exist_ok=True)
    file.save(options.out / "student_step_int8.tflite")
    if importlib.util.find_spec("tflite_micro"):
        print(micro_bundle(file, options.out / "firmware", "student", x=x_test[:20], force=True))
    return result


if __name__ == "__main__":
    main()
