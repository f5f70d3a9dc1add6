"""Parameters and MACs against hand arithmetic."""

import json

import keras
import pytest

from tfkd.model import cost


@pytest.mark.parametrize(
    ("make", "parameters", "macs"),
    [
        (lambda la: la.Conv2D(16, 3, padding="same"), 3 * 3 * 4 * 16 + 16, 64 * 3 * 3 * 4 * 16),
        (lambda la: la.Conv2D(16, 3, strides=2, padding="same"), 592, 16 * 576),
        (lambda la: la.Conv2D(8, 3, groups=2), 3 * 3 * 2 * 8 + 8, 36 * 3 * 3 * 2 * 8),
        (lambda la: la.DepthwiseConv2D(3, padding="same"), 3 * 3 * 4 + 4, 64 * 3 * 3 * 4),
        (lambda la: la.SeparableConv2D(8, 3, padding="same"), 36 + 32 + 8, 64 * (36 + 32)),
        (lambda la: la.Conv2DTranspose(8, 3, padding="same"), 296, 64 * 288),
        (lambda la: la.Dense(5), 4 * 5 + 5, 64 * 4 * 5),
        (lambda la: la.BatchNormalization(), 16, 0),
    ],
)
def test_against_hand_arithmetic(package, make, parameters, macs):
    model = package.Sequential([package.Input((8, 8, 4)), make(package.layers)])
    measured = cost.measure(model)
    assert (measured.parameters, measured.macs) == (parameters, macs)
    assert measured.float32_bytes == 4 * parameters


def test_recurrent_layers_count_every_step(package):
    model = package.Sequential([package.Input((10, 3)), package.layers.LSTM(8)])
    assert cost.measure(model).macs == 10 * (3 * 4 * 8 + 8 * 4 * 8)


@pytest.mark.parametrize(
    ("shape", "make", "macs"),
    [
        ((10, 3), lambda la: la.RNN(la.LSTMCell(8)), 10 * (3 * 32 + 8 * 32)),
        (
            (10, 3),
            lambda la: la.RNN([la.GRUCell(4), la.SimpleRNNCell(5)]),
            10 * (3 * 12 + 4 * 12 + 4 * 5 + 5 * 5),
        ),
        ((5, 8, 8, 2), lambda la: la.ConvLSTM2D(4, 3), None),
        ((6, 4), lambda la: la.PReLU(), 0),
        ((6, 4), lambda la: la.LayerNormalization(axis=(1, 2)), 0),
        ((6,), lambda la: la.Embedding(20, 4), 0),
    ],
)
def test_kernels_are_counted_or_unknown_and_never_zero(package, shape, make, macs):
    model = package.Sequential([package.Input(shape), make(package.layers)])
    assert cost.measure(model).macs == macs


def test_spectral_normalization_costs_what_its_layer_does():
    layers = keras.layers  # tf_keras's own fails where tf.keras is Keras 3
    conv = layers.SpectralNormalization(layers.Conv2D(8, 3))
    assert cost.measure(keras.Sequential([keras.Input((8, 8, 4)), conv])).macs == 36 * 9 * 4 * 8


@pytest.mark.parametrize("how", ["plain", "mask", "keywords"])
def test_attention_is_counted_however_it_is_called(package, how):
    q, v = package.Input((10, 16)), package.Input((20, 16))
    mask = package.Input((10, 20), dtype="bool")
    layer = package.layers.MultiHeadAttention(2, 8)
    y = {
        "plain": lambda: layer(q, v),
        "mask": lambda: layer(q, v, attention_mask=mask),
        "keywords": lambda: layer(query=q, value=v, key=v),
    }[how]()
    model = package.Model([q, v, mask] if how == "mask" else [q, v], y)
    assert cost.measure(model).macs == 10 * 512 + 20 * 512 + 10 * 20 * 32


def test_a_shared_layer_costs_its_work_twice_and_its_weights_once(package):
    x = package.Input((4,))
    dense = package.layers.Dense(4)
    measured = cost.measure(package.Model(x, dense(dense(x))))
    assert (measured.parameters, measured.macs) == (20, 32)


def test_what_is_not_known_is_none(package):
    model = package.Sequential([package.Input((None, None, 3)), package.layers.Conv2D(4, 3)])
    assert cost.measure(model).macs is None


def test_a_quantize_aware_model_costs_what_its_student_does(student, qat):
    assert cost.measure(qat).parameters == cost.measure(student).parameters
    assert cost.measure(qat).macs == cost.measure(student).macs


def test_the_table_has_a_line_per_layer_and_the_sums():
    layers = (
        cost.LayerCost("a_name_of_more_than_thirty_letters/conv", "Conv2D", 1490, 23200),
        cost.LayerCost("mha", "MultiHeadAttention", 10, None),
    )
    assert cost.ModelCost(layers).describe().splitlines() == [
        "layer                                    class               parameters     MACs",
        "a_name_of_more_than_thirty_letters/conv  Conv2D                   1,490   23,200",
        "mha                                      MultiHeadAttention          10  unknown",
        "all                                                               1,500  unknown",
    ]


def test_plain_values(package):
    model = package.Sequential([package.Input((4,)), package.layers.Dense(2, name="d")])
    measured = cost.measure(model)
    told = json.loads(json.dumps(measured.to_json()))
    assert told == {
        "parameters": 10,
        "macs": 8,
        "float32_bytes": 40,
        "layers": [{"name": "d", "kind": "Dense", "parameters": 10, "macs": 8}],
    }
