"""The properties of a file, checked against the interpreter."""

import gzip

import flatbuffers
import keras
import numpy as np
import pytest
import tf_keras
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from tiny_models import predicted
from two_ends import (
    INPUT_KEYS,
    INPUTS,
    OUTPUT_KEYS,
    OUTPUTS,
    drawn,
    forms,
    plain,
    reversed_ends,
    two_ended,
)

from tfkd.errors import InputError
from tfkd.export import TFLiteModel, android_bundle, to_tflite, verify, with_metadata
from tfkd.export.tflite import model as artifact
from tfkd.export.tflite import schema as flatbuffer
from tfkd.export.tflite.model import TensorInfo

FOUR = ("accuracy", "precision", "recall", "f1")


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
    want = np.concatenate([predicted(model, row[None]) for row in x])
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


def repacked(file, change):
    """Return the bytes of a file after a change to what is in it."""
    model = schema.ModelT.InitFromPackedBuf(file.data, 0)
    change(model, model.subgraphs[0])
    builder = flatbuffers.Builder(len(file.data))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def pixels(graph):
    return graph.tensors[graph.inputs[0]]


DAMAGE = {
    "it has no output": lambda m, g: setattr(g, "outputs", None),
    "tensor 3, .* has the shape": lambda m, g: setattr(g.tensors[3], "shape", [-1, 8]),
    "tensor 4, .* has the shape": lambda m, g: setattr(g.tensors[4], "shape", [2**16, 2**15]),
    "tensor 2, .* has a buffer": lambda m, g: setattr(g.tensors[2], "buffer", len(m.buffers)),
    "has 1 scales and 2 zero points": lambda m, g: setattr(
        pixels(g).quantization, "zeroPoint", [0, 0]
    ),
    "subgraph 0 has inputs": lambda m, g: setattr(g, "inputs", [len(g.tensors)]),
    "operator 1 .* has no code": lambda m, g: setattr(g.operators[1], "opcodeIndex", 99),
    "operator 2 .* has tensors": lambda m, g: setattr(g.operators[2], "inputs", [0, -2]),
    "operator 0 .* has tensors": lambda m, g: setattr(g.operators[0], "outputs", [-1]),
    "signature 0 has a subgraph": lambda m, g: setattr(m.signatureDefs[0], "subgraphIndex", 1),
    "signature 0 has the tensor": lambda m, g: setattr(
        m.signatureDefs[0].inputs[0], "tensorIndex", 2**31
    ),
    "has the scale 0": lambda m, g: setattr(pixels(g).quantization, "scale", [0.0]),
    "has the scale nan": lambda m, g: setattr(pixels(g).quantization, "scale", [np.nan]),
    "has the scale inf": lambda m, g: setattr(g.tensors[3].quantization, "scale", [np.inf] * 10),
    "has 2 scales along axis 7": lambda m, g: g.tensors[3].quantization.__dict__.update(
        scale=[0.1, 0.1], zeroPoint=[0, 0], quantizedDimension=7
    ),
    "has a shape of 4 sizes and a signature of 1": lambda m, g: setattr(
        pixels(g), "shapeSignature", [-1]
    ),
    "has its values in another file": lambda m, g: setattr(g.tensors[2], "externalBuffer", 1),
    "has 1 bytes of the [0-9]+ for int": lambda m, g: setattr(
        m.buffers[g.tensors[g.operators[0].inputs[1]].buffer], "data", [0]
    ),
    "buffer 1 has 9 bytes at 99999": lambda m, g: m.buffers[1].__dict__.update(
        data=None, offset=99999, size=9
    ),
    "operator 0 .* is a CONV_2D without input 1": lambda m, g: setattr(
        g.operators[0], "inputs", g.operators[0].inputs[:1]
    ),
    "is a CONV_2D with Pool2DOptions": lambda m, g: g.operators[0].__dict__.update(
        builtinOptions=schema.Pool2DOptionsT(),
        builtinOptionsType=schema.BuiltinOptions.Pool2DOptions,
    ),
    "is a CONV_2D with input 0 of 2 dimensions": lambda m, g: setattr(pixels(g), "shape", [8, 8]),
    "operator 0, [A-Z_]*, read tensor [0-9]+ before": lambda m, g: g.operators.reverse(),
    "make tensor [0-9]+, which is there before": lambda m, g: g.operators.append(g.operators[0]),
    "has the output [0-9]+, which no operator makes": lambda m, g: g.operators.pop(),
    "sparse format that does not fit its 4": lambda m, g: setattr(
        g.tensors[g.operators[0].inputs[1]], "sparsity", schema.SparsityParametersT()
    ),
    "zero point 128": lambda m, g: setattr(pixels(g).quantization, "zeroPoint", [128]),
}


@pytest.mark.parametrize("message", DAMAGE)
def test_a_damaged_file_is_told_so(files, message):
    with pytest.raises(InputError, match=f"damaged .tflite file \\(.*{message}"):
        TFLiteModel(repacked(files["int8"], DAMAGE[message]))


def test_a_list_longer_than_the_file_is_not_unpacked(files):
    """Zeros read as empty tables: a long list over weights of zero would become objects."""
    data = repacked(files["int8"], lambda m, g: setattr(m.buffers[1], "data", [0] * (1 << 20)))
    assert TFLiteModel(data).weight_bytes > 1 << 20
    graph = schema.Model.GetRootAs(data, 0).Subgraphs(0)
    place = graph._tab.Vector(graph._tab.Offset(4)) - 4  # the length of the list of tensors
    damaged = data[:place] + (1 << 18).to_bytes(4, "little") + data[place + 4 :]
    with pytest.raises(InputError, match=r"its lists have 262\d\d\d entries"):
        TFLiteModel(damaged)


def leave_out(model, graph):
    """What other writers leave out: names, lists without entries."""
    model.signatureDefs = model.metadata = None
    for tensor in graph.tensors:
        tensor.name = None
    graph.operators[0].intermediates = None
    graph.inputs = None


def test_what_a_writer_may_leave_out_is_no_damage(files):
    file = TFLiteModel(repacked(files["int8"], leave_out))
    assert file.inputs == () and file.signatures == ()
    assert file.outputs[0].name == "?"
    assert file.activation_bytes > 0 and "? int8[1, 10]" in file.describe()
    with pytest.raises(InputError, match="no inputs for data"):
        file.predict([])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, g: setattr(pixels(g), "shape", []), r"\[\], takes no examples"),
        (lambda m, g: setattr(pixels(g), "shape", [0, 8, 8, 1]), "takes no examples"),
        (lambda m, g: setattr(pixels(g), "type", schema.TensorType.STRING), "string"),
        (lambda m, g: setattr(g.tensors[g.outputs[0]], "type", schema.TensorType.STRING), "string"),
        (lambda m, g: setattr(pixels(g), "type", 77), "type77"),
    ],
)
def test_what_cant_be_fed_is_told_before_it_is_run(files, digits, change, message):
    with pytest.raises(InputError, match=message):
        TFLiteModel(repacked(files["float32"], change)).predict(digits.test.x[:2])


def test_results_that_do_not_fit_here_are_not_asked_for(files, digits, monkeypatch):
    monkeypatch.setattr(artifact.worker, "free_bytes", lambda: 1 << 30)
    file = TFLiteModel(
        repacked(files["float32"], lambda m, g: setattr(g.tensors[-1], "shape", [1, 2**24]))
    )
    assert file.outputs[0].shape == (1, 2**24)
    with pytest.raises(InputError, match=r"results for 9 examples take 1,207,959,552 bytes"):
        file.predict(digits.test.x[:9])
    wide = repacked(files["float32"], lambda m, g: setattr(pixels(g), "shape", [2**23, 8, 8, 1]))
    with pytest.raises(InputError, match=r"\(pixels\) take 2,147,483,648 bytes"):
        TFLiteModel(wide).first_call(digits.test.x[:1])


def test_whole_numbers_out_of_range_are_refused_not_wrapped():
    info = TensorInfo("ids", (1, 2), "int32", None, None)
    file = object.__new__(TFLiteModel)
    object.__setattr__(file, "states", ())
    assert file._array(info, np.array([[1.0, 2.0]])).tolist() == [[1, 2]]
    with pytest.raises(InputError, match="takes int32, from -2147483648 to 2147483647"):
        file._array(info, np.array([[0.0, 3e9]]))


def test_quantizing_in_blocks_is_quantizing_at_once(rng, monkeypatch):
    info = TensorInfo("x", (1, 5), "int8", 0.1, 3)
    x = rng.normal(scale=8.0, size=(7, 5))[:, ::-1]  # not in the order of memory
    want = np.clip(np.trunc(x / 0.1 + np.copysign(0.5, x)) + 3, -128, 127)
    monkeypatch.setattr(flatbuffer, "_BLOCK", 4)
    np.testing.assert_array_equal(info.quantize(x), want)


def test_predict_refuses_data_of_another_shape(files):
    with pytest.raises(InputError, match=r"shape \(examples, 8, 8, 1\), got \(3, 8, 8\)"):
        files["int8"].predict(np.zeros((3, 8, 8)))
    with pytest.raises(InputError, match="x lacks 'pixels'; it has 'other', and"):
        files["int8"].predict({"other": np.zeros((3, 8, 8, 1))})
    with pytest.raises(InputError, match="empty"):
        files["int8"].predict(np.zeros((0, 8, 8, 1)))
    with pytest.raises(InputError, match="engine must be one of"):
        files["int8"].predict(np.zeros((1, 8, 8, 1)), engine="gpu")


@pytest.mark.parametrize("keyed", [False, True])
def test_equal_inputs_and_outputs_are_not_crossed(package, keyed, rng):
    model, x = two_ended(package, keyed), drawn(rng)
    want, file = plain(model, x, keyed), to_tflite(model)
    assert tuple(info.name for info in file.inputs) == INPUTS
    assert tuple(info.name for info in file.outputs) == OUTPUTS
    turned = reversed_ends(file)
    assert tuple(info.name for info in turned.inputs) == INPUTS[::-1]

    def answers(one, given, names):
        found = one.predict(given)  # a dict where the model gives one
        assert list(found) == list(OUTPUT_KEYS) if keyed else isinstance(found, list)
        ordered = (OUTPUTS, found.values()) if keyed else (names, found)
        return dict(zip(*ordered, strict=True))

    by_key = {"by key": dict(zip(INPUT_KEYS, x, strict=True))} if keyed else {}
    for form, given in {**forms(x, INPUTS), **by_key}.items():
        # Of another order in the file, which a list then has.
        other = given[::-1] if isinstance(given, (list, tuple)) else given
        for found in (answers(file, given, OUTPUTS), answers(turned, other, OUTPUTS[::-1])):
            for name, due in zip(OUTPUTS, want, strict=True):
                np.testing.assert_allclose(found[name], due, atol=1e-5, err_msg=form)
    file.predict({**dict(zip(INPUTS, x, strict=True)), "further": 0})
    if keyed:
        assert tuple(with_metadata(file, name="net").predict(x)) == OUTPUT_KEYS
    else:
        with pytest.raises(InputError, match="lacks 'z', 'a'; it has 'night', 'day', and .* f"):
            file.predict(dict(zip(INPUT_KEYS, x, strict=True)))
    with pytest.raises(InputError, match="file has 2 inputs .*, but x holds one"):
        file.predict(x[0])


def test_lists_of_numbers_are_arrays_of_the_one_input(files, digits):
    file, x, y = files["float32"], digits.test.x[:3], digits.test.y[:3]
    want = file.predict(x)
    for given in (x.tolist(), list(x), [x], (x,), {"pixels": x.tolist()}):
        np.testing.assert_array_equal(file.predict(given), want)
    due = file.evaluate(x, y)
    for labels in (y.tolist(), [y], (y,), {"logits": y}, [y.tolist()]):
        assert file.evaluate(x, labels) == due
    assert file.evaluate(x[:1], [int(y[0])]) == file.evaluate(x[:1], y[:1])
    with pytest.raises(InputError, match="y has the unknown names 'other'; .* 'logits'"):
        file.evaluate(x, {"other": y})


@pytest.mark.parametrize("kind", ["labels", "two classes", "anomalies"])
def test_a_file_has_one_score_everywhere(rng, tmp_path, kind):
    """As `verify` and the bundle's README give it: by the file's own output and input."""
    x = rng.normal(size=(60, 6)).astype("float32")
    layer = {
        "labels": keras.layers.Dense(4, "sigmoid"),
        "two classes": keras.layers.Dense(1, "sigmoid"),
        "anomalies": keras.layers.Dense(6),
    }[kind]
    model = keras.Sequential([keras.Input((6,)), layer])
    answers = model.predict(x, verbose=0)
    y = np.eye(4, dtype=int)[answers.argmax(1)] if kind == "labels" else np.arange(60) % 2
    file = to_tflite(model)
    want = verify(file, model, x, y).metrics
    if kind == "labels":
        assert want["accuracy"] == pytest.approx(np.mean((answers > 0.5) == y))
    assert set(want) == ({"auc"} if kind == "anomalies" else {"auc", *FOUR})
    assert file.evaluate(x, y) == pytest.approx(want)
    bundle = android_bundle(file, tmp_path / "android", "net", x=x, y=y)
    assert bundle.models[0].metrics == pytest.approx(want)


def test_load_says_what_is_wrong(tmp_path):
    with pytest.raises(InputError, match="Cannot read .*No such file"):
        TFLiteModel.load(tmp_path / "none.tflite")
    (tmp_path / "text.tflite").write_text("hello")
    with pytest.raises(InputError, match=r"text\.tflite' is not a .tflite file"):
        TFLiteModel.load(tmp_path / "text.tflite")
