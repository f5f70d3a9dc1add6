"""Every layer class of the table: translated, trained with rounding, converted, compared.

The bound on the difference between the fake-quantized graph and the int8 file (reference
kernels) is stated in LSB of the output, for every case: 1 where each operation is rounded
where the file rounds it, more where several integer kernels follow one another.
"""

import importlib.util

import keras
import numpy as np
import pytest
import tf_keras
from keras import ops
from keras.src.applications import convnext
from table_words import WORDS, disagreements
from tiny_models import predicted

from tfkd import quantize_aware, translate
from tfkd.export import to_tflite
from tfkd.model import graph
from tfkd.quantization import calibrate, describe, table
from tfkd.translation import operations

L = keras.layers
IMAGE, SERIES, ROW = (6, 6, 4), (8, 4), (6,)


def chain(*layers):
    def build(x):
        for layer in layers:
            x = layer(x)
        return x

    return build


# Name → (classes of the table it covers, input shape, layers, bound in LSB).
CASES = {
    "Conv2D": (IMAGE, lambda x: L.Conv2D(5, 3)(x), 1),
    "Conv2D relu": (IMAGE, lambda x: L.Conv2D(5, 3, activation="relu")(x), 1),
    "Conv2D ReLU apart": (IMAGE, lambda x: L.ReLU()(L.Conv2D(5, 3)(x)), 1),
    "Conv2D ReLU6": (IMAGE, lambda x: L.ReLU(6.0)(L.Conv2D(5, 3)(x)), 1),
    "Conv2D BN ReLU": (
        IMAGE,
        chain(L.Conv2D(5, 3, use_bias=False), L.BatchNormalization(), L.ReLU()),
        1,
    ),
    "Conv2D groups": (IMAGE, lambda x: L.Conv2D(4, 3, groups=2)(x), 1),
    "Conv2D dilated": (IMAGE, lambda x: L.Conv2D(4, 3, dilation_rate=2)(x), 1),
    "DepthwiseConv2D BN": (
        IMAGE,
        chain(L.DepthwiseConv2D(3, depth_multiplier=2), L.BatchNormalization()),
        1,
    ),
    "SeparableConv2D": (IMAGE, lambda x: L.SeparableConv2D(5, 3, activation="relu")(x), 2),
    "Conv2DTranspose": (IMAGE, lambda x: L.Conv2DTranspose(3, 3, strides=2)(x), 1),
    "Conv2DTranspose BN ReLU": (
        IMAGE,
        chain(L.Conv2DTranspose(3, 3), L.BatchNormalization(), L.ReLU()),
        1,
    ),
    "Conv1D": (SERIES, lambda x: L.Conv1D(5, 3, padding="same")(x), 1),
    "Conv1D causal BN ReLU": (
        SERIES,
        chain(L.Conv1D(5, 3, padding="causal"), L.BatchNormalization(), L.ReLU()),
        1,
    ),
    "Conv1DTranspose": (SERIES, lambda x: L.Conv1DTranspose(3, 3, strides=2)(x), 1),
    "DepthwiseConv1D": (SERIES, lambda x: L.DepthwiseConv1D(3)(x), 1),
    "SeparableConv1D": (SERIES, lambda x: L.SeparableConv1D(5, 3)(x), 1),
    "Dense": (ROW, lambda x: L.Dense(5)(x), 1),
    "Dense BN ReLU": (ROW, chain(L.Dense(5), L.BatchNormalization(), L.ReLU()), 1),
    "Dense swish": (ROW, lambda x: L.Dense(5, activation="swish")(x), 2),
    "Dense on a series": (SERIES, lambda x: L.Dense(5, activation="relu")(x), 1),
    "TimeDistributed": (SERIES, lambda x: L.TimeDistributed(L.Dense(5))(x), 1),
    "Embedding": ("tokens", chain(L.Embedding(20, 4), L.Flatten(), L.Dense(3)), 1),
    "PReLU": (IMAGE, lambda x: L.PReLU(shared_axes=[1, 2])(x), 1),
    "BN stray": (IMAGE, lambda x: L.BatchNormalization()(L.MaxPooling2D()(x)), 1),
    "BN stray ReLU, series": (SERIES, chain(L.BatchNormalization(), L.ReLU()), 1),
    "BN stray, row": (ROW, chain(L.BatchNormalization(), L.Dense(3)), 1),
    "LayerNormalization": (SERIES, lambda x: L.LayerNormalization()(x), 4),
    "LayerNormalization, image": (IMAGE, lambda x: L.LayerNormalization()(x), 4),
    "GroupNormalization": (IMAGE, lambda x: L.GroupNormalization(2)(x), 4),
    "Rescaling": (IMAGE, lambda x: L.Rescaling(2.0, 1.0)(x), 1),
    "Rescaling, scale": (ROW, lambda x: L.Rescaling(0.5)(x), 1),
    "Normalization": (
        IMAGE,
        lambda x: L.Normalization(mean=[0.1, 0.2, 0.3, 0.4], variance=[1.0, 2.0, 3.0, 4.0])(x),
        1,
    ),
    "Add": (ROW, lambda x: L.ReLU()(L.Add()([L.Dense(4)(x), L.Dense(4)(x), L.Dense(4)(x)])), 2),
    "Subtract": (ROW, lambda x: L.Subtract()([L.Dense(4)(x), L.Dense(4)(x)]), 2),
    "Multiply": (ROW, lambda x: L.Multiply()([L.Dense(4)(x), L.Dense(4)(x)]), 2),
    "Average": (ROW, lambda x: L.Average()([L.Dense(4)(x), L.Dense(4)(x), L.Dense(4)(x)]), 3),
    "Maximum": (ROW, lambda x: L.Maximum()([L.Dense(4)(x), L.Dense(4)(x)]), 3),
    "Minimum": (ROW, lambda x: L.Minimum()([L.Dense(4)(x), L.Dense(4)(x)]), 3),
    "Concatenate": (ROW, lambda x: L.Concatenate()([L.Dense(4)(x), L.Dense(4)(x), x]), 1),
    "Dot": (SERIES, lambda x: L.Dot((2, 2))([x, L.Dense(4)(x)]), 2),
    "squeeze and excite": (
        IMAGE,
        lambda x: L.Multiply()(
            [x, L.Dense(4, activation="sigmoid")(L.GlobalAveragePooling2D(keepdims=True)(x))]
        ),
        2,
    ),
    "sigmoid": (ROW, lambda x: L.Activation("sigmoid")(x), 1),
    "tanh": (ROW, lambda x: L.Activation("tanh")(x), 1),
    "Softmax": (ROW, lambda x: L.Softmax()(x), 2),
    "gelu": (ROW, lambda x: L.Activation("gelu")(x), 1),
    "silu": (ROW, lambda x: L.Activation("silu")(x), 2),
    "hard_silu": (ROW, lambda x: L.Activation("hard_silu")(x), 1),
    "hard_sigmoid": (ROW, lambda x: L.Activation("hard_sigmoid")(x), 2),
    "exponential": (ROW, lambda x: L.Activation("exponential")(x), 1),
    "LeakyReLU": (ROW, lambda x: L.LeakyReLU(0.1)(x), 1),
    "leaky_relu": (ROW, lambda x: L.Activation("leaky_relu")(x), 1),
    "ELU": (ROW, lambda x: L.ELU(0.5)(x), 3),
    "selu": (ROW, lambda x: L.Activation("selu")(x), 4),
    "elu": (ROW, lambda x: L.Activation("elu")(x), 3),
    "softplus": (ROW, lambda x: L.Activation("softplus")(x), 2),
    "mish": (ROW, lambda x: L.Activation("mish")(x), 3),
    "softmax": (ROW, lambda x: L.Dense(4, activation="softmax")(x), 2),
    "relu6": (ROW, lambda x: L.Activation("relu6")(x), 1),
    "ReLU to one": (ROW, lambda x: L.ReLU(1.0)(x), 1),
    "MaxPooling2D": (IMAGE, chain(L.MaxPooling2D(), L.Conv2D(3, 1)), 1),
    "MaxPooling1D": (SERIES, chain(L.MaxPooling1D(), L.Conv1D(3, 1)), 1),
    "AveragePooling2D": (IMAGE, lambda x: L.AveragePooling2D(2)(x), 1),
    "AveragePooling1D": (SERIES, lambda x: L.AveragePooling1D(2)(x), 1),
    "GlobalAveragePooling2D": (IMAGE, lambda x: L.GlobalAveragePooling2D()(x), 1),
    "GlobalAveragePooling1D": (SERIES, lambda x: L.GlobalAveragePooling1D()(x), 1),
    "GlobalMaxPooling2D": (IMAGE, lambda x: L.GlobalMaxPooling2D()(x), 0),
    "GlobalMaxPooling1D": (SERIES, lambda x: L.GlobalMaxPooling1D()(x), 0),
    "ZeroPadding2D": (IMAGE, chain(L.ZeroPadding2D(), L.Cropping2D(1), L.Conv2D(3, 3)), 1),
    "ZeroPadding1D": (SERIES, chain(L.ZeroPadding1D(), L.Cropping1D(1), L.Conv1D(3, 3)), 1),
    "UpSampling2D": (IMAGE, lambda x: L.UpSampling2D()(x), 0),
    "UpSampling2D bilinear": (IMAGE, lambda x: L.UpSampling2D(interpolation="bilinear")(x), 1),
    "UpSampling1D": (SERIES, lambda x: L.UpSampling1D()(x), 0),
    "RepeatVector": (ROW, lambda x: L.RepeatVector(3)(x), 0),
    "Reshape, Permute, Flatten": (
        SERIES,
        chain(L.Reshape((4, 8)), L.Permute((2, 1)), L.Flatten()),
        0,
    ),
    "Dropout": (ROW, chain(L.Dropout(0.2), L.Dense(3)), 1),
    "SpatialDropout": (
        IMAGE,
        chain(L.SpatialDropout2D(0.2), L.GaussianNoise(0.1), L.Conv2D(3, 1)),
        1,
    ),
    "copy": (  # which ends a mask in the translation
        "tokens",
        chain(L.Embedding(20, 4, mask_zero=True), lambda x: keras.ops.mean(x, 1), L.Dense(3)),
        1,
    ),
    "RandomFlip": (IMAGE, chain(L.RandomFlip("horizontal"), L.Conv2D(3, 3)), 1),
    "noise and dropout": (
        SERIES,
        chain(
            L.SpatialDropout1D(0.1),
            L.GaussianDropout(0.1),
            L.AlphaDropout(0.1),
            L.ActivityRegularization(1e-3),
            L.Identity(),
            L.Conv1D(3, 3),
        ),
        1,
    ),
    "augmentation": (
        IMAGE,
        chain(
            L.RandomRotation(0.1),
            L.RandomZoom(0.1),
            L.RandomTranslation(0.1, 0.1),
            L.RandomContrast(0.1),
            L.RandomBrightness(0.1, value_range=(-5, 5)),
            L.CenterCrop(4, 4),
            L.Conv2D(3, 3),
        ),
        1,
    ),
    "ConvNeXt's own layers": (
        IMAGE,
        lambda x: L.Add()(
            [x, convnext.StochasticDepth(0.1)(convnext.LayerScale(1e-1, 4)(L.Dense(4)(x)))]
        ),
        3,
    ),
    "slices and splits": (
        IMAGE,
        lambda x: (
            lambda a, b, c: L.Concatenate()(
                [L.ReLU()(a), ops.flip(b, 1), c, x[..., -1:], x[:, ::-1, :, 1:3], L.Conv2D(2, 1)(c)]
            )
        )(*ops.split(x, [1, 3], axis=-1)),
        1,
    ),
    "stacks": (
        IMAGE,
        lambda x: ops.stack(
            [
                L.Conv2D(4, 1)(x)[:, 1],
                ops.take(x, [0, 3, 1, 1], axis=-1)[:, -1],
                ops.squeeze(ops.slice(x, (0, 2, 0, 0), (-1, 1, 6, 4)), 1),
                *ops.unstack(x[:, ::4], axis=1),
                ops.swapaxes(ops.moveaxis(x, 1, -1)[:, :, 0], 1, 2)[:, :, :4],
            ],
            axis=2,
        ),
        2,
    ),
    "operations": (
        IMAGE,
        lambda x: ops.matmul(
            ops.concatenate([ops.mean(x, -1), ops.max(x, -1), ops.min(x, -1)], -1),
            ops.reshape(ops.abs(x[:, :3]), (-1, 18, 4)),
        ),
        2,
    ),
    "bytes": ("bytes", chain(L.RandomFlip(), L.Rescaling(1 / 127.5, -1.0), L.Conv2D(3, 3)), 1),
    "cast bytes": ("bytes", lambda x: L.Conv2D(3, 3)(ops.cast(x, "float32") / 255.0), 1),
    "Resizing": (IMAGE, lambda x: L.Resizing(8, 8)(x), 2),
    "scalar arithmetic": (ROW, lambda x: (L.Dense(4)(x) * 2.0 + 1.0) / 3.0, 2),
    "shared": (ROW, lambda x: (lambda d: L.Add()([d(x), d(L.ReLU()(d(x)))]))(L.Dense(6)), 3),
}


def data(shape, rng, n=128):
    if shape == "bytes":
        return rng.integers(0, 200, (n, *IMAGE)).astype("uint8")
    if shape == "tokens":
        return rng.integers(0, 20, (n, 5)).astype("int32")
    return rng.normal(size=(n, *shape)).astype("float32")


def model_of(name):
    shape, build, _ = CASES[name]
    keras.utils.set_random_seed(1)
    size, dtype = {"tokens": ((5,), "int32"), "bytes": (IMAGE, "uint8")}.get(shape, (shape, None))
    i = keras.Input(size, dtype=dtype)
    return keras.Model(i, build(i))


def test_every_rule_has_a_case():
    """Recurrent layers are compared in test_aware.py: their file is calibrated."""
    kinds, functions = {"LSTM", "GRU", "SimpleRNN", "Bidirectional"}, {"linear"}
    called = {"argmax", "argmin"}  # compared in test_aware.py: what they make has no LSB
    for name in CASES:
        for _, layer in graph.walk(translate(model_of(name))).layers:
            kinds.add(type(layer).__name__)
            called.add(operations.name_of(layer))
            function = getattr(layer, "activation", None)
            functions.add(getattr(function, "__name__", ""))
    assert set(table.RULES) - kinds == set()
    assert set(table.OPERATIONS) - called == set()
    assert set(table.ACTIVATIONS) - functions - {"silu"} == set()  # Keras 3's name of swish


def rows_of(model):
    """Return the words of each row of the table that a model has a layer of."""
    rows = {}
    for _, layer in graph.walk(translate(model)).layers:
        function = getattr(getattr(layer, "activation", None), "__name__", None)
        for rules, key in (
            (table.RULES, type(layer).__name__),
            (table.OPERATIONS, operations.name_of(layer)),
            (table.ACTIVATIONS, function),
        ):
            if key in rules:
                rows[key] = rules[key].how
    return rows


def test_the_words_of_every_row_are_held_against_files():
    rows = table.RULES | table.OPERATIONS | table.ACTIVATIONS
    unsaid = {name for name, rule in rows.items() if not any(w in rule.how for w in WORDS)}
    assert unsaid == {
        *("LSTM", "GRU", "SimpleRNN", "Bidirectional"),  # compared in test_aware.py
        *("argmax", "argmin"),  # likewise
        *("Activation", "linear", "copy"),  # refer to other rows, and say nothing
    }


@pytest.mark.parametrize("name", CASES)
def test_layer(name, rng):
    tf_keras.utils.set_random_seed(0)  # dropout, and the order of examples
    shape, _, bound = CASES[name]
    model = model_of(name)
    model.set_weights([w + 0.1 * rng.normal(size=w.shape) ** 2 for w in model.get_weights()])
    x = data(shape, rng)
    want = predicted(model, x)
    np.testing.assert_allclose(
        predicted(translate(model), x), want, rtol=1e-6, atol=2e-6 * np.abs(want).max()
    )

    qat = quantize_aware(model)
    before = qat.get_weights()
    qat.compile(tf_keras.optimizers.Adam(3e-3), "mse")
    qat.optimizer.build(qat.trainable_variables)  # in `fit` it would be traced twice for this
    kinds = {type(layer).__name__ for layer in model.layers}
    drops = any("Dropout" in kind or "Gaussian" in kind for kind in kinds)
    first = qat.evaluate(x, want + 1.0, verbose=0) if drops else None
    loss = qat.fit(x, want + 1.0, epochs=3, batch_size=16, verbose=0).history["loss"]
    assert np.isfinite(loss).all()
    if model.trainable_weights:
        if drops:
            # What is dropped in an epoch moves its loss by more than three epochs teach.
            assert qat.evaluate(x, want + 1.0, verbose=0) < first
        else:
            assert loss[-1] < loss[0]
    assert any((a != b).any() for a, b in zip(before, qat.get_weights(), strict=True))

    file = to_tflite(qat, "int8")
    assert file.integer_only
    for row, how in rows_of(model).items():
        assert not disagreements(how, file), row
    want = predicted(qat, x)
    lsb = np.abs(file.predict(x, engine="reference") - want).max() / file.outputs[0].scale
    assert lsb <= bound + 0.01
    assert np.abs(file.predict(x) - want).max() / file.outputs[0].scale <= bound + 1.01


#: Cases with a kernel of their own that 4 bits reach, in every shape that a file gives it.
IN_4_BITS = [
    *("Conv2D", "Conv2D ReLU6", "Conv2D BN ReLU", "Conv2D groups", "Conv2D dilated"),
    *("DepthwiseConv2D BN", "SeparableConv2D", "Conv1D causal BN ReLU", "DepthwiseConv1D"),
    *("SeparableConv1D", "Dense swish", "Dense on a series", "TimeDistributed", "Embedding"),
    *("BN stray, row", "Average", "Concatenate", "Dot", "squeeze and excite", "softmax"),
    *("ConvNeXt's own layers", "slices and splits", "stacks", "cast bytes", "shared"),
]


@pytest.mark.parametrize("name", IN_4_BITS)
def test_layer_in_4_bits(name, rng):
    tf_keras.utils.set_random_seed(0)
    shape, _, bound = CASES[name]
    model = model_of(name)
    model.set_weights([w + 0.1 * rng.normal(size=w.shape) ** 2 for w in model.get_weights()])
    x = data(shape, rng)
    qat = calibrate(quantize_aware(model, bits=4), x)
    file = to_tflite(qat, "int8")
    narrow = [layer.name for layer in describe(qat).layers if layer.detail.startswith("4 bits")]
    kernels = [w.size for la in model.layers if la.name in narrow for w in la.get_weights()
               if w.ndim > 1]  # fmt: skip
    assert file.integer_only and file.four_bit_weights == sum(kernels) > 0
    want = predicted(qat, x)
    engines = ["xnnpack", "tflm"] if importlib.util.find_spec("tflite_micro") else ["xnnpack"]
    for engine in engines:
        got = file.predict(x[:32], engine=engine)
        assert np.abs(got - want[:32]).max() / file.outputs[0].scale <= bound + 1.01
