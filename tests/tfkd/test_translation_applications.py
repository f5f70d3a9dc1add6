"""The models of keras.applications, there and back."""

import keras
import numpy as np
import pytest
import tf_keras
from translated import assert_same, kinds, shake

from tfkd import translate

# Name → side of the smallest usual input. The quick ones run always.
QUICK = {"MobileNet": 32, "MobileNetV3Small": 32}
SLOW = {
    "MobileNetV2": 64,
    "MobileNetV3Large": 64,
    "EfficientNetB0": 64,
    "EfficientNetV2B0": 64,
    "ResNet50": 64,
    "ResNet50V2": 64,
    "DenseNet121": 64,
    "NASNetMobile": 64,
    "Xception": 71,
    "InceptionV3": 75,
    "VGG16": 32,
    "ConvNeXtTiny": 64,
}
# A class of their own, which tf_keras.applications has too.
OWN = {"LayerScale"}


@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_application(name, rng):
    side = {**QUICK, **SLOW}[name]
    make = getattr(keras.applications, name)
    model = make(weights=None, input_shape=(side, side, 3), include_top=False, pooling="avg")
    shake_statistics(model, rng)
    images = rng.uniform(0, 255, (2, side, side, 3)).astype("float32")
    old = translate(model)
    back = translate(old, to="keras")
    assert_same(model, old, images, 1e-5)
    assert_same(model, back, images, 1e-5)
    assert back.count_params() == model.count_params()
    for layer in old.layers:
        known = hasattr(tf_keras.layers, type(layer).__name__) or type(layer).__name__ in OWN
        assert known, f"{layer.name} ({type(layer).__name__}) is no standard layer"


def shake_statistics(model, rng):
    """Shake what normalizes; with all weights random, a deep net's output is 0 or infinite."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shake(keras.Sequential([layer]), rng)


def test_stochastic_depth_goes_along(rng):
    from keras.src.applications.convnext import LayerScale, StochasticDepth

    x = keras.Input((8, 8, 4))
    model = keras.Model(x, StochasticDepth(0.2)(LayerScale(0.5, 4)(x)))
    old = translate(model)
    images = rng.normal(size=(2, 8, 8, 4)).astype("float32")
    # tf_keras has a StochasticDepth as well, but it fails in fit; it is a dropout of samples.
    assert kinds(old) == ["LayerScale", "Dropout"]
    ones = np.ones((50, 2, 2, 1), "float32")
    drop = old.layers[-1](ones, training=True).numpy()
    np.testing.assert_array_equal(drop, drop[:, :1, :1] * ones)
    assert set(np.unique(drop)) == {0.0, 1.25}
    assert_same(model, old, images)
    assert_same(model, translate(old, to="keras"), images)
    old.compile("sgd", "mse")
    old.fit(images, images, verbose=0)
