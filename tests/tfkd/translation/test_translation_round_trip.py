"""Laws that hold for any model: there and back is the identity, and once is enough.

The models are drawn from a small grammar with a seeded generator: chains and branches,
merges, shared layers, nested models, operations between layers, on images, sequences
(also of masked tokens) and rows.
"""

import keras
import numpy as np
import pytest
from translated import assert_same, settings, shake

from tfkd import translate
from tfkd.model import graph

L, ops = keras.layers, keras.ops


def activation(rng):
    names = ["relu", "tanh", "sigmoid", "silu", "gelu", "hard_sigmoid", "hard_silu", "relu6"]
    return str(rng.choice([*names, "elu", "softplus", "leaky_relu", "linear", "mish"]))


def pick(rng, *makers):
    return makers[rng.integers(len(makers))]()


def image_layer(rng, channels):
    return pick(
        rng,
        lambda: L.Conv2D(channels, 3, padding="same", activation=activation(rng)),
        lambda: L.Conv2D(channels, 1, use_bias=False, kernel_regularizer="l2"),
        lambda: L.DepthwiseConv2D(3, padding="same"),
        lambda: L.SeparableConv2D(channels, 3, padding="same"),
        lambda: L.BatchNormalization(momentum=0.9),
        lambda: L.LayerNormalization(),
        lambda: L.GroupNormalization(2),
        lambda: L.ReLU(6.0),
        lambda: L.LeakyReLU(0.2),
        lambda: L.PReLU(shared_axes=[1, 2]),
        lambda: L.Activation(activation(rng)),
        lambda: L.SpatialDropout2D(0.2),
        lambda: L.Dense(channels, activation=activation(rng)),
        lambda: L.Rescaling(0.5, 0.1),
    )


def sequence_layer(rng, channels):
    return pick(
        rng,
        lambda: L.Conv1D(channels, 3, padding="same", activation=activation(rng)),
        lambda: L.SeparableConv1D(channels, 3, padding="same"),
        lambda: L.LSTM(channels, return_sequences=True, recurrent_activation=activation(rng)),
        lambda: L.GRU(channels, return_sequences=True, reset_after=bool(rng.integers(2))),
        lambda: L.SimpleRNN(channels, return_sequences=True, dropout=0.1),
        lambda: L.Bidirectional(L.LSTM(channels, return_sequences=True), merge_mode="ave"),
        lambda: L.TimeDistributed(L.Dense(channels, activation=activation(rng))),
        lambda: L.LayerNormalization(),
        lambda: L.BatchNormalization(),
        lambda: L.Dense(channels),
        lambda: L.Dropout(0.2),
        lambda: L.UnitNormalization(),
    )


def row_layer(rng, channels):
    return pick(
        rng,
        lambda: L.Dense(channels, activation=activation(rng), kernel_constraint="max_norm"),
        lambda: L.BatchNormalization(),
        lambda: L.LayerNormalization(),
        lambda: L.ELU(0.5),
        lambda: L.Dropout(0.1),
        lambda: L.GaussianNoise(0.1),
    )


LAYERS = {4: image_layer, 3: sequence_layer, 2: row_layer}


def operation(rng, x):
    """Return x after an operation that keeps its shape."""
    axes = tuple(range(1, len(x.shape) - 1))
    return pick(
        rng,
        lambda: x * 0.5 + 0.1,
        lambda: 1 - x / 2,
        lambda: -x,
        lambda: x * np.linspace(0.5, 1.5, x.shape[-1], dtype="float32"),
        lambda: ops.relu(x),
        lambda: ops.tanh(x),
        lambda: ops.hard_sigmoid(x),
        lambda: ops.softmax(x),
        lambda: ops.clip(x, 0, 1),
        lambda: ops.sqrt(ops.square(x) + 0.1),
        lambda: ops.abs(x),
        lambda: x - ops.mean(x, axes, keepdims=True) if axes else x + 0.5,
        lambda: ops.concatenate([x[..., 1:], x[..., :1]], -1),
        lambda: x + ops.reshape(ops.expand_dims(x, -1), (-1, *x.shape[1:])),
    )


def merge(rng, a, b):
    return pick(
        rng,
        lambda: L.Add()([a, b]),
        lambda: L.Multiply()([a, b]),
        lambda: L.Average()([a, b]),
        lambda: L.Maximum()([a, b, a]),
        lambda: L.Subtract()([a, b]),
        lambda: L.Concatenate()([a, b]),
        lambda: a + b,
        lambda: a * ops.sigmoid(b),
        lambda: ops.minimum(a, b),
    )


def narrower(rng, x):
    """Return x with less space, or one rank down."""
    if len(x.shape) == 4:
        return pick(
            rng,
            lambda: L.MaxPooling2D()(x),
            lambda: L.Conv2D(4, 3, strides=2, padding="same")(x),
            lambda: x[:, 1:, :-1],
            lambda: L.GlobalAveragePooling2D()(x),
            lambda: ops.max(x, (1, 2)),
            lambda: L.Reshape((-1, x.shape[-1]))(x),
        )
    if len(x.shape) == 3:
        return pick(
            rng,
            lambda: L.LSTM(4)(x),
            lambda: L.Bidirectional(L.GRU(2))(x),
            lambda: x[:, -1],
            lambda: ops.mean(x, 1),
            lambda: L.GlobalMaxPooling1D()(x),
            lambda: L.AveragePooling1D(2, padding="same")(x),
        )
    return x


def channels_of(x):
    return 2 * x.shape[-1] // 2 if x.shape[-1] % 2 == 0 else x.shape[-1] + 1


def nested(rng, x):
    inner = keras.Input(x.shape[1:])
    y = LAYERS[len(x.shape)](rng, channels_of(x))(inner)
    return keras.Model(inner, L.Add()([y, y]))(x)


def grow(rng, x, with_operations, steps=7):
    """Return the outputs of a random graph over x."""
    outputs = []
    for _ in range(steps):
        roll = rng.random()
        if x.shape[-1] % 2:  # group normalization wants pairs
            x = L.Dense(4)(x)
        if roll < 0.15 and with_operations:
            x = operation(rng, x)
        elif roll < 0.3:
            layer = LAYERS[len(x.shape)](rng, x.shape[-1])
            first = layer(x)
            same = first.shape == x.shape
            x = merge(rng, first, layer(x) if same else first) if with_operations else first
        elif roll < 0.45:
            x = L.Add()([x, LAYERS[len(x.shape)](rng, x.shape[-1])(x)])
        elif roll < 0.55:
            x = nested(rng, x)
        elif roll < 0.65 and (with_operations or len(x.shape) == 2):
            x = narrower(rng, x)
        elif roll < 0.7:
            outputs.append(x)
        else:
            x = LAYERS[len(x.shape)](rng, x.shape[-1])(x)
    return [*outputs, x]


def draw(seed, with_operations=True):
    """Return a random model and a batch for it."""
    rng = np.random.default_rng(seed)
    keras.utils.set_random_seed(seed)
    shape, integers = [((8, 8, 4), False), ((6, 4), False), ((6,), True), ((4,), False)][seed % 4]
    entry = keras.Input(shape, dtype="int32" if integers else "float32", name="entry")
    x = L.Embedding(5, 4, mask_zero=bool(rng.integers(2)))(entry) if integers else entry
    outputs = grow(rng, x, with_operations)
    if rng.integers(2):
        outputs = {f"out{i}": y for i, y in enumerate(outputs)}
    elif len(outputs) == 1:
        (outputs,) = outputs  # tf_keras makes this of a list of one
    model = shake(keras.Model(entry, outputs, name="drawn"), rng)
    batch = rng.integers(0, 5, (3, *shape)) if integers else rng.normal(size=(3, *shape))
    return model, batch.astype("int32" if integers else "float32")


def structure(model):
    """Everything that makes a model what it is, weights left out."""
    walked = graph.walk(model)
    calls = [
        (settings(call.layer), [t.name.split("/")[-1] for t in call.inputs])
        for call in walked.calls
    ]
    ends = graph.map_structure(lambda t: (t.name.split("/")[-1], t.shape), walked.outputs)
    return walked.name, calls, ends


pytestmark = pytest.mark.filterwarnings("ignore:[^.]*mask")


@pytest.mark.parametrize("seed", range(16))
def test_there_and_back_computes_the_same(seed):
    model, batch = draw(seed)
    old = translate(model)
    back = translate(old, to="keras")
    assert_same(model, old, batch, 1e-5)
    assert_same(model, back, batch, 1e-5)
    # All that could become standard has: from here on nothing changes any more.
    again = translate(translate(back), to="keras")
    assert structure(again) == structure(back)
    assert_same(back, again, batch, 1e-6)


@pytest.mark.parametrize("seed", range(100, 108))
def test_there_and_back_is_the_identity_for_layers(seed):
    model, batch = draw(seed, with_operations=False)
    back = translate(translate(model), to="keras")
    assert structure(back) == structure(model)
    assert_same(model, back, batch, 1e-6)
    for a, b in zip(model.get_weights(), back.get_weights(), strict=True):
        assert a.shape == b.shape
