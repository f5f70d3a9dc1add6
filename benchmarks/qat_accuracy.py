"""What quantization-aware training is worth: float, PTQ int8, QAT int8 and QAD int8.

    python benchmarks/qat_accuracy.py --seeds 3
    python benchmarks/qat_accuracy.py keywords lstm --spoken spoken_digits.npz --vowels DIR

A float model is trained; its post-training int8 file (PTQ) is calibrated on training
data; from the same weights it is trained further as float (the control), with rounding
(QAT), and with rounding under a teacher (QAD), all with the same extra epochs, batches and
learning rate. Accuracies are those of the files (XNNPACK, state reset) on the test split,
after the last epoch; nothing is chosen on it. Beside each, the paired difference to QAT with its
95 % t interval over the seeds.

`digits`, `tiny` and `narrow` need no data. `keywords` takes the Free Spoken Digit Dataset
as `.npz`, `lstm`, `gru` and `conv1d` the folder of JapaneseVowels_{TRAIN,TEST}.ts.
"""

import argparse
import json
import pathlib
import statistics
import sys

import keras
import numpy as np
import tf_keras
from distiller_quality import shown, spoken

import tfkd
from tfkd import data as tfkd_data
from tfkd.export import to_tflite

L = keras.layers


def vowels(folder):
    """Return the recordings as (examples, 29, 12), zero-padded, standardized."""

    def read(name):
        series, labels = [], []
        lines = (pathlib.Path(folder) / f"JapaneseVowels_{name}.ts").read_text().splitlines()
        for line in lines[lines.index("@data") + 1 :]:
            *channels, label = line.split(":")
            values = np.array([[float(v) for v in c.split(",")] for c in channels], "float32").T
            series.append(values)
            labels.append(int(label) - 1)
        return series, np.array(labels)

    train, y_train = read("TRAIN")
    test, y_test = read("TEST")
    everything = np.concatenate(train)
    mean, std = everything.mean(0), everything.std(0)

    def padded(series):
        x = np.zeros((len(series), 29, 12), "float32")
        for i, values in enumerate(series):
            x[i, : len(values)] = (values - mean) / std
        return x

    return tfkd.Samples(padded(train), y_train), tfkd.Samples(padded(test), y_test)


def separable(x, width, activation="relu"):
    for depthwise in (True, False):
        x = (
            L.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
            if depthwise
            else L.Conv2D(width, 1, use_bias=False)(x)
        )
        x = L.BatchNormalization(momentum=0.9)(x)
        x = L.Activation(activation)(x)
    return x


def cnn(shape, classes, widths):
    inputs = x = keras.Input(shape)
    for i, width in enumerate(widths):
        x = L.Conv2D(width, 3, strides=2 if i else 1, padding="same", use_bias=False)(x)
        x = L.ReLU()(L.BatchNormalization(momentum=0.9)(x))
    return keras.Model(inputs, L.Dense(classes)(L.GlobalAveragePooling2D()(x)))


def ds_cnn(shape, classes, width, blocks=3, activation="relu"):
    inputs = x = keras.Input(shape)
    x = L.Conv2D(width, 3, strides=2, padding="same", use_bias=False)(x)
    x = L.Activation(activation)(L.BatchNormalization(momentum=0.9)(x))
    for _ in range(blocks):
        x = separable(x, width, activation)
    return keras.Model(inputs, L.Dense(classes)(L.GlobalAveragePooling2D()(x)))


def recurrent(kind):
    def build(shape, classes, width):
        inputs = keras.Input(shape)
        return keras.Model(inputs, L.Dense(classes)(kind(width)(inputs)))

    return build


def conv1d(shape, classes, width):
    inputs = x = keras.Input(shape)
    for _ in range(2):
        x = L.Conv1D(width, 3, padding="same", use_bias=False)(x)
        x = L.ReLU()(L.BatchNormalization(momentum=0.9)(x))
        x = L.MaxPooling1D(2)(x)
    return keras.Model(inputs, L.Dense(classes)(L.GlobalAveragePooling1D()(x)))


# Task → (data, student, its widths, teacher, its widths, epochs, extra epochs).
TASKS = {
    "digits": ("digits", cnn, (6, 8, 12), cnn, (32, 64, 128), 40, 10),
    "tiny": ("digits", ds_cnn, 6, cnn, (32, 64, 128), 40, 10),
    "narrow": (
        "digits",
        lambda s, c, w: ds_cnn(s, c, w, blocks=8, activation="hard_silu"),
        4,
        cnn,
        (32, 64, 128),
        40,
        10,
    ),
    "keywords": ("spoken", ds_cnn, 16, cnn, (32, 64, 96), 40, 10),
    "lstm": ("vowels", recurrent(L.LSTM), 16, recurrent(L.LSTM), 64, 60, 15),
    "gru": ("vowels", recurrent(L.GRU), 16, recurrent(L.GRU), 64, 60, 15),
    "conv1d": ("vowels", conv1d, 12, conv1d, 64, 60, 15),
}


def load(name, options, seed):
    if name == "digits":
        digits = tfkd_data.load_digits(seed)
        return digits.train, digits.test
    return spoken(options.spoken) if name == "spoken" else vowels(options.vowels)


def fit(model, train, epochs, rate, seed, package=keras):
    keras.utils.set_random_seed(seed)
    steps = epochs * -(-len(train) // 32)
    schedule = package.optimizers.schedules.CosineDecay(rate, steps)
    loss = package.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(package.optimizers.Adam(schedule), loss)
    model.fit(train.x, train.y, batch_size=32, epochs=epochs, verbose=0)


def accuracy(predict, test):
    return float(np.mean(predict(test.x).argmax(-1) == test.y))


def copy(model):
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    return twin


def run(task, options, seed) -> dict[str, float]:
    name, student_of, width, teacher_of, wide, epochs, extra = TASKS[task]
    train, test = load(name, options, seed)
    shape, classes = train.x.shape[1:], int(train.y.max()) + 1
    keras.utils.set_random_seed(100 + seed)
    teacher = teacher_of(shape, classes, wide)
    fit(teacher, train, epochs, 3e-3, seed)
    keras.utils.set_random_seed(200 + seed)
    model = student_of(shape, classes, width)
    fit(model, train, epochs, 3e-3, seed)
    examples = train.x[np.random.default_rng(seed).permutation(len(train))[:300]]

    def keras_accuracy(one):
        return accuracy(lambda x: one.predict(x, verbose=0), test)

    def file_accuracy(one, data=None):
        file = to_tflite(one, "int8", data)
        assert file.integer_only
        return accuracy(file.predict, test)

    found = {"teacher": keras_accuracy(teacher), "float": keras_accuracy(model)}
    found["ptq int8"] = file_accuracy(model, examples)
    longer = copy(model)
    fit(longer, train, extra, options.rate, seed)
    found["float, longer"] = keras_accuracy(longer)
    found["ptq int8, longer"] = file_accuracy(longer, examples)
    data = examples if task in ("lstm", "gru") else None
    variants = {"qat int8": (False, None), "qad int8, default": (False, {})}
    for alpha, temperature in options.teach:
        kl = {"alpha": alpha, "temperature": temperature, "soft_loss": "kl"}
        variants[f"qad int8, kl, alpha {alpha:g}, T {temperature:g}"] = (False, kl)
    if options.freeze and any(isinstance(la, L.BatchNormalization) for la in model.layers):
        variants |= {f"{k}, frozen BN": (True, v[1]) for k, v in variants.items()}
    for name, (freeze, teach) in variants.items():
        qat = tfkd.quantize_aware(model, freeze_batch_norm=freeze)
        trained = qat
        if teach is not None:
            trained = tfkd.Distiller(qat, teacher, **teach)
        fit(trained, train, extra, options.rate, seed, tf_keras)
        found[name] = file_accuracy(qat, data)
        if name == "qat int8":
            found["qat graph"] = keras_accuracy(qat)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", default=["digits", "tiny", "narrow"])
    parser.add_argument("--spoken", type=pathlib.Path)
    parser.add_argument("--vowels", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--freeze", action="store_true", help="also with batch norm frozen")
    parser.add_argument(
        "--teach",
        type=lambda text: tuple(map(float, text.split(","))),
        nargs="+",
        default=[(0.1, 4.0)],
        help="alpha,temperature of Hinton's loss, beside the default",
    )
    parser.add_argument("--out", type=pathlib.Path, help="a JSON file; what it has is not run")
    options = parser.parse_args()
    everything: dict[str, dict[str, list[float]]] = {}
    if options.out and options.out.exists():
        everything = json.loads(options.out.read_text())
    for task in options.tasks:
        rows = everything.setdefault(task, {})
        for seed in range(len(rows.get("teacher", [])), options.seeds):
            for name, value in run(task, options, seed).items():
                rows.setdefault(name, []).append(value)
            if options.out:
                options.out.write_text(json.dumps(everything, indent=2))
        print(f"\n{task}, {options.seeds} seeds, rate {options.rate:g}, last epoch")
        for name, values in rows.items():
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            mean = statistics.mean(values)
            gain = shown(100 * (np.array(values) - rows["qat int8"]))
            print(f"  {name:40} {100 * mean:6.2f} ± {100 * spread:.2f}  to QAT {gain}  {values}")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
