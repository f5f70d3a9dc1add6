"""`verify` accepts a faithful file and rejects that of another model."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from sklearn import metrics
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
from tfkd.export import to_tflite, verify
from tfkd.export.verification import verify as module
from tfkd.export.verification.verify import _Judge, score
from tfkd.output_kind import OutputKind

L = keras.layers


@pytest.mark.parametrize("engine", ["xnnpack", "reference", "tflm"])
def test_a_faithful_file_passes(files, qat, digits, engine):
    if engine == "tflm":
        pytest.importorskip("tflite_micro")
    result = verify(files["int8"], qat, digits.test.x, digits.test.y, engine=engine)
    assert result.passed and result.engine == engine and result.samples == 360
    assert result.argmax_agreement >= 0.99
    assert result.max_lsb < 4.5
    outputs = files["int8"].predict(digits.test.x, engine=engine)
    answers = outputs.argmax(-1)
    assert result.metrics["accuracy"] == metrics.accuracy_score(digits.test.y, answers)
    f1 = metrics.f1_score(digits.test.y, answers, average="macro")
    assert result.metrics["f1"] == pytest.approx(f1)
    assert result.model_metrics["accuracy"] > 0.9


@pytest.mark.parametrize("kind", ["dataset", "sequence", "function"])
def test_batches_are_verified_as_arrays_are(files, student, digits, kind):
    x, y = digits.test.x, digits.test.y

    class Sequence(keras.utils.PyDataset):
        def __len__(self):
            return -(-len(x) // 50)

        def __getitem__(self, i):
            return x[50 * i : 50 * i + 50], y[50 * i : 50 * i + 50]

    given = {
        "dataset": tf.data.Dataset.from_tensor_slices((x, y)).batch(50),
        "sequence": Sequence(),
        "function": lambda: iter([(x[:200], y[:200]), (x[200:], y[200:])]),
    }[kind]
    found = verify(files["float32"], student, given)
    whole = verify(files["float32"], student, x, y)
    assert (found.samples, found.metrics) == (whole.samples, whole.metrics)


def test_rows_of_different_lengths_are_no_array(files, student):
    with pytest.raises(InputError, match="not an array: its rows have different lengths. Pad"):
        verify(files["float32"], student, [[1.0, 2.0], [1.0]])


def test_the_differences_are_what_numpy_says(files, student, digits):
    result = verify(files["int8_ptq"], student, digits.test.x)
    want = student.predict(digits.test.x, verbose=0)
    difference = np.abs(files["int8_ptq"].predict(digits.test.x) - want)
    assert result.engine == "xnnpack"
    assert result.max_abs_diff == pytest.approx(difference.max(), rel=1e-5)
    assert result.mean_abs_diff == pytest.approx(difference.mean(), rel=1e-5)
    scale = files["int8_ptq"].outputs[0].scale
    assert result.max_lsb == pytest.approx(difference.max() / scale, rel=1e-5)
    assert result.metrics == result.model_metrics == {} and result.layers is None
    (output,) = result.outputs
    assert output.name == "logits"
    assert output.allowed == pytest.approx(0.2 * want.std(0).mean(), rel=1e-4)
    for name in ("argmax_agreement", "max_abs_diff", "mean_abs_diff", "max_lsb", "threshold"):
        assert getattr(output, name) == getattr(result, name)


def test_another_models_file_fails_aloud(files, digits, student):
    other = keras.models.clone_model(student)
    with pytest.warns(UserWarning, match=r"FAILED .*same class .*at least 99.50%.*layers=True"):
        result = verify(files["float32"], other, digits.test.x)
    assert not result.passed and "FAILED" in result.describe()


def test_a_model_that_says_the_same_of_everything_proves_nothing(digits):
    # Every file "agrees" with a collapsed model: the numbers behind the argmax decide.
    inputs = keras.Input((8, 8, 1))
    flat = L.Flatten()(inputs)
    one, other = (keras.Model(inputs, L.Dense(3, name="d")(flat)) for _ in range(2))
    for model, size in ((one, 0.01), (other, 0.02)):
        kernel = np.random.default_rng(0).normal(size=(64, 3)) * size
        model.set_weights([kernel, np.array([9.0, 0.0, 0.0])])
    with pytest.warns(UserWarning, match="mean difference"):
        result = verify(to_tflite(one), other, digits.test.x)
    assert result.argmax_agreement == 1.0
    assert not result.passed


def test_regression_and_models_and_files_by_their_paths(rng, tmp_path):
    x = rng.normal(size=(64, 4)).astype("float32")
    model = keras.Sequential([keras.Input((4,)), L.Dense(1)])
    y = predicted(model, x) + 0.5
    path = to_tflite(model).save(tmp_path / "m.tflite")
    model.save(tmp_path / "m.keras")
    result = verify(path, tmp_path / "m.keras", x, y)
    assert result.passed and result.argmax_agreement is None
    assert result.metrics == pytest.approx({"mae": 0.5, "rmse": 0.5}, rel=1e-4)


@pytest.mark.parametrize("activation", ["sigmoid", None, "tanh"])
def test_one_output_for_two_classes(rng, activation):
    keras.utils.set_random_seed(0)  # two of 80 near the threshold are too many
    x = rng.normal(size=(80, 4)).astype("float32")
    model = keras.Sequential([keras.Input((4,)), L.Dense(1, activation=activation, name="d")])
    want = predicted(model, x)
    y = (want[:, 0] + rng.normal(size=80) * 0.3 > np.median(want)).astype(int)
    result = verify(to_tflite(model, "int8", x), model, x, y)
    auc = metrics.roc_auc_score(y, want[:, 0])
    assert result.passed and result.model_metrics["auc"] == pytest.approx(auc)
    if activation == "tanh":  # nobody knows where it decides
        assert set(result.metrics) == {"auc"} and result.argmax_agreement is None
        return
    answers = want[:, 0] > (0.5 if activation else 0.0)
    assert result.model_metrics["accuracy"] == metrics.accuracy_score(y, answers)
    assert result.threshold == 0.98 and result.argmax_agreement >= 0.98
    if activation == "sigmoid":  # labels of that loss are often floats
        floats = verify(to_tflite(model), model, x, y.astype("float32"))
        assert floats.metrics == pytest.approx(result.model_metrics)


def test_outputs_of_the_inputs_shape(rng, monkeypatch):
    x = rng.normal(size=(60, 6)).astype("float32")
    coder = keras.Sequential([keras.Input((6,)), L.Dense(4), L.Dense(6)])
    y = rng.integers(0, 2, 60)
    result = verify(to_tflite(coder), coder, x, y)
    errors = ((predicted(coder, x) - x) ** 2).mean(1)
    assert result.metrics == pytest.approx({"auc": metrics.roc_auc_score(y, errors)})
    assert result.argmax_agreement is None
    assert verify(to_tflite(coder), coder, x).argmax_agreement is None
    classifier = keras.Sequential([keras.Input((6,)), L.Dense(6, activation="softmax")])
    result = verify(to_tflite(classifier), classifier, x, y)
    answers = predicted(classifier, x).argmax(-1)
    assert result.model_metrics["accuracy"] == metrics.accuracy_score(y, answers)
    assert set(verify(to_tflite(coder), coder, x, y, task="classification").metrics) > {"f1"}

    # Data in batches, of which the first has one class only, are scored as arrays are.
    monkeypatch.setattr(module, "_MOST", 20)
    y[:20] = 0
    want = verify(to_tflite(coder), coder, x, y)
    stream = tf.data.Dataset.from_tensor_slices((x, y)).batch(20)
    for task in (None, "anomaly"):
        found = verify(to_tflite(coder), coder, stream, task=task)
        assert found.metrics == pytest.approx(want.metrics) and "auc" in found.metrics
        assert found.argmax_agreement is None and found.passed


@pytest.fixture(scope="module")
def heads():
    """Two inputs and three outputs, which neither come nor sort in one order."""
    keras.utils.set_random_seed(0)
    wide, narrow = keras.Input((4,), name="wide"), keras.Input((2,), name="narrow")
    x = L.Concatenate()([wide, narrow])
    outputs = [
        L.Dense(3, activation="softmax", name="zebra")(x),
        L.Dense(3, name="ape")(x),
        L.Dense(1, name="mouse")(x),
    ]
    model = keras.Model([wide, narrow], outputs)
    rng = np.random.default_rng(0)
    return model, [rng.normal(size=(50, n)).astype("float32") for n in (4, 2)], to_tflite(model)


def test_outputs_are_compared_with_their_own(heads):
    model, x, file = heads
    assert [info.name for info in file.outputs] == ["zebra", "ape", "mouse"]
    y = {"zebra": np.arange(50) % 3, "mouse": np.linspace(0, 1, 50)}
    result = verify(file, model, x, y)
    assert result.passed and [one.name for one in result.outputs] == ["zebra", "ape", "mouse"]
    assert result.max_abs_diff < 1e-5 and result.outputs[2].argmax_agreement is None
    want = dict(zip(["zebra", "ape", "mouse"], predicted(model, x), strict=True))
    assert result.metrics["zebra.accuracy"] == np.mean(want["zebra"].argmax(-1) == y["zebra"])
    mae = np.abs(want["mouse"][:, 0] - y["mouse"]).mean()
    assert result.metrics["mouse.mae"] == pytest.approx(mae, rel=1e-4)
    assert not any(name.startswith("ape") for name in result.metrics)
    listed = verify(file, model, {"narrow": x[1], "wide": x[0]}, [y["zebra"], None, y["mouse"]])
    assert listed.metrics == result.metrics
    # As other converters may order them.
    turned = verify(reversed_ends(file), model, x, y)
    assert {one.name: one for one in turned.outputs} == {one.name: one for one in result.outputs}
    assert turned.metrics == result.metrics


@pytest.mark.parametrize("keyed", [False, True])
def test_equal_inputs_and_outputs_are_not_crossed(package, keyed, rng):
    model, x = two_ended(package, keyed), drawn(rng)
    answers, file = plain(model, x, keyed), to_tflite(model)
    y = [answers[0].argmax(-1), rng.integers(0, 3, 24)]
    due = {
        f"{name}.accuracy": np.mean(values.argmax(-1) == labels)
        for name, values, labels in zip(OUTPUTS, answers, y, strict=True)
    }
    assert due["second.accuracy"] == 1.0 > due["first.accuracy"]
    keys = (INPUT_KEYS, OUTPUT_KEYS) if keyed else (None, None)
    inputs, labels = forms(x, INPUTS, keys[0]), forms(y, OUTPUTS, keys[1])
    for form in inputs:
        for one in (file, reversed_ends(file)):
            result = verify(one, model, inputs[form], labels[form])
            assert result.passed and result.max_abs_diff < 1e-5, form
            scores = {name: result.metrics[name] for name in due}
            assert scores == due == {name: result.model_metrics[name] for name in due}, form
    if keyed:
        with pytest.raises(InputError, match="y is a list, whose order could be"):
            verify(file, model, inputs["dict by key"], y)
        with pytest.raises(InputError, match="x is a list, whose order could be"):
            verify(file, model, x)


def test_names_as_the_file_has_them(rng):
    x = keras.Input((4,), name="x")

    def part(name):
        inputs = keras.Input((4,))
        return keras.Model(inputs, L.Dense(3, "softmax", name="my_head")(inputs), name=name)

    model = keras.Model(x, [part("one-a")(x), part("two-b")(x)])
    file, data = to_tflite(model), rng.normal(size=(20, 4)).astype("float32")
    y = [values.argmax(-1) for values in predicted(model, data)]
    names = [info.name for info in file.outputs]
    assert names == ["one_a", "two_b"]
    for given in (
        dict(zip(names, y, strict=True)),
        {"two-b/my_head": y[1], "one-a/my_head": y[0]},
        {"two_b": y[1], "one-a/my_head": y[0]},
    ):
        result = verify(file, model, data, given)
        assert result.metrics["one_a.accuracy"] == result.metrics["two_b.accuracy"] == 1.0


def test_one_tensor_as_two_outputs(package, rng):
    x = package.Input((4,), name="x")
    twice = package.layers.Dense(3, activation="softmax", name="d")(x)
    model = package.Model(x, [twice, package.layers.Dense(3, name="c")(x), twice])
    file, data = to_tflite(model), rng.normal(size=(20, 4)).astype("float32")
    assert sorted(info.name for info in file.outputs) == ["c", "d", "d_2"]
    result = verify(file, model, data, {"d": predicted(model, data)[0].argmax(-1)})
    assert result.passed and result.metrics["d.accuracy"] == 1.0


def test_the_worst_output_decides(heads):
    model, x, file = heads
    other = keras.models.clone_model(model)
    other.set_weights(model.get_weights())
    kernel, bias = other.get_layer("ape").get_weights()
    other.get_layer("ape").set_weights([kernel[:, ::-1], bias])
    with pytest.warns(UserWarning, match=r"FAILED \(xnnpack, 50 examples\): ape: same class"):
        result = verify(file, other, x)
    assert [output.passed for output in result.outputs] == [True, False, True]
    assert not result.passed
    assert result.argmax_agreement == result.outputs[1].argmax_agreement < 0.9
    assert result.max_abs_diff == result.outputs[1].max_abs_diff


def test_structures_with_names_of_their_own(rng):
    parts = {key: keras.Input((2,), name=key) for key in ("b", "a")}
    x = L.Concatenate()([parts["b"], parts["a"]])
    outputs = {"t": L.Dense(2, name="late")(x), "s": L.Dense(2, name="soon")(x)}
    model = keras.Model(parts, outputs)
    data = {key: rng.normal(size=(20, 2)).astype("float32") for key in parts}
    want = predicted(model, data)
    y = rng.integers(0, 2, 20)
    for key in ("t", "late"):
        result = verify(to_tflite(model), model, data, {key: y})
        assert result.passed and result.max_abs_diff < 1e-5
        assert result.metrics["late.accuracy"] == np.mean(want["t"].argmax(-1) == y)


def test_outputs_with_other_names_are_told_by_their_shapes(rng):
    def model(names, sizes):
        inputs = keras.Input((4,), name="x")
        return keras.Model(
            inputs, [L.Dense(n, name=name)(inputs) for name, n in zip(names, sizes, strict=True)]
        )

    x = rng.normal(size=(20, 4)).astype("float32")
    one, other = model("ab", (3, 2)), model("dc", (3, 2))
    other.set_weights(one.get_weights())
    result = verify(to_tflite(one), other, x)
    assert result.max_abs_diff < 1e-5 and [o.name for o in result.outputs] == ["a", "b"]
    with pytest.raises(InputError, match=r"can't be matched with the model's \(d, c\)"):
        verify(to_tflite(model("ab", (2, 2))), model("dc", (2, 2)), x)
    with pytest.raises(InputError, match="The file has 2 outputs, but the model has 1"):
        verify(to_tflite(one), model("a", (3,)), x)


def test_layers_are_measured_when_asked_for(files, student, qat, digits):
    result = verify(files["int8"], qat, digits.test.x, digits.test.y, layers=True)
    convolutions = [row.layer for row in result.layers if row.op == "CONV_2D"]
    names = [layer.name for layer in student.layers if isinstance(layer, L.Conv2D)]
    assert convolutions == names
    assert result.layers.matched == result.layers.tensors > 3
    text = result.describe()
    assert text.startswith("passed on 360 examples, run by xnnpack\nlogits: same class")
    assert "accuracy: 0.9" in text and names[1] in text
    plain = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert plain["metrics"] == result.metrics
    assert plain["outputs"][0]["max_lsb"] == result.max_lsb
    assert len(plain["layers"]["rows"]) == len(result.layers)


def test_a_failure_names_the_layer_when_they_are_measured(files, student, digits):
    with pytest.warns(UserWarning, match=r"FAILED.*adds (most of|the largest) .*error"):
        verify(files["int8_ptq"], student, digits.test.x, threshold=1.01, layers=True)


def test_score_is_the_one_of_metrics(rng):
    outputs, y = rng.normal(size=(50, 4)), rng.integers(0, 4, 50)
    assert score(outputs, y)["accuracy"] == metrics.accuracy_score(y, outputs.argmax(-1))


def dense(kernel, name="d", shape=(8,)):
    """Return a model of one dense layer."""
    model = keras.Sequential([keras.Input(shape), L.Dense(np.shape(kernel)[1], name=name)])
    model.set_weights([np.asarray(kernel), np.zeros(np.shape(kernel)[1])])
    return model


@pytest.mark.parametrize("unit", [1e-12, 1e-7, 1.0, 1e9])
def test_differences_are_those_of_the_unit(unit, rng):
    kernel, x = rng.normal(size=(8, 1)), rng.normal(size=(100, 8)).astype("float32")
    model = dense(kernel * unit)
    sound = verify(to_tflite(model), model, x)
    assert sound.passed and sound.outputs[0].relative_diff < 1e-5
    for wrong in (0.0, 0.9):
        with pytest.warns(UserWarning, match="of how much it varies .at most 5% wanted"):
            result = verify(to_tflite(dense(kernel * unit * wrong)), model, x)
        (output,) = result.outputs
        assert not result.passed
        assert output.relative_diff == pytest.approx((1 - wrong) * 0.8, rel=0.15)
        assert output.allowed == pytest.approx(0.05 * predicted(model, x).std(), rel=1e-4)


def test_each_value_counts_in_its_own_unit(rng):
    x = rng.normal(size=(100, 8)).astype("float32")
    kernel = rng.normal(size=(8, 2)) * [1000.0, 1e-3]
    lost = kernel * [1.0, 0.0]
    model = dense(kernel)
    with pytest.warns(UserWarning, match="FAILED"):
        assert not verify(to_tflite(dense(lost)), model, x, task="regression").passed
    assert verify(to_tflite(model), model, x, task="regression").passed


def alarm(gain, kind):
    """Return a model whose last class is where the first input is 1, if the gain is enough."""
    activation = {"binary": "sigmoid", "multilabel": "sigmoid", "softmax": "softmax"}.get(kind)
    bias = [-10.0] if kind == "binary" else [1.0, -3.0, -10.0]
    model = keras.Sequential([keras.Input((2,)), L.Dense(len(bias), activation, name="d")])
    kernel = np.zeros((2, len(bias)))
    kernel[:, -1] = gain, 0.1
    model.set_weights([kernel, np.array(bias)])
    return model


@pytest.mark.parametrize("kind", ["binary", "multilabel", "softmax", "logits"])
@pytest.mark.parametrize(("format", "positives"), [("float32", 4), ("int8", 15)])
def test_a_file_that_never_says_yes_where_yes_is_rare_fails(rng, kind, format, positives):
    x = np.c_[np.arange(1000) < positives, rng.normal(size=1000)].astype("float32")
    good, dead = (alarm(gain, kind) for gain in (20, 5))
    files = [to_tflite(one, format, x if format == "int8" else None) for one in (good, dead)]
    y = (x[:, 0] * (1 if kind == "binary" else 2)).astype(int)
    if kind == "multilabel":
        y = np.eye(3, dtype=int)[y] * [0, 0, 1]
    class_name = {"binary": "class 1", "multilabel": "label 2 as 1"}.get(kind, "class 2")
    for labels in [y] if kind == "logits" else [None, y]:
        assert verify(files[0], good, x, labels).passed
        with pytest.warns(UserWarning, match=rf"of {class_name} only 0% in {positives} examples"):
            result = verify(files[1], good, x, labels)
        assert not result.passed and result.argmax_agreement >= result.threshold
        assert result.to_json()["outputs"][0]["lost"] in result.describe()
    # Fewer agreements were asked for than those of a dead file.
    assert verify(files[1], good, x, y, threshold=0.0).outputs[0].lost == ""


@pytest.mark.parametrize("positions", [(), (50,)])
def test_a_small_class_does_not_fail_alone(positions):
    """Judged by examples, and by what moved: three may be chance, and a border is no class."""

    def found(count, wanted, given):
        want = np.zeros((200, *positions, 1))
        want[:count], got = wanted, np.zeros((200, *positions, 1))
        got[:count] = given
        judge = _Judge(OutputKind("sigmoid", rank=want.ndim), want, None, None, "binary", 0.9)
        return judge.parity("out", got, want, None)

    assert found(3, 0.9, 0.1).lost == "" and "of class 1 only 0% in 4" in found(4, 0.9, 0.1).lost
    assert found(4, 0.9, 0.1).passed is False
    assert found(4, 0.52, 0.48).lost == "" and found(4, 0.52, 0.48).passed
    if positions:  # half of the steps of each example
        assert found(15, 0.9, np.arange(50)[:, None] < 25).lost == ""
        assert "only 10%" in found(15, 0.9, np.arange(50)[:, None] < 5).lost


def test_states_and_embeddings_are_values(rng):
    x = keras.Input((6, 4))
    hidden, state = L.GRU(5, return_state=True)(x)
    pooled = L.GlobalAveragePooling1D()(L.Conv1D(5, 2, activation="relu")(x))
    unit = L.UnitNormalization()(L.Dense(6)(pooled))
    logits, probabilities = L.Dense(3, name="l")(hidden), L.Dense(3, "softmax", name="p")(hidden)
    model = keras.Model(x, [state, pooled, unit, logits, probabilities])
    data = rng.normal(size=(60, 6, 4)).astype("float32")
    result = verify(to_tflite(model), model, data)
    classes = [one.argmax_agreement for one in result.outputs]
    assert classes == [None, None, None, 1.0, 1.0] and result.passed


def test_values_without_labels_need_not_keep_their_order(rng):
    """A dense layer's outputs may be logits or values; nearly equal values have no class."""
    kernel = rng.normal(size=(8, 1)) + 1e-3 * rng.normal(size=(8, 6))
    model, x = dense(kernel), rng.normal(size=(100, 8)).astype("float32")
    near = to_tflite(dense(kernel + 2e-3 * rng.normal(size=(8, 6))))
    result = verify(near, model, x)
    assert result.passed and result.argmax_agreement < 0.9
    with pytest.warns(UserWarning, match="FAILED.*same class"):
        assert not verify(near, model, x, task="classification").passed


@pytest.mark.parametrize("kind", ["function", "list", "dict", "file", "path", "saved", "subclass"])
def test_other_references(kind, rng, tmp_path):
    inputs = keras.Input((4,), name="x")
    outputs = [L.Dense(3, name="b")(inputs), L.Dense(3, name="a")(inputs)]
    model = keras.Model(inputs, outputs)
    file, x = to_tflite(model, batch=None), rng.normal(size=(45, 4)).astype("float32")
    y = [values.argmax(-1) for values in predicted(model, x)]

    class Own(keras.Model):
        def call(self, x, training=False):
            assert not training
            return dict(zip("ba", model(x), strict=True))

    if kind == "saved":
        model.export(tmp_path / "saved", verbose=0)
    reference = {
        "function": lambda: lambda x: {"a": model(x)[1].numpy(), "b": model(x)[0].numpy()},
        "list": lambda: lambda x: [np.asarray(one) for one in model(x)],
        "dict": lambda: lambda x: dict(zip("ba", model(x), strict=True)),
        "file": lambda: file,
        "path": lambda: file.save(tmp_path / "m.tflite"),
        "saved": lambda: tmp_path / "saved",
        "subclass": Own,
    }[kind]()
    labels = {"b": y[0], "a": y[1]}
    if kind in ("list", "saved"):  # their outputs have an order, and no names
        labels = y
    result = verify(file, reference, x, labels)
    assert result.passed and result.max_abs_diff < 1e-5
    assert result.metrics == {
        f"{name}.{k}": 1.0 for name in "ba" for k in ("accuracy", "precision", "recall", "f1")
    }
    wrong = to_tflite(keras.models.clone_model(model))
    with pytest.warns(UserWarning, match="FAILED"):
        assert not verify(wrong, reference, x).passed
    if kind in ("file", "saved"):
        assert verify(file, reference, x, layers=True).layers.matched == 2
    elif kind != "path":
        with pytest.raises(InputError, match="layers=True needs a model or a file"):
            verify(file, reference, x, layers=True)


@pytest.mark.parametrize("package", [keras, tf_keras])
def test_the_file_of_a_saved_model_and_what_it_came_from(package, rng, tmp_path):
    x = package.Input((4,))
    heads = [package.layers.Dense(3, name=name)(x) for name in ("zz", "aa")]
    model = package.Model(x, heads)
    model.export(str(tmp_path / "saved"))
    loaded = tf.saved_model.load(tmp_path / "saved")
    file, data = to_tflite(tmp_path / "saved"), rng.normal(size=(40, 4)).astype("float32")
    for reference in (model, loaded, loaded.signatures["serving_default"]):
        assert verify(file, reference, data).max_abs_diff < 1e-5
    crossed = package.Model(x, heads[::-1])
    with pytest.warns(UserWarning, match="VERIFICATION FAILED"):
        assert not verify(file, crossed, data).passed


def test_a_quantized_file_is_no_reference(files, digits):
    with pytest.raises(InputError, match="reference file is quantized itself"):
        verify(files["int8"], files["int8_ptq"], digits.test.x)


def test_there_is_no_suggestion_where_nothing_is_lost(student, digits):
    file = to_tflite(student, "int8", digits.train.x)
    result = verify(file, student, digits.test.x[:50], layers=True)
    advice = result.layers.suggestion()
    assert result.passed and result.layers.worst and advice not in result.describe()
    assert advice in result.layers.describe() and "results compared" in result.describe()
    for scores, own, worse in (
        ({"accuracy": 0.9}, {"accuracy": 0.9}, False),
        ({"accuracy": 0.89}, {"accuracy": 0.9}, True),
        ({"a.rmse": 0.2}, {"a.rmse": 0.1}, True),
        ({"a.rmse": 0.1, "a.mae": 0.1}, {"a.rmse": 0.2, "a.mae": 0.1}, False),
    ):
        scored = dataclasses.replace(result, metrics=scores, model_metrics=own)
        assert (advice in scored.describe()) is worse
    assert advice in dataclasses.replace(result, passed=False).describe()


def test_layers_are_bound_as_the_file_is(rng):
    def net(name):
        keras.utils.set_random_seed(0)
        x = keras.Input((4,), name=name)
        return keras.Model(x, L.Dense(3, name="d")(L.Dense(5, activation="relu", name="c")(x)))

    x = rng.normal(size=(100, 4)).astype("float32")
    result = verify(to_tflite(net("first"), "int8", x), net("second"), x, layers=True)
    assert result.passed and [row.layer for row in result.layers if row.op != "INPUT"] == ["c", "d"]


@pytest.mark.parametrize("batch", [1, 4])
def test_a_model_of_a_fixed_batch(package, batch, rng):
    x = package.Input(batch_shape=(batch, 5))
    model = package.Model(x, package.layers.Dense(2)(x))
    data = rng.normal(size=(10, 5)).astype("float32")
    assert verify(to_tflite(model), model, data).max_abs_diff < 1e-5


@pytest.mark.parametrize("wrapper", [None, "Bidirectional"])
def test_a_model_that_keeps_state_starts_anew(package, wrapper, rng):
    layers = package.layers

    def recurrent(**options):
        layer = layers.LSTM(5, **options)
        return layer if wrapper is None else layers.Bidirectional(layer)

    x = package.Input(batch_shape=(1, 4, 3))
    layer = recurrent(stateful=True)
    model = package.Model(x, layer(x))
    same_x = package.Input((4, 3))
    same = package.Model(same_x, recurrent()(same_x))
    same.set_weights(layer.get_weights())
    data = rng.normal(size=(10, 4, 3)).astype("float32")
    model(data[:1])
    inner = [layer] if wrapper is None else [layer.forward_layer, layer.backward_layer]

    def states():
        return [np.asarray(state).copy() for one in inner for state in one.states]

    before = states()
    assert all(state.any() for state in before)
    file = to_tflite(same)
    assert verify(file, model, data).max_abs_diff < 1e-5
    np.testing.assert_array_equal(before, states())


def test_bad_input(files, student, digits, heads):
    x, y = digits.test.x[:5], digits.test.y[:5]
    with pytest.raises(InputError, match="engine must be one of .'auto', 'xnnpack'"):
        verify(files["int8"], student, x, engine="gpu")
    with pytest.raises(InputError, match="task must be one of"):
        verify(files["int8"], student, x, task="ranking")
    with pytest.raises(InputError, match="5 outputs but 3 labels"):
        verify(files["int8"], student, x, y[:3])
    with pytest.raises(InputError, match="run from 0 to 9, got 10 to 14"):
        verify(files["int8"], student, x, np.arange(10, 15))
    with pytest.raises(InputError, match="Expected a Keras 3 or tf_keras model, .*, got ndarray"):
        verify(files["int8"], x, x)
    with pytest.raises(InputError, match=r"shape \(examples, 8, 8, 1\).* got \(5, 8, 8\)"):
        verify(files["int8"], student, x[..., 0])
    other = keras.Sequential([keras.Input((8, 8, 1)), L.Flatten()])
    with pytest.raises(InputError, match="was not made from this model"):
        verify(files["int8"], other, x)
    model, data, file = heads
    with pytest.raises(InputError, match="3 outputs .'zebra', 'ape', .* y holds one .* a dict"):
        verify(file, model, data, np.zeros(50))
    with pytest.raises(InputError, match="unknown names 'horse'; .* 'zebra', 'ape', 'mouse'"):
        verify(file, model, data, {"horse": np.zeros(50)})
    with pytest.raises(InputError, match="x lacks 'narrow'; .* are 'wide', 'narrow'"):
        verify(file, model, {"wide": data[0]})
    with pytest.raises(InputError, match="2 inputs .'wide', 'narrow'., but x holds one"):
        verify(file, model, data[0])
    with pytest.raises(InputError, match="different numbers of examples"):
        verify(file, model, [data[0], data[1][:7]])


def test_outputs_that_are_no_numbers_are_refused(rng):
    x = np.ones((3, 2), "float32")
    model = keras.Sequential([keras.Input((2,)), L.Dense(2, use_bias=False)])
    sound, huge = np.eye(2), np.full((2, 2), 3e38)
    model.set_weights([huge])
    file = to_tflite(model)
    with pytest.raises(InputError, match="model's outputs are NaN or infinite on 3 of 3"):
        verify(file, model, x)
    model.set_weights([sound])
    with pytest.raises(InputError, match="file's outputs are NaN or infinite on 3 of 3"):
        verify(file, model, x)
