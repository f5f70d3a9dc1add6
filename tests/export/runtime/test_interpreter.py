"""Running a file: many examples at once give the same as one at a time, on every engine."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import zoo
from ai_edge_litert import schema_py_generated as schema
from tiny_models import cnn, predicted

from tfkd.errors import ConversionError, InputError, WorkerError
from tfkd.export import TFLiteModel, to_tflite
from tfkd.export.runtime import interpreter
from tfkd.export.runtime import worker as sandbox

ENGINES = interpreter.LITERT_ENGINES


@pytest.fixture(scope="module")
def nets():
    """Float32 and int8 of a CNN, one of two inputs and one of two outputs; 29 examples."""
    made = {}
    for name in ("cnn", "multi_input", "multi_output"):
        model = zoo.build(keras, name)
        x = zoo.inputs_for(model, count=29)
        made[name, "float32"] = to_tflite(model), x
        made[name, "int8"] = to_tflite(model, "int8", zoo.inputs_for(model, count=100)), x
    return made


@pytest.fixture
def runs(monkeypatch):
    """A list that fills with (resized or not, result) of every run in the worker."""
    found, call = [], interpreter.call_interpreter

    def noted(function, *args, **kwargs):
        result = call(function, *args, **kwargs)
        found.append(args[-1])
        return result

    monkeypatch.setattr("tfkd.export.tflite.model.call_interpreter", noted)
    return found


def fed(file, x):
    """The data in the file's order, which is by name in `multi_input`."""
    if not isinstance(x, list):
        return [x]
    by_size = {array.shape[1:]: array for array in x}
    return [by_size[info.shape[1:]] for info in file.inputs]


def one_by_one(file, arrays, engine):
    """Run each example alone; dequantized, one array per output."""
    rows = [
        file.predict([array[i : i + 1] for array in arrays], engine) for i in range(len(arrays[0]))
    ]
    rows = [row if isinstance(row, list) else [row] for row in rows]
    return [np.concatenate(part) for part in zip(*rows, strict=True)]


def as_list(results):
    return results if isinstance(results, list) else [results]


def assert_same(got, want, int8):
    for a, b in zip(as_list(got), want, strict=True):
        if int8:
            np.testing.assert_array_equal(a, b)
        else:  # sums of floats come in another order
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("format", ["float32", "int8"])
@pytest.mark.parametrize("name", ["cnn", "multi_input", "multi_output"])
def test_many_at_once_are_what_they_are_alone(nets, name, format, engine):
    file, x = nets[name, format]
    arrays = fed(file, x)
    got = file.predict(arrays, engine)
    assert_same(got, one_by_one(file, arrays, engine), format == "int8")


def resized_runs(file, x, engine="xnnpack"):
    """Run in this process, and count the interpreters that take more than the file's batch."""
    opened = []

    class Counted(interpreter._LiteRT):
        def __init__(self, data, engine, threads, times=1, shapes=None):
            opened.append(times)
            super().__init__(data, engine, threads, times, shapes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interpreter, "_LiteRT", Counted)
        found = interpreter.run(
            file.data, file.input_arrays(x), 1, engine, 1, len(file.outputs), None, True
        )
    return opened, found


def test_the_larger_batch_is_used_where_it_can_be(nets):
    file, x = nets["cnn", "float32"]
    opened, _ = resized_runs(file, x)
    assert opened == [1, 29]


def module_file(function, shape=(1, 4)):
    """Convert a function of one tensor."""
    module = tf.Module()
    module.function = tf.function(function, input_signature=[tf.TensorSpec(shape, tf.float32)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [module.function.get_concrete_function()], module
    )
    return TFLiteModel(converter.convert())


def mixes(x):
    return tf.concat([tf.nn.softmax(x, axis=0), x - tf.reduce_mean(x, axis=0)], axis=1)


def running_sum(x):
    return tf.cumsum(x, axis=0) * 2.0  # the first example is right, the last is not


def turned(x):
    return tf.reverse(x, [0]) + 1.0


def with_constant_batch(x):
    return tf.transpose(tf.reshape(x, [1, 2, 2]), [0, 2, 1]) + 1.0


@pytest.mark.parametrize("function", [mixes, running_sum, turned, with_constant_batch])
def test_a_graph_with_the_batch_in_it_runs_one_by_one(function, rng):
    file = module_file(function)
    x = rng.normal(size=(29, 4)).astype("float32")
    want = np.concatenate([function(row[None]).numpy() for row in x])
    for engine in ENGINES:
        np.testing.assert_allclose(file.predict(x, engine), want, rtol=1e-5, atol=1e-6)
    if function is not with_constant_batch:  # the test can fail: all at once is another answer
        assert np.abs(function(x).numpy() - want).max() > 0.1


def dies_when_resized(real):
    """Return `interpreter.run` that dies of a larger batch."""

    def call(function, *args, **kwargs):
        if args[-1]:
            raise WorkerError("The child process died by SIGSEGV.", signal=11)
        return real(function, *args, **kwargs)

    return call


def test_a_file_that_dies_of_another_batch_still_runs(nets, monkeypatch):
    file, x = nets["cnn", "int8"]
    want = file.predict(x)
    call = dies_when_resized(interpreter.call_interpreter)
    monkeypatch.setattr("tfkd.export.tflite.model.call_interpreter", call)
    np.testing.assert_array_equal(file.predict(x), want)


@pytest.mark.parametrize("error", [ConversionError("refused"), MemoryError("no room")])
def test_a_file_that_is_refused_with_another_batch_still_runs(nets, error):
    file, x = nets["cnn", "int8"]

    class Refusing(interpreter._LiteRT):
        def __init__(self, data, engine, threads, times=1, shapes=None):
            if times > 1:
                raise error
            super().__init__(data, engine, threads, times, shapes)

    arrays = file.input_arrays(x)
    want = interpreter.run(file.data, arrays, 1, "xnnpack", 1, 1, None, False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interpreter, "_LiteRT", Refusing)
        got = interpreter.run(file.data, arrays, 1, "xnnpack", 1, 1, None, True)
    np.testing.assert_array_equal(got[0], want[0])


def test_a_file_that_keeps_state_runs_one_by_one(runs, rng):
    model = keras.Sequential([keras.Input((6, 3)), keras.layers.LSTM(4)])
    file = to_tflite(model, recurrent="fused")
    x = rng.normal(size=(29, 6, 3)).astype("float32")
    np.testing.assert_allclose(file.predict(x), predicted(model, x), atol=1e-5)
    assert file.keeps_state and runs == [False]


@pytest.mark.parametrize("count", [1, 3, 4, 6, 29, 33])
@pytest.mark.parametrize("format", ["float32", "int8"])
def test_examples_that_do_not_fill_the_files_batch(nets, fours, format, count):
    file, x = fours[format], nets["cnn", format][1]
    x = np.concatenate([x, x])[:count]
    assert file.inputs[0].shape[0] == 4
    got, want = file.predict(x), nets["cnn", format][0].predict(x)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.fixture(scope="module")
def fours(nets):
    """The CNN's files for four examples a call."""
    model = zoo.build(keras, "cnn")
    return {
        "float32": to_tflite(model, batch=4),
        "int8": to_tflite(model, "int8", zoo.inputs_for(model, count=100), batch=4),
    }


def test_an_output_without_a_row_per_example_is_refused(rng):
    file = module_file(lambda x: tf.reduce_sum(x, axis=[0, 1]))
    x = rng.normal(size=(9, 4)).astype("float32")
    with pytest.raises(ConversionError, match=r"output of shape \(\) for a batch of 1"):
        file.predict(x)
    file = module_file(lambda x: tf.reshape(x, [2, 2]) * 2.0)
    with pytest.raises(ConversionError, match=r"output of shape \(2, 2\) for a batch of 1"):
        file.predict(x)


def test_what_the_interpreter_refuses_is_one_line(nets):
    file, x = nets["cnn", "float32"]
    damaged = bytearray(file.data)
    graph = schema.Model.GetRootAs(damaged, 0).Subgraphs(0)
    kernel = next(t for t in map(graph.Tensors, range(99)) if t.ShapeLength() == 4 and t.Buffer())
    kernel.ShapeAsNumpy()[0] = 99  # a view of the bytes
    damaged = TFLiteModel(bytes(damaged))
    with pytest.raises(
        ConversionError, match="The reference interpreter refuses this file"
    ) as error:
        damaged.predict(x, engine="reference")
    assert "\n" not in str(error.value)


def test_an_unknown_engine(nets):
    file, x = nets["cnn", "float32"]
    with pytest.raises(InputError, match=r"engine must be one of \('xnnpack', .*, got 'tpu'"):
        file.predict(x, engine="tpu")


def test_running_a_file_imports_no_tensorflow(nets):
    file, x = nets["cnn", "int8"]
    with sandbox.Worker() as worker:
        arguments = (file.data, file.input_arrays(x), 1, "xnnpack", 1, 1, None, True)
        assert len(worker.call(interpreter.run, *arguments)[0]) == len(x)
        heavy = worker.call(
            eval, "sorted({'tensorflow', 'keras'} & set(__import__('sys').modules))"
        )
        assert heavy == []


class TestMicro:
    """TensorFlow Lite for Microcontrollers' host build."""

    @pytest.fixture(autouse=True)
    def installed(self):
        pytest.importorskip("tflite_micro")

    @pytest.mark.parametrize("name", ["cnn", "multi_input", "multi_output"])
    def test_int8_is_the_reference_kernels(self, nets, name):
        file, x = nets[name, "int8"]
        arrays = fed(file, x)
        got, want = (as_list(file.predict(arrays, engine)) for engine in ("tflm", "reference"))
        for info, a, b in zip(file.outputs, got, want, strict=True):
            assert np.abs(a - b).max() <= 2.01 * info.scale

    def test_float16_is_refused_in_a_line_that_names_the_operator(self):
        model = cnn(keras)
        file = to_tflite(model, "float16")
        with pytest.raises(
            ConversionError, match="for Microcontrollers refuses.*DEQUANTIZE"
        ) as error:
            file.predict(np.zeros((2, 8, 8, 1)), engine="tflm")
        assert "\n" not in str(error.value)
