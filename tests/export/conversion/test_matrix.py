"""Every kind of model, in both Keras, in every format: a faithful file, or a named error."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import zoo
from tiny_models import predicted

from tfkd.errors import ConversionError, TfkdError, WorkerError
from tfkd.export import to_tflite
from tfkd.export.runtime import worker as sandbox

# Largest mean difference from the Keras model that passes, as a share of the outputs' spread.
# The nets are small and hardly trained: nothing averages the rounding out. Of 4-bit weights
# with random values a tenth to a quarter is what plain rounding gives.
BOUNDS = {
    "float32": 1e-4,
    "float16": 5e-3,
    "dynamic": 0.05,
    "int8": 0.05,
    "int8, float in and out": 0.05,
    "int16x8": 0.02,
    "int4": 0.4,
}
# What has no file, and the error that says so.
REFUSED = {("attention", "int16x8"): (ConversionError, "SUB of the layer 'layer_normalization'")}

# Kills the converter when it is called as its documentation says.
CRASHES = {
    "keras": ("lstm", "stacked_lstm", "bilstm", "gru", "simple_rnn", "text"),
    "tf_keras": ("gru", "simple_rnn"),
}
PACKAGES = {"keras": keras, "tf_keras": tf_keras}


@pytest.fixture(scope="module")
def models():
    """Every model with its data and outputs, built once."""
    made = {}

    def of(package, name):
        if (package, name) not in made:
            model = zoo.build(PACKAGES[package], name)
            x = zoo.inputs_for(model)
            want = predicted(model, x)
            made[package, name] = model, x, want if isinstance(want, list) else [want]
        return made[package, name]

    return of


def names_of(tensors):
    return [tensor.name.split(":")[0].split("/")[0] for tensor in tensors]


def cells():
    """Yield every model in every format: the two that people use most in both Kerases."""
    for i, name in enumerate(zoo.MODELS):
        for j, format in enumerate(BOUNDS):
            both = list(PACKAGES)
            for package in both if format in ("float32", "int8") else both[(i + j) % 2 :][:1]:
                yield name, package, format


@pytest.mark.parametrize(("name", "package", "format"), list(cells()))
def test_cell(models, name, package, format):
    if format == "int4":
        zoo.needs_quantizer()
    model, x, wanted = models(package, name)
    kind, _, rest = format.partition(",")
    calibrated = kind in ("int8", "int16x8")

    def convert():
        return to_tflite(model, kind, x if calibrated else None, float_io=bool(rest))

    if (name, kind) in REFUSED:
        error, message = REFUSED[name, kind]
        with pytest.raises(error, match=message):
            convert()
        return
    file = convert()
    inputs = dict(zip(names_of(model.inputs), x, strict=True)) if name == "multi_input" else x
    got = file.predict(inputs)
    got = got if isinstance(got, list) else [got]
    if len(got) > 1:  # the file's order is its own
        got = [got[[info.name for info in file.outputs].index(n)] for n in ("kind", "size")]
    for a, b in zip(wanted, got, strict=True):
        assert np.abs(a - b).mean() <= BOUNDS[format] * a.std()
    if calibrated:
        assert file.integer_only == (not rest)
        dtype = {"int8": "int8", "int16x8": "int16"}[kind] if not rest else "float32"
        assert {info.dtype for info in file.outputs} == {dtype}
    else:
        assert bool(file.hybrid_ops) == (format != "float32")


def saved(model, x, path):
    """Save a model as TensorFlow's documentation of the converter says; return the folder."""
    shape = (1, *x.shape[1:])
    function = tf.function(
        lambda x: model(x, training=False),
        input_signature=[tf.TensorSpec(shape, x.dtype)],
        autograph=False,
    )
    module = tf.Module()
    module.weights = [w if isinstance(w, tf.Variable) else w.value for w in model.variables]
    module.function = function
    tf.saved_model.save(module, str(path), signatures=function)
    return str(path)


@pytest.fixture(scope="module")
def forking():
    """A process that has imported TensorFlow, for all that die in a fork of it."""
    with sandbox.Worker() as worker:
        yield worker


@pytest.mark.parametrize(
    ("package", "name"), [(package, name) for package, names in CRASHES.items() for name in names]
)
def test_the_plain_converter_dies_of_it(models, package, name, forking, tmp_path):
    model, x, _ = models(package, name)
    folder = saved(model, x, tmp_path)
    for format in ("int8", "int16x8"):
        died = zoo.signal_of_converting_plainly
        assert forking.call(died, folder, x[:8], format, timeout=120) is not None


@pytest.mark.slow
def test_its_death_is_an_error_by_which_signal(models, tmp_path):
    model, x, _ = models("tf_keras", "gru")
    folder = saved(model, x, tmp_path)
    with pytest.raises(WorkerError) as error, sandbox.Worker() as worker:
        worker.call(zoo.convert_plainly, folder, x[:8], "int8", timeout=120)
    assert error.value.signal is not None
    assert not isinstance(error.value, ConversionError) and isinstance(error.value, TfkdError)
