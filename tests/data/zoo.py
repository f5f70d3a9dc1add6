"""One tiny model of each kind that people convert, in either Keras, with inputs for it."""

import importlib.util

import numpy as np
import pytest

STEPS, FEATURES = 6, 8
# A weight of fewer than 1,024 numbers stays as it is in dynamic-range files.
UNITS, FILTERS = 40, 16


def mlp(la, i):
    x = i((32,))
    y = la.Dense(40, activation="relu")(x)
    return x, la.Dense(3)(la.Dense(32, activation="tanh")(y))


def cnn(la, i):
    x = i((12, 12, 2))
    y = la.Conv2D(FILTERS, 3, activation="relu")(x)
    y = la.Conv2D(FILTERS, 3, activation="relu")(la.MaxPooling2D()(y))
    return x, la.Dense(3, activation="softmax")(la.Flatten()(y))


def ds_cnn(la, i):
    x = y = i((12, 12, 2))
    y = la.ReLU()(la.BatchNormalization()(la.Conv2D(32, 3, strides=2, use_bias=False)(y)))
    for _ in range(2):
        y = la.DepthwiseConv2D(3, padding="same", use_bias=False)(y)
        y = la.ReLU()(la.BatchNormalization()(y))
        y = la.Conv2D(32, 1, use_bias=False)(y)
        y = la.ReLU(6.0)(la.BatchNormalization()(y))
    return x, la.Dense(3)(la.GlobalAveragePooling2D()(y))


def resnet(la, i):
    x = i((12, 12, 2))
    y = la.ReLU()(la.BatchNormalization()(la.Conv2D(FILTERS, 3, padding="same")(x)))
    z = la.BatchNormalization()(la.Conv2D(FILTERS, 3, padding="same")(y))
    y = la.ReLU()(la.Add()([y, z]))
    short = la.Conv2D(24, 1, strides=2)(y)
    z = la.Conv2D(24, 3, strides=2, padding="same")(y)
    y = la.ReLU()(la.Add()([short, z]))
    return x, la.Dense(3)(la.GlobalAveragePooling2D()(y))


def conv1d(la, i):
    x = i((16, 3))
    y = la.ReLU()(la.BatchNormalization()(la.Conv1D(FILTERS, 3)(x)))
    y = la.MaxPooling1D()(la.Conv1D(24, 3, activation="relu")(y))
    return x, la.Dense(3)(la.GlobalAveragePooling1D()(y))


def lstm(la, i):
    x = i((STEPS, FEATURES))
    return x, la.Dense(3)(la.LSTM(UNITS)(x))


def stacked_lstm(la, i):
    x = i((STEPS, FEATURES))
    return x, la.Dense(3)(la.LSTM(UNITS)(la.LSTM(16, return_sequences=True)(x)))


def bilstm(la, i):
    x = i((STEPS, FEATURES))
    return x, la.Dense(3)(la.Bidirectional(la.LSTM(UNITS))(x))


def gru(la, i):
    x = i((STEPS, FEATURES))
    return x, la.Dense(3)(la.GRU(UNITS)(x))


def simple_rnn(la, i):
    x = i((STEPS, FEATURES))
    return x, la.Dense(3)(la.SimpleRNN(UNITS)(x))


def text(la, i):
    x = i((STEPS,), dtype="int32")
    return x, la.Dense(2, activation="softmax")(la.LSTM(UNITS)(la.Embedding(20, 8)(x)))


def multi_input(la, i):
    image, facts = i((12, 12, 2), name="image"), i((4,), name="facts")
    y = la.Conv2D(FILTERS, 3, activation="relu")(image)
    y = la.GlobalAveragePooling2D()(la.Conv2D(FILTERS, 3, activation="relu")(y))
    y = la.Concatenate()([y, la.Dense(4, activation="relu")(facts)])
    return [image, facts], la.Dense(3)(y)


def multi_output(la, i):
    x = i((12, 12, 2))
    y = la.Conv2D(FILTERS, 3, strides=2, activation="relu")(x)
    y = la.Flatten()(la.Conv2D(FILTERS, 3, strides=2, activation="relu")(y))
    return x, [la.Dense(3, name="kind")(y), la.Dense(1, name="size")(y)]


def attention(la, i):
    x = i((STEPS, 32))
    y = la.Add()([x, la.MultiHeadAttention(2, 16)(x, x)])
    y = la.LayerNormalization(name="layer_normalization")(y)  # whatever was built before
    return x, la.Dense(3)(la.GlobalAveragePooling1D()(y))


def autoencoder(la, i):
    x = i((12, 12, 2))
    y = la.Conv2D(FILTERS, 3, strides=2, padding="same", activation="relu")(x)
    y = la.Conv2D(8, 3, strides=2, padding="same", activation="relu")(y)
    y = la.Conv2DTranspose(FILTERS, 3, strides=2, padding="same", activation="relu")(y)
    return x, la.Conv2DTranspose(2, 3, strides=2, padding="same", activation="sigmoid")(y)


MODELS = {
    build.__name__: build
    for build in (
        mlp,
        cnn,
        ds_cnn,
        resnet,
        conv1d,
        lstm,
        stacked_lstm,
        bilstm,
        gru,
        simple_rnn,
        text,
        multi_input,
        multi_output,
        attention,
        autoencoder,
    )
}
#: Those with a recurrent layer.
RECURRENT = ("lstm", "stacked_lstm", "bilstm", "gru", "simple_rnn", "text")


def build(package, name: str, seed=0):
    """Return a model whose biases and statistics are not what they start as."""
    package.utils.set_random_seed(seed)
    inputs, outputs = MODELS[name](package.layers, package.Input)
    model = package.Model(inputs, outputs, name=name)
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if len(weight.shape) == 1:  # bias, gamma, beta, mean, variance
            value = np.asarray(weight)
            weight.assign(value + rng.uniform(0.0, 0.3, value.shape))
    return model


def over_series(package, layers, steps=12, features=5):
    """Return a model of `layers(package.layers, input)` over a series, with biases that show."""
    package.utils.set_random_seed(0)
    i = package.Input((steps, features), name="series")
    model = package.Model(i, layers(package.layers, i))
    rng = np.random.default_rng(1)
    model.set_weights([w + 0.2 * rng.normal(size=w.shape) for w in model.get_weights()])
    return model


def inputs_for(model, count=64, seed=1):
    """Return examples for each input, as the model's `predict` takes them."""
    rng = np.random.default_rng(seed)
    arrays = []
    for tensor in model.inputs:
        shape = (count, *tensor.shape[1:])
        if "int" in str(tensor.dtype):
            arrays.append(rng.integers(0, 20, shape).astype("int32"))
        else:
            arrays.append(rng.normal(size=shape).astype("float32"))
    return arrays[0] if len(arrays) == 1 else arrays


def signal_of_converting_plainly(folder, samples, format):
    """Return the signal by which a fork of this process dies of `convert_plainly`, or `None`.

    For a process in which TensorFlow has run nothing yet: the fork need not import it again.
    """
    import os

    import tensorflow  # noqa: F401

    fork = os.fork()
    if fork == 0:
        try:
            convert_plainly(folder, samples, format)
        finally:
            os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1])
    return -code if code < 0 else None


def convert_plainly(folder, samples, format):
    """Convert a SavedModel as TensorFlow's documentation says, in this process."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([row[None]] for row in samples)
    if format == "int16x8":
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        ]
    return converter.convert()


def needs_quantizer():
    """Skip the test where the package that makes int4 files is not installed."""
    if not any(map(importlib.util.find_spec, ("litert_quantizer", "ai_edge_quantizer"))):
        pytest.skip("litert-quantizer is not installed")
