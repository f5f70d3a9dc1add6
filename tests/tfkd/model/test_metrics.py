"""Every metric equals that of scikit-learn or NumPy; labels that don't fit are refused."""

import numpy as np
import pytest
from sklearn import metrics

from tfkd.errors import InputError
from tfkd.model.metrics import score
from tfkd.model.task import task_of


def the_four(y, answers, average):
    y, answers = np.ravel(y), np.ravel(answers)
    options = {"average": average, "zero_division": 0}
    return {
        "accuracy": metrics.accuracy_score(y, answers),
        "precision": metrics.precision_score(y, answers, **options),
        "recall": metrics.recall_score(y, answers, **options),
        "f1": metrics.f1_score(y, answers, **options),
    }


@pytest.mark.parametrize("labels", ["numbers", "column", "one-hot", "float one-hot", "uint8"])
@pytest.mark.parametrize("shape", [(50,), (8, 6), (3, 4, 5)], ids=["examples", "steps", "pixels"])
def test_classification(rng, labels, shape):
    outputs, y = rng.normal(size=(*shape, 4)), rng.integers(0, 3, shape)  # no label is a 3
    want = the_four(y, outputs.argmax(-1), "macro")
    given = {
        "numbers": y,
        "column": y[..., None],
        "one-hot": np.eye(4, dtype=int)[y],
        "float one-hot": np.eye(4, dtype="float32")[y],
        "uint8": y.astype("uint8"),
    }[labels]
    assert score(outputs, given) == pytest.approx(want)
    assert score(outputs, given, outputs[..., :2]) == pytest.approx(want)


def test_a_class_that_is_never_answered_counts_zero():
    outputs = np.eye(3)[[0, 0, 0, 1]]
    got = score(outputs, np.array([0, 0, 2, 2]))
    # Class 0: 2 of 3 and 2 of 2; class 1: 0 of 1 and none; class 2: none and 0 of 2.
    assert got["precision"] == pytest.approx((2 / 3 + 0 + 0) / 3)
    assert got["recall"] == pytest.approx((1 + 0 + 0) / 3)
    assert got["f1"] == pytest.approx((0.8 + 0 + 0) / 3)


def test_few_examples_of_many_classes_are_no_warning(rng):
    outputs = rng.normal(size=(30, 40))
    y = rng.permutation(40)[:30]
    assert score(outputs, y)["accuracy"] == np.mean(outputs.argmax(-1) == y)


@pytest.mark.parametrize("shape", [(60, 1), (60,), (10, 6, 1)])
@pytest.mark.parametrize("dtype", ["int64", "bool", "uint8"])
def test_binary(rng, shape, dtype):
    outputs = rng.normal(size=shape)
    y = (outputs + rng.normal(size=shape) > 0.3).astype(dtype)
    auc = {"auc": metrics.roc_auc_score(y.ravel(), outputs.ravel())}
    assert score(outputs, y) == pytest.approx(auc)
    assert score(outputs, y.reshape(shape[:-1] if shape[-1] == 1 else shape)) == pytest.approx(auc)
    for logits, limit in ((True, 0.0), (False, 0.5)):
        want = auc | the_four(y, outputs > limit, "binary")
        assert score(outputs, y, logits=logits) == pytest.approx(want)


def test_one_class_alone_has_no_auc(rng):
    outputs, y = rng.normal(size=(9, 1)), np.zeros(9, int)
    assert score(outputs, y) == {}
    assert set(score(outputs, y, logits=True)) == {"accuracy", "precision", "recall", "f1"}


@pytest.mark.parametrize("dtype", ["int64", "bool", "float32"])
@pytest.mark.parametrize("shape", [(60, 4), (12, 5, 4)])
def test_several_labels(rng, shape, dtype):
    outputs = rng.normal(size=shape)
    y = (outputs + rng.normal(size=shape) > 0.3).astype(dtype)
    y[..., 2] = 0  # a label with one class alone has no auc
    flat, rows = y.reshape(-1, 4).astype(int), outputs.reshape(-1, 4)
    aucs = [metrics.roc_auc_score(flat[:, i], rows[:, i]) for i in (0, 1, 3)]
    auc = {"auc": np.mean(aucs)}
    assert score(outputs, y) == pytest.approx(auc)
    for activation, limit in (("linear", 0.0), ("sigmoid", 0.5)):
        answers = (rows > limit).astype(int)
        options = {"average": "macro", "zero_division": 0}
        want = auc | {
            "accuracy": np.mean(flat == answers),  # of each label by itself
            "precision": metrics.precision_score(flat, answers, **options),
            "recall": metrics.recall_score(flat, answers, **options),
            "f1": metrics.f1_score(flat, answers, **options),
        }
        assert score(outputs, y, activation=activation) == pytest.approx(want)
        assert score(outputs, y, logits=limit == 0.0, task="multilabel") == pytest.approx(want)


def test_soft_labels_are_of_classes_where_the_output_is_a_softmax(rng):
    outputs, y = rng.random((20, 3)), rng.dirichlet(np.ones(3), 20)
    right = np.mean(outputs.argmax(-1) == y.argmax(-1))
    assert score(outputs, y, activation="softmax")["accuracy"] == right
    assert score(outputs, y, task="categorical")["accuracy"] == right
    assert set(score(outputs, y)) == {"mae", "rmse"}


@pytest.mark.parametrize("shape", [(40, 12), (40, 5, 2), (40, 4, 4, 1)])
def test_anomaly(rng, shape):
    y = rng.integers(0, 2, 40)
    x = rng.normal(size=shape).astype("float32")
    outputs = x + rng.normal(size=shape) * (1 + y.reshape(-1, *[1] * (len(shape) - 1)))
    error = ((outputs - x) ** 2).reshape(40, -1).mean(1)
    want = {"auc": metrics.roc_auc_score(y, error)}
    assert score(outputs, y, x) == pytest.approx(want)
    assert score(outputs, y[:, None], x) == pytest.approx(want)


def test_two_numbers_an_example_are_a_classifiers(rng):
    # Two moons and a two-way softmax: the outputs have the shape of the inputs.
    outputs, x, y = rng.normal(size=(20, 2)), rng.normal(size=(20, 2)), rng.integers(0, 2, 20)
    assert "accuracy" in score(outputs, y, x)
    assert set(score(outputs, y, x, task="anomaly")) == {"auc"}


@pytest.mark.parametrize("shape", [(30,), (30, 1), (30, 3), (10, 4, 2)])
def test_regression(rng, shape):
    outputs, y = rng.normal(size=shape).astype("float32"), rng.normal(size=shape)
    flat = outputs.ravel(), y.ravel()
    want = {
        "mae": metrics.mean_absolute_error(*flat),
        "rmse": np.sqrt(metrics.mean_squared_error(*flat)),
    }
    assert score(outputs, y) == pytest.approx(want)
    if shape == (30, 1):
        assert score(outputs, y[:, 0]) == pytest.approx(want)
        assert score(outputs[:, 0], y) == pytest.approx(want)


def test_numbers_that_are_no_classes_are_values(rng):
    assert set(score(rng.normal(size=(9, 1)), np.arange(9))) == {"mae", "rmse"}
    assert set(score(rng.normal(size=(9, 2)), np.arange(18).reshape(9, 2))) == {"mae", "rmse"}
    # Floats may be anything: 0.0 and 1.0 are taken for classes only when that is said.
    outputs, y = rng.normal(size=(9, 1)), np.array([0.0, 1, 1, 0, 1, 0, 0, 1, 1])
    assert set(score(outputs, y)) == {"mae", "rmse"}
    assert set(score(outputs, y, task="binary")) == {"auc"}


def test_what_does_not_fit_is_refused(rng):
    outputs = rng.normal(size=(6, 3))
    y = np.array([0, 1, 2, 0, 1, 2])
    cases = [
        (outputs, y[:5], {}, "6 outputs but 5 labels"),
        (outputs, y + 1, {}, "run from 0 to 2, got 1 to 3"),
        (outputs, y - 1, {}, "got -1 to 1"),
        (outputs, y * 0.5, {}, r"float64 do not fit outputs of shape \(6, 3\): give class numbers"),
        (outputs, rng.normal(size=(6, 2)), {}, "do not fit"),
        (outputs, np.ones((6, 3), int), {"activation": "softmax"}, "row 0 sum to 3"),
        (outputs, np.full(6, np.nan), {}, "6 of 6 labels are NaN"),
        (outputs * np.inf, y, {}, "18 of 18 outputs are NaN or infinite"),
        (outputs, np.array(list("abcabc")), {}, "labels must be numbers"),
        (outputs[:0], y[:0], {}, "outputs must have the shape"),
        (outputs, y, {"task": "ranking"}, "task must be one of"),
        (outputs, y, {"task": "anomaly"}, "and no x"),
        (outputs[:, :1], y, {"task": "binary"}, "must be 0 and 1, got 0 to 2"),
        (outputs[:, :1], y, {"task": "classification"}, "needs outputs"),
    ]
    for one, labels, options, message in cases:
        with pytest.raises(InputError, match=message):
            score(one, labels, **options)


def test_the_task_is_told_from_shapes(rng):
    x = rng.normal(size=(4, 5))
    assert task_of(np.array([0, 1, 0, 1]), x.shape, x) == "anomaly"
    assert task_of(np.array([0, 1, 0, 1]), x.shape) == "categorical"
    assert task_of(np.array([0, 1, 2, 1]), x.shape, x) == "categorical"
    assert task_of(x, x.shape, x) == "regression"
