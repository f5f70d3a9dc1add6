"""Sentiment of sentences: a bidirectional LSTM teaches a small one, with its words on the device.

python examples/text_lstm.py
python examples/text_lstm.py --data sst2 --seeds 3
"""

import argparse
import importlib.util
import pathlib
import sys

import keras
import numpy as np
import tf_keras
from text_words import LAYOUT, encode, load, vocabulary_of, write_words

import tfkd
from tfkd.export import micro_bundle, to_tflite, verify


def arguments(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=pathlib.Path, help="a folder; without it texts are made")
    parser.add_argument("--length", type=int, default=40, help="words that are read; default 40")
    parser.add_argument("--vocabulary", type=int, default=4000, help="words; default 4000")
    parser.add_argument("--units", type=int, default=16, help="of the student; default 16")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("text_lstm"))
    parser.add_argument("--quick", action="store_true", help="a few seconds, for a first look")
    return parser


def sentences(options):
    """Return the parts (texts, words as numbers, labels), and the vocabulary."""
    try:
        parts = load(options.data, 400 if options.quick else 1500)
    except (OSError, ValueError) as error:
        sys.exit(f"{options.data} can't be read: {error}\n{LAYOUT}")
    if options.quick:
        options.length, options.units = 18, 8
    vocabulary = vocabulary_of(parts[0][0], options.vocabulary)
    ids = [encode(texts, vocabulary, options.length) for texts, _ in parts]
    if (known := (ids[0] > 1).any(1).mean()) < 0.5:
        sys.exit(
            f"The vocabulary has {len(vocabulary)} words, and {1 - known:.0%} of the training "
            "texts have none of them. A word is of ASCII letters, digits and apostrophes, and "
            "occurs twice or more: for another language change words_of and words_encode.\n"
            f"{LAYOUT}"
        )
    print(f"{len(ids[0])} texts to train on, {len(ids[2])} to test on, {len(vocabulary)} words; "
          "accuracy on test in %")  # fmt: skip
    return [(texts, x, y) for (texts, y), x in zip(parts, ids, strict=True)], vocabulary


def classifier(shape, words, units, is_teacher):
    """Integer files have no masks: the student learns to pass over the padding in front."""
    layers = keras.layers
    recurrent = layers.LSTM(units)
    if is_teacher:
        recurrent = layers.Bidirectional(recurrent)
    embedding = layers.Embedding(words + 2, units, mask_zero=is_teacher)
    hidden = [embedding, layers.Dropout(0.3), recurrent, layers.Dropout(0.3)]
    return keras.Sequential(
        [keras.Input(shape, dtype="int32", name="words"), *hidden, layers.Dense(2)]
    )


def fit(model, x, y, epochs, learning_rate, teacher=None, from_logits=None, cache=False):
    """Train a model of Keras 3 or tf_keras, under a teacher if there is one."""
    package = keras if isinstance(model, keras.Model) else tf_keras
    more = {}
    if teacher is not None:
        model = tfkd.Distiller(model, teacher, teacher_from_logits=from_logits)
        more = {"cache_teacher": cache}
    hard = package.losses.SparseCategoricalCrossentropy(from_logits=True)
    decay = package.optimizers.schedules.CosineDecay(learning_rate, epochs * -(-len(x) // 32))
    model.compile(package.optimizers.Adam(decay), hard)
    model.fit(x, y, epochs=epochs, batch_size=32, verbose=0, **more)


def accuracy(answers, y):
    return 100 * float(np.mean(answers.argmax(-1) == y))


def run(options, parts, vocabulary, teach):
    """Train students alone and taught, and make the file of the last.

    `teach` maps a seed to a teacher's accuracy and further arguments of `fit`: the teacher,
    whether it gives logits (a model shows that) and its answers, if they were kept.
    """
    (_, x, y), _, (_, x_test, y_test) = parts
    epochs, gains = 6 if options.quick else options.epochs, []
    for seed in range(options.seeds):
        keras.utils.set_random_seed(seed)
        score, teacher = teach(seed)
        scores = {"teacher": score}
        for name, taught_by in (("student alone", ()), ("distilled", teacher)):
            keras.utils.set_random_seed(seed)
            student = classifier(x.shape[1:], len(vocabulary), options.units, is_teacher=False)
            fit(student, x, y, epochs, 2e-2 if options.quick else 3e-3, *taught_by)
            scores[name] = accuracy(student.predict(x_test, verbose=0), y_test)
        print(f"seed {seed}", *(f"{name} {score:.1f}" for name, score in scores.items()), sep="   ")
        gains.append(scores["distilled"] - scores["student alone"])
    print(f"gain by the teacher {np.mean(gains):+.1f} ± {np.std(gains, ddof=len(gains) > 1):.1f}")

    qat = tfkd.quantize_aware(student)
    fit(qat, x, y, 1 if options.quick else 2, 3e-4, *teacher)
    file = to_tflite(qat, "int8", x[:300], micro=True)
    result = verify(file, qat, x_test, y_test)
    print(file.describe(), result, sep="\n")
    options.out.mkdir(parents=True, exist_ok=True)
    file.save(options.out / "student_int8.tflite")
    folder = options.out
    if importlib.util.find_spec("tflite_micro"):
        folder = options.out / "firmware"
        print(micro_bundle(file, folder, "student", x=x_test[:300], y=y_test[:300], force=True))
    write_words(vocabulary, options.length, folder)
    return result


def main(args=None):
    options = arguments(__doc__.splitlines()[0]).parse_args(args)
    parts, vocabulary = sentences(options)
    (_, x, y), _, (_, x_test, y_test) = parts

    def teach(seed):
        teacher = classifier(x.shape[1:], len(vocabulary), 16 if options.quick else 64, True)
        fit(teacher, x, y, 3 if options.quick else 5, 1e-2 if options.quick else 1e-3)
        score = accuracy(teacher.predict(x_test, verbose=0), y_test)
        return score, (teacher, None, tfkd.cache_teacher(x, teacher))

    return run(options, parts, vocabulary, teach)


if __name__ == "__main__":
    main()
