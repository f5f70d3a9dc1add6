"""What nets like MLPerf Tiny's need on TensorFlow Lite for Microcontrollers.

    python benchmarks/micro_nets.py

The four nets of MLPerf Tiny (github.com/mlcommons/tiny, `keras_model.py` and `vww_model.py`) and
two recurrent nets are trained for four short epochs on made-up patterns: bytes and arena follow
from the layers, and accuracy would mean nothing. Arenas are the least in which a file runs on the
64-bit host build, by bisection. The script checks once more that the file runs in this arena, and
that it does not run in 1 KB less, each time in a process of its own. It runs MLPerf Tiny's own
files in the same way.

The converter of today gives each unit of a dense layer a scale of its own, and the runtime keeps
eight bytes a unit in the arena for it; MLPerf Tiny's autoencoder, made in 2021, has one scale
a layer. The row "one scale" is that net, converted with one scale a layer.
"""

from __future__ import annotations

import argparse
import tempfile

import keras
import numpy as np
import tensorflow as tf

from tfkd.errors import ConversionError, WorkerError
from tfkd.export import TFLiteModel, to_tflite
from tfkd.export.conversion import tracing
from tfkd.export.micro import evaluation
from tfkd.export.runtime import worker as sandbox

EXAMPLES = 256
#: Of MLPerf Tiny's int8 files: bytes, and the least arena on the host build.
REFERENCES = {
    "ResNet-8": (98_496, 55_984),
    "DS-CNN": (53_936, 24_272),
    "MobileNetV1 0.25": (333_288, 103_680),
    "autoencoder": (276_976, 4_640),
}


def _convolution(x, filters, size, strides=1, activation="relu"):
    la = keras.layers
    x = la.Conv2D(filters, size, strides, "same", kernel_initializer="he_normal")(x)
    x = la.BatchNormalization(momentum=0.5)(x)
    return x if activation is None else la.Activation(activation)(x)


def _separable(x, filters, strides=1):
    la = keras.layers
    x = la.DepthwiseConv2D(3, strides, "same", depthwise_initializer="he_normal")(x)
    x = la.Activation("relu")(la.BatchNormalization(momentum=0.5)(x))
    return _convolution(x, filters, 1)


def _answer(x, classes):
    la = keras.layers
    x = la.Flatten()(la.AveragePooling2D(x.shape[1:3])(x))
    return la.Dense(classes, activation="softmax")(x)


def resnet_8(x):
    la = keras.layers
    x = _convolution(x, 16, 3)
    y = _convolution(_convolution(x, 16, 3), 16, 3, activation=None)
    x = la.Activation("relu")(la.Add()([x, y]))
    for filters in (32, 64):
        y = _convolution(_convolution(x, filters, 3, 2), filters, 3, activation=None)
        x = la.Conv2D(filters, 1, 2, "same", kernel_initializer="he_normal")(x)
        x = la.Activation("relu")(la.Add()([x, y]))
    return _answer(x, 10)


def ds_cnn(x):
    x = _convolution(x, 64, (10, 4), 2)
    for _ in range(4):
        x = _separable(x, 64)
    return _answer(x, 12)


def mobilenet(x):
    x = _convolution(x, 8, 3, 2)
    for filters, strides in ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2)):
        x = _separable(x, filters, strides)
    for _ in range(5):
        x = _separable(x, 128)
    return _answer(_separable(_separable(x, 256, 2), 256), 2)


def autoencoder(x):
    la = keras.layers
    y = x
    for units in (128, 128, 128, 128, 8, 128, 128, 128, 128):
        y = la.Activation("relu")(la.BatchNormalization(momentum=0.5)(la.Dense(units)(y)))
    return la.Dense(x.shape[-1])(y)


def lstm(x):
    return keras.layers.Dense(9, activation="softmax")(keras.layers.LSTM(32)(x))


def gru(x):
    return keras.layers.Dense(9, activation="softmax")(keras.layers.GRU(32)(x))


#: Name: layers, input shape, classes (`None`: the input is the label), options.
NETS = {
    "ResNet-8": (resnet_8, (32, 32, 3), 10, {}),
    "DS-CNN": (ds_cnn, (49, 10, 1), 12, {}),
    "MobileNetV1 0.25": (mobilenet, (96, 96, 3), 2, {}),
    "autoencoder": (autoencoder, (640,), None, {}),
    "LSTM, fused": (lstm, (29, 12), 9, {"recurrent": "fused"}),
    "GRU, step": (gru, (29, 12), 9, {"recurrent": "step"}),
}


def patterns(shape, classes, seed=0):
    """Return noise on one pattern and brightness a class, and the class numbers."""
    rng = np.random.default_rng(seed)
    classes = classes or 4
    y = rng.integers(0, classes, EXAMPLES)
    means = rng.normal(size=(classes, *shape))
    means += np.linspace(-2, 2, classes).reshape(classes, *[1] * len(shape))
    return (means[y] + rng.normal(size=(EXAMPLES, *shape))).astype("float32"), y


def train(name):
    """Return a net, its input and its labels, `None` where the input is what it is to give."""
    layers, shape, classes, _ = NETS[name]
    keras.utils.set_random_seed(0)
    x, y = patterns(shape, classes)
    i = keras.Input(shape)
    model = keras.Model(i, layers(i))
    model.compile(
        keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy" if classes else "mse"
    )
    model.fit(x, y if classes else x, epochs=4, batch_size=32, verbose=0)
    return model, x, y if classes else None


def with_one_scale_a_dense_layer(model, x) -> TFLiteModel:
    """Convert as TensorFlow's documentation says, dense layers quantized as in 2021."""
    with tempfile.TemporaryDirectory() as folder:
        tracing.save_model(model, folder, 1)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([row[None]] for row in x)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        converter._experimental_disable_per_channel_quantization_for_dense_layers = True
        return TFLiteModel(converter.convert())


def runs(file: TFLiteModel, proof: evaluation.MicroEvaluation, arena: int) -> bool:
    """Tell whether a file gives the golden answer in an arena, in a new process."""
    call, want = list(proof.golden_inputs), proof.golden_outputs
    with sandbox.Worker() as worker:
        try:
            got, *_ = worker.call(
                evaluation._answer, file.data, arena, call, len(want), timeout=60.0
            )
        except (ConversionError, WorkerError):
            return False
    return all(np.array_equal(a, b) for a, b in zip(got, want, strict=True))


def row(name, file, x, y, samples) -> str:
    proof = evaluation.evaluate_on_tflm(file, x, y, samples=samples)
    assert runs(file, proof, proof.arena_bytes), f"{name} does not run in {proof.arena_bytes}"
    assert not runs(file, proof, proof.arena_bytes - 1024), f"{name} runs in 1 KB less"
    size, arena = REFERENCES.get(name.split(",")[0], (None, None))
    same = "" if proof.argmax_agreement is None else f"{proof.argmax_agreement:.1%}"
    cells = [
        f"{name:28}",
        *(
            f"{number:>9,}"
            for number in (
                file.size,
                proof.arena_bytes,
                proof.head_bytes,
                proof.tail_bytes,
                proof.margin_bytes,
            )
        ),
        f"{proof.max_lsb:>3}",
        f"{same:>6}",
        *("" if number is None else f"{number:>9,}" for number in (size, arena)),
    ]
    return " | ".join(cells)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=64, help="examples compared")
    samples = parser.parse_args().samples
    print("net | bytes | arena | head | tail | margin | LSB | same class | MLPerf bytes | arena")
    for name in NETS:
        model, x, y = train(name)
        file = to_tflite(model, "int8", x, micro=True, **NETS[name][3])
        print(row(name, file, x, y, samples), flush=True)
        if name == "autoencoder":
            file = with_one_scale_a_dense_layer(model, x)
            print(row("autoencoder, one scale", file, x, y, samples), flush=True)


if __name__ == "__main__":
    main()
