"""One pass yields outputs and features, inside nested models too, and changes nothing."""

import keras
import numpy as np
import pytest

from tfkd.errors import InputError
from tfkd.model.feature_extractor import Tap


def nested(package):
    la = package.layers
    inner = package.Sequential(
        [package.Input((6,)), la.Dense(5, name="a"), la.BatchNormalization(name="bn")], name="inner"
    )
    x = package.Input((6,), name="x")
    return package.Model(x, la.Dense(2, name="head")(la.Dropout(0.5)(inner(x))), name="outer")


def test_outputs_and_features_are_those_of_the_layers(package, rng):
    model, x = nested(package), rng.normal(size=(4, 6)).astype("float32")
    outputs, features = Tap(model, ["inner/a", "bn"])(x, training=False)
    inner = model.get_layer("inner")
    np.testing.assert_allclose(outputs, model(x), rtol=1e-6)
    np.testing.assert_allclose(features["inner/a"], inner.get_layer("a")(x), rtol=1e-6)
    np.testing.assert_allclose(features["bn"], inner(x), rtol=1e-6)
    assert Tap(model, ["inner/a"]).shapes == {"inner/a": (None, 5)}


def test_training_reaches_every_layer(package, rng):
    model, x = nested(package), rng.normal(size=(64, 6)).astype("float32")
    tap = Tap(model, ["bn"])
    before = model.get_layer("inner").get_layer("bn").get_weights()[2]
    tap(x, training=False)
    after = model.get_layer("inner").get_layer("bn").get_weights()[2]
    np.testing.assert_array_equal(before, after)
    _, features = tap(x, training=True)
    np.testing.assert_allclose(np.mean(features["bn"], 0), 0, atol=1e-5)  # batch statistics
    assert not np.array_equal(after, model.get_layer("inner").get_layer("bn").get_weights()[2])


def test_the_model_gets_no_new_nodes(package, rng):
    model = nested(package)
    counts = [len(layer._inbound_nodes) for layer in model.layers]
    Tap(model, ["bn", "head"])(rng.normal(size=(4, 6)).astype("float32"), training=True)
    assert [len(layer._inbound_nodes) for layer in model.layers] == counts


def test_dict_inputs(rng):
    a, b = keras.Input((2,), name="a"), keras.Input((3,), name="b")
    hidden = keras.layers.Dense(4, name="h")(keras.layers.Concatenate()([a, b]))
    model = keras.Model({"a": a, "b": b}, keras.layers.Dense(1)(hidden))
    x = {"a": rng.normal(size=(5, 2)), "b": rng.normal(size=(5, 3))}
    x = {name: value.astype("float32") for name, value in x.items()}
    outputs, features = Tap(model, ["h"])(x, training=False)
    np.testing.assert_allclose(outputs, model(x), rtol=1e-5)
    assert features["h"].shape == (5, 4)


def test_unknown_and_ambiguous_layers(package):
    model = nested(package)
    with pytest.raises(InputError, match="has no layer 'innr/a'; the nearest are 'inner/a'"):
        Tap(model, ["innr/a"], "student")
    x = package.Input((4,))
    shared = package.layers.Dense(4, name="shared")
    with pytest.raises(InputError, match="'shared' has several outputs or is called several times"):
        Tap(package.Model(x, shared(shared(x))), ["shared"])
