"""Transfer learning on MobileNetV2: what quantization-aware training moves of a frozen backbone.

    python benchmarks/transfer_learning.py --keras tf_keras

The backbone has random weights, so nothing is downloaded, and the statistics of one batch in its
batch normalizations, so that its features vary. It is frozen and called with `training=False`,
with a new head on it; the whole is trained quantize-aware and converted to int8.
"""

import argparse
import json
import time

import numpy as np


def model_of(package, x):
    """Return a frozen MobileNetV2 (width 0.35) with a new head for three classes."""
    package.utils.set_random_seed(0)
    shape = x.shape[1:]
    base = package.applications.MobileNetV2(
        input_shape=shape, alpha=0.35, include_top=False, weights=None, pooling="avg"
    )
    for layer in base.layers:
        if isinstance(layer, package.layers.BatchNormalization):
            layer.momentum = 0.0
    base(x, training=True)
    base.trainable = False
    i = package.Input(shape)
    dropped = package.layers.Dropout(0.1)(base(i, training=False))
    return package.Model(i, package.layers.Dense(3, name="head")(dropped))


def run(package, size: int, epochs: int) -> dict:
    """Train and convert; return what moved and how far the file is from the trained model."""
    import tf_keras

    import tfkd
    from tfkd.export import to_tflite

    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, size, size, 3)).astype("float32")
    y = (x.mean((1, 2)) @ rng.normal(size=(3, 3))).argmax(-1)
    model = model_of(package, x)
    before = [weight.copy() for weight in model.get_weights()]
    names = [getattr(weight, "path", weight.name) for weight in model.weights]
    start = time.monotonic()
    qat = tfkd.quantize_aware(model)
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    qat.compile(tf_keras.optimizers.Adam(0.01), loss)
    history = qat.fit(x, y, batch_size=16, epochs=epochs, verbose=0).history["loss"]
    after = tfkd.strip_quantization(qat, model).get_weights()
    file = to_tflite(qat, "int8")
    want = qat.predict(x, verbose=0)
    steps = np.abs(file.predict(x, engine="reference") - want) / file.outputs[0].scale
    return {
        "keras": package.__name__,
        "weights": len(before),
        "moved": [
            name
            for name, old, new in zip(names, before, after, strict=True)
            if not np.array_equal(old, new)
        ],
        "loss": [history[0], history[-1]],
        "integer_only": file.integer_only,
        "bytes": file.size,
        "lsb": {"max": float(steps.max()), "mean": float(steps.mean())},
        "seconds": time.monotonic() - start,
    }


def main():
    """Run it in one Keras or the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keras", choices=("keras", "tf_keras"), default="keras")
    parser.add_argument("--size", type=int, default=32, help="height and width of the images")
    parser.add_argument("--epochs", type=int, default=2)
    args = parser.parse_args()
    package = __import__(args.keras)
    print(json.dumps(run(package, args.size, args.epochs), indent=1))


if __name__ == "__main__":
    main()
