"""Spoken digits: log-mel features and a DS-CNN that a CNN taught, both as files for the device.

python examples/keywords_dscnn.py
python examples/keywords_dscnn.py --data spoken_digits.npz --seeds 3
"""

import argparse
import functools
import importlib.util
import pathlib
import sys

import keras
import numpy as np
import tf_keras
from keras import layers
from keywords_features import FRAME, LAYOUT, features_of, images, load

import tfkd
from tfkd.export import micro_bundle, to_tflite, verify


def net(shape, widths, classes, separable):
    """Return a CNN, or a DS-CNN, whose convolutions after the first are depthwise separable."""
    first, *others = widths
    kind = layers.SeparableConv2D if separable else layers.Conv2D
    body = [layers.Conv2D(first, 5, 2, "same", use_bias=False)]
    for width in others:
        body += [
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            kind(width, 3, padding="same"),
        ]
    body += [layers.BatchNormalization(momentum=0.9), layers.ReLU()]
    over_time = layers.AveragePooling2D((-(-shape[0] // 2), 1))  # a digit may come at any time
    body += [over_time, layers.Flatten(), layers.Dropout(0.2), layers.Dense(classes)]
    return keras.Sequential([keras.Input(shape, name="log_mel"), *body])


def fit(model, x, y, epochs, learning_rate, teacher=None):
    """Train a model of Keras 3 or tf_keras, under a teacher if there is one."""
    package = keras if isinstance(model, keras.Model) else tf_keras
    if teacher is not None:
        model = tfkd.Distiller(model, teacher)
    hard = package.losses.SparseCategoricalCrossentropy(from_logits=True)
    decay = package.optimizers.schedules.CosineDecay(learning_rate, epochs * -(-len(x) // 32))
    model.compile(package.optimizers.Adam(decay), hard)
    model.fit(x, y, epochs=epochs, batch_size=32, verbose=0)


def predictor(model):
    return functools.partial(model.predict, batch_size=2048, verbose=0)


def accuracy(answers, y):
    return 100 * float(np.mean(answers.argmax(-1) == y))


def main(args=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="an .npz file; without it a telephone's tones are made")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("keywords_dscnn"))
    parser.add_argument("--quick", action="store_true", help="a few seconds, for a first look")
    options = parser.parse_args(args)
    try:
        (sounds, y), _, (test_sounds, y_test) = load(options.data, 500 if options.quick else 3000)
    except tfkd.InputError as error:
        sys.exit(f"{error}\n{LAYOUT}")
    raw = images(predictor(features_of()), sounds)
    features = features_of(float(raw.mean()), float(raw.std()))  # what the device runs, too
    x, x_test = (images(predictor(features), part) for part in (sounds, test_sounds))
    print(f"{len(x)} recordings to train on, {len(x_test)} to test on; accuracy on test in %")
    teaching, epochs, rate = (4, 8, 1e-2) if options.quick else (20, 30, 3e-3)
    classes, gains = int(y.max()) + 1, []
    for seed in range(options.seeds):
        keras.utils.set_random_seed(seed)
        widths = (8, 16) if options.quick else (32, 64, 64, 96)
        teacher, scores = net(x.shape[1:], widths, classes, separable=False), {}
        fit(teacher, x, y, teaching, rate)
        for name, taught_by in (("student alone", None), ("distilled", teacher)):
            keras.utils.set_random_seed(seed)
            student = net(x.shape[1:], (8, 16, 16), classes, separable=True)
            fit(student, x, y, epochs, rate, taught_by)
            scores[name] = accuracy(student.predict(x_test, verbose=0), y_test)
        scores = {"teacher": accuracy(teacher.predict(x_test, verbose=0), y_test)} | scores
        print(f"seed {seed}", *(f"{name} {score:.1f}" for name, score in scores.items()), sep="   ")
        gains.append(scores["distilled"] - scores["student alone"])
    print(f"gain by the teacher {np.mean(gains):+.1f} ± {np.std(gains, ddof=len(gains) > 1):.1f}")

    qat = tfkd.quantize_aware(student)
    fit(qat, x, y, 2 if options.quick else 4, 3e-4, teacher)
    file, front = to_tflite(qat, "int8", micro=True), to_tflite(features, "float32", micro=True)
    result = verify(file, qat, x_test, y_test)
    frames = test_sounds[:100, 3840:][:, :FRAME]
    print(file.describe(), result, front.describe(), verify(front, features, frames), sep="\n")
    heard = images(front.predict, test_sounds[:200])
    print(f"both files, {len(heard)} recordings: {accuracy(file.predict(heard), y_test[:200]):.1f}")
    options.out.mkdir(parents=True, exist_ok=True)
    file.save(options.out / "student_int8.tflite")
    front.save(options.out / "features_float32.tflite")
    if importlib.util.find_spec("tflite_micro"):
        folder = options.out / "firmware"
        print(micro_bundle(front, folder / "features", "features", x=frames, force=True))
        print(micro_bundle(file, folder, "student", x=x_test, y=y_test, force=True))
    return result


if __name__ == "__main__":
    main()
