"""Quantization-aware training: what it rounds, what it refuses, what it leaves alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from ai_edge_litert.interpreter import Interpreter
from tiny_models import cnn, dense, predicted

import tfkd.quantization
from tfkd import quantize_aware, strip_quantization
from tfkd.errors import ConversionError, InputError, UnsupportedError
from tfkd.export import to_tflite
from tfkd.loading.models import load_model
from tfkd.model import backends
from tfkd.quantization import calibrate, describe, export_form, quantizers

L = keras.layers


def images(rng, n=64):
    return rng.normal(size=(n, 8, 8, 1)).astype("float32")


def trained(qat, x, y, epochs=2):
    qat.compile("adam", "mse")
    qat.optimizer.build(qat.trainable_variables)  # in `fit` it would be traced twice for this
    qat.fit(x, y, epochs=epochs, batch_size=16, verbose=0)
    return qat


def wrapper(qat, name):
    return next(layer for layer in qat.layers if layer.name == f"quant_{name}")


def small(activation="relu"):
    """Return a model of four named layers."""
    i = keras.Input((8, 8, 1))
    x = L.Conv2D(4, 3, activation=activation, name="first")(i)
    x = L.Conv2D(4, 3, activation="relu", name="middle")(x)
    return keras.Model(i, L.Dense(3, name="head")(L.Flatten(name="flat")(x)))


def test_the_forward_pass_rounds_weights_to_255_levels_a_channel(qat):
    (kernel, quantizer, variables), *_ = wrapper(qat, "logits")._weight_vars
    rounded = np.asarray(quantizer(kernel, training=False, weights=variables))
    steps = rounded / (np.abs(rounded).max(axis=0) / 127)
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
    assert not np.allclose(kernel, rounded, atol=1e-6)


def test_qat_under_the_teacher_keeps_the_accuracy(digits, student, qat):
    def accuracy(model):
        return np.mean(predicted(model, digits.test.x).argmax(-1) == digits.test.y)

    assert accuracy(qat) > accuracy(student) - 0.02


def test_the_model_given_is_not_changed(package, rng):
    model = cnn(package)
    before = model.get_weights()
    names = [layer.name for layer in model.layers]
    trained(quantize_aware(model), images(rng), np.ones((64, 10)))
    assert [layer.name for layer in model.layers] == names
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_it_gives_an_uncompiled_tf_keras_model(student):
    quantized = quantize_aware(student)
    assert isinstance(quantized, tf_keras.Model)
    assert quantized.optimizer is None


def test_ranges_follow_the_data_from_the_first_batch(rng):
    x = 0.01 * rng.random((32, 4)).astype("float32")
    qat = quantize_aware(dense(keras))
    model = dense(keras)
    model.set_weights(strip_quantization(qat, model).get_weights())
    before = predicted(qat, x)
    assert np.abs(before - predicted(model, x)).max() < 1e-3  # nothing is clipped yet
    trained(qat, x, np.zeros((32, 3)), epochs=1)
    held = next(la for la in qat.layers if la.name == "round_x").quantizer_vars
    assert float(held["min_var"]) == 0.0
    np.testing.assert_allclose(float(held["max_var"]), x.max(), rtol=0.1)


def test_a_layer_keeps_its_gradient(rng):
    import tensorflow as tf

    qat = quantize_aware(dense(keras))
    x = rng.normal(size=(8, 4)).astype("float32")
    qat(x, training=True)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(qat(x, training=False) ** 2)
    kernel, bias = tape.gradient(loss, qat.trainable_variables)
    assert float(tf.reduce_min(tf.abs(kernel))) > 0 and float(tf.reduce_min(tf.abs(bias))) > 0


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_a_confidently_wrong_probability_keeps_its_gradient(activation):
    """The file rounds probabilities to 1/256; training must not, or its logarithm is flat."""
    import tensorflow as tf

    model = dense(keras, activation=activation)
    model.set_weights([np.eye(4, 3) * 40.0 - 20.0, np.zeros(3)])
    qat = quantize_aware(model)
    x, y = np.eye(4, dtype="float32")[:1], tf_keras.utils.to_categorical([1], 3)
    loss = {
        "softmax": tf_keras.losses.CategoricalCrossentropy(),
        "sigmoid": tf_keras.losses.BinaryCrossentropy(),
    }[activation]
    with tf.GradientTape() as tape:
        value = loss(y, qat(x, training=True))
    gradient = tape.gradient(value, qat.trainable_variables)[0]
    assert float(tf.reduce_max(tf.abs(gradient))) > 0.1


def test_skipped_layers_are_float_in_the_file_and_nothing_else_is(rng):
    x = images(rng)
    model = small()
    qat = quantize_aware(model, skip=["mid.*"])
    assert describe(qat).float_layers == ["middle"]
    assert "left out by skip" in str(describe(qat))
    y = predicted(model, x)
    trained(qat, x, y)
    file = to_tflite(qat, "int8", x)
    assert not file.integer_only
    assert len(file.float_tensors) == 4  # what goes in, weights, bias, what comes out
    assert any("middle" in name for name in file.float_tensors)
    assert file.inputs[0].dtype == file.outputs[0].dtype == "int8"
    assert file.ops["DEQUANTIZE"] == file.ops["QUANTIZE"] == 1
    want = predicted(qat, x)
    assert np.abs(file.predict(x) - want).mean() < 0.1 * want.std()
    # The ranges are those of the training, whatever data there are.
    assert file.data == to_tflite(qat, "int8").data == to_tflite(qat, "int8", 0.1 * x).data


def test_a_layer_is_skipped_by_what_it_is_and_not_by_its_name(rng):
    i = keras.Input((8,))
    x = L.Dense(6, activation="relu", name="left_float_a")(i)
    x = L.Dropout(0.1, name="block_drop")(L.Dense(6, activation="relu", name="block_a")(x))
    model = keras.Model(i, L.Dense(3, activation="softmax", name="float_a")(x))
    x = rng.normal(size=(64, 8)).astype("float32")
    qat = tfkd.quantization.calibrate(quantize_aware(model), x)
    assert to_tflite(qat, "int8").integer_only
    for skip, left in (("left_float_a", 1), ("block.*", 1), (["float_a", "block_a"], 2)):
        qat = tfkd.quantization.calibrate(quantize_aware(model, skip=skip), x)
        assert qat.output_names == ["float_a"]
        file = to_tflite(qat, "int8")
        assert file.ops["DEQUANTIZE"] == left
        want = predicted(qat, x)
        assert np.abs(file.predict(x) - want).max() <= 2.01 / 256
        stripped = strip_quantization(qat, model)
        for a, b in zip(stripped.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_layer_with_a_config_of_its_own_keeps_it(rng):
    module = "tensorflow_model_optimization.python.core.quantization.keras.default_8bit"
    configs = pytest.importorskip(f"{module}.default_8bit_quantize_configs")
    config = configs.Default8BitOutputQuantizeConfig()
    backends.tfmot()
    qat = quantize_aware(small(), per_layer={"head": config})
    assert wrapper(qat, "head").quantize_config is config
    assert [la.detail for la in describe(qat).layers if la.name == "head"] == [
        "by the given QuantizeConfig"
    ]
    with pytest.raises(
        InputError, match=r"per_layer\['head'\] must be a .*QuantizeConfig, got str"
    ):
        quantize_aware(small(), per_layer={"head": "int4"})


def test_a_layer_with_a_config_of_its_own_has_its_weights_in_the_file(rng):
    module = "tensorflow_model_optimization.python.core.quantization.keras.default_8bit"
    configs = pytest.importorskip(f"{module}.default_8bit_quantize_registry")
    config = configs.Default8BitQuantizeConfig(["kernel"], ["activation"], False)
    backends.tfmot()
    model = small()
    qat = quantize_aware(model, per_layer={"head": config})
    x = rng.normal(size=(64, *model.input_shape[1:])).astype("float32")
    calibrated = calibrate(qat, x)
    want = predicted(calibrated, x)
    got = to_tflite(calibrated, "int8").predict(x)
    assert np.abs(got - want).mean() < 0.1 * want.std()


def test_a_pattern_that_matches_nothing_names_the_nearest():
    with pytest.raises(
        InputError, match="'midle' matches no layer; the nearest names are 'middle'"
    ):
        quantize_aware(small(), skip=["midle"])
    with pytest.raises(InputError, match="is not a regular expression"):
        quantize_aware(small(), skip=["("])


def test_the_name_of_a_nested_model_matches_no_layer():
    inner = keras.Sequential([keras.Input((4,)), L.Dense(3, name="a")], name="inner")
    model = keras.Sequential([keras.Input((4,)), inner, L.Dense(2)])
    with pytest.raises(InputError, match=r"'inner/\.\*' matches the layers of the nested model"):
        quantize_aware(model, skip="inner")
    assert len(export_form.float_layers(quantize_aware(model, skip="inner/.*"))) == 1


def test_the_report_names_every_layer():
    i = keras.Input((8, 8, 3))
    x = L.Rescaling(2.0, 1.0, name="scale")(i)
    x = L.SeparableConv2D(4, 3, name="separable")(x)
    report = describe(quantize_aware(keras.Model(i, L.Flatten(name="flat")(x))))
    assert [(la.name, la.how) for la in report.layers] == [
        ("scale", "rewritten"),
        ("separable", "rewritten"),
        ("flat", "int8"),
    ]
    with pytest.raises(InputError, match="does not come from quantize_aware"):
        describe(keras.Sequential([keras.Input((2,)), L.Dense(1)]))


def test_everything_without_a_rule_is_named_at_once():
    x = keras.Input((8, 8))
    y = L.UnitNormalization(name="groups")(x)
    y = L.Softmax(axis=1, name="other axis")(y)
    y = L.Dense(3, activation="softsign", name="d")(y)
    with pytest.raises(UnsupportedError) as error:
        quantize_aware(keras.Model(x, y))
    assert "'groups' (UnitNormalization) has no rule" in str(error.value)
    with pytest.raises(UnsupportedError) as error:
        quantize_aware(keras.Model(x, y), skip="groups")
    for part in ("'other_axis'", "over an axis other", "'d' (Dense)", "'softsign'", "skip=["):
        assert part in str(error.value)
    quantize_aware(keras.Model(x, y), skip=["groups", "other axis", "d"])


def test_models_without_a_graph_are_refused():
    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(UnsupportedError, match="subclassed"):
        quantize_aware(Own())
    with pytest.raises(InputError, match="not built"):
        quantize_aware(keras.Sequential([L.Dense(2)]))


def test_an_untrained_model_is_not_converted():
    with pytest.raises(InputError, match="has not been trained: the ranges of 4 activations"):
        to_tflite(quantize_aware(small()), "int8")


def test_calibration_is_post_training_int8_of_what_the_converter_leaves_float(rng):
    i = keras.Input((6, 8))
    x = L.Dropout(0.5)(L.ELU()(L.LayerNormalization()(L.Dense(8)(i))))
    model = keras.Model(i, L.Dense(3)(L.Flatten()(x)))
    x = rng.normal(size=(200, 6, 8)).astype("float32")
    with pytest.raises(ConversionError, match="left .* tensors .*in floating point"):
        to_tflite(model, "int8", x)
    qat = tfkd.quantization.calibrate(quantize_aware(model), x)
    file = to_tflite(qat, "int8")
    want = predicted(model, x)
    assert file.integer_only
    assert np.abs(file.predict(x) - want).mean() < 0.1 * want.std()
    for layer in qat.layers:
        if layer.name == "round_dense":
            assert float(layer.quantizer_vars["max_var"]) > 1.0
    with pytest.raises(InputError, match="empty"):
        tfkd.quantization.calibrate(qat, x[:0])
    with pytest.raises(InputError, match="does not come from"):
        tfkd.quantization.calibrate(model, x)


def test_stripping_gives_the_float_model_its_trained_weights(package, rng):
    """Also through rewritten layers, nested models and shared layers."""
    layers = package.layers
    i = package.Input((8, 8, 2))
    inner = package.Sequential(
        [package.Input((6, 6, 4)), layers.SeparableConv2D(5, 3, name="separable")], name="inner"
    )
    x = layers.Conv2D(4, 3, use_bias=False, name="c")(layers.BatchNormalization(name="stray")(i))
    x = inner(layers.ReLU()(layers.BatchNormalization(name="bn")(x)))
    x = layers.LayerNormalization(name="norm")(x)
    shared = layers.Dense(5, name="shared")
    x = layers.PReLU(shared_axes=[1, 2], name="p")(shared(shared(x)))
    model = package.Model(i, layers.Dense(2, name="head")(layers.Flatten()(x)))
    model.set_weights(
        [
            rng.uniform(0.1, 1.0, w.shape) if w.ndim == 1 else rng.normal(size=w.shape)
            for w in model.get_weights()
        ]
    )
    same = strip_quantization(quantize_aware(model), model)
    assert type(same) is type(model)
    for a, b in zip(model.get_weights(), same.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    x = rng.normal(size=(64, 8, 8, 2)).astype("float32")
    qat = trained(quantize_aware(model), x, np.zeros((64, 2)))
    after = strip_quantization(qat, model)
    moved = [(a != b).any() for a, b in zip(model.get_weights(), after.get_weights(), strict=True)]
    assert all(moved), [w.name for w, m in zip(model.weights, moved, strict=True) if not m]
    want = predicted(qat, x)
    assert np.abs(predicted(after, x) - want).mean() < 0.2 * want.std()


def test_stripping_with_another_model_is_refused():
    with pytest.raises(InputError, match="not made from this model|different shapes"):
        strip_quantization(quantize_aware(small()), cnn(keras))


def test_frozen_batch_normalization_does_not_move(rng):
    model = cnn(keras)
    qat = quantize_aware(model, freeze_batch_norm=True)
    trained(qat, images(rng), np.ones((64, 10)))
    for layer in qat.layers:
        if type(layer).__name__ == "BatchNormalization":
            for got, want in zip(
                layer.get_weights(), model.get_layer(layer.name).get_weights(), strict=True
            ):
                np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("preserve", ["sparsity", "clusters"])
def test_pruned_and_clustered_weights_stay_so(preserve, rng):
    keras.utils.set_random_seed(0)
    model = small()
    model.set_weights([np.round(w * 4) / 4 for w in model.get_weights()])
    x = images(rng)
    kernel = model.get_layer("middle").get_weights()[0]
    plain = trained(quantize_aware(model), x, np.ones((64, 3)))
    kept = trained(quantize_aware(model, preserve=preserve), x, np.ones((64, 3)))
    float_kernel = strip_quantization(kept, model).get_layer("middle").get_weights()[0]
    assert not np.allclose(float_kernel, kernel)  # it was trained
    rounded = {
        name: export_form.freeze(qat).get_layer("quant_middle").get_weights()[0]
        for name, qat in (("plain", plain), ("kept", kept))
    }
    if preserve == "sparsity":
        assert np.mean(kernel == 0) > 0.1
        assert (rounded["kept"][kernel == 0] == 0).all()
        assert not (rounded["plain"][kernel == 0] == 0).all()
    else:

        def clusters(weights):
            return [len(np.unique(weights[..., channel])) for channel in range(4)]

        assert clusters(rounded["kept"]) <= clusters(kernel)
        assert sum(clusters(rounded["plain"])) > 2 * sum(clusters(kernel))
    with pytest.raises(InputError, match="preserve must be"):
        quantize_aware(model, preserve="everything")


RECURRENT = {
    "LSTM": lambda: L.LSTM(6),
    "LSTM sequences": lambda: L.LSTM(6, return_sequences=True),
    "GRU": lambda: L.GRU(6),
    "SimpleRNN": lambda: L.SimpleRNN(6),
    "Bidirectional": lambda: L.Bidirectional(L.LSTM(4)),
}


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_weights_reach_the_file_bit_for_bit(name, rng):
    keras.utils.set_random_seed(0)
    i = keras.Input((5, 4))
    model = keras.Model(i, L.Dense(3)(RECURRENT[name]()(i)))
    x = rng.normal(size=(96, 5, 4)).astype("float32")
    y = np.broadcast_to(x[:, :, :3].sum(1, keepdims=True), (96, 5, 3))
    y = y if name == "LSTM sequences" else y[:, 0]
    qat = quantize_aware(model)
    qat.compile("adam", "mse")
    history = qat.fit(x, y, epochs=4, batch_size=16, verbose=0).history["loss"]
    assert history[-1] < history[0]
    form = "unrolled" if name in ("GRU", "SimpleRNN") else "fused"
    file = to_tflite(qat, "int8", x, recurrent=form)
    assert file.integer_only
    want = predicted(qat, x)
    assert np.abs(file.predict(x) - want).mean() < 0.15 * want.std()

    interpreter = Interpreter(model_content=file.data)
    interpreter.allocate_tensors()
    stored = []
    for detail in interpreter.get_tensor_details():
        scales = detail["quantization_parameters"]["scales"]
        if detail["dtype"] == np.int8 and len(detail["shape"]) == 2 and scales.size:
            try:
                values = interpreter.tensor(detail["index"])().astype("float32")
            except ValueError:
                continue  # an activation without memory yet
            stored.append(values * (scales[:, None] if scales.size > 1 else scales[0]))
    layer = next(
        la
        for la in export_form.freeze(qat, ranges=False).layers
        if type(la).__name__ in name.split()
    )
    # Columns that the file keeps in tensors of their own.
    kept = {"GRU": [12], "SimpleRNN": []}.get(name, 4)
    compared = 0
    for variable in layer.weights:
        if "kernel" not in variable.name:
            continue
        for part in np.split(variable.numpy(), kept, axis=1):
            near = [np.abs(s - part.T).max() for s in stored if s.shape == part.T.shape]
            assert min(near) <= 1e-6 * np.abs(part).max()
            compared += 1
    assert compared == {"GRU": 4, "SimpleRNN": 2, "Bidirectional": 16}.get(name, 8)


def test_inputs_and_outputs_keep_names_and_structure(rng):
    keras.utils.set_random_seed(2)
    a, b = keras.Input((4,), name="a"), keras.Input((6,), name="b")
    shared = L.Dense(5, activation="relu")
    x = L.Concatenate()([shared(a), L.Dense(5)(b)])
    outputs = {
        "kind": L.Dense(3, activation="softmax", name="kind")(x),
        "size": L.Dense(1, name="size")(shared(L.Dense(4)(x))),
    }
    model = keras.Model({"a": a, "b": b}, outputs)
    x = {name: rng.random((64, n)).astype("float32") for name, n in (("a", 4), ("b", 6))}
    y = {"kind": rng.integers(0, 3, 64), "size": np.ones((64, 1))}
    qat = quantize_aware(model)
    assert (qat.input_names, qat.output_names) == (["a", "b"], ["kind", "size"])
    qat.compile("adam", {"kind": "sparse_categorical_crossentropy", "size": "mse"})
    qat.fit(x, y, epochs=1, verbose=0)
    file = to_tflite(qat, "int8")
    assert {info.name for info in file.inputs} == {"a", "b"}
    want = predicted(qat, x)
    got = file.predict(x, engine="reference")
    assert set(got) == {"kind", "size"}
    for info in file.outputs:
        assert np.abs(got[info.name] - want[info.name]).max() <= 2.01 * info.scale
    assert set(strip_quantization(qat, model).predict(x, verbose=0)) == {"kind", "size"}


def test_attention_is_left_out_by_skip(rng):
    i = keras.Input((6, 8))
    y = L.Flatten()(L.MultiHeadAttention(2, 4, name="attention")(i, i))
    model = keras.Model(i, L.Dense(2, name="head")(y))
    x = rng.normal(size=(64, 6, 8)).astype("float32")
    with pytest.raises(UnsupportedError, match="'attention' .MultiHeadAttention. has no rule"):
        quantize_aware(model)
    qat = quantize_aware(model, skip=["attention"])
    want = predicted(model, x)
    assert np.abs(predicted(qat, x) - want).mean() < 0.05 * want.std()
    trained(qat, x, want)
    file = to_tflite(qat, "int8", x)
    want = predicted(qat, x)
    assert file.float_tensors and "FULLY_CONNECTED" in file.ops
    assert np.abs(file.predict(x) - want).mean() < 0.1 * want.std()


@pytest.mark.parametrize("move", ["MaxPooling2D", "UpSampling2D", "ZeroPadding2D", "global"])
def test_readers_of_one_value_may_have_ranges_of_their_own(move, rng):
    """The converter wants one scale for all that such a layer touches."""
    keras.utils.set_random_seed(1)
    i = keras.Input((8, 8, 1))
    x = L.Conv2D(4, 3, padding="same")(i)
    if move == "global":
        x = L.GlobalMaxPooling2D()(x)
        near, far = L.Dense(4)(x), L.Dense(4)(x) * 9.0
    else:
        x = getattr(L, move)()(x)
        near, far = L.Conv2D(4, 1)(x), L.Conv2D(4, 1)(x) * 9.0
    model = keras.Model(i, [L.Concatenate()([x, near]), L.Concatenate()([x, far])])
    data = images(rng)
    qat = tfkd.quantization.calibrate(quantize_aware(model), data)
    file = to_tflite(qat, "int8")
    assert file.integer_only
    for info, got, want in zip(file.outputs, file.predict(data), predicted(qat, data), strict=True):
        assert np.abs(got - want).max() / info.scale < 2.01


def test_a_bias_of_equal_numbers_has_a_scale_for_each_channel(rng):
    """A detector's head begins so; the converter would round it by the first channel's scale."""
    layer = L.Conv2D(4, 1, bias_initializer=keras.initializers.Constant(-4.6))
    model = keras.Sequential([keras.Input((8, 8, 1)), layer])
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel * [0.1, 0.5, 1.0, 4.0], bias])
    data = images(rng)
    qat = tfkd.quantization.calibrate(quantize_aware(model), data)
    file = to_tflite(qat, "int8")
    assert np.abs(file.predict(data) - predicted(qat, data)).max() / file.outputs[0].scale < 1.01


def test_a_concatenation_clips_as_the_file_does(rng):
    """The file has one rounding there; one before it would clip outliers of training."""
    keras.utils.set_random_seed(0)
    i = keras.Input((8, 8, 1))
    x = L.Conv2D(3, 1)(i)
    y = L.Concatenate()([L.LeakyReLU()(x), L.Activation("gelu")(L.Conv2D(3, 1)(x * 4.0))])
    model = keras.Model(i, L.Concatenate()([y, L.Conv2D(2, 1)(x)]))
    data = images(rng)
    qat = tfkd.quantization.calibrate(quantize_aware(model), data / 4.0)
    file = to_tflite(qat, "int8")
    assert np.abs(file.predict(data) - predicted(qat, data)).max() / file.outputs[0].scale < 2.01


def test_places_beside_the_values_they_are_of(rng):
    i = keras.Input((8, 8, 1))
    x = L.Conv2D(5, 3)(i)
    model = keras.Model(i, [x, keras.ops.argmax(x, -1), keras.ops.argmin(x, 2)])
    data = images(rng)
    qat = tfkd.quantization.calibrate(quantize_aware(model), data)
    for file in (to_tflite(qat, "int8"), to_tflite(model, "int8", data)):
        values, most, least = file.predict(data)
        assert file.integer_only
        np.testing.assert_array_equal(most, values.argmax(-1))
        np.testing.assert_array_equal(least, values.argmin(2))
    for got, want in zip(to_tflite(model).predict(data), predicted(model, data), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize("shared", [False, True])
def test_tokens_of_a_float_input(shared, rng):
    """Keras's default dtype: the file takes int32, since 256 levels hold no vocabulary."""
    i = keras.Input((6,))
    x = L.Flatten()(L.Embedding(300, 4)(i))
    model = keras.Model(i, L.Dense(2)(L.Concatenate()([x, i]) if shared else x))
    if shared:
        with pytest.raises(UnsupportedError, match=r"Input\(dtype='int32'\)"):
            quantize_aware(model)
        return
    data = rng.integers(0, 300, (40, 6)).astype("float32")
    want = predicted(model, data)
    qat = tfkd.quantization.calibrate(quantize_aware(model), data)
    for file in (to_tflite(qat, "int8"), to_tflite(model, "int8", data)):
        assert file.integer_only and file.inputs[0].dtype == "int32"
        assert np.abs(file.predict(data) - want).max() < 0.05 * np.abs(want).max()


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_bytes_come_in_at_a_scale_of_one(dtype, rng):
    low = -128 if dtype == "int8" else 0
    i = keras.Input((8, 8, 3), dtype=dtype)
    model = keras.Model(i, L.Conv2D(3, 3)(L.Rescaling(1 / 255.0, -low / 255.0)(i)))
    data = rng.integers(low, low + 200, (40, 8, 8, 3)).astype(dtype)  # the ends do not occur
    want = predicted(model, data)
    qat = tfkd.quantization.calibrate(quantize_aware(model), data)
    for file in (to_tflite(qat, "int8"), to_tflite(model, "int8", data)):
        assert file.integer_only
        assert (file.inputs[0].scale, file.inputs[0].zero_point) == (1.0, -128 - low)
        assert np.abs(file.predict(data) - want).max() / file.outputs[0].scale < 4.0
    j = keras.Input((8, 8, 3), dtype="int32")
    wide = keras.Model(j, L.Conv2D(3, 3)(L.Rescaling(1 / 255.0)(j)))
    with pytest.raises(UnsupportedError, match="int32 values.*'uint8'"):
        quantize_aware(wide)


@pytest.mark.parametrize("skip", [(), ("loop",)])
def test_loops_without_an_integer_form_are_refused_before_training(skip, rng):
    """Whether left in floating point or not, calibrating them ends the converter's process."""
    model = keras.Sequential([keras.Input((3, 6, 6, 2)), L.ConvLSTM2D(2, 3, name="loop")])
    message = r"'loop' \(ConvLSTM2D\).*no integer form.*'dynamic'"
    with pytest.raises(UnsupportedError, match=message):
        quantize_aware(model, skip=skip)
    with pytest.raises(UnsupportedError, match=message):
        to_tflite(model, "int8", rng.random((12, 3, 6, 6, 2)))


def test_an_unrolled_loop_is_converted(rng):
    model = keras.Sequential([keras.Input((2, 4, 4, 1)), L.ConvLSTM2D(1, 3, unroll=True)])
    data = rng.normal(size=(32, 2, 4, 4, 1)).astype("float32")
    want = predicted(model, data)
    file = to_tflite(model, "int8", data)
    assert file.integer_only
    assert np.abs(file.predict(data) - want).mean() < 0.05 * want.std()


READERS = {
    "LSTM": lambda la: [la.LSTM(3, name="reader")],
    "Bidirectional": lambda la: [la.Bidirectional(la.GRU(3), name="reader")],
    "pooling": lambda la: [la.GlobalAveragePooling1D(name="reader")],
    "behind others": lambda la: [
        la.Dense(4),
        la.TimeDistributed(la.Dense(3)),
        la.ReLU(),
        la.GlobalAveragePooling1D(name="reader"),
    ],
}


@pytest.mark.parametrize("skip", [(), "source", ["source", "reader"]])
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("package", [keras, tf_keras])
def test_a_model_that_reads_a_mask_is_refused_skipped_or_not(package, reader, skip):
    layers = package.layers
    for source, shape in (
        (layers.Embedding(9, 4, mask_zero=True, name="source"), (6,)),
        (layers.Masking(name="source"), (6, 4)),
    ):
        model = package.Sequential([package.Input(shape), source, *READERS[reader](layers)])
        with pytest.raises(UnsupportedError, match="layer 'reader' .* reads the mask .* carry no"):
            quantize_aware(model, skip=skip)


def test_a_mask_at_an_output_is_refused():
    masked = [keras.Input((6,)), L.Embedding(9, 4, mask_zero=True), L.Dense(2, name="tags")]
    with pytest.raises(UnsupportedError, match="the output 'tags' has a mask, with which losses"):
        quantize_aware(keras.Sequential(masked))


@pytest.mark.filterwarnings("ignore:Layer 'flatten.*' .* was passed an input with a mask")
@pytest.mark.parametrize("package", [keras, tf_keras])
def test_a_mask_that_nothing_reads_is_no_matter(package, rng):
    layers = package.layers
    table = layers.Embedding(9, 4, mask_zero=True)
    steps = layers.TimeDistributed(layers.Dense(3))
    frozen = layers.BatchNormalization(trainable=False)
    inputs = package.Input((6,))
    flat = layers.Flatten()(frozen(steps(table(inputs))))
    mean = keras.ops.mean if package is keras else tf.reduce_mean  # which ends a mask
    model = package.Model(
        inputs, layers.Dense(3)(layers.Concatenate()([flat, mean(table(inputs), 1)]))
    )
    tokens = rng.integers(0, 9, (50, 6)).astype("int32")
    file = to_tflite(tfkd.quantization.calibrate(quantize_aware(model), tokens), "int8")
    want = predicted(model, tokens)
    assert file.integer_only and np.abs(file.predict(tokens) - want).mean() < 0.03 * want.std()


def test_what_has_no_rule_says_why():
    model = keras.Sequential([keras.Input((4,)), L.Lambda(lambda x: x * 2.0, name="code")])
    with pytest.raises(UnsupportedError, match=r"'code' \(Lambda\).*keras.ops"):
        quantize_aware(model)


def test_stateful_recurrence_and_initial_states_are_refused():
    i = keras.Input((5, 4), batch_size=2)
    with pytest.raises(UnsupportedError, match="stateful"):
        quantize_aware(keras.Model(i, L.LSTM(3, stateful=True)(i)))
    state = keras.Input((3,))
    i = keras.Input((5, 4))
    model = keras.Model([i, state], L.GRU(3)(i, initial_state=state))
    with pytest.raises(UnsupportedError, match="further tensors"):
        quantize_aware(model)


@pytest.mark.parametrize("limit", [0.5, 3.0])
def test_a_limit_of_relu_is_in_the_file_of_a_recurrent_model(limit, rng):
    """Its ranges come from data, and the limit was that of a range."""
    keras.utils.set_random_seed(0)
    i = keras.Input((5, 4))
    x = L.ReLU(limit)(L.Dense(6)(i)) + keras.ops.clip(L.Dense(6)(i), 0.0, limit)
    model = keras.Model(i, L.Dense(2)(L.GRU(5)(x)))
    x = (4 * rng.normal(size=(96, 5, 4))).astype("float32")
    want = predicted(model, x)
    qat = tfkd.quantization.calibrate(quantize_aware(model), x)
    with quantizers.unrounded(qat):
        np.testing.assert_allclose(qat(x), want, atol=1e-5)
    file = to_tflite(qat, "int8", x)
    assert np.abs(file.predict(x) - want).mean() < 0.05 * want.std()


@pytest.mark.parametrize("skip", [(), "code"])
def test_a_regularizer_of_activity_keeps_its_penalty(skip, package, tmp_path, rng):
    layers, l1 = package.layers, package.regularizers.L1(0.1)
    package.utils.set_random_seed(0)
    i = package.Input((8, 4))
    y = layers.Conv1D(5, 3, activity_regularizer="l2")(i)
    y = layers.ReLU()(layers.BatchNormalization()(y))
    y = layers.Dense(6, activation="relu", activity_regularizer=l1, name="code")(y)
    model = package.Model(i, layers.GRU(3, activity_regularizer="l1")(y))
    x = rng.normal(size=(32, 8, 4)).astype("float32")

    def penalty(model):
        model(x, training=True)
        return float(sum(map(float, model.losses)))

    want = penalty(model)
    qat = quantize_aware(model, skip=skip)
    np.testing.assert_allclose(penalty(qat), want, rtol=0.03)
    qat.save(tmp_path / "qat.keras")
    np.testing.assert_allclose(penalty(load_model(tmp_path / "qat.keras")), want, rtol=0.03)


def test_a_regularizer_of_activity_leaves_the_file_as_it_is(rng):
    files, x = [], images(rng)
    for regularizer in (None, "l1"):
        keras.utils.set_random_seed(0)
        i = keras.Input((8, 8, 1))
        y = L.Conv2D(4, 3, activity_regularizer=regularizer)(i)
        y = L.MaxPooling2D()(L.ReLU()(L.BatchNormalization()(y)))
        y = L.Dense(3, activity_regularizer=regularizer, activation="softmax", name="out")(y)
        model = keras.Model(i, y)
        qat = tfkd.quantization.calibrate(quantize_aware(model), x)
        assert qat.output_names == ["out"]
        files.append(to_tflite(qat, "int8"))
    assert files[0].ops == files[1].ops
    np.testing.assert_array_equal(*(file.predict(x) for file in files))


def test_a_normalization_without_a_scale_trains_none(package, tmp_path, rng):
    layers = package.layers
    i = package.Input((4, 4, 6))
    y = layers.LayerNormalization(scale=False)(i)
    model = package.Model(i, layers.GroupNormalization(2, scale=False)(y))
    x = rng.normal(size=(64, 4, 4, 6)).astype("float32")
    y = 3.0 * predicted(model, x) + 1.0
    qat = quantize_aware(model)
    qat.compile(tf_keras.optimizers.Adam(0.05), "mse")
    qat.fit(x, y, epochs=3, batch_size=16, verbose=0)
    qat.save(tmp_path / "qat.keras")
    for one in (qat, load_model(tmp_path / "qat.keras")):
        assert [tuple(w.shape) for w in one.trainable_weights] == [(6,), (6,)]
        want, got = predicted(one, x), predicted(strip_quantization(one, model), x)
        assert np.abs(got - want).mean() < 0.1 * want.std()
    assert np.abs(qat.trainable_weights[1]).min() > 0.1  # it was trained


@pytest.mark.parametrize("make", ["layer", "operation"])
def test_an_interpolation_without_a_kernel_is_refused_before_training(make):
    i = keras.Input((6, 6, 4))
    resized = {
        "layer": lambda: L.Resizing(12, 12, interpolation="bicubic", name="resize")(i),
        "operation": lambda: keras.ops.image.resize(i, (12, 12), interpolation="bicubic"),
    }[make]()
    with pytest.raises(UnsupportedError, match="interpolation='bicubic' has no int8 kernel"):
        quantize_aware(keras.Model(i, L.Conv2D(3, 3)(resized)))


def gelu(x):
    """Another function than Keras's: its approximation by a sigmoid."""
    return x * keras.ops.sigmoid(1.702 * x)


@pytest.mark.filterwarnings("ignore:.*serialize")
def test_an_activation_of_the_users_own_has_no_rule_whatever_its_name(rng):
    x = images(rng)
    for own, name in ((gelu, "gelu"), (lambda x: 2.0 * x, "<lambda>")):
        model = small(own)
        with pytest.raises(UnsupportedError, match=f"'{name}' is not one of Keras's, and has no"):
            quantize_aware(model)
        want = predicted(model, x)
        qat = tfkd.quantization.calibrate(quantize_aware(model, skip="first"), x)
        stripped = strip_quantization(qat, model)
        np.testing.assert_allclose(predicted(stripped, x), want, atol=1e-5)
        got = to_tflite(qat, "int8").predict(x)
        assert np.abs(got - want).mean() < 0.05 * want.std()


def test_the_scheme_serves_tfmots_own_functions(rng):
    quantization = backends.tfmot().quantization.keras
    layers = tf_keras.layers
    i = tf_keras.Input((8, 8, 1))
    x = layers.ReLU()(layers.Conv2D(4, 3, name="first")(i))
    x = layers.BatchNormalization()(layers.Multiply()([x, x]))
    model = tf_keras.Model(i, layers.Dense(3, name="head")(layers.Flatten()(x)))
    with pytest.raises(RuntimeError, match="not supported"):
        quantization.quantize_model(model)
    annotated = quantization.quantize_annotate_model(model)
    qat = quantization.quantize_apply(annotated, scheme=tfkd.quantization.Scheme())
    x = images(rng)
    trained(qat, x, np.ones((64, 3)))
    file = to_tflite(qat, "int8")
    assert file.integer_only
    difference = np.abs(file.predict(x, engine="reference") - predicted(qat, x)).max()
    assert difference <= 2.01 * file.outputs[0].scale


@pytest.mark.parametrize("preserve", [None, "sparsity"])
def test_a_saved_model_comes_back_from_a_keras_file(preserve, tmp_path, rng):
    i = keras.Input((2, 4))
    x = L.MultiHeadAttention(1, 2, name="attention")(i, i)
    x = L.LSTM(3, name="lstm")(L.BatchNormalization()(L.Dense(4, use_bias=False)(x)))
    model = keras.Model(i, L.Dense(2, name="head")(x))
    x = rng.normal(size=(16, 2, 4)).astype("float32")
    qat = quantize_aware(model, skip=["attention"], preserve=preserve)
    qat.compile("adam", "mse", run_eagerly=True)
    qat.fit(x, np.ones((16, 2)), verbose=0)
    qat.save(tmp_path / "qat.keras")
    again = load_model(tmp_path / "qat.keras")
    np.testing.assert_array_equal(predicted(again, x), predicted(qat, x))
    assert export_form.float_layers(again) == export_form.float_layers(qat) == ["float_attention"]
    for a, b in zip(qat.weights, again.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    for a, b in zip(
        *(strip_quantization(q, model).get_weights() for q in (qat, again)), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_a_saved_model_comes_back_from_h5(tmp_path, rng):
    x = images(rng)
    qat = trained(quantize_aware(small("swish")), x, np.ones((64, 3)))
    with pytest.warns(UserWarning, match="legacy"):
        qat.save(tmp_path / "qat.h5")
    with backends.tfmot().quantization.keras.quantize_scope():
        again = tf_keras.models.load_model(tmp_path / "qat.h5")
    np.testing.assert_array_equal(predicted(again, x), predicted(qat, x))
    assert to_tflite(again, "int8").data == to_tflite(qat, "int8").data
    strip_quantization(again, small("swish"))


def test_statistics_of_the_data_outlive_quantization_and_stripping(package, rng):
    layers = package.layers
    x = rng.normal(7, 3, (40, 4)).astype("float32")
    scale = layers.Normalization(name="scale")
    scale.adapt(x)
    model = package.Sequential([package.Input((4,)), scale, layers.Dense(3)])
    want = predicted(model, x)
    for skip in ((), ["scale"]):
        qat = quantize_aware(model, skip=skip)
        np.testing.assert_allclose(predicted(strip_quantization(qat, model), x), want, atol=1e-5)
    qat = tfkd.quantization.calibrate(quantize_aware(model, skip=["scale"]), x)
    assert np.abs(predicted(qat, x) - want).max() < 0.1
    assert np.abs(to_tflite(qat, "int8").predict(x) - want).max() < 0.1
