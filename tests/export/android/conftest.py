"""Files for the tests of both bundle and app."""

import keras
import pytest
import zoo

from tfkd.export import to_tflite


@pytest.fixture(scope="session")
def fused():
    return to_tflite(zoo.build(keras, "lstm"), "float32")


@pytest.fixture(scope="session")
def step():
    model = zoo.build(keras, "lstm")
    return to_tflite(model, "int8", zoo.inputs_for(model), recurrent="step")


@pytest.fixture(scope="session")
def several():
    left, right = keras.Input((4,), name="left"), keras.Input((6,), name="val")
    kind = keras.layers.Dense(3, name="kind")(keras.layers.Concatenate()([left, right]))
    place = keras.layers.Dense(2, name="place")(right)
    return to_tflite(keras.Model([left, right], [kind, place]), "float32")


@pytest.fixture(scope="session")
def places():
    """Classes for each of five steps."""
    layers = [keras.Input((5, 2)), keras.layers.Dense(3, "softmax", name="label")]
    return to_tflite(keras.Sequential(layers), "float32")
