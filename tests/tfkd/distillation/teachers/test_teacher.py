"""Every kind of teacher gives the same soft loss as the model behind it."""

import json
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from scipy.special import rel_entr, softmax
from sklearn.linear_model import LogisticRegression
from tiny_models import crossentropy, dense, predicted

from tfkd import Distiller, cache_teacher
from tfkd.distillation import teachers
from tfkd.errors import InputError, TeacherWarning
from tfkd.export import to_tflite
from tfkd.losses import Hint


@pytest.fixture
def data(rng):
    return rng.normal(size=(32, 4)).astype("float32"), rng.integers(0, 3, 32)


def soft_loss(student, teacher, data, package, eagerly=False, **kwargs):
    distiller = Distiller(student, teacher, temperature=2.0, soft_loss="kl", **kwargs)
    distiller.compile(package.optimizers.SGD(0.0), crossentropy(package), run_eagerly=eagerly)
    return distiller.fit(*data, batch_size=32, verbose=0).history["soft_loss"][0]


def want(student, probabilities, x):
    p = softmax(np.log(probabilities) / 2, -1)
    q = softmax(predicted(student, x) / 2, -1)
    return 4 * rel_entr(p, q).sum(-1).mean()


def as_saved_model(model, path):
    model.export(str(path), format="tf_saved_model", verbose=False)
    return path


KINDS = {
    "keras": lambda m, path: m,
    ".keras": lambda m, path: (m.save(path / "m.keras"), path / "m.keras")[1],
    ".keras as str": lambda m, path: (m.save(path / "m.keras"), str(path / "m.keras"))[1],
    "SavedModel": lambda m, path: as_saved_model(m, path / "saved"),
    ".tflite": lambda m, path: to_tflite(m).save(path / "m.tflite"),
    "TFLiteModel": lambda m, path: to_tflite(m),
    "callable": lambda m, path: lambda x: m.predict(x, verbose=0),
}
UNREADABLE = (
    "SavedModel",
    ".tflite",
    "TFLiteModel",
    "callable",
)  # whose last layer can't be looked at


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", [None, "softmax"])
def test_kind(kind, activation, package, data, tmp_path):
    student, model = dense(package), dense(keras, activation=activation)
    outputs = predicted(model, data[0])
    probabilities = outputs if activation else softmax(outputs, -1)
    expected = want(student, probabilities, data[0])
    teacher = KINDS[kind](model, tmp_path)
    said = {"teacher_from_logits": activation is None} if kind in UNREADABLE else {}
    if said:
        with pytest.raises(InputError, match="teacher_from_logits=True for logits"):
            soft_loss(student, teacher, data, package)
    # Each kind in a traced step too; `predict` of Keras refuses to run inside an eager one.
    said["eagerly"] = activation is not None and kind != "callable"
    assert soft_loss(student, teacher, data, package, **said) == pytest.approx(expected, rel=1e-4)


def test_a_tflite_model_teaches_as_its_file_does(package, data, tmp_path):
    student, file = dense(package), to_tflite(dense(keras))
    path = file.save(tmp_path / "m.tflite")
    said = {"teacher_from_logits": True, "eagerly": True}
    want = soft_loss(student, path, data, package, **said)
    assert soft_loss(student, [file, path], data, package, **said) == pytest.approx(want)
    one, other = (cache_teacher(data[0], t, from_logits=True) for t in (file, path))
    assert one.teacher == other.teacher is not None
    distiller = Distiller(student, file, soft_loss="kl", teacher_from_logits=True)
    distiller.compile("sgd", crossentropy(package))
    distiller.fit(*data, cache_teacher=True, verbose=0)
    distiller.fit(*data, cache_teacher=other, verbose=0)


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_an_array_of_outputs(activation, package, data):
    student, outputs = (
        dense(package),
        dense(keras, activation=activation).predict(data[0], verbose=0),
    )
    expected = want(student, outputs if activation else softmax(outputs, -1), data[0])
    said = {"teacher_from_logits": activation is None, "eagerly": activation is not None}
    got = soft_loss(student, outputs, data, package, **said)
    assert got == pytest.approx(expected, rel=1e-4)


def test_an_array_keeps_to_its_examples_when_shuffled(data, package):
    x, y = data
    student, teacher = dense(package), dense(keras)
    distillers = [
        Distiller(student, teacher, temperature=2.0, soft_loss="kl"),
        Distiller(
            student, predicted(teacher, x), temperature=2.0, soft_loss="kl",
            teacher_from_logits=True,
        ),
    ]  # fmt: skip
    results = []
    for distiller in distillers:
        distiller.compile(package.optimizers.SGD(0.0), crossentropy(package))
        history = distiller.fit(x, y, batch_size=5, shuffle=True, epochs=2, verbose=0).history
        results.append(history["soft_loss"])
    assert results[0] == pytest.approx(results[1], rel=1e-4)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_tf_keras_models_and_their_files(suffix, data, tmp_path, recwarn):
    tf_keras.utils.set_random_seed(1)
    model = dense(tf_keras)
    keras.utils.set_random_seed(2)  # the same seed gives both Kerases the same weights
    student = dense(keras)
    expected = want(student, softmax(predicted(model, data[0]), -1), data[0])
    model.save(tmp_path / f"m{suffix}")
    for teacher in (model, tmp_path / f"m{suffix}"):
        got = soft_loss(student, teacher, data, keras, eagerly=teacher is not model)
        assert got == pytest.approx(expected, rel=1e-4)


def test_keras_3_h5(data, tmp_path, recwarn):
    student, model = dense(keras), dense(keras)
    expected = want(student, softmax(predicted(model, data[0]), -1), data[0])
    model.save(tmp_path / "m.h5")
    got = soft_loss(student, tmp_path / "m.h5", data, keras, eagerly=True)
    assert got == pytest.approx(expected, rel=1e-4)


def test_a_scikit_learn_classifier(data, package):
    x, y = data
    classifier = LogisticRegression().fit(x, y)
    student = dense(package)
    got = soft_loss(student, classifier.predict_proba, data, package, teacher_from_logits=False)
    assert got == pytest.approx(want(student, classifier.predict_proba(x), x), rel=1e-4)


def test_several_of_different_kinds_are_averaged_as_probabilities(data, package):
    x, _ = data
    student = dense(package)
    models = [dense(keras, activation="softmax"), dense(tf_keras, activation="softmax")]
    average = sum(predicted(model, x) for model in models) / 2
    expected = want(student, average, x)
    teachers = [models[0], lambda batch: predicted(models[1], batch)]
    got = soft_loss(student, teachers, data, package, teacher_from_logits=False)
    assert got == pytest.approx(expected, rel=1e-4)


def test_binary_ensembles_and_regression_ensembles(rng):
    x = rng.normal(size=(32, 4)).astype("float32")
    models = [dense(keras, 1, "sigmoid"), dense(keras, 1, "sigmoid")]
    student = dense(keras, 1)
    distiller = Distiller(student, models, temperature=1.0, soft_loss="binary_kl")
    distiller.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True))
    p = sum(predicted(model, x) for model in models) / 2
    s = predicted(student, x)
    got = distiller.fit(x, rng.integers(0, 2, (32, 1)), batch_size=32, verbose=0).history
    q = 1 / (1 + np.exp(-s))
    expected = (rel_entr(p, q) + rel_entr(1 - p, 1 - q)).mean()
    assert got["soft_loss"][0] == pytest.approx(expected, rel=1e-4)


def test_different_inputs_for_teacher_and_student(rng, package):
    """The teacher sees 8×8, the student half of it; evaluate and predict halve as well."""

    def image(p, size):
        return p.Sequential([p.Input((size, size, 1)), p.layers.Flatten(), p.layers.Dense(3)])

    teacher, student = image(keras, 8), image(package, 4)
    x, y = rng.random((16, 8, 8, 1), "float32"), rng.integers(0, 3, 16)
    distiller = Distiller(
        student, teacher, temperature=1.0, soft_loss="kl",
        student_inputs=lambda x: x[:, ::2, ::2], teacher_inputs=lambda x: x * 2.0,
    )  # fmt: skip
    distiller.compile("sgd", crossentropy(package))
    q = softmax(predicted(student, x[:, ::2, ::2]), -1)
    p = softmax(predicted(teacher, x * 2), -1)
    np.testing.assert_allclose(softmax(distiller.predict(x, verbose=0), -1), q, rtol=1e-5)
    got = distiller.fit(x, y, batch_size=16, verbose=0).history["soft_loss"][0]
    assert got == pytest.approx(rel_entr(p, q).sum(-1).mean(), rel=1e-4)


def test_nothing_that_can_teach(tmp_path):
    for given, message in [
        (3, "got int"),
        ([], "list of teachers is empty"),
        (tmp_path / "none.keras", "There is no teacher at"),
        (tmp_path, "can't be read: it holds no saved_model.pb"),
    ]:
        with pytest.raises(InputError, match=message):
            Distiller(dense(keras), given)
    (tmp_path / "text.keras").write_text("no zip")
    with pytest.raises(InputError, match="can't be read"):
        Distiller(dense(keras), tmp_path / "text.keras")
    (tmp_path / "model.txt").write_text("")
    with pytest.raises(InputError, match="tfkd reads .keras, .h5 and .tflite"):
        Distiller(dense(keras), tmp_path / "model.txt")


def test_a_file_that_would_run_code_is_refused(tmp_path):
    x = keras.Input((4,))
    model = keras.Model(x, keras.layers.Lambda(lambda t: t[:, :3])(x))
    model.save(tmp_path / "m.keras")
    with pytest.raises(InputError, match=r"can't be read.*"):
        Distiller(dense(keras), tmp_path / "m.keras")


def test_the_writer_is_read_from_the_file_not_guessed(tmp_path):
    dense(tf_keras).save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        assert json.loads(archive.read("metadata.json"))["keras_version"].startswith("2.")
    (source,) = teachers.Teacher(tmp_path / "m.keras").sources
    assert isinstance(source.model, tf_keras.Model)


def test_wrong_shapes_and_nan(data, package):
    student = dense(package)
    with pytest.raises(InputError, match="must be equal"):
        Distiller(student, dense(keras, units=5))
    distiller = Distiller(student, lambda x: np.zeros((len(x), 5)), teacher_from_logits=True)
    distiller.compile("sgd", crossentropy(package))
    with pytest.raises(
        Exception, match=r"returned \(2, 5\) for a batch of 2; the student returns \(2, 3\)"
    ):
        distiller.fit(*data, verbose=0)
    broken = dense(keras)
    broken.set_weights([np.full((4, 3), np.nan), np.zeros(3)])
    distiller = Distiller(student, broken)
    distiller.compile("sgd", crossentropy(package))
    with pytest.raises(InputError, match="hold NaN or infinite values in the first examples"):
        distiller.fit(*data, verbose=0)
    array = np.full((32, 3), np.nan, "float32")
    distiller = Distiller(student, array, teacher_from_logits=True)
    with pytest.raises(InputError, match="array holds NaN"):
        distiller.compile("sgd", crossentropy(package))
    distiller = Distiller(student, np.zeros((31, 3), "float32"), teacher_from_logits=True)
    distiller.compile("sgd", crossentropy(package))
    with pytest.raises(InputError, match="An array of 31 answers needs arrays x of the same"):
        distiller.fit(*data, verbose=0)


def test_a_callable_that_runs_an_eager_model_in_an_eager_step(data, package):
    teacher = dense(keras)
    teacher.compile(run_eagerly=True)
    student = dense(package)
    probabilities = softmax(predicted(teacher, data[0]), -1)
    soft = soft_loss(
        student, lambda x: teacher.predict(x, verbose=0), data, package, eagerly=True,
        teacher_from_logits=True,
    )  # fmt: skip
    assert soft == pytest.approx(want(student, probabilities, data[0]), rel=1e-4)


def stateful(package, kind):
    layers = package.layers
    x = package.Input(batch_shape=(8, 5, 3))
    layer = {
        "LSTM": lambda: layers.LSTM(4, stateful=True),
        "RNN": lambda: layers.RNN(
            layers.StackedRNNCells([layers.LSTMCell(4), layers.GRUCell(3)]), stateful=True
        ),
        "Bidirectional": lambda: layers.Bidirectional(layers.GRU(4, stateful=True)),
        "nested": lambda: package.Sequential(
            [package.Input(batch_shape=(8, 5, 3)), layers.LSTM(4, stateful=True)]
        ),
    }[kind]()
    return package.Model(x, layers.Dense(3)(layer(x)))


@pytest.mark.parametrize("kind", ["LSTM", "RNN", "Bidirectional", "nested"])
def test_a_teacher_with_a_state_is_refused(kind, package, rng, tmp_path):
    """Its answers are no function of the examples, and asking it would change it."""
    x = rng.normal(size=(32, 5, 3)).astype("float32")
    y = rng.integers(0, 3, 32)
    teacher = stateful(package, kind)
    student = stateful(keras, kind)
    teachers = [teacher, [teacher, lambda x: np.zeros((len(x), 3))]]
    if kind == "LSTM" and package is keras:
        teachers.append(str(as_saved_model(teacher, tmp_path)))
    said = (
        r"keeps a state from batch to batch \((the layer '\w+'.*stateful=False|a variable that it)"
    )
    for one in teachers:
        with pytest.raises(InputError, match=said):
            Distiller(student, one, teacher_from_logits=True)
        with pytest.raises(InputError, match=said):
            cache_teacher(x, one, from_logits=True)
    # The student may have one, as in Keras.
    config = teacher.get_config()
    if kind == "LSTM":
        config["layers"][1]["config"]["stateful"] = False
        free = type(teacher).from_config(config)
        free.set_weights(teacher.get_weights())
        distiller = Distiller(student, free, soft_loss="kl")
        distiller.compile("sgd", crossentropy(keras))
        distiller.fit(x, y, batch_size=8, shuffle=False, verbose=0)


@pytest.mark.parametrize("assign", ["assign", "assign_add"])
def test_a_function_that_changes_a_variable_is_refused(assign, data, tmp_path):
    x, y = (one[:32] for one in data)
    module = tf.Module()
    module.count = tf.Variable(0.0)
    module.kernel = tf.Variable(tf.ones((4, 3)))

    def answer(x):
        getattr(module.count, assign)(1.0)
        return {"y": x @ module.kernel + module.count}

    module.answer = tf.function(answer, input_signature=[tf.TensorSpec((None, 4), name="x")])
    free = tf.function(answer)

    def taught(student, teacher, x, y):
        distiller = Distiller(student, teacher, teacher_from_logits=True)
        distiller.compile("sgd", crossentropy(keras))
        distiller.fit(x, y, verbose=0)

    tf.saved_model.save(module, str(tmp_path), module.answer)
    loaded = tf.saved_model.load(str(tmp_path))
    for teacher in (
        *(str(tmp_path), loaded, loaded.signatures["serving_default"], loaded.answer, free),
        [loaded.answer, dense(keras)],
    ):
        loaded.count.assign(0.0)
        with pytest.raises(InputError, match="a variable that it assigns.* export it without this"):
            taught(dense(keras), teacher, x, y)
        assert loaded.count.numpy() == 0.0
        if teacher is not free:  # of which no shape is known
            with pytest.raises(InputError, match="a variable that it assigns"):
                cache_teacher(x, teacher, from_logits=True, task="categorical")


def of_eight(package, seed, activation=None):
    """Return a model that takes eight examples at a time, and no other number."""
    package.utils.set_random_seed(seed)
    reshape = tf.reshape if package is tf_keras else keras.ops.reshape
    x = package.Input(batch_shape=(8, 4))
    hidden = package.layers.Dense(4, name="hidden")(x)
    flat = reshape(reshape(hidden, (32,)), (8, 4))
    return package.Model(x, package.layers.Dense(3, activation=activation)(flat))


def answers_of_eight(model, x):
    """Return its answers for any number of examples, eight at a time."""
    parts = [np.resize(x[i : i + 8], (8, *x.shape[1:])) for i in range(0, len(x), 8)]
    return np.concatenate([model(part) for part in parts])[: len(x)]


@pytest.mark.parametrize("how", ["model", "SavedModel"])
def test_a_teacher_for_one_batch_size(how, package, data, tmp_path):
    x, y = (one[:27] for one in data)
    model, student = of_eight(package, 1), dense(keras)
    expected = want(student, softmax(answers_of_eight(model, x), -1), x)
    teacher, said = model, {"teacher_from_logits": True}
    if how == "SavedModel":
        teacher, spec = str(tmp_path), tf.TensorSpec((8, 4), name="x")  # Keras's own are for any
        module = tf.Module()
        module.model = tf.function(lambda x: {"y": model(x)}, input_signature=[spec])
        module.kept = model.trainable_variables
        tf.saved_model.save(module, teacher, module.model)
    distiller = Distiller(student, teacher, temperature=2.0, soft_loss="kl", **said)
    distiller.compile(keras.optimizers.SGD(0.0), crossentropy(keras))
    cache = cache_teacher(x, teacher, dtype="float32", from_logits=True)
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(5)
    for how_often in (
        {"x": x, "y": y, "batch_size": 8},  # the last batch is smaller
        {"x": x, "y": y, "cache_teacher": True, "cache_dtype": "float32"},
        {"x": x, "y": y, "cache_teacher": cache},
        {"x": batches, "validation_data": (x, y)},
    ):
        history = distiller.fit(**how_often, shuffle=False, verbose=0).history
        assert history["soft_loss"][0] == pytest.approx(expected, rel=1e-4)
        assert distiller.teacher_scores[0].count == 27


def test_the_logits_and_features_of_a_teacher_for_one_batch_size(package, data):
    x, y = (one[:27] for one in data)
    teacher, linear = of_eight(package, 1, "softmax"), of_eight(package, 1)
    steep = [200 * weight for weight in teacher.layers[-1].get_weights()]
    teacher.layers[-1].set_weights(steep)
    linear.layers[-1].set_weights(steep)
    linear.get_layer("hidden").set_weights(teacher.get_layer("hidden").get_weights())
    layers = keras.layers
    student = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, name="dense"), layers.Dense(3, name="head")]
    )
    distiller = Distiller(student, teacher, features=[Hint("dense", "hidden")])
    distiller.compile(keras.optimizers.SGD(0.0), crossentropy(keras))
    kernel, bias = teacher.get_layer("hidden").get_weights()
    logits = answers_of_eight(linear, x)
    assert np.ptp(logits, -1).max() > 104  # their probabilities hold zeros
    for ask in (distiller._ask, tf.function(distiller._ask)):
        (answers,), features = ask(tf.constant(x))
        np.testing.assert_allclose(answers, logits, rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(features["hidden"], x @ kernel + bias, rtol=1e-4, atol=1e-5)
    distiller.fit(x, y, verbose=0)


@pytest.mark.parametrize("eagerly", [True, False])
def test_a_function_that_raises_is_named(eagerly, package, data):
    """Its own error came out, or TensorFlow's with a trace."""

    def boom(x):
        if len(x) > 2:  # of the first examples
            raise KeyError("no such column")
        return np.zeros((len(x), 3))

    student, said = dense(package), r"'.*boom', a function, raised KeyError: 'no such column' on"
    with (
        pytest.warns(TeacherWarning, match="could not be scored .KeyError: 'no such column'"),
        pytest.raises(InputError, match=rf"{said} a batch of shape \(32, 4\)") as raised,
    ):
        soft_loss(student, boom, data, package, eagerly, teacher_from_logits=True)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (None, "None"),
        ("a", "'a'"),
        (np.array(["1", "2"]), "one of <U1"),
        (np.array([{}, {}]), "one of object"),
        ([], r"\[\]"),
        (object(), "object"),
    ],
)
def test_a_function_that_returns_no_numbers_is_named(answer, shown, data):
    said = rf"a function, must return an array of numbers, got {shown}\.$"
    with pytest.raises(InputError, match=said):
        soft_loss(dense(keras), lambda x: answer, data, keras, teacher_from_logits=True)


def test_what_has_class_probabilities_is_told_how_to_teach(data):
    model = LogisticRegression().fit(*data)
    with pytest.raises(InputError, match=r"give teacher\.predict_proba, .*from_logits=False"):
        teachers.Teacher(model)
    teachers.Teacher(model.predict_proba)
    with pytest.raises(InputError, match="A teacher must be .*; got int"):
        teachers.Teacher(5)
