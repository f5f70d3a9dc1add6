"""Operations between layers: the standard layers they become, and that they compute the same."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from translated import CURRENT_KERAS, assert_same, kinds

from tfkd import translate
from tfkd.errors import UnsupportedError

ops = keras.ops
IMAGE, SEQUENCE = (6, 8, 4), (6, 4)
CHANNELS = np.array([1.0, 2.0, 3.0, 4.0], "float32")

# Name → input shape, function, the tf_keras layers it becomes (none: a TensorFlow function).
KERAS = {
    "x + 2": (IMAGE, lambda x: x + 2, ["Rescaling"]),
    "2 + x": (IMAGE, lambda x: 2 + x, ["Rescaling"]),
    "x - 2": (IMAGE, lambda x: x - 2, ["Rescaling"]),
    "2 - x": (IMAGE, lambda x: 2 - x, ["Rescaling"]),
    "x * 2": (IMAGE, lambda x: x * 2, ["Rescaling"]),
    "x / 2": (IMAGE, lambda x: x / 2, ["Rescaling"]),
    "2 / x": (IMAGE, lambda x: 2 / x, ["TFOpLambda"]),
    "-x": (IMAGE, lambda x: -x, ["Rescaling"]),
    "x ** 2": (IMAGE, lambda x: x**2, ["Multiply"]),
    "x // 2": (IMAGE, lambda x: x // 2, ["TFOpLambda"]),
    "channels": (IMAGE, lambda x: x * CHANNELS, ["Rescaling"]),
    "offsets": (IMAGE, lambda x: ops.subtract(CHANNELS, x), ["Rescaling"]),
    "positions": (SEQUENCE, lambda x: x + np.ones((1, 6, 4), "float32"), ["Rescaling"]),
    "x + x": (IMAGE, lambda x: x + x, ["Add"]),
    "x - relu": (IMAGE, lambda x: x - ops.relu(x), ["ReLU", "Subtract"]),
    "x * sigmoid": (IMAGE, lambda x: x * ops.sigmoid(x), ["Activation", "Multiply"]),
    "x / y": (IMAGE, lambda x: x / (ops.abs(x) + 1), ["TFOpLambda", "Rescaling", "TFOpLambda"]),
    "maximum": (IMAGE, lambda x: ops.maximum(x, -x), ["Rescaling", "Maximum"]),
    "minimum": (IMAGE, lambda x: ops.minimum(x, -x), ["Rescaling", "Minimum"]),
    "maximum(x, 0)": (IMAGE, lambda x: ops.maximum(x, 0), ["ReLU"]),
    "maximum(x, 1)": (IMAGE, lambda x: ops.maximum(x, 1.0), ["TFOpLambda"]),
    "broadcast": (
        IMAGE,
        lambda x: x * ops.mean(x, (1, 2), keepdims=True),
        ["GlobalAveragePooling2D", "Multiply"],
    ),
    "other rank": (
        SEQUENCE,
        lambda x: x + ops.mean(x, (1, 2), keepdims=False)[:, None, None],
        ["TFOpLambda", "Reshape", "Add"],
    ),
    "clip(0, 6)": (IMAGE, lambda x: ops.clip(x, 0, 6), ["ReLU"]),
    "clip(-1, 1)": (IMAGE, lambda x: ops.clip(x, -1, 1), ["TFOpLambda"]),
    "relu": (IMAGE, ops.relu, ["ReLU"]),
    "relu6": (IMAGE, ops.relu6, ["ReLU"]),
    "leaky_relu": (IMAGE, lambda x: ops.leaky_relu(x, 0.1), ["LeakyReLU"]),
    "elu": (IMAGE, lambda x: ops.elu(x, 0.5), ["ELU"]),
    "softmax": (IMAGE, ops.softmax, ["Activation"]),
    "softmax over axis 1": (IMAGE, lambda x: ops.softmax(x, 1), ["Softmax"]),
    "log_softmax": (IMAGE, ops.log_softmax, ["Activation"]),
    "gelu": (IMAGE, lambda x: ops.gelu(x, approximate=False), ["Activation"]),
    "gelu approximate": (IMAGE, ops.gelu, ["TFOpLambda"]),
    **{
        name: (IMAGE, getattr(ops, name), ["Activation"])
        for name in (
            "exp",
            "hard_sigmoid",
            "hard_silu",
            "log_sigmoid",
            "selu",
            "sigmoid",
            "silu",
            "softplus",
            "softsign",
            "tanh",
        )
    },
    **{
        name: (IMAGE, getattr(ops, name), ["TFOpLambda"])
        for name in ("absolute", "ceil", "floor", "sign", "sin", "cos", "erf")
    },
    "square": (IMAGE, ops.square, ["Multiply"]),
    "sqrt(abs)": (IMAGE, lambda x: ops.sqrt(ops.abs(x)), ["TFOpLambda", "TFOpLambda"]),
    "mean 2d": (IMAGE, lambda x: ops.mean(x, (1, 2)), ["GlobalAveragePooling2D"]),
    "mean 2d negative": (IMAGE, lambda x: ops.mean(x, [-3, -2]), ["GlobalAveragePooling2D"]),
    "mean 1d": (SEQUENCE, lambda x: ops.mean(x, 1, keepdims=True), ["GlobalAveragePooling1D"]),
    "mean of channels": (IMAGE, lambda x: ops.mean(x, -1), ["TFOpLambda"]),
    "max 2d": (IMAGE, lambda x: ops.max(x, (1, 2)), ["GlobalMaxPooling2D"]),
    "sum": (IMAGE, lambda x: ops.sum(x, (1, 2), keepdims=True), ["TFOpLambda"]),
    "var": (IMAGE, lambda x: ops.var(x, -1), ["TFOpLambda"]),
    "min": (IMAGE, lambda x: ops.min(x, 1), ["TFOpLambda"]),
    "argmax": (IMAGE, lambda x: ops.argmax(x, -1), ["TFOpLambda"]),
    "reshape": (IMAGE, lambda x: ops.reshape(x, (-1, 48, 4)), ["Reshape"]),
    "reshape the batch": (SEQUENCE, lambda x: ops.reshape(x, (-1, 4)), ["TFOpLambda"]),
    "expand_dims": (SEQUENCE, lambda x: ops.expand_dims(x, -1), ["Reshape"]),
    "squeeze": ((6, 1, 4), lambda x: ops.squeeze(x, 2), ["Reshape"]),
    "transpose": (IMAGE, lambda x: ops.transpose(x, (0, 2, 3, 1)), ["Permute"]),
    "concatenate": (IMAGE, lambda x: ops.concatenate([x, -x], -1), ["Rescaling", "Concatenate"]),
    "stack": (IMAGE, lambda x: ops.stack([x, x], 1), ["TFOpLambda"]),
    "tile": (SEQUENCE, lambda x: ops.tile(x, (1, 2, 1)), ["TFOpLambda"]),
    "pad": (IMAGE, lambda x: ops.pad(x, ((0, 0), (1, 0), (0, 2), (0, 0))), ["ZeroPadding2D"]),
    "pad channels": (IMAGE, lambda x: ops.pad(x, ((0, 0),) * 3 + ((1, 1),)), ["TFOpLambda"]),
    "pad reflect": (
        IMAGE,
        lambda x: ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect"),
        ["TFOpLambda"],
    ),
    "x[:, 1:-1]": (SEQUENCE, lambda x: x[:, 1:-1], ["Cropping1D"]),
    "x[:, -1]": (SEQUENCE, lambda x: x[:, -1], ["Cropping1D", "Reshape"]),
    "x[:, :4, 2:]": (IMAGE, lambda x: x[:, :4, 2:], ["Cropping2D"]),
    "x[..., :2]": (IMAGE, lambda x: x[..., :2], ["SlicingOpLambda"]),
    "x[:, ::2]": (IMAGE, lambda x: x[:, ::2], ["SlicingOpLambda"]),
    "x[:, None]": (SEQUENCE, lambda x: x[:, None], ["Reshape"]),
    "x[:, 0, ..., None]": (IMAGE, lambda x: x[:, 0, ..., None], ["Cropping2D", "Reshape"]),
    "max_pool": (IMAGE, lambda x: ops.max_pool(x, 2, 2, "same"), ["MaxPooling2D"]),
    "average_pool": (IMAGE, lambda x: ops.average_pool(x, 2, 2), ["AveragePooling2D"]),
    "resize": (IMAGE, lambda x: ops.image.resize(x, (3, 5)), ["Resizing"]),
    "matmul": (SEQUENCE, lambda x: x @ ops.transpose(x, (0, 2, 1)), ["Permute", "TFOpLambda"]),
    "einsum": (SEQUENCE, lambda x: ops.einsum("btc,bsc->bts", x, x), ["TFOpLambda"]),
    "where": (IMAGE, lambda x: ops.where(x > 0, x, -x), ["TFOpLambda", "Rescaling", "TFOpLambda"]),
    "cast": (IMAGE, lambda x: ops.cast(x, "float16"), ["TFOpLambda"]),
    "split": (IMAGE, lambda x: ops.split(x, 2, -1), ["TFOpLambda"]),
    "take the last": (SEQUENCE, lambda x: ops.take(x, -1, axis=1), ["TFOpLambda"]),
    "take several": (SEQUENCE, lambda x: ops.take(x, [0, -2, -4], axis=-1), ["TFOpLambda"]),
}

# The functions of TensorFlow that a tf_keras model may hold, and what becomes of them.
TENSORFLOW = {
    "x * 2": (IMAGE, lambda x: x * 2, ["Rescaling"]),
    "1 - x / 3": (IMAGE, lambda x: 1 - x / 3, ["Rescaling", "Rescaling"]),
    "x + x": (IMAGE, lambda x: x + x, ["Add"]),
    "tf.add": (IMAGE, lambda x: tf.add(x, x), ["Add"]),
    "abs": (IMAGE, abs, ["TFOpLambda"]),
    "maximum": (IMAGE, lambda x: tf.maximum(x, 0.0), ["ReLU"]),
    "relu": (IMAGE, tf.nn.relu, ["ReLU"]),
    "hard sigmoid": (
        IMAGE,
        lambda x: tf.nn.relu6(x + 3) * (1 / 6),
        ["Rescaling", "ReLU", "Rescaling"],
    ),
    "activations.relu": (IMAGE, tf_keras.activations.relu, ["ReLU"]),
    "silu": (IMAGE, tf.nn.silu, ["Activation"]),
    "gelu": (IMAGE, lambda x: tf.nn.gelu(x, approximate=True), ["TFOpLambda"]),
    "leaky": (IMAGE, lambda x: tf.nn.leaky_relu(x, alpha=0.3), ["LeakyReLU"]),
    "softmax": (IMAGE, tf.nn.softmax, ["Activation"]),
    "reduce_mean": (IMAGE, lambda x: tf.reduce_mean(x, [1, 2]), ["GlobalAveragePooling2D"]),
    "reduce_max": (
        SEQUENCE,
        lambda x: tf.reduce_max(x, axis=1, keepdims=True),
        ["GlobalMaxPooling1D"],
    ),
    "backend.mean": (IMAGE, lambda x: tf_keras.backend.mean(x, -1), ["TFOpLambda"]),
    "reshape": (IMAGE, lambda x: tf.reshape(x, (-1, 192)), ["Reshape"]),
    "transpose": (IMAGE, lambda x: tf.transpose(x, (0, 2, 1, 3)), ["Permute"]),
    "concat": (IMAGE, lambda x: tf.concat([x, x], -1), ["Concatenate"]),
    "squeeze": ((6, 1, 4), lambda x: tf.squeeze(x, 2), ["Reshape"]),
    "expand_dims": (IMAGE, lambda x: tf.expand_dims(x, 1), ["Reshape"]),
    "slice": (IMAGE, lambda x: x[:, 1:3], ["Cropping2D"]),
    "last step": (SEQUENCE, lambda x: x[:, -1, :], ["Cropping1D", "Reshape"]),
    "channels": (IMAGE, lambda x: x[..., 1:], ["SlicingOpLambda"]),
    "pad": (IMAGE, lambda x: tf.pad(x, [[0, 0], [1, 1], [0, 1], [0, 0]]), ["ZeroPadding2D"]),
    "mirror": (
        IMAGE,
        lambda x: tf.pad(x, [[0, 0], [1, 1], [0, 1], [0, 0]], "REFLECT"),
        ["TFOpLambda"],
    ),
    "resize": (IMAGE, lambda x: tf.image.resize(x, (3, 5), "nearest"), ["Resizing"]),
    "argmax": (IMAGE, lambda x: tf.argmax(x, -1), ["TFOpLambda"] * 2),
    "matmul": (
        SEQUENCE,
        lambda x: tf.matmul(x[:, :4], x[:, 2:]),
        ["Cropping1D"] * 2 + ["TFOpLambda"],
    ),
}


def batch(shape, rng):
    return rng.normal(size=(3, *shape)).astype("float32")


@pytest.mark.parametrize("name", KERAS)
def test_of_keras_3(name, rng):
    if name == "stack" and not CURRENT_KERAS:
        pytest.skip("Keras 3.8 names the operation otherwise")
    shape, function, expected = KERAS[name]
    x = keras.Input(shape)
    model = keras.Model(x, function(x))
    translated = translate(model)
    assert kinds(translated) == expected
    back = translate(translated, to="keras")
    for other in (translated, back, translate(model, to="keras")):
        assert_same(model, other, batch(shape, rng))
        assert [t.dtype for t in keras.tree.flatten(other.output)] == [
            t.dtype for t in keras.tree.flatten(model.output)
        ]
    # Once standard, an operation stays what it is.
    assert kinds(translate(back)) == expected


@pytest.mark.parametrize("name", TENSORFLOW)
def test_of_tensorflow(name, rng):
    shape, function, expected = TENSORFLOW[name]
    x = tf_keras.Input(shape)
    model = tf_keras.Model(x, function(x))
    standard = translate(model)
    assert kinds(standard) == expected
    for other in (standard, translate(model, to="keras")):
        assert_same(model, other, batch(shape, rng))


def test_pixels_are_scaled_as_floats(rng):
    x = keras.Input(IMAGE, dtype="uint8")
    model = keras.Model(x, x / 255)
    pixels = rng.integers(0, 256, (2, *IMAGE)).astype("uint8")
    translated = translate(model)
    assert kinds(translated) == ["Rescaling"]
    assert_same(model, translated, pixels)
    assert_same(model, translate(translated, to="keras"), pixels)


def test_integers_stay_integers(rng):
    x = keras.Input((4,), dtype="int32")
    model = keras.Model(x, [x * 2 + x, ops.mean(x, -1), x * 0.5])
    translated = translate(model)
    numbers = rng.integers(0, 9, (2, 4)).astype("int32")
    assert_same(model, translated, numbers)
    assert_same(model, translate(translated, to="keras"), numbers)
    assert [t.dtype.name for t in translated.outputs] == ["int32", "float32", "float32"]


def test_half_precision_stays_half(rng):
    x = keras.Input((4,), dtype="float16")
    model = keras.Model(x, ops.relu(x * 2 + x))
    translated = translate(model)
    assert translated.output.dtype == "float16"
    assert_same(model, translated, rng.normal(size=(2, 4)).astype("float16"))


def test_names_are_kept_through_both():
    x = keras.Input((4,), name="x")
    model = keras.Model(
        x,
        ops.abs(
            ops.relu(
                x,
            )
            * 2
        ),
        name="ops",
    )
    named = [layer.name for layer in translate(translate(model), to="keras").operations]
    assert named == [operation.name for operation in model.operations]


def test_what_has_no_counterpart_is_told_all_at_once():
    x = keras.Input((4, 4))
    free = keras.Variable(np.ones(4, "float32"))
    y = ops.fft((ops.linalg.inv(x), x))[0] + x * free
    with pytest.raises(UnsupportedError) as error:
        translate(keras.Model(x, ops.take(y, [1, 2])))
    for part in ("FFT", "Inv", "variable", "make it a weight", "take without axis"):
        assert part in str(error.value)
    x = tf_keras.Input((4, 4))
    model = tf_keras.Model(x, tf.linalg.inv(tf.matmul(x, x, transpose_b=True)))
    with pytest.raises(
        UnsupportedError, match=r"tf.linalg.matmul with transpose_b=True.*tf.linalg.inv"
    ):
        translate(model, to="keras")


def test_an_operation_nobody_knows_is_copied_within_one_keras(rng):
    given = rng.normal(size=(3, 4, 4)).astype("float32")
    x = keras.Input((4, 4))
    model = keras.Model(x, ops.linalg.inv(x) * 2)
    copied = translate(model, to="keras")
    assert_same(model, copied, given)
    assert len(model.operations[1]._inbound_nodes) == 1
    x = tf_keras.Input((4, 4))
    model = tf_keras.Model(x, tf.linalg.inv(x) * 2)
    copied = translate(model)
    assert kinds(copied) == ["TFOpLambda", "Rescaling"]
    assert_same(model, copied, given)
