"""Quantization-aware training: what it rounds, what it refuses, what it leaves alone."""

import keras
import numpy as np
import pytest
import tf_keras
from tiny_models import cnn

from tfkd import quantize_aware
from tfkd.errors import UnsupportedError


def test_the_forward_pass_rounds_weights_to_255_levels(qat):
    wrapper = next(la for la in qat.layers if la.name == "quant_logits")
    (kernel, quantizer, variables), *_ = wrapper._weight_vars
    rounded = np.asarray(quantizer(kernel, training=False, weights=variables))
    steps = rounded / (np.abs(rounded).max() / 127)
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
    assert not np.allclose(kernel, rounded, atol=1e-6)


def test_qat_under_the_teacher_keeps_the_accuracy(digits, student, qat):
    def accuracy(model):
        return np.mean(model.predict(digits.test.x, verbose=0).argmax(-1) == digits.test.y)

    assert accuracy(qat) > accuracy(student) - 0.02


def test_the_model_given_is_not_changed(package):
    model = cnn(package)
    before = model.get_weights()
    names = [layer.name for layer in model.layers]
    quantized = quantize_aware(model)
    quantized.compile("sgd", "mse")
    quantized.fit(np.ones((8, 8, 8, 1)), np.ones((8, 10)), verbose=0)
    assert [layer.name for layer in model.layers] == names
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_layer_tfmot_refuses_is_named_at_once():
    layers = keras.layers
    x = keras.Input((8, 8))
    y = layers.BatchNormalization(name="stray")(layers.Conv1D(4, 3, name="c1")(x))
    y = layers.LSTM(4, name="memory")(layers.Multiply(name="times")([y, y]))
    with pytest.raises(UnsupportedError) as error:
        quantize_aware(keras.Model(x, y))
    for part in ("'c1' (Conv1D)", "'stray'", "'memory' (LSTM)", "'times' (Multiply)", "to_tflite"):
        assert part in str(error.value)


def test_weights_that_tfmot_would_leave_float_are_refused():
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Conv2D(4, 3, name="bare"), layers.ReLU()]
    )
    with pytest.raises(UnsupportedError, match="'bare' .* in floating point.*activation='relu'"):
        quantize_aware(model)


def test_it_gives_an_uncompiled_tf_keras_model(student):
    quantized = quantize_aware(student)
    assert isinstance(quantized, tf_keras.Model)
    assert quantized.optimizer is None
