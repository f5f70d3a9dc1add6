"""Models that several tests build; every test can import `tiny_models`."""

import keras
import numpy as np
import pytest

#: What `keras.distillation` gets wrong. Looked at up to 3.15: a later Keras may have mended it.
FAILS_IN_KERAS = pytest.mark.xfail(
    strict=tuple(map(int, keras.__version__.split(".")[:2])) <= (3, 15),
    reason="keras.distillation up to 3.15",
)


def cnn(package, width=8, name="student", activation=None):
    """Return a small untrained CNN for 8×8 images, in either Keras."""
    layers = package.layers
    inputs = x = package.Input((8, 8, 1), name="pixels")
    for i in range(2):
        x = layers.Conv2D(width * (i + 1), 3, strides=i + 1, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.ReLU()(x)
    x = layers.GlobalAveragePooling2D()(x)
    return package.Model(
        inputs, layers.Dense(10, activation=activation, name="logits")(x), name=name
    )


def crossentropy(package, from_logits=True):
    """Return the hard loss for class numbers."""
    return package.losses.SparseCategoricalCrossentropy(from_logits=from_logits)


def dense(package, units=3, activation=None, inputs=4, **kwargs):
    """Return one dense layer named `d` as a model, in either Keras."""
    layer = package.layers.Dense(units, activation=activation, name="d", **kwargs)
    return package.Sequential([package.Input((inputs,), name="x"), layer])


def predicted(model, x):
    """Return what `predict` of either Keras returns, without its trace of a function."""
    return keras.tree.map_structure(np.asarray, model(x, training=False))


def projection(package):
    """Return a layer class of a user's own: a matrix product, and a factor for each unit."""

    class Projection(package.layers.Layer):
        def __init__(self, units, **kwargs):
            super().__init__(**kwargs)
            self.units = units

        def build(self, input_shape):
            self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")
            self.gain = self.add_weight(shape=(self.units,), initializer="ones", name="gain")
            self.built = True

        def call(self, x):
            return (x @ self.kernel) * self.gain

        def get_config(self):
            return {**super().get_config(), "units": self.units}

    return Projection
