"""One scale for every unit of a dense layer, or one for the layer: accuracy, bytes and arena.

    python benchmarks/dense_scales.py --seeds 3

Post-training int8 of an MLP, an autoencoder and a CNN on the digits, and of a net whose folded
batch normalization makes units a hundred times apart, on the reference kernels.
"""

import argparse
import json

import keras
import numpy as np
from micro_nets import with_one_scale_a_dense_layer

from tfkd.data import load_digits
from tfkd.export import to_tflite
from tfkd.export.micro import evaluation

L = keras.layers


def mlp(i):
    """Return the logits of a net of dense layers."""
    return L.Dense(10)(L.Dense(64, activation="relu")(L.Dense(128, activation="relu")(i)))


def autoencoder(i):
    """Return what the net of MLPerf Tiny's form makes of its input."""
    x = i
    for units in (128, 128, 128, 128, 8, 128, 128, 128, 128):
        x = L.ReLU()(L.BatchNormalization()(L.Dense(units)(x)))
    return L.Dense(64)(x)


def cnn(i):
    """Return the logits of a convolutional net with two dense layers."""
    x = L.Reshape((8, 8, 1))(i)
    x = L.Conv2D(16, 3, activation="relu")(L.Conv2D(8, 3, activation="relu")(x))
    return L.Dense(10)(L.Dense(32, activation="relu")(L.GlobalAveragePooling2D()(x)))


def uneven(i):
    """Return the logits of a net with a batch normalization of uneven factors behind a layer."""
    gamma = keras.initializers.Constant(np.geomspace(0.01, 1.0, 64))
    x = L.Dense(64, use_bias=False)(i)
    x = L.ReLU()(L.BatchNormalization(gamma_initializer=gamma, gamma_constraint="non_neg")(x))
    return L.Dense(10)(L.BatchNormalization(scale=False)(x))


def measure(net, seed: int, data) -> dict:
    """Train one net and compare its files."""
    keras.utils.set_random_seed(seed)
    x, test = (split.x.reshape(-1, 64) for split in (data.train, data.test))
    i = keras.Input((64,))
    model = keras.Model(i, net(i))
    is_own_input = net is autoencoder
    loss = "mse" if is_own_input else keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss)
    model.fit(x, x if is_own_input else data.train.y, epochs=25, verbose=0)
    want = model.predict(test, verbose=0)

    def score(values):
        if is_own_input:
            return float(np.mean((values - test) ** 2))
        return float(np.mean(values.argmax(-1) == data.test.y))

    row = {"net": net.__name__, "seed": seed, "float": score(want)}
    files = {
        "unit": to_tflite(model, "int8", x[:300]),
        "layer": with_one_scale_a_dense_layer(model, x[:300]),
    }
    for name, file in files.items():
        got = file.predict(test, engine="reference")
        row[name] = {
            "score": score(got),
            "error": float(np.sqrt(np.mean((got - want) ** 2)) / want.std()),
            "bytes": file.size,
            "arena": evaluation.least_arena(file),
        }
    return row


def main():
    """Print a line for each net and seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    data = load_digits()
    for net in (mlp, autoencoder, cnn, uneven):
        for seed in range(args.seeds):
            print(json.dumps(measure(net, seed, data)), flush=True)


if __name__ == "__main__":
    main()
