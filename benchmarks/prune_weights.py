"""What zeros and clusters save, and cost: int8 files of a digits CNN, with and without `preserve`.

    python benchmarks/prune_weights.py --seeds 3

A CNN is trained, its weights are pruned or clustered while it teaches itself, then it is trained
quantization-aware and converted. Every row has the same epochs; the dense one goes through the
same distillation without a mask. Accuracy is that of the int8 file on the test part, last epoch.
"""

import argparse
import statistics

import keras
import numpy as np
import tf_keras

import tfkd
from tfkd import data as tfkd_data
from tfkd.export import to_tflite

EPOCHS, QAT_EPOCHS, BATCH = 12, 4, 32
ROWS = {
    "dense": None,
    "half at zero": lambda model, steps: tfkd.prune_weights(model, 0.5, steps=steps),
    "3/4 at zero": lambda model, steps: tfkd.prune_weights(model, 0.75, steps=steps),
    "2:4": lambda model, steps: tfkd.prune_weights(model, pattern="2:4", skip=["first"]),
    "8 clusters": lambda model, steps: tfkd.cluster_weights(model, 8),
    "16 clusters": lambda model, steps: tfkd.cluster_weights(model, 16),
}


def cnn():
    layers = keras.layers
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(16, 3, padding="same", activation="relu", name="first")(inputs)
    x = layers.Conv2D(32, 3, strides=2, padding="same", activation="relu")(x)
    return keras.Model(inputs, layers.Dense(10)(layers.Flatten()(x)))


def fit(model, package, train, epochs, rate, seed):
    package.utils.set_random_seed(seed)
    steps = epochs * -(-len(train) // BATCH)
    decay = package.optimizers.schedules.CosineDecay(rate, steps)
    loss = package.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(package.optimizers.Adam(decay), loss)
    model.fit(train.x, train.y, batch_size=BATCH, epochs=epochs, verbose=0)


def made(row: str, teacher, train, seed: int):
    """Return the float model of a row."""
    make = ROWS[row]
    if make is None:
        student = keras.models.clone_model(teacher)
        student.set_weights(teacher.get_weights())
        fit(tfkd.Distiller(student, teacher), keras, train, EPOCHS, 2e-3, seed)
        return student
    wrapped = make(teacher, EPOCHS * (len(train) // BATCH) // 2)
    fit(tfkd.Distiller(wrapped, teacher), tf_keras, train, EPOCHS, 2e-3, seed)
    strip = tfkd.strip_clustering if "clusters" in row else tfkd.strip_pruning
    return strip(wrapped, teacher)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    cells: dict = {}
    for seed in range(options.seeds):
        digits = tfkd_data.load_digits(seed)
        keras.utils.set_random_seed(100 + seed)
        teacher = cnn()
        fit(teacher, keras, digits.train, EPOCHS, 5e-3, seed)
        for row in ROWS:
            student = made(row, teacher, digits.train, seed)
            kind = "clusters" if "clusters" in row else "sparsity"
            for preserve in (None,) if row == "dense" else (kind, None):
                qat = tfkd.quantize_aware(student, preserve=preserve)
                fit(tfkd.Distiller(qat, teacher), tf_keras, digits.train, QAT_EPOCHS, 5e-4, seed)
                file = to_tflite(qat, "int8")
                right = file.predict(digits.test.x).argmax(-1) == digits.test.y
                found = tfkd.sparsity(file)
                name = row + (
                    "" if row == "dense" else ", preserved" if preserve else ", plain QAT"
                )
                cells.setdefault(name, []).append(
                    (found.share, found.bytes, found.gzip_bytes, float(np.mean(right)))
                )
                print(f"seed {seed}  {name:26} {cells[name][-1]}", flush=True)
    print(f"\nint8 files, {options.seeds} seeds, last epoch")
    for name, found in cells.items():
        shares, sizes, zipped, scores = zip(*found, strict=True)
        spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
        print(
            f"  {name:26} {100 * statistics.mean(shares):5.1f} % zeros  "
            f"{statistics.mean(sizes):8,.0f} bytes  {statistics.mean(zipped):8,.0f} after gzip  "
            f"{100 * statistics.mean(scores):.2f} ± {100 * spread:.2f} %"
        )


if __name__ == "__main__":
    main()
