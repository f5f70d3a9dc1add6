"""What pruning costs in accuracy: criteria × {one cut, spiral}, from-scratch baselines beside them.

`--criteria slimming` is `tfkd.Slimming` on the scales of batch normalization for half of the
epochs, one cut by the remaining scales, and distillation for the other half.

    python benchmarks/pruning.py cifar --data cifar10.npz --teacher resnet8.keras
    python benchmarks/pruning.py resnet56 --data cifar10.npz --teacher resnet56.keras
    python benchmarks/pruning.py spoken --data spoken_digits.npz
    python benchmarks/pruning.py vowels --data JapaneseVowels_TRAIN.ts JapaneseVowels_TEST.ts

The teacher is trained first (and kept at `--teacher`, to be read the next time). Every student has
as many epochs as the spiral, unless its line says otherwise. Choices are made on a validation part;
the test part is used once, after the last epoch. Nothing was tuned on these data. Results are
written after each cell, so that a run that is cut short keeps its results.
"""

import argparse
import dataclasses
import json
import pathlib
import statistics
import time

import keras
import numpy as np
import tensorflow as tf
import tf_keras
from distiller_quality import spoken as load_spoken

import tfkd
from tfkd.compression import trainer as training
from tfkd.loading import models
from tfkd.model import backends


@dataclasses.dataclass(frozen=True)
class Task:
    """What is pruned, and how long it is trained."""

    build: object  # () → an untrained teacher
    teacher_epochs: int
    rate: float
    spiral: dict
    criteria: tuple
    batch_size: int = 32
    augment: object = None
    further: tuple = ("scratch_taught", "original_trained_on")
    costly: bool = False  # one teacher for all seeds, and fewer baselines after the first


def resnet(depth: int, width: int):
    """A ResNet of 6n + 2 layers (He et al. 2016, section 4.2), in tf_keras, which is faster."""
    layers = tf_keras.layers
    decay = tf_keras.regularizers.L2(2.5e-4)

    def conv(x, filters, stride=1, size=3):
        x = layers.Conv2D(filters, size, stride, "same", use_bias=False, kernel_regularizer=decay)(
            x
        )
        return layers.BatchNormalization(momentum=0.9)(x)

    inputs = tf_keras.Input((32, 32, 3))
    x = layers.ReLU()(conv(inputs, width))
    for stage in range(3):
        for block in range((depth - 2) // 6):
            filters, stride = width * 2**stage, 2 if stage and not block else 1
            y = conv(layers.ReLU()(conv(x, filters, stride)), filters)
            x = x if stride == 1 else conv(x, filters, stride, 1)
            x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return tf_keras.Model(inputs, layers.Dense(10, kernel_regularizer=decay)(x))


def shifted_and_flipped(x):
    """Mirror half of the images, and shift the batch by up to four pixels."""
    mirror = tf.random.uniform((tf.shape(x)[0], 1, 1, 1)) < 0.5
    x = tf.pad(tf.where(mirror, x[:, :, ::-1], x), [[0, 0], [4, 4], [4, 4], [0, 0]], "REFLECT")
    top, left = tf.unstack(tf.random.uniform((2,), 0, 9, tf.int32))
    return x[:, top : top + 32, left : left + 32]


def spoken_net():
    layers = keras.layers
    inputs = x = keras.Input((31, 32, 1))
    for i, width in enumerate((32, 64, 96)):
        x = layers.Conv2D(width, 3, strides=2 if i else 1, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    x = layers.Dropout(0.3)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, layers.Dense(10)(x))


def vowels_net():
    layers = keras.layers
    inputs = keras.Input((29, 12))
    x = layers.GRU(64, return_sequences=True)(inputs)
    x = layers.LSTM(64)(x)
    return keras.Model(inputs, layers.Dense(9)(layers.Dropout(0.3)(x)))


TASKS = {
    "cifar": Task(
        lambda: resnet(8, 16), 20, 1e-3,
        {"target": {"macs": 0.5}, "step": 0.3, "epochs": 1, "final_epochs": 2},
        ("l1", "taylor", "random"), 128, shifted_and_flipped, costly=True,
    ),
    "resnet56": Task(
        lambda: resnet(56, 8), 12, 1e-3,
        {"target": {"macs": 1 / 2.13}, "step": 0.99, "epochs": 4, "round_to": 2},
        ("l1", "taylor"), 128, shifted_and_flipped, (), costly=True,
    ),
    "spoken": Task(
        spoken_net, 30, 3e-3,
        {"target": {"macs": 0.5}, "step": 0.2, "epochs": 2, "final_epochs": 6},
        ("l1", "l2", "bn_scale", "taylor", "random"),
    ),
    "vowels": Task(
        vowels_net, 60, 3e-3,
        {"target": {"macs": 0.5}, "step": 0.2, "epochs": 5, "final_epochs": 10}
        | {"format": "float32"},
        ("l1", "l2", "taylor", "random"),
    ),
}  # fmt: skip


def cifar(path):
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in ("x_train", "y_train", "x_test", "y_test")}
    mean, std = (getattr(arrays["x_train"], name)((0, 1, 2)) for name in ("mean", "std"))
    x_train, x_test = (((arrays[n] - mean) / std).astype("float32") for n in ("x_train", "x_test"))
    return (x_train, arrays["y_train"].reshape(-1)), (x_test, arrays["y_test"].reshape(-1))


def vowels(train, test):
    """Read the sktime format: dimensions parted by colons, padded with zeros in front."""

    def read(path):
        lines = path.read_text().splitlines()
        rows = [one for one in lines[lines.index("@data") + 1 :] if one]
        x, y = np.zeros((len(rows), 29, 12), "float32"), np.zeros(len(rows), int)
        for i, row in enumerate(rows):
            *series, label = row.split(":")
            values = np.array([[float(v) for v in one.split(",")] for one in series]).T
            x[i, -len(values) :], y[i] = values, int(label) - 1
        return x, y

    (x, y), (x_test, y_test) = read(train), read(test)
    return (x, y), (x_test, y_test)


def load(task: str, paths) -> tfkd.Data:
    if task in ("cifar", "resnet56"):
        train, test = cifar(*paths)
    elif task == "spoken":
        both = load_spoken(*paths)
        train, test = ((part.x, part.y) for part in both)
    else:
        train, test = vowels(*paths)
    order = np.random.default_rng(0).permutation(len(train[0]))
    cut = len(order) // 10 if task != "vowels" else len(order) // 5
    x, y = (np.asarray(part)[order] for part in train)
    return tfkd.Data(
        task,
        tfkd.Samples(x[cut:], y[cut:].astype("int64")),
        tfkd.Samples(x[:cut], y[:cut].astype("int64")),
        tfkd.Samples(test[0], np.asarray(test[1]).astype("int64")),
    )


def batches(task: Task, data, seed: int):
    """Return the training part in batches, augmented if the task does so."""
    found = tf.data.Dataset.from_tensor_slices((data.train.x, data.train.y))
    found = found.shuffle(len(data.train), seed=seed).batch(task.batch_size)
    if task.augment:
        found = found.map(lambda x, y: (task.augment(x), y))
    return found.prefetch(2)


def teacher_of(task: Task, data, seed: int, path):
    """Train a teacher as the spiral trains students: SGD for the ResNets, Adam for the others."""
    if path is not None and path.exists():
        return models.load_model(path)
    package = tf_keras if task.augment else keras
    package.utils.set_random_seed(100 + seed)
    model = task.build()
    steps = task.teacher_epochs * -(-len(data.train) // task.batch_size)
    decay = package.optimizers.schedules.CosineDecay
    optimizer = package.optimizers.Adam(decay(task.rate, steps))
    if task.augment:
        optimizer = package.optimizers.SGD(decay(0.1, steps), momentum=0.9, nesterov=True)
    model.compile(optimizer, package.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(batches(task, data, seed), epochs=task.teacher_epochs, verbose=2)
    if path is not None:
        model.save(path)
    return model


def scratch(task: Task, data, found, seed: int):
    """Train the spiral's student from scratch, for the epochs of its teacher and its own."""
    package = backends.package_of(found.model)
    package.utils.set_random_seed(seed)
    model = package.models.clone_model(found.model)
    how = tfkd.Training(
        epochs=task.teacher_epochs + found.epochs,
        learning_rate=task.rate,
        batch_size=task.batch_size,
        optimizer=task.spiral.get("optimizer", "adam"),
        augment=task.augment,
        seed=seed,
    )
    training.Trainer(data, how).fit("scratch", model, validate=False)
    right = model.predict(data.test.x, batch_size=256, verbose=0).argmax(-1) == data.test.y
    return dataclasses.replace(found.final, test=float(right.mean()), validation=None)


def slimmed(task: Task, data, model, epochs: int, seed: int):
    """Train on under `Slimming`, so strong that a scale of 1 gets to zero just at the end."""
    package = backends.package_of(model)
    package.utils.set_random_seed(seed)
    copy = training.copy_of(model)
    steps = epochs * -(-len(data.train) // task.batch_size)
    rate = package.optimizers.schedules.CosineDecay(0.05, steps)
    copy.compile(
        package.optimizers.SGD(rate, momentum=0.9),
        package.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    slimming = tfkd.Slimming(2 / (0.05 * steps), weights="bn_scale")
    history = copy.fit(batches(task, data, seed), epochs=epochs, callbacks=[slimming], verbose=0)
    print(f"slimming: {history.history['zero_channels'][-1]:.0%} of the channels are at zero")
    return copy


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=list(TASKS))
    parser.add_argument("--data", type=pathlib.Path, nargs="+", required=True)
    parser.add_argument("--teacher", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--criteria", nargs="+")
    parser.add_argument("--final-epochs", type=int, help="after the rounds, for a longer run")
    parser.add_argument("--optimizer", nargs=2, help="and its learning rate, such as sgd 0.1")
    parser.add_argument("--target", nargs="+", help="what must be halved, if not MACs alone")
    parser.add_argument(
        "--beside", nargs="*", help="which alternatives, in the place of the task's"
    )
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    task, data = TASKS[options.task], load(options.task, options.data)
    if options.final_epochs is not None:
        task.spiral["final_epochs"] = options.final_epochs
    if options.optimizer is not None:
        name, rate = options.optimizer
        task = dataclasses.replace(task, rate=float(rate), spiral=task.spiral | {"optimizer": name})
    if options.target is not None:
        task.spiral["target"] = dict.fromkeys(options.target, 0.5)
    cells: dict[str, list] = {}
    shared = teacher_of(task, data, 0, options.teacher) if task.costly else None

    def record(name, measured):
        cells.setdefault(name, []).append(dataclasses.asdict(measured))
        if options.out:
            options.out.write_text(json.dumps(cells, indent=1))

    teachers: dict = {}
    for place, criterion in enumerate(options.criteria or task.criteria):
        for seed in range(options.seeds):
            if seed not in teachers:
                teachers[seed] = shared or teacher_of(task, data, seed, None)
            start = time.perf_counter()
            beside = [] if task.spiral["step"] > 0.9 else ["one_shot"]  # it is one cut itself
            if not place:
                beside += ["scratch"]
            if not place and not (task.costly and seed):
                beside += task.further
            beside = beside if options.beside is None else options.beside
            model, how = teachers[seed], {"criterion": criterion} | task.spiral
            if criterion == "slimming":
                if not (half := task.spiral.get("final_epochs")):
                    parser.error("slimming takes half of the epochs: give --final-epochs")
                model, beside = slimmed(task, data, model, half, seed), []
                how |= {"criterion": "bn_scale", "teacher": teachers[seed]}
                how |= {"step": 0.99, "epochs": half, "final_epochs": 0}
            found = tfkd.spiral(
                model, data, learning_rate=task.rate, seed=seed, batch_size=task.batch_size,
                augment=task.augment, alternatives=beside, **({"round_to": 4} | how),
            )  # fmt: skip
            if not place and criterion != "slimming":
                record("teacher", found.original)
            kind = "one cut" if len(found.rounds) == 1 else "spiral"
            record(f"{kind}, {criterion}", found.final)
            for name, measured in found.alternatives.items():
                record(f"one cut, {criterion}" if name == "one_shot" else name, measured)
            if not place and not task.costly:
                record("scratch, as long as teacher and student", scratch(task, data, found, seed))
            print(f"seed {seed}, {time.perf_counter() - start:.0f} s, {found.epochs} epochs")
            print(found, flush=True)
    print(f"\n{options.task}: test accuracy after the last epoch, mean ± standard deviation")
    for name, found in cells.items():
        scores = [one["test"] for one in found]
        spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
        means = {
            key: statistics.mean(one[key] or np.nan for one in found)
            for key in ("macs", "parameters", "bytes", "latency")
        }
        print(
            f"  {name:40} {100 * statistics.mean(scores):6.2f} ± {100 * spread:4.2f}  "
            f"{means['macs']:12,.0f} MACs {means['parameters']:9,.0f} parameters "
            f"{means['bytes']:9,.0f} bytes  {means['latency']:.3f} of the latency"
        )


if __name__ == "__main__":
    main()
