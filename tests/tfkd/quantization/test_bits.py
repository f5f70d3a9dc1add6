"""Weights of 4 bits: on their grid in training, packed in the file, equal in the interpreters."""

import importlib.util

import keras
import numpy as np
import pytest
import tf_keras
from floors import ROOT
from tiny_models import predicted

import tfkd
from tfkd import quantize_aware, strip_quantization
from tfkd.errors import InputError, TfkdError, UnsupportedError
from tfkd.export import TFLiteModel, android_bundle, profile, to_tflite, verify
from tfkd.export.conversion.narrowing import widened
from tfkd.export.report.report import ModelEntry, Report, write_report
from tfkd.export.tflite import schema
from tfkd.quantization import calibrate, describe, export_form

SHAPE = (8, 8, 3)


def net(package):
    """Every layer that has 4 bits, and one that has not."""
    layers = package.layers
    x = inputs = package.Input(SHAPE, name="image")
    x = layers.Conv2D(6, 3, use_bias=False, name="conv")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU(name="relu")(x)
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = layers.SeparableConv2D(5, 3, padding="same", activation="relu", name="separable")(x)
    x = layers.Conv2DTranspose(4, 2, strides=2, name="transposed")(x)
    x = layers.Flatten(name="flat")(x)
    x = layers.Dense(8, activation="relu", name="hidden")(x)
    return package.Model(inputs, layers.Dense(3, name="head")(x))


def made(package, **kwargs):
    package.utils.set_random_seed(0)
    keras.utils.set_random_seed(0)
    model = net(package)
    x = np.random.default_rng(0).normal(size=(40, *SHAPE)).astype("float32")
    return model, calibrate(quantize_aware(model, **kwargs), x), x


def kinds_of(file):
    """Return the types of the weights by operator."""
    model = schema.parse(file.data)
    names = schema.op_names(model)
    return {
        (names[op.opcodeIndex], schema.dtype_of(graph.tensors[op.inputs[1]]))
        for graph in model.subgraphs
        for op in graph.operators
        if names[op.opcodeIndex] in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    }


def off(file, qat, x, engine="xnnpack"):
    """Return how many integer steps the file is from the graph, at most and on average."""
    want, scale = predicted(qat, x), file.outputs[0].scale
    steps = np.abs(file.predict(x, engine=engine) - want) / scale
    return steps.max(), steps.mean()


# One layer: its sum of products is exact, and rounded once. Several add their steps up, as they
# do in 8 bits on the kernels that round twice.
ONE, SEVERAL = (1.01, 0.2), (6.01, 1.6)


def assert_near(file, qat, x, bounds=SEVERAL, engine="xnnpack"):
    assert all(got <= most for got, most in zip(off(file, qat, x, engine), bounds, strict=True))


LAYERS = {
    "Conv2D": lambda layers: layers.Conv2D(6, 3, strides=2, padding="same"),
    "DepthwiseConv2D": lambda layers: layers.DepthwiseConv2D(3),
    "Dense": lambda layers: layers.Dense(7),
}


RECURRENT = {
    "GRU": lambda layers: layers.GRU(5, name="r"),
    "GRU before": lambda layers: layers.GRU(5, reset_after=False, name="r"),
    "LSTM": lambda layers: layers.LSTM(5, name="r"),
    "SimpleRNN": lambda layers: layers.SimpleRNN(5, name="r"),
    "Bidirectional": lambda layers: layers.Bidirectional(layers.LSTM(4), name="r"),
}
# Gates and state are calibrated, not learned: what 8 bits are off, too.
CALIBRATED = (8.01, 2.0)


@pytest.mark.parametrize("form", ["unrolled", "loop", "step"])
@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_kernels_are_packed(name, form):
    if name == "Bidirectional" and form != "unrolled":
        pytest.skip("no loop in integers reads a sequence from its end")
    tf_keras.utils.set_random_seed(0)
    layers = tf_keras.layers
    model = tf_keras.Sequential([tf_keras.Input((6, 4)), RECURRENT[name](layers), layers.Dense(3)])
    x = np.random.default_rng(0).normal(size=(64, 6, 4)).astype("float32")
    qat = calibrate(quantize_aware(model, bits=4), x)
    assert describe(qat).layers[0].detail.startswith("4 bits")
    file = to_tflite(qat, "int8", x, recurrent=form)
    assert file.integer_only
    kernels = [w for w in model.get_weights() if w.ndim == 2 and w.shape[0] != 2]
    assert file.four_bit_weights == sum(w.size for w in kernels)
    engines = ["xnnpack", "reference", "tflm"]
    for engine in engines if importlib.util.find_spec("tflite_micro") else engines[:2]:
        assert_near(file, qat, x, CALIBRATED, engine)


def test_the_fused_kernel_has_no_4_bits():
    model = tf_keras.Sequential([tf_keras.Input((6, 4)), tf_keras.layers.LSTM(5, name="memory")])
    x = np.random.default_rng(0).normal(size=(64, 6, 4)).astype("float32")
    qat = calibrate(quantize_aware(model, bits=4), x)
    with pytest.raises(UnsupportedError, match="fused kernel has no weights of 4 bits.*memory"):
        to_tflite(qat, "int8", x, recurrent="fused")
    assert "UNIDIRECTIONAL_SEQUENCE_LSTM" not in to_tflite(qat, "int8", x).ops


def test_weights_are_packed_and_the_file_agrees(package):
    model, qat, x = made(package, bits=4)
    file, wide = to_tflite(qat, "int8"), to_tflite(made(package)[1], "int8")
    assert file.integer_only
    assert kinds_of(file) == {
        (name, "int4") for name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    }
    narrow = [
        w.size for la in model.layers for w in map(np.asarray, la.get_weights()) if w.ndim > 1
        and la.name != "transposed"
    ]  # fmt: skip
    assert file.four_bit_weights == sum(narrow) and wide.four_bit_weights == 0
    assert wide.weight_bytes - file.weight_bytes >= sum(narrow) // 2 - 8
    assert f"{sum(narrow):,} weights of 4 bits" in file.describe()
    assert_near(file, qat, x)


def test_it_computes_the_same_as_with_its_weights_in_8_bits():
    _, qat, x = made(tf_keras, bits=4)
    file = to_tflite(qat, "int8")
    wide = TFLiteModel(widened(file))
    assert wide.four_bit_weights == 0 and wide.weight_bytes > file.weight_bytes
    if importlib.util.find_spec("tflite_micro"):  # XNNPACK rounds once in 8 bits, twice in 4
        pair = (one.predict(x[:8], engine="tflm") for one in (wide, file))
        np.testing.assert_array_equal(*pair)
    # The reference kernels, by which layers are compared, run it so.
    errors = verify(file, qat, x, layers=True).layers
    assert 4 in {row.weight_bits for row in errors}
    assert {"conv", "depthwise", "hidden", "head"} <= {row.layer for row in errors.rows}


OPERATORS = {
    "CONV_2D": "Conv2D",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2D",
    "FULLY_CONNECTED": "Dense",
}
ENGINES = ["xnnpack", "builtin", "reference", "tflm"]


def told(engine, operator) -> str:
    """Return what the table in the documentation says."""
    lines = (ROOT / "docs/quantization.md").read_text("utf-8").splitlines()
    (row,) = [line for line in lines if line.startswith(f"| `{operator}`")]
    return row.strip("|").split("|")[1 + ENGINES.index(engine)].strip()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("operator", OPERATORS)
def test_engines_run_what_the_documentation_says(operator, engine):
    name = OPERATORS[operator]
    if engine == "tflm":
        pytest.importorskip("tflite_micro")
    tf_keras.utils.set_random_seed(0)
    shape = (12,) if name == "Dense" else SHAPE
    model = tf_keras.Sequential([tf_keras.Input(shape), LAYERS[name](tf_keras.layers)])
    x = np.random.default_rng(0).normal(size=(40, *shape)).astype("float32")
    qat = calibrate(quantize_aware(model, bits=4), x)
    file = to_tflite(qat, "int8")

    def run():
        if engine == "builtin":  # for times only
            profile(file, engine=engine, runs=3)
        else:
            assert_near(file, qat, x, ONE, engine)

    if told(engine, operator) == "runs":
        run()
    else:
        assert told(engine, operator) == "refuses"
        with pytest.raises(TfkdError, match=operator):
            run()


def test_a_microcontroller_runs_it():
    pytest.importorskip("tflite_micro")
    _, qat, x = made(tf_keras, bits=4)
    file = to_tflite(qat, "int8", micro=True)
    assert_near(file, qat, x[:8], engine="tflm")


def test_bundles_and_reports_say_so(tmp_path):
    _, qat, x = made(tf_keras, bits=4)
    file = to_tflite(qat, "int8")
    bundle = android_bundle(file, tmp_path / "android", "net", x=x[:4])
    readme = (bundle.folder / "README.md").read_text()
    assert all("integers, weights of 4 bits" in text for text in (bundle.describe(), readme))
    entry = ModelEntry.of_file("student", "int8", file, verify(file, qat, x))
    report = Report("classification", {}, (entry,))
    page = write_report(report, tmp_path)[1].read_text()
    for text in (str(report), page):
        assert "in 4 bits" in text and f"{file.four_bit_weights:,}" in text
    assert f"integers only · {file.four_bit_weights:,} weights of 4 bits" in page


def test_the_graph_rounds_to_the_grid_of_the_file():
    _, qat, _ = made(tf_keras, bits=4)
    file = to_tflite(qat, "int8")
    wrapper = qat.get_layer("quant_conv")
    kernel, quantizer, held = wrapper._weight_vars[0]
    rounded = np.asarray(quantizer(kernel, False, weights=held))
    for channel in range(rounded.shape[-1]):
        weights = kernel.numpy()[..., channel]
        # The end of the grid that leaves the least sum of squares, in steps of a twentieth.
        tried = [np.abs(weights).max() / 7 * share for share in np.arange(1, 0.39, -0.05)]
        grids = [np.clip(np.rint(weights / step), -7, 7) * step for step in tried]
        want = min(grids, key=lambda grid: ((grid - weights) ** 2).sum())
        np.testing.assert_allclose(rounded[..., channel], want, rtol=1e-5, atol=1e-7)
        assert len(np.unique(rounded[..., channel].round(6))) <= 15
    weights = {tensor.name: tensor for tensor in tfkd.sparsity(file).tensors}
    (conv,) = [tensor for name, tensor in weights.items() if "conv/" in name]
    assert conv.distinct <= 15


def test_what_has_no_kernel_keeps_8_bits_and_is_named():
    _, qat, _ = made(tf_keras, bits=4)
    said = {layer.name: layer.detail for layer in describe(qat).layers}
    assert said["conv"].startswith("4 bits; kernel per channel")
    assert said["hidden"].startswith("4 bits; kernel per tensor")
    assert said["transposed"].startswith("8 bits: fewer are not offered here")
    assert "bits" not in said["norm"] and "bits" not in said["relu"]


def test_a_layer_that_was_named_and_has_no_kernel_is_told():
    model = net(keras)
    with pytest.warns(UserWarning, match="'transposed' keep 8 bits: there is no kernel for 4"):
        quantize_aware(model, bits={"conv|transposed|relu": 4})


def test_what_4_bits_cost_is_told():
    qat, x = made(tf_keras, bits=4)[1:]
    (note,) = to_tflite(qat, "int8").notes
    assert "4 of them run in slower kernels on a phone" in note
    (note,) = to_tflite(qat, "int8", micro=True).notes
    largest = max(n for sizes in export_form.narrow_layers(qat).values() for n in sizes)
    assert f"up to {largest:,} bytes more than with 8 bits" in note
    dense = made(tf_keras, bits={"hidden": 4, "head": 4})[1]
    file = to_tflite(dense, "int8")
    assert file.four_bit_weights and file.notes == ()
    # XNNPACK names its own operators otherwise.
    slow = [row.op for row in profile(to_tflite(qat, "int8"), x[:1]).rows if "CONV_2D" in row.op]
    assert sorted(slow) == ["CONV_2D", "CONV_2D", "DEPTHWISE_CONV_2D", "DEPTHWISE_CONV_2D"]
    wide = to_tflite(made(tf_keras)[1], "int8")
    assert not any("CONV_2D" in row.op for row in profile(wide, x[:1]).rows)


def test_bits_by_pattern_and_back():
    model, qat, x = made(keras, bits={"conv|hidden": 4, "head": 8})
    said = {layer.name: layer.detail for layer in describe(qat).layers}
    assert {name for name, text in said.items() if text.startswith("4 bits")} == {"conv", "hidden"}
    file = to_tflite(qat, "int8")
    assert {("CONV_2D", "int4"), ("FULLY_CONNECTED", "int4"), ("FULLY_CONNECTED", "int8")} < (
        kinds_of(file)
    )
    assert_near(file, qat, x)
    stripped = strip_quantization(qat, model)
    for got, want in zip(stripped.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(got, want)


def small(*layers, inputs=(5,)):
    tf_keras.utils.set_random_seed(0)
    model = tf_keras.Sequential([tf_keras.Input(inputs), *layers])
    return model, np.random.default_rng(0).normal(size=(40, *inputs)).astype("float32")


def test_a_bias_is_exact_where_all_weights_are_zero():
    model, x = small(tf_keras.layers.Dense(3))
    model.set_weights([np.zeros((5, 3)), np.array([0.1, -0.2, 0.3])])
    qat = calibrate(quantize_aware(model, bits=4), x)
    assert_near(to_tflite(qat, "int8"), qat, x, (0.01, 0.01))
    model, x = small(tf_keras.layers.Conv2D(4, 3), inputs=SHAPE)
    kernel, bias = model.get_weights()
    kernel[..., 1] = 0
    model.set_weights([kernel / 100, bias + np.array([0.5, -0.7, 0.3, 0.1])])
    qat = calibrate(quantize_aware(model, bits=4), 100 * x)
    assert_near(to_tflite(qat, "int8"), qat, 100 * x, ONE)


def test_equal_weights_of_two_layers_are_packed_once():
    inputs = tf_keras.Input((5,))
    first, second = (tf_keras.layers.Dense(3, name=name) for name in "ab")
    model = tf_keras.Model(inputs, [first(inputs), second(inputs)])
    second.set_weights(first.get_weights())
    x = np.random.default_rng(0).normal(size=(40, 5)).astype("float32")
    file = to_tflite(calibrate(quantize_aware(model, bits=4), x), "int8")
    assert file.integer_only and file.four_bit_weights == 15


@pytest.mark.parametrize(
    ("activation", "between", "bits"),
    [("linear", True, "8 bits"), ("linear", False, "8 bits"), ("relu", False, "4 bits")],
)
def test_dense_keeps_8_bits_where_a_norm_is_folded_into_it(activation, between, bits):
    layers = tf_keras.layers
    dense, last = layers.Dense(3, activation=activation, name="first"), layers.Dense(2)
    passed = [layers.Activation("linear")] if between else []
    model, x = small(dense, *passed, layers.BatchNormalization(), last)
    qat = calibrate(quantize_aware(model, bits=4), x)
    assert describe(qat).layers[0].detail.startswith(bits)
    assert_near(to_tflite(qat, "int8"), qat, x)


def test_dense_before_batch_normalization_keeps_8_bits():
    layers = tf_keras.layers
    stack = [layers.Dense(6, name="d"), layers.BatchNormalization(), layers.Dense(2, name="e")]
    model = tf_keras.Sequential([tf_keras.Input((4,)), *stack])
    x = np.random.default_rng(0).normal(size=(30, 4)).astype("float32")
    model.layers[1].set_weights([w + 0.3 * np.arange(6) for w in model.layers[1].get_weights()])
    qat = calibrate(quantize_aware(model, bits=4), x)
    said = {layer.name: layer.detail for layer in describe(qat).layers}
    assert said["d"].startswith("8 bits") and said["e"].startswith("4 bits")
    assert_near(to_tflite(qat, "int8"), qat, x, ONE)


def test_it_is_trained_saved_and_read_again(tmp_path):
    _, qat, x = made(tf_keras, bits=4)
    qat.compile("sgd", "mse", run_eagerly=True)
    qat.fit(x, predicted(qat, x), verbose=0)
    qat.save(tmp_path / "qat.keras")
    from tfkd.loading.models import load_model

    loaded = load_model(tmp_path / "qat.keras")
    np.testing.assert_allclose(predicted(loaded, x), predicted(qat, x), atol=1e-6)
    assert to_tflite(loaded, "int8").four_bit_weights == to_tflite(qat, "int8").four_bit_weights


@pytest.mark.parametrize(
    ("bits", "message"),
    [
        (3, "bits= takes 4 or 8, got 3"),
        ("4", "bits= takes 4 or 8, got '4'"),
        (True, "bits= takes 4 or 8, got True"),
        ({"conv": 2}, "bits= takes 4 or 8, got 2 for 'conv'"),
        ({"konv": 4}, "bits= .*konv.*nearest.*conv"),
    ],
)
def test_other_bits_are_refused(bits, message):
    with pytest.raises(InputError, match=message):
        quantize_aware(net(keras), bits=bits)
