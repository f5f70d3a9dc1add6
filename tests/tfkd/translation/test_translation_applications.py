"""The models of keras.applications, there and back."""

import functools

import keras
import numpy as np
import pytest
import tf_keras
from keras.src.applications import (
    convnext,
    densenet,
    efficientnet,
    efficientnet_v2,
    nasnet,
    resnet,
)
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


def stacks(stack):
    """Return the four stacks of a ResNet, of two blocks each."""

    def build(x):
        for i, width in enumerate((64, 128, 256, 512)):
            x = stack(x, width, 2, stride1=min(i + 1, 2), name=f"conv{i + 2}")
        return x

    return build


# The families that repeat a block many times, with fewer of them.
SHALLOW = {
    "EfficientNetB0": functools.partial(efficientnet.EfficientNet, 1.0, 0.5, 224),
    "EfficientNetV2B0": functools.partial(
        efficientnet_v2.EfficientNetV2, 1.0, 0.25, 224, name="efficientnetv2-b0"
    ),
    "ResNet50": functools.partial(
        resnet.ResNet, stacks(resnet.stack_residual_blocks_v1), False, True
    ),
    "ResNet50V2": functools.partial(
        resnet.ResNet, stacks(resnet.stack_residual_blocks_v2), True, True
    ),
    "DenseNet121": functools.partial(densenet.DenseNet, [2, 2, 2, 2]),
    "NASNetMobile": functools.partial(
        nasnet.NASNet,
        penultimate_filters=1056,
        num_blocks=1,
        stem_block_filters=32,
        skip_reduction=False,
        default_size=224,
    ),
    "ConvNeXtTiny": functools.partial(convnext.ConvNeXt, [1, 1, 2, 1], [96, 192, 384, 768]),
}
# A class of their own, which tf_keras.applications has too.
OWN = {"LayerScale"}


@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_application(name, rng):
    side = {**QUICK, **SLOW}[name]
    make = SHALLOW.get(name) or getattr(keras.applications, name)
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
