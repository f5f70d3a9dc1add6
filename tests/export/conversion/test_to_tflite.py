"""Every format computes the same as the model within its bound; the rest is refused."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_models import predicted

from tfkd.errors import ConversionError, InputError, UnsupportedError
from tfkd.export import TFLiteModel, android_bundle, benchmark, to_tflite
from tfkd.export.conversion import repairs
from tfkd.export.conversion import to_tflite as conversion
from tfkd.export.tflite import schema, writer

# Largest mean difference from the Keras model, as a fraction of the outputs' spread.
BOUNDS = {"float32": 1e-5, "float16": 2e-3, "dynamic": 0.05, "int8": 0.08, "int8_ptq": 0.08}


@pytest.mark.parametrize("name", BOUNDS)
@pytest.mark.parametrize("engine", ["xnnpack", "reference"])
def test_format_computes_what_the_model_does(files, student, qat, digits, name, engine):
    want = (qat if name == "int8" else student).predict(digits.test.x, verbose=0)
    got = files[name].predict(digits.test.x, engine=engine)
    assert np.abs(got - want).mean() <= BOUNDS[name] * want.std()
    # Weights of 8 bits move the class of an example or two; which, the training's processor says.
    coarse = "int8" in name or name == "dynamic"
    assert np.mean(got.argmax(-1) == want.argmax(-1)) >= (0.98 if coarse else 0.995)


def test_int8_files_hold_integers_only(files):
    for name in ("int8", "int8_ptq"):
        file = files[name]
        assert file.integer_only and file.float_tensors == ()
        assert file.inputs[0].dtype == file.outputs[0].dtype == "int8"
        assert "DEQUANTIZE" not in file.ops and "QUANTIZE" not in file.ops
    assert not files["dynamic"].integer_only


def test_sizes_fall_with_the_format(files):
    weights = {name: file.weight_bytes for name, file in files.items()}
    assert weights["float32"] / weights["int8"] >= 3.5
    assert weights["float32"] / weights["float16"] >= 1.9
    assert files["int8"].size < files["float16"].size < files["float32"].size


def test_tf_keras_models_and_softmax_outputs(package):
    x = np.random.default_rng(0).random((20, 6), "float32")
    model = package.Sequential(
        [package.Input((6,), name="some input"), package.layers.Dense(3, activation="softmax")]
    )
    file = to_tflite(model, "int8", x)
    assert file.integer_only
    assert file.inputs[0].name == "some_input"
    np.testing.assert_allclose(file.predict(x), predicted(model, x), atol=0.02)


@pytest.mark.parametrize("format", ["int8", "int16x8"])
@pytest.mark.parametrize("kind", ["dense", "convolution"])
def test_equal_biases_are_rounded_in_the_steps_of_each_reader(kind, format, package, rng):
    """The converter keeps equal constants once, with one scale."""
    layers, initializers = package.layers, package.initializers
    equal = initializers.Constant(0.7)

    def layer(spread, make=layers.Dense, **kwargs):
        kernel = initializers.RandomNormal(0.0, spread, seed=1)
        name = "depthwise_initializer" if make is layers.DepthwiseConv2D else "kernel_initializer"
        return make(bias_initializer=equal, **{name: kernel}, **kwargs)

    if kind == "dense":
        i = package.Input((8,))
        made = [layer(spread, units=4) for spread in (0.5, 0.05, 2.0)]
    else:
        i = package.Input((5, 5, 4))
        made = [
            layer(0.5, layers.Conv2D, filters=4, kernel_size=3, padding="same"),
            layer(0.05, layers.Conv2D, filters=4, kernel_size=1),
            layer(0.1, layers.DepthwiseConv2D, kernel_size=3, padding="same"),
            layer(0.02, layers.Conv2DTranspose, filters=4, kernel_size=3, padding="same"),
        ]
    model = package.Model(i, [one(i) for one in made])
    x = rng.normal(size=(32, *i.shape[1:])).astype("float32")
    file = to_tflite(model, format, x)
    assert file.wrong_scales == ()
    bound = 0.03 if format == "int8" else 0.01
    for got, want in zip(file.predict(x), predicted(model, x), strict=True):
        assert np.sqrt(np.mean((got - want) ** 2)) < bound * want.std()


def test_a_bias_in_other_steps_is_an_error_of_the_file(package, rng):
    layers = package.layers
    i = package.Input((8,))
    model = package.Model(i, layers.Dense(4, bias_initializer="ones")(i))
    file = to_tflite(model, "int8", rng.normal(size=(20, 8)).astype("float32"))
    parsed = schema.parse(file.data)
    (bias,) = [t for t in parsed.subgraphs[0].tensors if schema.dtype_of(t) == "int32"]
    bias.quantization.scale = np.asarray(bias.quantization.scale) * np.float32(1.01)
    changed = TFLiteModel(writer.pack(parsed))
    assert file.wrong_scales == () and len(changed.wrong_scales) == 1
    assert TFLiteModel(repairs.repaired(changed.data)).wrong_scales == ()


def test_several_inputs_and_outputs_by_name():
    a, b = keras.Input((2,), name="a"), keras.Input((3,), name="b")
    both = keras.layers.Concatenate()([b, a])
    model = keras.Model(
        [b, a], [keras.layers.Dense(2, name="p")(both), keras.layers.Dense(1, name="q")(a)]
    )
    file = to_tflite(model)
    x = {"a": np.ones((4, 2), "float32"), "b": np.full((4, 3), 2.0, "float32")}
    want = predicted(model, [x["b"], x["a"]])
    got = dict(zip([info.name for info in file.outputs], file.predict(x), strict=True))
    for output, values in zip(model.outputs, want, strict=True):
        np.testing.assert_allclose(got[output._keras_history[0].name], values, rtol=1e-5)


def test_outputs_of_models_in_the_model_have_the_names_of_these(package):
    layers = package.layers
    x = inputs = package.Input((4,))

    def head(name):
        inside = package.Input((4,))
        return package.Model(inside, layers.Dense(3, name="last")(inside), name=name)

    model = package.Model(inputs, [head("kind")(x), head("place")(x)])
    assert [one.name for one in to_tflite(model, "float32").outputs] == ["kind", "place"]


@pytest.mark.parametrize(
    ("format", "data", "message"),
    [
        ("int2", None, "format must be one of"),
        ("int8", None, "int8 needs representative_data: 100 to 500"),
        ("int8", np.zeros((4, 5)), r"must have the shape \(None, 6\), got \(4, 5\)"),
        ("int8", np.zeros(6), r"got \(6,\)"),
        ("int8", np.zeros((0, 6)), "is empty"),
        ("int8", np.full((4, 6), np.nan), "NaN"),
        ("int8", [np.zeros((4, 6))] * 2, "one input, got data for 2"),
    ],
)
def test_bad_requests(format, data, message):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    with pytest.raises(InputError, match=message):
        to_tflite(model, format, data)


def test_bad_models(qat):
    with pytest.raises(InputError, match="Expected a Keras 3 or tf_keras model.* got int"):
        to_tflite(3)
    with pytest.raises(InputError, match="There is no model at 'none.keras'"):
        to_tflite("none.keras")
    with pytest.raises(
        InputError, match="trained for int8; strip_quantization returns the float model"
    ):
        to_tflite(qat, "float16")
    free = keras.Sequential([keras.Input((None, 3), name="x"), keras.layers.Dense(2)])
    with pytest.raises(InputError, match=r"free size.*shapes=\{name: shape\}"):
        to_tflite(free, "int8", np.random.default_rng(0).random((12, 4, 3)))
    for wrong, words in (
        ({"y": (1, 4, 3)}, "shapes= has the unknown names 'y'; the inputs of the model .* are 'x'"),
        ({"x": (4, 3)}, "size for each of"),
        ({"x": (1, 4, 2)}, "must not change a fixed one"),
        ({"x": (1, 0, 3)}, "size for each of"),
        ({"x": (2, 4, 3)}, "a batch of 2, but batch= is 1"),
    ):
        with pytest.raises(InputError, match=words):
            to_tflite(free, shapes=wrong)
    broken = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    broken.set_weights([np.full((6, 3), np.nan), np.zeros(3)])
    with pytest.raises(InputError, match="not finite"):
        to_tflite(broken)


@pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict")
@pytest.mark.parametrize("names", [("first", "second"), ("b", "a")])
def test_shapes_go_by_the_keys_of_the_model_or_by_the_names_of_its_inputs(names):
    a, b = keras.Input((None, 3), name="a"), keras.Input((None, 3), name="b")
    pooled = keras.layers.GlobalMaxPooling1D()
    model = keras.Model({"second": a, "first": b}, keras.layers.Add()([pooled(a), pooled(b)]))
    file = to_tflite(model, shapes=dict(zip(names, [(1, 5, 3), (1, 4, 3)], strict=True)))
    assert {i.name: i.shape for i in file.inputs} == {"a": (1, 4, 3), "b": (1, 5, 3)}


def test_what_kills_the_converter_is_an_error():
    # Calibrating a WHILE loop ends the plain converter's process, and a loop inside a custom
    # layer is not seen before.
    class Hidden(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = keras.layers.GRU(4)

        def build(self, shape):
            self.inner.build(shape)

        def call(self, x):
            return self.inner(x)

    model = keras.Sequential([keras.Input((5, 3)), Hidden()])
    message = "to int8 failed: .*SIGSEGV.*WHILE \\(.hidden.\\) crashes"
    with pytest.raises(ConversionError, match=message):
        to_tflite(model, "int8", np.random.default_rng(0).random((10, 5, 3)))
    assert to_tflite(model).predict(np.ones((2, 5, 3))).shape == (2, 4)


def _images(la):
    y = la.Conv2D(4, 3, strides=2, padding="same")(
        la.Conv2D(4, 3)(x := keras.Input((None, None, 2)))
    )
    return x, la.Dense(3)(la.GlobalAveragePooling2D()(y)), [(16, 20, 2), (9, 9, 2)], "4, 8"


def _words(la):
    x = keras.Input((None,), dtype="int32")
    y = la.Conv1D(4, 3, padding="same")(la.Embedding(20, 4)(x))
    return x, la.Dense(3)(la.GlobalAveragePooling1D()(y)), [(7,), (128,)], "1, 2"


def _series(la):
    x = keras.Input((None, 4))
    y = la.Bidirectional(la.GRU(3, return_sequences=True))(x)
    return x, la.Dense(3)(la.LSTM(4)(y)), [(5, 4), (40, 4)], "1, 2"


@pytest.mark.parametrize("build", [_images, _words, _series])
def test_float_files_stay_free_where_the_model_is(build, rng):
    keras.utils.set_random_seed(0)
    x, y, sizes, smallest = build(keras.layers)
    model = keras.Model(x, y)
    file = to_tflite(model)
    assert file.inputs[0].sizes[1] == "?" and "[1, ?" in file.describe()
    assert f"it ran at {smallest}, " in file.notes[-1]
    name = file.inputs[0].name
    for size in sizes:
        data = rng.integers(0, 20, (6, *size)).astype(x.dtype)
        want = predicted(model, data)
        for engine in ("xnnpack", "reference"):
            got = file.predict(data, engine=engine)
            assert np.abs(got - want).max() < 1e-4 * max(1.0, np.abs(want).max())
    fixed = to_tflite(model, shapes={name: (1, *sizes[0])})
    assert fixed.inputs[0].shape == (1, *sizes[0]) and fixed.inputs[0].free == ()
    with pytest.raises(InputError, match="takes arrays of shape"):
        fixed.predict(data)
    with pytest.raises(InputError, match="has a free size: give inputs="):
        benchmark({"free": file})
    with pytest.raises((InputError, UnsupportedError), match="has a free size"):
        android_bundle(file, "nowhere", "free")
    with pytest.raises(InputError, match="free sizes: fix them"):
        file.predict(data, engine="tflm")


@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_shapes_fix_the_length_of_an_integer_file(cell, package, rng):
    la = package.layers
    package.utils.set_random_seed(0)
    i = package.Input((None, 4), name="series")
    model = package.Model(i, la.Dense(3)(getattr(la, cell)(6)(i)))
    x = rng.normal(size=(60, 7, 4)).astype("float32")
    file = to_tflite(model, "int8", x, shapes={"series": (1, 7, 4)})
    assert file.inputs[0].shape == (1, 7, 4) and file.integer_only
    want = predicted(model, x)
    assert np.abs(file.predict(x) - want).mean() < 0.05 * want.std()
    assert model.inputs[0].shape[1] is None


def _looked_up(la, x):
    return la.Embedding(8, 3)(la.IntegerLookup(vocabulary=[10, 20, 30], name="look")(x))


def _own_cell(la, x):
    return la.RNN(la.LSTMCell(3), stateful=True, name="own")(la.Embedding(40, 4)(x))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (_looked_up, r"'look' \(IntegerLookup\).*starts at the indices"),
        (_own_cell, "'own' keep their state .*stateful=False"),
    ],
)
def test_what_is_none_of_the_weights_is_named(build, words, package):
    i = package.Input((4,), batch_size=1, dtype="int64")
    with pytest.raises(UnsupportedError, match=words):
        to_tflite(package.Model(i, build(package.layers, i)))


INDICES = {
    "at once": lambda la, x: x,
    "moved": lambda la, x: la.Reshape((9, 1))(x[:, 1:])[:, :, 0],
    "nested": lambda la, x: x,
}


@pytest.mark.parametrize("name", INDICES)
def test_indices_in_a_float_input_are_whole_numbers_in_an_integer_file(name, package):
    """In 8 bits, 300 words share 256 numbers."""
    la = package.layers
    package.utils.set_random_seed(0)
    i = package.Input((10,), name="words")
    embedding = la.Embedding(300, 6)
    if name == "nested":
        embedding = package.Sequential([package.Input((10,)), embedding])
    y = la.Flatten()(embedding(INDICES[name](la, i)))
    model = package.Model(i, la.Dense(2, name="out")(y))
    x = np.random.default_rng(0).integers(0, 300, (40, 10)).astype("float32")
    file = to_tflite(model, "int8", x)
    assert file.integer_only and file.inputs[0].dtype == "int32"
    assert "'words' holds indices" in file.notes[0]
    want = predicted(model, x)
    assert np.abs(file.predict(x) - want).mean() < 0.03 * want.std()


def test_indices_that_are_read_otherwise_too_are_refused(package):
    la = package.layers
    i = package.Input((10,), name="words")
    y = la.Concatenate()([la.Dense(2)(i), la.Flatten()(la.Embedding(300, 6, name="table")(i))])
    x = np.random.default_rng(0).integers(0, 300, (40, 10))
    for settings in ({}, {"skip": ["table"]}):
        with pytest.raises(UnsupportedError, match="'table' .*whole numbers from 'words'.*int32"):
            to_tflite(package.Model(i, y), "int8", x, **settings)


def test_an_op_that_tflite_does_not_have_is_named():
    class Determinant(keras.layers.Layer):
        def call(self, x):
            return tf.linalg.det(x)[:, None]

    model = keras.Sequential([keras.Input((3, 3)), Determinant()])
    with pytest.raises(ConversionError, match="MatrixDeterminant"):
        to_tflite(model)


def test_an_int8_file_with_float_left_in_it_is_refused(monkeypatch, files):
    made = files["dynamic"].data, []
    monkeypatch.setattr(conversion.worker.Worker, "call", lambda *a, **k: made)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    with pytest.raises(ConversionError, match="left .* tensors .*in floating point"):
        to_tflite(model, "int8", np.random.default_rng(0).random((12, 6)))


def test_the_caller_keeps_its_model(student, digits):
    before = student.predict(digits.test.x[:8], verbose=0)
    to_tflite(student)
    np.testing.assert_array_equal(student.predict(digits.test.x[:8], verbose=0), before)
    assert isinstance(to_tflite(student), TFLiteModel)


def test_a_notebook_is_not_told_of_temporary_folders(caplog):
    """There TensorFlow logs at INFO."""
    inputs = keras.Input((3,))
    with caplog.at_level(logging.INFO, "tensorflow"):
        to_tflite(keras.Model(inputs, keras.layers.Dense(2)(inputs)), "float32")
        assert logging.getLogger("tensorflow").level == logging.INFO
    assert not [record for record in caplog.records if record.name == "tensorflow"]
