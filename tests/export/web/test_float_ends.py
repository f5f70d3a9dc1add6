"""A file with real numbers at its ends still computes the same in between."""

import keras
import numpy as np
import pytest

from tfkd.export import TFLiteModel, to_tflite
from tfkd.export.web.float_ends import with_float_ends


def test_a_float_file_stays_as_it_is(files):
    assert with_float_ends(files["float32"]) is files["float32"]


@pytest.mark.parametrize("engine", ["xnnpack", "reference"])
def test_every_step_goes_in_and_comes_out_unchanged(files, digits, engine):
    file = files["int8"]
    made = with_float_ends(file)
    assert (made.ops["QUANTIZE"], made.ops["DEQUANTIZE"]) == (1, 1)
    assert [info.dtype for info in (*made.inputs, *made.outputs)] == ["float32", "float32"]
    names = [[info.name for info in infos] for infos in (file.inputs, file.outputs)]
    assert [[info.name for info in infos] for infos in (made.inputs, made.outputs)] == names
    x = digits.test.x[:64]
    image = file.inputs[0]
    every = np.resize(np.arange(-128, 128).astype("int8"), (8, *image.shape[1:]))
    for real in (image.dequantize(image.quantize(x)), image.dequantize(every)):
        np.testing.assert_array_equal(made.predict(real, engine), file.predict(real, engine))


def test_a_loop_in_a_file_stays_one(loop, tmp_path):
    made = TFLiteModel.load(with_float_ends(loop).save(tmp_path / "loop.tflite"))
    assert made.ops["WHILE"] == 1
    x = np.random.default_rng(0).normal(size=(4, *loop.inputs[0].shape[1:])).astype("float32")
    x = loop.inputs[0].dequantize(loop.inputs[0].quantize(x))
    np.testing.assert_array_equal(made.predict(x), loop.predict(x))


def test_states_are_ends_too(gru_step):
    made = with_float_ends(gru_step)
    assert made.states == gru_step.states and made.ops["QUANTIZE"] == 2
    x = np.random.default_rng(0).normal(size=(3, 6, 8)).astype("float32")
    x = gru_step.inputs[0].dequantize(gru_step.inputs[0].quantize(x))
    np.testing.assert_array_equal(made.predict(x), gru_step.predict(x))


def test_an_input_that_is_an_output():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, [keras.layers.Dense(2)(inputs), keras.layers.Identity()(inputs)])
    x = np.random.default_rng(0).normal(size=(128, 4)).astype("float32")
    file = to_tflite(model, "int8", x)
    made = with_float_ends(file)
    x = file.inputs[0].dequantize(file.inputs[0].quantize(x))
    for got, want in zip(made.predict(x), file.predict(x), strict=True):
        np.testing.assert_array_equal(got, want)
