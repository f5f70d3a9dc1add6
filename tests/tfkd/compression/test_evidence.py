"""The evidence that `compress` adds to its report, which never costs a run."""

import types

import keras
import numpy as np
import pytest

from tfkd.compression import evidence
from tfkd.compression.outputs import Output
from tfkd.compression.rehearsal import Costs, Goal
from tfkd.data import Samples
from tfkd.distillation import lessons, worth
from tfkd.errors import InputError
from tfkd.export import to_tflite
from tfkd.model import cost

X = np.random.default_rng(0).normal(size=(40, 6)).astype("float32")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, name="head")])


def test_an_int8_file_is_checked_layer_by_layer(model):
    test = Samples(X, X[:, :3].argmax(1))
    file = to_tflite(model, "int8", X)
    layers = evidence.checked("student_int8", file, model, test, "categorical").layers
    assert [row.layer for row in layers][-1] == "head"
    assert evidence.checked("teacher_float32", file, model, test, "categorical").layers is None


def test_layers_that_can_not_be_compared_lose_nothing_else(model, monkeypatch):
    test = Samples(X, X[:, :3].argmax(1))
    file, verify = to_tflite(model, "int8", X), evidence.verify

    def refusing(*args, layers=False, **more):
        if layers:
            raise InputError("No result was found.")
        return verify(*args, **more)

    monkeypatch.setattr(evidence, "verify", refusing)
    with pytest.warns(UserWarning, match="layers of student_int8 were not compared: No result"):
        found = evidence.checked("student_int8", file, model, test, "categorical")
    assert found.layers is None and "accuracy" in found.metrics


def test_a_loop_is_not_looked_into():
    keras.utils.set_random_seed(0)
    loop = keras.Sequential(
        [keras.Input((5, 2)), keras.layers.GRU(3), keras.layers.Dense(3, name="head")]
    )
    x = np.random.default_rng(0).normal(size=(40, 5, 2)).astype("float32")
    file = to_tflite(loop, "float32", recurrent="loop")
    assert "WHILE" in file.ops
    test = Samples(x, np.arange(40) % 3)
    found = evidence.checked("student_int8", file, loop, test, "categorical")
    assert found.passed and found.layers is None


def test_a_student_that_always_answers_the_commonest_class_meets_no_target():
    """Of 290 and 10 examples, it lost less than the allowed 4 points."""
    y = np.repeat([0, 1], [290, 10])
    hard = "sparse_categorical_crossentropy"
    lesson = lessons.Lesson("out", (None, 2), "categorical", "linear", 1, None, hard, 1.0)
    scores = [worth.score(answers, y, lesson) for answers in (np.eye(2)[y], np.eye(2)[0 * y])]
    finished = types.SimpleNamespace(files={"student_int8": 1}, scorer=None, costs=Costs(1, 1, 1))
    for score, reached in zip(scores, (True, False), strict=True):
        both = {"teacher": {None: scores[0]}, 1: {None: score}}
        run = types.SimpleNamespace(
            trainer=types.SimpleNamespace(data=types.SimpleNamespace(test=None)),
            goal=Goal({}, 0.04, None),
            scores=lambda scorer, part, who, name, both=both: both[who],
        )
        verdict = evidence._verdict(run, finished, "student_int8", 1.0, True)
        assert verdict.drop < 0.04 and verdict.reached is reached
        assert reached or verdict.problems[0].endswith("on the test part, no better than chance")


@pytest.mark.parametrize(
    ("drop", "said"), [(0.0, "+0.0"), (0.0004, "+0.0"), (-0.0004, "+0.0"), (0.05, "-5.0")]
)
def test_a_verdict_of_no_difference_is_not_a_loss(drop, said):
    verdict = evidence.Verdict("student_int8.tflite", drop, "accuracy", 0.1, (), True)
    assert verdict.describe() == (
        f"The target is met. student_int8.tflite: {said} points beside the teacher on the test part"
    )


def test_a_teacher_that_keras_can_not_save_loses_nothing_else(tmp_path):
    """Its NotImplementedError came after all training."""

    class Applied(keras.layers.Layer):
        def __init__(self, function, **kwargs):
            super().__init__(**kwargs)
            self.function = function

        def call(self, x):
            return self.function(x)

    y = X[:, :3].argmax(1)
    outputs = (Output(None, (None, 3), "linear", y, "categorical"),)
    teacher = keras.Sequential([keras.Input((6,)), Applied(keras.ops.tanh), keras.layers.Dense(3)])
    with pytest.warns(UserWarning, match=r"no teacher.keras.* Applied .*implement `get_config"):
        entry = evidence._model_entry(
            "teacher", teacher, cost.measure(teacher), Samples(X, y), tmp_path, outputs, None
        )
    assert entry.path is None and "accuracy" in entry.metrics and not list(tmp_path.iterdir())
