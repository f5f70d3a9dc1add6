"""`trainable` means the same in a quantize-aware model as in Keras."""

import keras
import numpy as np
import pytest
import tf_keras
from tiny_models import predicted

from tfkd import Distiller, quantize_aware, strip_quantization
from tfkd.errors import UnsupportedError
from tfkd.export import to_tflite
from tfkd.loading.models import load_model

pytestmark = pytest.mark.filterwarnings("ignore:The teacher's:UserWarning")  # it is untrained


def weights_of(model):
    """Return the weights by the path of their layer, nested models inlined."""
    found = {}
    for layer in model.layers:
        if hasattr(layer, "layers"):
            inner = weights_of(layer)
            found |= {f"{layer.name}/{name}": held for name, held in inner.items()}
        elif layer.weights:
            found[layer.name] = layer.get_weights()
    return found


def moved(before, after):
    """Return the names of the layers any of whose weights differ."""
    return {
        name
        for name, held in before.items()
        if any(not np.array_equal(a, b) for a, b in zip(held, after[name], strict=True))
    }


def fitted(qat, x, y, **kwargs):
    # Weight decay moves what has no gradient, too.
    qat.compile(tf_keras.optimizers.AdamW(0.01, weight_decay=0.1), "mse", run_eagerly=True)
    qat.fit(x, y, batch_size=16, verbose=0, **kwargs)
    return qat


def branches(package):
    """Return a model with a layer of each kind that the table treats in a way of its own."""
    layers = package.layers
    i = package.Input((2, 4))
    several = [
        layers.Conv1D(4, 1, activation="relu", name="conv"),
        layers.SeparableConv1D(4, 1, name="separable"),
        layers.DepthwiseConv1D(1, name="depthwise"),
        layers.Dense(4, name="dense"),
        layers.TimeDistributed(layers.Dense(4), name="steps"),
        layers.LSTM(4, return_sequences=True, name="lstm"),
        layers.GRU(4, return_sequences=True, name="gru"),
        layers.Bidirectional(layers.SimpleRNN(2, return_sequences=True), name="both"),
        layers.PReLU(shared_axes=[1], name="prelu"),
        layers.LayerNormalization(name="norm"),
        layers.BatchNormalization(name="stray"),
    ]
    x = layers.Concatenate()([layer(i) for layer in several])
    x = layers.BatchNormalization(name="bn")(layers.Dense(8, use_bias=False, name="last")(x))
    return package.Model(i, layers.Dense(2, name="head")(layers.Flatten()(x)))


@pytest.mark.slow
def test_frozen_layers_of_every_kind_keep_their_weights_to_the_bit(package, rng):
    model = branches(package)
    for layer in model.layers[:-1]:
        layer.trainable = False
    x = rng.normal(1.0, 2.0, size=(16, 2, 4)).astype("float32")
    qat = quantize_aware(model)
    assert sum(np.prod(w.shape) for w in qat.trainable_weights) == 2 * 8 * 2 + 2
    before = weights_of(model)
    distiller = Distiller(qat, model, soft_loss="mse")
    optimizer = tf_keras.optimizers.AdamW(0.01, weight_decay=0.1)
    distiller.compile(optimizer, "mse", run_eagerly=True)
    distiller.fit(x, np.ones((16, 2)), batch_size=16, verbose=0)
    assert moved(before, weights_of(strip_quantization(qat, model))) == {"head"}
    # Toggled as in Keras; what was rewritten into several layers has their names.
    qat.trainable = True
    fitted(qat, x, np.ones((16, 2)))
    assert moved(before, weights_of(strip_quantization(qat, model))) == set(before)
    qat.trainable = False
    assert qat.trainable_weights == []


def backbone(package):
    """Return a small network with residuals, as a model of its own, and a new head on it."""
    layers = package.layers
    i = package.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="stem")(i)
    x = y = layers.ReLU(6.0)(layers.BatchNormalization(name="stem_bn")(x))
    y = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(y)
    y = layers.ReLU(6.0)(layers.BatchNormalization(name="depthwise_bn")(y))
    y = layers.Conv2D(8, 1, use_bias=False, name="project")(y)
    y = layers.BatchNormalization(name="project_bn")(y)
    inner = package.Model(i, layers.Add()([x, y]), name="backbone")
    i = package.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(inner(i, training=False))
    return package.Model(i, layers.Dense(3, name="head")(layers.Dropout(0.1)(x)))


def test_transfer_learning_changes_the_head_alone(package, rng):
    model = backbone(package)
    model.get_layer("backbone").trainable = False
    x = rng.normal(1.0, 2.0, size=(48, 8, 8, 3)).astype("float32")
    before = weights_of(model)
    qat = fitted(quantize_aware(model), x, np.eye(3)[rng.integers(0, 3, 48)], epochs=2)
    after = strip_quantization(qat, model)
    assert moved(before, weights_of(after)) == {"head"}
    file = to_tflite(qat, "int8")
    assert file.integer_only
    want = predicted(qat, x)
    difference = np.abs(file.predict(x, engine="reference") - want).max()
    assert difference <= 2.01 * file.outputs[0].scale


def test_fine_tuning_moves_what_keras_moves(package, rng):
    """The upper half; and statistics: tf_keras keeps `training=False` of a nested model."""
    model = backbone(package)
    for layer in model.get_layer("backbone").layers:
        layer.trainable = layer.name.startswith("project")
    x, y = rng.normal(1.0, 2.0, size=(48, 8, 8, 3)).astype("float32"), np.ones((48, 3))
    before = weights_of(model)
    stripped = weights_of(strip_quantization(fitted(quantize_aware(model), x, y), model))
    optimizer = package.optimizers.AdamW(0.01, weight_decay=0.1)
    model.compile(optimizer, "mse", run_eagerly=True)
    model.fit(x, y, batch_size=16, verbose=0)
    assert moved(before, stripped) == moved(before, weights_of(model))
    statistics = [[held["backbone/project_bn"][2] for held in (before, stripped)]]
    kept = [np.array_equal(a, b) for a, b in statistics]
    assert kept == [package is tf_keras]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_statistics_move_where_keras_moves_them(package, nested, training, rng):
    """Keras 3's `fit` replaces the `training=` of a call, tf_keras keeps it."""
    layers = package.layers
    normalize = layers.BatchNormalization(momentum=0.5, name="bn")
    if nested:
        normalize = package.Sequential([package.Input((6,)), normalize], name="base")
    i = package.Input((6,))
    model = package.Model(i, layers.Dense(2)(normalize(i, training=training)))
    x, y = rng.normal(2.0, 3.0, size=(32, 6)).astype("float32"), np.ones((32, 2))
    before = weights_of(model)
    qat = quantize_aware(model)
    stripped = weights_of(strip_quantization(fitted(qat, x, y, shuffle=False), model))
    model.compile(package.optimizers.SGD(0.0), "mse", run_eagerly=True)
    model.fit(x, y, batch_size=16, shuffle=False, verbose=0)
    name = "base/bn" if nested else "bn"
    mean, variance = weights_of(model)[name][2:]
    np.testing.assert_allclose(stripped[name][2], mean, atol=0.02)
    np.testing.assert_allclose(stripped[name][3], variance, atol=0.2)
    moves = training or package is not tf_keras
    assert np.array_equal(before[name][2], stripped[name][2]) != moves


def test_one_direction_of_a_bidirectional_layer_is_frozen(package, rng):
    layers = package.layers
    both = layers.Bidirectional(layers.LSTM(3), name="both")
    model = package.Sequential([package.Input((2, 4)), both, layers.Dense(2, name="head")])
    both.forward_layer.trainable = False
    x = rng.normal(size=(32, 2, 4)).astype("float32")
    forward, backward = (one.get_weights() for one in (both.forward_layer, both.backward_layer))
    qat = fitted(quantize_aware(model), x, np.ones((32, 2)))
    after = strip_quantization(qat, model).get_layer("both")
    for a, b in zip(forward, after.forward_layer.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(backward, after.backward_layer.get_weights(), strict=True):
        assert not np.array_equal(a, b)
    want = predicted(qat, x)
    # tf_keras orders weights by what is frozen: the two directions must not change places.
    assert np.abs(to_tflite(qat, "int8", x).predict(x) - want).mean() < 0.15 * want.std()
    want = predicted(model, x)
    got = to_tflite(model, "float32", recurrent="unrolled").predict(x)
    np.testing.assert_allclose(got, want, atol=1e-4)


def test_a_frozen_model_trains_nothing_until_it_is_thawed(package):
    model = backbone(package)
    model.trainable = False
    model.get_layer("head").trainable = True  # in a model that is frozen as a whole
    qat = quantize_aware(model)
    assert model.trainable_weights == [] == qat.trainable_weights
    qat.trainable = True
    assert len(qat.trainable_weights) == 11


def test_what_trainable_of_a_layer_cannot_say():
    layers = tf_keras.layers
    model = backbone(tf_keras)
    inner = model.get_layer("backbone")
    inner.trainable = False
    inner.get_layer("stem").trainable = True  # which trains nothing, in tf_keras
    qat = quantize_aware(model)
    assert [w.name for w in qat.trainable_weights] == ["head/kernel:0", "head/bias:0"]
    inner.get_layer("stem_bn").trainable = True
    with pytest.raises(UnsupportedError, match="'backbone/stem_bn' is in a frozen model"):
        quantize_aware(model)
    layers = keras.layers
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2, name="d")])
    model.layers[0].bias.trainable = False
    with pytest.raises(UnsupportedError, match="'d' has trainable=True, but not .'bias'"):
        quantize_aware(model)


def test_what_is_frozen_stays_frozen_in_a_file(tmp_path):
    model = backbone(keras)
    model.get_layer("backbone").trainable = False
    qat = quantize_aware(model)
    qat.save(tmp_path / "qat.keras")
    again = load_model(tmp_path / "qat.keras")
    assert len(again.trainable_weights) == len(qat.trainable_weights) == 2
