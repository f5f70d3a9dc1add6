"""Translated models compute what the originals do."""

import keras
import numpy as np
import pytest
import tf_keras

from tfkd import translate
from tfkd.errors import UnsupportedError

L = keras.layers

IMAGE_LAYERS = {
    "Conv2D": lambda: L.Conv2D(4, 3, padding="same", activation="relu"),
    "Conv2D regularized": lambda: L.Conv2D(4, 3, kernel_regularizer="l2", strides=2),
    "Conv2D constrained": lambda: L.Conv2D(4, 3, kernel_constraint=keras.constraints.MaxNorm(2.0)),
    "DepthwiseConv2D": lambda: L.DepthwiseConv2D(3, depth_multiplier=2),
    "SeparableConv2D": lambda: L.SeparableConv2D(5, 3),
    "Conv2DTranspose": lambda: L.Conv2DTranspose(3, 3, strides=2),
    "BatchNormalization": lambda: L.BatchNormalization(epsilon=1e-2),
    "ReLU6": lambda: L.ReLU(max_value=6.0, negative_slope=0.1),
    "LeakyReLU": lambda: L.LeakyReLU(0.2),
    "Activation": lambda: L.Activation("sigmoid"),
    "MaxPooling2D": lambda: L.MaxPooling2D(),
    "AveragePooling2D": lambda: L.AveragePooling2D(3, strides=2, padding="same"),
    "GlobalMaxPooling2D": lambda: L.GlobalMaxPooling2D(keepdims=True),
    "ZeroPadding2D": lambda: L.ZeroPadding2D(((1, 0), (0, 2))),
    "Dropout": lambda: L.Dropout(0.5),
    "Rescaling": lambda: L.Rescaling(2.0, offset=1.0),
    "Flatten": lambda: L.Flatten(),
    "Reshape": lambda: L.Reshape((16, 8)),
    "Dense": lambda: L.Dense(3, activation="tanh"),
    "UpSampling2D": lambda: L.UpSampling2D(),
}


def shake(model, rng):
    """Give every weight a value that a wrong order or a lost statistic would show."""
    model.set_weights(
        [rng.uniform(0.1, 1.0, w.shape).astype("float32") for w in model.get_weights()]
    )
    return model


def assert_same(model, translated, x):
    want, got = model.predict(x, verbose=0), translated.predict(x, verbose=0)
    assert type(want) is type(got)
    for a, b in zip(keras.tree.flatten(want), keras.tree.flatten(got), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", IMAGE_LAYERS)
def test_layer(name, rng):
    model = shake(keras.Sequential([keras.Input((8, 8, 2)), IMAGE_LAYERS[name]()]), rng)
    x = rng.normal(size=(3, 8, 8, 2)).astype("float32")
    translated = translate(model)
    assert isinstance(translated, tf_keras.Model)
    assert_same(model, translated, x)


def test_nested_shared_and_merging(rng):
    inner = keras.Sequential([keras.Input((4,)), L.Dense(4, activation="relu")], name="inner")
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    shared = L.Dense(4)
    merged = L.Concatenate()([L.Add()([shared(inner(a)), shared(b)]), inner(b)])
    model = shake(keras.Model({"a": a, "b": b}, {"out": L.Dense(2)(merged)}), rng)
    x = {name: rng.normal(size=(3, 4)).astype("float32") for name in "ab"}
    translated = translate(model)
    assert len(translated.layers) == 2 + 5  # two inputs; inner and shared once each
    assert_same(model, translated, x)


def test_two_layers_of_one_name_in_two_nested_models(rng):
    def part():
        return keras.Sequential([keras.Input((4,)), L.Dense(4, name="dense")])

    model = shake(keras.Sequential([keras.Input((4,)), part(), part()]), rng)
    assert_same(model, translate(model), rng.normal(size=(3, 4)).astype("float32"))


def test_training_state_is_kept(rng):
    model = keras.Sequential([keras.Input((4,)), L.Dense(4, kernel_regularizer="l2"), L.Dense(2)])
    model.layers[1].trainable = False
    translated = translate(model)
    assert len(translated.losses) == 1
    np.testing.assert_allclose(translated.losses[0], float(model.losses[0]), rtol=1e-6)
    assert [w.shape.as_list() for w in translated.trainable_weights] == [[4, 4], [4]]


def test_the_source_is_untouched_and_weights_are_not_shared(rng):
    model = keras.Sequential([keras.Input((4,)), L.Dense(4)])
    before = model.get_weights()
    translate(model).set_weights([np.zeros((4, 4)), np.zeros(4)])
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_everything_that_cannot_be_translated_is_named_at_once():
    class Custom(L.Layer):
        def call(self, x):
            return x

    x = keras.Input((4,))
    y = L.Dense(4, lora_rank=2, name="low")(Custom(name="mine")(x))
    model = keras.Model(x, keras.ops.erfinv(L.RMSNormalization()(y)))
    with pytest.raises(UnsupportedError) as error:
        translate(model)
    for part in ("'mine'", "class Custom", "register", "'low'", "lora_rank", "RMSNorm", "Erfinv"):
        assert part in str(error.value)
