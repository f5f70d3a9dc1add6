"""A layer made bad on purpose is found, and the figures equal NumPy's."""

import json
import math

import keras
import numpy as np
import pytest
import tf_keras
from tiny_models import predicted
from two_ends import INPUTS, OUTPUTS, drawn, forms, reversed_ends, two_ended

from tfkd import translation
from tfkd.errors import InputError
from tfkd.export import to_tflite
from tfkd.export.conversion.to_tflite import float_twin
from tfkd.export.verification.layer_errors import LayerError, LayerErrors, layer_errors
from tfkd.model import graph

# Keras's own names on purpose: Keras 3 numbers them once more while it is traced.
NAMES = [
    "conv2d",
    "conv2d_1",
    "conv2d_2",
    "add",
    "global_average_pooling2d",
    "dense",
]


def net(package):
    """Return a CNN whose first convolution has a channel that is always zero."""
    keras.utils.set_random_seed(0)
    x = inputs = package.Input((8, 8, 1), name="pixels")
    x = package.layers.Conv2D(8, 3, padding="same", activation="relu", name=NAMES[0])(x)
    x = package.layers.Conv2D(8, 3, padding="same", activation="relu", name=NAMES[1])(x)
    y = package.layers.Conv2D(8, 1, name=NAMES[2])(x)
    x = package.layers.GlobalAveragePooling2D(name=NAMES[4])(
        package.layers.Add(name=NAMES[3])([x, y])
    )
    model = package.Model(inputs, package.layers.Dense(3, name=NAMES[5])(x))
    rng = np.random.default_rng(0)
    for layer in model.layers:
        layer.set_weights([rng.normal(size=w.shape) * 0.3 for w in layer.get_weights()])
    kernel, bias = model.get_layer(NAMES[0]).get_weights()
    bias[0] = -1000
    model.get_layer(NAMES[0]).set_weights([kernel, bias])
    return model


def outlier_weights(model, name=NAMES[1]):
    """Give a convolution weights for the dead channel that take its 8 bits from the others."""
    kernel, bias = model.get_layer(name).get_weights()
    kernel[:, :, 0, :] = 1000
    model.get_layer(name).set_weights([kernel, bias])


def outlier_output(model):
    """Give the first convolution a channel that is constant, far from the others, and unread."""
    kernel, bias = model.get_layer(NAMES[0]).get_weights()
    kernel[..., 1], bias[1] = 0, 300
    model.get_layer(NAMES[0]).set_weights([kernel, bias])
    kernel, bias = model.get_layer(NAMES[1]).get_weights()
    kernel[:, :, 1] = 0
    model.get_layer(NAMES[1]).set_weights([kernel, bias])


def lost(square, want):
    """Return the part of the signal that is lost: the definition, in a loop."""
    shares, weights = [], []
    for channel in range(want.shape[-1]):
        variance = want[..., channel].var(dtype="float64")
        error = np.mean(square[..., channel], dtype="float64")
        shares.append(error / (error + variance) if variance else 0.0)
        weights.append(math.sqrt(variance))
    return math.sqrt(np.dot(shares, weights) / sum(weights))


@pytest.fixture
def pixels(rng):
    return rng.normal(size=(48, 8, 8, 1)).astype("float32")


def measured(model, x, **options):
    file = to_tflite(model, "int8", x, **options)
    return file, layer_errors(file, to_tflite(model), x, NAMES)


def file_results(file, tensor, x):
    """Return the values of an inner tensor, dequantized."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=file.data,
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    detail = next(d for d in interpreter.get_tensor_details() if d["name"] == tensor)
    scale, zero = detail["quantization"]
    results = []
    for array in file.input_arrays(x)[0]:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], array[None])
        interpreter.invoke()
        results.append((interpreter.get_tensor(detail["index"]).astype("float32") - zero) * scale)
    return np.concatenate(results)


def rmse(file, model, x):
    return float(np.sqrt(np.mean((file.predict(x, "reference") - predicted(model, x)) ** 2)))


def test_figures_are_what_numpy_says(pixels):
    model = net(keras)
    file, table = measured(model, pixels)
    assert [row.layer for row in table] == ["pixels", *NAMES]
    ops = ["INPUT", "CONV_2D", "CONV_2D", "CONV_2D", "ADD", "MEAN", "FULLY_CONNECTED"]
    assert [row.op for row in table] == ops
    assert table.matched == table.tensors == 6 and table.samples == 32
    # Both ends of the file can be had without the module.
    x = pixels[:32]
    rounded = file.inputs[0].dequantize(file.inputs[0].quantize(x))
    assert table[0].rmse == pytest.approx(np.sqrt(np.mean((rounded - x) ** 2)), rel=1e-4)
    assert table[0].relative_error == pytest.approx(lost((rounded - x) ** 2, x), rel=1e-4)
    assert table[0].relative_error == pytest.approx(table[0].rmse / x.std(), rel=1e-3)
    assert table[0].added == pytest.approx(table[0].relative_error, rel=1e-6)
    # The float values of everything between them from Keras, and what an operation adds to
    # what it was given from the next layer itself.
    inner = keras.Model(model.inputs, [model.get_layer(name).output for name in NAMES])
    want = dict(zip(NAMES, predicted(inner, [x]), strict=True))
    square = (file.predict(x, "reference") - want["dense"]) ** 2
    assert table[-1].rmse == pytest.approx(np.sqrt(square.mean()), rel=1e-3)
    assert table[-1].relative_error == pytest.approx(lost(square, want["dense"]), rel=1e-3)
    for row in table[1:]:
        step = np.full_like(want[row.layer], row.scale**2 / 12)
        assert row.rounding == pytest.approx(lost(step, want[row.layer]), rel=1e-3)
    first = file_results(file, table[1].tensor, x)
    made = model.get_layer("conv2d")(rounded).numpy()
    assert table[1].added == pytest.approx(lost((first - made) ** 2, want["conv2d"]), rel=0.02)
    assert table[1].added < 0.8 * table[1].relative_error
    readers = {
        row.layer: [table.rows[i].layer for i in range(7) if table[i].tensor in row.inputs]
        for row in table
    }
    assert readers["add"] == ["conv2d_1", "conv2d_2"] and readers["conv2d"] == ["pixels"]


def test_what_an_operation_adds_is_measured_on_its_own_inputs(pixels):
    model = net(keras)
    outlier_weights(model)
    _, table = measured(model, pixels)
    rows = {row.layer: row for row in table}
    # The error goes on to the end, but nobody behind the convolution makes any.
    assert rows["dense"].relative_error > 0.3
    for name in NAMES:
        assert (rows[name].added > 0.3) == (name == "conv2d_1")
    # A faithful operation adds about its rounding.
    for name in ("conv2d_2", "global_average_pooling2d"):
        assert rows[name].added < 2 * rows[name].rounding + 0.02


@pytest.mark.parametrize("package", [keras, tf_keras], ids=["keras", "tf_keras"])
def test_the_bad_layer_is_the_worst_and_leaving_it_float_mends_the_file(package, pixels):
    model = net(package)
    outlier_weights(model)
    file, table = measured(model, pixels)
    assert table.worst == "conv2d_1"
    assert table.suggestion().startswith("conv2d_1 adds most of the error (")
    assert "to_tflite(..., skip=['conv2d_1'])" in table.suggestion()
    before = rmse(file, model, pixels)
    mended, table = measured(model, pixels, skip=["conv2d_1"])
    assert rmse(mended, model, pixels) < 0.1 * before
    assert table.matched == table.tensors and table.worst != "conv2d_1"
    assert next(row for row in table if row.layer == "conv2d_1").scale is None
    bits = {row.layer: row.weight_bits for row in table if row.weight_bits is not None}
    assert bits["conv2d_1"] == 32 and bits["conv2d"] == 8
    assert table[0].op == "INPUT" and table[0].weight_bits is None
    assert rmse(to_tflite(model, "int8", pixels, skip=["conv2d"]), model, pixels) > 0.8 * before


def test_a_coarse_output_is_left_float_with_those_that_read_it(pixels):
    model = net(keras)
    outlier_output(model)
    file, table = measured(model, pixels)
    assert table.worst == "conv2d" and table[1].scale > 1
    assert f"a step of its output is {table[1].scale:.3g}, too coarse" in table.suggestion()
    assert "skip=['conv2d', 'conv2d_1']" in table.suggestion()
    before = rmse(file, model, pixels)
    assert rmse(to_tflite(model, "int8", pixels, skip=["conv2d"]), model, pixels) > 0.5 * before
    both = to_tflite(model, "int8", pixels, skip=["conv2d", "conv2d_1"])
    assert rmse(both, model, pixels) < 0.2 * before


def test_values_out_of_the_calibrated_range(pixels):
    model = net(keras)
    file = to_tflite(model, "int8", pixels)
    table = layer_errors(file, to_tflite(model), pixels * 4, NAMES)
    info, x = file.inputs[0], pixels[:32] * 4
    clipped = (x > (127 - info.zero_point + 1) * info.scale) | (
        x < (-128 - info.zero_point - 1) * info.scale
    )
    assert table[0].saturated == pytest.approx(clipped.mean()) and clipped.mean() > 0.05
    assert "of its values are clipped; give representative_data" in table.suggestion()


def test_clipping_is_charged_once(rng):
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((4,), name="x"), layers.Dense(6, name="d"), layers.Reshape((2, 3), name="r")]
    )
    x = rng.normal(size=(32, 4)).astype("float32")
    file = to_tflite(model, "int8", x)
    spread = rng.uniform(-1, 1, size=x.shape).astype("float32") * np.abs(x).max()
    table = layer_errors(file, to_tflite(model), spread, ["d", "r"])
    _, dense, reshape = table
    assert dense.saturated > 0.01 and dense.added > 0.05
    assert reshape.saturated == dense.saturated and reshape.added < 1e-6


def test_layers_of_nested_models(rng, pixels):
    layers = keras.layers
    inside = [keras.Input((8, 8, 1)), layers.Conv2D(2, 3, name="conv"), layers.ReLU(name="act")]
    inputs = keras.Input((8, 8, 1), name="pixels")
    x = layers.Flatten(name="flat")(keras.Sequential(inside, name="backbone")(inputs))
    model = keras.Model(inputs, layers.Dense(2, name="head")(x))
    names = [name for name, _ in graph.walk(model).layers]
    for lowered in (model, translation.translate(model)):  # which is flat
        file = to_tflite(lowered, "int8", pixels)
        table = layer_errors(file, to_tflite(lowered), pixels, names)
        assert [row.layer for row in table] == ["pixels", "backbone/conv", "flat", "head"]
    shown = layer_errors(file, to_tflite(lowered), pixels, {name: name[-4:] for name in names})
    assert [row.layer for row in shown[1:]] == ["conv", "flat", "head"]


def test_other_formats_and_recurrent_layers(rng):
    inputs = keras.Input((3, 3), name="x")
    model = keras.Model(inputs, keras.layers.Dense(2, name="out")(keras.layers.GRU(24)(inputs)))
    x = rng.normal(size=(20, 3, 3)).astype("float32")
    names = [name for name, _ in graph.walk(model).layers]
    for format in ("int8", "int16x8"):
        table = layer_errors(to_tflite(model, format, x), float_twin(model, format), x, names)
        assert table.matched >= 0.9 * table.tensors
        assert table[-1].layer == "out"
        assert table[-1].relative_error < {"int8": 0.1, "int16x8": 0.02}[format]
    dynamic = layer_errors(to_tflite(model, "dynamic"), to_tflite(model), x, names)
    assert all(row.scale is None and row.saturated == 0 for row in dynamic)
    assert "leave it float" not in dynamic.suggestion()


def test_several_inputs_in_any_order(rng):
    a, b = keras.Input((4,), name="zebra"), keras.Input((2,), name="ape")
    merged = keras.layers.Concatenate(name="cat")([a, b])
    model = keras.Model([a, b], keras.layers.Dense(3, name="d")(merged))
    x = {name: rng.normal(size=(30, n)).astype("float32") for name, n in (("zebra", 4), ("ape", 2))}
    file, twin = to_tflite(model, "int8", x), to_tflite(model)
    table = layer_errors(file, twin, x, ["cat", "d"])
    assert {row.layer for row in table} == {"zebra", "ape", "cat", "d"}
    assert table[-1].relative_error < 0.05
    in_order = [x[info.name] for info in file.inputs]
    assert layer_errors(file, twin, in_order, ["cat", "d"]) == table


def test_equal_inputs_are_not_crossed(rng):
    model, x = two_ended(keras), drawn(rng)
    file, twin = to_tflite(model, "int8", x), to_tflite(model)
    found = [
        layer_errors(file, reference, given, list(OUTPUTS))
        for reference in (twin, reversed_ends(twin))
        for given in forms(x, INPUTS).values()
    ]
    assert found[0].samples == 24 and max(found[0].by_layer().values()) < 0.05
    assert all(table == found[0] for table in found)
    with pytest.raises(InputError, match="lacks 'z'; it has 'a'"):
        layer_errors(file, twin, {"a": x[1]}, list(OUTPUTS))


def test_the_same_file_has_no_errors(pixels):
    file = to_tflite(net(keras))
    table = layer_errors(file, file, pixels, NAMES, samples=3)
    assert table.samples == 3
    assert {row.relative_error for row in table} == {0.0} and table.worst is None
    assert table.suggestion() == "No layer adds an error."


def row(layer, added, **more):
    values = {"op": "CONV_2D", "tensor": f"{layer}/x", "scale": 0.1, "saturated": 0.0}
    values |= {"rmse": added, "relative_error": added, "rounding": 0.0, "inputs": ()}
    return LayerError(layer=layer, added=added, **(values | more))


def test_layers_of_several_operations_add_up():
    rows = (row("a", 0.3), row("b", 0.4), row("a", 0.4, tensor="a/y"), row("c", None))
    table = LayerErrors(rows, 4, 5, 8)
    assert table.by_layer() == {"a": pytest.approx(0.5), "b": pytest.approx(0.4), "c": 0.0}
    assert table.worst == "a" and "a adds most of the error (0.5 of 0.9)" in table.suggestion()
    text = table.describe()
    assert len(text.splitlines()) == 7 and "4 of 5 results compared on 8 examples." in text
    plain = json.loads(json.dumps(table.to_json(), allow_nan=False))
    assert plain["worst"] == "a" and plain["rows"][3]["added"] is None


def test_bad_input(pixels):
    file = to_tflite(net(keras))
    names = []
    with pytest.raises(InputError, match="reference must be a TFLiteModel, got bytes"):
        layer_errors(file, b"", pixels, names)
    with pytest.raises(InputError, match="samples must be an integer"):
        layer_errors(file, file, pixels, names, samples=0)
    with pytest.raises(InputError, match=r"takes arrays of shape \(examples, 8, 8, 1\)"):
        layer_errors(file, file, pixels[..., 0], names)
    inputs = keras.Input((8, 8, 1), name="pixels")
    flat = to_tflite(keras.Model(inputs, keras.layers.Flatten()(inputs)))
    with pytest.raises(InputError, match="No result of the file was found"):
        layer_errors(file, flat, pixels, names)
    other = to_tflite(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]))
    with pytest.raises(InputError, match="give files of one model"):
        layer_errors(file, other, pixels, names)
