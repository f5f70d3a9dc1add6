"""Recurrent files for the tests of several folders."""

import keras
import pytest
import zoo

from tfkd.export import to_tflite


@pytest.fixture(scope="session")
def loop():
    """An int8 LSTM as a WHILE loop."""
    model = zoo.build(keras, "lstm")
    return to_tflite(model, "int8", zoo.inputs_for(model), recurrent="loop")


@pytest.fixture(scope="session")
def gru_step():
    """One step of an int8 GRU."""
    model = zoo.build(keras, "gru")
    return to_tflite(model, "int8", zoo.inputs_for(model), recurrent="step")
