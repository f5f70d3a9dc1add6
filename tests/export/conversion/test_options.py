"""Options of `to_tflite` besides the format, and what it refuses."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import zoo
from tiny_models import predicted
from two_ends import INPUTS, drawn, plain, two_ended

from tfkd import quantize_aware
from tfkd.data import Samples
from tfkd.errors import ConversionError, InputError, MissingDependencyError, UnsupportedError
from tfkd.export import TFLiteModel, to_tflite, verify
from tfkd.export.conversion import converter
from tfkd.export.conversion.form_costs import recurrent_forms
from tfkd.export.conversion.plan import needs_data
from tfkd.export.tflite import schema
from tfkd.loading import signatures
from tfkd.quantization import calibrate


@pytest.fixture(scope="module")
def cnn():
    model = zoo.build(keras, "cnn")
    return model, zoo.inputs_for(model)


@pytest.fixture(scope="module")
def gru():
    model = zoo.build(keras, "gru")
    return model, zoo.inputs_for(model)


def close(file, model, x, bound=0.05):
    want = predicted(model, x)
    return np.abs(file.predict(x) - want).mean() <= bound * want.std()


@pytest.mark.parametrize("name", ["cnn", "lstm", "gru"])
@pytest.mark.parametrize("format", ["float32", "int8"])
def test_a_batch(name, format):
    model = zoo.build(keras, name)
    x = zoo.inputs_for(model)
    file = to_tflite(model, format, x if format == "int8" else None, batch=4)
    assert file.inputs[0].shape[0] == file.outputs[0].shape[0] == 4
    assert close(file, model, x[:30])  # 30 is no multiple of 4


def test_a_free_batch(cnn, gru):
    model, x = cnn
    file = to_tflite(model, batch=None)
    assert close(file, model, x, 1e-4)
    with pytest.raises(UnsupportedError, match="need a fixed batch"):
        to_tflite(gru[0], batch=None)


def test_float_input_and_output(cnn, qat, digits):
    model, x = cnn
    plain, wrapped = (to_tflite(model, "int8", x, float_io=flag) for flag in (False, True))
    assert wrapped.inputs[0].dtype == wrapped.outputs[0].dtype == "float32"
    assert wrapped.ops["QUANTIZE"] == wrapped.ops["DEQUANTIZE"] == 1
    np.testing.assert_allclose(wrapped.predict(x), plain.predict(x), atol=1e-6)
    aware = to_tflite(qat, "int8", float_io=True)
    want = to_tflite(qat, "int8").predict(digits.test.x)
    np.testing.assert_allclose(aware.predict(digits.test.x), want, atol=1e-5)


def test_skip_leaves_the_named_layers_float(cnn):
    model, x = cnn
    names = [layer.name for layer in model.layers]
    file = to_tflite(model, "int8", x, skip=[names[1], names[-1]])
    # The int8 weights of these two are gone; the one between them is still in 8 bits.
    kinds = {tensor.name: tensor.type for tensor in schema.parse(file.data).subgraphs[0].tensors}
    weights = {name.decode(): kind for name, kind in kinds.items() if b"kernel" not in name}
    assert any(names[1] in name for name in file.float_tensors)
    assert not any(f"{names[3]}/" in name for name in file.float_tensors)
    assert weights and close(file, model, x)
    assert file.inputs[0].dtype == "int8"


@pytest.mark.parametrize("place", [0, 1])
def test_what_reads_a_skipped_layer_is_in_8_bits_at_either_place(place, rng):
    la = keras.layers
    i = keras.Input((8, 8, 4))
    first = la.Conv2D(4, 3, padding="same", name="first")(i)
    ends = [first, first]
    ends[place] = la.Conv2D(4, 3, padding="same", name="branch")(first)
    model = keras.Model(i, la.Flatten()(la.Conv2D(4, 3)(la.Add()(ends))))
    file = to_tflite(model, "int8", rng.normal(size=(100, 8, 8, 4)), skip="branch")
    parsed = schema.parse(file.data)
    tensors, names = parsed.subgraphs[0].tensors, schema.op_names(parsed)
    kinds = {}
    for op in parsed.subgraphs[0].operators:
        kinds.setdefault(names[op.opcodeIndex], []).append(schema.dtype_of(tensors[op.outputs[0]]))
    assert kinds["ADD"] == ["int8"] and sorted(kinds["CONV_2D"]) == ["float32", "int8", "int8"]


def test_skip_leaves_no_other_layer_float(rng):
    la = keras.layers
    i = keras.Input((8,))
    bent = la.ELU(name="bend")(la.Dense(6, name="first")(i))
    model = keras.Model(i, la.Dense(3, name="head")(bent))
    x = rng.normal(size=(100, 8)).astype("float32")
    with pytest.raises(ConversionError, match=r"that skip= does not name \(bend/.*: name them"):
        to_tflite(model, "int8", x, skip="head")
    assert close(to_tflite(model, "int8", x, skip=["bend", "head"]), model, x)
    # The last operation has the name of the output, so no one could name its layer.
    ended = keras.Model(i, bent)
    assert close(to_tflite(ended, "int8", x, skip="first"), ended, x)


def test_bits_of_single_layers(cnn):
    zoo.needs_quantizer()
    model, x = cnn
    head = model.layers[-1].name
    narrow = to_tflite(model, "int4")
    mixed, wide = (to_tflite(model, "int4", bits={head: width}) for width in (8, 32))
    weights = model.layers[-1].count_params() - 3
    assert mixed.weight_bytes - narrow.weight_bytes == pytest.approx(weights / 2, rel=0.05)
    assert wide.weight_bytes - mixed.weight_bytes == pytest.approx(weights * 3, rel=0.05)
    assert close(narrow, model, x, 0.5)


@pytest.mark.parametrize("package", ["litert_quantizer", "ai_edge_quantizer"])
def test_the_4_bit_quantizer_under_either_name(cnn, package, monkeypatch):
    """The same package: its name until 0.10, and since."""
    pytest.importorskip(package)
    for other in {"litert_quantizer", "ai_edge_quantizer"} - {package}:
        monkeypatch.setitem(sys.modules, other, None)
    assert converter._quantizer()[1].__name__ == f"{package}.quantizer"
    model, x = cnn
    data = converter._four_bits(to_tflite(model, "float32").data, {})[0]
    narrow = TFLiteModel(data)
    assert narrow.weight_bytes < to_tflite(model, "float32").weight_bytes / 4
    assert close(narrow, model, x, 0.5)


def test_without_a_4_bit_quantizer_the_new_name_is_given(monkeypatch):
    for package in ("litert_quantizer", "ai_edge_quantizer"):
        monkeypatch.setitem(sys.modules, package, None)
    message = r"int4 needs litert-quantizer.*predecessor.*pip install 'tfkd\[int4\]'"
    with pytest.raises(MissingDependencyError, match=message):
        converter._quantizer()


def test_dynamic_says_when_it_narrows_nothing():
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    with pytest.warns(UserWarning, match="no weight has fewer than 32 bits.*1,024"):
        file = to_tflite(model, "dynamic")
    assert not file.hybrid_ops and "1,024" in file.describe()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recurrent": "rolled"}, "recurrent must be one of"),
        ({"batch": 0}, "batch must be a whole number of at least 1, got 0"),
        ({"float_io": True}, "float_io is for integer files"),
        ({"format": "float32", "skip": ["a"]}, "skip= leaves layers in float in int8 files only"),
        ({"format": "int8", "skip": ["nope"]}, "'nope' matches no layer; the nearest names are"),
        ({"format": "int4", "bits": {"dense": 3}}, "takes 4, 8 or 32"),
        ({"bits": {"dense": 8}}, "bits= needs format='int4'"),
        ({"format": "float16", "micro": True}, "Microcontrollers run float32, int8 and int16x8"),
        ({"format": "dynamic", "micro": True}, "Use 'int8'"),
        ({"micro": True, "allow_flex": True}, "TFLite's own operators only"),
    ],
)
def test_bad_options(cnn, options, message):
    model, x = cnn
    data = x if options.get("format") == "int8" else None
    with pytest.raises(InputError, match=message):
        to_tflite(model, representative_data=data, **options)


def test_forms_that_do_not_go_with_the_format_or_the_layer(gru):
    model, x = gru
    for format, form, message in [
        ("int16x8", "fused", "no 16-bit form"),
        ("int4", "fused", "in 32 bits"),
        ("float32", "fused", r"'gru.*\(GRU\) has no fused kernel.*Use 'unrolled', 'loop'"),
    ]:
        with pytest.raises(UnsupportedError, match=message):
            to_tflite(model, format, x if "8" in format else None, recurrent=form)


@pytest.mark.parametrize("package", [keras, tf_keras])
def test_a_loop_is_a_loop_and_unrolled_is_not(package):
    model = zoo.build(package, "lstm")
    x = zoo.inputs_for(model)
    files = {form: to_tflite(model, recurrent=form) for form in ("fused", "loop", "unrolled")}
    assert files["fused"].keeps_state and "UNIDIRECTIONAL_SEQUENCE_LSTM" in files["fused"].ops
    assert files["loop"].ops["WHILE"] == 1 and not files["loop"].keeps_state
    assert "WHILE" not in files["unrolled"].ops and sum(files["unrolled"].ops.values()) > 40
    assert all(close(file, model, x, 1e-4) for file in files.values())


def test_what_each_form_costs(gru):
    model, x = gru
    forms = {form.form: form for form in recurrent_forms(model, "int8", x)}
    assert list(forms) == ["fused", "unrolled", "loop", "step"]
    assert [form.form for form in forms.values() if form.picked] == ["unrolled"]
    assert forms["loop"].bytes < forms["unrolled"].bytes / 1.4
    assert "no fused kernel" in forms["fused"].error and forms["fused"].bytes is None
    assert forms["step"].bytes < forms["unrolled"].bytes / 1.5
    assert forms["step"].ops < forms["unrolled"].ops / 3
    assert recurrent_forms(zoo.build(keras, "mlp")) == []
    assert forms["loop"].latency_us > 0 and forms["fused"].latency_us is None
    (note,) = to_tflite(model, "int8", x).notes
    assert "chose unrolled for gru" in note and "times as long" in note


def test_a_form_that_does_not_go_with_the_arguments_is_a_row(gru):
    model, x = gru
    rows = {row.form: row for row in recurrent_forms(model, "int8", x, uint8_io=True)}
    assert rows["unrolled"].picked and rows["unrolled"].bytes and rows["unrolled"].error is None
    for form in ("loop", "step"):
        assert f"uint8_io can't be combined with recurrent='{form}'" in rows[form].error
    with pytest.raises(InputError, match="uint8_io is for int8 files"):  # of every form
        recurrent_forms(model, "int8", x, uint8_io=True, float_io=True)


@pytest.mark.parametrize("bits", [8, 4])
def test_what_each_form_of_a_quantize_aware_model_costs(gru, bits):
    model, x = gru
    qat = quantize_aware(model, bits=bits)
    calibrate(qat, x)
    forms = {form.form: form for form in recurrent_forms(qat, "int8", x)}
    assert [form.form for form in forms.values() if form.picked] == ["unrolled"]
    assert forms["loop"].bytes < forms["unrolled"].bytes / 1.4
    assert forms["unrolled"].bytes == to_tflite(qat, "int8", x).size


def test_a_mask_is_carried_or_refused():
    la = keras.layers
    i = keras.Input((6,), dtype="int32")
    model = keras.Model(i, la.Dense(2)(la.LSTM(4)(la.Embedding(20, 4, mask_zero=True)(i))))
    x = np.random.default_rng(0).integers(0, 4, (40, 6))  # a quarter is padding
    assert close(to_tflite(model), model, x, 1e-4)
    with pytest.raises(UnsupportedError, match="receives a mask.*recurrent='loop'"):
        to_tflite(model, "int8", x)


def test_states_from_elsewhere_are_carried_or_refused():
    la = keras.layers
    i, start = keras.Input((6, 3), name="i"), keras.Input((4,), name="start")
    model = keras.Model([i, start], la.GRU(4)(i, initial_state=start))
    rng = np.random.default_rng(0)
    x = {"i": rng.normal(size=(20, 6, 3)), "start": rng.normal(size=(20, 4))}
    assert close(to_tflite(model), model, x, 1e-4)
    with pytest.raises(UnsupportedError, match="states that are computed elsewhere"):
        to_tflite(model, "int8", x)


@pytest.mark.parametrize("kind", ["keras file", "h5", "keras export", "tf_keras SavedModel"])
@pytest.mark.parametrize("format", ["float32", "int8"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
def test_sources(kind, format, tmp_path):
    package = tf_keras if kind == "tf_keras SavedModel" else keras
    model = zoo.build(package, "multi_input")
    x = dict(zip(("image", "facts"), zoo.inputs_for(model), strict=True))
    path = tmp_path / {"keras file": "m.keras", "h5": "m.h5"}.get(kind, "m")
    if kind == "keras export":
        model.export(path, verbose=False)
    else:
        model.save(path)
    file = to_tflite(path, format, x if format == "int8" else None)
    want = predicted(model, x)
    bound = 0.05 if format == "int8" else 1e-4
    assert np.abs(file.predict(x) - want).mean() <= bound * want.std()
    assert file.integer_only == (format == "int8")
    assert {info.name for info in file.inputs} == {"image", "facts"}


def test_a_bare_signature_names_no_layers(gru, tmp_path):
    model, x = gru
    model.export(tmp_path / "m", verbose=False)
    with pytest.raises(UnsupportedError, match="a signature without layers.*give the Keras model"):
        to_tflite(tmp_path / "m", "int8", x, recurrent="unrolled")
    with pytest.raises(ConversionError, match="free batch.*give the Keras model"):
        to_tflite(tmp_path / "m")
    (tmp_path / "m" / "saved_model.pb").write_bytes(b"no")
    with pytest.raises(InputError, match="can't be read: Error parsing"):
        to_tflite(tmp_path / "m")


def test_quantize_aware_from_a_file(qat, digits, tmp_path):
    with pytest.warns(UserWarning, match="legacy"):
        qat.save(tmp_path / "qat.h5")
    assert to_tflite(tmp_path / "qat.h5", "int8").data == to_tflite(qat, "int8").data
    assert not needs_data(qat, "int8") and needs_data(zoo.build(keras, "mlp"), "int16x8")


class Determinant(keras.layers.Layer):
    """No TFLite operator does what this does."""

    def call(self, x):
        return tf.linalg.det(x)[:, None]


def test_flex_operators_are_refused_or_kept():
    model = keras.Sequential([keras.Input((3, 3)), Determinant()])
    with pytest.raises(ConversionError, match="allow_flex=True.*Flex delegate"):
        to_tflite(model)
    file = to_tflite(model, allow_flex=True)
    assert file.flex_ops == ("FlexMatrixDeterminant",) and "Flex delegate" in file.describe()
    assert "not run" in file.notes[-1]
    x = np.random.default_rng(0).normal(size=(5, 3, 3)).astype("float32")
    refused = ""
    try:
        got = file.predict(x)
    except ConversionError as error:  # LiteRT 2 has no delegate in Python
        refused = str(error)
    if refused:
        assert "needs the Flex delegate, which is not available here" in refused
    else:
        np.testing.assert_allclose(got[:, 0], np.linalg.det(x), rtol=1e-4)


def test_micro_tries_the_file_where_it_will_run(cnn):
    pytest.importorskip("tflite_micro")
    model, x = cnn
    file = to_tflite(model, "int8", x, micro=True)
    assert verify(file, model, x, engine="tflm", threshold=0.9).passed
    i = keras.Input((8,))
    gelu = keras.Model(i, keras.layers.Dense(4, activation="gelu", name="gelu_layer")(i))
    with pytest.raises(UnsupportedError, match="'gelu_layer'.*tanh"):
        to_tflite(gelu, micro=True)


def test_representative_data_in_every_form(cnn):
    model, x = cnn
    want = to_tflite(model, "int8", x).data
    for data in (
        Samples(x, np.zeros(len(x))),
        tf.data.Dataset.from_tensor_slices((x, np.zeros(len(x)))).batch(7),
        lambda: ([row[None]] for row in x),
    ):
        assert to_tflite(model, "int8", data).data == want


def test_the_largest_of_a_hang_is_its_limit(cnn):
    model, x = cnn
    with pytest.raises(ConversionError, match=r"within 0.01 s.*timeout="):
        to_tflite(model, "int8", x, timeout=0.01)
    assert close(to_tflite(model), model, x, 1e-4)  # the next one works


def test_quantize_aware_recurrent_models_as_steps(gru):
    model, x = gru
    aware = quantize_aware(model)
    file = to_tflite(aware, "int8", x, recurrent="step")
    assert len(file.states) == 1 and close(file, model, x)


@pytest.mark.parametrize("keyed", [False, True])
def test_a_saved_models_inputs_are_in_the_declared_order_or_need_names(keyed, tmp_path, rng):
    model, x = two_ended(keras, keyed), drawn(rng)
    model.export(tmp_path / "m", verbose=False)
    named = dict(zip(INPUTS, x, strict=True))
    for given in [named] if keyed else [named, x]:
        file = to_tflite(tmp_path / "m", "int8", given)
        for info in file.inputs:
            assert info.scale == pytest.approx(np.ptp(named[info.name]) / 255, rel=0.02)
    if keyed:
        with pytest.raises(InputError, match="is a list, whose order could be"):
            to_tflite(tmp_path / "m", "int8", x)
    else:
        assert tuple(info.name for info in file.inputs) == INPUTS
        assert [info.name for info in file.outputs] == ["output_0", "output_1"]
        exact = to_tflite(tmp_path / "m")
        for got, due in zip(exact.predict(x), plain(model, x), strict=True):
            np.testing.assert_allclose(got, due, atol=1e-5)


def test_a_signature_without_keras_has_names_and_no_order(tmp_path, rng):
    module = tf.Module()
    spec = [tf.TensorSpec((None, 4), name=name) for name in INPUTS]
    function = tf.function(lambda z, a: {"y": z - 2.0 * a}, input_signature=spec)
    tf.saved_model.save(module, str(tmp_path), signatures=function)
    x = drawn(rng)
    with pytest.raises(InputError, match="is a list, whose order could be"):
        to_tflite(tmp_path, "int8", x)
    file = to_tflite(tmp_path, "int8", dict(zip(INPUTS, x, strict=True)))
    got = file.predict(dict(zip(INPUTS, x, strict=True)))
    np.testing.assert_allclose(got, x[0] - 2 * x[1], atol=0.3)


def test_data_that_are_not_needed_are_accepted_and_noted(rng, qat):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    x = rng.normal(size=(20, 4)).astype("float32")
    for format in ("float32", "float16"):
        file = to_tflite(model, format, x)
        assert file.data == to_tflite(model, format).data
        assert file.notes == (f"representative_data was not used: {format} needs none",)
    told = to_tflite(qat, "int8", rng.random((20, 8, 8, 1))).notes
    assert "representative_data was not used: this model has learned its ranges" in told


@pytest.mark.parametrize(
    ("scale", "said"),
    [(1e7, "are cut off at 65,504"), (1e-9, "of 12, 12 become 0"), (2e-7, "loses weights of 'd/")],
)
def test_what_float16_loses_is_told(scale, said, rng, package):
    x = package.Input((4,))
    model = package.Model(x, package.layers.Dense(3, name="d")(x))
    kernel = rng.normal(size=(4, 3)) * scale
    model.set_weights([kernel, np.zeros(3)])
    with pytest.warns(UserWarning, match=f"float16 loses weights of 'd/.*{said}|{said}"):
        file = to_tflite(model, "float16")
    assert any(said in note for note in file.notes)
    model.set_weights([kernel / scale, np.zeros(3)])
    assert to_tflite(model, "float16").notes == ()


def test_batch_normalization_counts_as_it_is_in_the_file(rng):
    x = keras.Input((6, 6, 1))
    norm = keras.layers.BatchNormalization()
    conv = keras.layers.Conv2D(3, 3, use_bias=False)
    model = keras.Model(x, norm(conv(x)))
    conv.set_weights([rng.normal(size=(3, 3, 1, 3)) * 1e-7])
    norm.epsilon = 1e-20
    norm.set_weights([np.ones(3), np.zeros(3), np.zeros(3), np.full(3, 1e-14)])
    assert to_tflite(model, "float16").notes == ()  # folded, the weights are around 1


def test_weights_of_4_bits_count_as_eight_times_as_much_in_float32(rng):
    la = keras.layers
    shapes = [la.Conv2D(8, 3), la.Conv2D(12, 3), la.GlobalAveragePooling2D(), la.Dense(10)]
    model = keras.Sequential([keras.Input((8, 8, 1)), *shapes])
    x = rng.normal(size=(40, 8, 8, 1)).astype("float32")
    file = to_tflite(calibrate(quantize_aware(model, bits=4), x), "int8")
    assert 4 * file.weight_bytes < file.size < to_tflite(model).size
    assert not any("is larger than" in note for note in file.notes)


def test_an_integer_file_that_is_larger_says_so(rng):
    tiny = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    x = rng.normal(size=(100, 4)).astype("float32")
    file = to_tflite(tiny, "int8", x)
    assert file.size > to_tflite(tiny).size
    assert any(
        f"{file.size:,} bytes is larger than the same operators in float32" in one
        for one in file.notes
    )
    wide = keras.Sequential([keras.Input((64,)), keras.layers.Dense(16)])
    assert to_tflite(wide, "int8", np.tile(x, 16)).notes == ()


def test_unsigned_ends(rng):
    x = keras.Input((4, 4, 1))
    model = keras.Model(x, keras.layers.Dense(3)(keras.layers.Flatten()(x)))
    data = rng.random((100, 4, 4, 1)).astype("float32")
    plain, file = (to_tflite(model, "int8", data, uint8_io=on) for on in (False, True))
    assert [info.dtype for info in (*file.inputs, *file.outputs)] == ["uint8"] * 2
    assert file.integer_only and file.inputs[0].zero_point == plain.inputs[0].zero_point + 128
    np.testing.assert_allclose(file.predict(data), plain.predict(data), atol=1e-6)
    assert verify(file, model, data).passed
    for bad in ({"format": "int16x8"}, {"format": "int8", "float_io": True}):
        with pytest.raises(InputError, match="uint8_io is for int8 files"):
            to_tflite(model, representative_data=data, uint8_io=True, **bad)


def test_an_input_that_nothing_reads(rng):
    inputs = [keras.Input((3,), name="idle"), keras.Input((4,), name="used")]
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs[1]))
    x = [rng.normal(size=(100, n)).astype("float32") for n in (3, 4)]
    with pytest.raises(UnsupportedError, match="nothing reads the input 'idle'"):
        to_tflite(model, "int8", x)
    for file in (to_tflite(model), to_tflite(model, "int8", x, float_io=True)):
        assert [info.name for info in file.inputs] == ["idle", "used"]
        assert verify(file, model, x).passed


@pytest.fixture(scope="module")
def two_signatures(tmp_path_factory):
    """A SavedModel that doubles, and one more way to call it."""
    folder = tmp_path_factory.mktemp("signatures") / "saved"
    spec = tf.TensorSpec((None, 3), tf.float32, "x")
    module = tf.Module()
    module.twice = tf.function(lambda x: {"y": 2.0 * x}, input_signature=[spec])
    module.minus = tf.function(lambda x: {"z": tf.nn.relu(-x)}, input_signature=[spec])
    tf.saved_model.save(module, folder, {"twice": module.twice, "minus": module.minus})
    return folder


def test_a_signature_is_named(two_signatures, rng):
    x = rng.normal(size=(5, 3)).astype("float32")
    for key, due in (("twice", 2 * x), ("minus", np.maximum(-x, 0))):
        file = to_tflite(two_signatures, signature=key)
        np.testing.assert_allclose(file.predict(x), due)
        assert verify(file, two_signatures, x, signature=key, layers=True).passed
    with pytest.warns(UserWarning, match="VERIFICATION FAILED"):
        verify(file, two_signatures, x, signature="twice")
    with pytest.raises(InputError, match="signature='a' is for the path of a SavedModel, got Seq"):
        verify(file, keras.Sequential([keras.Input((3,))]), x, signature="a")
    with pytest.raises(InputError, match="no signature 'serving_default'; there are .*'minus'"):
        to_tflite(two_signatures)
    with pytest.raises(InputError, match="no signature 'other'; there are .*'twice'"):
        to_tflite(two_signatures, signature="other")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    with pytest.raises(InputError, match="signature='a' is for the path of a SavedModel"):
        to_tflite(model, signature="a")
    told = signatures.listed(two_signatures)
    assert told.describe().splitlines()[:3] == [
        "signature 'minus'",
        "  input  x float32[None, 3]",
        "  output z float32[None, 3]",
    ]


def test_a_file_with_several_signatures(two_signatures, rng):
    converter = tf.lite.TFLiteConverter.from_saved_model(str(two_signatures))
    file = TFLiteModel(converter.convert())
    assert set(file.signatures) == {"twice", "minus"}
    x = rng.normal(size=(1, 3)).astype("float32")
    for key, due in (("twice", 2 * x), ("minus", np.maximum(-x, 0))):
        chosen = file.select(key)
        assert chosen.signatures == (key,)
        np.testing.assert_allclose(chosen.predict(x), due)
    text = file.describe()
    assert "subgraph 0, signature" in text and "subgraph 1, signature" in text
    assert "  ops    MUL ×1" in text and "  output y float32[1, 3]" in text
    ops = {tuple(part["signatures"]): part["ops"] for part in file.to_json()["subgraphs"]}
    assert ops[("twice",)] == {"MUL": 1}
    with pytest.raises(InputError, match="no signature 'other'; there are"):
        file.select("other")
