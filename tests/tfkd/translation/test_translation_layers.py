"""Every standard layer there and back: the same outputs, class, name and settings."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from translated import assert_same, needs_current_keras, settings, shake

from tfkd import translate
from tfkd.errors import UnsupportedError

L = keras.layers
ROW, SEQUENCE, IMAGE, VOLUME, VIDEO = (8,), (6, 4), (8, 8, 4), (4, 4, 4, 2), (3, 6, 6, 2)


def per_frame():
    layers = [L.BatchNormalization(), L.Conv2D(2, 3, activation="silu"), L.BatchNormalization()]
    return L.TimeDistributed(keras.Sequential([keras.Input((6, 6, 2)), *layers]))


LAYERS = {
    "Activation": (ROW, lambda: L.Activation("sigmoid")),
    "Activation gelu": (ROW, lambda: L.Activation("gelu")),
    "Activation hard_sigmoid": (ROW, lambda: L.Activation("hard_sigmoid")),
    "Activation hard_swish": (ROW, lambda: L.Activation("hard_swish")),
    "Activation mish": (ROW, lambda: L.Activation("mish")),
    "Activation log_softmax": (ROW, lambda: L.Activation("log_softmax")),
    "ActivityRegularization": (ROW, lambda: L.ActivityRegularization(l1=0.1)),
    "AlphaDropout": (ROW, lambda: L.AlphaDropout(0.3)),
    "AveragePooling1D": (SEQUENCE, lambda: L.AveragePooling1D(2)),
    "AveragePooling2D": (IMAGE, lambda: L.AveragePooling2D(3, strides=2, padding="same")),
    "AveragePooling3D": (VOLUME, lambda: L.AveragePooling3D(2)),
    "BatchNormalization": (IMAGE, lambda: L.BatchNormalization(epsilon=1e-2, momentum=0.9)),
    "BatchNormalization rows": (ROW, lambda: L.BatchNormalization(scale=False)),
    "BatchNormalization axis": (IMAGE, lambda: L.BatchNormalization(axis=1)),
    "Bidirectional": (SEQUENCE, lambda: L.Bidirectional(L.LSTM(3), merge_mode="sum")),
    "Bidirectional GRU": (
        SEQUENCE,
        lambda: L.Bidirectional(L.GRU(3, activation="hard_silu", return_sequences=True)),
    ),
    "Bidirectional two": (
        SEQUENCE,
        lambda: L.Bidirectional(
            L.LSTM(3), backward_layer=L.LSTM(3, activation="relu", go_backwards=True)
        ),
    ),
    "CenterCrop": (IMAGE, lambda: L.CenterCrop(5, 6)),
    "Conv1D": (SEQUENCE, lambda: L.Conv1D(3, 3, padding="causal", dilation_rate=2)),
    "Conv1DTranspose": (SEQUENCE, lambda: L.Conv1DTranspose(3, 3, strides=2)),
    "Conv2D": (IMAGE, lambda: L.Conv2D(4, 3, padding="same", activation="relu")),
    "Conv2D groups": (IMAGE, lambda: L.Conv2D(4, 3, groups=2, activation="leaky_relu")),
    "Conv2D constrained": (
        IMAGE,
        lambda: L.Conv2D(4, 3, kernel_constraint=keras.constraints.MaxNorm(2.0, axis=[0, 1])),
    ),
    "Conv2DTranspose": (
        IMAGE,
        lambda: L.Conv2DTranspose(3, 3, strides=2, padding="same", output_padding=1),
    ),
    "Conv3D": (VOLUME, lambda: L.Conv3D(3, 2)),
    "Conv3DTranspose": (VOLUME, lambda: L.Conv3DTranspose(3, 2)),
    "ConvLSTM1D": ((4, 6, 2), lambda: L.ConvLSTM1D(3, 3)),
    "ConvLSTM2D": (
        VIDEO,
        lambda: L.ConvLSTM2D(3, 3, return_sequences=True, recurrent_activation="hard_sigmoid"),
    ),
    "Cropping1D": (SEQUENCE, lambda: L.Cropping1D(1)),
    "Cropping2D": (IMAGE, lambda: L.Cropping2D(((1, 0), (2, 1)))),
    "Cropping3D": (VOLUME, lambda: L.Cropping3D(1)),
    "Dense": (ROW, lambda: L.Dense(3, activation="relu6")),
    "Dense regularized": (
        ROW,
        lambda: L.Dense(
            3, kernel_regularizer=keras.regularizers.L1L2(0.1), activity_regularizer="l2"
        ),
    ),
    "Dense orthogonal": (
        ROW,
        lambda: L.Dense(3, kernel_regularizer=keras.regularizers.OrthogonalRegularizer(0.02)),
    ),
    "Dense float64": (ROW, lambda: L.Dense(3, dtype="float64")),
    "DepthwiseConv1D": (SEQUENCE, lambda: L.DepthwiseConv1D(3)),
    "DepthwiseConv2D": (IMAGE, lambda: L.DepthwiseConv2D(3, depth_multiplier=2)),
    "Discretization": (ROW, lambda: L.Discretization([0.0, 1.0])),
    "Dropout": (ROW, lambda: L.Dropout(0.5)),
    "EinsumDense": (
        SEQUENCE,
        lambda: L.EinsumDense("abc,cd->abd", (None, 5), bias_axes="d", activation="relu"),
    ),
    "ELU": (ROW, lambda: L.ELU(0.3)),
    "Flatten": (IMAGE, lambda: L.Flatten()),
    "GaussianDropout": (ROW, lambda: L.GaussianDropout(0.3)),
    "GaussianNoise": (ROW, lambda: L.GaussianNoise(0.3)),
    "GlobalAveragePooling1D": (SEQUENCE, lambda: L.GlobalAveragePooling1D()),
    "GlobalMaxPooling2D": (IMAGE, lambda: L.GlobalMaxPooling2D(keepdims=True)),
    "GroupNormalization": (IMAGE, lambda: L.GroupNormalization(2)),
    "GRU": (SEQUENCE, lambda: L.GRU(3, return_sequences=True)),
    "GRU reset before": (SEQUENCE, lambda: L.GRU(3, reset_after=False)),
    "Identity": (ROW, lambda: L.Identity()),
    "LayerNormalization": (IMAGE, lambda: L.LayerNormalization(axis=[-2, -1])),
    "LeakyReLU": (ROW, lambda: L.LeakyReLU(0.2)),
    "LSTM": (SEQUENCE, lambda: L.LSTM(3, recurrent_activation="hard_sigmoid", dropout=0.2)),
    "LSTM frozen": (SEQUENCE, lambda: L.LSTM(3, trainable=False, unroll=True)),
    "Masking": (SEQUENCE, lambda: L.Masking(0.5)),
    "MaxPooling1D": (SEQUENCE, lambda: L.MaxPooling1D(2, strides=1, padding="same")),
    "MaxPooling2D": (IMAGE, lambda: L.MaxPooling2D()),
    "Normalization": (IMAGE, lambda: L.Normalization()),
    "Normalization given": (ROW, lambda: L.Normalization(mean=[1.0] * 8, variance=[2.0] * 8)),
    "Permute": (IMAGE, lambda: L.Permute((2, 1, 3))),
    "PReLU": (IMAGE, lambda: L.PReLU(shared_axes=[1, 2])),
    "RandomBrightness": (IMAGE, lambda: L.RandomBrightness(0.1)),
    "RandomContrast": (IMAGE, lambda: L.RandomContrast(0.1)),
    "RandomFlip": (IMAGE, lambda: L.RandomFlip("horizontal")),
    "RandomRotation": (IMAGE, lambda: L.RandomRotation(0.1)),
    "RandomTranslation": (IMAGE, lambda: L.RandomTranslation(0.1, 0.2)),
    "RandomZoom": (IMAGE, lambda: L.RandomZoom(0.1, 0.2)),
    "ReLU": (ROW, lambda: L.ReLU(max_value=6.0, negative_slope=0.1, threshold=0.2)),
    "RepeatVector": (ROW, lambda: L.RepeatVector(3)),
    "Rescaling": (IMAGE, lambda: L.Rescaling(np.arange(4.0), offset=[1.0, 2.0, 3.0, 4.0])),
    "Reshape": (IMAGE, lambda: L.Reshape((-1, 8))),
    "Resizing": (IMAGE, lambda: L.Resizing(5, 6)),
    "RNN": (SEQUENCE, lambda: L.RNN(L.SimpleRNNCell(3), return_sequences=True)),
    "RNN stacked": (SEQUENCE, lambda: L.RNN([L.LSTMCell(3), L.GRUCell(2)])),
    "SeparableConv1D": (SEQUENCE, lambda: L.SeparableConv1D(3, 3)),
    "SeparableConv2D": (IMAGE, lambda: L.SeparableConv2D(3, 3, pointwise_constraint="non_neg")),
    "SimpleRNN": (SEQUENCE, lambda: L.SimpleRNN(3, go_backwards=True)),
    "Softmax": (IMAGE, lambda: L.Softmax(1)),
    "SpatialDropout1D": (SEQUENCE, lambda: L.SpatialDropout1D(0.3)),
    "SpatialDropout2D": (IMAGE, lambda: L.SpatialDropout2D(0.3)),
    "SpatialDropout3D": (VOLUME, lambda: L.SpatialDropout3D(0.3)),
    "TimeDistributed": (SEQUENCE, lambda: L.TimeDistributed(L.Dense(3, activation="silu"))),
    "TimeDistributed BN": (VIDEO, lambda: L.TimeDistributed(L.BatchNormalization())),
    "UnitNormalization": (IMAGE, lambda: L.UnitNormalization()),
    "UpSampling1D": (SEQUENCE, lambda: L.UpSampling1D(2)),
    "UpSampling2D": (IMAGE, lambda: L.UpSampling2D(2, interpolation="bilinear")),
    "UpSampling3D": (VOLUME, lambda: L.UpSampling3D(2)),
    "ZeroPadding1D": (SEQUENCE, lambda: L.ZeroPadding1D((1, 2))),
    "ZeroPadding2D": (IMAGE, lambda: L.ZeroPadding2D(((1, 0), (0, 2)))),
    "ZeroPadding3D": (VOLUME, lambda: L.ZeroPadding3D(1)),
}

MERGES = {
    "Add": lambda: L.Add(),
    "Average": lambda: L.Average(),
    "Concatenate": lambda: L.Concatenate(axis=1),
    "Dot": lambda: L.Dot(axes=(2, 2), normalize=True),
    "Maximum": lambda: L.Maximum(),
    "Minimum": lambda: L.Minimum(),
    "Multiply": lambda: L.Multiply(),
    "Subtract": lambda: L.Subtract(),
    "Attention": lambda: L.Attention(use_scale=True, score_mode="concat"),
    "AdditiveAttention": lambda: L.AdditiveAttention(),
}


def there_and_back(model, x):
    old = translate(model)
    back = translate(old, to="keras")
    assert isinstance(old, tf_keras.Model)
    assert isinstance(back, keras.Model)
    assert_same(model, old, x)
    assert_same(model, back, x)
    assert [settings(layer) for layer in back.layers[1:]] == [
        settings(layer) for layer in model.layers[-len(back.layers[1:]) :]
    ]
    return old


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name, rng):
    shape, make = LAYERS[name]
    x = keras.Input(shape)
    model = shake(keras.Model(x, make()(x)), rng)
    there_and_back(model, rng.normal(size=(3, *shape)).astype("float32"))


@pytest.mark.parametrize("name", MERGES)
def test_merge(name, rng):
    x = keras.Input(SEQUENCE)
    model = shake(keras.Model(x, MERGES[name]()([x, L.ReLU()(x)])), rng)
    there_and_back(model, rng.normal(size=(3, *SEQUENCE)).astype("float32"))


def test_model_in_a_wrapper(rng):
    x = keras.Input(VIDEO)
    model = shake(keras.Model(x, per_frame()(x)), rng)
    frames = rng.normal(size=(3, *VIDEO)).astype("float32")
    old = translate(model)
    assert_same(model, old, frames, 1e-5)
    assert_same(model, translate(old, to="keras"), frames, 1e-5)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_of_several_heads(causal, rng):
    x, y = keras.Input((5, 4)), keras.Input((6, 4))
    attention = L.MultiHeadAttention(2, 3, value_dim=4, attention_axes=1, dropout=0.1)
    model = shake(keras.Model([x, y], attention(x, y, use_causal_mask=causal)), rng)
    there = translate(model)
    given = [rng.normal(size=(3, n, 4)).astype("float32") for n in (5, 6)]
    assert_same(model, there, given)
    assert_same(model, translate(there, to="keras"), given)


@needs_current_keras
def test_half_precision_policies(rng):
    x = keras.Input((8, 8, 2))
    y = L.ReLU(dtype="mixed_float16")(L.Conv2D(4, 3, dtype="mixed_float16")(x) * 2)
    model = shake(keras.Model(x, L.Dense(2, dtype="float32")(y)), rng)
    old = translate(model)
    assert [layer.dtype_policy.name for layer in old.layers[1:]] == [
        "mixed_float16", "float16", "mixed_float16", "float32",
    ]  # fmt: skip
    images = rng.normal(size=(2, 8, 8, 2)).astype("float32")
    assert_same(model, old, images, 5e-3)
    assert_same(model, translate(old, to="keras"), images, 5e-3)


@pytest.mark.filterwarnings("ignore:[^.]*mask")
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "Bidirectional"])
def test_masks_are_handed_on_as_before(kind, rng):
    def recurrent(units):
        cell = L.GRU if kind == "GRU" else L.LSTM
        layer = cell(units, return_sequences=True)
        return L.Bidirectional(layer) if kind == "Bidirectional" else layer

    tokens = keras.Input((7,), dtype="int32")
    x = L.Embedding(9, 4, mask_zero=True)(tokens)
    x = recurrent(3)(L.Dropout(0.1)(L.Add()([x, x])))
    outputs = [
        L.GlobalAveragePooling1D()(x),
        L.GlobalAveragePooling1D()(x * 2),  # an operation ends a mask
        recurrent(2)(x),
    ]
    model = shake(keras.Model(tokens, outputs), rng)
    given = rng.integers(0, 3, (5, 7)).astype("int32")
    old = translate(model)
    # Masks are Keras's own business in both: nothing of them is in the graph.
    assert sum("Lambda" in type(layer).__name__ for layer in old.layers) <= 1
    assert_same(model, old, given)
    assert_same(model, translate(old, to="keras"), given)


def test_masks_that_differ_are_joined_as_before(rng):
    """Keras 3 joins the masks of a merge by "or", tf_keras by "and"."""
    a, b = keras.Input((5,), dtype="int32"), keras.Input((5,), dtype="int32")
    embed = L.Embedding(4, 3, mask_zero=True)
    model = shake(keras.Model([a, b], L.LSTM(2)(L.Add()([embed(a), embed(b)]))), rng)
    given = [rng.integers(0, 2, (6, 5)).astype("int32") for _ in range(2)]
    old = translate(model)
    assert_same(model, old, given)
    assert_same(model, translate(old, to="keras"), given)


def test_states_go_in_and_out(rng):
    x, h, c = keras.Input((5, 2)), keras.Input((3,)), keras.Input((3,))
    first = L.LSTM(3, return_state=True, return_sequences=True)(x, initial_state=[h, c])
    last = L.LSTM(3)(first[0], initial_state=first[1:])
    model = shake(keras.Model([x, h, c], [last, *first]), rng)
    given = [rng.normal(size=s).astype("float32") for s in ((2, 5, 2), (2, 3), (2, 3))]
    old = translate(model)
    assert_same(model, old, given)
    assert_same(model, translate(old, to="keras"), given)


def test_a_stateful_layer_stays_stateful(rng):
    x = keras.Input((5, 2), batch_size=2)
    model = shake(keras.Model(x, L.GRU(3, stateful=True)(x)), rng)
    back = translate(translate(model), to="keras")
    assert back.layers[-1].stateful
    assert_same(model, back, rng.normal(size=(2, 5, 2)).astype("float32"))


@pytest.mark.filterwarnings("ignore:.*serialize")
def test_functions_of_the_users_own_are_handed_over(rng):
    class Total(keras.regularizers.Regularizer):
        def __call__(self, w):
            return keras.ops.sum(w)

        def get_config(self):
            return {}

    x = keras.Input((4,))
    y = L.Dense(3, activation=keras.ops.sin, kernel_regularizer=Total())(x)
    y = L.Lambda(lambda x, by: keras.ops.cos(x) * by, arguments={"by": 2.0})(y)
    model = shake(keras.Model(x, y), rng)
    old = translate(model)
    given = rng.normal(size=(2, 4)).astype("float32")
    assert_same(model, old, given)
    assert_same(model, translate(old, to="keras"), given)
    np.testing.assert_allclose(old.losses[0], model.losses[0], rtol=1e-6)


def leaky_relu(x):
    """Another function than Keras's: that has a slope of 0.2."""
    return keras.ops.maximum(x, 0.6 * x)


def test_a_function_of_the_users_own_may_have_the_name_of_a_built_in_one(rng):
    x = keras.Input((4,))
    model = shake(keras.Model(x, L.Dense(3, activation=leaky_relu)(x)), rng)
    given = rng.normal(size=(5, 4)).astype("float32")
    old = translate(model)
    for other in (old, translate(old), translate(old, to="keras"), translate(model, to="keras")):
        assert_same(model, other, given)


ADAPTED = {
    "Normalization": (lambda: L.Normalization(), np.arange(8.0).reshape(4, 2)),
    "Discretization": (lambda: L.Discretization(num_bins=3), np.arange(8.0).reshape(4, 2)),
    "IntegerLookup": (lambda: L.IntegerLookup(), np.array([[3, 5], [3, 9]])),
    "StringLookup": (lambda: L.StringLookup(output_mode="multi_hot"), np.array([["a"], ["b"]])),
    "TextVectorization": (lambda: L.TextVectorization(), np.array([["a b"], ["b c a"]])),
    "TF-IDF": (lambda: L.StringLookup(output_mode="tf_idf"), np.array([["a", "b"], ["b", "c"]])),
}


@pytest.mark.parametrize("name", ADAPTED)
def test_what_adapt_learned_goes_along(name):
    make, data = ADAPTED[name]
    layer = make()
    layer.adapt(data)
    dtype = "string" if data.dtype.kind == "U" else data.dtype.name
    x = keras.Input(data.shape[1:], dtype=dtype)
    model = keras.Model(x, layer(x))
    given = tf.constant(data)
    old = translate(model)
    for other in (old, translate(old, to="keras"), translate(model, to="keras"), translate(old)):
        assert_same(model, other, given)


TF_KERAS = {
    "ConvLSTM2D": (VIDEO, lambda old: old.ConvLSTM2D(3, 3)),  # hard_sigmoid by default
    "GRU": (SEQUENCE, lambda old: old.GRU(3, recurrent_activation="hard_sigmoid")),
    "LSTM": (SEQUENCE, lambda old: old.LSTM(3, implementation=1, zero_output_for_mask=True)),
    "BatchNormalization": (IMAGE, lambda old: old.BatchNormalization(axis=[3])),
    "Dense": (ROW, lambda old: old.Dense(3, activation="swish", activity_regularizer="l1")),
    "Conv2D": (IMAGE, lambda old: old.Conv2D(3, 3, input_shape=(8, 8, 4))),
    "Embedding": (ROW, lambda old: old.Embedding(4, 3, input_length=8)),
    "Lambda": (ROW, lambda old: old.Lambda(lambda x: x * 2)),
}


@pytest.mark.parametrize("name", TF_KERAS)
def test_layer_of_tf_keras(name, rng):
    shape, make = TF_KERAS[name]
    x = tf_keras.Input(shape)
    model = shake(tf_keras.Model(x, make(tf_keras.layers)(x)), rng)
    given = np.abs(rng.normal(size=(3, *shape))).astype("float32")
    new = translate(model, to="keras")
    assert isinstance(new, keras.Model)
    assert_same(model, new, given)
    assert_same(model, translate(new), given)
    assert_same(model, translate(model), given)


@pytest.mark.parametrize(
    ("make", "lost"),
    [
        (lambda old: old.LSTM(3, time_major=True), "time_major"),
        pytest.param(
            lambda old: old.Softmax(robust_masking=True),
            "robust_masking",
            marks=needs_current_keras,
        ),
        (lambda old: old.BatchNormalization(axis=[1, 2]), "list of axes"),
        (lambda old: old.LocallyConnected1D(3, 3), "has no LocallyConnected1D"),
        (lambda old: old.ThresholdedReLU(0.5), "has no ThresholdedReLU"),
    ],
)
def test_what_keras_3_has_no_word_for(make, lost):
    x = tf_keras.Input((6, 4))
    with pytest.raises(UnsupportedError, match=lost):
        translate(tf_keras.Model(x, make(tf_keras.layers)(x)), to="keras")


@pytest.mark.parametrize(
    ("make", "lost"),
    [
        (lambda: L.RandomContrast(0.1, value_range=(0, 1)), "value_range"),
        (lambda: L.Resizing(4, 4, pad_to_aspect_ratio=True), "pad_to_aspect_ratio"),
        pytest.param(
            lambda: L.MultiHeadAttention(1, 2, use_gate=True),
            "use_gate",
            marks=needs_current_keras,
        ),
        (lambda: L.RandomShear(0.1), "tf_keras has no RandomShear"),
    ],
)
def test_what_tf_keras_has_no_word_for(make, lost):
    x, layer = keras.Input((6, 6, 3)), make()
    y = layer(x, x) if isinstance(layer, L.MultiHeadAttention) else layer(x)
    with pytest.raises(UnsupportedError, match=lost):
        translate(keras.Model(x, y))


def test_a_quantized_model_is_refused():
    model = keras.Sequential([keras.Input((4,)), L.Dense(3)])
    model.layers[-1].quantize("int8")
    with pytest.raises(UnsupportedError, match="quantized already"):
        translate(model)


def test_a_name_that_tensorflow_cannot_take_is_changed(rng):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="the head (new)")])
    translated = translate(model)
    assert translated.layers[-1].name == "the_head__new_"


def test_a_layer_that_differs_in_the_two_is_refused():
    model = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.RandomCrop(5, 5, name="crop")])
    with pytest.raises(UnsupportedError, match="'crop'.*crops at inference in tf_keras"):
        translate(model)
