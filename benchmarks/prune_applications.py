"""Pruning keras.applications: which families lose channels, run, translate and convert.

    python benchmarks/prune_applications.py --out results.json
    python benchmarks/prune_applications.py --models MobileNet ResNet50 --amounts 0.5

Weights are random: this shows that the dependencies are right, not that a model is accurate. An
amount of the prunable channels is removed from each model; the rest runs, is translated to
tf_keras and compared, and its `.tflite` file is compared with it: the largest difference of a
probability, relative to the differences between the examples' probabilities.
"""

import argparse
import json
import pathlib
import time

import numpy as np
from qat_applications import MODELS


def one(name: str, amount: float) -> dict:
    """Prune one model; return what was seen."""
    import keras

    import tfkd
    from tfkd.export import to_tflite
    from tfkd.model import cost

    keras.utils.set_random_seed(0)
    size = MODELS[name]
    build = getattr(keras.applications, name)
    model = build(weights=None, input_shape=(size, size, 3), classes=10)
    x = np.random.default_rng(0).uniform(-1.0, 1.0, (4, size, size, 3)).astype("float32")
    for layer in model.layers:  # statistics of this noise, or a deep net gives a constant
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(x, training=True)
    start = time.perf_counter()
    small = tfkd.prune_channels(model, amount)
    seconds = time.perf_counter() - start
    before, after = cost.measure(model), cost.measure(small)
    outputs = small.predict(x, verbose=0)
    translated = tfkd.translate(small).predict(x, verbose=0)
    file = to_tflite(small).predict(x)
    spread = float(np.ptp(outputs, axis=0).max())  # from one example to another
    return {
        "model": name,
        "amount": amount,
        "seconds": seconds,
        "parameters": after.parameters / before.parameters,
        "macs": None if before.macs is None else after.macs / before.macs,
        "whole": len(tfkd.pruning.describe(small).not_pruned),
        "finite": bool(np.isfinite(outputs).all()),
        "spread": spread,
        "translated_difference": float(np.abs(translated - outputs).max() / spread),
        "file_difference": float(np.abs(file - outputs).max() / spread),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--amounts", nargs="+", type=float, default=[0.25, 0.5])
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    results = []
    for name in options.models:
        for amount in options.amounts:
            results.append(one(name, amount))
            seen = results[-1]
            macs = "unknown" if seen["macs"] is None else f"{seen['macs']:.2f}"
            print(
                f"{name:18} {amount:.2f}: {seen['parameters']:.2f} of the parameters, {macs} of "
                f"the MACs, {seen['whole']} layers left whole, {seen['seconds']:.0f} s; translated "
                f"{seen['translated_difference']:.1e}, file {seen['file_difference']:.1e} of the "
                f"outputs' spread from it, which is {seen['spread']:.1e}",
                flush=True,
            )
            if options.out:
                options.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
