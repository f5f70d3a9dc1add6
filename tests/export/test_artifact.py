"""What is said of a file, checked against the interpreter's own word."""

import gzip

import numpy as np
import pytest
import tf_keras
from ai_edge_litert.interpreter import Interpreter
from tfkd.export import TFLiteModel, to_tflite

from tfkd.errors import InputError, TfkdError


@pytest.mark.parametrize("name", ["float32", "float16", "int8"])
def test_inputs_and_outputs_are_the_interpreters(files, name):
    interpreter = Interpreter(model_content=files[name].data)
    for ours, theirs in (
        (files[name].inputs, interpreter.get_input_details()),
        (files[name].outputs, interpreter.get_output_details()),
    ):
        for info, detail in zip(ours, theirs, strict=True):
            assert info.shape == tuple(detail["shape"])
            assert np.dtype(info.dtype) == detail["dtype"]
            scale, zero_point = detail["quantization"]
            assert (info.scale or 0.0, info.zero_point or 0) == (pytest.approx(scale), zero_point)
    signature = interpreter.get_signature_list()["serving_default"]
    assert [info.name for info in files[name].inputs] == signature["inputs"] == ["pixels"]


@pytest.mark.parametrize("name", ["float32", "float16", "int8"])
def test_ops_are_the_interpreters(files, name):
    interpreter = Interpreter(model_content=files[name].data)
    counted = {}
    for op in interpreter._get_ops_details():
        if op["op_name"] != "DELEGATE":
            counted[op["op_name"]] = counted.get(op["op_name"], 0) + 1
    assert files[name].ops == counted


def test_predict_on_int8_is_quantize_invoke_dequantize(files, digits):
    file, x = files["int8"], digits.test.x[:5]
    interpreter = Interpreter(model_content=file.data)
    interpreter.allocate_tensors()
    (i,), (o,) = interpreter.get_input_details(), interpreter.get_output_details()
    (si, zi), (so, zo) = i["quantization"], o["quantization"]
    want = []
    for row in x:
        q = np.clip(np.floor(row / si + 0.5) + zi, -128, 127).astype("int8")
        interpreter.set_tensor(i["index"], q[None])
        interpreter.invoke()
        want.append((interpreter.get_tensor(o["index"])[0].astype("float32") - zo) * so)
    np.testing.assert_allclose(file.predict(x), want, atol=1e-6)


def test_values_outside_the_range_are_clipped_not_wrapped(files, digits):
    info = files["int8"].inputs[0]
    assert info.quantize(np.array([-1e9, 1e9])).tolist() == [-128, 127]
    assert info.dequantize(info.quantize(np.array([0.5]))) == pytest.approx(0.5, abs=info.scale)


def test_save_and_load(files, tmp_path):
    path = files["int8"].save(tmp_path / "m.tflite")
    assert TFLiteModel.load(path) == files["int8"]
    assert files["int8"].gzip_size == len(gzip.compress(files["int8"].data, 9))
    assert "integer only" in files["int8"].describe()
    assert "scale" not in files["float32"].describe()


@pytest.fixture(scope="module")
def fused_lstm():
    """A file with one fused LSTM, whose variables survive a call."""
    model = tf_keras.Sequential([tf_keras.Input((6, 3), batch_size=1), tf_keras.layers.LSTM(5)])
    file = to_tflite(model)
    assert "UNIDIRECTIONAL_SEQUENCE_LSTM" in file.ops
    return model, file


def test_state_is_detected_and_reset_before_each_call(fused_lstm, rng):
    model, file = fused_lstm
    assert file.keeps_state
    x = rng.normal(size=(4, 6, 3)).astype("float32")
    want = np.concatenate([model.predict(row[None], verbose=0) for row in x])
    np.testing.assert_allclose(file.predict(x), want, atol=1e-5)
    # The same calls without a reset give something else: the test above can fail.
    interpreter = Interpreter(model_content=file.data)
    interpreter.allocate_tensors()
    results = []
    for row in x:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], row[None])
        interpreter.invoke()
        results.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
    assert np.abs(np.array(results) - want)[1:].max() > 1e-2


def test_a_stateless_file_says_so(files):
    assert not files["int8"].keeps_state


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\x1c\x00\x00\x00TFL3" + b"\xff" * 64])
def test_bytes_that_are_no_model(content):
    with pytest.raises(InputError, match="bytes are"):
        TFLiteModel(content)


def test_mutilated_files_never_take_the_process_down(files, digits, rng):
    """Damage is refused when reading, or is the child's to die of."""
    whole = files["int8"].data
    outcomes = set()
    for _ in range(60):
        data = bytearray(whole[: rng.integers(8, len(whole))] if rng.random() < 0.3 else whole)
        for position in rng.integers(8, len(data), size=rng.choice([1, 30])):
            data[position] = rng.integers(256)
        try:
            TFLiteModel(bytes(data)).predict(digits.test.x[:1])
            outcomes.add("ran")
        except TfkdError as error:
            outcomes.add(type(error).__name__)
    assert {"ran", "InputError"} <= outcomes


def test_predict_refuses_data_of_another_shape(files):
    with pytest.raises(InputError, match=r"shape \(examples, 8, 8, 1\), got \(3, 8, 8\)"):
        files["int8"].predict(np.zeros((3, 8, 8)))
    with pytest.raises(InputError, match="No data for input"):
        files["int8"].predict({"other": np.zeros((3, 8, 8, 1))})
    with pytest.raises(InputError, match="empty"):
        files["int8"].predict(np.zeros((0, 8, 8, 1)))
    with pytest.raises(InputError, match="engine must be one of"):
        files["int8"].predict(np.zeros((1, 8, 8, 1)), engine="gpu")


def test_load_says_what_is_wrong(tmp_path):
    with pytest.raises(InputError, match="Cannot read .*No such file"):
        TFLiteModel.load(tmp_path / "none.tflite")
    (tmp_path / "text.tflite").write_text("hello")
    with pytest.raises(InputError, match=r"text\.tflite' is not a .tflite file"):
        TFLiteModel.load(tmp_path / "text.tflite")
