"""Losses, scores and checks agree on the task, for all kinds of outputs and labels."""

import contextlib

import keras
import numpy as np
import pytest
import tf_keras
from sklearn import metrics
from tiny_models import predicted

from tfkd.compression import loss as losses
from tfkd.compression import trainer as training
from tfkd.compression.settings import Training
from tfkd.data import Data, Samples
from tfkd.errors import InputError
from tfkd.export import to_tflite, verify
from tfkd.model.metrics import score
from tfkd.model.task import TASKS, canonical, check, reported, task_of

N, K = 24, 3
_rng = np.random.default_rng(0)
NUMBERS = _rng.integers(0, K, N)
ONE_HOT = np.eye(K)[NUMBERS]
SEVERAL = _rng.integers(0, 2, (N, K))
SEVERAL[:2] = [[1, 1, 0], [0, 0, 0]]
SOFT = _rng.dirichlet(np.ones(K), N)
VALUES = _rng.normal(size=(N, K))
ZERO_ONE = _rng.integers(0, 2, N)

# Labels, width of the output → the task for a softmax, a sigmoid, logits and an unknown output;
# text where the pair is refused: what the message says.
GRID = {
    "class numbers": (NUMBERS, K, ["categorical"] * 4),
    "class numbers, column": (NUMBERS[:, None], K, ["categorical"] * 4),
    "class numbers, floats": (NUMBERS.astype("float32"), K, ["categorical"] * 4),
    "class numbers, uint8": (NUMBERS.astype("uint8"), K, ["categorical"] * 4),
    "one-hot int": (ONE_HOT.astype(int), K, ["categorical", "multilabel", *["categorical"] * 2]),
    "one-hot float": (ONE_HOT, K, ["categorical", "multilabel", *["categorical"] * 2]),
    "one-hot bool": (ONE_HOT.astype(bool), K, ["categorical", "multilabel", *["categorical"] * 2]),
    "several int": (SEVERAL, K, ["row 0 sum to 2", *["multilabel"] * 3]),
    "several float": (SEVERAL.astype("float32"), K, ["row 0 sum to 2", *["multilabel"] * 3]),
    "several float64": (SEVERAL.astype(float), K, ["row 0 sum to 2", *["multilabel"] * 3]),
    "several bool": (SEVERAL.astype(bool), K, ["row 0 sum to 2", *["multilabel"] * 3]),
    "soft": (SOFT, K, ["categorical", "regression", "may be logits or values", "regression"]),
    "values": (VALUES, K, ["row 0 sum to", *["regression"] * 3]),
    "whole values": (SEVERAL + 2, K, ["row 0 sum to", "got 3 in row 0", *["regression"] * 2]),
    "0 and 1": (ZERO_ONE, 1, ["binary"] * 4),
    "0 and 1, column": (ZERO_ONE[:, None].astype(bool), 1, ["binary"] * 4),
    "0.0 and 1.0": (
        ZERO_ONE.astype("float32"),
        1,
        ["regression", "binary", "may be a logit or a value", "regression"],
    ),
    "values of one": (VALUES[:, 0], 1, ["regression"] * 4),
    "counts": (np.arange(N), 1, ["regression", "got 2 in row 2", *["regression"] * 2]),
    "too short rows": (VALUES[:, :2], K, ["do not fit"] * 4),
    "halves": (NUMBERS * 0.5, K, ["do not fit"] * 4),
    "NaN": (np.where(np.arange(N) == 5, np.nan, VALUES[:, 0]), 1, ["1 of 24 .* row 5"] * 4),
}
OUTPUTS = ["softmax", "sigmoid", "linear", None]
CASES = [
    pytest.param(y, width, output, want, id=f"{name}-{output}")
    for name, (y, width, wants) in GRID.items()
    for output, want in zip(OUTPUTS, wants, strict=True)
]


@pytest.mark.parametrize(("y", "width", "output", "want"), CASES)
def test_the_task_of_labels_and_an_output(y, width, output, want):
    if want not in TASKS:
        with pytest.raises(InputError, match=want):
            task_of(y, (None, width), activation=output)
        with pytest.raises(InputError, match=want):
            losses.loss_for(keras, output, width, y)
        with pytest.raises(InputError, match=want):
            score(np.random.default_rng(0).random((N, width)), y, activation=output)
        return
    assert task_of(y, (None, width), activation=output) == want
    names = set(score(np.random.default_rng(0).random((N, width)), y, activation=output))
    known = output in ("sigmoid", "linear")
    assert (
        names
        == {
            "regression": {"mae", "rmse"},
            "categorical": {"accuracy", "precision", "recall", "f1"},
            "binary": {"auc", *(("accuracy", "precision", "recall", "f1") if known else ())},
            "multilabel": {"auc", *(("accuracy", "precision", "recall", "f1") if known else ())},
        }[want]
    )
    squash = "softmax" if want == "categorical" else "sigmoid"
    if want != "regression" and output not in (squash, "linear"):
        with pytest.raises(InputError, match=f"must end in {squash} or be logits"):
            losses.loss_for(keras, output, width, y)
        return
    for package in (keras, tf_keras):
        loss = losses.loss_for(package, output, width, y)
        rows = np.shape(y) == (N, width)
        assert (
            type(loss).__name__
            == {
                "regression": "MeanSquaredError",
                "binary": "BinaryCrossentropy",
                "multilabel": "BinaryCrossentropy",
                "categorical": f"{'' if rows else 'Sparse'}CategoricalCrossentropy",
            }[want]
        )
        if want != "regression":
            assert loss.get_config()["from_logits"] == (output == "linear")


def test_equal_floats_of_one_linear_output_are_values():
    assert task_of(np.zeros(N), (None, 1), activation="linear") == "regression"


def test_steps_and_labels_of_one_width_are_told_by_the_outputs_shape():
    y = SEVERAL[:, :K]
    assert task_of(y, (None, K, 2)) == "categorical"  # a class per step
    assert task_of(y, (None, K)) == "multilabel"
    loss = losses.loss_for(keras, "softmax", 2, y, shape=(None, K, 2))
    assert type(loss).__name__ == "SparseCategoricalCrossentropy"


def test_words_for_tasks():
    assert canonical("classification") == "categorical" and canonical("binary") == "binary"
    assert [reported(task) for task in TASKS] == [
        "classification",
        "classification",
        "multilabel",
        "regression",
        "anomaly",
    ]
    for wrong in ("ranking", None, 3):
        with pytest.raises(InputError, match="task must be one of"):
            canonical(wrong)


def test_class_numbers_out_of_range_are_told_with_their_row():
    with pytest.raises(InputError, match=r"run from 0 to 2, got 0 to 3 \(the first in row 4\)"):
        losses.loss_for(keras, "softmax", K, np.array([0, 1, 2, 0, 3, 3]))


def _model(package, activation, width=K):
    package.utils.set_random_seed(0)
    layers = package.layers
    return package.Sequential([package.Input((4,)), layers.Dense(width, activation=activation)])


@pytest.mark.parametrize("dtype", ["int64", "float32", "bool"])
@pytest.mark.parametrize("activation", ["sigmoid", None])
@pytest.mark.parametrize("package", [keras, tf_keras], ids=["keras", "tf_keras"])
def test_several_labels_are_trained_as_such(package, activation, dtype, rng):
    x = rng.normal(size=(64, 4)).astype("float32")
    y = (x[:, :K] + x[:, 1:] > 0.5).astype(dtype)
    part = Samples(x, y)
    model = _model(package, activation)
    before = predicted(model, x).astype(float)
    p = before if activation else 1 / (1 + np.exp(-before))
    how = Training(epochs=1, learning_rate=1e-30, batch_size=64)
    trainer = training.Trainer(Data("labels", part, part, part), how)
    trainer.fit("student", model)
    history = trainer.histories["student"]
    assert trainer.task(model) == "multilabel"
    want = -np.mean(np.where(y, np.log(p), np.log(1 - p)))
    assert history["loss"][0] == pytest.approx(want, rel=1e-4)
    assert history["accuracy"][0] == pytest.approx(np.mean((p > 0.5) == y.astype(bool)), rel=1e-5)


@pytest.mark.parametrize("package", [keras, tf_keras], ids=["keras", "tf_keras"])
def test_two_classes_as_logits_are_right_above_zero(package, rng):
    x = rng.normal(size=(64, 4)).astype("float32")
    y = (x.sum(1) > 0.3).astype("int64")
    part, model = Samples(x, y), _model(package, None, 1)
    logits = predicted(model, x)[:, 0]
    how = Training(epochs=1, learning_rate=1e-30, batch_size=64)
    trainer = training.Trainer(Data("two", part, part, part), how)
    trainer.fit("student", model)
    assert trainer.histories["student"]["accuracy"][0] == pytest.approx(np.mean((logits > 0) == y))


@pytest.mark.parametrize("dtype", ["int64", "float32", "bool"])
@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_several_labels_are_verified_each_at_its_threshold(activation, dtype, rng):
    x = rng.normal(size=(64, 4)).astype("float32")
    y = (x[:, :K] > 0).astype(dtype)
    model = _model(keras, activation)
    file, want = to_tflite(model, "int8", x), predicted(model, x)
    result = verify(file, model, x, y)
    limit = 0.5 if activation else 0.0
    got = file.predict(x)
    assert result.argmax_agreement == np.mean((got > limit) == (want > limit))
    accuracy = np.mean((want > limit) == y.astype(bool))
    assert result.model_metrics["accuracy"] == pytest.approx(accuracy)
    auc = metrics.roc_auc_score(y.astype(int), want, average="macro")
    assert result.model_metrics["auc"] == pytest.approx(auc)
    one_hot = np.eye(K, dtype=dtype)[rng.integers(0, K, 64)]
    names = set(verify(file, model, x, one_hot).metrics)
    assert ("auc" in names) == (activation == "sigmoid")
    assert set(verify(file, model, x, one_hot, task="classification").metrics) == names - {"auc"}


def test_classes_along_another_axis_are_verified_along_it(rng):
    x = rng.normal(size=(16, K, 5)).astype("float32")
    inputs = keras.Input((K, 5))
    model = keras.Model(inputs, keras.layers.Softmax(axis=1)(keras.layers.Dense(5)(inputs)))
    y = rng.integers(0, K, (16, 5))
    result = verify(to_tflite(model), model, x, y)
    answers = predicted(model, x).argmax(1)
    assert result.argmax_agreement == 1.0
    assert result.model_metrics["accuracy"] == pytest.approx(np.mean(answers == y))


# Task → labels, width of the output, and what the message says where they don't fit it.
GIVEN = [
    ("regression", NUMBERS, 3, r"labels of shape \(24,\) and outputs of shape \(24, 3\)"),
    ("regression", NUMBERS, 1, None),
    ("regression", NUMBERS[:, None], 1, None),
    ("regression", ONE_HOT, 3, None),
    ("multilabel", NUMBERS, 3, r"labels of shape \(24,\)"),
    ("multilabel", ZERO_ONE, 1, "an output of several numbers, but this one has 1"),
    ("multilabel", VALUES, 3, "labels from 0 to 1, but row"),
    ("multilabel", SEVERAL, 3, None),
    ("binary", SEVERAL, 3, "an output of one number, but this one has 3"),
    ("binary", VALUES[:, 0], 1, "labels from 0 to 1, but row 1"),
    ("binary", ZERO_ONE, 1, None),
    ("categorical", ZERO_ONE, 1, "an output of several numbers"),
    ("categorical", NUMBERS * 0.25, 3, "class numbers, but row 0"),
    ("categorical", SEVERAL, 3, r"rows that sum to 1, but row 0 of the labels is \[1 1 0\]"),
    ("categorical", VALUES, 3, "rows that sum to 1"),
    ("categorical", NUMBERS, 3, None),
    ("categorical", SOFT, 3, None),
    ("anomaly", ZERO_ONE, 3, None),
]


@pytest.mark.parametrize(("task", "y", "width", "problem"), GIVEN)
def test_a_task_that_is_given_has_to_be_that_of_the_labels(task, y, width, problem):
    with contextlib.nullcontext() if problem is None else pytest.raises(InputError, match=problem):
        check(task, y, (None, width))


@pytest.mark.parametrize(
    ("y", "width", "output", "task", "loss"),
    [
        (_rng.integers(0, K, (N, 7)), K, "linear", "categorical", "SparseCategoricalCrossentropy"),
        (np.eye(K)[_rng.integers(0, K, (N, 7))], K, "softmax", "categorical",
         "CategoricalCrossentropy"),
        (_rng.integers(0, 2, (N, 7, K)), K, "sigmoid", "multilabel", "BinaryCrossentropy"),
        (_rng.integers(0, 2, (N, 7)), 1, "sigmoid", "binary", "BinaryCrossentropy"),
        (_rng.normal(size=(N, 7, K)), K, "linear", "regression", "MeanSquaredError"),
        (_rng.integers(0, K, N), K, "linear", "do not fit", None),
    ],
)  # fmt: skip
def test_the_task_and_loss_of_free_steps_are_those_of_their_labels(y, width, output, task, loss):
    shape = (None, None, width)
    if loss is None:
        with pytest.raises(InputError, match=task):
            task_of(y, shape, activation=output)
        return
    assert task_of(y, shape, activation=output) == task_of(y, (N, 7, width), activation=output)
    assert task_of(y, shape, activation=output) == task
    found = losses.loss_for(keras, output, width, y, shape=shape)
    assert type(found).__name__ == loss


def test_labels_of_free_sizes_fit_a_task():
    maps = _rng.integers(0, K, (N, 4, 4))
    check("categorical", maps, (None, None, None, K))
    check("regression", maps[..., None], (None, None, None, 1))
    with pytest.raises(InputError, match="does not fit"):
        check("regression", maps, (None, None, None, K))
