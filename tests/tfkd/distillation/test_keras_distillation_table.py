"""The page on `keras.distillation` has a row for each of its tests, and the rows are true."""

import ast
import importlib.util
import json
import pathlib
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax, rel_entr, softmax
from tiny_models import crossentropy

import tfkd

L = keras.layers
PAGE = pathlib.Path(__file__).parents[3] / "docs" / "coming-from" / "keras-distillation.md"
TESTS = {
    "TestLogitsDistillation": {"test_logits_distillation_basic"},
    "TestFeatureDistillation": {"test_feature_distillation_basic"},
    "TestEndToEndDistillation": {
        "test_logits_distillation_end_to_end",
        "test_feature_distillation_end_to_end",
        "test_multi_distillation_loss_distillation_end_to_end",
    },
    "TestDistiller": {
        "test_distiller_initialization",
        "test_distiller_call",
        "test_teacher_freezing",
        "test_model_compatibility_validation",
        "test_multi_distillation_loss_functionality",
        "test_multi_distillation_loss_validation",
        "test_student_loss_weighting",
        "test_full_training_workflow",
        "test_evaluation_workflow",
        "test_prediction_workflow",
        "test_distiller_serialization_and_saving",
    },
}


def names_of(tests):
    return sorted(f"{group}.{name}" for group, names in tests.items() for name in names)


def test_each_of_kerass_tests_has_one_row_and_one_verdict():
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    rows = [line.strip("|").split(" | ") for line in lines if line.startswith("| `Test")]
    assert sorted(row[0].strip(" `") for row in rows) == names_of(TESTS)
    for name, behaviour, verdict in rows:
        assert behaviour.strip(), name
        assert re.match(r"\*\*(Offered|Offered otherwise|Deliberately not)\b", verdict.strip()), (
            name
        )


def test_the_rows_are_those_of_the_keras_that_the_page_names():
    version = re.search(r"Keras (\d+\.\d+\.\d+)", PAGE.read_text(encoding="utf-8")).group(1)
    found = (
        importlib.util.find_spec("keras.src.distillation") if keras.__version__ == version else 0
    )
    files = sorted(pathlib.Path(found.origin).parent.glob("*_test.py")) if found else []
    if not files:
        pytest.skip(f"needs the tests that Keras {version} is installed with")
    tests = {}
    for group in (node for file in files for node in ast.parse(file.read_text("utf-8")).body):
        names = {one.name for one in getattr(group, "body", ()) if hasattr(one, "name")}
        tests[getattr(group, "name", "")] = {name for name in names if name.startswith("test_")}
    assert names_of(TESTS) == names_of(tests)


class Subclassed(keras.Model):
    def __init__(self, width):
        super().__init__()
        self.hidden, self.answer = L.Dense(width, activation="relu"), L.Dense(3)

    def call(self, x):
        return self.answer(self.hidden(x))


class Counted(L.Layer):
    runs = 0

    def call(self, x):
        self.runs += 1
        return x


def net(width=6):
    return keras.Sequential([
        keras.Input((4,)), Counted(name="count"), L.Dense(width, activation="relu", name="h1"),
        L.Dense(5, name="h2"), L.Dense(3, name="o"),
    ])  # fmt: skip


@pytest.fixture
def data(rng):
    return rng.normal(size=(32, 4)).astype("float32"), rng.integers(0, 3, 32)


def kl(student, teacher, x, temperature):
    t, s = (np.asarray(model(x)) / temperature for model in (teacher, student))
    return temperature**2 * rel_entr(softmax(t, -1), softmax(s, -1)).sum(-1).mean()


def at(model, layer, x):
    return np.asarray(keras.Model(model.inputs[0], model.get_layer(layer).output)(x))


def run(distiller, x, y, lr=0.0):
    """Fit on one batch, once."""
    distiller.compile(keras.optimizers.SGD(lr), crossentropy(keras))
    return distiller.fit(x, y, batch_size=len(x), verbose=0).history


def test_training_evaluation_and_prediction_of_a_subclassed_pair(data):
    x, y = data
    student, teacher = Subclassed(4), Subclassed(8)
    student(x), teacher(x)
    before = [student.get_weights(), teacher.get_weights()]
    distiller = tfkd.Distiller(
        student, teacher, alpha=0.5, temperature=2.0, teacher_from_logits=True
    )
    assert distiller.predict(x, verbose=0).shape == (32, 3)  # before compile
    np.testing.assert_array_equal(distiller(x), student(x))

    distiller.compile("adam", crossentropy(keras), metrics=["accuracy"])
    assert distiller.compiled and float(distiller.alpha) == 0.5
    assert float(distiller.temperature) == 2.0
    history = distiller.fit(x, y, validation_data=(x, y), epochs=3, verbose=0).history
    assert {*history} == {
        "loss", "hard_loss", "soft_loss", "accuracy", "val_loss", "val_accuracy"
    }  # fmt: skip
    assert all(len(values) == 3 and np.isfinite(values).all() for values in history.values())
    assert all((a != b).any() for a, b in zip(before[0], student.get_weights(), strict=True))

    hard = -log_softmax(student(x), -1)[np.arange(32), y].mean()
    right = (np.argmax(student(x), -1) == y).mean()
    results = distiller.evaluate(x, y, verbose=0)
    assert isinstance(results, list) and results == pytest.approx([hard, right], rel=1e-5)
    assert history["val_loss"][-1] == pytest.approx(hard, rel=1e-5)

    # The teacher: neither frozen nor changed nor tracked.
    assert teacher.trainable and distiller.student is student
    for a, b in zip(before[1], teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not {id(v) for v in distiller.variables} & {id(v) for v in teacher.variables}


def test_evaluate_with_the_teacher_reports_the_combined_loss(data):
    x, y = data
    student, teacher = net(), net()
    distiller = tfkd.Distiller(
        student, teacher, alpha=0.25, temperature=4.0, soft_loss="kl", evaluate_teacher=True
    )
    distiller.compile("sgd", crossentropy(keras), metrics=["accuracy"])
    loss, _, hard, soft = distiller.evaluate(x, y, verbose=0)
    assert soft == pytest.approx(kl(student, teacher, x, 4.0), rel=1e-4)
    assert loss == pytest.approx(0.25 * hard + 0.75 * soft, rel=1e-5)


def test_weighted_features_beside_the_logits_in_one_run_of_each_model(data):
    x, y = data
    student, teacher = net(), net()
    h1, h2 = (
        np.square(at(student, name, x) - at(teacher, name, x)).mean() for name in ("h1", "h2")
    )
    hints = [tfkd.losses.Hint(f"h{i}", f"h{i}", weight=w) for i, w in ((1, 0.5), (2, 0.3))]
    distiller = tfkd.Distiller(student, teacher, temperature=3.0, soft_loss="kl", features=hints)
    distiller.compile(keras.optimizers.SGD(0.0), crossentropy(keras), run_eagerly=True)
    want = kl(student, teacher, x, 3.0) + 0.5 * h1 + 0.3 * h2
    counted = [model.get_layer("count") for model in (student, teacher)]
    for layer in counted:
        layer.runs = 0
    history = distiller.fit(x, y, batch_size=8, verbose=0).history
    assert history["soft_loss"][0] == pytest.approx(want, rel=1e-4)
    # Once a batch, and once more for the score of all four; the teacher's answers to the first
    # examples are looked at beforehand too.
    assert [layer.runs for layer in counted] == [4 + 4, 4 + 4 + 1]


def test_features_alone(data):
    x, y = data
    student, teacher = net(), net()
    hint = tfkd.losses.Hint("h1", "h1")
    distiller = tfkd.Distiller(student, teacher, soft_loss=None, features=[hint])
    want = np.square(at(student, "h1", x) - at(teacher, "h1", x)).mean()
    assert run(distiller, x, y)["soft_loss"][0] == pytest.approx(want, rel=1e-4)


def test_two_temperatures_by_the_code_that_the_page_shows(data):
    x, y = data
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[-1]
    student, teacher = net(), net()
    names = {"keras": keras, "tfkd": tfkd, "student": student, "teacher": teacher, "__name__": "p"}
    exec(code, names)
    want = 0.7 * kl(student, teacher, x, 3.0) + 0.3 * kl(student, teacher, x, 2.0)
    assert run(names["distiller"], x, y)["soft_loss"][0] == pytest.approx(want, rel=1e-4)


def test_alpha_of_1_is_plain_keras_and_of_0_needs_no_labels(data):
    x, y = data
    student, teacher = net(), net()
    with tf.GradientTape() as tape:
        loss = crossentropy(keras)(y, student(x))
    steps = tape.gradient(loss, student.trainable_variables)
    plain = [w - 0.1 * s for w, s in zip(student.get_weights(), steps, strict=True)]

    distiller = tfkd.Distiller(student, teacher, alpha=1.0, soft_loss="kl")
    run(distiller, x, y, lr=0.1)
    for a, b in zip(plain, student.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-7)

    # With no weight on labels, other labels make no difference.
    start = student.get_weights()
    distiller.alpha = 0.0
    ends = []
    for labels in (y, (y + 1) % 3):
        student.set_weights(start)
        distiller.fit(x, labels, batch_size=32, verbose=0, shuffle=False)
        ends.append(student.get_weights())
    for before, a, b in zip(start, *ends, strict=True):
        np.testing.assert_array_equal(a, b)
        assert (a != before).any()


def test_a_configuration_and_a_file_hold_the_student_and_no_teacher(data, tmp_path):
    x, y = data
    student, teacher = (
        keras.Sequential([keras.Input((4,)), L.Dense(5), L.Dense(3)]) for _ in range(2)
    )
    distiller = tfkd.Distiller(student, teacher, alpha=0.7, temperature=3.0, soft_loss="kl")
    config = distiller.get_config()
    again = tfkd.Distiller.from_config(json.loads(json.dumps(config)))
    assert "teacher" not in config and again(x).shape == (32, 3)
    assert (float(again.alpha), float(again.temperature)) == pytest.approx((0.7, 3.0))

    distiller.compile("sgd", crossentropy(keras))
    distiller.optimizer.build(distiller.trainable_variables)
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    np.testing.assert_allclose(loaded(x), student(x), rtol=1e-6)
    assert float(loaded.alpha) == pytest.approx(0.7) and loaded.compiled
    with pytest.raises(tfkd.InputError, match="has no teacher"):
        loaded.fit(x, y, verbose=0)
    loaded.teacher = teacher
    history = loaded.fit(x, y, batch_size=32, verbose=0).history
    assert history["soft_loss"][0] == pytest.approx(kl(student, teacher, x, 3.0), rel=1e-4)


def heads(*widths):
    x = keras.Input((4,))
    outputs = [L.Dense(width, name=f"o{width}{len(widths)}")(x) for width in widths]
    return keras.Model(x, outputs if len(outputs) > 1 else outputs[0])


def compiled(loss=None, loss_weights=None, **kwargs):
    distiller = tfkd.Distiller(net(), net(), **kwargs)
    distiller.compile("sgd", loss or crossentropy(keras), loss_weights=loss_weights)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: tfkd.Distiller(heads(3), heads(4)), "they must be equal"),
        (lambda: tfkd.Distiller(heads(3), heads(3, 4)), "without a common name"),
        (lambda: tfkd.Distiller(net(), "not_a_model"), "no teacher at 'not_a_model'"),
        (lambda: tfkd.Distiller("not_a_model", net()), "student must be a Keras"),
        (lambda: compiled(alpha=1.5), r"alpha must be in \[0, 1\]"),
        (lambda: compiled(soft_loss=["kl", "kl"]), "2 entries for the 1 outputs"),
        (lambda: compiled(loss_weights=[1.0, 2.0]), "2 entries for the 1 outputs"),
        (lambda: compiled(loss="sparse_categorical_crossentropy"), "from_logits=True"),
    ],
    ids=["width", "heads", "teacher", "student", "alpha", "losses", "weights", "logits"],
)
def test_what_keras_refuses_or_should_is_refused(call, match):
    with pytest.raises(tfkd.InputError, match=match) as told:
        call()
    assert isinstance(told.value, ValueError)


def test_features_of_different_widths_get_an_adapter():
    student = net(width=4)
    hint = tfkd.losses.Hint("h1", "h1")
    distiller = tfkd.Distiller(student, net(), features=[hint])
    assert len(distiller.trainable_variables) == len(student.trainable_variables) + 2
