"""The same task by hand and with tfkd: the figures of docs/coming-from.

    python benchmarks/coming_from.py tfmot --seeds 3
    python benchmarks/coming_from.py converter --seeds 3

scikit-learn's digits, small nets, 360 test examples a seed. `tfmot` trains a tf_keras net
quantize-aware with tfmot's `quantize_model` and with tfkd, from the same float weights for as many
epochs. `converter` converts a trained CNN, LSTM and GRU with `TFLiteConverter` as its guide shows,
in a process of its own, and with `to_tflite`. The same interpreter (XNNPACK) runs and scores both
files.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import keras
import numpy as np
import tensorflow as tf
import tf_keras

import tfkd
from tfkd.data import load_digits
from tfkd.errors import TfkdError
from tfkd.export import TFLiteModel, to_tflite, verify
from tfkd.model import backends

BY_HAND = """
import pathlib, sys
import keras, numpy as np, tensorflow as tf
x = np.load("x.npy")
converter = tf.lite.TFLiteConverter.from_keras_model(keras.models.load_model("model.keras"))
converter.optimizations = [tf.lite.Optimize.DEFAULT]
converter.representative_dataset = lambda: ([x[i : i + 1]] for i in range(300))
converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
converter.inference_input_type = converter.inference_output_type = tf.int8
pathlib.Path("model.tflite").write_bytes(converter.convert())
"""


def loss(package):
    """Return the hard loss of either Keras."""
    return package.losses.SparseCategoricalCrossentropy(from_logits=True)


def trained(package, net, data, seed: int, epochs: int = 25):
    """Return a net after a training by labels."""
    package.utils.set_random_seed(seed)
    model = net(package)
    model.compile(package.optimizers.Adam(3e-3), loss(package))
    model.fit(data.train.x, data.train.y, epochs=epochs, verbose=0)
    return model


def cnn(package, normalized: bool = True, width: int = 8):
    """Return a CNN; where it is normalized, its hidden dense layer has batch normalization, too."""
    layers = package.layers
    parts = [package.Input((8, 8, 1))]
    for filters, stride in ((width, 1), (2 * width, 2)):
        parts += [layers.Conv2D(filters, 3, strides=stride, padding="same")]
        parts += [layers.BatchNormalization()] if normalized else []
        parts += [layers.ReLU()]
    parts += [layers.Flatten(), layers.Dense(32)]
    parts += [layers.BatchNormalization()] if normalized else []
    return package.Sequential([*parts, layers.ReLU(), layers.Dense(10)])


def recurrent(kind: str):
    """Return what makes a recurrent net that reads a digit row by row."""

    def net(package):
        layers = package.layers
        return package.Sequential(
            [package.Input((8, 8)), getattr(layers, kind)(24), layers.Dense(10)]
        )

    return net


def row(name: str, file: TFLiteModel, model, data) -> dict:
    """Score a file and compare it with the model that it was made from."""
    found = verify(file, model, data.test.x, data.test.y)
    return {
        "name": name,
        "accuracy": found.metrics["accuracy"],
        "same class": found.argmax_agreement,
        "bytes": file.size,
        "in float": len(file.float_tensors),
    }


def tfmot(seed: int):
    """Yield a row for each way of quantization-aware training."""
    data = load_digits(seed)
    teacher = trained(keras, lambda package: cnn(package, width=32), data, seed)
    for normalized in (True, False):
        float_model = trained(tf_keras, lambda p, n=normalized: cnn(p, n), data, seed)
        named = "batch normalization" if normalized else "separate ReLU"
        qat = backends.tfmot().quantization.keras.quantize_model(float_model)
        qat.compile(tf_keras.optimizers.Adam(3e-4), loss(tf_keras))
        qat.fit(data.train.x, data.train.y, epochs=8, verbose=0)
        converter = tf.lite.TFLiteConverter.from_keras_model(qat)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        yield row(f"{named}: tfmot", TFLiteModel(converter.convert()), qat, data)
        for taught in (False, True):
            qat = tfkd.quantize_aware(float_model)
            student = tfkd.Distiller(qat, teacher) if taught else qat
            student.compile(tf_keras.optimizers.Adam(3e-4), loss(tf_keras))
            student.fit(data.train.x, data.train.y, epochs=8, verbose=0)
            how = "tfkd under a teacher" if taught else "tfkd"
            yield row(f"{named}: {how}", to_tflite(qat, "int8"), qat, data)


def by_hand(model, x) -> TFLiteModel | str:
    """Convert in another process; return the file, or how that ended."""
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model.keras")
        np.save(f"{folder}/x.npy", x)
        done = subprocess.run([sys.executable, "-c", BY_HAND], cwd=folder, capture_output=True)
        if done.returncode < 0:
            return f"signal {-done.returncode} ended the process"
        if done.returncode:
            return done.stderr.decode().strip().splitlines()[-1][:160]
        return TFLiteModel(pathlib.Path(folder, "model.tflite").read_bytes())


def one_at_a_time(model):
    """Return the same model for one example a call, as the converter asks for after a refusal."""
    inputs = keras.Input(model.input_shape[1:], batch_size=1)
    return keras.Model(inputs, model(inputs))


def converter(seed: int):
    """Yield a row for each net and way."""
    digits = load_digits(seed)
    rows = tfkd.Data(
        **{
            name: tfkd.Samples(part.x[..., 0], part.y)
            for name in ("train", "validation", "test")
            for part in [getattr(digits, name)]
        },
        name="digits",
    )
    for name, net, data in (
        ("CNN", cnn, digits),
        ("LSTM", recurrent("LSTM"), rows),
        ("GRU", recurrent("GRU"), rows),
    ):
        model = trained(keras, net, data, seed)
        ways = {"by hand": model, "by hand, batch of 1": one_at_a_time(model)}
        for how, given in ways.items():
            found = by_hand(given, data.train.x)
            if isinstance(found, str):
                yield {"name": f"{name}: {how}", "failed": found}
            else:
                yield row(f"{name}: {how}", found, model, data)
        for micro in (False, True):
            file = to_tflite(model, "int8", data.train.x[:300], micro=micro)
            yield row(f"{name}: tfkd{', micro=True' * micro}", file, model, data)


def main():
    """Print a table of means over the seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("tfmot", "converter"))
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    found: dict[str, list[dict]] = {}
    for seed in range(arguments.seeds):
        try:
            for one in {"tfmot": tfmot, "converter": converter}[arguments.part](seed):
                found.setdefault(one.pop("name"), []).append(one)
                print(one, file=sys.stderr, flush=True)
        except TfkdError as error:
            print(f"seed {seed}: {error}", file=sys.stderr)
    print(
        "| | accuracy | same class as its model | bytes | tensors in float |\n|---|---|---|---|---|"
    )
    for name, runs in found.items():
        failed = [run["failed"] for run in runs if "failed" in run]
        if failed:
            print(f"| {name} | {failed[0]} ({len(failed)} of {len(runs)}) | – | – | – |")
            continue
        accuracy, same = ([100 * run[key] for run in runs] for key in ("accuracy", "same class"))
        spread = f"{np.mean(accuracy):.2f} ± {np.std(accuracy, ddof=1):.2f} %"
        print(
            f"| {name} | {spread} | {np.mean(same):.2f} % | "
            f"{max(run['bytes'] for run in runs):,} | {max(run['in float'] for run in runs)} |"
        )


if __name__ == "__main__":
    main()
