"""Models in a precision other than float32: a float32 copy takes their place."""

import keras
import numpy as np
import pytest
import tf_keras
from tiny_models import predicted

import tfkd
from tfkd import translation
from tfkd.export import to_tflite
from tfkd.model import backends, graph

POLICIES = ["mixed_float16", "mixed_bfloat16", "float64", "float16"]


def network(package, policy):
    """Return a model with a nested model, an operation and a float32 output."""
    layers, dtype = package.layers, "float64" if policy == "float64" else "float32"
    keras.utils.set_random_seed(0)
    tf_keras.utils.set_random_seed(0)
    inner = package.Input((4, 6), dtype=dtype)
    x = layers.Bidirectional(layers.GRU(3, return_sequences=True, dtype=policy), dtype=policy)(
        inner
    )
    x = layers.BatchNormalization(dtype=policy)(layers.Dense(6, dtype=policy, name="d")(x))
    inner = package.Model(inner, x, name="inner")
    i = package.Input((4, 6), dtype=dtype, name="x")
    x = layers.Activation("relu", dtype=policy)(inner(i) * 2)
    x = layers.TimeDistributed(layers.Dense(2, dtype=policy), dtype=policy)(x)
    x = layers.Dense(3, dtype=policy, name="middle")(layers.Flatten(dtype=policy)(x))
    return package.Model(i, layers.Dense(2, dtype=dtype, name="head")(x))


@pytest.mark.parametrize("policy", POLICIES)
def test_the_copy_computes_the_same_in_float32(policy, package, rng):
    model = network(package, policy)
    x = rng.normal(size=(32, 4, 6))
    want = np.asarray(predicted(model, x), "float64")
    assert policy in translation.other_precision(model)
    for to in ("keras", "tf_keras"):
        copy, names = translation.counterparts(model, to, float32=True)
        assert translation.other_precision(copy) is None
        assert {w.dtype for w in copy.get_weights()} == {np.dtype("float32")}
        assert {tensor.dtype for tensor in graph.walk(copy).input_list} == {"float32"}
        off = {"float64": 1e-5, "mixed_bfloat16": 0.1}.get(policy, 0.02)
        assert np.abs(predicted(copy, x) - want).max() < off
        assert set(names.values()) >= {"d", "middle", "head"}
    assert translation.other_precision(network(package, "float32")) is None


def rows(package, policy):
    """Return two dense layers, the first of them in a nested model."""
    dtype = "float64" if policy == "float64" else "float32"
    layers = package.layers
    inner = package.Sequential([package.Input((8,), dtype=dtype)], name="inner")
    inner.add(layers.Dense(16, activation="relu", dtype=policy, name="d"))
    i = package.Input((8,), dtype=dtype, name="x")
    return package.Model(i, layers.Dense(3, dtype=dtype, name="head")(inner(i)))


@pytest.mark.parametrize("policy", POLICIES[:3])
def test_they_are_quantized_and_exported(policy, package, rng):
    backends.tfmot()  # its import warns of other things
    model = rows(package, policy)
    x = rng.normal(size=(64, 8)).astype("float32")
    want = np.asarray(predicted(model, x))
    with pytest.warns(UserWarning, match=f"computes in {policy}: it is replaced by a float32 copy"):
        file = to_tflite(model)
    assert "float32 copy" in str(file.notes)
    assert np.abs(file.predict(x) - want).max() < 0.05
    with pytest.warns(UserWarning, match="float32 copy"):
        file = to_tflite(model, "int8", x.astype("float64"), skip=["inner/d"])
    assert np.abs(file.predict(x) - want).mean() < 0.05 * want.std()
    with pytest.warns(UserWarning, match="float32 copy"):
        qat = tfkd.quantize_aware(model, skip=["inner/d"])
    tfkd.quantization.calibrate(qat, x)
    assert np.abs(predicted(qat, x) - want).mean() < 0.05 * want.std()
    stripped = tfkd.strip_quantization(qat, model)
    assert stripped.get_layer("head").dtype_policy.name == model.get_layer("head").dtype_policy.name
    for a, b in zip(stripped.get_weights(), model.get_weights(), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("policy", POLICIES[:3])
def test_they_are_pruned_and_clustered(policy, package, rng):
    model = rows(package, policy)
    x = rng.normal(size=(32, 8)).astype("float32")
    with pytest.warns(UserWarning, match="float32 copy"):
        sparse = tfkd.prune_weights(model, 0.5, schedule="constant", skip=["head"])
    sparse.compile("sgd", "mse", run_eagerly=True)
    sparse.fit(x, np.ones((32, 3)), verbose=0)
    kernel = tfkd.strip_pruning(sparse, model).get_layer("inner").get_layer("d").get_weights()[0]
    assert np.mean(kernel == 0) == 0.5
    with pytest.warns(UserWarning, match="float32 copy"):
        clustered = tfkd.cluster_weights(model, 4)
    kernel = tfkd.strip_clustering(clustered, model).get_layer("head").get_weights()[0]
    assert len(np.unique(kernel)) <= 4
